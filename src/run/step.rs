//! Executes one step.
//!
//! A step is judged when it starts, by its inputs at that moment; then its table or its partitions are computed. Must
//! not know which step runs next.

use std::sync::Arc;

use super::{
    assess::Judgement,
    context::RunContext,
    event::{EventKind, PartitionTally},
    outcome::{Failure, StepEnd, StepError},
    outputs, partitions,
    row_errors::RowErrors,
    rows, table,
    workspace::Step,
};
use crate::{function::Job, model::RowTally};

/// Executes a step, and returns how it ended.
pub(crate) async fn execute(run: Arc<RunContext>, step: Arc<Step>) -> StepEnd {
    let ended = match attempt(&run, &step).await {
        Ok(end @ StepEnd::Done { .. }) => confirm(&run, &step).await.map(|()| end),
        other => other,
    };
    match ended {
        Ok(end) => {
            if matches!(end, StepEnd::Done { .. }) {
                run.needs.settle(step.id);
            }
            end
        }
        Err(error) => {
            run.node_failed(step.name.clone(), error.to_string());
            StepEnd::Failed(error.failure())
        }
    }
}

/// Moves the checkpoints of the datasets that a finished step confirms. Its output is safe before that.
async fn confirm(run: &RunContext, step: &Step) -> Result<(), StepError> {
    // What a shard has read is a part: the run that sees all of it moves the checkpoint.
    for dataset in step.confirms.iter().filter(|_| run.options.shard.is_none()) {
        if let Some(checkpointed) = dataset.as_checkpointed() {
            checkpointed.confirm(&run.stores).await?;
        }
    }
    Ok(())
}

async fn attempt(run: &Arc<RunContext>, step: &Arc<Step>) -> Result<StepEnd, StepError> {
    let (scope, memory) = (run.scope(), run.memory_digests());
    let judgement = tokio::select! {
        biased;
        () = run.stopping() => return Ok(StepEnd::Stopped),
        judgement = scope.judge(step, &memory, &run.needs) => judgement?,
    };
    match judgement {
        Judgement::UpToDate { partitions, rows } => {
            count(run, partitions, rows);
            Ok(skipped(run, step, rows.errors(), "up to date"))
        }
        Judgement::TooManyErrors { partitions, rows, error } => {
            count(run, partitions, rows);
            run.node_failed(step.name.clone(), error);
            Ok(StepEnd::Failed(Failure::OWN))
        }
        Judgement::NotNeeded { receipt } => {
            run.remember(step, receipt);
            Ok(skipped(run, step, 0, "everything that reads it is up to date"))
        }
        Judgement::Partitions(work) => {
            if let Some(question) = work.needs_consent(step).filter(|_| !run.options.yes) {
                return Err(StepError::NeedsConsent(question));
            }
            run.drop_listings();
            partitions::execute(run, step, work).await
        }
        Judgement::Table { receipt, reason, .. } => {
            run.drop_listings();
            match &step.job {
                Job::Table(job) => table::execute(run, step, &**job, (receipt, reason)).await,
                Job::Outputs(job) => outputs::execute(run, step, &**job, (receipt, reason)).await,
                Job::Rows(job) => rows::execute(run, step, job, (receipt, reason)).await,
                Job::Partitions(_) | Job::Placeholder => unreachable!("placeholders are rejected before a run starts"),
            }
        }
        Judgement::Waits { .. } | Judgement::Blocked { .. } => {
            unreachable!("a step starts only after all its dependencies have finished")
        }
    }
}

fn count(run: &RunContext, partitions: usize, rows: RowErrors) {
    run.count_partitions(PartitionTally { skipped: partitions, ..Default::default() });
    run.count_rows(RowTally { error: rows.errors(), ..Default::default() });
}

fn skipped(run: &RunContext, step: &Step, rows_with_errors: u64, reason: &str) -> StepEnd {
    run.events.send(EventKind::NodeSkipped { node: step.name.clone(), reason: reason.to_owned() });
    StepEnd::Done { rows_with_errors, skipped: true }
}
