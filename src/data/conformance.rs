//! One suite for every dataset type, on the local disk and on a store in memory, and the odd cases of real data.
//!
//! Owns what its parts share: projects in temporary folders, entries of every type, and short ways to write and read.

mod damaged;
mod documents;
mod entries;
mod fuzz;
mod leases;
mod options;
mod partitions;
mod reading;
mod tables;

use std::{fs, path::Path, sync::Arc, time::Duration};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray},
    compute::concat_batches,
    datatypes::{Int64Type, SchemaRef},
};
use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
    prelude::SessionContext,
};
use futures::TryStreamExt as _;

use super::*;
use crate::{
    config::{DatasetSpec, Spanned, parse_yaml},
    diagnostic::{Diagnostics, Sources},
    model::{Fingerprint, PartitionKey, PartitionValue, Shape},
};

/// A project in a temporary folder.
struct Project {
    folder: tempfile::TempDir,
    stores: Stores,
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stores = Stores::new(folder.path(), Arc::new(|_| None));
        Self { folder, stores }
    }

    fn path(&self, relative: &str) -> std::path::PathBuf {
        self.folder.path().join(relative)
    }

    /// Everything below the project, hidden files too.
    fn files(&self) -> Vec<String> {
        fn walk(root: &Path, folder: &Path, out: &mut Vec<String>) {
            for item in fs::read_dir(folder).expect("a folder") {
                let path = item.expect("an item").path();
                if path.is_dir() {
                    walk(root, &path, out);
                } else {
                    out.push(path.strip_prefix(root).expect("inside").to_string_lossy().into_owned());
                }
            }
        }
        let mut out = Vec::new();
        walk(self.folder.path(), self.folder.path(), &mut out);
        out.sort();
        out
    }
}

fn spec(name: &str, entry: &str) -> DatasetSpec {
    let mut problems = Diagnostics::default();
    let mut sources = Sources::default();
    let id = sources.add("catalog.yml", entry);
    let options = parse_yaml(id, entry, &mut problems).expect("YAML");
    assert!(!problems.has_errors(), "{problems:?}");
    let kind = options.get("type").expect("a type");
    let kind = Spanned { value: kind.as_text().expect("a text").to_owned(), span: kind.span };
    DatasetSpec { name: name.to_owned(), name_span: options.span, kind, options }
}

fn try_dataset(entry: &str) -> (Option<Arc<dyn Dataset>>, Diagnostics) {
    let mut problems = Diagnostics::default();
    let dataset = decode(&spec("d", entry), DATASETS, &mut problems);
    (dataset, problems)
}

pub(super) fn dataset(entry: &str) -> Arc<dyn Dataset> {
    let (dataset, problems) = try_dataset(entry);
    dataset.unwrap_or_else(|| panic!("{entry}: {problems:?}"))
}

fn table(keys: &[i64]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..keys.len() as i64));
    let texts: ArrayRef =
        Arc::new(StringArray::from_iter((0..keys.len()).map(|i| (i % 3 != 1).then(|| format!("text {i}")))));
    let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("text", texts, true), ("bucket", keys, true)])
        .expect("a table")
}

fn stream(schema: &SchemaRef, batches: Vec<Result<RecordBatch, DataFusionError>>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), futures::stream::iter(batches)))
}

async fn write(
    project: &Project,
    dataset: &dyn Dataset,
    batches: &[RecordBatch],
    receipt: &str,
) -> Result<Written, DataError> {
    let table = stream(&batches[0].schema(), batches.iter().cloned().map(Ok).collect());
    let request = WriteRequest { table, receipt: Fingerprint::of(receipt), progress: &|_| (), computed: &|| None };
    dataset.table_sink().expect("a table").write_table(&project.stores, request).await
}

async fn collect(stream: SendableRecordBatchStream) -> Result<RecordBatch, DataError> {
    let schema = stream.schema();
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    Ok(concat_batches(&schema, &batches).expect("one schema"))
}

async fn read(project: &Project, dataset: &dyn Dataset) -> Result<RecordBatch, DataError> {
    let session = session(512 << 20, 2).expect("a session");
    let frame = session.read_table(dataset.table_source().expect("a table").table(&project.stores).await?)?;
    collect(frame.execute_stream().await?).await
}

async fn sql(project: &Project, dataset: &dyn Dataset, query: &str) -> String {
    let session: SessionContext = session(512 << 20, 2).expect("a session");
    session
        .register_table("t", dataset.table_source().expect("a table").table(&project.stores).await.expect("a table"))
        .expect("registers");
    let batches = session.sql(query).await.expect("a query").collect().await.expect("rows");
    arrow::util::pretty::pretty_format_batches(&batches).expect("prints").to_string()
}

fn column(batch: &RecordBatch, name: &str) -> Vec<i64> {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name} in {:?}", batch.schema()));
    column.as_primitive::<Int64Type>().values().to_vec()
}

fn sorted(mut numbers: Vec<i64>) -> Vec<i64> {
    numbers.sort_unstable();
    numbers
}

/// Where every type is tried, with what its entry needs there.
const PLACES: &[&str] = &["data/some.table", "memory://store/some.table"];

fn entries(shape: Shape) -> Vec<String> {
    let mut out = Vec::new();
    // One with a checkpoint has tests of its own: what is read of it depends on what was read before.
    for kind in DATASETS.iter().filter(|kind| kind.name() != "incremental") {
        let inner = if kind.name() == "partitioned" { ["parquet", "csv", "json", "arrow"].as_slice() } else { &[""] };
        for (place, inner) in PLACES.iter().flat_map(|place| inner.iter().map(move |inner| (place, inner))) {
            let inner = if inner.is_empty() { String::new() } else { format!(", dataset: {inner}") };
            let path = if kind.name() == "memory" { String::new() } else { format!(", path: '{place}'") };
            let entry = format!("{{type: {}{path}{inner}}}", kind.name());
            if dataset(&entry).info().shape == shape {
                out.push(entry);
            }
        }
    }
    assert!(out.len() > 2, "{shape}");
    out
}

fn key(bucket: i64) -> PartitionKey {
    PartitionKey::integer("bucket", bucket)
}

async fn commit(
    project: &Project,
    dataset: &dyn Dataset,
    key: &PartitionKey,
    rows: &RecordBatch,
    work: &str,
) -> Written {
    let part = dataset
        .partition_sink()
        .expect("partitions")
        .write_partition(&project.stores, key, Fingerprint::of(work), rows.schema())
        .expect("begins");
    let part = part.write(rows.clone()).await.expect("takes rows");
    part.commit(RowOutcomes::default()).await.expect("commits")
}

fn payload(ids: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef)]).expect("one column")
}

fn dataset_of_table(place: &str, by: &str) -> Arc<dyn Dataset> {
    dataset(&format!("{{type: parquet, path: '{place}', save_args: {{partition_by: [{by}]}}}}"))
}
