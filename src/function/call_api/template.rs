//! The templates of a request: JSON into which the values of a request are inserted as JSON values, never as text.

use std::borrow::Cow;

use serde_json::{Map as JsonMap, Value as Json, json};

use crate::{
    config::{Node, Value},
    diagnostic::Span,
    function::problems::Problems,
};

/// What a template is for.
#[derive(Debug, Clone, Copy)]
pub struct TemplateUse<'a> {
    /// The key of `request`, for messages.
    pub what: &'static str,
    /// Whether it is an address, in which values are percent-encoded.
    pub url: bool,
    /// The columns that can be inserted.
    pub key: &'a [String],
    /// Whether a request has a single value.
    pub single: bool,
}

/// A checked template.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// A value without a placeholder.
    Plain(Json),
    /// A string that is one placeholder: it is replaced by the value.
    Insert(Placeholder),
    /// A string with placeholders in it: values are written as text.
    Text(Vec<Piece>),
    /// A list.
    List(Vec<Template>),
    /// A mapping.
    Map(Vec<(String, Template)>),
}

/// A part of a string.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// As written.
    Plain(String),
    /// A value.
    Insert(Placeholder),
}

/// What is inserted.
#[derive(Debug, Clone, PartialEq)]
pub enum Placeholder {
    /// `{{ batch.x }}`: the values of a column, a list.
    Column(usize),
    /// `{{ batch.x | join(',') }}`: the values of a column, joined.
    Joined(usize, String),
    /// `{{ batch }}`: a mapping for each value.
    Rows,
    /// `{{ key.x }}`: the single value of a column.
    Single(usize),
}

impl Template {
    /// Reads a template. `None` if there were problems.
    pub fn read(node: &Node, place: TemplateUse<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => read_text(text, node.span, place, problems),
            Value::List(list) => {
                let items: Vec<_> = list.iter().map(|item| Self::read(item, place, problems)).collect();
                items.into_iter().collect::<Option<_>>().map(Self::List)
            }
            Value::Map(map) => {
                let entries: Vec<_> = map
                    .iter()
                    .map(|(name, entry)| Some((name.to_owned(), Self::read(&entry.node, place, problems)?)))
                    .collect();
                entries.into_iter().collect::<Option<_>>().map(Self::Map)
            }
            Value::Secret(_) | Value::MissingSecret { .. } => {
                problems.wrong(
                    format!("`{}` contains a secret, but servers may log it", place.what),
                    node.span,
                    "send secrets with `auth` or `headers`",
                );
                None
            }
            Value::Unresolved => None,
            _ => Some(Self::Plain(node.to_json())),
        }
    }

    /// Whether values are inserted.
    pub fn inserts(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Insert(_) => true,
            Self::Text(pieces) => pieces.iter().any(|piece| matches!(piece, Piece::Insert(_))),
            Self::List(list) => list.iter().any(Self::inserts),
            Self::Map(map) => map.iter().any(|(_, value)| value.inserts()),
        }
    }

    /// The JSON with these values: for each value of the request one for each column. `key` names the columns.
    pub fn json(&self, key: &[String], values: &[&[Json]]) -> Json {
        match self {
            Self::Plain(json) => json.clone(),
            Self::Insert(placeholder) => placeholder.json(key, values),
            Self::Text(pieces) => Json::String(text_of(pieces, key, values, str::to_owned)),
            Self::List(list) => Json::Array(list.iter().map(|item| item.json(key, values)).collect()),
            Self::Map(map) => {
                Json::Object(map.iter().map(|(name, value)| (name.clone(), value.json(key, values))).collect())
            }
        }
    }

    /// The address with these values, percent-encoded.
    pub fn address(&self, key: &[String], values: &[&[Json]]) -> String {
        match self {
            Self::Text(pieces) => text_of(pieces, key, values, percent_encoded),
            other => text_of_json(&other.json(key, values)),
        }
    }

    /// The address with a value in the place of each placeholder, to check it.
    pub fn example(&self) -> String {
        self.filled_with("x")
    }

    /// The address with this text in the place of each placeholder.
    pub fn filled_with(&self, value: &str) -> String {
        match self {
            Self::Text(pieces) => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Plain(text) => text.as_str(),
                    Piece::Insert(_) => value,
                })
                .collect(),
            Self::Plain(json) => text_of_json(json),
            _ => String::new(),
        }
    }

    /// Whether the host of the address contains no value.
    pub fn has_fixed_host(&self) -> bool {
        let before = match self {
            Self::Plain(_) => return true,
            Self::Text(pieces) => match pieces.first() {
                Some(Piece::Plain(text)) => text,
                _ => return false,
            },
            _ => return false,
        };
        before.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?', '#']))
    }

    /// The template as written, for the identity of answers. Another text for the same template makes all of them be paid again.
    pub fn identity(&self) -> String {
        self.shown().to_string()
    }

    fn shown(&self) -> Json {
        match self {
            Self::Plain(value) => json!({"plain": value}),
            Self::Insert(placeholder) => placeholder.shown(),
            Self::Text(pieces) => {
                let shown = pieces.iter().map(|piece| match piece {
                    Piece::Plain(text) => json!(text),
                    Piece::Insert(placeholder) => placeholder.shown(),
                });
                json!({"text": shown.collect::<Vec<_>>()})
            }
            Self::List(items) => json!({"list": items.iter().map(Self::shown).collect::<Vec<_>>()}),
            Self::Map(map) => {
                json!({"map": map.iter().map(|(key, item)| json!([key, item.shown()])).collect::<Vec<_>>()})
            }
        }
    }
}

impl Placeholder {
    fn shown(&self) -> Json {
        match self {
            Self::Column(at) => json!({"column": at}),
            Self::Joined(at, with) => json!({"joined": [at, with]}),
            Self::Rows => json!("rows"),
            Self::Single(at) => json!({"single": at}),
        }
    }

    fn json(&self, key: &[String], values: &[&[Json]]) -> Json {
        match self {
            Self::Column(at) => Json::Array(values.iter().map(|row| row[*at].clone()).collect()),
            Self::Joined(at, with) => Json::String(joined(values, *at, with, str::to_owned)),
            Self::Rows => {
                let row = |row: &&[Json]| key.iter().cloned().zip(row.iter().cloned()).collect::<JsonMap<_, _>>();
                Json::Array(values.iter().map(|values| Json::Object(row(values))).collect())
            }
            Self::Single(at) => values.first().map_or(Json::Null, |row| row[*at].clone()),
        }
    }
}

fn joined(values: &[&[Json]], at: usize, with: &str, encode: fn(&str) -> String) -> String {
    values.iter().map(|row| encode(&text_of_json(&row[at]))).collect::<Vec<_>>().join(with)
}

fn text_of(pieces: &[Piece], key: &[String], values: &[&[Json]], encode: fn(&str) -> String) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Plain(text) => text.clone(),
        // The separator is written by the author of the template: it is kept as it is.
        Piece::Insert(Placeholder::Joined(at, with)) => joined(values, *at, with, encode),
        Piece::Insert(placeholder) => encode(&text_of_json(&placeholder.json(key, values))),
    };
    pieces.iter().map(piece).collect()
}

/// A value as text: strings without quotes.
pub fn text_of_json(json: &Json) -> String {
    borrowed_text(json).into_owned()
}

/// [`text_of_json`], without a copy of a string.
pub fn borrowed_text(json: &Json) -> Cow<'_, str> {
    match json {
        Json::String(text) => Cow::Borrowed(text),
        Json::Null => Cow::Borrowed(""),
        other => Cow::Owned(other.to_string()),
    }
}

/// A text in which everything but unreserved characters is percent-encoded (RFC 3986).
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn read_text(text: &str, span: Span, place: TemplateUse<'_>, problems: &mut Problems<'_>) -> Option<Template> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inside, after)) = after.split_once("}}") else {
            problems.wrong("`{{` without `}}`", span, "close the placeholder");
            return None;
        };
        if !before.is_empty() {
            pieces.push(Piece::Plain(before.to_owned()));
        }
        pieces.push(Piece::Insert(read_placeholder(inside.trim(), span, place, problems)?));
        rest = after;
    }
    if pieces.is_empty() {
        return Some(Template::Plain(Json::String(text.to_owned())));
    }
    if !rest.is_empty() {
        pieces.push(Piece::Plain(rest.to_owned()));
    }
    if let ([Piece::Insert(placeholder)], false) = (&pieces[..], place.url) {
        return Some(Template::Insert(placeholder.clone()));
    }
    let as_text = |piece: &Piece| !matches!(piece, Piece::Insert(Placeholder::Column(_) | Placeholder::Rows));
    if !pieces.iter().all(as_text) {
        problems.wrong(
            format!("a list inside a string of `{}`", place.what),
            span,
            "let the string consist of the placeholder alone, or join it: `{{ batch.x | join(',') }}`",
        );
        return None;
    }
    Some(Template::Text(pieces))
}

fn read_placeholder(
    inside: &str,
    span: Span,
    place: TemplateUse<'_>,
    problems: &mut Problems<'_>,
) -> Option<Placeholder> {
    let (name, filter) = match inside.split_once('|') {
        Some((name, filter)) => (name.trim(), Some(filter.trim())),
        None => (inside, None),
    };
    let column = |name: &str| place.key.iter().position(|key| key == name);
    let separator = |filter: &str| {
        let inside = filter.strip_prefix("join(")?.strip_suffix(')')?.trim();
        let unquoted = |quote| inside.strip_prefix(quote)?.strip_suffix(quote);
        unquoted('\'').or_else(|| unquoted('"')).map(str::to_owned)
    };
    let found = match (name.split_once('.'), filter) {
        (None, None) if name == "batch" => Some(Placeholder::Rows),
        (Some(("batch", name)), None) => column(name).map(Placeholder::Column),
        (Some(("batch", name)), Some(filter)) => {
            column(name).zip(separator(filter)).map(|(at, with)| Placeholder::Joined(at, with))
        }
        (Some(("key", name)), None) if place.single => column(name).map(Placeholder::Single),
        _ => None,
    };
    if found.is_none() {
        let columns = place.key.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let help = if name.starts_with("key.") && !place.single {
            "`key.x` is the value of a request with one; set `batch_size: 1`, or write `batch.x`".to_owned()
        } else {
            format!(
                "write `batch.x`, `batch.x | join(',')`, `batch`, or with `batch_size: 1` `key.x`, where `x` is a column of \
                 `key`: {columns}"
            )
        };
        problems.wrong(format!("unknown placeholder `{{{{ {inside} }}}}` in `{}`", place.what), span, &help);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pieces: Vec<Piece>) -> Template {
        Template::Text(pieces)
    }

    #[test]
    fn values_are_inserted_as_json_and_never_as_text() {
        let key = ["id".to_owned(), "n".to_owned()];
        let nasty = [json!("a\", \"evil\": \"{{ batch.id }}"), json!(1)];
        let plain = [json!("b"), json!(null)];
        let values: Vec<&[Json]> = vec![&nasty, &plain];
        let template = Template::Map(vec![
            ("ids".into(), Template::Insert(Placeholder::Column(0))),
            ("rows".into(), Template::List(vec![Template::Insert(Placeholder::Rows)])),
            ("fixed".into(), Template::Plain(json!(true))),
        ]);
        let body = template.json(&key, &values);
        assert_eq!(body["ids"], json!([nasty[0], "b"]));
        assert_eq!(body["rows"][0][0], json!({"id": nasty[0], "n": 1}));
        assert_eq!(body.as_object().map(JsonMap::len), Some(3));
    }

    #[test]
    fn what_answers_are_known_by_does_not_change_with_the_code() {
        let template = Template::Map(vec![
            ("a".into(), Template::Insert(Placeholder::Column(0))),
            ("b".into(), Template::List(vec![Template::Insert(Placeholder::Rows), Template::Plain(json!({"x": 1.5}))])),
            ("c".into(), text(vec![Piece::Plain("n=".into()), Piece::Insert(Placeholder::Joined(1, ",".into()))])),
            ("d".into(), Template::Insert(Placeholder::Single(2))),
        ]);
        let expected = r#"{"map":[["a",{"column":0}],["b",{"list":["rows",{"plain":{"x":1.5}}]}],["c",{"text":["n=",{"joined":[1,","]}]}],["d",{"single":2}]]}"#;
        assert_eq!(template.identity(), expected);
    }

    #[test]
    fn values_in_an_address_are_percent_encoded() {
        let key = ["id".to_owned()];
        let template = text(vec![
            Piece::Plain("https://host/x/".into()),
            Piece::Insert(Placeholder::Single(0)),
            Piece::Plain("?ids=".into()),
            Piece::Insert(Placeholder::Joined(0, ",".into())),
        ]);
        let value = [json!("a/b?c&d é")];
        assert_eq!(
            template.address(&key, &[&value]),
            "https://host/x/a%2Fb%3Fc%26d%20%C3%A9?ids=a%2Fb%3Fc%26d%20%C3%A9"
        );
        assert_eq!(template.example(), "https://host/x/x?ids=x");
    }
}
