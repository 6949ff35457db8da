//! Shards that write to one dataset at the same time, and runs that must not.

use std::{
    fmt, fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result as StoreResult, memory::InMemory, path::Path,
};

use super::{conformance::dataset, *};
use crate::model::{Fingerprint, PartitionKey, Shard};

fn shard(text: &str) -> Option<Shard> {
    Some(text.parse().expect("a shard"))
}

fn rows(n: i64) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..n));
    RecordBatch::try_from_iter([("id", column)]).expect("a column")
}

/// Several processes on one local folder, or on one store in memory.
struct Hosts {
    folder: tempfile::TempDir,
    store: Option<Arc<InMemory>>,
}

impl Hosts {
    fn new(remote: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, store: remote.then(|| Arc::new(InMemory::new())) }
    }

    fn host(&self) -> Stores {
        let stores = Stores::new(self.folder.path(), Arc::new(|_| None)).with_lease_expiry(Duration::from_secs(2));
        match &self.store {
            Some(store) => stores.with_memory(Arc::<InMemory>::clone(store)),
            None => stores,
        }
    }

    fn dataset(&self, inner: &str) -> Arc<dyn Dataset> {
        let path = if self.store.is_some() { "memory://b/p" } else { "p" };
        dataset(&format!("{{type: {inner}, path: '{path}', dataset: parquet, filename_suffix: .parquet}}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_hold_a_lease_together_and_a_run_holds_it_alone() {
    for remote in [false, true] {
        let hosts = Hosts::new(remote);
        let (one, two, three, dataset) = (hosts.host(), hosts.host(), hosts.host(), hosts.dataset("partitioned"));
        let first = one.lease_for(&*dataset, shard("0/8")).await.expect("free");
        let second = two.lease_for(&*dataset, shard("1/8")).await.expect("together");
        let twin = three.lease_for(&*dataset, shard("0/8")).await.expect("another attempt");
        assert_eq!([first.has_twin(), second.has_twin(), twin.has_twin()], [false, false, true], "remote: {remote}");
        let error = three.lease(&*dataset).await.expect_err("held by shards").to_string();
        assert!(error.contains("shard ") && error.contains("/8 of a run: process "), "{error}");
        first.release().await;
        twin.release().await;
        assert!(three.lease(&*dataset).await.is_err(), "remote {remote}: one shard is left");
        second.release().await;
        let alone = three.lease(&*dataset).await.expect("all shards have ended");
        let error = one.lease_for(&*dataset, shard("0/8")).await.expect_err("a run has it").to_string();
        assert!(error.contains("is being written by process "), "{error}");
        alone.release().await;
        let again = one.lease_for(&*dataset, shard("0/8")).await.expect("free");
        again.release().await;
        hosts.host().lease(&*dataset).await.expect("free").release().await;
        let left: Vec<_> = fs::read_dir(hosts.folder.path()).expect("a folder").flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_of_another_machine_that_died_is_waited_for_and_one_that_lives_is_not() {
    let hosts = Hosts::new(true);
    let dataset = hosts.dataset("partitioned");
    let holder = |renewed: chrono::DateTime<chrono::Utc>| {
        serde_json::json!({"token": "t", "host": "elsewhere", "pid": 1, "since": renewed, "renewed": renewed,
            "expires_after_seconds": 1.0, "shard": "3/8"})
    };
    let store = hosts.store.clone().expect("a store");
    let put = async |renewed| {
        let (path, bytes) = (Path::from("b/.p.flow-shards/3-of-8/0123456789abcdef-0"), holder(renewed));
        object_store::ObjectStoreExt::put(&*store, &path, bytes.to_string().into()).await.expect("put");
    };
    put(chrono::Utc::now()).await;
    let lease = hosts.host().lease(&*dataset).await.expect("its lease has expired");
    lease.release().await;
    let listed = ObjectStore::list(&*store, None);
    assert_eq!(futures::StreamExt::count(listed).await, 0, "the lease of the dead shard is removed");
    let renewing = async {
        loop {
            put(chrono::Utc::now()).await;
            tokio::task::yield_now().await;
        }
    };
    let host = hosts.host();
    tokio::select! {
        // Before each look at the lease, however long this thread did not run.
        biased;
        () = renewing => {}
        held = host.lease(&*dataset) => {
            let error = held.expect_err("it is alive").to_string();
            assert!(error.contains("shard 3/8 of a run: process 1 on elsewhere"), "{error}");
        }
    }
}

/// A store in memory that counts the requests that read.
#[derive(Debug, Default)]
struct Counted {
    store: InMemory,
    reads: AtomicUsize,
}

impl Counted {
    fn read(&self) -> &InMemory {
        self.reads.fetch_add(1, Ordering::Relaxed);
        &self.store
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counted")
    }
}

#[async_trait]
impl ObjectStore for Counted {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.store.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.read().get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.read().list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.read().list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.store.copy_opts(from, to, options).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_among_hundreds_reads_the_leases_of_its_own_attempts_and_no_others() {
    const SHARDS: usize = 300;
    let counted = Arc::new(Counted::default());
    let dataset = Hosts::new(true).dataset("partitioned");
    let host = || Stores::new("/p", Arc::new(|_| None)).with_memory(Arc::<Counted>::clone(&counted));
    let reads = || counted.reads.swap(0, Ordering::Relaxed);
    let mut leases = Vec::new();
    for index in 0..SHARDS {
        let lease = host().lease_for(&*dataset, shard(&format!("{index}/{SHARDS}"))).await.expect("together");
        // The lock of runs, the listing of its attempts, and its own lease.
        assert_eq!((reads(), lease.has_twin()), (3, false), "shard {index}");
        leases.push(lease);
    }
    let twin = host().lease_for(&*dataset, shard(&format!("7/{SHARDS}"))).await.expect("another attempt");
    assert_eq!((reads(), twin.has_twin()), (4, true));
    let other = host().lease_for(&*dataset, shard("7/8")).await.expect("of another number of shards");
    assert_eq!((reads(), other.has_twin()), (3, false));
    let error = host().lease(&*dataset).await.expect_err("a run sees all of them").to_string();
    assert!(error.contains("shard ") && reads() > SHARDS, "{error}");
    for lease in leases.into_iter().chain([twin, other]) {
        lease.release().await;
    }
    host().lease(&*dataset).await.expect("free").release().await;
    assert_eq!(futures::StreamExt::count(counted.store.list(None)).await, 0, "nothing is left");
}

/// A partition with so many rows, by one process.
async fn commit(stores: &Stores, dataset: &dyn Dataset, key: &PartitionKey, n: i64) {
    let sink = dataset.partition_sink().expect("partitions");
    let part = sink.write_partition(stores, key, Fingerprint::of("w"), rows(n).schema()).expect("begins");
    let part = part.write(rows(n)).await.expect("takes rows");
    part.commit(RowOutcomes::default()).await.expect("commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_attempts_that_commit_the_same_partition_at_once_leave_exactly_one_file() {
    for remote in [false, true] {
        let hosts = Hosts::new(remote);
        let dataset = hosts.dataset("partitioned");
        let attempts: Vec<(Stores, Lease)> = {
            let mut all = Vec::new();
            for _ in 0..3 {
                let stores = hosts.host();
                let lease = stores.lease_for(&*dataset, shard("0/2")).await.expect("together");
                all.push((stores, lease));
            }
            all
        };
        for round in 0..40 {
            let key = PartitionKey::integer("bucket", round);
            // A service may answer differently the second time: files of other sizes.
            let commits = attempts
                .iter()
                .enumerate()
                .map(|(i, (stores, _))| commit(stores, &*dataset, &key, 10 + i as i64 * 700));
            futures::future::join_all(commits).await;
            let sink = dataset.partition_sink().expect("partitions");
            let found = sink.receipts_at(&attempts[0].0, &key).await.expect("listed");
            assert_eq!(found.len(), 1, "remote {remote}, round {round}: {found:?}");
        }
        let found = dataset.partition_source().expect("partitions").partitions(&attempts[0].0).await.expect("listed");
        assert!(found.len() == 40 && found.iter().all(|partition| partition.receipt.is_some()), "{found:?}");
        for (_, lease) in attempts {
            lease.release().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_attempts_that_commit_the_same_file_at_once_leave_it_with_its_receipt() {
    for remote in [false, true] {
        let hosts = Hosts::new(remote);
        let dataset = hosts.dataset("partitions.PartitionedDataset");
        let (one, two) = (hosts.host(), hosts.host());
        let first = one.lease_for(&*dataset, shard("0/2")).await.expect("free");
        let second = two.lease_for(&*dataset, shard("0/2")).await.expect("together");
        for round in 0..20 {
            let key = PartitionKey::of_file(&format!("2024/day-{round}"));
            futures::join!(commit(&one, &*dataset, &key, 10), commit(&two, &*dataset, &key, 900));
            let sink = dataset.partition_sink().expect("partitions");
            let found = sink.receipts_at(&one, &key).await.expect("listed");
            assert!(!found.is_empty(), "remote {remote}, round {round}: the file has no receipt that fits");
        }
        first.release().await;
        second.release().await;
        let lease = one.lease(&*dataset).await.expect("free");
        let occupants = dataset.occupants(&one, None).await.expect("listed");
        assert_eq!(occupants.refusal("d"), None, "all of it is known as ours");
        lease.release().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_begins_or_ends_removes_nothing_that_another_has_staged() {
    let hosts = Hosts::new(false);
    let dataset = hosts.dataset("partitioned");
    let (one, two) = (hosts.host(), hosts.host());
    let first = one.lease_for(&*dataset, shard("0/2")).await.expect("free");
    let staged = hosts.folder.path().join(".p.flow-staging/0123456789abcdef-7");
    fs::write(&staged, "half").expect("the folder is there as long as a shard is");
    let second = two.lease_for(&*dataset, shard("1/2")).await.expect("together");
    two.takes_a_write(&*dataset).await.expect("takes one");
    second.release().await;
    assert!(staged.exists(), "it is another shard's");
    first.release().await;
    assert!(staged.exists(), "a killed shard's is left to the next run");
    one.lease(&*dataset).await.expect("free").release().await;
    assert!(!staged.exists() && !hosts.folder.path().join(".p.flow-staging").exists());
}
