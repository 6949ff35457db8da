//! The table of dataset types, and how an entry of the catalog becomes a dataset.

use std::sync::Arc;

use super::{
    Dataset, DatasetInfo, DatasetType, FileType, TypeInfo,
    args::{Args, ArgsTables, DeclaredArgs, FormatArgs, bad_option, unread},
    checkpoint::{Checkpoint, UnreadCheckpoint},
    declared::{DeclaredColumns, declared},
    document,
    file_dataset::FileDataset,
    format::{self, FileFormat, FormatType},
    grouping::PartitionUnit,
    incremental::IncrementalDataset,
    library::Library,
    location::{Location, unsupported_scheme},
    memory::MEMORY,
    options::{
        LOAD_ARGS, MAX_WORKERS, ON_ERROR, OVERWRITE, PATH, SAVE_ARGS, SCHEMA, TABLE_SAVE_ARGS, TIMEOUT, WRITE_FIELDS,
        layer, location, partition_by, single_location, write_options,
    },
    unsupported::{KEDRO_TYPES, UnsupportedDataset},
};
use crate::{
    config::{DATASET_FIELDS, DatasetSpec, Field, Kind, Map, Node, Record, Value},
    diagnostic::{Diagnostic, Diagnostics, did_you_mean},
    model::Shape,
};

/// Every dataset type. One line adds one; a file format is the type of tables in such files.
pub static DATASETS: &[&'static dyn DatasetType] = &[
    &TableType(&format::parquet::PARQUET),
    &TableType(&format::csv::CSV),
    &TableType(&format::json::JSON),
    &TableType(&format::arrow::ARROW),
    &PartitionedType,
    &IncrementalType,
    &MEMORY,
    &document::TEXT,
    &document::YAML,
    &document::JSON,
];

/// Reads an entry of the catalog as one of `types` (mostly [`DATASETS`]). Pure: no disk, no network, no environment. `None` when there were problems.
pub fn decode(
    spec: &DatasetSpec,
    types: &[&'static dyn DatasetType],
    problems: &mut Diagnostics,
) -> Option<Arc<dyn Dataset>> {
    let word = spec.kind.value.as_str();
    let Some(found) = find(types, word) else { return unknown(spec, types, problems) };
    let what = format!("dataset `{}`", spec.name);
    let entry = Record::read_tables(&spec.options, &what, &[DATASET_FIELDS, found.fields()], problems)?;
    if entry.text("path").is_some_and(|path| unsupported_scheme(path).is_some()) {
        return Some(Arc::new(unsupported(spec, canonical(word), found.shape())));
    }
    // Read as they are, the folders of all versions would be one table.
    if entry.bool("versioned") == Some(true) {
        let name = format!("{} (versioned)", canonical(word));
        return Some(Arc::new(unsupported(spec, name, found.shape())));
    }
    let dataset = found.decode(spec, &entry, types, problems)?;
    entry.is_sound().then_some(dataset)
}

/// The type behind a word: its name here, or Kedro's with or without its package.
pub(super) fn find(types: &[&'static dyn DatasetType], word: &str) -> Option<&'static dyn DatasetType> {
    let short = canonical(word);
    types.iter().copied().find(|kind| kind.name() == short || kind.aliases().iter().any(|alias| *alias == short))
}

/// The formats of these types.
fn formats<'a>(types: &'a [&'static dyn DatasetType]) -> impl Iterator<Item = &'static dyn FormatType> + 'a {
    types.iter().filter_map(|kind| kind.file_type()).map(|FileType(format)| format)
}

/// The format that is called so under `file_format:`.
fn find_format(types: &[&'static dyn DatasetType], word: &str) -> Option<&'static dyn FormatType> {
    formats(types).find(|format| format.type_info().name == word || format.file_format_names().contains(&word))
}

/// What `word` may be instead, for messages.
fn format_names(types: &[&'static dyn DatasetType]) -> String {
    formats(types).map(|format| format.type_info().name).collect::<Vec<_>>().join(", ")
}

/// Kedro's names without their package and in today's spelling.
pub(super) fn canonical(word: &str) -> String {
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
    if is_typo(word) {
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
    let shape = match (partitioned, tabular) {
        (true, _) => Shape::Partitions,
        (false, true) => Shape::Table,
        (false, false) => Shape::Value,
    };
    Some(Arc::new(unsupported(spec, short, shape)))
}

/// True for a type that neither `flow` nor Kedro nor a project of its own has.
fn is_typo(word: &str) -> bool {
    let short = canonical(word);
    let Some((package, _)) = short.split_once('.') else { return !word.ends_with("Dataset") };
    let kedros = KEDRO_TYPES.iter().any(|known| known.split('.').next() == Some(package));
    kedros && !KEDRO_TYPES.contains(&short.as_str())
}

/// A dataset that can be checked and drawn, and not run.
pub(super) fn unsupported(spec: &DatasetSpec, type_name: String, shape: Shape) -> UnsupportedDataset {
    let path = path_of(&spec.options).or_else(|| path_of(spec.options.get("dataset")?));
    // What cannot be listed here may still be read by Kedro, if it is no path at all.
    let known = path.filter(|path| unsupported_scheme(path).is_none());
    let location = known.and_then(|path| Location::parse(path, spec.options.get("credentials")).ok());
    let info = DatasetInfo {
        name: spec.name.clone(),
        type_name,
        shape,
        location: path.map(str::to_owned),
        persistent: true,
        supported: false,
        layer: layer(spec),
    };
    let versioned = spec.options.get("versioned").is_some_and(|node| node.value == Value::Bool(true));
    let external = shape != Shape::Partitions && location.is_some() == path.is_some();
    UnsupportedDataset {
        info,
        entry: spec.options.clone(),
        location,
        versioned,
        external,
        of_kedro: false,
        native: None,
    }
}

fn path_of(entry: &Node) -> Option<&str> {
    entry.get("path").or_else(|| entry.get("filepath")).and_then(Node::as_text)
}

/// A type whose data is one table in files of one format.
struct TableType(&'static dyn FormatType);

impl DatasetType for TableType {
    fn type_info(&self) -> TypeInfo {
        self.0.type_info()
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            PATH,
            SCHEMA,
            LOAD_ARGS,
            SAVE_ARGS,
            Field::optional(
                "file_format",
                Kind::Text,
                "",
                "what the files hold, where the type does not say it (Spark)",
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

    fn load_args(&self) -> Vec<&'static [Field]> {
        vec![self.0.load_args()]
    }

    fn save_args(&self) -> Vec<&'static [Field]> {
        vec![self.0.save_args(), TABLE_SAVE_ARGS, WRITE_FIELDS]
    }

    fn file_type(&self) -> Option<FileType> {
        Some(FileType(self.0))
    }

    fn decode(
        &self,
        spec: &DatasetSpec,
        entry: &Record<'_>,
        types: &[&'static dyn DatasetType],
        problems: &mut Diagnostics,
    ) -> Option<Arc<dyn Dataset>> {
        let mut format = self.0;
        if let (Some(word), Some(node)) = (entry.text("file_format"), entry.node("file_format")) {
            match find_format(types, word) {
                Some(found) => format = found,
                None => {
                    let message = format!("unknown `file_format: {word}`, expected one of {}", format_names(types));
                    problems.push(bad_option(&spec.name, node, &message));
                }
            }
        }
        let library = Library::of(&spec.kind.value);
        let (declared, typed) = declared(&spec.name, entry.node("schema"), format, problems);
        let schema = entry.node("schema").filter(|_| !typed);
        let load = ArgsTables { read: vec![format.load_args()], inert: format.inert_load_args() };
        let save = ArgsTables { read: Self(format).save_args(), inert: format.inert_save_args() };
        let args = DeclaredArgs::of(spec, library, load, save, problems);
        let (load, save) = (args.load.read(problems), args.save.read(problems));
        let replaces = mode(spec, &save, problems);
        // The files of a folder have names of flow.
        let file_name = entry.text("path").filter(|_| library != Library::Spark);
        let file_format = entry.text("file_format");
        let args =
            FormatArgs { dataset: &spec.name, library, load: &load, save: &save, schema, file_format, file_name };
        let format = format.decode(&args, problems);
        let partition_by = partition_by(spec, &save, problems);
        let mut options = write_options(spec, &save, entry, problems);
        if save.record().node("overwrite").or_else(|| entry.node("overwrite")).is_none() {
            options.overwrite = replaces;
        }
        let location = location(spec, entry, problems)?;
        Some(Arc::new(FileDataset {
            info: info(spec, format.name(), Shape::Table, location.shown()),
            location,
            format,
            declared,
            typed,
            partition_by,
            suffix: String::new(),
            unit: PartitionUnit::Hive,
            folder: canonical(&spec.kind.value).contains("Spark"),
            options,
            checkpoint: None,
            entry: canonical(&spec.kind.value).starts_with("spark.").then(|| spec.options.clone()),
        }))
    }
}

/// Reads Spark's and pandas' `mode`: a table is always replaced whole. True for `overwrite`.
fn mode(spec: &DatasetSpec, save: &Args<'_>, problems: &mut Diagnostics) -> bool {
    let Some(node) = save.record().node("mode") else { return false };
    match node.as_text() {
        Some("overwrite") => return true,
        Some("w" | "wb") => {}
        Some(mode @ ("append" | "a" | "upsert")) => {
            let message = format!(
                "`mode: {mode}` is not supported: a table is replaced whole, so that a second run gives the same result"
            );
            problems.push(bad_option(&spec.name, node, &message));
        }
        _ => {
            let message =
                format!("dataset `{}`: `save_args.mode` is read as `overwrite`: a table is replaced whole", spec.name);
            problems.push(Diagnostic::warning("data::ignored-option", message).at(node.span, ""));
        }
    }
    false
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

/// `dataset` of a folder of partitions.
const INNER: Field = Field::required(
    "dataset",
    Kind::Any,
    "what one partition is: a type (`parquet`), or a mapping with `type` and its options",
);
/// `filename_suffix` of a folder of partitions.
const SUFFIX: Field =
    Field::optional("filename_suffix", Kind::Text, "", "how names of partition files end, as in `.parquet`");

struct PartitionedType;

impl DatasetType for PartitionedType {
    fn shape(&self) -> Shape {
        Shape::Partitions
    }

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
            doc: "a folder of partitions, hive folders or files, each read, computed and saved on its own",
        }
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            PATH,
            INNER,
            SUFFIX,
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

    fn inert_load_args(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            Field::optional("maxdepth", Kind::Choice(&["null"]), "", "partitions are found at any depth"),
            Field::optional("withdirs", Kind::Choice(&["false"]), "", "folders are no partitions"),
        ];
        FIELDS
    }

    fn save_args(&self) -> Vec<&'static [Field]> {
        vec![WRITE_FIELDS]
    }

    fn decode(
        &self,
        spec: &DatasetSpec,
        entry: &Record<'_>,
        types: &[&'static dyn DatasetType],
        problems: &mut Diagnostics,
    ) -> Option<Arc<dyn Dataset>> {
        // Kedro's own type has Kedro's partitions; MATRIX reads what Spark wrote, as `flow` does.
        let unit = match canonical(&spec.kind.value).as_str() {
            "partitions.PartitionedDataset" | "PartitionedDataset" => PartitionUnit::File,
            _ => PartitionUnit::FolderOrFile,
        };
        Some(match partitions(self, unit, spec, entry, types, problems)? {
            Partitions::Files(files) => Arc::new(*files),
            Partitions::Unsupported(dataset) => dataset,
        })
    }
}

/// What an entry of partitions is.
enum Partitions {
    Files(Box<FileDataset>),
    /// Only Python reads the files.
    Unsupported(Arc<dyn Dataset>),
}

/// A folder of partitions, by the options that all types of partitions share.
fn partitions(
    kind: &dyn DatasetType,
    unit: PartitionUnit,
    spec: &DatasetSpec,
    entry: &Record<'_>,
    types: &[&'static dyn DatasetType],
    problems: &mut Diagnostics,
) -> Option<Partitions> {
    let load = ArgsTables { read: kind.load_args(), inert: kind.inert_load_args() };
    let save = ArgsTables { read: kind.save_args(), inert: kind.inert_save_args() };
    let args = DeclaredArgs::of(spec, Library::of(&spec.kind.value), load, save, problems);
    args.load.read(problems);
    let options = write_options(spec, &args.save.read(problems), entry, problems);
    let location = single_location(spec, entry, problems);
    let (format, declared, typed) = match inner_format(spec, entry, types, problems)? {
        Inner::Format(format, declared, typed) => (format, declared, typed),
        Inner::Unsupported(inner) => {
            let kind = format!("{} of {}", canonical(&spec.kind.value), canonical(&inner));
            return Some(Partitions::Unsupported(Arc::new(unsupported(spec, kind, Shape::Partitions))));
        }
    };
    let suffix = entry.text("filename_suffix").unwrap_or_default().to_owned();
    if suffix.contains('/') {
        if let Some(node) = entry.node("filename_suffix") {
            let message = "`filename_suffix` is the end of a file's name and holds no `/`";
            problems.push(bad_option(&spec.name, node, message));
        }
        return None;
    }
    let location = location?;
    let info = info(spec, "partitioned", Shape::Partitions, location.shown());
    let partition_by = Vec::new();
    let folder = true;
    let files = FileDataset {
        info,
        location,
        format,
        declared,
        typed,
        partition_by,
        suffix,
        unit,
        folder,
        options,
        checkpoint: None,
        entry: None,
    };
    Some(Partitions::Files(Box::new(files)))
}

struct IncrementalType;

impl DatasetType for IncrementalType {
    fn shape(&self) -> Shape {
        Shape::Partitions
    }

    fn type_info(&self) -> TypeInfo {
        TypeInfo {
            name: "incremental",
            aliases: &["partitions.IncrementalDataset", "IncrementalDataset"],
            doc: "a folder of partitions, of which those after a checkpoint are read; `confirms:` of a node moves it",
        }
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            PATH,
            INNER,
            SUFFIX,
            Field::optional(
                "checkpoint",
                Kind::Any,
                "",
                "`force_checkpoint` (or it alone: an id), `comparison_func` (`operator.gt` or `operator.ge`) and `filepath`",
            ),
            MAX_WORKERS,
            TIMEOUT,
            ON_ERROR,
            LOAD_ARGS,
            SAVE_ARGS,
            Field::optional("filepath_arg", Kind::Text, "", "read by Kedro only"),
        ];
        FIELDS
    }

    fn inert_load_args(&self) -> &'static [Field] {
        PartitionedType.inert_load_args()
    }

    fn save_args(&self) -> Vec<&'static [Field]> {
        const FIELDS: &[Field] = &[MAX_WORKERS, TIMEOUT, ON_ERROR];
        vec![FIELDS]
    }

    fn decode(
        &self,
        spec: &DatasetSpec,
        entry: &Record<'_>,
        types: &[&'static dyn DatasetType],
        problems: &mut Diagnostics,
    ) -> Option<Arc<dyn Dataset>> {
        let mut files = match partitions(self, PartitionUnit::File, spec, entry, types, problems)? {
            Partitions::Files(files) => *files,
            Partitions::Unsupported(dataset) => return Some(dataset),
        };
        files.info.type_name = "incremental".to_owned();
        let checkpoint = match entry.node("checkpoint") {
            None => Checkpoint::default(),
            Some(node) => match Checkpoint::of(node, entry.text("path").unwrap_or_default()) {
                Ok(checkpoint) => checkpoint,
                Err(UnreadCheckpoint::Wrong(message)) => {
                    problems.push(bad_option(&spec.name, node, &message));
                    return None;
                }
                Err(UnreadCheckpoint::Unsupported(what)) => {
                    let kind = format!("{} with {what}", canonical(&spec.kind.value));
                    return Some(Arc::new(unsupported(spec, kind, Shape::Partitions)));
                }
            },
        };
        Some(Arc::new(IncrementalDataset::new(files, checkpoint)))
    }
}

/// What a partition's file holds.
enum Inner {
    /// With what is declared of its columns, and whether its files say their types.
    Format(Arc<dyn FileFormat>, DeclaredColumns, bool),
    /// A type that only Python reads.
    Unsupported(String),
}

/// What a partition's file holds: a type of the registry, with options where it is a mapping. Its location is the
/// partition's.
fn inner_format(
    spec: &DatasetSpec,
    entry: &Record<'_>,
    types: &[&'static dyn DatasetType],
    problems: &mut Diagnostics,
) -> Option<Inner> {
    let dataset = entry.node("dataset")?;
    let word = match (&dataset.value, dataset.get("type")) {
        (Value::Text(word), _) => word.as_str(),
        (Value::Map(_), Some(kind)) => kind.as_text().unwrap_or_default(),
        _ => {
            problems.push(bad_option(&spec.name, dataset, "`dataset` must be a type, or a mapping with `type`"));
            return None;
        }
    };
    let of_type = find(types, word).map_or_else(|| find_format(types, word), |kind| Some(kind.file_type()?.0));
    let given = dataset.get("file_format").and_then(Node::as_text);
    let found = of_type.and_then(|format| given.map_or(Some(format), |word| find_format(types, word)));
    let Some(format) = found else {
        if of_type.is_none() && !is_typo(word) {
            return Some(Inner::Unsupported(word.to_owned()));
        }
        let word = of_type.and(given).unwrap_or(word);
        let message = format!("partitions of type `{word}` are not supported; use one of {}", format_names(types));
        problems.push(bad_option(&spec.name, dataset, &message));
        return None;
    };
    let library = Library::of(word);
    if let Some(map) = dataset.as_map() {
        unread_keys(&spec.name, library, map, problems);
    }
    let schema = dataset.get("schema").filter(|node| node.value != Value::Null);
    if let Some(node) = schema.filter(|node| node.as_map().is_none()) {
        problems.push(bad_option(&spec.name, node, "`schema` must be a mapping of columns to types of SQL"));
    }
    let (declared, typed) = declared(&spec.name, schema, format, problems);
    let schema = schema.filter(|_| !typed);
    let options = dataset.clone();
    let inner = DatasetSpec { name: spec.name.clone(), name_span: spec.name_span, kind: spec.kind.clone(), options };
    let load = ArgsTables { read: vec![format.load_args()], inert: format.inert_load_args() };
    let save = ArgsTables { read: vec![format.save_args()], inert: format.inert_save_args() };
    let args = DeclaredArgs::of(&inner, library, load, save, problems);
    let (load, save) = (args.load.read(problems), args.save.read(problems));
    let file_name = entry.text("filename_suffix");
    let file_format = given.or(Some(word));
    let args = FormatArgs { dataset: &spec.name, library, load: &load, save: &save, schema, file_format, file_name };
    Some(Inner::Format(format.decode(&args, problems), declared, typed))
}

/// The keys under `dataset:` of a folder of partitions that are read.
const INNER_KEYS: &[&str] = &["type", "schema", "load_args", "save_args", "file_format"];
/// Kedro's, which change nothing here.
const INERT_INNER_KEYS: &[&str] = &["metadata", "layer"];

/// Reports keys under `dataset:` that nothing reads.
fn unread_keys(dataset: &str, library: Library, map: &Map, problems: &mut Diagnostics) {
    let what = format!("`dataset` of dataset `{dataset}`");
    for (name, entry) in map.iter() {
        let known = INNER_KEYS.contains(&name) || name.starts_with("x-");
        let inert = library.is_foreign() && INERT_INNER_KEYS.contains(&name);
        if !(known || inert) {
            let help = did_you_mean(name, INNER_KEYS.iter().copied());
            problems.push(unread(library, &what, name, entry, help, INNER_KEYS.iter().copied()));
        }
    }
}
