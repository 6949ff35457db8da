//! Executes a step over the rows of a table: parts of it are computed, and written in the order of the table. The old output is kept
//! until the new one is complete.
//!
//! Answers that were paid for are stored as they come, by the job; so a step that is stopped goes on where it was.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::StreamExt as _;
use tokio::time::Instant;

use super::{
    assess::{AssessError, Judgement, MemoryDigests, Scope},
    context::RunContext,
    event::{EventKind, PartitionTally},
    outcome::{Failure, StepEnd, StepError},
    row_errors::RowErrors,
    table::StopRequests,
    workspace::Step,
};
use crate::{
    data::{ComputedRows, RowOutcomes, WriteRequest, Written},
    function::{FunctionError, PartitionChunk, PartitionJob, PartitionTask, compute_rows},
    model::{Fingerprint, RowTally},
};

impl Scope<'_> {
    /// Judges a step over the rows of a table: an output that is up to date may hold more errors than are allowed.
    pub(super) async fn judge_rows(
        &self,
        step: &Step,
        job: &dyn PartitionJob,
        memory: &MemoryDigests,
    ) -> Result<Judgement, AssessError> {
        let judgement = self.judge_table(step, job.fingerprint(self.context)?, memory).await?;
        if !matches!(judgement, Judgement::UpToDate { .. }) {
            return Ok(judgement);
        }
        let computed = step.output().state(self.stores).await?.computed;
        let rows = computed.map(RowErrors::from).unwrap_or_default();
        Ok(match rows.exceed(&step.name, self.max_row_error_rate(job), None) {
            Some(error) => Judgement::TooManyErrors { partitions: 0, rows, error },
            None => Judgement::UpToDate { partitions: 0, rows },
        })
    }
}

/// What became of the rows so far.
#[derive(Default)]
struct Progress {
    tally: RowTally,
    /// The error of the last row that failed.
    last_error: Option<Arc<str>>,
    /// Why no more rows come.
    failed: Option<FunctionError>,
}

impl Progress {
    fn computed(&self) -> ComputedRows {
        let RowTally { ok, cached, empty, error } = self.tally;
        ComputedRows { rows: ok + cached + empty + error, outcomes: RowOutcomes { errors: error, empty } }
    }
}

/// Computes the rows and replaces the output; `receipt` identifies it. Fails if too many rows have errors, which are in the output.
pub(super) async fn execute(
    run: &Arc<RunContext>,
    step: &Step,
    job: &Arc<dyn PartitionJob>,
    (receipt, reason): (Fingerprint, String),
) -> Result<StepEnd, StepError> {
    let (node, function) = (step.name.clone(), step.function.clone());
    run.events.send(EventKind::NodeStarted { node: node.clone(), function, reason, partitions: None, skipped: 0 });
    let begin = Instant::now();
    let counters = run.node(&node);
    let (opening, mut context) = (Arc::clone(job), run.functions.clone());
    context.service.usage = counters.usage.clone();
    let opened = tokio::task::spawn_blocking(move || opening.open(&context));
    let task = tokio::select! {
        biased;
        () = run.stopping() => return Ok(StepEnd::Stopped),
        task = opened => task.expect("`open` does not panic")?,
    };
    let stop = StopRequests::new(vec![run.shutdown.drain.clone(), run.halt.clone()]);
    let progress = Arc::<Mutex<Progress>>::default();
    // What was sent is answered and stored also after a request to stop, so the first one ends the work.
    let written = tokio::select! {
        biased;
        () = run.shutdown.abort.cancelled() => Ok(None),
        written = write(run, step, &task, receipt, (&stop, &progress)) => written,
    };
    let flushed = task.flush().await;
    let written = written?;
    flushed?;
    let Some(written) = written else { return Ok(StepEnd::Stopped) };
    let (computed, last_error) = {
        let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        (progress.computed(), progress.last_error.clone())
    };
    run.remember(step, receipt);
    counters.read(computed.rows);
    counters.wrote(written.bytes);
    let rows = RowErrors::from(computed);
    if let Some(error) = rows.exceed(&step.name, run.scope().max_row_error_rate(&**job), last_error.as_deref()) {
        run.node_failed(node, error);
        return Ok(StepEnd::Failed(Failure::OWN));
    }
    step.job.succeeded(&run.functions);
    run.node_finished(node, written.rows, PartitionTally::default(), (begin, receipt));
    Ok(StepEnd::Done { rows_with_errors: rows.errors(), skipped: false })
}

/// Writes the output; `None` if a stop request ended that.
async fn write(
    run: &Arc<RunContext>,
    step: &Step,
    task: &Arc<dyn PartitionTask>,
    receipt: Fingerprint,
    (stop, progress): (&StopRequests, &Arc<Mutex<Progress>>),
) -> Result<Option<Written>, StepError> {
    let table = step.input_of_rows().dataset.table_source()?.table(&run.stores).await?;
    let begun = tokio::select! {
        biased;
        () = stop.requested() => return Ok(None),
        begun = compute_rows(task, table, &run.functions) => begun,
    };
    let (schema, chunks) = match begun {
        Ok(begun) => begun,
        Err(FunctionError::Interrupted(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (counted, counting) = (Arc::clone(progress), Arc::clone(run));
    let rows = chunks.map(move |chunk| record(&counting, &counted, chunk));
    let rows: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
    let (events, node) = (run.events.clone(), step.name.clone());
    let report = move |rows| events.send(EventKind::TableProgress { node: node.clone(), rows });
    let locked = || progress.lock().unwrap_or_else(PoisonError::into_inner);
    let request = WriteRequest {
        table: stop.interruptible(rows),
        receipt,
        progress: &report,
        computed: &|| Some(locked().computed()),
    };
    let _unbatched = run.stores.sync_unbatched();
    let written = step.output().table_sink()?.write_table(&run.stores, request).await;
    let failed = locked().failed.take();
    match (written, failed) {
        (Ok(written), _) => {
            step.output().synced(&run.stores).await?;
            Ok(Some(written))
        }
        (Err(error), _) if error.is_lost_lease() => Err(error.into()),
        (Err(_), Some(FunctionError::Interrupted(_))) => Ok(None),
        (Err(_), Some(error)) => Err(error.into()),
        // The stream was ended by a stop request, and the writer has removed the incomplete output.
        (Err(_), None) if stop.is_requested() => Ok(None),
        (Err(error), None) => Err(error.into()),
    }
}

/// Counts the rows of a chunk, or keeps why there is none: the writer passes on a text.
fn record(
    run: &RunContext,
    progress: &Mutex<Progress>,
    chunk: Result<PartitionChunk, FunctionError>,
) -> Result<arrow::array::RecordBatch, DataFusionError> {
    let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
    match chunk {
        Ok(PartitionChunk { batch, tally, last_error }) => {
            progress.tally.add(tally);
            if last_error.is_some() {
                progress.last_error = last_error;
            }
            run.count_rows(tally);
            Ok(batch)
        }
        Err(error) => {
            let shown = error.to_string();
            progress.failed = Some(error);
            Err(DataFusionError::Execution(shown))
        }
    }
}
