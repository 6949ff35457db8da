//! One computed partition on its way into a dataset of files: encoded as its rows come, committed in one step.
//!
//! Small ones are held until all rows have arrived and encoded at once. What is encoded and has no name yet is in a
//! [`SpooledFile`]: in memory while it is small, then in a file that is removed with the value.

use std::{
    fs, io,
    path::{Path as FsPath, PathBuf},
    sync::Arc,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;

use super::{
    PartitionWriter, RowOutcomes, Written, contents,
    error::DataError,
    faults,
    file_name::FileName,
    format::{BATCH_ROWS, Encoder, FileFormat, WriterFactory},
    late::Late,
    listing::{Entry, Listing, Stamp},
    names::STAGING_SUFFIX,
    ownership::{FileLayout, Level, Occupants},
    partition::PartitionReceipt,
    partition_receipts::{self, Content, FileReceipt, PartitionReceipts, folder_of},
    spooled_file::SpooledFile,
    store_path::StorePath,
    tasks::blocking,
    walk::{self, refuse_links},
};
use crate::{config::open_regular_file, model::Fingerprint};

/// Rows may wait until all are there, as a file of a few thousand is written in a plainer way: those that came at once up
/// to so many bytes, and those that came one after another up to fewer.
const HELD_AT_ONCE: usize = 64 << 20;
const HELD_BYTES: usize = 16 << 20;

/// Local files up to this size are held until they are whole; a larger one goes to the disk as it is encoded.
const SMALL_FILE: usize = 1 << 20;

/// Where a partition's file goes.
pub(super) enum PartTarget {
    /// Into this hive folder, under a name that is its receipt.
    Folder(String),
    /// To the path that is its id and the suffix; its receipt is beside the dataset.
    File {
        /// The dataset's name, for messages.
        dataset: String,
        /// The partition.
        id: String,
    },
}

/// A partition that is being written.
pub(super) struct PartFile {
    /// The dataset.
    place: StorePath,
    target: PartTarget,
    /// True where data files of others may be replaced.
    overwrite: bool,
    format: Arc<dyn FileFormat>,
    schema: SchemaRef,
    fingerprint: Fingerprint,
    suffix: String,
    /// The folder of files without a name on the local disk: beside the dataset.
    staging: Option<PathBuf>,
    rows: usize,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    encoder: Option<Box<dyn Encoder>>,
}

impl PartFile {
    /// A partition of the dataset at `place`. Nothing is made on disk yet.
    pub(super) fn new(
        place: &StorePath,
        target: PartTarget,
        format: &Arc<dyn FileFormat>,
        schema: SchemaRef,
        (fingerprint, suffix, overwrite): (Fingerprint, String, bool),
    ) -> Self {
        Self {
            place: place.clone(),
            target,
            overwrite,
            format: Arc::clone(format),
            schema,
            fingerprint,
            suffix,
            staging: place.sibling(STAGING_SUFFIX).local().map(FsPath::to_path_buf),
            rows: 0,
            held: Vec::new(),
            held_bytes: 0,
            encoder: None,
        }
    }

    fn spool(&self) -> SpooledFile {
        match &self.staging {
            Some(staging) => SpooledFile::new(staging.clone()).holding(SMALL_FILE),
            None => SpooledFile::new(tempfile::env::temp_dir()),
        }
    }

    fn factory(&self) -> Result<Arc<dyn WriterFactory>, DataError> {
        self.format.writer(&self.schema)
    }

    /// Ends the encoding. Blocking.
    fn encoded(&mut self) -> Result<SpooledFile, DataError> {
        match self.encoder.take() {
            Some(encoder) => encoder.finish(),
            None => self.factory()?.whole(&std::mem::take(&mut self.held), self.spool()),
        }
    }

    /// Its receipt: the work, the rows, how they came out, and the file's size.
    fn name(&self, RowOutcomes { errors, empty }: RowOutcomes, bytes: u64) -> String {
        let (rows, suffix) = (Some(self.rows as u64), self.suffix.as_str());
        FileName { fingerprint: self.fingerprint, rows, errors, empty, bytes, suffix }.to_string()
    }
}

#[async_trait]
impl PartitionWriter for PartFile {
    async fn write(mut self: Box<Self>, batch: RecordBatch) -> Result<Box<dyn PartitionWriter>, DataError> {
        self.rows += batch.num_rows();
        self.held_bytes += batch.get_array_memory_size();
        self.held.push(batch);
        let most = if self.held.len() == 1 { HELD_AT_ONCE } else { HELD_BYTES };
        if self.encoder.is_none() && self.rows <= BATCH_ROWS && self.held_bytes <= most {
            return Ok(self);
        }
        // The encoder may go on in a file beside the dataset.
        let writing = self.place.begin_write()?;
        blocking(move || {
            let _writing = writing;
            let mut encoder = match self.encoder.take() {
                Some(encoder) => encoder,
                None => self.factory()?.encoder(self.spool())?,
            };
            std::mem::take(&mut self.held).iter().try_for_each(|batch| encoder.write(batch))?;
            self.encoder = Some(encoder);
            Ok::<Box<dyn PartitionWriter>, DataError>(self)
        })
        .await
    }

    async fn commit(self: Box<Self>, outcomes: RowOutcomes) -> Result<Written, DataError> {
        match &self.target {
            PartTarget::Folder(folder) => {
                let folder = folder.clone();
                self.commit_to_folder(&folder, outcomes).await
            }
            PartTarget::File { dataset, id } => {
                let (dataset, id) = (dataset.clone(), id.clone());
                self.commit_file(&dataset, id, outcomes).await
            }
        }
    }
}

impl PartFile {
    /// Commits to a hive folder: the file's name is the receipt.
    async fn commit_to_folder(mut self: Box<Self>, folder: &str, outcomes: RowOutcomes) -> Result<Written, DataError> {
        let mut written = Written { rows: self.rows as u64, bytes: 0, partitions: 1, unchanged: 0 };
        let at = self.place.child(folder);
        let writing = at.begin_write()?;
        if let (Some(root), Some(staging)) = (self.place.local().map(FsPath::to_path_buf), self.staging.clone()) {
            let relative = folder.to_owned();
            return blocking(move || {
                let _writing = writing;
                let folder = root.join(&relative);
                refuse_links(&root, &relative)?;
                let spool = self.encoded()?;
                written.bytes = spool.len();
                let name = self.name(outcomes, written.bytes);
                spool.publish_local(&folder.join(&name), &staging)?;
                faults::point();
                let entries = walk::files(&folder)?;
                for path in self.replaced_by(&name, &entries) {
                    let path = folder.join(path);
                    match fs::remove_file(&path) {
                        Ok(()) => faults::point(),
                        Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
                        Err(other) => return Err(DataError::io(path, other)),
                    }
                }
                Ok(written)
            })
            .await;
        }
        let (spool, name, this) = blocking(move || {
            let _writing = writing;
            let spool = self.encoded()?;
            let name = self.name(outcomes, spool.len());
            Ok::<_, DataError>((spool, name, self))
        })
        .await?;
        let (folder, late_name, layout) = (at.clone(), name.clone(), (this.suffix.clone(), this.overwrite));
        let late = Late::new(&at, move || {
            let (folder, name, layout) = (folder.clone(), late_name.clone(), layout.clone());
            // Alone, it is left to the other run, which removes it or has the same.
            let arrived = async move {
                let (listing, layout) = (folder.list_folder().await?, layout_of(&layout.0, layout.1));
                let others = listing.entries().iter().filter(|entry| *entry.path != *name && layout.may_remove(entry));
                Ok(if others.count() == 0 { Vec::new() } else { vec![name] })
            };
            arrived.boxed()
        })?;
        written.bytes = spool.publish(&at.child(&name), None).await?;
        let listing = at.list_folder().await?;
        at.remove(this.replaced_by(&name, listing.entries())).await?;
        late.done();
        Ok(written)
    }

    /// What may go from the partition's folder once the file `name` is there.
    ///
    /// Another attempt of the same shard may put a file of the same work there at the same time. Of those each attempt keeps the one
    /// whose name comes first, whether it is its own or not, so that exactly one is left.
    fn replaced_by(&self, name: &str, entries: &[Entry]) -> Vec<String> {
        let layout = layout_of(&self.suffix, self.overwrite);
        let same_work = |entry: &&Entry| {
            let own = FileName::parse(&entry.path).filter(|own| own.suffix == self.suffix && own.bytes == entry.size);
            own.is_some_and(|own| own.fingerprint == self.fingerprint && own.rows.is_some())
        };
        let kept = match self.place.is_shared() {
            true => entries.iter().filter(same_work).map(|entry| &*entry.path).fold(name, |a, b| a.min(b)),
            false => name,
        };
        let others = entries.iter().filter(|entry| *entry.path != *kept && layout.may_remove(entry));
        others.map(|entry| entry.path.to_string()).collect()
    }

    /// Commits a file with a name of its own. Its receipt is there before it, so that a file that is there without one was
    /// never ours; what others put there since the run began is refused.
    async fn commit_file(
        mut self: Box<Self>,
        dataset: &str,
        id: String,
        outcomes: RowOutcomes,
    ) -> Result<Written, DataError> {
        let mut written = Written { rows: self.rows as u64, bytes: 0, partitions: 1, unchanged: 0 };
        let file = format!("{id}{}", self.suffix);
        let at = self.place.child(&file);
        let receipts = partition_receipts::folder(&self.place).child(&folder_of(&id));
        let writing = at.begin_write()?;
        let refusal = Occupants::file(at.shown().to_owned(), true, false).refusal(dataset).unwrap_or_default();
        if let (Some(root), Some(receipts)) =
            (self.place.local().map(FsPath::to_path_buf), receipts.local().map(FsPath::to_path_buf))
        {
            return blocking(move || {
                let _writing = writing;
                refuse_links(&root, &file)?;
                let mut spool = self.encoded()?;
                written.bytes = spool.len();
                let receipt = self.receipt(outcomes, written.bytes, Content::Bytes(spool.content()?));
                let path = root.join(&file);
                if !self.overwrite
                    && let Some(there) = entry(&path)?
                {
                    let known = PartitionReceipts::of_listing(&walk::list(&receipts)?, Some(&id));
                    if !known.own(&id, &there) {
                        return Err(DataError::Occupied(refusal));
                    }
                }
                fs::create_dir_all(&receipts).map_err(|error| DataError::io(&receipts, error))?;
                let announced = receipts.join(receipt.name());
                fs::write(&announced, &id).map_err(|error| DataError::io(&announced, error))?;
                faults::point();
                spool.publish_local(&path, self.staging.as_deref().unwrap_or(&root))?;
                faults::point();
                for other in walk::files(&receipts)? {
                    // The file may be that of another attempt of this shard by now, with that attempt's receipt.
                    if *other.path != *receipt.name() && !self.place.is_shared() {
                        let path = receipts.join(&*other.path);
                        fs::remove_file(&path).map_err(|error| DataError::io(path, error))?;
                        faults::point();
                    }
                }
                Ok(written)
            })
            .await;
        }
        let (spool, receipt, this) = blocking(move || {
            let _writing = writing;
            let mut spool = self.encoded()?;
            let receipt = self.receipt(outcomes, spool.len(), Content::Bytes(spool.content()?));
            Ok::<_, DataError>((spool, receipt, self))
        })
        .await?;
        if !this.overwrite
            && let Listing::File(there) = at.list().await?
        {
            let there = Entry { path: file.into(), ..there };
            let mut known = PartitionReceipts::of_listing(&receipts.list_folder().await?, Some(&id));
            known.complete(&this.place, &Listing::folder(vec![there.clone()]), &this.suffix).await?;
            if !known.own(&id, &there) {
                return Err(DataError::Occupied(refusal));
            }
        }
        let put = async |receipt: &FileReceipt| {
            receipts.child(&receipt.name()).put(Bytes::from(id.clone()), &this.place).await
        };
        put(&receipt).await?;
        written.bytes = spool.publish(&at, None).await?;
        // The store's own word for the content is known only now.
        let Listing::File(there) = at.list().await? else { return Ok(written) };
        let Some(content) = Content::of(&there).filter(|_| there.size == written.bytes) else { return Ok(written) };
        let last = FileReceipt { content, ..receipt };
        put(&last).await?;
        if this.place.is_shared() {
            // The file may be that of another attempt of this shard by now, with that attempt's receipt.
            return Ok(written);
        }
        let others = receipts.list_folder().await?;
        let others = others.entries().iter().map(|entry| entry.path.to_string()).filter(|name| *name != last.name());
        receipts.remove(others.collect()).await?;
        Ok(written)
    }

    fn receipt(&self, outcomes: RowOutcomes, bytes: u64, content: Content) -> FileReceipt {
        let receipt = PartitionReceipt { fingerprint: self.fingerprint, rows: Some(self.rows as u64), outcomes };
        FileReceipt { receipt, bytes, content }
    }
}

/// The local file at a path with a digest of its content; `None` when nothing is there.
fn entry(path: &FsPath) -> Result<Option<Entry>, DataError> {
    let file = match open_regular_file(path) {
        Ok(file) => file,
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(other) => return Err(DataError::io(path, other)),
    };
    let read = file.metadata().and_then(|metadata| Ok((metadata.len(), contents::digest(file)?)));
    let (size, content) = read.map_err(|error| DataError::io(path, error))?;
    Ok(Some(Entry { path: "".into(), size, stamp: Stamp::Content(content), plain: true }))
}

/// What may go from a partition's folder once its file is there.
fn layout_of(suffix: &str, overwrite: bool) -> FileLayout<'_> {
    FileLayout { level: Level::Folder, suffix: suffix.into(), overwrite, files: None }
}
