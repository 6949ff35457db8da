//! `response_format`: a JSON Schema, the columns that follow from it, and the check of each answer against it.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::validate::{Validator, unchecked};
use crate::{
    config::{Node, Value},
    diagnostic::Span,
    function::{column_type::ColumnType, problems::Problems},
};

/// The column of an answer without a schema.
const OUTPUT: &str = "output";
/// How deeply references of a schema are followed for the types of columns.
const MAX_DEPTH: u32 = 32;

/// What an answer has to look like.
#[derive(Debug, Clone)]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// JSON as a schema says.
    Schema(Box<Schema>),
}

/// A schema, and its columns.
#[derive(Debug, Clone)]
pub struct Schema {
    /// As written.
    pub schema: Json,
    /// Whether a server's strict mode accepts it: every object names all its keys, and needs all of them.
    pub strict: bool,
    validator: Arc<Validator>,
    columns: Vec<(String, ColumnType)>,
}

impl ResponseFormat {
    /// Reads the key. `None` if it is wrong, which is reported.
    pub fn read(node: Option<&Node>, problems: &mut Problems<'_>) -> Option<Self> {
        let Some(node) = node.filter(|node| node.value != Value::Null) else { return Some(Self::Text) };
        if node.is_unresolved() {
            return None;
        }
        let written = node.to_json();
        // As OpenAI's field has it.
        let schema = match (written["type"].as_str(), written.get("json_schema")) {
            (Some("json_schema"), Some(inner)) => inner.get("schema").unwrap_or(inner).clone(),
            _ => written.clone(),
        };
        let mut wrong = |message: String, help: &str| {
            problems.wrong(message, node.span, help);
            None
        };
        let properties = schema["properties"].as_object().filter(|properties| !properties.is_empty());
        let Some(properties) = properties.filter(|_| schema["type"] == "object") else {
            return wrong(
                "`response_format` is not the JSON Schema of an object".to_owned(),
                "write `{type: object, properties: {…}, required: […]}`: a column follows from each property",
            );
        };
        let columns = properties.iter().map(|(name, of)| (name.clone(), column_type(of, &schema, 0))).collect();
        let validator = match Validator::new(&schema) {
            Ok(validator) => validator,
            Err(why) => {
                return wrong(
                    format!("`response_format` is not a JSON Schema that can be checked: {why}"),
                    "write it as in draft 2020-12, or name its draft under `$schema`; refer to what is under its own `$defs`",
                );
            }
        };
        let root = if schema == written {
            Some(node)
        } else {
            node.get("json_schema").map(|of| of.get("schema").unwrap_or(of))
        };
        for (at, what) in unchecked(&schema, &validator) {
            let span = root.map_or(node.span, |root| span_at(root, &at));
            problems.warn(
                "generate::unchecked-keyword",
                format!("nothing checks {what} at `{at}` of `response_format`"),
                span,
                "it is sent to the model, and decides nothing; correct it, or remove it",
            );
        }
        let strict = is_strict(&schema);
        Some(Self::Schema(Box::new(Schema { schema, strict, validator: Arc::new(validator), columns })))
    }

    /// The columns, and their types.
    pub fn columns(&self) -> Vec<(String, ColumnType)> {
        match self {
            Self::Text => vec![(OUTPUT.to_owned(), ColumnType::String)],
            Self::Schema(schema) => schema.columns.clone(),
        }
    }

    /// The schema, if there is one.
    pub fn schema(&self) -> Option<&Schema> {
        match self {
            Self::Text => None,
            Self::Schema(schema) => Some(schema),
        }
    }

    /// The text of the schema, if there is one. Its keys are in the order in which they are written: models read it.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text => None,
            Self::Schema(schema) => Some(schema.schema.to_string()),
        }
    }

    /// The values of the columns in an answer.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn values(&self, text: &str) -> Result<Vec<Json>, String> {
        let schema = match self {
            Self::Text if text.is_empty() => return Err("there is no text".to_owned()),
            Self::Text => return Ok(vec![Json::from(text)]),
            Self::Schema(schema) => schema,
        };
        let answer: Json =
            serde_json::from_str(without_fence(text)).map_err(|error| format!("the answer is not JSON: {error}"))?;
        schema.validator.validate(&answer)?;
        let value = |(name, kind): &(String, ColumnType)| {
            let value = answer.get(name).cloned().unwrap_or(Json::Null);
            kind.check(&value).map_err(|why| format!("`/{name}`: {why}"))?;
            Ok(value)
        };
        schema.columns.iter().map(value).collect()
    }
}

/// Where the key at a JSON pointer is written, or what it is in.
fn span_at(node: &Node, pointer: &str) -> Span {
    let (mut node, mut span) = (node, node.span);
    for step in pointer.split('/').skip(1) {
        let name = step.replace("~1", "/").replace("~0", "~");
        let below = match &node.value {
            Value::Map(map) => map.entries.get(&name).map(|entry| (&entry.node, entry.key_span)),
            Value::List(list) => name.parse().ok().and_then(|at: usize| list.get(at)).map(|one| (one, one.span)),
            _ => None,
        };
        let Some(found) = below else { break };
        (node, span) = found;
    }
    span
}

/// The JSON inside of a fenced block: models without a mode for JSON put it there.
fn without_fence(text: &str) -> &str {
    let text = text.trim();
    let Some(inside) = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else { return text };
    inside.strip_prefix("json").unwrap_or(inside)
}

/// The type of the column for a property: what no column type is exactly is JSON as text.
fn column_type(property: &Json, root: &Json, depth: u32) -> ColumnType {
    if depth > MAX_DEPTH {
        return ColumnType::Json;
    }
    if let Some(to) = property["$ref"].as_str() {
        let found = to.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return found.map_or(ColumnType::Json, |found| column_type(found, root, depth + 1));
    }
    // `Optional` of Pydantic.
    if let Some(several) = property["anyOf"].as_array().or_else(|| property["oneOf"].as_array()) {
        let mut others = several.iter().filter(|one| one["type"] != "null");
        return match (others.next(), others.next()) {
            (Some(only), None) => column_type(only, root, depth + 1),
            _ => ColumnType::Json,
        };
    }
    let kind = match &property["type"] {
        Json::String(kind) => kind.as_str(),
        Json::Array(kinds) => {
            let mut others = kinds.iter().filter_map(Json::as_str).filter(|kind| *kind != "null");
            match (others.next(), others.next()) {
                (Some(only), None) => only,
                _ => return ColumnType::Json,
            }
        }
        _ => {
            let words =
                property["enum"].as_array().is_some_and(|all| all.iter().all(|one| one.is_string() || one.is_null()));
            return if words || property["const"].is_string() { ColumnType::String } else { ColumnType::Json };
        }
    };
    match kind {
        "string" => ColumnType::String,
        "integer" => ColumnType::Int64,
        "number" => ColumnType::Float64,
        "boolean" => ColumnType::Bool,
        "array" => match property.get("items") {
            Some(items) if items.is_object() && property.get("prefixItems").is_none() => {
                ColumnType::List(Box::new(column_type(items, root, depth + 1)))
            }
            _ => ColumnType::Json,
        },
        "object" => match property["properties"].as_object() {
            // Other keys than these would be lost.
            Some(fields) if !fields.is_empty() && property["additionalProperties"] == json!(false) => {
                let field = |(name, of): (&String, &Json)| (name.clone(), column_type(of, root, depth + 1));
                ColumnType::Struct(fields.iter().map(field).collect())
            }
            _ => ColumnType::Json,
        },
        _ => ColumnType::Json,
    }
}

/// Whether every object in a schema names all of its keys, and needs all of them.
fn is_strict(schema: &Json) -> bool {
    let object = |map: &Map<String, Json>| {
        let Some(properties) = map.get("properties").and_then(Json::as_object) else {
            return map.get("type") != Some(&json!("object"));
        };
        let required = map.get("required").and_then(Json::as_array);
        let needs = |name: &String| required.is_some_and(|all| all.iter().any(|one| one == name));
        map.get("additionalProperties") == Some(&json!(false)) && properties.keys().all(needs)
    };
    match schema {
        Json::Object(map) => object(map) && map.values().all(is_strict),
        Json::Array(list) => list.iter().all(is_strict),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{diagnostic::Diagnostics, embed::testing::node};

    fn read(schema: Json) -> Result<ResponseFormat, String> {
        let mut diagnostics = Diagnostics::default();
        let mut problems = Problems { code: "generate::invalid", diagnostics: &mut diagnostics, sound: true };
        let format = ResponseFormat::read(Some(&node(&schema)), &mut problems);
        format.ok_or_else(|| diagnostics.as_slice().iter().map(|one| one.message.clone()).collect())
    }

    fn schema() -> Json {
        json!({
            "type": "object",
            "properties": {
                "label": {"enum": ["drug", "disease"]},
                "score": {"type": "number", "minimum": 0, "maximum": 1},
                "count": {"type": ["integer", "null"]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "place": {
                    "type": "object", "additionalProperties": false, "required": ["x"],
                    "properties": {"x": {"type": "integer"}},
                },
                "any": {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "null"}]},
                "open": {"type": "object"},
            },
            "required": ["label", "score"],
            "$defs": {"b": {"type": "boolean"}},
        })
    }

    #[test]
    fn columns_follow_from_the_schema() {
        let columns = read(schema()).expect("valid").columns();
        let shown: Vec<String> = columns.iter().map(|(name, kind)| format!("{name}: {kind:?}")).collect();
        assert_eq!(
            shown,
            [
                "label: String",
                "score: Float64",
                "count: Int64",
                "tags: List(String)",
                "place: Struct([(\"x\", Int64)])",
                "any: Bool",
                "open: Json",
            ]
        );
    }

    #[test]
    fn answers_are_checked_whatever_the_server_promises() {
        let format = read(schema()).expect("valid");
        let values =
            format.values("```json\n{\"label\": \"drug\", \"score\": 0.5, \"count\": 2.0}\n```").expect("valid");
        assert_eq!(values[..3], [json!("drug"), json!(0.5), json!(2.0)]);
        assert_eq!(values[3], Json::Null);
        for (text, expected) in [
            ("{\"label\": \"drug\"", "the answer is not JSON"),
            ("{\"label\": \"drug\"}", "\"score\" is a required property"),
            ("{\"label\": \"secret words\", \"score\": 1}", "`/label`: does not fit `enum: [\"drug\",\"disease\"]`"),
            ("{\"label\": \"drug\", \"score\": 2}", "`/score`: does not fit `maximum: 1`"),
            ("{\"label\": \"drug\", \"score\": \"1\"}", "`/score`: does not fit `type: \"number\"`"),
            ("[1]", "does not fit `type: \"object\"`"),
        ] {
            let why = format.values(text).expect_err("invalid");
            assert!(why.contains(expected) && !why.contains("secret words"), "{text}: {why}");
        }
        let large = read(json!({"type": "object", "properties": {"n": {"type": "number"}}})).expect("valid");
        assert!(large.values("{\"n\": 9007199254740993}").is_err(), "exact or an error");
    }

    #[test]
    fn wrong_schemas_are_refused_and_nothing_is_loaded_for_them() {
        for (schema, expected) in [
            (json!({"type": "string"}), "not the JSON Schema of an object"),
            (json!({"type": "object", "properties": {}}), "not the JSON Schema of an object"),
            (
                json!({"type": "object", "properties": {"a": {"type": "strin"}}}),
                "not a JSON Schema that can be checked",
            ),
            (
                json!({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/a.json"}}}),
                "not a JSON Schema that can be checked",
            ),
        ] {
            assert!(read(schema.clone()).is_err_and(|said| said.contains(expected)), "{schema}");
        }
    }

    #[test]
    fn a_strict_schema_names_and_needs_all_its_keys() {
        let strict = json!({
            "type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false,
        });
        assert!(is_strict(&strict) && !is_strict(&schema()));
        let wrapped = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": strict}});
        let ResponseFormat::Schema(read) = read(wrapped).expect("valid") else { panic!("a schema") };
        assert!(read.strict && read.schema == strict);
    }
}
