//! From a response to one answer for each value of the request.

use serde_json::Value as Json;
use serde_json_path::JsonPath;

use super::{
    answer::{self, Answer},
    template::borrowed_text,
};
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
    /// The names of a path that has only names, which is followed without the library.
    names: Option<Vec<String>>,
}

impl Selector {
    /// Parses a path. `None` if it is not valid, which is reported.
    pub fn read(text: &str, span: Span, problems: &mut Problems<'_>) -> Option<Self> {
        match JsonPath::parse(text) {
            Ok(path) => Some(Self { path, text: text.to_owned(), plural: is_plural(text), names: names_of(text) }),
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
        match &self.names {
            Some(names) => names.iter().try_fold(json, |json, name| json.get(name)).into_iter().collect(),
            None => self.path.query(json).all(),
        }
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

/// The names of a path like `$.id.identifier`, without quotes, indices and wildcards.
fn names_of(text: &str) -> Option<Vec<String>> {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let mut names = text.trim().split('.');
    if names.next() != Some("$") {
        return None;
    }
    names.map(|name| is_name(name).then(|| name.to_owned())).collect()
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

    /// The answers of a response that does not have to be parsed; `None` if it has to.
    pub fn texts(&self, body: &[u8], data: &Selector, values: &[&[Json]]) -> Option<Vec<Answer>> {
        if !matches!(self, Self::Key) || data.text() != "$" {
            return None;
        }
        // Values are distinct, and so are strings; `1` and `"1"` are the same key.
        let keys: Option<Vec<&str>> = values.iter().map(|row| row[0].as_str()).collect();
        answer::by_key(body, &keys?)
    }

    /// The answer to each of `values`; `null` where there is none. `data` selects the answers in `body`.
    ///
    /// # Errors
    /// When the response has another shape.
    pub fn answers(&self, body: &Json, data: &Selector, values: &[&[Json]]) -> Result<Vec<Json>, String> {
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
        let path = JsonPath::parse(text).expect("a path");
        Selector { path, text: text.to_owned(), plural: is_plural(text), names: names_of(text) }
    }

    fn answers(matching: &Matching, data: &str, body: &Json) -> Result<Vec<Json>, String> {
        let (one, two) = ([json!("A:1")], [json!("B:2")]);
        let found = matching.answers(body, &selector(data), &[&one, &two]);
        if let Some(texts) = matching.texts(body.to_string().as_bytes(), &selector(data), &[&one, &two]) {
            assert_eq!(found, texts.iter().map(|text| text.json().map(std::borrow::Cow::into_owned)).collect());
        }
        found
    }

    #[test]
    fn a_number_and_a_string_that_are_the_same_key_have_the_same_answer() {
        let (number, text) = ([json!(1)], [json!("1")]);
        let found = Matching::Key.answers(&json!({"1": {"a": 2}}), &selector("$"), &[&number, &text]);
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
            assert_eq!(answers(matching, data, &body), Ok(expected), "{body}");
        }
        for (matching, body, expected) in [
            (&Matching::Key, json!([1, 2]), "`$` is a list, expected an object by value"),
            (&Matching::Index, json!([1]), "expected 2 answers, found 1"),
            (&Matching::Index, json!({"error": 1}), "`$` is an object, expected a list"),
        ] {
            assert_eq!(answers(matching, "$", &body), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_path_of_names_selects_what_the_library_selects() {
        let json = json!({"a": {"b": [{"c": 1}], "_d1": null}, "0": 1});
        for (text, simple) in [
            ("$", true),
            ("$.a", true),
            ("$.a.b", true),
            ("$.a.b.c", true),
            ("$.a._d1", true),
            ("$.none.x", true),
            ("$.a.b[0].c", false),
            ("$['a']", false),
            ("$.a.*", false),
            ("$..c", false),
        ] {
            let selector = selector(text);
            assert_eq!(selector.names.is_some(), simple, "{text}");
            assert_eq!(selector.nodes(&json), selector.path.query(&json).all(), "{text}");
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
