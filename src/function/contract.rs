//! The contract of a function: what it declares, the job it prepares, and the tasks that job runs.
//!
//! Must not know any function that implements it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::{catalog::TableProvider, execution::SendableRecordBatchStream, prelude::SessionContext};
use futures::stream::BoxStream;
use indexmap::IndexMap;

use super::{
    column_origin::{ColumnOrigin, Columns},
    context::Context,
    engine::Engine,
    error::FunctionError,
    memory_budget::{MemoryBudget, Reservation},
    output_partitions::KnownColumns,
    outputs_job::OutputsJob,
};
use crate::{
    config::{Field, Node},
    data::DeclaredColumns,
    diagnostic::{Diagnostic, Diagnostics, Span},
    embed::ProviderType,
    model::{Estimate, Fingerprint, PartitionKey, RowTally, Shape, Signature},
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
    /// True for the names under `function:` that mean this one; a prefix may stand for many.
    fn is_called(&self, name: &str) -> bool {
        name == self.name()
    }
    /// The keys of a node that it takes besides `inputs:` and `outputs:`, such as `workers:`.
    fn options(&self) -> &'static [&'static str] {
        &[]
    }
    /// The keys of the mappings that it reads, by port, for schemas and documentation.
    fn mappings(&self) -> Vec<(&'static str, &'static [Field])> {
        Vec::new()
    }
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
    /// What is under `function:`, and where.
    pub function: (&'a str, Span),
    /// The datasets it reads and writes, in the order written.
    pub inputs: Vec<DatasetArgument>,
    /// See `inputs`.
    pub outputs: Vec<DatasetArgument>,
    /// The keys of the node that [`Function::options`] names.
    pub options: IndexMap<String, &'a Node>,
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
    /// What computes the tables of nodes that do not say it.
    pub engine: Engine,
}

impl<'a> Arguments<'a> {
    /// The value at a port.
    pub fn value(&self, port: &str) -> Option<&'a Node> {
        self.values.get(port).copied()
    }

    /// The parameter at a port that must be one. `None` when there is none, which is a problem unless it was reported before.
    pub fn parameter(&self, port: &str, problems: &mut Diagnostics) -> Option<&'a Node> {
        let value = self.value(port);
        if value.is_none() && !self.is_unknown(port) {
            let message = format!("`{port}` of node `{}` must come from the parameters", self.node);
            problems.push(
                Diagnostic::error("node::value-from-data", message)
                    .at(self.span, "in this node")
                    .help(format!("write `{port}: params:…`, so that it is known before the run starts")),
            );
        }
        value
    }

    /// True if a table fills a port that takes partitions too.
    pub fn takes_table(&self, port: &str) -> bool {
        self.inputs.iter().any(|input| input.port == port && input.shape == Shape::Table)
    }

    /// True for a port that is filled with something that could not be read.
    pub fn is_unknown(&self, port: &str) -> bool {
        self.unknown.iter().any(|unknown| unknown == port)
    }
}

/// A dataset or value at a port of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetArgument {
    /// The port's name; its number from 1 where the node gives a list to a function that takes anything.
    pub port: String,
    /// The name of the dataset or parameter, as written.
    pub name: String,
    /// The shape of the data.
    pub shape: Shape,
    /// The dataset's type as the catalog writes it; `None` for a parameter.
    pub kind: Option<String>,
    /// Its entry in the catalog, for a dataset that a program of another language can open.
    pub external: Option<Node>,
    /// True where `flow` can open it.
    pub readable: bool,
    /// How many of its partitions are computed at once, where it takes partitions.
    pub at_once: usize,
    /// How long one of them may take.
    pub timeout: Duration,
    /// What its entry declares of its columns.
    pub declared: DeclaredColumns,
    /// Where it is named.
    pub span: Span,
}

/// A function with its values: ready to run.
#[derive(Debug, Clone)]
pub enum Job {
    /// Tables in, one table out.
    Table(Arc<dyn TableJob>),
    /// Partitions in, partitions out, one at a time.
    Partitions(Arc<dyn PartitionJob>),
    /// A table in, the same rows out: a job for partitions, which computes parts of the table.
    Rows(Arc<dyn PartitionJob>),
    /// Datasets of any shape in, any number of datasets out: the work of a program that `flow` does not know.
    Outputs(Arc<dyn OutputsJob>),
    /// Nothing to run: the node is a placeholder.
    Placeholder,
}

impl Job {
    /// A job for the rows of a dataset at `port`: of its partitions, or of the table that it is.
    pub fn of_rows(job: Arc<dyn PartitionJob>, port: &str, arguments: &Arguments<'_>) -> Self {
        if arguments.takes_table(port) { Self::Rows(job) } else { Self::Partitions(job) }
    }

    /// The work on rows, if it is such a job.
    pub fn rows(&self) -> Option<&Arc<dyn PartitionJob>> {
        match self {
            Self::Partitions(job) | Self::Rows(job) => Some(job),
            Self::Table(_) | Self::Outputs(_) | Self::Placeholder => None,
        }
    }

    /// Learns what the fingerprint needs and the files of the project do not say, such as the code of a function.
    ///
    /// # Errors
    /// When that is not available, or does not fit the node.
    pub async fn load(&self, context: &Context) -> Result<(), FunctionError> {
        match self {
            Self::Partitions(job) | Self::Rows(job) => job.load(context).await,
            Self::Outputs(job) => job.load(context).await,
            Self::Table(job) => job.load(context).await,
            Self::Placeholder => Ok(()),
        }
    }

    /// True if it opens datasets that `flow` cannot open.
    pub fn opens_external(&self) -> bool {
        matches!(self, Self::Outputs(job) if job.opens_external())
    }

    /// True if [`Self::load`] starts a process.
    pub fn needs_python(&self) -> bool {
        match self {
            Self::Partitions(job) | Self::Rows(job) => job.needs_python(),
            Self::Outputs(job) => job.needs_python(),
            Self::Table(job) => job.needs_python(),
            Self::Placeholder => false,
        }
    }

    /// Names of environment variables that hold secrets it needs and that are not set.
    pub fn missing_secrets(&self) -> Vec<String> {
        match self {
            Self::Partitions(job) | Self::Rows(job) => job.missing_secrets(),
            Self::Outputs(job) => job.missing_secrets(),
            Self::Table(_) | Self::Placeholder => Vec::new(),
        }
    }

    /// The folder that keeps what it pays for until its table is written, relative to the project; `None` where there is none.
    pub fn answers_folder(&self) -> Option<&Path> {
        match self {
            Self::Rows(job) => job.answers_folder(),
            // Each partition is saved as it is done.
            Self::Partitions(_) | Self::Table(_) | Self::Outputs(_) | Self::Placeholder => None,
        }
    }

    /// The query that it runs, if it runs one.
    pub fn query(&self) -> Option<&str> {
        match self {
            Self::Table(job) => job.query(),
            _ => None,
        }
    }

    /// What changed since it last succeeded, as displayed to the user, if that is known.
    pub fn changed(&self, context: &Context) -> Option<String> {
        match self {
            Self::Partitions(job) | Self::Rows(job) => job.changed(context),
            Self::Outputs(job) => job.changed(context),
            Self::Table(_) | Self::Placeholder => None,
        }
    }

    /// See [`OutputsJob::remembers_end`].
    pub fn remembers_end(&self) -> bool {
        matches!(self, Self::Outputs(job) if job.remembers_end())
    }

    /// Remembers what [`Self::changed`] compares with.
    pub fn succeeded(&self, context: &Context) {
        match self {
            Self::Partitions(job) | Self::Rows(job) => job.succeeded(context),
            Self::Outputs(job) => job.succeeded(context),
            Self::Table(_) | Self::Placeholder => {}
        }
    }
}

/// Tables in, one table out.
#[async_trait]
pub trait TableJob: fmt::Debug + Send + Sync {
    /// See [`Job::load`].
    ///
    /// # Errors
    /// When that is not available.
    async fn load(&self, _: &Context) -> Result<(), FunctionError> {
        Ok(())
    }

    /// See [`Job::needs_python`].
    fn needs_python(&self) -> bool {
        false
    }

    /// True if a plan may compute its rows: another engine is not started for that.
    fn is_local(&self) -> bool {
        true
    }

    /// The values that the result depends on; no inputs, no secrets.
    fn fingerprint(&self) -> Fingerprint;

    /// The columns of the result, as far as they follow from those of the inputs, by port. Reads no rows.
    ///
    /// # Errors
    /// When the work would fail for any rows with these columns.
    async fn columns(
        &self,
        _inputs: &IndexMap<String, Option<Columns>>,
        _session: &SessionContext,
    ) -> Result<Option<Columns>, Diagnostic> {
        Ok(None)
    }

    /// Where the columns of the result come from, as far as that follows from the columns of the inputs, by port.
    async fn origins(
        &self,
        _inputs: &IndexMap<String, Option<Columns>>,
        _session: &SessionContext,
    ) -> Vec<ColumnOrigin> {
        Vec::new()
    }

    /// The query that it runs, if it runs one.
    fn query(&self) -> Option<&str> {
        None
    }

    /// Starts the work. Rows are computed as they are pulled.
    ///
    /// # Errors
    /// When the inputs do not match, before any row.
    async fn run(&self, inputs: Tables, context: &Context) -> Result<SendableRecordBatchStream, FunctionError>;
}

/// Tables by port.
pub type Tables = IndexMap<String, Arc<dyn TableProvider>>;

/// Partitions in, partitions out, one at a time.
#[async_trait]
pub trait PartitionJob: fmt::Debug + Send + Sync {
    /// See [`Job::load`].
    ///
    /// # Errors
    /// When that is not available, or does not fit the node.
    async fn load(&self, _: &Context) -> Result<(), FunctionError> {
        Ok(())
    }

    /// See [`Job::needs_python`].
    fn needs_python(&self) -> bool {
        false
    }

    /// See [`Job::changed`].
    fn changed(&self, _: &Context) -> Option<String> {
        None
    }

    /// See [`Job::succeeded`].
    fn succeeded(&self, _: &Context) {}

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

    /// The folder in which answers that cost something are stored as they come, relative to the project; `None` where there is none.
    fn answers_folder(&self) -> Option<&Path> {
        None
    }

    /// The share of rows that may carry an error of their own before the node counts as failed.
    fn max_row_error_rate(&self) -> f64;

    /// The partitions that it works on at once; the output allows `max_workers`.
    fn workers(&self, _: &Context, max_workers: usize) -> usize {
        max_workers
    }

    /// The columns of the result, as far as they follow from those of the input, partition columns included.
    ///
    /// # Errors
    /// When the work would fail for any rows with these columns.
    fn columns(&self, _input: &Columns) -> Result<Option<Columns>, FunctionError> {
        Ok(None)
    }

    /// Where the columns of the result come from, as far as that is known. `port` is that of the partitions.
    fn origins(&self, _port: &str, _input: &Columns) -> Vec<ColumnOrigin> {
        Vec::new()
    }

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

    /// Where it is told the columns of partitions that are there already, if the others have to have them too.
    fn known_columns(&self) -> Option<&dyn KnownColumns> {
        None
    }

    /// The most rows of a table that are computed as a part, within such a budget.
    fn rows_at_once(&self, _memory: &MemoryBudget) -> usize {
        1024
    }

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
    /// The error of the last row that failed.
    pub last_error: Option<Arc<str>>,
}
