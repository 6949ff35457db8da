//! Executes a step that writes a table. The old table is kept until the new one is complete.

use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    context::RunContext,
    counted::RowsRead,
    event::{EventKind, PartitionTally},
    outcome::{StepEnd, StepError},
    workspace::Step,
};
use crate::{
    data::WriteRequest,
    function::{TableJob, Tables},
    model::Fingerprint,
};

/// The tokens that request the end of a table's computation.
pub(super) struct StopRequests(Vec<CancellationToken>);

impl StopRequests {
    pub(super) fn new(requests: Vec<CancellationToken>) -> Self {
        Self(requests)
    }

    pub(super) fn is_requested(&self) -> bool {
        self.0.iter().any(CancellationToken::is_cancelled)
    }

    pub(super) async fn requested(&self) {
        futures::future::select_all(self.0.iter().map(|token| Box::pin(token.cancelled()))).await;
    }

    /// Ends the stream with an error on a stop request, so that the writer removes its temporary files. Dropping the writer
    /// would not wait for that.
    pub(super) fn interruptible(&self, table: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let schema = table.schema();
        let requests = Self(self.0.clone());
        let rows = futures::stream::unfold(Some((table, requests)), async |state| {
            let (mut table, requests) = state?;
            let next = tokio::select! {
                biased;
                () = requests.requested() => None,
                next = table.next() => Some(next),
            };
            match next {
                None => Some((Err(DataFusionError::Execution("the run was stopped".to_owned())), None)),
                Some(rows) => Some((rows?, Some((table, requests)))),
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

/// Computes the table and replaces the existing one; `receipt` identifies the new table.
pub(super) async fn execute(
    run: &RunContext,
    step: &Step,
    job: &dyn TableJob,
    (receipt, reason): (Fingerprint, String),
) -> Result<StepEnd, StepError> {
    let _permit = tokio::select! {
        biased;
        () = run.stopping() => return Ok(StepEnd::Stopped),
        permit = run.table_work.acquire() => permit.expect("the semaphore is never closed"),
    };
    let node = step.name.clone();
    let function = step.function.clone();
    run.events.send(EventKind::NodeStarted { node: node.clone(), function, reason, partitions: None, skipped: 0 });
    let begin = Instant::now();
    let stop = StopRequests::new(vec![run.shutdown.drain.clone(), run.halt.clone()]);
    let (events, name) = (run.events.clone(), node.clone());
    let progress = move |rows| events.send(EventKind::TableProgress { node: name.clone(), rows });
    let mut read = RowsRead::default();
    let work = async {
        let mut inputs = Tables::new();
        for input in &step.inputs {
            let table = input.dataset.table_source()?.table(&run.stores).await?;
            // Another engine reads the files itself.
            let table = if job.is_local() { read.of(table) } else { table };
            inputs.insert(input.port.clone(), table);
        }
        let table = tokio::select! {
            biased;
            () = stop.requested() => return Ok(None),
            table = job.run(inputs, &run.functions) => stop.interruptible(table?),
        };
        let request = WriteRequest { table, receipt, progress: &progress, computed: &|| None };
        // Its few syncs do not wait to be batched with those of other writers.
        let _unbatched = run.stores.sync_unbatched();
        match step.output().table_sink()?.write_table(&run.stores, request).await {
            // The stream was ended by a stop request, and the writer has removed the incomplete table.
            Err(error) if stop.is_requested() && !error.is_lost_lease() => Ok(None),
            written => {
                let written = written?;
                step.output().synced(&run.stores).await?;
                Ok::<_, StepError>(Some(written))
            }
        }
    };
    // Computing a table costs no money, so the first stop request ends it; the old table still exists.
    let written = tokio::select! {
        biased;
        () = run.shutdown.abort.cancelled() => return Ok(StepEnd::Stopped),
        written = work => written,
    };
    if let Some(rows) = read.rows() {
        run.node(&node).read(rows);
    }
    let written = written?;
    let Some(written) = written else { return Ok(StepEnd::Stopped) };
    run.remember(step, receipt);
    let partitions = PartitionTally {
        done: usize::try_from(written.partitions - written.unchanged).unwrap_or(usize::MAX),
        skipped: usize::try_from(written.unchanged).unwrap_or(usize::MAX),
        failed: 0,
    };
    run.node(&node).wrote(written.bytes);
    run.node_finished(node, written.rows, partitions, (begin, receipt));
    Ok(StepEnd::Done { rows_with_errors: 0, skipped: false })
}
