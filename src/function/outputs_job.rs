//! The contract of a job with any number of outputs of any shape: what it gets, and what it gives.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{catalog::TableProvider, execution::SendableRecordBatchStream};
use indexmap::IndexMap;

use super::{context::Context, error::FunctionError, output_partitions::OutputPartitions};
use crate::{data::HeldObject, model::Fingerprint, python::PartitionReader};

/// Datasets of any shape in, any number of datasets out.
#[async_trait]
pub trait OutputsJob: fmt::Debug + Send + Sync {
    /// See [`super::Job::load`].
    ///
    /// # Errors
    /// When that is not available, or does not fit the node.
    async fn load(&self, _: &Context) -> Result<(), FunctionError> {
        Ok(())
    }

    /// See [`super::Job::needs_python`].
    fn needs_python(&self) -> bool {
        false
    }

    /// See [`super::Job::opens_external`].
    fn opens_external(&self) -> bool {
        false
    }

    /// True if it takes the partitions of this input one by one.
    fn takes_partitions(&self, _port: &str, _: &Context) -> bool {
        false
    }

    /// True if it opens the dataset at this input port, which `flow` may be able to open too.
    fn opens(&self, _port: &str, _: &Context) -> bool {
        self.opens_external()
    }

    /// Names of environment variables that hold secrets it needs and that are not set.
    fn missing_secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// See [`super::Job::changed`].
    fn changed(&self, _: &Context) -> Option<String> {
        None
    }

    /// See [`super::Job::succeeded`].
    fn succeeded(&self, _: &Context) {}

    /// True if it is known to be done when its outputs are in memory only and nobody reads them.
    fn remembers_end(&self) -> bool {
        false
    }

    /// What the result depends on; no inputs, no secrets. [`Self::load`] was called before.
    ///
    /// # Errors
    /// When it is not known.
    fn fingerprint(&self, context: &Context) -> Result<Fingerprint, FunctionError>;

    /// Starts the work. It is cancelled when the outputs are dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    async fn run(
        &self,
        inputs: IndexMap<String, NodeInput>,
        context: &Context,
    ) -> Result<Box<dyn Outputs>, FunctionError>;
}

/// What a dataset at an input port holds.
pub enum NodeInput {
    /// A table; all partitions of partitions.
    Table(Arc<dyn TableProvider>),
    /// A value.
    Value(serde_json::Value),
    /// An object that a program of another language holds.
    Held(HeldObject),
    /// Partitions, each of which is read when it is needed.
    Partitions {
        /// Their ids.
        keys: Vec<String>,
        /// Reads one of them.
        read: PartitionReader,
    },
    /// Something that the function opens itself.
    External,
}

/// What a node gives for an output port.
pub enum NodeOutput {
    /// Rows, which are whole when the stream ends without an error.
    Table(SendableRecordBatchStream),
    /// A value.
    Value(serde_json::Value),
    /// An object that a program of another language holds.
    Held(HeldObject),
    /// Partitions, one after the other.
    Partitions(Box<dyn OutputPartitions>),
    /// Something that the function has written itself.
    External,
}

/// The outputs of a node, in the order of its ports.
#[async_trait]
pub trait Outputs: Send {
    /// The next output; `None` when the work is known to have succeeded. The rows of the one before were read.
    ///
    /// # Errors
    /// When the work failed.
    async fn next(&mut self) -> Result<Option<NodeOutput>, FunctionError>;
}
