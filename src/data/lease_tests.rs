//! Leases and those who write under them: what is lost, stopped or dropped writes nothing more, and a lease is given back
//! after the last write has ended.

use std::{collections::BTreeMap, fmt, fs, sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::SchemaRef,
};
use async_trait::async_trait;
use datafusion::{execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter};
use futures::{StreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult, UploadPart, memory::InMemory,
    path::Path,
};
use tokio::sync::Semaphore;

use super::{conformance::dataset, *};
use crate::model::{Fingerprint, PartitionKey};

/// A store in memory where writing certain objects waits until the gate is opened, once for each.
#[derive(Debug, Clone)]
struct Gated {
    store: Arc<InMemory>,
    gate: Arc<Semaphore>,
    /// Requests that have reached the gate.
    arrived: Arc<Semaphore>,
    /// Uploads that were taken back.
    aborted: Arc<Semaphore>,
    ending: &'static str,
    /// True where the end of an upload is refused.
    refuses_ends: bool,
}

impl Gated {
    fn new(ending: &'static str) -> Self {
        let none = || Arc::new(Semaphore::new(0));
        let store = Arc::new(InMemory::new());
        Self { store, gate: none(), arrived: none(), aborted: none(), ending, refuses_ends: false }
    }

    async fn pass(&self, path: &Path) {
        if path.as_ref().ends_with(self.ending) {
            self.arrived.add_permits(1);
            self.gate.acquire().await.expect("never closed").forget();
        }
    }

    fn stores(&self) -> Stores {
        let store = Arc::new(self.clone());
        Stores::new("/p", Arc::new(|_| None)).with_memory(store).with_lease_expiry(Duration::from_millis(600))
    }

    /// As another machine sees it, where nothing waits.
    fn others(&self) -> Stores {
        let store: Arc<dyn ObjectStore> = self.store.clone();
        Stores::new("/p", Arc::new(|_| None)).with_memory(store).with_lease_expiry(Duration::from_millis(600))
    }

    fn data(&self) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.store.list(Some(&Path::from("b/p")))
    }
}

impl fmt::Display for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gated")
    }
}

#[derive(Debug)]
struct GatedUpload(Gated, Path, Box<dyn MultipartUpload>);

#[async_trait]
impl MultipartUpload for GatedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (gate, path, part) = (self.0.clone(), self.1.clone(), self.2.put_part(data));
        Box::pin(async move {
            gate.pass(&path).await;
            part.await
        })
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        if self.0.refuses_ends {
            return Err(object_store::Error::Generic { store: "gated", source: "no more".into() });
        }
        self.2.complete().await
    }

    async fn abort(&mut self) -> StoreResult<()> {
        self.0.aborted.add_permits(1);
        self.2.abort().await
    }
}

#[async_trait]
impl ObjectStore for Gated {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.pass(path).await;
        self.store.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        let upload = self.store.put_multipart_opts(path, options).await?;
        Ok(Box::new(GatedUpload(self.clone(), path.clone(), upload)))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.store.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.store.copy_opts(from, to, options).await
    }
}

fn vectors() -> Arc<dyn Dataset> {
    dataset("{type: partitioned, path: 'memory://b/p', dataset: parquet, filename_suffix: .parquet, overwrite: true}")
}

fn rows(n: i64) -> RecordBatch {
    // Numbers that nothing compresses.
    let numbers = (0..n).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()));
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_from_iter([
        ("bucket", Arc::new(Int64Array::from_value(1, n as usize)) as ArrayRef),
        ("id", column),
    ])
    .expect("two columns")
}

fn key() -> PartitionKey {
    PartitionKey::integer("bucket", 1)
}

async fn begun(stores: &Stores, dataset: &dyn Dataset, rows: &RecordBatch) -> Box<dyn PartitionWriter> {
    let part = dataset
        .partition_sink()
        .expect("partitions")
        .write_partition(stores, &key(), Fingerprint::of("w"), rows.schema())
        .expect("begins");
    part.write(rows.clone()).await.expect("takes rows")
}

fn is_lost<T>(result: Result<T, DataError>) -> bool {
    matches!(result, Err(DataError::LeaseLost { dataset }) if dataset == "d")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_cannot_be_renewed_is_lost_before_others_may_take_it_and_nothing_is_written_after() {
    let gated = Gated::new(".flow-lock");
    gated.gate.add_permits(1);
    let (stores, dataset) = (gated.stores(), vectors());
    let lease = stores.lease(&*dataset).await.expect("free");
    let before = begun(&stores, &*dataset, &rows(3)).await;
    before.commit(RowOutcomes::default()).await.expect("ours");
    let late = begun(&stores, &*dataset, &rows(3)).await;
    // Its renewals hang from now on.
    lease.lost().cancelled().await;
    assert!(matches!(gated.others().lease(&*dataset).await, Err(DataError::Held { .. })), "others may not yet");
    let there = gated.data().count().await;
    assert!(is_lost(late.commit(RowOutcomes::default()).await), "nothing is committed");
    assert!(
        is_lost(dataset.partition_sink().expect("partitions").retain_partitions(&stores, &BTreeMap::new()).await),
        "nothing is removed"
    );
    let table = stream(rows(3).schema(), vec![rows(3)]);
    let request = WriteRequest { table, receipt: Fingerprint::of("w"), progress: &|_| (), computed: &|| None };
    let as_table = conformance::dataset("{type: parquet, path: 'memory://b/p', save_args: {partition_by: [bucket]}}");
    assert!(is_lost(as_table.table_sink().expect("a table").write_table(&stores, request).await), "through no view");
    assert_eq!(gated.data().count().await, there);
    lease.release().await;
    assert_eq!(gated.data().count().await, there);
}

#[tokio::test]
async fn a_process_that_was_stopped_for_longer_than_its_lease_commits_nothing_when_it_wakes_up() {
    let gated = Gated::new("nothing");
    let (stores, dataset) = (gated.stores(), vectors());
    let lease = stores.lease(&*dataset).await.expect("free");
    let part = begun(&stores, &*dataset, &rows(3)).await;
    // Nothing of this process runs, its renewals neither.
    std::thread::sleep(Duration::from_millis(700));
    assert!(is_lost(part.commit(RowOutcomes::default()).await));
    assert!(lease.lost().is_cancelled());
    assert_eq!(gated.data().count().await, 0);
}

/// Commits a partition as another run does that has taken over, with other work.
async fn other_run(gated: &Gated, dataset: &dyn Dataset) {
    let others = gated.others();
    let sink = dataset.partition_sink().expect("partitions");
    let part = sink.write_partition(&others, &key(), Fingerprint::of("other"), rows(4).schema()).expect("begins");
    part.write(rows(4)).await.expect("takes rows").commit(RowOutcomes::default()).await.expect("ours");
}

/// The object that [`begun`] becomes.
async fn begun_name() -> String {
    let (elsewhere, dataset) = (Gated::new("nothing"), vectors());
    let part = begun(&elsewhere.others(), &*dataset, &rows(3)).await;
    part.commit(RowOutcomes::default()).await.expect("free");
    paths(&elsewhere).await.remove(0)
}

async fn paths(gated: &Gated) -> Vec<String> {
    let found: Vec<StoreResult<ObjectMeta>> = gated.data().collect().await;
    found.into_iter().map(|meta| meta.expect("listed").location.to_string()).collect()
}

/// As a store that completes a request which it was sent before the process was stopped.
fn arrives(gated: &Gated, late: &str) -> impl Future<Output = ()> {
    let (store, path) = (Arc::clone(&gated.store), Path::from(late));
    async move { drop(store.put(&path, PutPayload::from_static(b"late")).await.expect("stored")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_run_had_on_its_way_is_taken_back_where_another_run_has_taken_over() {
    for theirs_is_there in [true, false] {
        let gated = Gated::new(".parquet");
        let (stores, dataset) = (gated.stores(), vectors());
        let lease = stores.lease(&*dataset).await.expect("free");
        let part = begun(&stores, &*dataset, &rows(3)).await;
        let commit = tokio::spawn(part.commit(RowOutcomes::default()));
        // Its PUT is on its way when the lease is lost, and arrives.
        gated.arrived.acquire().await.expect("never closed").forget();
        if theirs_is_there {
            other_run(&gated, &*dataset).await;
        }
        let before = paths(&gated).await;
        arrives(&gated, &begun_name().await).await;
        lease.lost().cancel();
        assert!(is_lost(commit.await.expect("no panic")));
        // It waits for what is taken back.
        lease.release().await;
        let after = paths(&gated).await;
        if theirs_is_there {
            assert_eq!(after, before);
        } else {
            assert_eq!(after.len(), 1, "what is alone is left to the other run");
        }
    }
}

#[tokio::test]
async fn what_arrives_late_from_another_run_is_removed_at_the_end_of_the_one_that_has_the_lease() {
    let gated = Gated::new("nothing");
    let dataset = vectors();
    other_run(&gated, &*dataset).await;
    let theirs = paths(&gated).await;
    arrives(&gated, &begun_name().await).await;
    let keep = BTreeMap::from([(key(), Fingerprint::of("other"))]);
    let sink = dataset.partition_sink().expect("partitions");
    assert_eq!(sink.retain_partitions(&gated.others(), &keep).await.expect("removes"), 0, "no partition goes");
    assert_eq!(paths(&gated).await, theirs);
}

#[tokio::test]
async fn a_table_is_what_its_run_wrote_though_files_of_another_one_arrive_late() {
    let gated = Gated::new("nothing");
    let table = dataset("{type: parquet, path: 'memory://b/p', save_args: {partition_by: [bucket]}}");
    let stores = gated.others();
    let late = format!("b/p/bucket=1/{}", file_name::FileName::of_table(Fingerprint::of("late"), 4, ".parquet"));
    let (store, path) = (Arc::clone(&gated.store), Path::from(late.as_str()));
    let arriving = futures::stream::once(async move {
        store.put(&path, PutPayload::from_static(b"late")).await.expect("stored");
        Ok(rows(3))
    });
    let rows_of_it = Box::pin(RecordBatchStreamAdapter::new(rows(3).schema(), arriving));
    let request =
        WriteRequest { table: rows_of_it, receipt: Fingerprint::of("w"), progress: &|_| (), computed: &|| None };
    table.table_sink().expect("a table").write_table(&stores, request).await.expect("writes");
    assert!(!paths(&gated).await.contains(&late), "it would be rows of another table");
    let state = table.state(&stores).await.expect("a state");
    assert_eq!(state.receipt, Some(Fingerprint::of("w")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_given_back_after_a_commit_that_nobody_waits_for_has_ended() {
    let gated = Gated::new(".parquet");
    let (stores, dataset) = (gated.stores(), vectors());
    let lease = stores.lease(&*dataset).await.expect("free");
    let part = begun(&stores, &*dataset, &rows(3)).await;
    let commit = tokio::spawn(part.commit(RowOutcomes::default()));
    gated.arrived.acquire().await.expect("never closed").forget();
    commit.abort();
    assert!(commit.await.is_err_and(|error| error.is_cancelled()));
    let release = tokio::spawn(lease.release());
    assert!(matches!(gated.others().lease(&*dataset).await, Err(DataError::Held { .. })), "its PUT is on its way");
    gated.gate.add_permits(1);
    release.await.expect("given back");
    assert_eq!(gated.data().count().await, 1);
    gated.others().lease(&*dataset).await.expect("free").release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_waits_for_is_taken_back_before_the_lease_is_given_back() {
    let gated = Gated::new(".parquet");
    let (stores, dataset) = (gated.stores(), vectors());
    let lease = stores.lease(&*dataset).await.expect("free");
    // More than goes into one part.
    let part = begun(&stores, &*dataset, &rows(3_000_000)).await;
    let commit = tokio::spawn(part.commit(RowOutcomes::default()));
    gated.arrived.acquire().await.expect("never closed").forget();
    commit.abort();
    lease.release().await;
    assert_eq!((gated.aborted.available_permits(), gated.data().count().await), (1, 0));
    gated.others().lease(&*dataset).await.expect("free").release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_end_is_refused_is_taken_back() {
    let gated = Gated { refuses_ends: true, ..Gated::new(".parquet") };
    gated.gate.add_permits(1000);
    let part = begun(&gated.stores(), &*vectors(), &rows(3_000_000)).await;
    let error = part.commit(RowOutcomes::default()).await.expect_err("refused").to_string();
    assert!(error.contains("no more"), "{error}");
    assert_eq!((gated.aborted.available_permits(), gated.data().count().await), (1, 0));
}

fn stream(schema: SchemaRef, batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches.into_iter().map(Ok))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_write_that_is_dropped_leaves_nothing_once_its_lease_is_given_back() {
    for partitioned in [false, true] {
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let stores = Stores::new(folder.path(), Arc::new(|_| None));
            let by = if partitioned { ", save_args: {partition_by: [bucket]}" } else { "" };
            let table = dataset(&format!("{{type: parquet, path: t{by}}}"));
            let lease = stores.lease(&*table).await.expect("free");
            let all = rows(300_000);
            let batches = (0..30).map(|i| all.slice(i * 10_000, 10_000)).collect::<Vec<_>>();
            let endless = stream(all.schema(), batches).chain(futures::stream::pending());
            let endless = Box::pin(RecordBatchStreamAdapter::new(all.schema(), endless));
            let seen = Arc::new(Semaphore::new(0));
            let progress = || seen.add_permits(1);
            let request = WriteRequest {
                table: endless,
                receipt: Fingerprint::of("w"),
                progress: &|_| progress(),
                computed: &|| None,
            };
            tokio::select! {
                _ = table.table_sink().expect("a table").write_table(&stores, request) => panic!("its rows never end"),
                () = async {
                    if partitioned {
                        // A partition is reported when it is complete, and the last one never is.
                        for _ in 0..100 {
                            tokio::task::yield_now().await;
                        }
                    } else {
                        seen.acquire_many(3).await.expect("never closed").forget();
                    }
                } => {}
            }
            lease.release().await;
            let left: Vec<_> =
                fs::read_dir(folder.path()).expect("a folder").map(|item| item.expect("an item").file_name()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}
