//! The check of an answer against a JSON Schema, by the crate `jsonschema`.
//!
//! Owns what a schema may refer to (itself: nothing is loaded), what is said about a misfit (nothing of the value, which is the
//! model's), and which keywords nothing checks ([`unchecked`]).

use std::collections::HashSet;

use jsonschema::{Draft, error::ValidationErrorKind};
use serde_json::Value as Json;

/// The longest keyword that a message quotes with its value.
const LONGEST: usize = 100;

/// A schema that was found to be right.
#[derive(Debug)]
pub struct Validator {
    checked: jsonschema::Validator,
    schema: Json,
    /// Names of properties that the schema has: others are the model's.
    names: HashSet<String>,
}

impl Validator {
    /// Checks a schema.
    ///
    /// # Errors
    /// With what is wrong, and where.
    pub fn new(schema: &Json) -> Result<Self, String> {
        // A format is checked as well: who writes `format: date` wants dates.
        let built = jsonschema::options().should_validate_formats(true).offline().build(schema);
        let checked = built.map_err(|error| match error.kind() {
            ValidationErrorKind::Referencing(why) => {
                format!("a reference leads nowhere inside the schema, and nothing is loaded: {why}")
            }
            _ => format!("`{}`: {error}", error.instance_path()),
        })?;
        let mut names = HashSet::new();
        subschemas(schema, "", &mut |schema, _| {
            let properties = schema.get("properties").and_then(Json::as_object);
            names.extend(properties.into_iter().flatten().map(|(name, _)| name.clone()));
        });
        Ok(Self { checked, schema: schema.clone(), names })
    }

    /// Checks a value.
    ///
    /// # Errors
    /// With the place in the value, and what of the schema it does not fit. Nothing of the value itself, which is the model's.
    pub fn validate(&self, value: &Json) -> Result<(), String> {
        self.checked.validate(value).map_err(|error| {
            let what = match error.kind() {
                ValidationErrorKind::Required { property } => format!("{property} is a required property"),
                _ => self.describe(error.schema_path().as_str()),
            };
            let at = self.shown(error.instance_path().as_str());
            if at.is_empty() { what } else { format!("`{at}`: {what}") }
        })
    }

    /// A place in a value, with `*` for a name that is not the schema's.
    fn shown(&self, path: &str) -> String {
        let step = |step: &str| {
            let name = step.replace("~1", "/").replace("~0", "~");
            let known = self.names.contains(&name) || name.bytes().all(|byte| byte.is_ascii_digit());
            if known { format!("/{step}") } else { "/*".to_owned() }
        };
        path.split('/').skip(1).map(step).collect()
    }

    /// What a value does not fit.
    fn describe(&self, path: &str) -> String {
        let keyword = path.rsplit('/').next().unwrap_or_default();
        let expected = self.schema.pointer(path).map(Json::to_string).filter(|text| text.len() <= LONGEST);
        match (keyword, expected) {
            ("", _) => "does not fit the schema".to_owned(),
            (keyword, Some(expected)) => format!("does not fit `{keyword}: {expected}`"),
            (keyword, None) => format!("does not fit `{keyword}`"),
        }
    }
}

/// What stands where in a schema and decides nothing, though it looks as if it did: keywords that JSON Schema does not have, or
/// not the draft of this schema, and formats that nobody knows. Each with its place.
pub fn unchecked(schema: &Json, validator: &Validator) -> Vec<(String, String)> {
    let draft = validator.checked.draft();
    let formats = jsonschema::options();
    let mut found = Vec::new();
    subschemas(schema, "", &mut |schema, at| {
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            let place = || format!("{at}/{}", keyword.replace('~', "~0").replace('/', "~1"));
            match (keyword.as_str(), value.as_str()) {
                ("format", Some(format)) if !formats.is_known_format(draft, format) => {
                    found.push((place(), format!("the format `{format}`")));
                }
                (keyword, _) if !is_known(keyword, draft) => found.push((place(), format!("the keyword `{keyword}`"))),
                _ => {}
            }
        }
    });
    found
}

/// Keywords that say nothing about a value.
const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
    "id",
    "$anchor",
    "$dynamicAnchor",
    "$recursiveAnchor",
    "$vocabulary",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "discriminator",
];
/// Keywords that all drafts check.
const CHECKED: &[&str] = &[
    "$ref",
    "type",
    "enum",
    "format",
    "properties",
    "patternProperties",
    "additionalProperties",
    "required",
    "minProperties",
    "maxProperties",
    "items",
    "additionalItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "dependencies",
];

/// Whether something is done with a keyword, or it promises nothing.
fn is_known(keyword: &str, draft: Draft) -> bool {
    let (since_6, since_7) = (draft != Draft::Draft4, !matches!(draft, Draft::Draft4 | Draft::Draft6));
    let since_2019 = since_7 && draft != Draft::Draft7;
    match keyword {
        "const" | "contains" | "propertyNames" | "contentEncoding" | "contentMediaType" => since_6,
        "if" | "then" | "else" => since_7,
        "dependentRequired"
        | "dependentSchemas"
        | "minContains"
        | "maxContains"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "contentSchema" => since_2019,
        "$recursiveRef" => draft == Draft::Draft201909,
        "prefixItems" | "$dynamicRef" => since_2019 && draft != Draft::Draft201909,
        _ => CHECKED.contains(&keyword) || ANNOTATIONS.contains(&keyword) || keyword.starts_with("x-"),
    }
}

/// Visits every schema inside of a schema, with its place.
fn subschemas(schema: &Json, at: &str, visit: &mut impl FnMut(&Json, &str)) {
    visit(schema, at);
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        let below = format!("{at}/{keyword}");
        match (keyword.as_str(), value) {
            (
                "additionalItems"
                | "additionalProperties"
                | "contains"
                | "contentSchema"
                | "else"
                | "if"
                | "items"
                | "not"
                | "propertyNames"
                | "then"
                | "unevaluatedItems"
                | "unevaluatedProperties",
                Json::Object(_),
            ) => subschemas(value, &below, visit),
            ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Json::Array(all)) => {
                all.iter().enumerate().for_each(|(n, one)| subschemas(one, &format!("{below}/{n}"), visit));
            }
            (
                "$defs" | "definitions" | "properties" | "patternProperties" | "dependentSchemas" | "dependencies",
                Json::Object(all),
            ) => {
                for (name, one) in all.iter().filter(|(_, one)| one.is_object()) {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    subschemas(one, &format!("{below}/{name}"), visit);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_keyword_that_is_not_reported_as_unchecked_decides() {
        let tree = json!({
            "$ref": "#/$defs/tree",
            "$defs": {"tree": {"type": "object", "required": ["v"], "properties": {"next": {"$ref": "#/$defs/tree"}}}},
        });
        let draft = |version: &str, mut schema: Json| {
            schema["$schema"] = json!(format!("http://json-schema.org/{version}/schema#"));
            schema
        };
        for (schema, right, wrong) in [
            (json!({"type": "integer"}), json!(2.0), json!(2.5)),
            (json!({"type": ["string", "null"]}), json!(null), json!(1)),
            (json!({"enum": [1, "a"]}), json!(1.0), json!("b")),
            (json!({"const": {"a": 1, "b": 2}}), json!({"b": 2, "a": 1.0}), json!({"a": 1})),
            (json!({"minimum": 0, "maximum": 1}), json!(1), json!(1.5)),
            (json!({"exclusiveMinimum": 0}), json!(0.1), json!(0)),
            (json!({"exclusiveMaximum": 1}), json!(0.9), json!(1)),
            (json!({"multipleOf": 0.1}), json!(0.3), json!(0.35)),
            (json!({"minLength": 2, "maxLength": 3}), json!("éé"), json!("é")),
            (json!({"pattern": "^[a-z]+$"}), json!("ab"), json!("aB")),
            (json!({"pattern": "^(?!x)"}), json!("ab"), json!("xb")),
            (json!({"format": "date"}), json!("2026-02-28"), json!("2026-02-30")),
            (json!({"required": ["a"]}), json!({"a": null}), json!({"b": 1})),
            (json!({"properties": {"a": {"type": "string"}}}), json!({"b": 1}), json!({"a": 1})),
            (json!({"patternProperties": {"^a": {"type": "string"}}}), json!({"b": 1}), json!({"ab": 1})),
            (json!({"properties": {"a": {}}, "additionalProperties": false}), json!({"a": 1}), json!({"b": 1})),
            (json!({"additionalProperties": {"type": "string"}}), json!({"a": "x"}), json!({"a": 1})),
            (json!({"propertyNames": {"maxLength": 1}}), json!({"a": 1}), json!({"ab": 1})),
            (json!({"minProperties": 1, "maxProperties": 1}), json!({"a": 1}), json!({"a": 1, "b": 1})),
            (json!({"dependentRequired": {"a": ["b"]}}), json!({"a": 1, "b": 1}), json!({"a": 1})),
            (json!({"dependentSchemas": {"a": {"maxProperties": 1}}}), json!({"a": 1}), json!({"a": 1, "b": 1})),
            (json!({"dependencies": {"a": ["b"]}}), json!({"a": 1, "b": 1}), json!({"a": 1})),
            (json!({"items": {"type": "string"}}), json!(["a"]), json!(["a", 1])),
            (json!({"prefixItems": [{"type": "string"}], "items": false}), json!(["a"]), json!(["a", 1])),
            (json!({"contains": {"const": 1}, "minContains": 2}), json!([1, 1]), json!([1, 2])),
            (json!({"contains": {"const": 1}, "maxContains": 1}), json!([1, 2]), json!([1, 1])),
            (json!({"minItems": 1, "maxItems": 2}), json!([1]), json!([])),
            (json!({"uniqueItems": true}), json!([1, 2]), json!([1, 1.0])),
            (json!({"unevaluatedItems": false, "prefixItems": [{}]}), json!([1]), json!([1, 2])),
            (json!({"unevaluatedProperties": false, "properties": {"a": {}}}), json!({"a": 1}), json!({"b": 1})),
            (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!(null), json!(1)),
            (json!({"oneOf": [{"minimum": 2}, {"maximum": 3}]}), json!(1), json!(2.5)),
            (json!({"allOf": [{"minimum": 2}, {"maximum": 3}]}), json!(2.5), json!(1)),
            (json!({"not": {"type": "string"}}), json!(1), json!("a")),
            (json!({"if": {"minimum": 5}, "then": {"multipleOf": 5}, "else": {"const": 1}}), json!(10), json!(7)),
            (tree, json!({"v": 1, "next": {"v": 2}}), json!({"v": 1, "next": {"next": {"v": 1}}})),
            (draft("draft-04", json!({"maximum": 3, "exclusiveMaximum": true})), json!(2), json!(3)),
            (draft("draft-07", json!({"items": [{}], "additionalItems": false})), json!([1]), json!([1, 2])),
        ] {
            let validator = Validator::new(&schema).unwrap_or_else(|why| panic!("{schema}: {why}"));
            assert_eq!(validator.validate(&right), Ok(()), "{schema} {right}");
            assert!(validator.validate(&wrong).is_err(), "{schema} {wrong}");
            assert_eq!(unchecked(&schema, &validator), [], "{schema}");
        }
    }

    #[test]
    fn keywords_that_nothing_checks_are_found_where_they_stand() {
        let schema = json!({
            "type": "object", "title": "t", "x-internal": 1, "nullable": true,
            "properties": {
                "nullable": {"type": "string", "format": "decimal", "default": {"nullable": 1}},
                "a/b": {"items": {"maximun": 3}, "const": {"format": "x"}},
            },
            "$defs": {"d": {"anyOf": [{"propertyOrdering": []}]}},
        });
        let validator = Validator::new(&schema).expect("a schema");
        let found: Vec<String> =
            unchecked(&schema, &validator).into_iter().map(|(at, what)| format!("{at}: {what}")).collect();
        assert_eq!(
            found,
            [
                "/nullable: the keyword `nullable`",
                "/properties/nullable/format: the format `decimal`",
                "/properties/a~1b/items/maximun: the keyword `maximun`",
                "/$defs/d/anyOf/0/propertyOrdering: the keyword `propertyOrdering`",
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_refused_and_nothing_is_loaded() {
        for (schema, expected) in [
            (json!({"properties": {"a": {"type": "strin"}}}), "`/properties/a/type`"),
            (json!({"$ref": "http://127.0.0.1:9/a.json"}), "nothing is loaded"),
            (json!({"$ref": "file:///etc/hostname"}), "nothing is loaded"),
            (json!({"$ref": "other.json"}), "nothing is loaded"),
            (json!({"$ref": "#/$defs/a"}), "leads nowhere inside the schema"),
            (json!({"$schema": "http://127.0.0.1:9/own"}), "nothing is loaded"),
            (json!({"pattern": "("}), "`/pattern`"),
            (json!({"minLength": -1}), "`/minLength`"),
            (json!({"anyOf": []}), "`/anyOf`"),
            (json!({"items": [{}]}), "`/items`"),
            (json!({"enum": 1}), "`/enum`"),
        ] {
            let why = Validator::new(&schema).expect_err("refused");
            assert!(why.contains(expected), "{schema}: {why}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"anyOf": [{"$ref": "#"}, {"type": "null"}]}),
            json!({"not": {"$ref": "#"}}),
            json!({"properties": {"a": {"$ref": "#/properties/a"}}}),
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"oneOf": [{"$ref": "#/$defs/a"}]}}}),
        ] {
            let Ok(validator) = Validator::new(&schema) else { continue };
            let _ = validator.validate(&json!({"a": {"a": 1}}));
        }
    }

    #[test]
    fn what_a_model_wrote_is_in_no_message() {
        let schema = json!({
            "type": "object", "required": ["a"], "additionalProperties": {"type": "integer"},
            "properties": {"a": {"enum": ["x"]}, "b": {"items": {"maxLength": 3}}, "c": {"propertyNames": {"maxLength": 2}}},
        });
        let validator = Validator::new(&schema).expect("a schema");
        for (value, expected) in [
            (json!({"a": "secret words"}), "`/a`: does not fit `enum: [\"x\"]`"),
            (json!({"a": "x", "b": ["secret words"]}), "`/b/0`: does not fit `maxLength: 3`"),
            (json!({"a": "x", "secret words": "y"}), "`/*`: does not fit `type: \"integer\"`"),
            (json!({"b": []}), "\"a\" is a required property"),
        ] {
            assert_eq!(validator.validate(&value).as_ref().map_err(String::as_str), Err(expected), "{value}");
        }
        let why = validator.validate(&json!({"a": "x", "c": {"secret words": 1}})).expect_err("too long");
        assert!(!why.contains("secret"), "{why}");
    }
}
