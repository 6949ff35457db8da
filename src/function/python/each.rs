//! A function that gets one partition at a time.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Semaphore;

use super::{
    call::PythonCall,
    key::check_key,
    schema_lock::{self, SchemaLock},
};
use crate::{
    function::{
        Context, FunctionError, KnownColumns, MemoryBudget, PartitionChunk, PartitionJob, PartitionOutput,
        PartitionTask,
    },
    model::{Estimate, Fingerprint, PartitionKey, RowTally},
    python::{Call, Described, InputData, OutputData, Workers},
};

/// What `flow` itself holds of a partition while a worker computes it: some batches on their way.
const MEMORY: u64 = 32 << 20;

#[derive(Debug)]
pub(super) struct EachJob {
    call: Arc<PythonCall>,
}

impl EachJob {
    pub(super) fn new(call: PythonCall) -> Self {
        Self { call: Arc::new(call) }
    }
}

#[async_trait]
impl PartitionJob for EachJob {
    async fn load(&self, context: &Context) -> Result<(), FunctionError> {
        self.call.load(context).await
    }

    fn needs_python(&self) -> bool {
        true
    }

    fn changed(&self, context: &Context) -> Option<String> {
        self.call.changed(context)
    }

    fn succeeded(&self, context: &Context) {
        self.call.succeeded(context);
    }

    fn fingerprint(&self, context: &Context) -> Result<Fingerprint, FunctionError> {
        self.call.fingerprint(context)
    }

    fn missing_secrets(&self) -> Vec<String> {
        self.call.missing_secrets()
    }

    fn max_row_error_rate(&self) -> f64 {
        1.0
    }

    fn workers(&self, context: &Context, max_workers: usize) -> usize {
        self.call.workers.unwrap_or_else(|| context.python.cores().min(max_workers))
    }

    fn open(&self, context: &Context) -> Result<Arc<dyn PartitionTask>, FunctionError> {
        let (cores, workers) = (context.python.cores(), self.call.workers);
        Ok(Arc::new(EachTask {
            call: self.call.clone(),
            described: self.call.described(context)?,
            python: context.python.clone(),
            threads: (cores / workers.unwrap_or(cores)).max(1),
            limit: workers.map(|workers| Arc::new(Semaphore::new(workers))),
            lock: Arc::new(SchemaLock::new(self.call.declared_of(0))),
        }))
    }
}

#[derive(Debug)]
struct EachTask {
    call: Arc<PythonCall>,
    described: Described,
    python: Workers,
    threads: usize,
    limit: Option<Arc<Semaphore>>,
    lock: Arc<SchemaLock>,
}

#[async_trait]
impl PartitionTask for EachTask {
    async fn run(
        &self,
        key: &PartitionKey,
        input: SendableRecordBatchStream,
        memory: &MemoryBudget,
    ) -> Result<PartitionOutput, FunctionError> {
        let reservation = memory.reserve(memory.share().min(MEMORY)).await;
        let mut input = Some(input);
        let mut request = self.call.request(&self.described, self.threads, |_| {
            let rows = input.take().ok_or_else(|| FunctionError::Failed("it has more than one input".to_owned()))?;
            Ok(InputData::Table(rows))
        })?;
        request.limit.clone_from(&self.limit);
        let call = self.python.call(request).await?;
        let table = match call.next().await? {
            Some(OutputData::Table(table)) => table,
            _ => return Err(FunctionError::Failed("it gave no table".to_owned())),
        };
        let schema = self.lock.lock(key, &table.schema()).map_err(FunctionError::Failed)?;
        let state = Some((call, table, key.clone(), schema.clone(), true));
        let chunks = stream::try_unfold(state, async |state| {
            let Some((call, mut table, key, schema, first)) = state else { return Ok(None) };
            let batch = match table.next().await? {
                Some(batch) => batch,
                None => {
                    // Only now is the function known to have succeeded.
                    end(&call).await?;
                    return Ok(first.then(|| (chunk(RecordBatch::new_empty(schema)), None)));
                }
            };
            check_key(&batch, &key)?;
            let batch = schema_lock::fit(&batch, &schema).map_err(FunctionError::Failed)?;
            Ok::<_, FunctionError>(Some((chunk(batch), Some((call, table, key, schema, false)))))
        });
        Ok(PartitionOutput { schema, chunks: chunks.boxed(), reservation })
    }

    fn known_columns(&self) -> Option<&dyn KnownColumns> {
        Some(&*self.lock)
    }

    async fn estimate(
        &self,
        mut input: SendableRecordBatchStream,
        _: &MemoryBudget,
        estimate: &mut Estimate,
    ) -> Result<(), FunctionError> {
        while let Some(batch) = input.try_next().await? {
            estimate.rows += batch.num_rows() as u64;
        }
        Ok(())
    }
}

async fn end(call: &Call) -> Result<(), FunctionError> {
    match call.next().await? {
        None => Ok(()),
        Some(_) => Err(FunctionError::Failed("it gave more than one table".to_owned())),
    }
}

fn chunk(batch: RecordBatch) -> PartitionChunk {
    let ok = batch.num_rows() as u64;
    PartitionChunk { batch, tally: RowTally { ok, ..RowTally::default() }, last_error: None }
}
