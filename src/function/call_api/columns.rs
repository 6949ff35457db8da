//! The columns of answers: where their values are, and of which type.

use std::borrow::Cow;

use arrow::{array::ArrayRef, datatypes::Field};
use serde_json::Value as Json;

use super::answers::Selector;
use crate::{
    config::{Map, Node, Value},
    diagnostic::Span,
    function::{column_type::ColumnType, problems::Problems},
};

/// A column of answers.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    path: Selector,
    kind: ColumnType,
}

/// Reads `columns`.
pub fn read_columns(map: Option<&Map>, span: Span, problems: &mut Problems<'_>) -> Vec<Column> {
    let mut columns = Vec::new();
    for (name, entry) in map.into_iter().flat_map(Map::iter) {
        let (path, kind) = match (entry.node.as_text(), entry.node.as_map()) {
            (Some(path), _) => (Some(path), "string"),
            (_, Some(map)) => {
                if let Some((key, wrong)) = map.iter().find(|(key, _)| !matches!(*key, "path" | "type")) {
                    let message = format!("column `{name}` has an unknown key `{key}`");
                    problems.wrong(message, wrong.key_span, "known keys: `path`, `type`");
                }
                let kind = map.get("type").and_then(Node::as_text).unwrap_or("string");
                (map.get("path").and_then(Node::as_text), kind)
            }
            _ => (None, "string"),
        };
        let Some(path) = path else {
            if entry.node.value != Value::Unresolved {
                let help = "write a JSONPath, `$.id`, or `{path: $.id, type: int64}`";
                problems.wrong(format!("column `{name}` has no path"), entry.node.span, help);
            }
            continue;
        };
        let Some(kind) = ColumnType::parse(kind) else {
            let help = "types: string, int64, float64, bool, json, `list<string>`, `struct<a: int64, b: string>`";
            problems.wrong(format!("`{kind}` of column `{name}` is not a type"), entry.node.span, help);
            continue;
        };
        if let Some(path) = Selector::read(path, entry.node.span, problems) {
            columns.push(Column { name: name.to_owned(), path, kind });
        }
    }
    if columns.is_empty() && problems.sound {
        problems.wrong("`columns` is empty", span, "name a column and its path: `label: $.label`");
    }
    columns
}

impl Column {
    /// Its field in a schema.
    pub fn field(&self) -> Field {
        Field::new(&self.name, self.kind.data_type(), true)
    }

    /// As written, for the identity of rows.
    pub fn identity(&self) -> String {
        format!("{}: {} {:?}", self.name, self.path.text(), self.kind)
    }

    /// The value in an answer.
    ///
    /// # Errors
    /// When it has another type.
    pub fn value<'a>(&self, answer: &'a Json) -> Result<Cow<'a, Json>, String> {
        let nodes = self.path.nodes(answer);
        let value = match (&self.kind, &nodes[..]) {
            (_, []) => Cow::Owned(Json::Null),
            (ColumnType::List(_) | ColumnType::Json, nodes) if self.path.is_plural() => {
                Cow::Owned(Json::Array(nodes.iter().map(|node| (*node).clone()).collect()))
            }
            (_, [node]) => Cow::Borrowed(*node),
            (_, nodes) => {
                let found = nodes.len();
                return Err(format!(
                    "column `{}`: `{}` selects {found} values, expected one",
                    self.name,
                    self.path.text()
                ));
            }
        };
        self.kind.check(&value).map_err(|why| format!("column `{}`: {why}", self.name))?;
        Ok(value)
    }

    /// The array of values; a row without one is null.
    pub fn array(&self, values: &[Option<&Json>]) -> ArrayRef {
        self.kind.array(values)
    }
}
