//! Partitions after a checkpoint: Kedro's `IncrementalDataset`.
//!
//! Reading it gives the partitions whose ids come after the one in the checkpoint, a small file in its folder. A node that
//! names it under `confirms:` moves the checkpoint to the last partition that the run has read. Writing it is writing
//! partitions.

use std::sync::Arc;

use arrow::datatypes::Schema;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::{catalog::TableProvider, datasource::MemTable};

use super::{
    DataError, Dataset, DatasetInfo, DatasetState, Location, PartitionSink, PartitionSource, Stores, TableSource,
    capability::Checkpointed, checkpoint::Checkpoint, declared::DeclaredColumns, file_dataset::FileDataset,
    ownership::Occupants,
};
use crate::model::Fingerprint;

/// A dataset of partitions with a checkpoint.
#[derive(Debug)]
pub(super) struct IncrementalDataset {
    /// The partitions after the checkpoint.
    new: FileDataset,
    /// All partitions.
    all: FileDataset,
    checkpoint: Checkpoint,
}

impl IncrementalDataset {
    /// A folder of partitions with this checkpoint.
    pub(super) fn new(files: FileDataset, checkpoint: Checkpoint) -> Self {
        let seeing =
            |only_new| FileDataset { checkpoint: Some(Checkpoint { only_new, ..checkpoint.clone() }), ..files.clone() };
        Self { new: seeing(true), all: seeing(false), checkpoint }
    }
}

#[async_trait]
impl Dataset for IncrementalDataset {
    fn info(&self) -> &DatasetInfo {
        self.all.info()
    }

    fn location(&self) -> Option<&Location> {
        self.all.location()
    }

    fn written_as(&self) -> Fingerprint {
        self.all.written_as()
    }

    fn declared(&self) -> Option<&DeclaredColumns> {
        self.all.declared()
    }

    fn differences(&self) -> Vec<String> {
        self.all.differences()
    }

    async fn occupants(&self, stores: &Stores, columns: Option<&[String]>) -> Result<Occupants, DataError> {
        self.all.occupants(stores, columns).await
    }

    async fn state(&self, stores: &Stores) -> Result<DatasetState, DataError> {
        let (all, new) = (self.all.state(stores).await?, self.new.state(stores).await?);
        if all.digest.is_some() && new.digest.is_none() {
            return Ok(DatasetState { digest: Some(Fingerprint::of("confirmed")), confirmed: true, ..new });
        }
        Ok(new)
    }

    async fn synced(&self, stores: &Stores) -> Result<(), DataError> {
        self.all.synced(stores).await
    }

    fn keeps_columns(&self) -> bool {
        self.all.keeps_columns()
    }

    fn as_table_source(&self) -> Option<&dyn TableSource> {
        Some(self)
    }

    fn as_partition_source(&self) -> Option<&dyn PartitionSource> {
        Some(&self.new)
    }

    fn as_written_partitions(&self) -> Option<&dyn PartitionSource> {
        Some(&self.all)
    }

    fn as_partition_sink(&self) -> Option<&dyn PartitionSink> {
        self.all.as_partition_sink()
    }

    fn as_checkpointed(&self) -> Option<&dyn Checkpointed> {
        Some(self)
    }
}

#[async_trait]
impl TableSource for IncrementalDataset {
    async fn table(&self, stores: &Stores) -> Result<Arc<dyn TableProvider>, DataError> {
        if !self.state(stores).await?.confirmed {
            return self.new.table(stores).await;
        }
        // Nothing is new; what was confirmed says which columns there would be.
        let schema: Arc<Schema> = self.all.table(stores).await?.schema();
        Ok(Arc::new(MemTable::try_new(schema, vec![Vec::new()])?))
    }
}

#[async_trait]
impl Checkpointed for IncrementalDataset {
    async fn confirm(&self, stores: &Stores) -> Result<(), DataError> {
        let place = stores.open(self.location().expect("files have a location"))?;
        if stores.partitions_seen(&place).is_none() {
            self.new.partitions(stores).await?;
        }
        let Some(last) = stores.partitions_seen(&place).and_then(|seen| seen.last().cloned()) else { return Ok(()) };
        place.child(&self.checkpoint.file).put(Bytes::from(last), &place).await
    }
}
