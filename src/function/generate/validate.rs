//! The check of a value against a JSON Schema, as far as language models' APIs know it.
//!
//! Owns the keywords of draft 2020-12 that say what a value is: types, constants, objects, lists, numbers, strings, combinations
//! and references inside the schema. A schema with another keyword that decides is refused, so that nothing is promised and not
//! checked; `title`, `description`, `format` and the like decide nothing.

use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value as Json};

/// How deeply values and references are followed.
const MAX_DEPTH: u32 = 128;
/// Keywords that decide nothing.
const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "format",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
];
const TYPES: &[&str] = &["null", "boolean", "object", "array", "number", "integer", "string"];

/// A schema that was found to be right.
#[derive(Debug)]
pub struct Validator {
    root: Json,
    patterns: HashMap<String, Regex>,
}

/// Where a value does not fit, and what it does not fit.
type Misfit = (String, String);

impl Validator {
    /// Checks a schema.
    ///
    /// # Errors
    /// With what is wrong or not supported, and where.
    pub fn new(schema: &Json) -> Result<Self, String> {
        let mut validator = Self { root: schema.clone(), patterns: HashMap::new() };
        let mut patterns = HashMap::new();
        validator.check(schema, "", &mut patterns)?;
        validator.patterns = patterns;
        Ok(validator)
    }

    fn check(&self, schema: &Json, at: &str, patterns: &mut HashMap<String, Regex>) -> Result<(), String> {
        let wrong = |keyword: &str, expected: &str| Err(format!("`{at}/{keyword}` must be {expected}"));
        let map = match schema {
            Json::Bool(_) => return Ok(()),
            Json::Object(map) => map,
            _ => return Err(format!("`{at}` must be a schema: a mapping, `true` or `false`")),
        };
        for (keyword, value) in map {
            let path = format!("{at}/{keyword}");
            let is_count = || value.as_u64().is_some();
            match keyword.as_str() {
                "type" => {
                    let known = |kind: &Json| kind.as_str().is_some_and(|kind| TYPES.contains(&kind));
                    let sound =
                        known(value) || value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(known));
                    if !sound {
                        return wrong(keyword, &format!("one of {}, or a list of them", TYPES.join(", ")));
                    }
                }
                "enum" if !value.is_array() => return wrong(keyword, "a list"),
                "required" => {
                    if !value.as_array().is_some_and(|all| all.iter().all(Json::is_string)) {
                        return wrong(keyword, "a list of strings");
                    }
                }
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" if !value.is_number() => {
                    return wrong(keyword, "a number");
                }
                "multipleOf" if value.as_f64().is_none_or(|number| number <= 0.0) => {
                    return wrong(keyword, "a number above zero");
                }
                "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties"
                    if !is_count() =>
                {
                    return wrong(keyword, "an integer of at least 0");
                }
                "uniqueItems" if !value.is_boolean() => return wrong(keyword, "`true` or `false`"),
                "pattern" => {
                    let Some(text) = value.as_str() else { return wrong(keyword, "a string") };
                    let pattern =
                        Regex::new(text).map_err(|error| format!("`{path}` is no regular expression: {error}"))?;
                    patterns.insert(text.to_owned(), pattern);
                }
                "$ref" => {
                    let Some(text) = value.as_str() else { return wrong(keyword, "a string") };
                    if self.referenced(text).is_none() {
                        return Err(format!("`{path}` leads nowhere inside the schema: `{text}`"));
                    }
                }
                "properties" | "$defs" | "definitions" => {
                    let Some(inner) = value.as_object() else { return wrong(keyword, "a mapping") };
                    for (name, schema) in inner {
                        self.check(schema, &format!("{path}/{name}"), patterns)?;
                    }
                }
                "items" | "additionalProperties" | "not" => self.check(value, &path, patterns)?,
                "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
                    let Some(all) = value.as_array().filter(|all| !all.is_empty()) else {
                        return wrong(keyword, "a list of schemas");
                    };
                    for (number, schema) in all.iter().enumerate() {
                        self.check(schema, &format!("{path}/{number}"), patterns)?;
                    }
                }
                "const" | "enum" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf"
                | "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties"
                | "uniqueItems" => {}
                _ if ANNOTATIONS.contains(&keyword.as_str()) || keyword.starts_with("x-") => {}
                _ => return Err(format!("`{path}` is not supported")),
            }
        }
        Ok(())
    }

    fn referenced(&self, to: &str) -> Option<&Json> {
        self.root.pointer(to.strip_prefix('#')?)
    }

    /// Checks a value.
    ///
    /// # Errors
    /// With the place in the value, and what of the schema it does not fit. Nothing of the value itself, which is the model's.
    pub fn validate(&self, value: &Json) -> Result<(), String> {
        let found = self.fits(value, &self.root, "", MAX_DEPTH);
        found.map_err(|(at, what)| if at.is_empty() { what } else { format!("`{at}`: {what}") })
    }

    fn fits(&self, value: &Json, schema: &Json, at: &str, depth: u32) -> Result<(), Misfit> {
        let map = match schema {
            Json::Bool(true) => return Ok(()),
            Json::Object(map) => map,
            _ => return Err((at.to_owned(), "does not fit `false`".to_owned())),
        };
        if depth == 0 {
            return Err((at.to_owned(), "is nested too deeply".to_owned()));
        }
        let depth = depth - 1;
        for (keyword, expected) in map {
            let fits = match keyword.as_str() {
                "$ref" => {
                    let to = expected.as_str().and_then(|to| self.referenced(to));
                    self.fits(value, to.unwrap_or(&Json::Bool(false)), at, depth)?;
                    true
                }
                "allOf" => {
                    all_of(expected).try_for_each(|schema| self.fits(value, schema, at, depth))?;
                    true
                }
                "anyOf" => all_of(expected).any(|schema| self.fits(value, schema, at, depth).is_ok()),
                "oneOf" => all_of(expected).filter(|schema| self.fits(value, schema, at, depth).is_ok()).count() == 1,
                "not" => self.fits(value, expected, at, depth).is_err(),
                "type" => {
                    let kinds: Vec<&str> =
                        expected.as_str().into_iter().chain(all_of(expected).filter_map(Json::as_str)).collect();
                    kinds.iter().any(|kind| is_of(value, kind))
                }
                "enum" => all_of(expected).any(|one| equal(one, value)),
                "const" => equal(expected, value),
                _ => match value {
                    Json::Object(object) => self.object_fits(object, (keyword.as_str(), expected), map, at, depth)?,
                    Json::Array(list) => self.list_fits(list, (keyword.as_str(), expected), map, at, depth)?,
                    Json::Number(number) => number.as_f64().is_none_or(|number| number_fits(number, keyword, expected)),
                    Json::String(text) => self.text_fits(text, keyword, expected),
                    _ => true,
                },
            };
            if !fits {
                return Err((at.to_owned(), describe(keyword, expected)));
            }
        }
        Ok(())
    }

    fn object_fits(
        &self,
        object: &Map<String, Json>,
        (keyword, expected): (&str, &Json),
        schema: &Map<String, Json>,
        at: &str,
        depth: u32,
    ) -> Result<bool, Misfit> {
        let count = object.len() as u64;
        Ok(match keyword {
            "required" => {
                let missing = all_of(expected).filter_map(Json::as_str).find(|name| !object.contains_key(*name));
                match missing {
                    Some(name) => return Err((at.to_owned(), format!("\"{name}\" is a required property"))),
                    None => true,
                }
            }
            "properties" => {
                for (name, schema) in expected.as_object().into_iter().flatten() {
                    if let Some(value) = object.get(name) {
                        self.fits(value, schema, &format!("{at}/{name}"), depth)?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Json::as_object);
                let others = object.iter().filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                // The name is the model's.
                others.map(|(_, value)| value).all(|value| self.fits(value, expected, at, depth).is_ok())
            }
            "minProperties" => expected.as_u64().is_none_or(|least| count >= least),
            "maxProperties" => expected.as_u64().is_none_or(|most| count <= most),
            _ => true,
        })
    }

    fn list_fits(
        &self,
        list: &[Json],
        (keyword, expected): (&str, &Json),
        schema: &Map<String, Json>,
        at: &str,
        depth: u32,
    ) -> Result<bool, Misfit> {
        let count = list.len() as u64;
        let first = schema.get("prefixItems").and_then(Json::as_array).map_or(0, Vec::len);
        let item = |number: usize| format!("{at}/{number}");
        Ok(match keyword {
            "prefixItems" => {
                for (number, (value, schema)) in list.iter().zip(all_of(expected)).enumerate() {
                    self.fits(value, schema, &item(number), depth)?;
                }
                true
            }
            "items" => {
                for (number, value) in list.iter().enumerate().skip(first) {
                    self.fits(value, expected, &item(number), depth)?;
                }
                true
            }
            "minItems" => expected.as_u64().is_none_or(|least| count >= least),
            "maxItems" => expected.as_u64().is_none_or(|most| count <= most),
            "uniqueItems" => {
                expected != &Json::Bool(true)
                    || list.iter().enumerate().all(|(at, one)| list[..at].iter().all(|other| !equal(other, one)))
            }
            _ => true,
        })
    }

    fn text_fits(&self, text: &str, keyword: &str, expected: &Json) -> bool {
        let characters = || text.chars().count() as u64;
        match keyword {
            "minLength" => expected.as_u64().is_none_or(|least| characters() >= least),
            "maxLength" => expected.as_u64().is_none_or(|most| characters() <= most),
            "pattern" => {
                let pattern = expected.as_str().and_then(|pattern| self.patterns.get(pattern));
                pattern.is_some_and(|pattern| pattern.is_match(text))
            }
            _ => true,
        }
    }
}

fn all_of(list: &Json) -> impl Iterator<Item = &Json> {
    list.as_array().into_iter().flatten()
}

fn is_of(value: &Json, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        // `1.0` is an integer.
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => false,
    }
}

/// Whether two values are equal as JSON: numbers by their value.
fn equal(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(a), Json::Number(b)) => a == b || (a.is_f64() != b.is_f64() && a.as_f64() == b.as_f64()),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => one == other,
    }
}

fn number_fits(number: f64, keyword: &str, expected: &Json) -> bool {
    let Some(limit) = expected.as_f64() else { return true };
    match keyword {
        "minimum" => number >= limit,
        "maximum" => number <= limit,
        "exclusiveMinimum" => number > limit,
        "exclusiveMaximum" => number < limit,
        "multipleOf" => {
            let quotient = number / limit;
            (quotient - quotient.round()).abs() < 1e-9 * quotient.abs().max(1.0)
        }
        _ => true,
    }
}

fn describe(keyword: &str, expected: &Json) -> String {
    const LONGEST: usize = 100;
    let value = expected.to_string();
    let value = if value.len() <= LONGEST { format!(": {value}") } else { String::new() };
    format!("does not fit `{keyword}{value}`")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_keyword_decides_as_the_standard_says() {
        let tree = json!({
            "$ref": "#/$defs/node",
            "$defs": {"node": {"type": "object", "required": ["v"], "properties": {"v": {}, "next": {"$ref": "#/$defs/node"}}}},
        });
        for (schema, right, wrong) in [
            (json!({"type": "integer"}), json!(1.0), json!(1.5)),
            (json!({"type": ["string", "null"]}), json!(null), json!(1)),
            (json!({"type": "number"}), json!(1), json!("1")),
            (json!({"enum": ["a", 1]}), json!(1.0), json!("b")),
            (json!({"const": {"a": [1]}}), json!({"a": [1.0]}), json!({"a": [2]})),
            (json!({"minimum": 0, "maximum": 1}), json!(1), json!(1.01)),
            (json!({"exclusiveMinimum": 0}), json!(0.1), json!(0)),
            (json!({"exclusiveMaximum": 1}), json!(0.9), json!(1)),
            (json!({"multipleOf": 0.1}), json!(0.3), json!(0.35)),
            (json!({"minLength": 2, "maxLength": 3}), json!("éé"), json!("é")),
            (json!({"pattern": "^[a-z]+$"}), json!("ab"), json!("aB")),
            (json!({"required": ["a"]}), json!({"a": null}), json!({"b": 1})),
            (json!({"properties": {"a": {"type": "string"}}}), json!({"b": 1}), json!({"a": 1})),
            (json!({"properties": {"a": {}}, "additionalProperties": false}), json!({"a": 1}), json!({"b": 1})),
            (json!({"additionalProperties": {"type": "string"}}), json!({"a": "x"}), json!({"a": 1})),
            (json!({"minProperties": 1, "maxProperties": 1}), json!({"a": 1}), json!({"a": 1, "b": 1})),
            (json!({"items": {"type": "string"}}), json!(["a"]), json!(["a", 1])),
            (json!({"prefixItems": [{"type": "string"}], "items": false}), json!(["a"]), json!(["a", 1])),
            (json!({"minItems": 1, "maxItems": 2}), json!([1]), json!([])),
            (json!({"uniqueItems": true}), json!([1, 2]), json!([1, 1.0])),
            (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!(null), json!(1)),
            (json!({"oneOf": [{"minimum": 2}, {"maximum": 3}]}), json!(1), json!(2.5)),
            (json!({"allOf": [{"minimum": 2}, {"maximum": 3}]}), json!(2.5), json!(1)),
            (json!({"not": {"type": "string"}}), json!(1), json!("a")),
            (tree, json!({"v": 1, "next": {"v": 2}}), json!({"v": 1, "next": {"next": {"v": 1}}})),
            (json!(true), json!(1), json!(null)),
        ] {
            let validator = Validator::new(&schema).unwrap_or_else(|why| panic!("{schema}: {why}"));
            assert_eq!(validator.validate(&right), Ok(()), "{schema} {right}");
            assert_eq!(validator.validate(&wrong).is_err(), schema != json!(true), "{schema} {wrong}");
        }
    }

    #[test]
    fn what_is_wrong_or_would_not_be_checked_is_refused() {
        for (schema, expected) in [
            (json!({"properties": {"a": {"type": "strin"}}}), "`/properties/a/type` must be one of"),
            (json!({"patternProperties": {}}), "`/patternProperties` is not supported"),
            (json!({"if": {}}), "`/if` is not supported"),
            (json!({"$ref": "http://host/a.json"}), "leads nowhere inside the schema"),
            (json!({"$ref": "#/$defs/a"}), "leads nowhere inside the schema"),
            (json!({"pattern": "("}), "is no regular expression"),
            (json!({"minLength": -1}), "must be an integer of at least 0"),
            (json!({"anyOf": []}), "must be a list of schemas"),
            (json!({"items": [{}]}), "`/items` must be a schema"),
            (json!({"enum": 1}), "must be a list"),
        ] {
            assert!(Validator::new(&schema).is_err_and(|why| why.contains(expected)), "{schema}");
        }
        let endless = Validator::new(&json!({"$ref": "#"})).expect("a schema");
        assert!(endless.validate(&json!(1)).is_err_and(|why| why.contains("too deeply")));
    }
}
