//! What a server wants in a request besides the protocol: fields, headers, other names, a text before each text.
//!
//! Owns the keys `extra_body`, `headers`, `input_type`, `prefix` and `rename` of `model:`.

use std::collections::BTreeMap;

use reqwest::header::{HeaderName, HeaderValue};

use crate::{
    config::{Field, Kind, Map, Node, Record, Value},
    diagnostic::{Diagnostic, Diagnostics, Span},
    model::{FingerprintBuilder, Secret},
};

/// Their rows in the table of keys.
pub(super) const EXTRA_BODY: Field = Field::optional(
    "extra_body",
    Kind::Map(&Kind::Any),
    "",
    "Fields that are added to the body of each request, such as `{truncate: END}`; they replace those of the client.",
);
pub(super) const HEADERS: Field = Field::optional(
    "headers",
    Kind::Map(&Kind::Any),
    "",
    "Headers of each request. Their values are never shown, and are not part of what vectors are known by.",
);
pub(super) const INPUT_TYPE: Field = Field::optional(
    "input_type",
    Kind::Text,
    "",
    "Sent as `input_type`, as NVIDIA NIM, Voyage and Cohere want it: `passage`, `document`, `query`.",
);
pub(super) const PREFIX: Field =
    Field::optional("prefix", Kind::Text, "", "Put before each text, as E5 and Nomic want it: `\"passage: \"`.");
pub(super) const RENAME: Field = Field::optional(
    "rename",
    Kind::Map(&Kind::Any),
    "",
    "Other names of the fields of a request, such as `{dimensions: output_dimension}`; `null` leaves a field out.",
);

/// The fields of a request that can have another name.
const NAMES: &[&str] = &["model", "input", "dimensions", "encoding_format", "input_type", "output_dtype"];

/// What is sent besides the protocol.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestFields {
    /// Fields that are added to the body.
    pub extra_body: serde_json::Map<String, serde_json::Value>,
    /// Headers; their values may be keys.
    pub headers: Vec<(String, Secret)>,
    /// `input_type`.
    pub input_type: Option<String>,
    /// What is put before each text.
    pub prefix: String,
    /// The names of fields; `None` for those that are left out.
    pub rename: BTreeMap<String, Option<String>>,
}

impl RequestFields {
    /// Reads the keys; problems go to `problems`, and make `sound` false. An unset variable of a header goes to `missing`.
    pub(super) fn decode(
        model: &Record<'_>,
        missing: &mut Option<String>,
        sound: &mut bool,
        problems: &mut Diagnostics,
    ) -> Self {
        let mut fields = Self {
            input_type: model.text("input_type").filter(|text| !text.is_empty()).map(str::to_owned),
            prefix: model.text("prefix").unwrap_or_default().to_owned(),
            ..Self::default()
        };
        let mut wrong = |message: String, span: Span, help: &str| {
            *sound = false;
            problems.push(Diagnostic::error("embed::request-field", message).at(span, "here").help(help));
        };
        for (name, entry) in model.map("extra_body").into_iter().flat_map(Map::iter) {
            if matches!(name, "input" | "model") {
                let message = format!("`extra_body` must not contain `{name}`");
                wrong(message, entry.key_span, "the client sets it; use `rename` if the server calls it otherwise");
            } else if has_secret(&entry.node) {
                let message = format!("`{name}` of `extra_body` is a secret");
                wrong(message, entry.node.span, "bodies may be logged by servers; send secrets under `headers`");
            } else {
                fields.extra_body.insert(name.to_owned(), entry.node.to_json());
            }
        }
        for (name, entry) in model.map("headers").into_iter().flat_map(Map::iter) {
            let value = match &entry.node.value {
                Value::Secret(secret) => Some(secret.clone()),
                Value::MissingSecret { variable } => {
                    missing.get_or_insert_with(|| variable.clone());
                    continue;
                }
                Value::Text(text) => Some(Secret::new(text.as_str())),
                Value::Int(number) => Some(Secret::new(number.to_string())),
                Value::Bool(yes) => Some(Secret::new(yes.to_string())),
                Value::Unresolved => continue,
                _ => None,
            };
            let valid = HeaderName::from_bytes(name.as_bytes()).is_ok();
            match value.filter(|value| valid && HeaderValue::from_str(value.expose()).is_ok()) {
                Some(value) => fields.headers.push((name.to_ascii_lowercase(), value)),
                None => wrong(
                    format!("`{name}` of `headers` is not a valid header"),
                    entry.node.span,
                    "write a name and a string of visible ASCII characters",
                ),
            }
        }
        for (name, entry) in model.map("rename").into_iter().flat_map(Map::iter) {
            let to = match &entry.node.value {
                Value::Null => None,
                _ => entry.node.as_text().filter(|text| !text.is_empty()).map(str::to_owned),
            };
            let known = NAMES.contains(&name);
            let required = matches!(name, "input") && to.is_none();
            if !known || required || (to.is_none() && entry.node.value != Value::Null) {
                let message = format!("`rename` has no field `{name}` that can be called so");
                wrong(
                    message,
                    entry.key_span,
                    "name `model`, `input`, `dimensions`, `encoding_format`, `input_type` or `output_dtype`",
                );
            } else {
                fields.rename.insert(name.to_owned(), to);
            }
        }
        fields
    }

    /// Adds what vectors depend on. Nothing is added where nothing is configured, so that such vectors stay known.
    pub(super) fn fingerprint(&self, mut builder: FingerprintBuilder) -> FingerprintBuilder {
        if !self.extra_body.is_empty() {
            // Keys in order, whatever the order in which they are written.
            let sorted: BTreeMap<_, _> = self.extra_body.iter().collect();
            builder = builder.text("extra_body").text(&serde_json::to_string(&sorted).expect("plain JSON"));
        }
        if let Some(input_type) = &self.input_type {
            builder = builder.text("input_type").text(input_type);
        }
        for (name, to) in &self.rename {
            builder = builder.text("rename").text(name).text(to.as_deref().unwrap_or_default());
        }
        builder
    }

    /// The name of a field in the body; `None` if it is left out, or `extra_body` has it.
    pub fn name<'n>(&'n self, name: &'n str) -> Option<&'n str> {
        let to = match self.rename.get(name) {
            Some(to) => to.as_deref()?,
            None => name,
        };
        (!self.extra_body.contains_key(to)).then_some(to)
    }

    /// Whether the vectors of a request depend on all of its texts (Jina's `late_chunking`).
    pub(super) fn couples_texts(&self) -> bool {
        self.extra_body.get("late_chunking") == Some(&serde_json::Value::Bool(true))
    }

    /// Whether the configuration asks for numbers rather than base64.
    pub(super) fn wants_numbers(&self) -> bool {
        let format = self.rename.get("encoding_format").and_then(Option::as_deref).unwrap_or("encoding_format");
        self.extra_body.get(format).is_some_and(|format| format != "base64")
    }
}

fn has_secret(node: &Node) -> bool {
    match &node.value {
        Value::Secret(_) | Value::MissingSecret { .. } => true,
        Value::List(list) => list.iter().any(has_secret),
        Value::Map(map) => map.iter().any(|(_, entry)| has_secret(&entry.node)),
        _ => false,
    }
}
