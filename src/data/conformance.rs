//! One suite for every dataset type, on the local disk and on a store in memory, and the odd cases of real data.

use std::{fs, path::Path, sync::Arc};

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
    model::PartitionValue,
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
    let request = WriteRequest { table, receipt: Fingerprint::of(receipt), progress: &|_| () };
    dataset.write_table(&project.stores, request).await
}

async fn collect(stream: SendableRecordBatchStream) -> Result<RecordBatch, DataError> {
    let schema = stream.schema();
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    Ok(concat_batches(&schema, &batches).expect("one schema"))
}

async fn read(project: &Project, dataset: &dyn Dataset) -> Result<RecordBatch, DataError> {
    let session = session(512 << 20, 2).expect("a session");
    let frame = session.read_table(dataset.table(&project.stores).await?)?;
    collect(frame.execute_stream().await?).await
}

async fn sql(project: &Project, dataset: &dyn Dataset, query: &str) -> String {
    let session: SessionContext = session(512 << 20, 2).expect("a session");
    session.register_table("t", dataset.table(&project.stores).await.expect("a table")).expect("registers");
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
    for kind in DATASETS {
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

#[test]
fn names_are_unique_and_documented() {
    let mut seen = std::collections::HashSet::new();
    for kind in DATASETS {
        assert!(!kind.doc().is_empty() && !kind.fields().is_empty(), "{}", kind.name());
        for name in std::iter::once(kind.name()).chain(kind.aliases().iter().copied()) {
            assert!(seen.insert(name), "{name} names two types");
        }
    }
}

#[tokio::test]
async fn tables_come_back_as_they_were_written() {
    for entry in entries(Shape::Table) {
        let (project, dataset) = (Project::new(), dataset(&entry));
        assert_eq!(dataset.state(&project.stores).await.expect("a state"), DatasetState::default(), "{entry}");
        let Err(missing) = dataset.table(&project.stores).await else { panic!("{entry}: nothing is there") };
        assert!(matches!(missing, DataError::Missing { .. }), "{entry}: {missing}");

        let rows = table(&[1, 1, 2, 3]);
        let written = write(&project, &*dataset, &[rows.slice(0, 1), rows.slice(1, 3)], "one").await.expect("writes");
        assert_eq!((written.rows, written.partitions), (4, 1), "{entry}");
        let back = read(&project, &*dataset).await.expect("reads");
        assert_eq!(back.columns(), rows.columns(), "{entry}");
        let state = dataset.state(&project.stores).await.expect("a state");
        assert_eq!(state.receipt, Some(Fingerprint::of("one")), "{entry}");

        // The same rows from other work: readers see no change.
        write(&project, &*dataset, &[rows], "two").await.expect("writes");
        let again = dataset.state(&project.stores).await.expect("a state");
        assert_eq!(again, DatasetState { receipt: Some(Fingerprint::of("two")), ..state }, "{entry}");
        write(&project, &*dataset, &[table(&[7])], "two").await.expect("writes");
        assert_ne!(dataset.state(&project.stores).await.expect("a state").digest, state.digest, "{entry}");
    }
}

#[tokio::test]
async fn a_table_without_rows_keeps_its_columns() {
    for entry in entries(Shape::Table).iter().filter(|entry| !entry.contains("json")) {
        let (project, dataset) = (Project::new(), dataset(entry));
        write(&project, &*dataset, &[table(&[])], "empty").await.expect("writes");
        let back = read(&project, &*dataset).await.expect("reads");
        let names: Vec<String> = back.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!((back.num_rows(), names.join(" ").as_str()), (0, "id text bucket"), "{entry}");
        assert!(dataset.state(&project.stores).await.expect("a state").receipt.is_some(), "{entry}");
    }
}

#[tokio::test]
async fn a_failing_stream_leaves_the_old_table() {
    let partitioned =
        PLACES.iter().map(|place| format!("{{type: parquet, path: '{place}', save_args: {{partition_by: [bucket]}}}}"));
    for entry in entries(Shape::Table).into_iter().chain(partitioned) {
        let (project, dataset) = (Project::new(), dataset(&entry));
        write(&project, &*dataset, &[table(&[1, 2])], "good").await.expect("writes");
        let (state, before) = (dataset.state(&project.stores).await.expect("a state"), project.files());
        let new = table(&[5, 6, 7]);
        let failure = DataFusionError::Execution("upstream broke".to_owned());
        let table = stream(&new.schema(), vec![Ok(new.slice(0, 2)), Ok(new.slice(2, 1)), Err(failure)]);
        let request = WriteRequest { table, receipt: Fingerprint::of("bad"), progress: &|_| () };
        let error = dataset.write_table(&project.stores, request).await.expect_err("upstream broke");
        assert!(error.to_string().contains("upstream broke"), "{entry}: {error}");
        assert_eq!(dataset.state(&project.stores).await.expect("a state"), state, "{entry}");
        assert_eq!(project.files(), before, "{entry}");
        assert_eq!(sorted(column(&read(&project, &*dataset).await.expect("reads"), "bucket")), [1, 2], "{entry}");
    }
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
    let part = dataset.write_partition(&project.stores, key, Fingerprint::of(work), rows.schema()).expect("begins");
    let part = part.write(rows.clone()).await.expect("takes rows");
    part.commit(RowOutcomes::default()).await.expect("commits")
}

fn payload(ids: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef)]).expect("one column")
}

#[tokio::test]
async fn partitions_are_committed_found_replaced_and_let_go() {
    let memory = "{type: memory, shape: partitions, overwrite: true}".to_owned();
    let on_disk = entries(Shape::Partitions).into_iter().map(|entry| entry.replace("}", ", overwrite: true}"));
    for entry in on_disk.chain([memory]) {
        if entry.contains("memory,") && !entry.contains("shape") {
            continue;
        }
        let (project, dataset) = (Project::new(), dataset(&entry));
        assert_eq!(dataset.partitions(&project.stores).await.expect("a listing"), [], "{entry}");
        assert_eq!(dataset.state(&project.stores).await.expect("a state"), DatasetState::default(), "{entry}");
        for bucket in [10, 9, 1] {
            assert_eq!(commit(&project, &*dataset, &key(bucket), &payload(&[bucket]), "old").await.rows, 1, "{entry}");
        }
        let listed = dataset.partitions(&project.stores).await.expect("a listing");
        assert_eq!(listed.iter().map(|p| p.key.clone()).collect::<Vec<_>>(), [key(1), key(9), key(10)], "{entry}");
        let [file] = listed[0].files.as_slice() else { panic!("{entry}: {listed:?}") };
        assert_eq!((file.fingerprint, file.rows, file.errors), (Some(Fingerprint::of("old")), Some(1), 0), "{entry}");

        commit(&project, &*dataset, &key(9), &payload(&[90, 91]), "new").await;
        let listed_again = dataset.partitions(&project.stores).await.expect("a listing");
        assert_eq!(listed_again[1].files.len(), 1, "{entry}: the old file is gone");
        assert_ne!(listed_again[1].digest, listed[1].digest, "{entry}");
        assert_eq!((&listed_again[0], &listed_again[2]), (&listed[0], &listed[2]), "{entry}");
        let loaded = collect(dataset.load_partition(&project.stores, &listed_again[1]).await.expect("loads"))
            .await
            .expect("rows");
        assert_eq!((column(&loaded, "id"), column(&loaded, "bucket")), (vec![90, 91], vec![9, 9]), "{entry}");

        let removed = dataset.retain_partitions(&project.stores, &[key(9)]).await.expect("removes");
        assert_eq!(removed, 2, "{entry}");
        let left = dataset.partitions(&project.stores).await.expect("a listing");
        assert_eq!(left.iter().map(|p| &p.key).collect::<Vec<_>>(), [&key(9)], "{entry}");
        assert!(!project.path("data/some.table/bucket=10").exists(), "{entry}: no empty folder is left");
    }
}

#[tokio::test]
async fn a_partition_written_in_parts_is_the_one_written_at_once_and_nobody_sees_it_before_its_commit() {
    // Numbers that nothing compresses: more than a spool holds in memory.
    let number = |i: i64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
    let all = payload(&(0..1_200_000).map(number).collect::<Vec<_>>());
    for path in ["p", "memory://p"] {
        let entry = format!("{{type: partitioned, path: '{path}', dataset: parquet, filename_suffix: .parquet}}");
        let (project, dataset) = (Project::new(), dataset(&entry));
        commit(&project, &*dataset, &key(1), &payload(&[7]), "old").await;
        commit(&project, &*dataset, &key(2), &all, "whole").await;
        let before = dataset.partitions(&project.stores).await.expect("a listing");
        let work = Fingerprint::of("parts");
        let mut part = dataset.write_partition(&project.stores, &key(1), work, all.schema()).expect("begins");
        for start in (0..all.num_rows()).step_by(100_000) {
            part = part.write(all.slice(start, 100_000)).await.expect("takes rows");
        }
        assert_eq!(dataset.partitions(&project.stores).await.expect("a listing"), before, "{path}");
        assert_eq!(part.commit(RowOutcomes { errors: 3, empty: 0 }).await.expect("commits").rows, 1_200_000, "{path}");
        let listed = dataset.partitions(&project.stores).await.expect("a listing");
        assert_eq!((listed[0].files.len(), listed[0].files[0].errors), (1, 3), "{path}");
        let mut rows = Vec::new();
        for partition in &listed {
            let loaded = dataset.load_partition(&project.stores, partition).await.expect("loads");
            rows.push(column(&collect(loaded).await.expect("rows"), "id"));
        }
        assert!(rows[0] == rows[1], "{path}: the same rows in the same order");
        // One that is given up leaves nothing.
        let before = project.files();
        let part = dataset.write_partition(&project.stores, &key(3), Fingerprint::of("given up"), all.schema());
        drop(part.expect("begins").write(all.clone()).await.expect("takes rows"));
        assert_eq!(project.files(), before, "{path}");
    }
}

#[tokio::test]
async fn without_overwrite_other_partitions_stay() {
    let (project, dataset) =
        (Project::new(), dataset("{type: partitioned, path: p, dataset: parquet, filename_suffix: parquet}"));
    for bucket in [1, 2] {
        commit(&project, &*dataset, &key(bucket), &payload(&[bucket]), "w").await;
    }
    assert_eq!(dataset.retain_partitions(&project.stores, &[key(1)]).await.expect("nothing to do"), 0);
    let listed = dataset.partitions(&project.stores).await.expect("a listing");
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0].files[0].fingerprint, Some(Fingerprint::of("w")), "a suffix without a dot gets one");
}

#[tokio::test]
async fn errors_in_rows_are_told_by_the_name() {
    let (project, dataset) =
        (Project::new(), dataset("{type: partitioned, path: p, dataset: parquet, filename_suffix: .parquet}"));
    let rows = payload(&[1, 2, 3]);
    let part = dataset.write_partition(&project.stores, &key(1), Fingerprint::of("w"), rows.schema()).expect("begins");
    part.write(rows).await.expect("takes rows").commit(RowOutcomes { errors: 2, empty: 1 }).await.expect("commits");
    let listed = dataset.partitions(&project.stores).await.expect("a listing");
    let file = &listed[0].files[0];
    assert_eq!((file.rows, file.errors, file.empty), (Some(3), 2, 1));
    let name = format!("bucket=1/{}-r3-e2-n1-b{}.parquet", Fingerprint::of("w"), listed[0].files[0].size);
    assert_eq!(listed[0].files[0].path, name);
}

#[tokio::test]
async fn any_text_is_a_key() {
    for place in PLACES {
        let project = Project::new();
        let dataset = dataset(&format!("{{type: partitioned, path: '{place}', dataset: parquet}}"));
        let table = dataset_of_table(place, "city");
        let cities = ["", " ", "%", "%2F", "..", "007", "=", "a b", "a/b", "c?d#e", "\u{7f}\n", "été", "日本"];
        for city in cities {
            let key = PartitionKey::new([(Arc::from("city"), PartitionValue::from_text(city))]);
            commit(&project, &*dataset, &key, &payload(&[1]), "w").await;
        }
        let listed = dataset.partitions(&project.stores).await.expect("a listing");
        let mut found: Vec<String> = listed.iter().map(|p| p.key.get("city").expect("a city").to_string()).collect();
        found.sort();
        assert_eq!(found, cities, "{place}");
        for partition in &listed {
            let rows =
                collect(dataset.load_partition(&project.stores, partition).await.expect("loads")).await.expect("rows");
            let city = rows.column_by_name("city").expect("promoted").as_string::<i32>().value(0).to_owned();
            assert_eq!(city, partition.key.get("city").expect("a city").to_string());
        }
        let rows = read(&project, &*table).await.expect("one table");
        assert_eq!(rows.num_rows(), cities.len(), "{place}");
    }
}

fn dataset_of_table(place: &str, by: &str) -> Arc<dyn Dataset> {
    dataset(&format!("{{type: parquet, path: '{place}', save_args: {{partition_by: [{by}]}}}}"))
}

#[tokio::test]
async fn written_partitions_keep_what_did_not_change() {
    for place in PLACES {
        let (project, dataset) = (Project::new(), dataset_of_table(place, "bucket"));
        let rows = table(&[1, 1, 2, 9, 10]);
        let first = write(&project, &*dataset, &[rows.slice(0, 1), rows.slice(1, 4)], "one").await.expect("writes");
        assert_eq!((first.rows, first.partitions, first.unchanged), (5, 4, 0), "{place}");
        let state = dataset.state(&project.stores).await.expect("a state");
        assert_eq!(state.receipt, Some(Fingerprint::of("one")));
        assert_eq!(
            sql(&project, &*dataset, "select bucket, count(*) as n from t group by bucket order by bucket")
                .await
                .lines()
                .count(),
            8
        );
        let shown = sql(&project, &*dataset, "select id, bucket from t where bucket = 10").await;
        assert!(shown.contains("| 4  | 10     |"), "{shown}");

        let again = write(&project, &*dataset, &[rows], "two").await.expect("writes");
        assert_eq!((again.partitions, again.unchanged), (4, 4), "{place}: cut otherwise into batches");
        assert_eq!(dataset.state(&project.stores).await.expect("a state").digest, state.digest, "{place}");

        let third = write(&project, &*dataset, &[table(&[1, 1, 3])], "three").await.expect("writes");
        assert_eq!((third.partitions, third.unchanged), (2, 1), "{place}");
        assert_eq!(
            sorted(column(&read(&project, &*dataset).await.expect("reads"), "bucket")),
            [1, 1, 3],
            "{place}: stale ones are gone"
        );
        assert_eq!(dataset.partitions(&project.stores).await.expect("a listing").len(), 2, "{place}");
    }
}

#[tokio::test]
async fn a_partitioned_table_may_become_empty() {
    for place in PLACES {
        let (project, dataset) = (Project::new(), dataset_of_table(place, "bucket"));
        write(&project, &*dataset, &[table(&[1])], "one").await.expect("writes");
        let written = write(&project, &*dataset, &[table(&[])], "none").await.expect("writes");
        assert_eq!(written, Written::default(), "{place}");
        let state = dataset.state(&project.stores).await.expect("a state");
        assert!(state.digest.is_some() && state.receipt == Some(Fingerprint::of("none")), "{place}: {state:?}");
        let back = read(&project, &*dataset).await.expect("an empty table");
        assert_eq!((back.num_rows(), back.num_columns()), (0, 3), "{place}");
        assert_eq!(dataset.partitions(&project.stores).await.expect("a listing"), [], "{place}");
    }
}

#[tokio::test]
async fn a_receipt_counts_only_while_nobody_touches_the_data() {
    let (project, dataset) = (Project::new(), dataset_of_table("data/t", "bucket"));
    write(&project, &*dataset, &[table(&[1, 2])], "one").await.expect("writes");
    assert_eq!(dataset.state(&project.stores).await.expect("a state").receipt, Some(Fingerprint::of("one")));
    fs::write(project.path("data/t/_SUCCESS"), "").expect("writes");
    fs::write(project.path("data/t/bucket=1/.part.crc"), "x").expect("writes");
    fs::create_dir(project.path("data/t/bucket=77")).expect("makes a folder");
    assert_eq!(
        dataset.state(&project.stores).await.expect("a state").receipt,
        Some(Fingerprint::of("one")),
        "what readers skip"
    );
    assert_eq!(read(&project, &*dataset).await.expect("reads").num_rows(), 2);
    fs::remove_dir_all(project.path("data/t/bucket=1")).expect("removes");
    assert_eq!(dataset.state(&project.stores).await.expect("a state").receipt, None, "a partition is gone");
}

#[tokio::test]
async fn refused_rows_are_named() {
    let (project, dataset) = (Project::new(), dataset_of_table("data/t", "bucket"));
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let nulls = RecordBatch::try_from_iter([("id", Arc::clone(&keys)), ("bucket", keys)]).expect("two columns");
    let error = write(&project, &*dataset, &[nulls], "w").await.expect_err("a null key").to_string();
    assert!(error.contains("`bucket`") && error.contains("row 2") && error.contains("`d`"), "{error}");
    let error = write(&project, &*dataset, &[table(&[1, 2, 1])], "w").await.expect_err("unsorted").to_string();
    assert!(error.contains("bucket=1") && error.contains("row 3"), "{error}");
    assert_eq!(project.files(), Vec::<String>::new());
}

#[test]
fn no_two_places_share_what_lies_beside_them() {
    let stores = Stores::new("/p", Arc::new(|_| None));
    let paths =
        ["a?1", "a?2", "a", "A", "a%3F1", "b/a?1", "memory://b", "memory://", "memory://b/a?1", "memory://b/a?2"];
    let roots = ["s3://b", "s3://b/dataset", "s3://b/a?1", "s3://b/a%3F1", "s3://c"];
    let mut seen = std::collections::HashSet::new();
    for path in paths.iter().chain(&roots) {
        let place = stores.open(&Location::parse(path, None).expect(path)).expect(path);
        for suffix in [".flow", ".flow-lock", ".flow-staging"] {
            let beside = place.sibling(suffix);
            assert!(seen.insert(beside.id()), "{path}: {} is another's", beside.id());
        }
    }
}

#[test]
fn names_of_what_is_staged_are_unique_among_processes_of_the_same_number() {
    let name = names::unique_name();
    assert!(!name.starts_with(&format!("{}-", std::process::id())), "{name}");
    assert_ne!(name, names::unique_name());
}

#[tokio::test]
async fn leftovers_of_a_dead_process_go_when_the_lease_is_taken() {
    let (project, dataset) = (Project::new(), dataset_of_table("data/t", "bucket"));
    fs::create_dir_all(project.path("data/.t.flow-staging/0123456789abcdef-2/bucket=1")).expect("makes folders");
    fs::write(project.path("data/.t.flow-staging/0123456789abcdef-2/bucket=1/x.parquet"), "half").expect("writes");
    let lease = project.stores.lease(&*dataset).await.expect("free");
    assert_eq!(project.files(), ["data/.t.flow-lock"]);
    let other = Stores::new(project.folder.path(), Arc::new(|_| None));
    let held = other.lease(&*dataset).await.expect_err("taken");
    assert!(matches!(&held, DataError::Held { by, .. } if by.contains(&std::process::id().to_string())), "{held}");
    write(&project, &*dataset, &[table(&[1])], "w").await.expect("writes");
    drop(lease);
    assert!(!project.path("data/.t.flow-lock").exists());
    let _again = other.lease(&*dataset).await.expect("free again");
}

#[tokio::test]
async fn a_lease_on_a_store_keeps_others_out() {
    let (project, dataset) = (Project::new(), dataset("{type: partitioned, path: 'memory://b/p', dataset: parquet}"));
    let lease = project.stores.lease(&*dataset).await.expect("free");
    assert!(matches!(project.stores.lease(&*dataset).await, Err(DataError::Held { .. })));
    drop(lease);
    // Given back in the background.
    for _ in 0..1000 {
        if project.stores.lease(&*dataset).await.is_ok() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the lease was never given back");
}

/// Waits for what the runtime does in the background.
async fn until(mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came");
}

#[tokio::test]
async fn a_lease_that_is_released_is_free_at_once_and_one_that_lives_is_renewed() {
    let stores = Stores::new("/p", Arc::new(|_| None)).with_lease_expiry(Duration::from_millis(400));
    let dataset = dataset("{type: partitioned, path: 'memory://b/p', dataset: parquet}");
    let lease = stores.lease(&*dataset).await.expect("free");
    // Longer than it lives without being renewed.
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_millis(1000) {
        let error = stores.lease(&*dataset).await.expect_err("held").to_string();
        assert!(error.contains("its lease ends at"), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!lease.lost().is_cancelled());
    lease.release().await;
    let again = stores.lease(&*dataset).await.expect("free");
    again.release().await;
}

#[tokio::test]
async fn a_lease_that_another_run_took_over_is_lost() {
    let stores = Stores::new("/p", Arc::new(|_| None)).with_lease_expiry(Duration::from_millis(100));
    let dataset = dataset("{type: partitioned, path: 'memory://b/p', dataset: parquet}");
    let lease = stores.lease(&*dataset).await.expect("free");
    let lock = stores.open(dataset.location().expect("a place")).expect("opens").sibling(".flow-lock");
    let mut other: serde_json::Value =
        serde_json::from_slice(&lock.read().await.expect("reads").expect("a lock")).expect("JSON");
    for (key, value) in [("token", "another"), ("host", "elsewhere")] {
        other[key] = value.into();
    }
    other["process"] = serde_json::Value::Null;
    lock.put(other.to_string().into(), &lock).await.expect("writes");
    tokio::time::timeout(Duration::from_secs(10), lease.lost().cancelled()).await.expect("it notices");
    lease.release().await;
    assert!(lock.read().await.expect("reads").is_some(), "the other's lock is not ours to remove");
    // Nobody renews the other one, so it can be taken over in its turn.
    until(async || stores.lease(&*dataset).await.is_ok()).await;
}

#[tokio::test]
async fn a_lock_that_nobody_can_read_keeps_nobody_out() {
    let project = Project::new();
    let dataset = dataset("{type: partitioned, path: 'memory://b/p', dataset: parquet}");
    let lock = project.stores.open(dataset.location().expect("a place")).expect("opens").sibling(".flow-lock");
    lock.put("{".into(), &lock).await.expect("writes");
    project.stores.lease(&*dataset).await.expect("taken over").release().await;
}

#[tokio::test]
async fn broken_files_are_named() {
    let (project, dataset) = (Project::new(), dataset("{type: partitioned, path: p, dataset: parquet}"));
    let many: Vec<i64> = (0..5000).map(|i| i * 7919 % 10007).collect();
    for bucket in [1, 2] {
        commit(&project, &*dataset, &key(bucket), &payload(&many), "w").await;
    }
    let listed = dataset.partitions(&project.stores).await.expect("a listing");
    let file = project.path("p").join(&listed[1].files[0].path);
    let whole = fs::read(&file).expect("reads");
    let mut middle = whole.clone();
    middle[4..60].fill(0xAB);
    for (what, bytes) in [("cut short", &whole[..whole.len() / 2]), ("empty", &[][..]), ("overwritten", &middle)] {
        fs::write(&file, bytes).expect("writes");
        let loaded = async { collect(dataset.load_partition(&project.stores, &listed[1]).await?).await };
        let error = loaded.await.expect_err(what).to_string();
        assert!(error.contains("p/bucket=2/") && error.contains("parquet"), "{what}: {error}");
    }
    let table = dataset_of_table("p", "bucket");
    fs::write(&file, &whole[..whole.len() / 2]).expect("writes");
    let error = read(&project, &*table).await.expect_err("cut short").to_string();
    assert!(error.contains("p/bucket=2/"), "{error}");
    fs::remove_file(&file).expect("removes");
    let loaded = async { collect(dataset.load_partition(&project.stores, &listed[1]).await?).await };
    assert!(loaded.await.expect_err("gone").to_string().contains("bucket=2"));
}

#[tokio::test]
async fn files_with_other_columns_are_named() {
    for kind in ["parquet", "csv", "arrow"] {
        let project = Project::new();
        let dataset = dataset(&format!("{{type: partitioned, path: p, dataset: {kind}}}"));
        let table = self::dataset(&format!("{{type: {kind}, path: p}}"));
        commit(&project, &*dataset, &key(1), &payload(&[1]), "w").await;
        let other = RecordBatch::try_from_iter([("id", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)])
            .expect("one column");
        commit(&project, &*dataset, &key(2), &other, "w").await;
        let error = read(&project, &*table).await.expect_err("text and number").to_string();
        assert!(error.contains("p/bucket=2/"), "{kind}: {error}");
    }
}

#[tokio::test]
async fn tables_of_others_are_read() {
    let project = Project::new();
    let files = [
        ("spark/_SUCCESS", String::new()),
        ("spark/bucket=1/part-0.csv", "id;bucket\n1;99\n".to_owned()),
        ("spark/bucket=10/part-0.csv", "id;bucket\n2;99\n".to_owned()),
        ("plain/a.csv", "id;x\n1;a\n".to_owned()),
        ("plain/sub/b.csv", "id;x\n2;b\n".to_owned()),
        ("nulls/bucket=__HIVE_DEFAULT_PARTITION__/a.csv", "id\n1\n".to_owned()),
    ];
    for (path, text) in files {
        let path = project.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("makes folders");
        fs::write(path, text).expect("writes");
    }
    let csv = |path: &str| dataset(&format!("{{type: pandas.CSVDataset, filepath: {path}, load_args: {{sep: ;}}}}"));
    let spark = read(&project, &*csv("spark")).await.expect("reads");
    assert_eq!(
        (sorted(column(&spark, "id")), sorted(column(&spark, "bucket"))),
        (vec![1, 2], vec![1, 10]),
        "the path wins"
    );
    assert_eq!(read(&project, &*csv("plain")).await.expect("reads").num_rows(), 2);
    let error = read(&project, &*csv("nulls")).await.expect_err("a null key").to_string();
    assert!(error.contains("`bucket` is null"), "{error}");
    let flat = dataset("{type: partitioned, path: plain, dataset: csv}");
    let error = flat.partitions(&project.stores).await.expect_err("no hive").to_string();
    assert!(error.contains("plain/a.csv"), "{error}");
}

#[tokio::test]
async fn types_of_csv_columns_can_be_given() {
    let project = Project::new();
    fs::write(project.path("a.csv"), "zip,n\n01234,1\n99999,2\n").expect("writes");
    let given = dataset("{type: csv, path: a.csv, load_args: {dtype: {zip: str}}}");
    let rows = read(&project, &*given).await.expect("reads");
    assert_eq!(rows.column(0).as_string::<i32>().value(0), "01234");
    let late = dataset("{type: csv, path: b.csv, load_args: {infer_schema_length: 1}}");
    fs::write(project.path("b.csv"), "n\n1\nx\n").expect("writes");
    let error = read(&project, &*late).await.expect_err("x is no number").to_string();
    assert!(error.contains("b.csv") && error.contains("dtype"), "{error}");
}

#[tokio::test]
async fn documents_come_back_as_they_were_written() {
    for entry in entries(Shape::Value).into_iter().chain(["{type: json.JSONDataset, filepath: a.json}".to_owned()]) {
        let (project, dataset) = (Project::new(), dataset(&entry));
        assert!(matches!(dataset.value(&project.stores).await, Err(DataError::Missing { .. })), "{entry}");
        let value = if entry.contains("type: text") {
            serde_json::json!("some\ntext é")
        } else {
            serde_json::json!({"a": [1, 2.5, "x", null, true], "b": {"yes": "no"}})
        };
        dataset.write_value(&project.stores, &value, Fingerprint::of("w")).await.expect("writes");
        assert_eq!(dataset.value(&project.stores).await.expect("reads"), value, "{entry}");
        assert_eq!(
            dataset.state(&project.stores).await.expect("a state").receipt,
            Some(Fingerprint::of("w")),
            "{entry}"
        );
    }
}

#[test]
fn entries_of_kedro_are_understood() {
    for (entry, kind, shape, supported) in [
        (
            "{type: spark.SparkDataset, filepath: x, save_args: {mode: overwrite, partitionBy: [bucket]}}",
            "parquet",
            Shape::Table,
            true,
        ),
        (
            "{type: spark.SparkDataset, filepath: x, file_format: csv, load_args: {header: true, inferSchema: true}}",
            "csv",
            Shape::Table,
            true,
        ),
        ("{type: kedro_datasets.pandas.ParquetDataset, filepath: x}", "parquet", Shape::Table, true),
        ("{type: pandas.CSVDataSet, filepath: x}", "csv", Shape::Table, true),
        (
            "{type: matrix_gcp_datasets.gcpPartitionedAsyncParallelDataset, path: x, dataset: {type: pandas.ParquetDataset}, max_workers: '20', timeout: 90, overwrite: True}",
            "partitioned",
            Shape::Partitions,
            true,
        ),
        ("{type: MemoryDataset}", "memory", Shape::Table, true),
        ("{type: kedro.io.MemoryDataset}", "memory", Shape::Table, true),
        ("{type: pickle.PickleDataset, filepath: x}", "pickle.PickleDataset", Shape::Value, false),
        ("{type: pandas.ExcelDataset, filepath: x}", "pandas.ExcelDataset", Shape::Table, false),
        ("{type: my_project.datasets.SpecialDataset, a: 1}", "my_project.datasets.SpecialDataset", Shape::Value, false),
    ] {
        let (dataset, problems) = try_dataset(entry);
        let dataset = dataset.unwrap_or_else(|| panic!("{entry}: {problems:?}"));
        let info = dataset.info();
        assert_eq!((info.type_name.as_str(), info.shape, info.supported), (kind, shape, supported), "{entry}");
    }
    let (dataset, _) = try_dataset(
        "{type: matrix_gcp_datasets.gcpPartitionedAsyncParallelDataset, path: x, dataset: {type: pandas.ParquetDataset}, max_workers: '20', timeout: 90, overwrite: True}",
    );
    let options = dataset.expect("decodes").write_options();
    assert_eq!((options.max_workers, options.timeout.as_secs(), options.overwrite), (20, 90, true));
}

#[test]
fn mistakes_in_entries_are_reported() {
    for (entry, code) in [
        ("{type: parket, path: x}", "data::unknown-type"),
        ("{type: pandas.ParqetDataset, path: x}", "data::unknown-type"),
        ("{type: parquet, path: 'hdfs://x/y'}", "data::bad-location"),
        ("{type: parquet, path: 's3://b/x', credentials: {sercet: x}}", "data::bad-location"),
        ("{type: parquet}", "config::missing-key"),
        ("{type: parquet, path: x, overwirte: true}", "config::unknown-key"),
        ("{type: parquet, path: x, save_args: {compression: best}}", "config::unknown-word"),
        ("{type: parquet, path: x, save_args: {row_group_size: 0}}", "config::out-of-range"),
        ("{type: parquet, path: x, file_format: orc}", "data::bad-option"),
        ("{type: parquet, path: x, save_args: {timeout: 0}}", "data::bad-option"),
        ("{type: parquet, path: x, timeout: 0}", "data::bad-option"),
        ("{type: json, path: x, load_args: {lines: false}}", "data::bad-option"),
        ("{type: json, path: x, save_args: {orient: split}}", "config::unknown-word"),
        ("{type: csv, path: x, load_args: {sep: xx}}", "data::bad-option"),
        ("{type: csv, path: x, load_args: {sep: ';', delimiter: ','}}", "config::duplicate-alias"),
        ("{type: csv, path: x, load_args: {infer_schema_length: many}}", "config::wrong-type"),
        ("{type: parquet, path: x, save_args: {mode: append}}", "data::bad-option"),
        ("{type: parquet, path: x, save_args: {partition_by: [a, a]}}", "data::bad-option"),
        ("{type: csv, path: x, load_args: {dtype: {a: strng}}}", "data::bad-option"),
        ("{type: partitioned, path: x}", "config::missing-key"),
        ("{type: partitioned, path: x, dataset: pickle.PickleDataset}", "data::bad-option"),
        ("{type: partitioned, path: x, dataset: parquet, save_args: {on_error: ignore}}", "config::unknown-word"),
        ("{type: partitioned, path: x, dataset: memory}", "data::bad-option"),
        ("{type: partitioned, path: x, dataset: {type: csv, load_args: {quotechar: long}}}", "data::bad-option"),
    ] {
        let (_, problems) = try_dataset(entry);
        assert!(problems.has_errors(), "{entry}");
        assert!(problems.as_slice().iter().any(|problem| problem.code == code), "{entry}: {problems:?}");
    }
    let (dataset, problems) = try_dataset("{type: csv, path: x, load_args: {seperator: ;}}");
    assert!(dataset.is_some());
    assert_eq!(problems.as_slice()[0].help, ["did you mean `separator`?"]);
}

#[test]
fn every_type_decodes_without_opening_anything() {
    for shape in [Shape::Table, Shape::Partitions, Shape::Value] {
        for entry in entries(shape) {
            let dataset = dataset(&entry);
            assert_eq!(dataset.info().name, "d");
            assert_eq!(dataset.info().location.is_some(), dataset.location().is_some(), "{entry}");
        }
    }
}

/// Nullability does not survive every format, so values are what is compared.
#[tokio::test]
async fn nulls_survive() {
    for entry in entries(Shape::Table) {
        let (project, dataset) = (Project::new(), dataset(&entry));
        write(&project, &*dataset, &[table(&[1, 1, 1, 1])], "w").await.expect("writes");
        let back = read(&project, &*dataset).await.expect("reads");
        assert_eq!(back.column_by_name("text").expect("a text").null_count(), 1, "{entry}");
    }
}
