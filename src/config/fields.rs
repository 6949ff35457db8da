//! Field tables: one table declares the keys of a mapping, and drives decoding, the JSON Schema and the docs.
//!
//! A dataset type, a function or a provider declares a `&'static [Field]`; [`Record::read`](super::Record::read) checks
//! a mapping against it and reports every problem at once; [`schema`] writes the same table as JSON Schema.

use serde_json::{Value as Json, json};

use super::yaml;
use crate::diagnostic::{Diagnostics, SourceId};

/// One key of a mapping.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// Other names of the key (`filepath` for `path`).
    pub aliases: &'static [&'static str],
    /// What its value may be.
    pub kind: Kind,
    /// True when it is required.
    pub required: bool,
    /// The default as shown in docs and schema (a YAML scalar); empty for none.
    pub default: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A string.
    Text,
    /// A secret string.
    Secret,
    /// `true` or `false`.
    Bool,
    /// An integer in a range, both ends included.
    Integer(i64, i64),
    /// A number in a range, both ends included.
    Number(f64, f64),
    /// Seconds as a number, or `500ms`, `10m`, `1h`.
    Duration,
    /// Bytes as a number, or `512MiB`, `2GB`.
    Bytes,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// The word, or what the kind says: `auto` or a number.
    OrWord(&'static str, &'static Kind),
    /// A list of one kind. A single value is read as a list of one.
    List(&'static Kind),
    /// A mapping with these keys.
    Record(&'static [Field]),
    /// A mapping with any keys, all values of one kind.
    Map(&'static Kind),
    /// Anything; the reader checks it.
    Any,
}

impl Field {
    /// An optional key.
    pub const fn optional(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self { name, aliases: &[], kind, required: false, default, doc }
    }

    /// A required key.
    pub const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, aliases: &[], kind, required: true, default: "", doc }
    }

    /// Adds aliases.
    #[must_use]
    pub const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

/// The table as JSON Schema (draft 2020-12): no keys beyond it, but `x-*` ones. Where something other than a string is
/// expected, a string with `${…}` or `{…}` is allowed too, since its value is only known after interpolation.
pub fn schema(fields: &[Field]) -> Json {
    let mut root = mapping(fields);
    root.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    Json::Object(root)
}

/// [`schema`] without the draft, for use inside a larger one.
pub(super) fn mapping(fields: &[Field]) -> serde_json::Map<String, Json> {
    let mut properties = serde_json::Map::new();
    for field in fields {
        let mut property = value(&field.kind);
        if let Json::Object(property) = &mut property {
            if !field.doc.is_empty() {
                property.insert("description".into(), json!(field.doc));
            }
            if !field.default.is_empty() {
                // A YAML scalar, which may be quoted.
                let default = yaml::parse(SourceId(0), field.default, &mut Diagnostics::default());
                property.extend(default.map(|default| ("default".to_owned(), default.to_json())));
            }
        }
        for name in std::iter::once(&field.name).chain(field.aliases) {
            properties.insert((*name).to_owned(), property.clone());
        }
    }
    let mut object = serde_json::Map::new();
    object.insert("type".into(), json!("object"));
    object.insert("properties".into(), Json::Object(properties));
    object.insert("patternProperties".into(), json!({"^x-": {}}));
    object.insert("additionalProperties".into(), json!(false));
    let required = |f: &&Field| f.required;
    let plain: Vec<&str> = fields.iter().filter(required).filter(|f| f.aliases.is_empty()).map(|f| f.name).collect();
    if !plain.is_empty() {
        object.insert("required".into(), json!(plain));
    }
    let either: Vec<Json> = fields
        .iter()
        .filter(required)
        .filter(|f| !f.aliases.is_empty())
        .map(|f| {
            let names = std::iter::once(&f.name).chain(f.aliases);
            json!({"anyOf": names.map(|name| json!({"required": [name]})).collect::<Vec<_>>()})
        })
        .collect();
    if !either.is_empty() {
        object.insert("allOf".into(), Json::Array(either));
    }
    object
}

/// These tables as JSON Schema of a mapping with further keys, which get a warning when they are decoded. `null` is the
/// same as leaving a key out.
pub(super) fn open_mapping(tables: &[&[Field]]) -> serde_json::Map<String, Json> {
    let fields: Vec<Field> = tables.iter().flat_map(|table| table.iter()).copied().collect();
    let mut object = mapping(&fields);
    object.retain(|key, _| key != "additionalProperties" && key != "patternProperties");
    for (_, property) in object.get_mut("properties").and_then(Json::as_object_mut).into_iter().flatten() {
        if let Some(Json::Array(alternatives)) = property.get_mut("anyOf") {
            alternatives.push(json!({"type": "null"}));
        }
    }
    object
}

/// As [`open_mapping`], without further keys, but `x-*` ones.
pub(super) fn closed_mapping(tables: &[&[Field]]) -> serde_json::Map<String, Json> {
    let mut object = open_mapping(tables);
    object.insert("patternProperties".into(), json!({"^x-": {}}));
    object.insert("additionalProperties".into(), json!(false));
    object
}

fn value(kind: &Kind) -> Json {
    let computed = || json!({"type": "string", "pattern": "\\{.*\\}"});
    let or_computed = |schema: Json| json!({"anyOf": [schema, computed()]});
    let range = |name: &str, min: Option<Json>, max: Option<Json>| {
        let mut schema = serde_json::Map::new();
        schema.insert("type".into(), json!(name));
        schema.extend(min.map(|min| ("minimum".to_owned(), min)));
        schema.extend(max.map(|max| ("maximum".to_owned(), max)));
        Json::Object(schema)
    };
    match kind {
        Kind::Text => json!({"type": ["string", "integer", "boolean", "null"]}),
        Kind::Secret => json!({"type": ["string", "null"]}),
        Kind::Bool => or_computed(json!({"type": ["boolean", "null"]})),
        Kind::Integer(min, max) => or_computed(range(
            "integer",
            (*min != i64::MIN).then(|| json!(min)),
            (*max != i64::MAX).then(|| json!(max)),
        )),
        Kind::Number(min, max) => {
            or_computed(range("number", min.is_finite().then(|| json!(min)), max.is_finite().then(|| json!(max))))
        }
        Kind::Duration | Kind::Bytes => json!({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
        Kind::Choice(words) => or_computed(json!({"enum": words})),
        Kind::OrWord(word, inner) => json!({"anyOf": [{"const": word}, value(inner)]}),
        Kind::List(inner) => {
            let inner = value(inner);
            json!({"anyOf": [{"type": "array", "items": inner.clone()}, inner]})
        }
        Kind::Record(fields) => or_computed(Json::Object(mapping(fields))),
        Kind::Map(inner) => or_computed(json!({"type": "object", "additionalProperties": value(inner)})),
        Kind::Any => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FIELDS: &[Field] = &[
        Field::required("path", Kind::Text, "The location.").or(&["filepath"]),
        Field::required("dataset", Kind::Any, "The inner type."),
        Field::optional("workers", Kind::OrWord("auto", &Kind::Integer(1, i64::MAX)), "10", "How many at once."),
        Field::optional("on_error", Kind::Choice(&["stop", "continue"]), "stop", "What a failure does."),
    ];

    #[test]
    fn an_open_mapping_takes_other_keys_and_null() {
        static MORE: &[Field] = &[Field::optional("sep", Kind::Text, "','", "Between values.")];
        let schema = Json::Object(open_mapping(&[&FIELDS[2..], MORE]));
        assert!(schema["additionalProperties"].is_null() && schema["patternProperties"].is_null());
        assert_eq!(schema["properties"]["sep"]["description"], "Between values.");
        assert_eq!(schema["properties"]["sep"]["default"], ",", "a quoted scalar");
        assert_eq!(schema["properties"]["on_error"]["anyOf"][2], json!({"type": "null"}));
    }

    #[test]
    fn the_schema_closes_the_mapping_and_shows_docs_and_defaults() {
        let schema = schema(FIELDS);
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["patternProperties"], json!({"^x-": {}}));
        assert_eq!(schema["required"], json!(["dataset"]));
        assert_eq!(schema["allOf"], json!([{"anyOf": [{"required": ["path"]}, {"required": ["filepath"]}]}]));
        assert_eq!(schema["properties"]["filepath"]["description"], "The location.");
        assert_eq!(schema["properties"]["workers"]["default"], json!(10));
        assert_eq!(schema["properties"]["workers"]["anyOf"][0], json!({"const": "auto"}));
        assert_eq!(schema["properties"]["on_error"]["anyOf"][0], json!({"enum": ["stop", "continue"]}));
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
}
