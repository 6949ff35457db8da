//! JSON Schemas of the project's files, for editors: made from the same tables that decode the files.

use serde_json::{Value as Json, json};

use super::{
    catalog::DATASET_FIELDS,
    fields::{Field, closed_mapping, mapping, open_mapping},
    include::INCLUDE_FIELDS,
    pipelines::{NODE_FIELDS, PIPELINE_FIELDS},
    resources::{LEAST_MEMORY, LEAST_TIME},
};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A dataset type for [`catalog_schema`].
#[derive(Debug, Clone)]
pub struct TypeSchema {
    /// Its name.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// Keys of an entry.
    pub fields: &'static [Field],
    /// Keys under `load_args`, if the type has that key.
    pub load_args: Vec<&'static [Field]>,
    /// Keys under `save_args`, if the type has that key.
    pub save_args: Vec<&'static [Field]>,
    /// The options of a partition's file, if files of this type can be partitions.
    pub file: Option<FileSchema>,
}

/// The options of a partition's file: those under `dataset:` of a partitioned dataset.
#[derive(Debug, Clone, Copy)]
pub struct FileSchema {
    /// Keys beside `load_args` and `save_args`.
    pub fields: &'static [Field],
    /// Keys under `load_args`.
    pub load_args: &'static [Field],
    /// Keys under `save_args`.
    pub save_args: &'static [Field],
}

impl FileSchema {
    fn options(&self) -> Json {
        let args = |table| json!({"anyOf": [open_mapping(&[table]), {"type": "null"}]});
        let mut properties = mapping(self.fields).remove("properties").unwrap_or_default();
        properties["load_args"] = args(self.load_args);
        properties["save_args"] = args(self.save_args);
        json!({"properties": properties})
    }

    /// The keys of a partition's entry where the type is one of `flow`'s own: no others than these.
    fn closed(&self) -> Json {
        let args = |table| json!({"anyOf": [closed_mapping(&[table]), {"type": "null"}]});
        let mut properties = mapping(self.fields).remove("properties").unwrap_or_default();
        for key in ["type", "file_format", "load_args", "save_args"] {
            properties[key] = json!({});
        }
        // The options are those of another format where `file_format` names one.
        json!({
            "properties": properties,
            "patternProperties": {"^x-": {}},
            "additionalProperties": false,
            "if": {"not": {"required": ["file_format"]}},
            "then": {"properties": {"load_args": args(self.load_args), "save_args": args(self.save_args)}},
        })
    }
}

impl TypeSchema {
    fn entry(&self) -> Json {
        let all: Vec<Field> = DATASET_FIELDS.iter().chain(self.fields).copied().collect();
        let mut entry = Json::Object(mapping(&all));
        for (key, tables) in [("load_args", &self.load_args), ("save_args", &self.save_args)] {
            // The mapping comes first among what the value may be.
            if let Some(mapping) = entry["properties"].get_mut(key).and_then(|property| property["anyOf"].get_mut(0)) {
                *mapping = Json::Object(open_mapping(tables));
            }
        }
        if let Some(inner) = entry["properties"].get_mut("dataset") {
            let description = inner["description"].take();
            *inner = json!({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/partition"}], "description": description});
        }
        entry
    }

    /// What the options of an entry are where the type is one of `flow`'s own, whose options are all known. `None` for types
    /// that only Kedro names.
    fn closed(&self) -> Option<Json> {
        let has = |key: &str| self.fields.iter().any(|field| field.name == key);
        let args = [("load_args", &self.load_args), ("save_args", &self.save_args)].into_iter();
        let properties: serde_json::Map<String, Json> = args
            .filter(|(key, _)| has(key))
            .map(|(key, tables)| (key.to_owned(), json!({"anyOf": [closed_mapping(tables), {"type": "null"}]})))
            .collect();
        if properties.is_empty() || self.own_name().is_none() {
            return None;
        }
        Some(json!({"properties": properties}))
    }

    /// The type's name where it is `flow`'s, whose options are not handed on to any library.
    fn own_name(&self) -> Option<&'static str> {
        (!self.name.contains("Dataset")).then_some(self.name)
    }

    /// All spellings of the type.
    fn names(&self) -> Vec<String> {
        let names = std::iter::once(self.name).chain(self.aliases.iter().copied());
        names.flat_map(|name| [name.to_owned(), format!("kedro_datasets.{name}")]).collect()
    }
}

/// The schema of `catalog.yml`: each entry by its type. A type that is not listed is Kedro's own or a user's, and takes
/// any keys.
pub fn catalog_schema(types: &[TypeSchema]) -> Json {
    let mut definitions = serde_json::Map::new();
    let (mut rules, mut files) = (Vec::new(), Vec::new());
    let mut known: Vec<&str> = Vec::new();
    for kind in types {
        definitions.insert(kind.name.to_owned(), kind.entry());
        known.push(kind.name);
        known.extend(kind.aliases);
        rules.push(json!({
            "if": {"properties": {"type": {"enum": kind.names()}}},
            "then": {"$ref": format!("#/$defs/{}", kind.name)},
        }));
        if let Some(closed) = kind.closed() {
            // The options are those of another format where `file_format` names one.
            let own = json!({"properties": {"type": {"const": kind.name}}, "not": {"required": ["file_format"]}});
            rules.push(json!({"if": own, "then": closed}));
        }
        if let Some(file) = kind.file {
            files.push(json!({"if": {"properties": {"type": {"enum": kind.names()}}}, "then": file.options()}));
            if kind.own_name().is_some() {
                files.push(json!({"if": {"properties": {"type": {"const": kind.name}}}, "then": file.closed()}));
            }
        }
    }
    definitions.insert(
        "partition".into(),
        json!({
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"type": "string", "description": "What one partition is."}},
            "allOf": files,
        }),
    );
    definitions.insert(
        "entry".into(),
        json!({
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"anyOf": [{"enum": known}, {"type": "string"}], "description": DATASET_FIELDS[0].doc}},
            "allOf": rules,
        }),
    );
    json!({
        "$schema": DRAFT,
        "title": "catalog.yml of flow",
        "type": "object",
        "patternProperties": {"^_": {"description": "Values for other entries; not a dataset."}},
        "additionalProperties": {"$ref": "#/$defs/entry"},
        "$defs": definitions,
    })
}

/// A mapping that a function reads, for [`parameters_schema`].
#[derive(Debug, Clone, Copy)]
pub struct MappingSchema {
    /// The function.
    pub name: &'static str,
    /// The keys of the mapping.
    pub fields: &'static [Field],
}

/// The schema of `parameters.yml`: a mapping with any values. What a function reads is recognized by the keys that it needs.
pub fn parameters_schema(mappings: &[MappingSchema]) -> Json {
    let mut definitions = serde_json::Map::new();
    let mut rules = Vec::new();
    for MappingSchema { name, fields } in mappings {
        let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
        rules.push(json!({
            "if": {"type": "object", "required": required},
            "then": {"$ref": format!("#/$defs/{name}")},
        }));
        definitions.insert((*name).to_owned(), Json::Object(mapping(fields)));
    }
    definitions.insert("value".into(), json!({"allOf": rules, "additionalProperties": {"$ref": "#/$defs/value"}}));
    json!({
        "$schema": DRAFT,
        "title": "parameters.yml of flow",
        "description": "Values for nodes: `params:a.b` in a pipeline, `${params:a.b}` in the catalog.",
        "type": ["object", "null"],
        "additionalProperties": {"$ref": "#/$defs/value"},
        "$defs": definitions,
    })
}

/// The schema of a file under `pipelines/`.
pub fn pipeline_schema() -> Json {
    let mut root = mapping(PIPELINE_FIELDS);
    root.insert("$schema".into(), json!(DRAFT));
    root.insert("title".into(), json!("A pipeline of flow"));
    let names = json!({"anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "null"},
    ]});
    let with_names = |fields: &[Field], keys: &[&str]| {
        let mut object = Json::Object(mapping(fields));
        for key in keys {
            let description = object["properties"][key]["description"].take();
            object["properties"][key] = names.clone();
            object["properties"][key]["description"] = description;
        }
        object
    };
    let mut node = with_names(NODE_FIELDS, &["inputs", "outputs"]);
    // Of numbers, which have no unit.
    for (key, least) in [("memory", LEAST_MEMORY), ("time", LEAST_TIME)] {
        let quantity = &mut node["properties"]["resources"]["anyOf"][0]["properties"][key]["anyOf"][0];
        quantity["minimum"] = json!(least);
    }
    let include = with_names(INCLUDE_FIELDS, &["inputs", "outputs", "parameters"]);
    root["properties"]["nodes"]["type"] = json!(["array", "null"]);
    root["properties"]["nodes"]["items"] = json!({"$ref": "#/$defs/node"});
    root["properties"]["include"]["type"] = json!(["array", "null"]);
    root["properties"]["include"]["items"] = json!({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/include"}]});
    root.insert("$defs".into(), json!({"node": node, "include": include}));
    Json::Object(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kind;

    static CSV: &[Field] = &[
        Field::required("path", Kind::Text, "Where.").or(&["filepath"]),
        Field::optional("load_args", Kind::Map(&Kind::Any), "", "How it is read."),
    ];
    static LOAD: &[Field] = &[Field::optional("sep", Kind::Text, "','", "The separator.").or(&["delimiter"])];

    static PARTITIONED: &[Field] = &[Field::required("dataset", Kind::Any, "The type of a partition.")];

    fn csv() -> Json {
        let csv = TypeSchema {
            name: "csv",
            aliases: &["pandas.CSVDataset"],
            fields: CSV,
            load_args: vec![LOAD],
            save_args: Vec::new(),
            file: Some(FileSchema { fields: &[], load_args: LOAD, save_args: &[] }),
        };
        let partitioned = TypeSchema {
            name: "partitioned",
            aliases: &[],
            fields: PARTITIONED,
            load_args: Vec::new(),
            save_args: Vec::new(),
            file: None,
        };
        catalog_schema(&[csv, partitioned])
    }

    #[test]
    fn the_options_of_a_partition_are_those_of_its_type() {
        let schema = csv();
        let inner = &schema["$defs"]["partitioned"]["properties"]["dataset"];
        assert_eq!(inner["description"], "The type of a partition.");
        assert_eq!(inner["anyOf"], json!([{"type": "string"}, {"$ref": "#/$defs/partition"}]));
        let rules = schema["$defs"]["partition"]["allOf"].as_array().expect("a rule for each type of files");
        assert_eq!(rules.len(), 2, "partitions of partitions do not exist");
        assert_eq!(rules[1]["if"]["properties"]["type"]["const"], "csv");
        assert_eq!(rules[1]["then"]["additionalProperties"], json!(false), "no other keys in a type of flow");
        assert!(rules[0]["if"]["properties"]["type"]["enum"].as_array().expect("names").contains(&json!("csv")));
        let load = &rules[0]["then"]["properties"]["load_args"]["anyOf"][0];
        assert_eq!(load["properties"]["sep"]["description"], "The separator.");
    }

    #[test]
    fn the_args_of_a_type_are_known_and_others_are_allowed_where_it_is_kedros() {
        let schema = csv();
        let own = &schema["$defs"]["entry"]["allOf"][1];
        assert_eq!(own["if"]["properties"]["type"]["const"], "csv");
        assert_eq!(own["then"]["properties"]["load_args"]["anyOf"][0]["additionalProperties"], json!(false));
        let csv = &schema["$defs"]["csv"]["properties"];
        assert_eq!(csv["load_args"]["description"], "How it is read.");
        let load = &csv["load_args"]["anyOf"][0];
        assert_eq!(load["properties"]["delimiter"]["description"], "The separator.");
        assert!(load["additionalProperties"].is_null());
        assert!(csv.get("save_args").is_none(), "a type without that key");
    }

    #[test]
    fn entries_have_the_schema_of_their_type() {
        let schema = csv();
        let rule = &schema["$defs"]["entry"]["allOf"][0];
        assert_eq!(
            rule["if"]["properties"]["type"]["enum"],
            json!(["csv", "kedro_datasets.csv", "pandas.CSVDataset", "kedro_datasets.pandas.CSVDataset"])
        );
        assert_eq!(rule["then"]["$ref"], "#/$defs/csv");
        let csv = &schema["$defs"]["csv"];
        assert_eq!(csv["additionalProperties"], json!(false));
        assert_eq!(csv["required"], json!(["type"]));
        assert!(csv["properties"]["credentials"].is_object() && csv["properties"]["filepath"].is_object());
    }

    #[test]
    fn the_pipeline_schema_knows_nodes_and_includes() {
        let schema = pipeline_schema();
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["$defs"]["node"]["required"], json!(["name", "function"]));
        assert_eq!(schema["$defs"]["node"]["properties"]["inputs"]["anyOf"][0], json!({"type": "string"}));
        assert!(schema["$defs"]["node"]["properties"]["inputs"]["description"].is_string());
        let resources = &schema["$defs"]["node"]["properties"]["resources"]["anyOf"][0]["properties"];
        assert_eq!(resources["memory"]["anyOf"][0], json!({"type": "number", "minimum": 67_108_864}));
        assert_eq!(resources["time"]["anyOf"][0], json!({"type": "number", "minimum": 60}));
        assert_eq!(schema["properties"]["include"]["items"]["anyOf"][1]["$ref"], "#/$defs/include");
        assert_eq!(parameters_schema(&[])["$schema"], DRAFT);
    }
}
