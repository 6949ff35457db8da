//! The spanned tree: every value of a YAML file with its location.
//!
//! Owns the tree and the queries on it. Must not know how it was parsed or what it means.

use std::borrow::Cow;

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::{
    diagnostic::Span,
    model::{Fingerprint, FingerprintBuilder, Secret},
};

/// Collections inside each other; also after aliases are expanded.
pub(super) const MAX_DEPTH: usize = 200;

/// A value and its location.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it is written; after interpolation, where the `${…}` is.
    pub span: Span,
}

/// A value of YAML 1.2's core schema, or a secret.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~`, or no value.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// A secret string.
    Secret(Secret),
    /// A secret's `${oc.env:NAME}` where `NAME` is not set: no error until a run needs it.
    MissingSecret {
        /// The variable that is not set.
        variable: String,
    },
    /// A value that could not be resolved, which was reported: nothing more is reported about it.
    Unresolved,
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order written.
    Map(Map),
}

/// A mapping with the location of every key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map {
    /// Key → entry, in the order written.
    pub entries: IndexMap<String, Entry>,
}

/// One `key: value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The location of the key.
    pub key_span: Span,
    /// The value.
    pub node: Node,
}

impl Map {
    /// The value under a key; `None` also for one that could not be resolved.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.get(key).map(|entry| &entry.node).filter(|node| !node.is_unresolved())
    }

    /// Keys and values in the order written.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry))
    }
}

impl Node {
    /// A value and its location.
    pub fn new(value: Value, span: Span) -> Self {
        Self { value, span }
    }

    /// The mapping, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// The string, if it is one (not a secret).
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value under a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map().and_then(|map| map.get(key))
    }

    /// The value at a dotted path. A key that itself holds dots (`embeddings.node:`) is found as well: at each
    /// level the longest key that fits is taken first.
    pub fn at_path(&self, path: &str) -> Option<&Node> {
        if path.is_empty() {
            return Some(self);
        }
        let map = self.as_map()?;
        if let Some(node) = map.get(path) {
            return Some(node);
        }
        path.rmatch_indices('.').find_map(|(dot, _)| map.get(&path[..dot])?.at_path(&path[dot + 1..]))
    }

    /// True for a value that could not be resolved.
    pub fn is_unresolved(&self) -> bool {
        matches!(self.value, Value::Unresolved)
    }

    /// True when this value or one inside it could not be resolved.
    pub fn has_unresolved(&self) -> bool {
        match &self.value {
            Value::Unresolved => true,
            Value::List(list) => list.iter().any(Self::has_unresolved),
            Value::Map(map) => map.iter().any(|(_, entry)| entry.node.has_unresolved()),
            _ => false,
        }
    }

    /// What kind of value it is, for messages: `a string`, `a list`, …
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Unresolved => "a value that could not be resolved",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::Secret(_) | Value::MissingSecret { .. } => "a secret",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The value, for messages about one of the right kind: `-5`, `` `4GBB` ``, `an empty list`. Its kind, where it is long or secret.
    pub fn shown(&self) -> Cow<'static, str> {
        const LONGEST: usize = 60;
        match &self.value {
            Value::Int(number) => number.to_string().into(),
            Value::Float(number) => number.to_string().into(),
            Value::Text(text) if text.is_empty() => "an empty string".into(),
            Value::Text(text) if text.chars().count() <= LONGEST => format!("`{text}`").into(),
            Value::List(list) if list.is_empty() => "an empty list".into(),
            Value::Map(map) if map.entries.is_empty() => "an empty mapping".into(),
            _ => self.kind().into(),
        }
    }

    /// The first number in it that is infinite or no number, for which JSON and programs have no common word.
    pub fn not_finite(&self) -> Option<(f64, Span)> {
        match &self.value {
            Value::Float(number) if !number.is_finite() => Some((*number, self.span)),
            Value::List(list) => list.iter().find_map(Self::not_finite),
            Value::Map(map) => map.iter().find_map(|(_, entry)| entry.node.not_finite()),
            _ => None,
        }
    }

    /// As JSON, with every secret as `***`. `inf` and `nan`, which JSON lacks, become strings.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null | Value::Unresolved => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(i) => Json::from(*i),
            Value::Float(f) => serde_json::Number::from_f64(*f).map_or_else(|| Json::from(f.to_string()), Json::Number),
            Value::Text(text) => Json::from(text.as_str()),
            Value::Secret(_) | Value::MissingSecret { .. } => Json::from("***"),
            Value::List(list) => Json::Array(list.iter().map(Self::to_json).collect()),
            Value::Map(map) => Json::Object(map.iter().map(|(k, e)| (k.to_owned(), e.node.to_json())).collect()),
        }
    }

    /// The variables of the secrets in the value that are not set.
    pub fn missing_secrets(&self) -> Vec<String> {
        match &self.value {
            Value::MissingSecret { variable } => vec![variable.clone()],
            Value::List(list) => list.iter().flat_map(Self::missing_secrets).collect(),
            Value::Map(map) => map.iter().flat_map(|(_, entry)| entry.node.missing_secrets()).collect(),
            _ => Vec::new(),
        }
    }

    /// A digest of the value: independent of the order of keys, of locations and of secrets.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut builder = Fingerprint::builder("value");
        self.feed(&mut builder);
        builder.finish()
    }

    fn feed(&self, out: &mut FingerprintBuilder) {
        match &self.value {
            Value::Null => out.push(b"null"),
            Value::Unresolved => out.push(b"unresolved"),
            Value::Bool(b) => out.push(if *b { b"true" } else { b"false" }),
            Value::Int(i) => out.push(format!("i{i}").as_bytes()),
            Value::Float(f) => out.push(format!("f{:016x}", f.to_bits()).as_bytes()),
            Value::Text(text) => out.push(format!("t{text}").as_bytes()),
            // A rotated key changes nothing that was computed with the old one.
            Value::Secret(_) | Value::MissingSecret { .. } => out.push(b"secret"),
            Value::List(list) => {
                out.push(format!("[{}", list.len()).as_bytes());
                list.iter().for_each(|node| node.feed(out));
            }
            Value::Map(map) => {
                out.push(format!("{{{}", map.entries.len()).as_bytes());
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                for (key, entry) in entries {
                    out.push(key.as_bytes());
                    entry.node.feed(out);
                }
            }
        }
    }
}
