//! Computes the rows of tables that a run has yet to write, from existing data. Nothing is written.
//!
//! Owns what can be known before a run: a table whose format preserves types is computed as its node would compute it,
//! through any number of nodes. The output of a paid API, or of a format that may change types, is unknown until its
//! node has run.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::{
    catalog::{TableProvider, streaming::StreamingTable},
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{stream::RecordBatchStreamAdapter, streaming::PartitionStream},
};
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture, stream};

use super::{outcome::StepError, workspace::Step};
use crate::{
    data::Stores,
    function::{Context, Job, TableJob, Tables},
};

/// Datasets that the run is going to write.
pub(super) struct Simulation<'a> {
    stores: &'a Stores,
    context: &'a Context,
    /// The step that writes each dataset, by base name.
    pending: HashMap<String, Arc<Step>>,
    /// The names of steps whose inputs cannot be read now.
    unseen: HashSet<String>,
}

/// The name of the node that has to run before a value is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnknownUntil(pub String);

/// A table that is yet to be written and whose rows can be computed.
pub(super) struct Simulated {
    /// The step that is going to write it.
    pub writer: Arc<Step>,
    job: Arc<dyn TableJob>,
    inputs: Tables,
    context: Context,
}

impl<'a> Simulation<'a> {
    /// Creates a simulation without pending datasets.
    pub fn new(stores: &'a Stores, context: &'a Context) -> Self {
        Self { stores, context, pending: HashMap::new(), unseen: HashSet::new() }
    }

    /// Marks the outputs of a step as pending.
    pub fn will_run(&mut self, step: &Arc<Step>) {
        self.pending.extend(step.outputs.iter().map(|(name, _)| (name.base().to_owned(), step.clone())));
    }

    /// As [`Self::will_run`], for a step whose inputs cannot be read now.
    pub fn will_run_unseen(&mut self, step: &Arc<Step>) {
        self.will_run(step);
        self.unseen.insert(step.name.clone());
    }

    /// True when a step is going to write a dataset.
    pub fn is_pending(&self, dataset: &str) -> bool {
        self.pending.contains_key(dataset)
    }

    /// The table that is going to be written to a dataset, which must be pending.
    ///
    /// # Errors
    /// When an input cannot be read or the query cannot be planned.
    pub fn rows(&self, dataset: &str) -> BoxFuture<'_, Result<Result<Simulated, UnknownUntil>, StepError>> {
        let writer = self.pending[dataset].clone();
        async move {
            let job = match &writer.job {
                Job::Table(job) if !self.unseen.contains(&writer.name) && job.is_local() => job,
                _ => return Ok(Err(UnknownUntil(writer.name.clone()))),
            };
            let mut inputs = Tables::new();
            for input in &writer.inputs {
                let table = match self.pending.get(&input.base) {
                    None => input.dataset.table_source()?.table(self.stores).await?,
                    Some(upstream) => match self.rows(&input.base).await? {
                        Err(unknown) => return Ok(Err(unknown)),
                        Ok(rows) => match rows.table().await? {
                            Some(table) => table,
                            None => return Ok(Err(UnknownUntil(upstream.name.clone()))),
                        },
                    },
                };
                inputs.insert(input.port.clone(), table);
            }
            let job = job.clone();
            Ok(Ok(Simulated { writer, job, inputs, context: self.context.clone() }))
        }
        .boxed()
    }
}

impl Simulated {
    /// The rows. Each call computes them anew.
    ///
    /// # Errors
    /// When the function rejects its inputs.
    pub async fn stream(&self) -> Result<SendableRecordBatchStream, StepError> {
        Ok(self.job.run(self.inputs.clone(), &self.context).await?)
    }

    /// The table as a downstream node reads it; `None` if its format might change types.
    async fn table(self) -> Result<Option<Arc<dyn TableProvider>>, StepError> {
        let Some(output) = self.writer.output().as_table_sink() else { return Ok(None) };
        if !output.keeps_types() {
            return Ok(None);
        }
        let schema = self.stream().await?.schema();
        // A string in a directory name may be read back as an integer.
        let is_integer =
            |column: &String| schema.field_with_name(column).is_ok_and(|field| field.data_type() == &DataType::Int64);
        if !output.partition_columns().iter().all(is_integer) {
            return Ok(None);
        }
        let rows = Computed { schema: schema.clone(), job: self.job, inputs: self.inputs, context: self.context };
        let table =
            StreamingTable::try_new(schema, vec![Arc::new(rows)]).map_err(crate::function::FunctionError::from)?;
        Ok(Some(Arc::new(table)))
    }
}

/// Rows that are computed when the stream is executed.
#[derive(Debug)]
struct Computed {
    schema: SchemaRef,
    job: Arc<dyn TableJob>,
    inputs: Tables,
    context: Context,
}

impl PartitionStream for Computed {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (job, inputs, context) = (self.job.clone(), self.inputs.clone(), self.context.clone());
        let rows =
            async move { job.run(inputs, &context).await.map_err(|error| DataFusionError::External(Box::new(error))) };
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream::once(rows).try_flatten()))
    }
}
