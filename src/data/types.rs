//! The table of dataset types, and how an entry of the catalog becomes a dataset.

use std::sync::Arc;

use super::{
    Dataset, DatasetInfo, DatasetType, TypeInfo, WriteOptions,
    dataset::FileDataset,
    document::{self, Spelling, decode_document},
    memory::MEMORY,
    options::{
        COMMON, LOAD_ARGS, MAX_WORKERS, ON_ERROR, OVERWRITE, PARTITION_KEYS, PATH, SAVE_ARGS, TIMEOUT, WRITE_KEYS,
        bad_option, format, layer, location, partition_by, write_options,
    },
    unsupported::{KEDRO_TYPES, UnsupportedDataset},
};
use crate::{
    config::{DatasetSpec, Field, Kind, Record, Value},
    diagnostic::{Diagnostic, Diagnostics, did_you_mean},
    model::Shape,
};

/// Every dataset type. One line adds one.
pub static DATASETS: &[&'static dyn DatasetType] =
    &[&PARQUET, &CSV, &JSON, &ARROW, &PARTITIONED, &MEMORY, &document::TEXT, &document::YAML];

/// Reads an entry of the catalog as one of `types` (mostly [`DATASETS`]). Pure: no disk, no network, no environment. `None` when there were problems.
pub fn decode(
    spec: &DatasetSpec,
    types: &[&'static dyn DatasetType],
    problems: &mut Diagnostics,
) -> Option<Arc<dyn Dataset>> {
    let word = spec.kind.value.as_str();
    let Some(found) = find(types, word) else { return unknown(spec, types, problems) };
    let what = format!("dataset `{}`", spec.name);
    let entry = Record::read_tables(&spec.options, &what, &[COMMON, found.fields()], problems)?;
    let dataset = found.decode(spec, &entry, problems)?;
    entry.is_sound().then_some(dataset)
}

/// The type behind a word: its name here, or Kedro's with or without its package.
fn find(types: &[&'static dyn DatasetType], word: &str) -> Option<&'static dyn DatasetType> {
    let short = canonical(word);
    types.iter().copied().find(|kind| kind.name() == word || kind.aliases().iter().any(|alias| *alias == short))
}

/// Kedro's names without their package and in today's spelling.
fn canonical(word: &str) -> String {
    let short = ["kedro_datasets.", "kedro.io.", "kedro.extras.datasets.", "kedro_datasets_experimental."]
        .iter()
        .find_map(|prefix| word.strip_prefix(prefix))
        .unwrap_or(word);
    short.replace("DataSet", "Dataset")
}

fn unknown(
    spec: &DatasetSpec,
    types: &[&'static dyn DatasetType],
    problems: &mut Diagnostics,
) -> Option<Arc<dyn Dataset>> {
    let word = spec.kind.value.as_str();
    let short = canonical(word);
    let ours = || types.iter().flat_map(|kind| std::iter::once(kind.name()).chain(kind.aliases().iter().copied()));
    let package = short.split_once('.').map(|(package, _)| package);
    let kedros =
        package.is_some_and(|package| KEDRO_TYPES.iter().any(|known| known.split('.').next() == Some(package)));
    let typo =
        if package.is_none() { !word.ends_with("Dataset") } else { kedros && !KEDRO_TYPES.contains(&short.as_str()) };
    if typo {
        let known = || types.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        let help = did_you_mean(&short, ours().chain(KEDRO_TYPES.iter().copied()))
            .unwrap_or_else(|| format!("the types are {}", known()));
        let message = format!("dataset `{}` has an unknown type `{word}`", spec.name);
        problems.push(Diagnostic::error("data::unknown-type", message).at(spec.kind.span, "").help(help));
        return None;
    }
    let tabular = package.is_some_and(|package| {
        matches!(package, "pandas" | "spark" | "polars" | "dask" | "ibis" | "geopandas" | "snowflake")
    });
    let partitioned = short.contains("Partitioned") || short.contains("Incremental");
    let path = spec.options.get("path").or_else(|| spec.options.get("filepath")).and_then(|node| node.as_text());
    let info = DatasetInfo {
        name: spec.name.clone(),
        type_name: short,
        shape: match (partitioned, tabular) {
            (true, _) => Shape::Partitions,
            (false, true) => Shape::Table,
            (false, false) => Shape::Value,
        },
        location: path.map(str::to_owned),
        persistent: true,
        supported: false,
        layer: layer(spec),
    };
    Some(Arc::new(UnsupportedDataset { info }))
}

/// A type whose data is one table in files of one format.
struct TableType(TypeInfo);

static PARQUET: TableType = TableType(TypeInfo {
    name: "parquet",
    aliases: &[
        "pandas.ParquetDataset",
        "spark.SparkDataset",
        "spark.SparkDatasetV2",
        "matrix_gcp_datasets.gcp.LazySparkDataset",
        "matrix_gcp_datasets.LazySparkDataset",
        "polars.LazyPolarsDataset",
        "polars.EagerPolarsDataset",
        "polars.ParquetDataset",
        "dask.ParquetDataset",
        "pandas.GenericDataset",
    ],
    doc: "a parquet file, a folder of them, or hive partitions (`save_args: {partition_by: […]}`)",
});

static CSV: TableType = TableType(TypeInfo {
    name: "csv",
    aliases: &["pandas.CSVDataset", "polars.CSVDataset", "dask.CSVDataset"],
    doc: "a CSV file, a folder of them, or hive partitions",
});

static JSON: TableType = TableType(TypeInfo {
    name: "json",
    aliases: &["json.JSONDataset", "pandas.JSONDataset", "polars.JSONDataset"],
    doc: "JSON lines: one object a line; a `json.JSONDataset` is one JSON document",
});

static ARROW: TableType = TableType(TypeInfo {
    name: "arrow",
    aliases: &["pandas.FeatherDataset"],
    doc: "an Arrow IPC file (Feather), a folder of them, or hive partitions",
});

impl DatasetType for TableType {
    fn type_info(&self) -> TypeInfo {
        self.0
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            PATH,
            LOAD_ARGS,
            SAVE_ARGS,
            Field::optional(
                "file_format",
                Kind::Text,
                "parquet",
                "what Spark's and Polars' types hold: parquet, csv, json or ipc",
            ),
            OVERWRITE,
            MAX_WORKERS,
            TIMEOUT,
            ON_ERROR,
            Field::optional("provide_empty_if_not_present", Kind::Bool, "", "read by MATRIX only"),
            Field::optional("fs_provider", Kind::Text, "", "read by Kedro only"),
        ];
        FIELDS
    }

    fn decode(&self, spec: &DatasetSpec, entry: &Record<'_>, problems: &mut Diagnostics) -> Option<Arc<dyn Dataset>> {
        let kedro = canonical(&spec.kind.value);
        if kedro == "json.JSONDataset" {
            return decode_document(Spelling::Json, "json", spec, entry, problems);
        }
        let spark = kedro.contains("Spark");
        let word = match entry.text("file_format") {
            Some(word) if self.0.name == "parquet" => word.to_owned(),
            _ => self.0.name.to_owned(),
        };
        append_mode(spec, problems);
        let known = [PARTITION_KEYS, WRITE_KEYS].concat();
        let format = format(spec, &word, &known, problems);
        if let (None, Some(node)) = (&format, entry.node("file_format")) {
            problems.push(bad_option(spec, node, "`file_format` must be parquet, csv, json or ipc"));
        }
        let partition_by = partition_by(spec, problems);
        let mut options = write_options(spec, problems);
        let args = spec.options.get("save_args");
        let said = |key: &str| spec.options.get(key).or_else(|| args?.get(key)).is_some();
        if !said("overwrite") && args.and_then(|args| args.get("mode")?.as_text()) == Some("overwrite") {
            options.overwrite = true;
        }
        let (location, format) = (location(spec, entry, problems)?, format?);
        let info = info(spec, format.name(), Shape::Table, location.shown());
        Some(Arc::new(FileDataset {
            info,
            location,
            format,
            partition_by,
            suffix: String::new(),
            folder: spark,
            options,
        }))
    }
}

/// Spark's and pandas' `mode`: a table is always replaced whole.
fn append_mode(spec: &DatasetSpec, problems: &mut Diagnostics) {
    let Some(node) = spec.options.get("save_args").and_then(|args| args.get("mode")) else { return };
    match node.as_text() {
        Some("overwrite" | "w" | "wb") => {}
        Some(mode @ ("append" | "a" | "upsert")) => {
            let message = format!(
                "`mode: {mode}` cannot be had: a table is replaced whole, so that a second run gives the same result"
            );
            problems.push(bad_option(spec, node, &message));
        }
        _ => {
            let message =
                format!("dataset `{}`: `save_args.mode` is read as `overwrite`: a table is replaced whole", spec.name);
            problems.push(Diagnostic::warning("data::ignored-option", message).at(node.span, ""));
        }
    }
}

fn info(spec: &DatasetSpec, type_name: &str, shape: Shape, location: &str) -> DatasetInfo {
    DatasetInfo {
        name: spec.name.clone(),
        type_name: type_name.to_owned(),
        shape,
        location: Some(location.to_owned()),
        persistent: true,
        supported: true,
        layer: layer(spec),
    }
}

struct PartitionedType;

static PARTITIONED: PartitionedType = PartitionedType;

impl DatasetType for PartitionedType {
    fn type_info(&self) -> TypeInfo {
        TypeInfo {
            name: "partitioned",
            aliases: &[
                "partitions.PartitionedDataset",
                "PartitionedDataset",
                "matrix_gcp_datasets.gcpPartitionedAsyncParallelDataset",
                "matrix_gcp_datasets.gcp.PartitionedAsyncParallelDataset",
                "matrix_gcp_datasets.PartitionedAsyncParallelDataset",
            ],
            doc: "hive partitions, each read, computed and saved on its own",
        }
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            PATH,
            Field::required(
                "dataset",
                Kind::Any,
                "what one partition is: a type (`parquet`), or a mapping with `type` and its options",
            ),
            Field::optional("filename_suffix", Kind::Text, "", "how names of partition files end, as in `.parquet`"),
            OVERWRITE,
            MAX_WORKERS,
            TIMEOUT,
            ON_ERROR,
            LOAD_ARGS,
            SAVE_ARGS,
            Field::optional("filepath_arg", Kind::Text, "", "read by Kedro only"),
            Field::optional(
                "save_lazily",
                Kind::Bool,
                "",
                "read by Kedro only: partitions are always computed one by one",
            ),
        ];
        FIELDS
    }

    fn decode(&self, spec: &DatasetSpec, entry: &Record<'_>, problems: &mut Diagnostics) -> Option<Arc<dyn Dataset>> {
        super::options::warn_unread(spec, "load_args", &["maxdepth", "withdirs"], problems);
        super::options::warn_unread(spec, "save_args", WRITE_KEYS, problems);
        let options: WriteOptions = write_options(spec, problems);
        let location = location(spec, entry, problems);
        let dataset = entry.node("dataset")?;
        // The inner entry is one file, so its place comes from the partition.
        let (word, inner) = match (&dataset.value, dataset.get("type")) {
            (Value::Text(word), _) => (word.clone(), dataset.clone()),
            (Value::Map(_), Some(kind)) => (kind.as_text().unwrap_or_default().to_owned(), dataset.clone()),
            _ => {
                problems.push(bad_option(spec, dataset, "`dataset` must be a type, or a mapping with `type`"));
                return None;
            }
        };
        let word = match find(DATASETS, &word).map(DatasetType::name) {
            Some("parquet") => match dataset.get("file_format").and_then(|node| node.as_text()) {
                Some(format) => format.to_owned(),
                None => "parquet".to_owned(),
            },
            Some(name) => name.to_owned(),
            None => word,
        };
        let inner =
            DatasetSpec { name: spec.name.clone(), name_span: spec.name_span, kind: spec.kind.clone(), options: inner };
        let known = [PARTITION_KEYS, WRITE_KEYS].concat();
        let Some(format) = format(&inner, &word, &known, problems) else {
            let message =
                format!("partitions of type `{word}` cannot be read or written; use parquet, csv, json, arrow or text");
            problems.push(bad_option(spec, dataset, &message));
            return None;
        };
        let suffix = entry.text("filename_suffix").unwrap_or_default().to_owned();
        if suffix.contains('/') {
            if let Some(node) = entry.node("filename_suffix") {
                problems.push(bad_option(spec, node, "`filename_suffix` is the end of a file's name and holds no `/`"));
            }
            return None;
        }
        let location = location?;
        let info = info(spec, "partitioned", Shape::Partitions, location.shown());
        Some(Arc::new(FileDataset { info, location, format, partition_by: Vec::new(), suffix, folder: true, options }))
    }
}
