//! The contract of a function: what it declares, the job it prepares, and the tasks that job runs.
//!
//! Must not know any function that implements it.

use std::{fmt, path::PathBuf, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::{catalog::TableProvider, execution::SendableRecordBatchStream, prelude::SessionContext};
use futures::stream::BoxStream;
use indexmap::IndexMap;

use super::{
    error::FunctionError,
    memory_budget::{MemoryBudget, Reservation},
};
use crate::{
    config::Node,
    diagnostic::{Diagnostics, Span},
    embed::ProviderType,
    model::{Estimate, Fingerprint, PartitionKey, RowTally, Signature},
    net::ServiceContext,
};

/// Code registered under a name.
pub trait Function: Send + Sync {
    /// The word under `function:`.
    fn name(&self) -> &'static str;
    /// One line for `flow ls functions`.
    fn doc(&self) -> &'static str;
    /// Incremented when the same input and parameters give another result: results of older versions are then out of
    /// date.
    fn version(&self) -> u64;
    /// Its inputs and outputs.
    fn signature(&self) -> Signature;
    /// Reads and checks the values a node passes. Pure: opens nothing, needs no secret. `None` when there were problems.
    fn prepare(&self, arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Job>;
}

/// What a node passes to its function, as far as the project's files say it.
#[derive(Clone)]
pub struct Arguments<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Where the node is defined.
    pub span: Span,
    /// Values of `parameters.yml` by port.
    pub values: IndexMap<String, &'a Node>,
    /// The ports that datasets fill.
    pub tables: Vec<String>,
    /// The ports whose values could not be read. That was reported already: a function reports nothing more about them.
    pub unknown: Vec<String>,
    /// The providers that may be named.
    pub providers: &'a [&'static dyn ProviderType],
    /// The project's folder, for files that a parameter names.
    pub root: PathBuf,
}

impl<'a> Arguments<'a> {
    /// The value at a port.
    pub fn value(&self, port: &str) -> Option<&'a Node> {
        self.values.get(port).copied()
    }

    /// True for a port that is filled with something that could not be read.
    pub fn is_unknown(&self, port: &str) -> bool {
        self.unknown.iter().any(|unknown| unknown == port)
    }
}

/// A function with its values: ready to run.
#[derive(Debug, Clone)]
pub enum Job {
    /// Tables in, one table out.
    Table(Arc<dyn TableJob>),
    /// Partitions in, partitions out, one at a time.
    Partitions(Arc<dyn PartitionJob>),
    /// Nothing to run: the node is a placeholder.
    Placeholder,
}

/// Tables in, one table out.
#[async_trait]
pub trait TableJob: fmt::Debug + Send + Sync {
    /// The values that the result depends on; no inputs, no secrets.
    fn fingerprint(&self) -> Fingerprint;

    /// Starts the work. Rows are computed as they are pulled.
    ///
    /// # Errors
    /// When the inputs do not match, before any row.
    async fn run(&self, inputs: Tables, context: &Context) -> Result<SendableRecordBatchStream, FunctionError>;
}

/// Tables by port.
pub type Tables = IndexMap<String, Arc<dyn TableProvider>>;

/// Partitions in, partitions out, one at a time.
pub trait PartitionJob: fmt::Debug + Send + Sync {
    /// The values that the result depends on, also those that come from the environment or from files; no inputs, no
    /// secrets.
    ///
    /// # Errors
    /// When such a file cannot be read, or a value is missing.
    fn fingerprint(&self, context: &Context) -> Result<Fingerprint, FunctionError>;

    /// Names of environment variables that hold secrets it needs and that are not set.
    fn missing_secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// The share of rows that may carry an error of their own before the node counts as failed.
    fn max_row_error_rate(&self) -> f64;

    /// Checks, before the run starts, that the work can be done and its results can be stored.
    ///
    /// # Errors
    /// With what is wrong.
    fn check(&self, _: &Context) -> Result<(), FunctionError> {
        Ok(())
    }

    /// Opens what the work needs (a model, a client).
    ///
    /// # Errors
    /// When that is not available.
    fn open(&self, context: &Context) -> Result<Arc<dyn PartitionTask>, FunctionError>;
}

/// An opened [`PartitionJob`].
#[async_trait]
pub trait PartitionTask: fmt::Debug + Send + Sync {
    /// Begins one partition: computes its first rows, and the others as they are pulled. What is held at once, rows and
    /// results, is reserved from `memory` before, however many rows the partition has. Cancel safe.
    ///
    /// # Errors
    /// When the partition as a whole cannot be computed.
    async fn run(
        &self,
        key: &PartitionKey,
        input: SendableRecordBatchStream,
        memory: &MemoryBudget,
    ) -> Result<PartitionOutput, FunctionError>;

    /// Adds up what [`PartitionTask::run`] would cost for this input, with the same `memory`.
    ///
    /// # Errors
    /// When the input cannot be read.
    async fn estimate(
        &self,
        input: SendableRecordBatchStream,
        memory: &MemoryBudget,
        estimate: &mut Estimate,
    ) -> Result<(), FunctionError>;

    /// Waits until everything that was paid for is on the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    async fn flush(&self) -> Result<(), FunctionError> {
        Ok(())
    }

    /// Checks that the service behind it responds.
    ///
    /// # Errors
    /// With what is wrong.
    async fn ping(&self) -> Result<(), FunctionError> {
        Ok(())
    }
}

/// One partition that is being computed. Partition columns are in the key and not in the rows.
pub struct PartitionOutput {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows in their order: at least one chunk, which may be empty.
    pub chunks: BoxStream<'static, Result<PartitionChunk, FunctionError>>,
    /// The memory of the partition, to be held until it is committed.
    pub reservation: Reservation,
}

/// Some rows of a partition.
#[derive(Debug)]
pub struct PartitionChunk {
    /// The rows.
    pub batch: RecordBatch,
    /// The outcomes of the rows.
    pub tally: RowTally,
}

/// What the process provides to a function.
#[derive(Clone)]
pub struct Context {
    /// The table engine.
    pub session: SessionContext,
    /// What it provides to a provider.
    pub provider: ServiceContext,
    /// Memory for partitions in work.
    pub memory: MemoryBudget,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("provider", &self.provider).finish_non_exhaustive()
    }
}
