//! One step that writes a table: its inputs as tables in, one table out, the old one kept until the new one is whole.

use tokio::time::Instant;

use super::{
    context::RunContext,
    event::{EventKind, PartitionTally},
    outcome::{StepEnd, StepError},
    workspace::Step,
};
use crate::{
    data::WriteRequest,
    function::{TableJob, Tables},
    model::Fingerprint,
};

/// Computes the table and replaces what is there; `receipt` is what it will be known by.
pub(super) async fn execute(
    run: &RunContext,
    step: &Step,
    job: &dyn TableJob,
    (receipt, reason): (Fingerprint, String),
) -> Result<StepEnd, StepError> {
    let _turn = run.table_work.acquire().await.expect("the semaphore is never closed");
    let node = step.name.clone();
    let function = step.function.clone();
    run.events.send(EventKind::NodeStarted { node: node.clone(), function, reason, partitions: None, skipped: 0 });
    let begin = Instant::now();
    let (events, name) = (run.events.clone(), node.clone());
    let progress = move |rows| events.send(EventKind::TableProgress { node: name.clone(), rows });
    let work = async {
        let mut inputs = Tables::new();
        for input in &step.inputs {
            inputs.insert(input.port.clone(), input.dataset.table(&run.stores).await?);
        }
        let table = job.run(inputs, &run.functions).await?;
        let request = WriteRequest { table, receipt, progress: &progress };
        Ok::<_, StepError>(step.output().write_table(&run.stores, request).await?)
    };
    // Nothing was paid for a table: a request to stop drops it at once, and the old one is still there.
    let written = tokio::select! {
        biased;
        () = run.shutdown.drain.cancelled() => return Ok(StepEnd::Stopped),
        () = run.halt.cancelled() => return Ok(StepEnd::Stopped),
        written = work => written?,
    };
    if !step.output().info().persistent {
        run.remember(step, receipt);
    }
    let partitions = PartitionTally {
        done: usize::try_from(written.partitions - written.unchanged).unwrap_or(usize::MAX),
        skipped: usize::try_from(written.unchanged).unwrap_or(usize::MAX),
        failed: 0,
    };
    let seconds = begin.elapsed().as_secs_f64();
    run.events.send(EventKind::NodeFinished { node, rows: written.rows, partitions, seconds });
    Ok(StepEnd::Done { rows_with_errors: 0, skipped: false })
}
