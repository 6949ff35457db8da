//! Data: bytes to Arrow and back, wherever they lie.
//!
//! Owns the [`Dataset`] contract, the [`DATASETS`] table, object stores, hive partitions and atomic publishing.
//! Must not know nodes, pipelines, providers or progress bars.
//!
//! Adding a file format: one file in `format/` with a `pub static …` that implements its `FormatType`, one line in
//! [`DATASETS`]. Adding any other dataset type: the same with [`DatasetType`].
//!
//! # How a write is committed
//!
//! - A partition is one object whose name is its receipt (`file_name`): `bucket=12/<32 hex digits>-b8123.parquet`
//!   says how long it is, so that one that was cut short is never believed; a computed one also says its rows and, if
//!   there are any, those with an error: `…-r500-e2-b8123.parquet`. It is committed by one atomic PUT, or a rename, of
//!   the complete object; then other files of that key go. DatasetState is read by listing only.
//! - What others wrote is known by its content (`contents`), on a store by size and etag, and never by its times.
//! - A table written with `partition_by` names each partition by a digest of its rows, so an unchanged partition is
//!   left alone. On the local disk it is staged in `.<name>.flow-staging` beside the dataset (readers take any file
//!   inside for data) and published by renames once it is whole; on an object store each partition is PUT under its
//!   final name. What is stale goes last.
//! - A table has a receipt beside it, `.<name>.flow`, which counts only while the listing is what the write left.
//!   Computed partitions need none: their names say it.
//! - A writer holds a lease ([`Stores::lease`]), `.<name>.flow-lock` beside the dataset. Every change asks it first
//!   (`guard`), and it is given back after the last one has ended.
//! - Every moment at which something new is on the disk or the store is a fault point ([`faults`]), so that a test can
//!   end the process at each.
//! - A write survives the death of the process at any moment; that of the machine once [`Dataset::synced`] has come
//!   back, which many commits share (`syncer`). Nothing is removed and no receipt written for what is not synced yet.

mod address;
mod args;
mod commit;
mod contents;
mod dataset;
mod dataset_type;
mod digest;
mod document;
mod engine;
mod error;
mod faults;
mod file_name;
mod file_set;
mod file_status;
mod files;
mod format;
mod guard;
mod lease;
mod listing;
mod listing_cache;
mod location;
mod logged;
mod memory;
mod memory_store;
mod names;
mod options;
mod ownership;
mod partition_columns;
mod partition_splitter;
mod receipt;
mod schema_difference;
mod sort;
mod space;
mod spooled_file;
mod store_clients;
mod store_path;
mod stores;
mod syncer;
mod tasks;
mod type_info;
mod types;
mod unsupported;
mod walk;
mod web;
mod write;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod lease_tests;

use std::{fmt, sync::Arc, time::Duration};

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{catalog::TableProvider, execution::SendableRecordBatchStream};

pub use self::{
    address::{Address, Claim, normalized, overlaps},
    dataset_type::{DatasetType, FileType},
    engine::{explain, session},
    error::DataError,
    faults::kill_at,
    lease::Lease,
    listing_cache::KeepListings,
    location::{InvalidLocation, Location},
    names::SIBLING_SUFFIXES,
    ownership::Occupants,
    sort::{Freed, SortedChunk, sort},
    store_clients::EnvironmentLookup,
    stores::Stores,
    syncer::Hurry,
    tasks::blocking,
    type_info::TypeInfo,
    types::{DATASETS, decode},
};
use crate::model::{Fingerprint, PartitionKey, Shape};

/// What is known of a dataset without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetInfo {
    /// The catalog's name, with its view.
    pub name: String,
    /// The type's name here, or Kedro's where `flow` has no such type.
    pub type_name: String,
    /// How it is loaded and saved.
    pub shape: Shape,
    /// The path or URL as shown to people, without credentials; `None` for memory.
    pub location: Option<String>,
    /// False when nothing is left after the run (`memory`).
    pub persistent: bool,
    /// False for a known type of Kedro's that `flow` cannot run: `check`, `graph` and `plan` work, `run` does not.
    pub supported: bool,
    /// `layer:` or `metadata.kedro-viz.layer:`.
    pub layer: Option<String>,
}

/// What is there, read from a listing and one small receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DatasetState {
    /// A digest of what is there: of names where `flow` wrote them (they are digests themselves), of names and
    /// contents elsewhere. `None` when nothing is there.
    pub digest: Option<Fingerprint>,
    /// The fingerprint of the work that wrote it, when the receipt matches what is there: whole and untouched.
    pub receipt: Option<Fingerprint>,
    /// How many files are there.
    pub files: usize,
}

/// One partition, listed and not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Which one.
    pub key: PartitionKey,
    /// Its files, sorted by path (relative to the dataset).
    pub files: Vec<PartitionFile>,
    /// A digest of its content, as in [`DatasetState::digest`].
    pub digest: Fingerprint,
}

/// A file of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFile {
    /// Relative to the dataset's folder.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// False when its size is not the one that its name tells: it was cut short, and is no data.
    pub whole: bool,
    /// The fingerprint in its name, when `flow` wrote it and it is whole.
    pub fingerprint: Option<Fingerprint>,
    /// How many rows it holds, when its name tells.
    pub rows: Option<u64>,
    /// How many of them carry an error of their own; 0 when its name does not tell.
    pub errors: u64,
    /// How many of them had nothing to compute; 0 when its name does not tell.
    pub empty: u64,
}

/// How the rows of a computed partition came out, as far as they have no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowOutcomes {
    /// Rows with an error of their own.
    pub errors: u64,
    /// Rows with nothing to compute.
    pub empty: u64,
}

/// A computed partition on its way: rows are taken as they come, and nobody sees any before [`Self::commit`]. One that
/// is dropped leaves nothing.
#[async_trait]
pub trait PartitionWriter: Send {
    /// Takes more rows. Partition columns are in the key and not in the batch.
    ///
    /// # Errors
    /// When they cannot be encoded, or the disk has no room for what is encoded. The partition is given up then.
    async fn write(self: Box<Self>, batch: RecordBatch) -> Result<Box<dyn PartitionWriter>, DataError>;

    /// Commits all rows in one atomic step, then removes other files of this key. How the rows came out is kept in the
    /// name, so that a later run knows without reading.
    ///
    /// # Errors
    /// When the store cannot take it; what was there is then still there.
    async fn commit(self: Box<Self>, outcomes: RowOutcomes) -> Result<Written, DataError>;
}

/// What a write left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Rows written.
    pub rows: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Partitions the table now has; 1 for a single file.
    pub partitions: u64,
    /// Those of them that already held exactly this content, and were left alone.
    pub unchanged: u64,
}

/// How a table is written.
pub struct WriteRequest<'a> {
    /// The rows, sorted by the partition columns where there are any: one partition is open at a time.
    pub table: SendableRecordBatchStream,
    /// The fingerprint of the work, for the receipt.
    pub receipt: Fingerprint,
    /// Called after each partition, or each batch of a single file, with the rows it held.
    pub progress: &'a (dyn Fn(u64) + Send + Sync),
}

/// How the partitions of a dataset are computed and saved, as its entry says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WriteOptions {
    /// Partitions worked on at once.
    pub max_workers: usize,
    /// How long the work on one partition, or on a chunk of a large one, may take; waiting for a rate limit is not work.
    pub timeout: Duration,
    /// What one failed partition means for the others.
    pub on_error: OnError,
    /// When the run has succeeded, the dataset holds this run's partitions and no others.
    pub overwrite: bool,
}

/// What a failed partition means for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Nothing new is started.
    Stop,
    /// The others go on; the node still fails in the end.
    Continue,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { max_workers: 10, timeout: Duration::from_secs(60), on_error: OnError::Stop, overwrite: false }
    }
}

/// A named place for data. Everything here may do I/O, except [`Dataset::info`], [`Dataset::location`] and
/// [`Dataset::write_options`]. What a type cannot do fails with [`DataError::Unsupported`].
#[async_trait]
pub trait Dataset: fmt::Debug + Send + Sync {
    /// What is known without I/O.
    fn info(&self) -> &DatasetInfo;

    /// Where it lies; `None` for memory.
    fn location(&self) -> Option<&Location> {
        None
    }

    /// The columns that become directories when a table is written to it, in order; none for a single file.
    fn partition_columns(&self) -> Vec<String> {
        Vec::new()
    }

    /// True when a table is read back from it as it was written, to the last type of a column.
    fn keeps_types(&self) -> bool {
        false
    }

    /// How its partitions are computed and saved.
    fn write_options(&self) -> WriteOptions {
        WriteOptions::default()
    }

    /// A digest of everything that decides what the files look like that it writes: format, compression, how names
    /// end. Part of what a result is known by; a type with options of its own has its own. Where the files lie and
    /// how many are written at once is no part of it.
    fn written_as(&self) -> Fingerprint {
        Fingerprint::of(&self.info().type_name)
    }

    /// What lies in its place and was not written by `flow`. `columns` are those of its partitions, where they are known
    /// and its entry does not say.
    ///
    /// # Errors
    /// When the store cannot be listed.
    async fn occupants(&self, _stores: &Stores, _columns: Option<&[String]>) -> Result<Occupants, DataError> {
        Ok(Occupants::default())
    }

    /// What is there: a listing and one receipt, no footers.
    ///
    /// # Errors
    /// When the store cannot be listed.
    async fn state(&self, stores: &Stores) -> Result<DatasetState, DataError>;

    /// The dataset as one table; hive columns are promoted, integers as `Int64`.
    ///
    /// # Errors
    /// When nothing is there, or files disagree about their schema (naming the file).
    async fn table(&self, _stores: &Stores) -> Result<Arc<dyn TableProvider>, DataError> {
        Err(cannot(self.info(), "be read as a table"))
    }

    /// Replaces the whole table. The old one stays until the new one is whole; nothing half-written is visible.
    ///
    /// # Errors
    /// When the rows cannot be had or the store cannot take them; the old table is then still there.
    async fn write_table(&self, _stores: &Stores, _request: WriteRequest<'_>) -> Result<Written, DataError> {
        Err(cannot(self.info(), "take a table"))
    }

    /// The partitions that [`Dataset::write_table`] would make of a table, in the order of its rows, as they would be
    /// listed afterwards. Writes nothing; sizes are not known.
    ///
    /// # Errors
    /// When the rows cannot be had, or do not fit the partition columns.
    async fn preview_table(
        &self,
        _stores: &Stores,
        _table: SendableRecordBatchStream,
    ) -> Result<Vec<Partition>, DataError> {
        Err(cannot(self.info(), "be written as partitions"))
    }

    /// The partitions, in key order, listed and not loaded. None when nothing is there.
    ///
    /// # Errors
    /// When the store cannot be listed, or what is there is not partitioned.
    async fn partitions(&self, _stores: &Stores) -> Result<Vec<Partition>, DataError> {
        Err(cannot(self.info(), "be read as partitions"))
    }

    /// Loads one partition: its batches, partition columns promoted.
    ///
    /// # Errors
    /// When a file is gone or broken, naming it.
    async fn load_partition(
        &self,
        _stores: &Stores,
        _partition: &Partition,
    ) -> Result<SendableRecordBatchStream, DataError> {
        Err(cannot(self.info(), "be read as partitions"))
    }

    /// Refuses a partition whose columns differ from those of the first one: nobody could read both as one table.
    ///
    /// # Errors
    /// [`DataError::Drift`], naming a file of each.
    fn same_columns(
        &self,
        _stores: &Stores,
        _partition: (&Partition, &Schema),
        _first: (&Partition, &Schema),
    ) -> Result<(), DataError> {
        Ok(())
    }

    /// Begins one partition with these columns, which will carry `fingerprint` in its name. Nothing is written yet.
    ///
    /// # Errors
    /// When the place cannot be opened.
    fn write_partition(
        &self,
        _stores: &Stores,
        _key: &PartitionKey,
        _fingerprint: Fingerprint,
        _schema: SchemaRef,
    ) -> Result<Box<dyn PartitionWriter>, DataError> {
        Err(cannot(self.info(), "take partitions"))
    }

    /// Waits until everything that was written to it before now survives the loss of power. Nobody is told of a
    /// partition or table before that. On a store every write does.
    ///
    /// # Errors
    /// When the disk could not take something, this or what was written before.
    async fn synced(&self, _stores: &Stores) -> Result<(), DataError> {
        Ok(())
    }

    /// Removes partitions other than `keep` (when the dataset says `overwrite: true`), after all of `keep` are there.
    /// Gives the number removed.
    ///
    /// # Errors
    /// When the store refuses.
    async fn retain_partitions(&self, _stores: &Stores, _keep: &[PartitionKey]) -> Result<usize, DataError> {
        Err(cannot(self.info(), "take partitions"))
    }

    /// The dataset as one small document.
    ///
    /// # Errors
    /// When nothing is there, or it cannot be read.
    async fn value(&self, _stores: &Stores) -> Result<serde_json::Value, DataError> {
        Err(cannot(self.info(), "be read as a value"))
    }

    /// Replaces the document, in one atomic step.
    ///
    /// # Errors
    /// When the store cannot take it; the old document is then still there.
    async fn write_value(
        &self,
        _stores: &Stores,
        _value: &serde_json::Value,
        _receipt: Fingerprint,
    ) -> Result<Written, DataError> {
        Err(cannot(self.info(), "take a value"))
    }
}

fn cannot(info: &DatasetInfo, what: &str) -> DataError {
    DataError::unsupported(&info.name, format!("is of type `{}` and cannot {what}", info.type_name))
}
