//! Options that several dataset types share: location, how partitions are computed and saved, how a table is written.

use std::time::Duration;

use super::{
    Location, OnError, WriteOptions,
    args::{Args, bad_option},
};
use crate::{
    config::{DatasetSpec, Field, Kind, Record},
    diagnostic::{Diagnostic, Diagnostics},
};

/// `path`, the location of a dataset.
pub(super) const PATH: Field = Field::required(
    "path",
    Kind::Text,
    "a local path (relative to the project) or a URL: s3://, gs://, az://, https://, memory://",
)
.or(&["filepath"]);
/// `schema`.
pub(super) const SCHEMA: Field = Field::optional(
    "schema",
    Kind::Map(&Kind::Text),
    "",
    "the types of columns in the words of SQL (`BIGINT`, `DOUBLE`, `VARCHAR`, `TIMESTAMP`): what is written gets them, files that do \
     not say types (`csv`, `json`) are read as them, and a value that its type does not hold is an error",
);
/// `load_args`.
pub(super) const LOAD_ARGS: Field = Field::optional("load_args", Kind::Map(&Kind::Any), "", "how it is read");
/// `save_args`.
pub(super) const SAVE_ARGS: Field = Field::optional("save_args", Kind::Map(&Kind::Any), "", "how it is written");

/// `layer:`, or Kedro-Viz's place for it.
pub(super) fn layer(spec: &DatasetSpec) -> Option<String> {
    let node = spec.options.get("layer").or_else(|| spec.options.get("metadata")?.get("kedro-viz")?.get("layer"))?;
    node.as_text().map(str::to_owned)
}

/// The location of an entry whose data is at one path: no `*` in it.
pub(super) fn single_location(spec: &DatasetSpec, entry: &Record<'_>, problems: &mut Diagnostics) -> Option<Location> {
    let location = location(spec, entry, problems)?;
    if location.glob().is_some() {
        let message = format!("dataset `{}`: only the path of a table may have a `*`", spec.name);
        problems.push(Diagnostic::error("data::bad-location", message).at(entry.span("path"), ""));
        return None;
    }
    Some(location)
}

/// The location of an entry's data.
pub(super) fn location(spec: &DatasetSpec, entry: &Record<'_>, problems: &mut Diagnostics) -> Option<Location> {
    let path = entry.text("path")?;
    // A name that `credentials.yml` does not have was reported where it was looked up; without that file it is needed only
    // where the location is opened.
    let credentials = entry.node("credentials").filter(|node| node.as_map().is_some() || node.as_text().is_some());
    match Location::parse(path, credentials) {
        Ok(location) => {
            for key in location.unread_credentials() {
                let message =
                    format!("dataset `{}`: credentials: `{key}` has no meaning for flow and is not read", spec.name);
                problems.push(Diagnostic::warning("data::ignored-option", message).at(entry.span("credentials"), ""));
            }
            Some(location)
        }
        Err(error) => {
            let message = format!("dataset `{}`: {error}", spec.name);
            problems.push(Diagnostic::error("data::bad-location", message).at(entry.span("path"), ""));
            None
        }
    }
}

/// How partitions are computed and saved: under `save_args`, or at the top of the entry.
pub(super) const WRITE_FIELDS: &[Field] = &[OVERWRITE, MAX_WORKERS, TIMEOUT, ON_ERROR];
/// See [`WRITE_FIELDS`].
pub(super) const MAX_WORKERS: Field =
    Field::optional("max_workers", Kind::Integer(1, 10_000), "10", "partitions worked on at once");
/// See [`WRITE_FIELDS`].
pub(super) const TIMEOUT: Field = Field::optional(
    "timeout",
    Kind::Duration,
    "60",
    "how long the work on one partition, or on a chunk of a large one, may take; waiting for a rate limit is not work",
);
/// See [`WRITE_FIELDS`].
pub(super) const ON_ERROR: Field = Field::optional(
    "on_error",
    Kind::Choice(&["stop", "continue"]),
    "stop",
    "what one failed partition means for the others",
);
/// See [`WRITE_FIELDS`].
pub(super) const OVERWRITE: Field = Field::optional(
    "overwrite",
    Kind::Bool,
    "false",
    "after a run that succeeded, only its partitions are left; data files that flow did not write may be replaced",
);

/// How partitions are computed and saved: from `save_args`, else from the top of the entry.
pub(super) fn write_options(
    spec: &DatasetSpec,
    save: &Args<'_>,
    entry: &Record<'_>,
    problems: &mut Diagnostics,
) -> WriteOptions {
    let mut options = WriteOptions::default();
    let given = |name| if save.record().node(name).is_some() { save.record() } else { entry };
    if let Some(workers) = given("max_workers").integer("max_workers") {
        options.max_workers = usize::try_from(workers).unwrap_or(options.max_workers);
    }
    let from = given("timeout");
    match (from.duration("timeout"), from.node("timeout")) {
        (Some(Duration::ZERO), Some(node)) => {
            problems.push(bad_option(&spec.name, node, "`timeout` must be longer than 0 s"));
        }
        (Some(timeout), _) => options.timeout = timeout,
        _ => {}
    }
    if given("on_error").word("on_error") == Some("continue") {
        options.on_error = OnError::Continue;
    }
    options.overwrite = given("overwrite").bool("overwrite").unwrap_or_default();
    options
}

/// `save_args` of a table, besides those of its format and [`WRITE_FIELDS`].
pub(super) const TABLE_SAVE_ARGS: &[Field] = &[
    Field::optional(
        "partition_by",
        Kind::List(&Kind::Text),
        "",
        "columns that become folders, in order: the table is written as hive partitions",
    )
    .or(&["partitionBy", "partition_cols"]),
    Field::optional("mode", Kind::Text, "overwrite", "Spark's and pandas' `mode`: a table is always replaced whole"),
];

/// `save_args: {partition_by: [bucket]}`.
pub(super) fn partition_by(spec: &DatasetSpec, save: &Args<'_>, problems: &mut Diagnostics) -> Vec<String> {
    let Some(columns) = save.record().texts("partition_by") else { return Vec::new() };
    if let (Some(column), Some(node)) =
        (columns.iter().find(|column| column.starts_with('.')), save.record().node("partition_by"))
    {
        let message = format!(
            "`partition_by: {column}` makes folders that begin with a dot, which every reader takes for hidden"
        );
        problems.push(bad_option(&spec.name, node, &message).help("rename the column"));
        return Vec::new();
    }
    let named_once = |(i, column): (usize, &&str)| !column.is_empty() && !columns[..i].contains(column);
    if columns.iter().enumerate().all(named_once) {
        return columns.into_iter().map(str::to_owned).collect();
    }
    if let Some(node) = save.record().node("partition_by") {
        let message = "`partition_by` must be a list of column names, each named once";
        problems.push(bad_option(&spec.name, node, message));
    }
    Vec::new()
}
