//! What a dataset may be able to do, each as a trait of its own: to be read or written as a table, as partitions, as a value.
//!
//! A dataset says which of them it has ([`Dataset::as_table_source`](super::Dataset::as_table_source), …).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{catalog::TableProvider, execution::SendableRecordBatchStream};

use super::{
    error::DataError,
    memory_store::HeldObject,
    partition::{Partition, PartitionReceipt},
    row_outcomes::{ComputedRows, RowOutcomes},
    stores::Stores,
};
use crate::{
    config::Node,
    model::{Fingerprint, PartitionKey},
};

/// A dataset that can be read as one table.
#[async_trait]
pub trait TableSource: Send + Sync {
    /// The dataset as one table; hive columns are promoted, integers as `Int64`.
    ///
    /// # Errors
    /// When it holds nothing, or files disagree about their columns (naming the file).
    async fn table(&self, stores: &Stores) -> Result<Arc<dyn TableProvider>, DataError>;
}

/// A dataset that a whole table can be written to.
#[async_trait]
pub trait TableSink: Send + Sync {
    /// The columns that become directories, in order; none for a single file.
    fn partition_columns(&self) -> Vec<String>;

    /// True when a table is read back as it was written, to the last type of a column.
    fn keeps_types(&self) -> bool;

    /// Replaces the whole table. The old one stays until the new one is whole; nothing half-written is visible.
    ///
    /// # Errors
    /// When the rows are not available or the store cannot take them; the old table is kept then.
    async fn write_table(&self, stores: &Stores, request: WriteRequest<'_>) -> Result<Written, DataError>;

    /// The partitions that [`Self::write_table`] would make of a table, in the order of its rows, as they would be listed
    /// afterwards. Writes nothing; sizes are not known.
    ///
    /// # Errors
    /// When the rows are not available, or do not fit the partition columns.
    async fn preview_table(
        &self,
        stores: &Stores,
        table: SendableRecordBatchStream,
    ) -> Result<Vec<Partition>, DataError>;
}

/// How a table is written.
pub struct WriteRequest<'a> {
    /// The rows, sorted by the partition columns where there are any: one partition is open at a time.
    pub table: SendableRecordBatchStream,
    /// The fingerprint of the work, for the receipt.
    pub receipt: Fingerprint,
    /// Called after each partition, or each batch of a single file, with the rows it held.
    pub progress: &'a (dyn Fn(u64) + Send + Sync),
    /// Called after the last row: how the rows came out, where they are computed one by one. Kept in the receipt.
    pub computed: &'a (dyn Fn() -> Option<ComputedRows> + Send + Sync),
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

/// A dataset that can be read partition by partition.
#[async_trait]
pub trait PartitionSource: Send + Sync {
    /// The partitions, in key order, listed and not loaded. None when the dataset holds nothing.
    ///
    /// # Errors
    /// When the store cannot be listed, or its files are not partitioned.
    async fn partitions(&self, stores: &Stores) -> Result<Vec<Partition>, DataError>;

    /// Loads one partition: its batches, partition columns promoted.
    ///
    /// # Errors
    /// When a file is gone or broken, naming it.
    async fn load_partition(
        &self,
        stores: &Stores,
        partition: &Partition,
    ) -> Result<SendableRecordBatchStream, DataError>;

    /// Refuses a partition whose columns differ from those of the first one: they could not be read as one table.
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
}

/// A dataset that partitions are written to one by one.
#[async_trait]
pub trait PartitionSink: Send + Sync {
    /// How its partitions are computed and saved.
    fn write_options(&self) -> WriteOptions;

    /// Begins one partition with these columns, which will carry `fingerprint` in its name. Nothing is written yet.
    ///
    /// # Errors
    /// When its location cannot be opened.
    fn write_partition(
        &self,
        stores: &Stores,
        key: &PartitionKey,
        fingerprint: Fingerprint,
        schema: SchemaRef,
    ) -> Result<Box<dyn PartitionWriter>, DataError>;

    /// What is at the place of one partition now, read without listing the dataset: the receipts of its whole files. Two attempts of
    /// a shard that commit at the same time leave two files of the same work for a moment.
    ///
    /// # Errors
    /// When the store refuses.
    async fn receipts_at(&self, _stores: &Stores, _key: &PartitionKey) -> Result<Vec<PartitionReceipt>, DataError> {
        Ok(Vec::new())
    }

    /// Takes over a partition that is there, as the result of this work with these rows.
    ///
    /// # Errors
    /// When it is not one whole file, the store refuses, or its name cannot say what made it.
    async fn accept_partition(
        &self,
        _stores: &Stores,
        partition: &Partition,
        _receipt: PartitionReceipt,
    ) -> Result<(), DataError> {
        Err(DataError::unsupported(&partition.key.to_string(), "cannot be taken over"))
    }

    /// Removes partitions other than `keep` (when the dataset says `overwrite: true`), after all of `keep` are there, each
    /// with its fingerprint. What flow wrote for one of these with another fingerprint, in a run that lost its lease, goes too.
    /// Gives the number of partitions removed.
    ///
    /// # Errors
    /// When the store refuses.
    async fn retain_partitions(
        &self,
        stores: &Stores,
        keep: &BTreeMap<PartitionKey, Fingerprint>,
    ) -> Result<usize, DataError>;
}

/// A computed partition on its way: rows are taken as they come, and none is visible before [`Self::commit`]. One that
/// is dropped leaves nothing.
#[async_trait]
pub trait PartitionWriter: Send {
    /// Takes more rows. Partition columns are in the key and not in the batch.
    ///
    /// # Errors
    /// When they cannot be encoded, or the disk is full. The partition is given up then.
    async fn write(self: Box<Self>, batch: RecordBatch) -> Result<Box<dyn PartitionWriter>, DataError>;

    /// Commits all rows in one atomic step, then removes other files of this key. How the rows came out is kept in the
    /// name, so that a later run knows without reading.
    ///
    /// # Errors
    /// When the store cannot take it; what was there is then still there.
    async fn commit(self: Box<Self>, outcomes: RowOutcomes) -> Result<Written, DataError>;
}

/// A dataset that remembers which of its partitions were read.
#[async_trait]
pub trait Checkpointed: Send + Sync {
    /// Moves the checkpoint to the last of the partitions that this run has listed: later runs read those after it.
    ///
    /// # Errors
    /// When the store cannot take it.
    async fn confirm(&self, stores: &Stores) -> Result<(), DataError>;
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

/// A dataset that only a program of another language opens, such as Python with Kedro's own class.
#[async_trait]
pub trait External: Send + Sync {
    /// Its entry in the catalog.
    fn entry(&self) -> &Node;

    /// Notes that the program wrote it, by work with this fingerprint.
    ///
    /// # Errors
    /// When the receipt cannot be written.
    async fn written(&self, stores: &Stores, receipt: Fingerprint) -> Result<(), DataError>;
}

/// A dataset that is one small value, read and written whole.
#[async_trait]
pub trait Document: Send + Sync {
    /// The value.
    ///
    /// # Errors
    /// When the dataset holds nothing, or it cannot be read.
    async fn value(&self, stores: &Stores) -> Result<serde_json::Value, DataError>;

    /// The object that a program of another language holds for it in its memory, if it does.
    fn held(&self, _stores: &Stores) -> Option<HeldObject> {
        None
    }

    /// Notes an object that a program of another language holds.
    ///
    /// # Errors
    /// When the dataset outlives the run.
    fn hold(&self, _stores: &Stores, _object: HeldObject, _receipt: Fingerprint) -> Result<(), DataError> {
        Err(DataError::unsupported("an object in memory", "cannot be the content of a file"))
    }

    /// Replaces the value, in one atomic step.
    ///
    /// # Errors
    /// When the store cannot take it; the old value is kept then.
    async fn write_value(
        &self,
        stores: &Stores,
        value: &serde_json::Value,
        receipt: Fingerprint,
    ) -> Result<Written, DataError>;
}
