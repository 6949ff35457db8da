//! Options that several dataset types share, read from an entry: location, `load_args`, `save_args`.
//!
//! Kedro hands `load_args` and `save_args` on to a library; what has a meaning here is taken, and what has none gets
//! a warning, so that nobody believes in an option that nobody reads.

use arrow::datatypes::DataType;

use super::{
    Location, OnError, WriteOptions,
    format::{CsvOptions, Format, ParquetOptions, parse_type},
};
use crate::{
    config::{DatasetSpec, Entry, Field, Kind, Node, Record, Value, parse_duration},
    diagnostic::{Diagnostic, Diagnostics, did_you_mean},
};

/// Keys that every entry may have.
pub(super) const COMMON: &[Field] = &[
    Field::required("type", Kind::Text, "which kind of dataset it is"),
    Field::optional("credentials", Kind::Any, "", "a mapping of credentials, or its name in `credentials.yml`"),
    Field::optional("metadata", Kind::Any, "", "anything; `kedro-viz.layer` is shown in drawings"),
    Field::optional("layer", Kind::Text, "", "the layer it is drawn in"),
    Field::optional(
        "versioned",
        Kind::Bool,
        "false",
        "Kedro's versions are not kept: what wrote a dataset is in its receipt",
    ),
    Field::optional("version", Kind::Any, "", "read by Kedro only"),
    Field::optional("fs_args", Kind::Any, "", "read by Kedro only; give endpoints and keys under `credentials`"),
    Field::optional("validator", Kind::Any, "", "read by Kedro only"),
];

/// `path`, where a dataset lies.
pub(super) const PATH: Field = Field::required(
    "path",
    Kind::Text,
    "a local path (relative to the project) or a URL: s3://, gs://, az://, https://, memory://",
)
.or(&["filepath"]);
/// `load_args`.
pub(super) const LOAD_ARGS: Field = Field::optional("load_args", Kind::Map(&Kind::Any), "", "how it is read");
/// `save_args`.
pub(super) const SAVE_ARGS: Field = Field::optional("save_args", Kind::Map(&Kind::Any), "", "how it is written");

/// Options that Kedro's libraries take and that change nothing about what is read or written here.
const HARMLESS: &[&str] = &[
    "engine",
    "index",
    "mode",
    "memory_map",
    "low_memory",
    "use_pyarrow",
    "rechunk",
    "inferSchema",
    "encoding",
    "index_col",
];

/// `layer:`, or Kedro-Viz's place for it.
pub(super) fn layer(spec: &DatasetSpec) -> Option<String> {
    let node = spec.options.get("layer").or_else(|| spec.options.get("metadata")?.get("kedro-viz")?.get("layer"))?;
    node.as_text().map(str::to_owned)
}

/// Where an entry's data lies.
pub(super) fn location(spec: &DatasetSpec, entry: &Record<'_>, problems: &mut Diagnostics) -> Option<Location> {
    let path = entry.text("path")?;
    // A name that `credentials.yml` does not have was reported where it was looked up.
    let credentials = entry.node("credentials").filter(|node| node.as_map().is_some());
    match Location::parse(path, credentials) {
        Ok(location) => Some(location),
        Err(error) => {
            let message = format!("dataset `{}`: {error}", spec.name);
            problems.push(Diagnostic::error("data::bad-location", message).at(entry.span("path"), ""));
            None
        }
    }
}

/// A problem with one option.
pub(super) fn bad_option(spec: &DatasetSpec, node: &Node, message: &str) -> Diagnostic {
    Diagnostic::error("data::bad-option", format!("dataset `{}`: {message}", spec.name)).at(node.span, "")
}

/// Holds `load_args` or `save_args` against the keys that mean something here.
pub(super) fn warn_unread(spec: &DatasetSpec, under: &str, known: &[&str], problems: &mut Diagnostics) {
    let Some(map) = spec.options.get(under).and_then(Node::as_map) else { return };
    let unread: Vec<(&str, &Entry)> =
        map.iter().filter(|(key, _)| !known.contains(key) && !HARMLESS.contains(key)).collect();
    for (key, entry) in unread {
        let message = format!("dataset `{}`: `{under}.{key}` has no meaning for flow and is not read", spec.name);
        let diagnostic = Diagnostic::warning("data::ignored-option", message).at(entry.key_span, "");
        problems.push(diagnostic.help_opt(did_you_mean(key, known.iter().copied())));
    }
}

/// Keys of `save_args` and of the entry itself that say how partitions are computed and saved.
pub(super) const WRITE_KEYS: &[&str] = &["max_workers", "timeout", "on_error", "overwrite"];

/// The same as fields, for types that take them at the top of the entry.
pub(super) const MAX_WORKERS: Field =
    Field::optional("max_workers", Kind::Integer(1, 10_000), "10", "partitions worked on at once");
/// See [`MAX_WORKERS`].
pub(super) const TIMEOUT: Field = Field::optional(
    "timeout",
    Kind::Duration,
    "60",
    "how long the work on one partition, or on a chunk of a large one, may take; waiting for a rate limit is not work",
);
/// See [`MAX_WORKERS`].
pub(super) const ON_ERROR: Field = Field::optional(
    "on_error",
    Kind::Choice(&["stop", "continue"]),
    "stop",
    "what one failed partition means for the others",
);
/// See [`MAX_WORKERS`].
pub(super) const OVERWRITE: Field = Field::optional(
    "overwrite",
    Kind::Bool,
    "false",
    "after a run that succeeded, only its partitions are left; data files that flow did not write may be replaced",
);

/// How partitions are computed and saved: from `save_args`, else from the top of the entry.
pub(super) fn write_options(spec: &DatasetSpec, problems: &mut Diagnostics) -> WriteOptions {
    let mut options = WriteOptions::default();
    let find = |key: &str| {
        let node = spec.options.get("save_args").and_then(|args| args.get(key)).or_else(|| spec.options.get(key))?;
        (node.value != Value::Null).then_some(node)
    };
    // What stands at the top of the entry was held against its fields.
    let refuse = |node: &Node, key: &str, message: &str, problems: &mut Diagnostics| {
        if spec.options.get("save_args").is_some_and(|args| args.get(key).is_some()) {
            problems.push(bad_option(spec, node, message));
        }
    };
    if let Some(node) = find("max_workers") {
        // A name pattern gives texts: `max_workers: "{workers}"`.
        let number = match &node.value {
            Value::Int(number) => Some(*number),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        match number.and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=10_000).contains(n)) {
            Some(number) => options.max_workers = number,
            None => refuse(node, "max_workers", "`max_workers` must be a whole number from 1 to 10000", problems),
        }
    }
    if let Some(node) = find("timeout") {
        let text = match &node.value {
            Value::Int(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            _ => String::new(),
        };
        match parse_duration(&text).ok().filter(|duration| !duration.is_zero()) {
            Some(duration) => options.timeout = duration,
            None => {
                refuse(node, "timeout", "`timeout` must be a duration: seconds, or a string such as `10m`", problems)
            }
        }
    }
    if let Some(node) = find("on_error") {
        match node.as_text() {
            Some("stop") => options.on_error = OnError::Stop,
            Some("continue") => options.on_error = OnError::Continue,
            _ => refuse(node, "on_error", "`on_error` must be `stop` or `continue`", problems),
        }
    }
    if let Some(node) = find("overwrite") {
        match &node.value {
            Value::Bool(value) => options.overwrite = *value,
            _ => refuse(node, "overwrite", "`overwrite` must be `true` or `false`", problems),
        }
    }
    options
}

/// The format named `word`, with the options that `load_args` and `save_args` give it. What is given and not read
/// gets a warning; `known` are keys that somebody else reads.
pub(super) fn format(spec: &DatasetSpec, word: &str, known: &[&str], problems: &mut Diagnostics) -> Option<Format> {
    let (load, save) = (spec.options.get("load_args"), spec.options.get("save_args"));
    let (format, load_keys, save_keys): (Format, &[&str], &[&str]) = match word {
        "parquet" => (Format::Parquet(parquet(spec, save, problems)), &["columns"], &["compression", "row_group_size"]),
        "csv" => (
            Format::Csv(csv(spec, load, save, problems)),
            &[
                "sep",
                "delimiter",
                "separator",
                "header",
                "has_header",
                "dtype",
                "dtypes",
                "schema",
                "schema_overrides",
                "quotechar",
                "quote_char",
                "quote",
                "escapechar",
                "escape",
                "infer_schema_length",
            ],
            &["sep", "delimiter", "separator", "header", "include_header", "quotechar", "quote_char"],
        ),
        "json" | "jsonl" | "ndjson" => (Format::Json, &["lines", "orient"], &["lines", "orient"]),
        "arrow" | "feather" | "ipc" => (Format::Arrow, &[], &["compression"]),
        "text" => (Format::Text, &[], &[]),
        _ => return None,
    };
    warn_unread(spec, "load_args", &[load_keys, known].concat(), problems);
    warn_unread(spec, "save_args", &[save_keys, known].concat(), problems);
    Some(format)
}

fn parquet(spec: &DatasetSpec, save: Option<&Node>, problems: &mut Diagnostics) -> ParquetOptions {
    let mut options = ParquetOptions::default();
    if let Some(node) = save.and_then(|save| save.get("compression")) {
        let word = match &node.value {
            Value::Null => Some("none"),
            _ => node.as_text(),
        };
        match word.and_then(ParquetOptions::compression) {
            Some(compression) => options.compression = Some(compression),
            None => {
                let message = format!("`compression` must be one of {}", ParquetOptions::COMPRESSIONS.join(", "));
                problems.push(bad_option(spec, node, &message));
            }
        }
    }
    if let Some(node) = save.and_then(|save| save.get("row_group_size")) {
        match node.value {
            Value::Int(rows) if rows > 0 => options.group_rows = usize::try_from(rows).unwrap_or(usize::MAX),
            _ => problems.push(bad_option(spec, node, "`row_group_size` must be a whole number of rows, from 1")),
        }
    }
    options
}

fn csv(spec: &DatasetSpec, load: Option<&Node>, save: Option<&Node>, problems: &mut Diagnostics) -> CsvOptions {
    let mut options = CsvOptions::default();
    let find = |keys: &[&str]| {
        let found =
            keys.iter().find_map(|key| load.and_then(|n| n.get(key)).or_else(|| save.and_then(|n| n.get(key))))?;
        Some(found)
    };
    let byte = |keys: &[&str], problems: &mut Diagnostics| {
        let node = find(keys)?;
        match node.as_text().map(|text| if text == "\\t" { "\t" } else { text }) {
            Some(text) if text.len() == 1 => text.bytes().next(),
            _ if node.value == Value::Null => None,
            _ => {
                problems.push(bad_option(spec, node, &format!("`{}` must be one ASCII character", keys[0])));
                None
            }
        }
    };
    options.delimiter = byte(&["sep", "delimiter", "separator"], problems).unwrap_or(options.delimiter);
    options.quote = byte(&["quotechar", "quote_char", "quote"], problems).unwrap_or(options.quote);
    options.escape = byte(&["escapechar", "escape"], problems);
    if let Some(node) = find(&["header", "has_header", "include_header"]) {
        match &node.value {
            // pandas: the number of the line; `null` for none.
            Value::Bool(header) => options.header = *header,
            Value::Int(0) => options.header = true,
            Value::Null => options.header = false,
            Value::Text(text) if text == "infer" => options.header = true,
            _ => {
                problems.push(bad_option(spec, node, "`header` must be `true`, `false` or 0: the first line, or none"))
            }
        }
    }
    if let Some(node) = find(&["infer_schema_length"]) {
        match node.value {
            Value::Int(rows) if rows > 0 => options.infer_rows = usize::try_from(rows).unwrap_or(usize::MAX),
            Value::Null => options.infer_rows = usize::MAX,
            _ => problems.push(bad_option(
                spec,
                node,
                "`infer_schema_length` must be a whole number of rows, or null for all",
            )),
        }
    }
    for key in ["dtype", "dtypes", "schema", "schema_overrides"] {
        let Some(node) = load.and_then(|load| load.get(key)) else { continue };
        let Some(map) = node.as_map() else {
            problems.push(bad_option(spec, node, &format!("`{key}` must be a mapping from columns to types")));
            continue;
        };
        for (column, entry) in map.iter() {
            match entry.node.as_text().and_then(parse_type) {
                Some(data_type) => options.types.push((column.to_owned(), data_type)),
                None => {
                    let message = format!(
                        "the type of column `{column}` is not known; use str, int64, float64, bool, date or datetime"
                    );
                    problems.push(bad_option(spec, &entry.node, &message));
                }
            }
        }
    }
    // Types are looked up by name, and a name given twice has one meaning: the last.
    let mut seen: Vec<(String, DataType)> = Vec::new();
    for (column, data_type) in options.types.drain(..) {
        seen.retain(|(name, _)| *name != column);
        seen.push((column, data_type));
    }
    options.types = seen;
    options
}

/// `save_args: {partition_by: [bucket]}`, also `partitionBy` and `partition_cols`.
pub(super) fn partition_by(spec: &DatasetSpec, problems: &mut Diagnostics) -> Vec<String> {
    let Some(save) = spec.options.get("save_args") else { return Vec::new() };
    let Some(node) = PARTITION_KEYS.iter().find_map(|key| save.get(key)).filter(|node| node.value != Value::Null)
    else {
        return Vec::new();
    };
    let columns: Option<Vec<String>> = match (node.as_text(), node.as_list()) {
        (Some(text), _) => Some(vec![text.to_owned()]),
        (_, Some(list)) => list.iter().map(|item| item.as_text().map(str::to_owned)).collect(),
        _ => None,
    };
    let columns = columns.filter(|columns| {
        columns.iter().enumerate().all(|(i, column)| !column.is_empty() && !columns[..i].contains(column))
    });
    columns.unwrap_or_else(|| {
        problems.push(bad_option(spec, node, "`partition_by` must be a list of column names, each named once"));
        Vec::new()
    })
}

/// Spellings of `partition_by`.
pub(super) const PARTITION_KEYS: &[&str] = &["partition_by", "partitionBy", "partition_cols"];
