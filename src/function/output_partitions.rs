//! Partitions that a function gives one by one, and the columns that all partitions of an output have.

use arrow::datatypes::Schema;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;

use super::error::FunctionError;
use crate::model::PartitionKey;

/// The columns that all partitions of an output have.
pub trait KnownColumns: Send + Sync {
    /// A partition that is there already has these columns. True if that is all there is to know.
    fn add(&self, partition: &PartitionKey, schema: &Schema) -> bool;
}

/// The partitions that a function gives, each when it is computed.
#[async_trait]
pub trait OutputPartitions: Send {
    /// What comes next; `None` after the last partition.
    ///
    /// # Errors
    /// When the work failed.
    async fn next(&mut self) -> Result<Option<OutputPartition>, FunctionError>;

    /// Says whether the partition that was offered last shall be computed.
    async fn answer(&mut self, wanted: bool);

    /// As [`PartitionTask::known_columns`].
    fn known_columns(&self) -> Option<&dyn KnownColumns> {
        None
    }
}

/// What happens to a partition that a function gives.
pub enum OutputPartition {
    /// It could be computed.
    Offered(PartitionKey),
    /// Its rows.
    Computed(PartitionKey, SendableRecordBatchStream),
}
