//! Writing tables: one file, or a partition at a time in a bounded pipeline.
//!
//! On the local disk everything is staged in `.<name>.flow-staging` beside the dataset and published by renames at
//! the end, so a write that fails leaves the old table as it was. On an object store each partition is one PUT under
//! its final name; a write that fails removes the objects it has put. Names are digests of content, so a partition that is
//! there already is left alone. A thread or task of a cancelled write keeps the staging folder and the lease until it
//! has ended.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path as FsPath, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Partition, Written,
    digest::ContentDigest,
    error::DataError,
    faults,
    file_name::FileName,
    format::{Encoder, FileFormat, WriterFactory},
    grouping::{Grouping, PartitionUnit},
    guard::Writing,
    late::{Late, settle},
    listing::{Entry, Listing, Stamp},
    names::{STAGING_SUFFIX, unique_name},
    ownership::{FileLayout, Level},
    partition_receipts::PartitionReceipts,
    partition_splitter::PartitionSplitter,
    spooled_file::{SpooledFile, move_file},
    store_path::StorePath,
    syncer::sync_file,
    tasks::{blocking, ended},
    walk::refuse_links,
};
use crate::model::{Fingerprint, PartitionKey};

/// Partitions on their way to an object store at once.
const UPLOADS: usize = 32;
/// A partition with more bytes than this in memory is encoded as it comes.
const LARGE_PARTITION: usize = 32 << 20;

/// A folder beside a local dataset that is removed with this value, or the run's temporary folder. Threads that put
/// something there share it.
pub(super) struct Staging {
    folder: PathBuf,
    local: bool,
    /// Dropped after the folder is gone.
    _writing: Writing,
}

impl Staging {
    /// The staging area of one write. Nothing is created on disk before it is needed.
    ///
    /// # Errors
    /// When the lease is lost.
    pub(super) fn new(place: &StorePath) -> Result<Arc<Self>, DataError> {
        let _writing = place.begin_write()?;
        Ok(Arc::new(match place.sibling(STAGING_SUFFIX).local() {
            Some(path) => Self { folder: path.join(unique_name()), local: true, _writing },
            None => Self { folder: tempfile::env::temp_dir(), local: false, _writing },
        }))
    }

    /// The folder.
    pub(super) fn folder(&self) -> &FsPath {
        &self.folder
    }

    /// The folder for places on the local disk.
    pub(super) fn local(&self) -> Option<&FsPath> {
        self.local.then_some(self.folder.as_path())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.local {
            let _ = fs::remove_dir_all(&self.folder);
            if let Some(parent) = self.folder.parent() {
                // Only the last writer finds it empty.
                let _ = fs::remove_dir(parent);
            }
        }
    }
}

/// A file that is encoded and has no name yet.
pub(super) struct Encoded {
    /// Its bytes.
    pub(super) spool: SpooledFile,
    /// A digest of its rows.
    pub(super) content: Fingerprint,
    /// How many there are.
    pub(super) rows: u64,
}

struct Encoding {
    encoder: Box<dyn Encoder>,
    digest: ContentDigest,
    rows: u64,
}

impl Encoding {
    fn start(factory: &dyn WriterFactory, staging: &FsPath) -> Result<Self, DataError> {
        let encoder = factory.encoder(SpooledFile::new(staging.to_path_buf()))?;
        Ok(Self { encoder, digest: ContentDigest::new(factory.schema()), rows: 0 })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        self.digest.update(batch)?;
        self.rows += batch.num_rows() as u64;
        self.encoder.write(batch)
    }

    fn finish(self) -> Result<Encoded, DataError> {
        Ok(Encoded { content: self.digest.finish(), rows: self.rows, spool: self.encoder.finish()? })
    }
}

/// Encodes batches to one file. Blocking.
pub(super) fn encode(
    factory: &dyn WriterFactory,
    batches: &[RecordBatch],
    staging: &FsPath,
) -> Result<Encoded, DataError> {
    let mut digest = ContentDigest::new(factory.schema());
    batches.iter().try_for_each(|batch| digest.update(batch))?;
    let spool = factory.whole(batches, SpooledFile::new(staging.to_path_buf()))?;
    let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    Ok(Encoded { spool, content: digest.finish(), rows })
}

/// Encodes a whole stream to one file, on a blocking thread that takes batches as they come.
pub(super) async fn encode_stream(
    format: &Arc<dyn FileFormat>,
    mut table: SendableRecordBatchStream,
    staging: &Arc<Staging>,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Encoded, DataError> {
    let (sender, mut receiver) = mpsc::channel::<RecordBatch>(2);
    let (format, schema, kept) = (Arc::clone(format), table.schema(), Arc::clone(staging));
    let encoding = blocking(move || {
        let mut encoding = Encoding::start(&*format.writer(&schema)?, kept.folder())?;
        while let Some(batch) = receiver.blocking_recv() {
            encoding.write(&batch)?;
        }
        Ok::<_, DataError>(encoding)
    });
    let feeding = async move {
        while let Some(batch) = table.next().await {
            let batch = batch?;
            let rows = batch.num_rows() as u64;
            // The encoder has failed and says why itself.
            if sender.send(batch).await.is_err() {
                break;
            }
            progress(rows);
        }
        Ok::<_, DataError>(())
    };
    let (fed, encoding) = futures::join!(feeding, encoding);
    // A stream that ended early is the cause; what was encoded so far is no table.
    fed?;
    let (encoding, kept) = (encoding?, Arc::clone(staging));
    blocking(move || {
        let _kept = kept;
        encoding.finish()
    })
    .await
}

/// One partition, on its way.
struct Done {
    /// Relative to the dataset.
    path: String,
    rows: u64,
    bytes: u64,
    changed: bool,
}

/// What all partitions of one write share.
struct Writer {
    place: StorePath,
    factory: Arc<dyn WriterFactory>,
    suffix: &'static str,
    /// Where a local write is staged; publishing moves it all at once.
    staging: Arc<Staging>,
    existing: HashMap<String, u64>,
    /// What was put to a store, or is on its way there.
    sent: Arc<Mutex<HashSet<String>>>,
}

impl Writer {
    fn is_local(&self) -> bool {
        self.staging.local().is_some()
    }

    /// Encodes one partition and puts it where it belongs, or where it waits to be published.
    async fn write(self: Arc<Self>, key: PartitionKey, batches: Vec<RecordBatch>) -> Result<Done, DataError> {
        if self.is_local() {
            return blocking(move || {
                let encoded = encode(&*self.factory, &batches, self.staging.folder())?;
                drop(batches);
                self.stage(&key, encoded)
            })
            .await;
        }
        let this = Arc::clone(&self);
        let encoded = blocking(move || encode(&*this.factory, &batches, this.staging.folder())).await?;
        self.put(&key, encoded).await
    }

    /// The name of a partition's file, and what to say of it when it is there already.
    fn name(&self, key: &PartitionKey, encoded: &Encoded) -> (String, Option<Done>) {
        let path = file_path(key, encoded.content, encoded.spool.len(), self.suffix);
        let known = self.existing.get(&path);
        let done = known.map(|bytes| Done { path: path.clone(), rows: encoded.rows, bytes: *bytes, changed: false });
        (path, done)
    }

    fn stage(&self, key: &PartitionKey, encoded: Encoded) -> Result<Done, DataError> {
        let (path, known) = self.name(key, &encoded);
        if let Some(done) = known {
            return Ok(done);
        }
        let (rows, bytes) = (encoded.rows, encoded.spool.len());
        let target = self.staging.folder().join(&path);
        let folder = target.parent().unwrap_or(self.staging.folder());
        let error = |error| DataError::io(&target, error);
        match fs::create_dir(folder) {
            Ok(()) => {}
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => fs::create_dir_all(folder).map_err(error)?,
            Err(exists) if exists.kind() == io::ErrorKind::AlreadyExists => {}
            Err(other) => return Err(error(other)),
        }
        encoded.spool.place_at(&target).map_err(error)?;
        Ok(Done { path, rows, bytes, changed: true })
    }

    async fn put(&self, key: &PartitionKey, encoded: Encoded) -> Result<Done, DataError> {
        let (path, known) = self.name(key, &encoded);
        if let Some(done) = known {
            return Ok(done);
        }
        let rows = encoded.rows;
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        let bytes = encoded.spool.publish(&self.place.child(&path), None).await?;
        Ok(Done { path, rows, bytes, changed: true })
    }

    async fn finish(self: Arc<Self>, key: PartitionKey, encoded: Encoded) -> Result<Done, DataError> {
        if self.is_local() { blocking(move || self.stage(&key, encoded)).await } else { self.put(&key, encoded).await }
    }
}

/// The partition whose rows are coming in.
enum Open {
    Small { key: PartitionKey, batches: Vec<RecordBatch>, bytes: usize },
    Large { key: PartitionKey, encoding: Box<Encoding> },
}

/// Writes a sorted stream as hive partitions: one is open, a few are being encoded and written. Gives the listing at the end.
pub(super) async fn write_partitions(
    dataset: &str,
    place: &StorePath,
    format: &dyn FileFormat,
    (by, overwrite): (&[String], bool),
    before: &Listing,
    mut table: SendableRecordBatchStream,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(Written, Listing), DataError> {
    let mut splitter = PartitionSplitter::new(dataset, &table.schema(), by)?;
    let staging = Staging::new(place)?;
    let sent = Arc::<Mutex<HashSet<String>>>::default();
    let late = Late::of_table(place, &sent)?;
    let existing = before.entries().iter().filter(|e| e.fingerprint().is_some()).map(|e| (e.path.to_string(), e.size));
    let writer = Arc::new(Writer {
        place: place.clone(),
        factory: format.writer(splitter.schema())?,
        suffix: format.suffix(),
        staging: Arc::clone(&staging),
        existing: existing.collect(),
        sent,
    });
    let width = if writer.is_local() { workers() } else { UPLOADS };
    let mut flight: FuturesUnordered<BoxFuture<'static, Result<Done, DataError>>> = FuturesUnordered::new();
    let mut result = Progress { done: Vec::new(), written: Written::default(), report: progress };
    let filled = async {
        let mut open: Option<Open> = None;
        while let Some(batch) = table.next().await {
            for slice in splitter.cut(&batch?)? {
                if slice.first
                    && let Some(full) = open.take()
                {
                    while flight.len() >= width {
                        result.take(flight.next().await)?;
                    }
                    flight.push(spawn(&writer, full));
                }
                open = Some(add(&writer, open.take(), slice.key, slice.batch).await?);
            }
            // Takes finished ones without waiting, so that progress is reported as it is made.
            while let Some(Some(done)) = flight.next().now_or_never() {
                result.take(Some(done))?;
            }
        }
        if let Some(last) = open.take() {
            flight.push(spawn(&writer, last));
        }
        while let Some(done) = flight.next().await {
            result.take(Some(done))?;
        }
        Ok::<_, DataError>(())
    }
    .await;
    if let Err(error) = filled {
        // What is still on its way must be known before it can be taken back.
        while let Some(done) = flight.next().await {
            let _ = result.take(Some(done));
        }
        if !writer.is_local() {
            let new = result.done.into_iter().filter(|done| done.changed).map(|done| done.path).collect();
            let _ = place.remove(new).await;
        }
        return Err(error);
    }
    let Progress { done, written, .. } = result;
    if staging.local().is_some() {
        let target = place.local().map(FsPath::to_path_buf).unwrap_or_default();
        let files: Vec<String> = done.iter().filter(|done| done.changed).map(|done| done.path.clone()).collect();
        let writing = place.begin_write()?;
        blocking(move || {
            let _writing = writing;
            publish(staging.folder(), &target, &files)
        })
        .await?;
    }
    let kept: HashSet<&str> = done.iter().map(|done| done.path.as_str()).collect();
    let layout = FileLayout { level: Level::Partition(by), suffix: format.suffix().into(), overwrite, files: None };
    let stale = before.entries().iter().filter(|entry| !kept.contains(&*entry.path));
    let stale: Vec<_> = stale.filter(|entry| layout.may_remove(entry)).map(|entry| entry.path.to_string()).collect();
    if !stale.is_empty() {
        // The old table is removed once the new one survives a power cut. Without an old one, the caller's sync is enough: a
        // receipt that reaches the disk before its files fits no listing, since names contain sizes.
        place.synced().await?;
        place.remove(stale).await?;
    }
    let after = settle(dataset, place, &kept, &layout).await?;
    late.done();
    Ok((written, after))
}

/// The partitions that [`write_partitions`] would leave of a sorted stream, in its order, as they would be listed.
pub(super) async fn preview_partitions(
    dataset: &str,
    place: &StorePath,
    format: &dyn FileFormat,
    by: &[String],
    mut table: SendableRecordBatchStream,
) -> Result<Vec<Partition>, DataError> {
    let mut splitter = PartitionSplitter::new(dataset, &table.schema(), by)?;
    let columns = Arc::clone(splitter.schema());
    let receipts = PartitionReceipts::default();
    let grouping = Grouping { unit: PartitionUnit::Hive, suffix: "", receipts: &receipts };
    // A name holds its file's size, which is not part of the identity of the rows.
    let listed = |key: &PartitionKey, digest: &ContentDigest| {
        let entry = Entry {
            path: file_path(key, digest.finish(), 0, format.suffix()).into(),
            size: 0,
            stamp: Stamp::Time(0),
            plain: true,
        };
        grouping.partitions(&Listing::folder(vec![entry]), place.shown()).map(Option::unwrap_or_default)
    };
    let mut partitions = Vec::new();
    let mut open: Option<(PartitionKey, ContentDigest)> = None;
    while let Some(batch) = table.next().await {
        for slice in splitter.cut(&batch?)? {
            let (key, mut digest) = match open.take() {
                Some(open) if !slice.first => open,
                closed => {
                    if let Some((key, digest)) = closed {
                        partitions.extend(listed(&key, &digest)?);
                    }
                    (slice.key, ContentDigest::new(&columns))
                }
            };
            digest = blocking(move || digest.update(&slice.batch).map(|()| digest)).await?;
            open = Some((key, digest));
        }
    }
    if let Some((key, digest)) = open {
        partitions.extend(listed(&key, &digest)?);
    }
    Ok(partitions)
}

/// The path of the file that holds one partition of a table.
fn file_path(key: &PartitionKey, content: Fingerprint, bytes: u64, suffix: &str) -> String {
    format!("{}/{}", key.path(), FileName::of_table(content, bytes, suffix))
}

struct Progress<'a> {
    done: Vec<Done>,
    written: Written,
    report: &'a (dyn Fn(u64) + Send + Sync),
}

impl Progress<'_> {
    fn take(&mut self, done: Option<Result<Done, DataError>>) -> Result<(), DataError> {
        let Some(done) = done else { return Ok(()) };
        let done = done?;
        self.written.rows += done.rows;
        self.written.bytes += done.bytes;
        self.written.partitions += 1;
        self.written.unchanged += u64::from(!done.changed);
        (self.report)(done.rows);
        self.done.push(done);
        Ok(())
    }
}

fn spawn(writer: &Arc<Writer>, open: Open) -> BoxFuture<'static, Result<Done, DataError>> {
    let writer = Arc::clone(writer);
    let work = async move {
        match open {
            Open::Small { key, batches, .. } => writer.write(key, batches).await,
            Open::Large { key, encoding } => {
                let kept = Arc::clone(&writer.staging);
                let encoded = blocking(move || {
                    let _kept = kept;
                    encoding.finish()
                });
                writer.finish(key, encoded.await?).await
            }
        }
    };
    // A task of its own, so that it runs while the stream is awaited; nothing new begins once the caller is gone.
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    async move { ended(task.await).await }.boxed()
}

async fn add(
    writer: &Arc<Writer>,
    open: Option<Open>,
    key: PartitionKey,
    batch: RecordBatch,
) -> Result<Open, DataError> {
    let size = batch.get_array_memory_size().min(batch.num_rows() * 1024 + 1024);
    match open {
        None => Ok(Open::Small { key, batches: vec![batch], bytes: size }),
        Some(Open::Small { key, mut batches, bytes }) => {
            batches.push(batch);
            if bytes + size <= LARGE_PARTITION {
                return Ok(Open::Small { key, batches, bytes: bytes + size });
            }
            let writer = Arc::clone(writer);
            let encoding = blocking(move || {
                let mut encoding = Encoding::start(&*writer.factory, writer.staging.folder())?;
                batches.iter().try_for_each(|batch| encoding.write(batch))?;
                Ok::<_, DataError>(Box::new(encoding))
            });
            Ok(Open::Large { key, encoding: encoding.await? })
        }
        Some(Open::Large { key, mut encoding }) => {
            let kept = Arc::clone(&writer.staging);
            let encoding = blocking(move || {
                let _kept = kept;
                encoding.write(&batch).map(|()| encoding)
            });
            Ok(Open::Large { key, encoding: encoding.await? })
        }
    }
}

/// Moves staged partitions to where readers look. The whole folder where nothing was there, else one by one.
fn publish(staging: &FsPath, target: &FsPath, files: &[String]) -> Result<(), DataError> {
    if files.is_empty() {
        return Ok(());
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(|error| DataError::io(parent, error))?;
    }
    faults::point();
    // Only onto nothing or an empty folder; what others left there stays.
    if fs::rename(staging, target).is_ok() {
        return files.iter().try_for_each(|file| {
            let path = target.join(file);
            sync_file(&path).map_err(|error| DataError::io(path, error))
        });
    }
    fs::create_dir_all(target).map_err(|error| DataError::io(target, error))?;
    files.iter().try_for_each(|file| refuse_links(target, file.rsplit_once('/').map_or("", |(folder, _)| folder)))?;
    for file in files {
        let (from, to) = (staging.join(file), target.join(file));
        let error = |error| DataError::io(&to, error);
        let (Some(from_folder), Some(to_folder)) = (from.parent(), to.parent()) else { continue };
        // One step for a partition that is new.
        if !to_folder.exists()
            && to_folder.parent().is_some_and(FsPath::exists)
            && fs::rename(from_folder, to_folder).is_ok()
        {
            faults::point();
            sync_file(&to).map_err(error)?;
            continue;
        }
        fs::create_dir_all(to_folder).map_err(error)?;
        if !from.exists() && to.exists() {
            continue;
        }
        move_file(&from, &to).map_err(error)?;
        faults::point();
    }
    Ok(())
}

/// Partitions that are encoded and written to the local disk at once: half of them wait for it.
fn workers() -> usize {
    2 * std::thread::available_parallelism().map_or(2, usize::from)
}
