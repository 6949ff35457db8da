//! From a response to one answer for each value of the request.

use serde_json::Value as Json;
use serde_json_path::JsonPath;

use super::template::borrowed_text;
use crate::{
    config::{Node, Value},
    diagnostic::Span,
    function::problems::Problems,
};

/// A JSONPath (RFC 9535).
#[derive(Debug, Clone)]
pub struct Selector {
    path: JsonPath,
    text: String,
    /// Whether it may select several nodes.
    plural: bool,
}

impl Selector {
    /// Parses a path. `None` if it is not valid, which is reported.
    pub fn read(text: &str, span: Span, problems: &mut Problems<'_>) -> Option<Self> {
        match JsonPath::parse(text) {
            Ok(path) => Some(Self { path, text: text.to_owned(), plural: is_plural(text) }),
            Err(error) => {
                problems.wrong(
                    format!("`{text}` is not a JSONPath: {error}"),
                    span,
                    "write it as in RFC 9535: `$.id.identifier`, `$[0].label`, `$.items[*].name`",
                );
                None
            }
        }
    }

    /// What it selects.
    pub fn nodes<'j>(&self, json: &'j Json) -> Vec<&'j Json> {
        self.path.query(json).all()
    }

    /// Whether it may select several nodes.
    pub fn is_plural(&self) -> bool {
        self.plural
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Whether a path has a wildcard, a slice, a union, a filter or a descendant segment outside of names.
fn is_plural(text: &str) -> bool {
    let (mut quote, mut before) = (None, ' ');
    for c in text.chars() {
        match quote {
            Some(open) if c == open && before != '\\' => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if matches!(c, '*' | ':' | ',' | '?') || c == '.' && before == '.' => return true,
            None => {}
        }
        before = c;
    }
    false
}

/// How answers belong to values.
#[derive(Debug, Clone)]
pub enum Matching {
    /// The response is the answer to its only value.
    Whole,
    /// An object by value.
    Key,
    /// A list in the order of the values.
    Index,
    /// A list whose items name their value.
    Path(Selector),
}

impl Matching {
    /// Reads `match`.
    pub fn read(node: Option<&Node>, batch_size: usize, span: Span, problems: &mut Problems<'_>) -> Option<Self> {
        let Some(node) = node.filter(|node| node.value != Value::Null) else {
            return Some(if batch_size == 1 { Self::Whole } else { Self::Key });
        };
        let wrong = |problems: &mut Problems<'_>| {
            problems.wrong("`match` is unknown", node.span, "write `key`, `index` or `{path: $.id}`");
            None
        };
        match (node.as_text(), node.as_map()) {
            (Some("key"), _) => Some(Self::Key),
            (Some("index"), _) => Some(Self::Index),
            (_, Some(map)) if map.iter().len() == 1 => match map.get("path").and_then(Node::as_text) {
                Some(path) => Selector::read(path, span, problems).map(Self::Path),
                None => wrong(problems),
            },
            _ if node.is_unresolved() => None,
            _ => wrong(problems),
        }
    }

    /// Whether it can tell values of several columns apart.
    pub fn allows_several_columns(&self) -> bool {
        matches!(self, Self::Whole | Self::Index)
    }

    /// As written, for the identity of answers.
    pub fn identity(&self) -> String {
        match self {
            Self::Whole => "whole".into(),
            Self::Key => "key".into(),
            Self::Index => "index".into(),
            Self::Path(path) => format!("path {}", path.text()),
        }
    }

    /// The answer to each of `values`; `null` where there is none. `data` selects the answers in `body`, from which they are taken where
    /// that is possible.
    ///
    /// # Errors
    /// When the response has another shape.
    pub fn answers(&self, body: &mut Json, data: &Selector, values: &[&[Json]]) -> Result<Vec<Json>, String> {
        if let (Self::Key, "$", Json::Object(by_key)) = (self, data.text(), &mut *body)
            // Values are distinct, and so are strings; `1` and `\"1\"` are the same key.
            && values.iter().all(|row| row[0].is_string())
        {
            let take = |row: &&[Json]| by_key.get_mut(&*borrowed_text(&row[0])).map_or(Json::Null, Json::take);
            return Ok(values.iter().map(take).collect());
        }
        let nodes = data.nodes(body);
        if let Self::Whole = self {
            let whole = if data.is_plural() {
                Json::Array(nodes.into_iter().cloned().collect())
            } else {
                nodes.first().map_or(Json::Null, |node| (*node).clone())
            };
            return Ok(vec![whole]);
        }
        if let Self::Key = self {
            let [Json::Object(by_key)] = nodes[..] else {
                return Err(format!("`{}` is {}, expected an object by value", data.text(), kind_of(&nodes)));
            };
            let answer = |row: &&[Json]| by_key.get(&*borrowed_text(&row[0])).cloned().unwrap_or(Json::Null);
            return Ok(values.iter().map(answer).collect());
        }
        let list: Vec<&Json> = match &nodes[..] {
            [Json::Array(list)] if !data.is_plural() => list.iter().collect(),
            nodes if data.is_plural() => nodes.to_vec(),
            nodes => return Err(format!("`{}` is {}, expected a list", data.text(), kind_of(nodes))),
        };
        match self {
            Self::Path(path) => {
                let mut by_key = std::collections::HashMap::new();
                for item in list {
                    if let Some(key) = path.nodes(item).first() {
                        by_key.entry(borrowed_text(key)).or_insert(item);
                    }
                }
                let answer = |row: &&[Json]| by_key.get(&*borrowed_text(&row[0])).map_or(Json::Null, |j| (*j).clone());
                Ok(values.iter().map(answer).collect())
            }
            _ if list.len() == values.len() => Ok(list.into_iter().cloned().collect()),
            _ => Err(format!("expected {} answers, found {}", values.len(), list.len())),
        }
    }
}

fn kind_of(nodes: &[&Json]) -> &'static str {
    match nodes {
        [] => "not in the response",
        [Json::Null] => "null",
        [Json::Bool(_)] => "a boolean",
        [Json::Number(_)] => "a number",
        [Json::String(_)] => "a string",
        [Json::Array(_)] => "a list",
        [Json::Object(_)] => "an object",
        _ => "several values",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selector(text: &str) -> Selector {
        Selector { path: JsonPath::parse(text).expect("a path"), text: text.to_owned(), plural: is_plural(text) }
    }

    fn answers(matching: &Matching, data: &str, mut body: Json) -> Result<Vec<Json>, String> {
        let (one, two) = ([json!("A:1")], [json!("B:2")]);
        matching.answers(&mut body, &selector(data), &[&one, &two])
    }

    #[test]
    fn a_number_and_a_string_that_are_the_same_key_have_the_same_answer() {
        let (number, text) = ([json!(1)], [json!("1")]);
        let found = Matching::Key.answers(&mut json!({"1": {"a": 2}}), &selector("$"), &[&number, &text]);
        assert_eq!(found, Ok(vec![json!({"a": 2}), json!({"a": 2})]));
    }

    #[test]
    fn answers_are_found_by_key_index_and_path() {
        let path = Matching::Path(selector("$.id"));
        for (matching, data, body, expected) in [
            (&Matching::Key, "$", json!({"B:2": 2, "A:1": null}), vec![json!(null), json!(2)]),
            (&Matching::Key, "$.found", json!({"found": {"A:1": [1]}}), vec![json!([1]), json!(null)]),
            (&Matching::Index, "$", json!([1, {"x": 2}]), vec![json!(1), json!({"x": 2})]),
            (&Matching::Index, "$.hits[*].n", json!({"hits": [{"n": 5}, {"n": 6}]}), vec![json!(5), json!(6)]),
            (&path, "$.all", json!({"all": [{"id": "B:2"}]}), vec![json!(null), json!({"id": "B:2"})]),
        ] {
            assert_eq!(answers(matching, data, body.clone()), Ok(expected), "{body}");
        }
        for (matching, body, expected) in [
            (&Matching::Key, json!([1, 2]), "`$` is a list, expected an object by value"),
            (&Matching::Index, json!([1]), "expected 2 answers, found 1"),
            (&Matching::Index, json!({"error": 1}), "`$` is an object, expected a list"),
        ] {
            assert_eq!(answers(matching, "$", body), Err(expected.to_owned()));
        }
    }

    #[test]
    fn paths_with_several_results_are_recognized() {
        for (text, plural) in [
            ("$", false),
            ("$.a.b[0]", false),
            ("$['a:b,c*']", false),
            ("$.a[*]", true),
            ("$..id", true),
            ("$.a[1:2]", true),
            ("$.a[?@.b == 1]", true),
        ] {
            assert_eq!(is_plural(text), plural, "{text}");
        }
    }
}
