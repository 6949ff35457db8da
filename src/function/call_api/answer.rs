//! The answer to one value, and how a response with many is divided without parsing the answers.
//!
//! A response of a thousand answers is a hundred thousand small allocations if it is parsed as a whole, made by one thread and freed by
//! another. As texts, answers are parsed one after the other where their columns are read, and only those values stay.

use std::{borrow::Cow, collections::HashMap, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer as _,
    de::{MapAccess, Visitor},
};
use serde_json::{Value as Json, value::RawValue};

/// The answer to one value.
#[derive(Debug, Clone)]
pub enum Answer {
    /// JSON as the service wrote it.
    Text(Arc<str>),
    /// JSON that was parsed: of the cache, or a part of a response.
    Value(Arc<Json>),
}

impl Answer {
    /// Whether the value is unknown to the service.
    pub fn is_null(&self) -> bool {
        match self {
            Self::Text(text) => &**text == "null",
            Self::Value(value) => value.is_null(),
        }
    }

    /// The parsed answer.
    ///
    /// # Errors
    /// When it cannot be parsed, although the response around it could: a number out of range, half of a surrogate pair.
    pub fn json(&self) -> Result<Cow<'_, Json>, String> {
        match self {
            Self::Text(text) => {
                serde_json::from_str(text).map(Cow::Owned).map_err(|error| format!("the answer is not JSON: {error}"))
            }
            Self::Value(value) => Ok(Cow::Borrowed(value)),
        }
    }

    /// Its JSON text.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => (**text).to_owned(),
            Self::Value(value) => value.to_string(),
        }
    }
}

/// The answers of an object by value, `null` where it has none; of a name that is there twice the last, as in a parsed object.
/// `None` if `body` is no object in JSON. `keys` are distinct.
pub fn by_key(body: &[u8], keys: &[&str]) -> Option<Vec<Answer>> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let texts = json.deserialize_map(ByKey { keys }).ok()?;
    json.end().ok()?;
    let null = Arc::from("null");
    let answer = |text: Option<&RawValue>| text.map_or_else(|| Arc::clone(&null), |text| Arc::from(text.get()));
    Some(texts.into_iter().map(answer).map(Answer::Text).collect())
}

struct ByKey<'k> {
    keys: &'k [&'k str],
}

/// A name in an object, not copied if it is written without escapes.
#[derive(Deserialize)]
struct Name<'n>(#[serde(borrow)] Cow<'n, str>);

impl<'de> Visitor<'de> for ByKey<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object by value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut texts = vec![None; self.keys.len()];
        // Most services answer in the order in which they were asked.
        let mut next = 0;
        let mut positions: Option<HashMap<&str, usize>> = None;
        while let Some(Name(name)) = map.next_key()? {
            let text: &'de RawValue = map.next_value()?;
            let at = if self.keys.get(next).is_some_and(|key| *key == name) {
                Some(next)
            } else {
                let all = || self.keys.iter().enumerate().map(|(at, key)| (*key, at)).collect();
                positions.get_or_insert_with(all).get(&*name).copied()
            };
            if let Some(at) = at {
                texts[at] = Some(text);
                next = at + 1;
            }
        }
        Ok(texts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn an_answer_is_found_whatever_the_order_and_the_last_of_two_counts() {
        let body = br#" {"b": [1, {"x": 2}], "c": 1, "a": null, "\u0062": {"last": true}, "d": 1e400} "#;
        let found = by_key(body, &["a", "b", "none", "d"]).expect("an object");
        assert_eq!(found.iter().map(Answer::is_null).collect::<Vec<_>>(), [true, false, true, false]);
        assert_eq!(found[1].json().expect("JSON").into_owned(), json!({"last": true}));
        assert!(found[3].json().expect_err("too large").contains("number out of range"));
        for body in ["[1]", "{", r#"{"a": 1} x"#, r#"{"a": }"#, "", "null"] {
            assert!(by_key(body.as_bytes(), &["a"]).is_none(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn answers_as_texts_are_those_of_the_parsed_object(
            pairs in prop::collection::vec(("[ab\"é\\\\]{0,2}", 0..1000_i64), 0..8),
            keys in prop::collection::btree_set("[ab\"é\\\\]{0,2}", 0..8),
        ) {
            let object: Map<String, Json> = pairs.into_iter().map(|(key, n)| (key, json!({"n": n}))).collect();
            let body = serde_json::to_vec(&object).expect("JSON");
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let found = by_key(&body, &keys).expect("an object");
            for (key, answer) in keys.iter().zip(found) {
                prop_assert_eq!(answer.json().expect("JSON").into_owned(), object.get(*key).cloned().unwrap_or_default());
            }
        }
    }
}
