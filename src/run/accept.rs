//! Takes over existing outputs as the results of nodes, without running them: `flow accept`.
//!
//! The receipts are written that a run would write. The nodes are taken in the order of the graph, so that what one takes over is
//! known when the next is judged.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::TryStreamExt as _;

use super::{
    assess::{Judgement, MemoryDigests, Scope},
    event::{EventKind, NodeTally, RunSummary},
    events::Events,
    finished,
    load::load,
    outcome::RunVerdict,
    preflight::{Refusal, acquire_leases, release_all},
    workspace::{Step, Workspace},
};
use crate::{
    data::{DataError, Partition, PartitionReceipt, PartitionSource, Stores},
    function::{Context, Job},
    graph::NodeId,
    model::{Fingerprint, PartitionKey},
};

/// One node whose outputs were taken over, or were up to date already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The node.
    pub node: String,
    /// The datasets that were taken over; none when all were up to date.
    pub datasets: Vec<String>,
}

/// Takes over the outputs of these nodes, given in execution order. The ledger records it.
///
/// # Errors
/// When one of them cannot be taken over; what was taken over before stays so.
pub async fn accept(
    workspace: &Workspace,
    stores: &Arc<Stores>,
    context: &Context,
    selected: &[NodeId],
    events: &Events,
) -> Result<Vec<Accepted>, Refusal> {
    let steps: Vec<Arc<Step>> = selected.iter().map(|id| workspace.step(*id)).collect();
    let loaded = load(steps.iter().cloned(), context).await;
    if !loaded.wrong.is_empty() {
        return Err(Refusal::Invalid(loaded.wrong));
    }
    if !loaded.environment.is_empty() {
        return Err(Refusal::Environment(loaded.environment));
    }
    let leases = acquire_leases(&steps, stores, None).await?;
    let (env, nodes) = (workspace.project.env.clone(), steps.len());
    events.send(EventKind::RunStarted { pipeline: None, env, nodes, group: None, shard: None, selected: Vec::new() });
    let ids: HashSet<NodeId> = selected.iter().copied().collect();
    let scope = Scope { workspace, stores, context, selected: &ids, force: false, shard: None };
    let (mut accepted, mut problems) = (Vec::new(), Vec::new());
    let mut memory = MemoryDigests::new();
    for step in workspace.steps() {
        // What is in memory is known by the work that would compute it.
        let receipt = scope.receipt(step, &memory).await;
        if let Ok(Some(receipt)) = &receipt {
            memory.extend(step.memory_outputs().map(|base| (base.to_owned(), *receipt)));
        }
        if !ids.contains(&step.id) {
            continue;
        }
        let taken = match receipt {
            Ok(Some(receipt)) => accept_one(scope, step, receipt).await,
            Ok(None) => accept_partitions(scope, step).await,
            Err(error) => Err(error.to_string()),
        };
        match taken {
            Ok(datasets) => {
                events.send(EventKind::NodeAccepted { node: step.name.clone(), datasets: datasets.clone() });
                accepted.push(Accepted { node: step.name.clone(), datasets });
            }
            Err(error) => problems.push(format!("node `{}` cannot be accepted: {error}", step.name)),
        }
    }
    release_all(leases).await;
    let (done, failed) = (accepted.len(), problems.len());
    let verdict = if problems.is_empty() { RunVerdict::Done } else { RunVerdict::Failed };
    let nodes = NodeTally { skipped: done, failed, ..NodeTally::default() };
    let summary = RunSummary { status: verdict.status(), nodes, seconds: events.seconds(), ..RunSummary::default() };
    events.send(EventKind::RunFinished { summary });
    if problems.is_empty() { Ok(accepted) } else { Err(Refusal::Environment(problems)) }
}

/// Takes over the partitions that are there; those that are missing are left to a run.
async fn accept_partitions(scope: Scope<'_>, step: &Step) -> Result<Vec<String>, String> {
    let Job::Partitions(job) = &step.job else {
        return Err("its function is a placeholder\nhelp: give it one".to_owned());
    };
    let output = step.output();
    let text = |error: DataError| error.to_string();
    let (source, sink) = (output.written_partitions().map_err(text)?, output.partition_sink().map_err(text)?);
    let judged = match step.partitions_input().partition_source().map_err(text)?.partitions(scope.stores).await {
        Ok(partitions) => scope.judge_given(step, &**job, partitions).await,
        Err(error) => Err(error.into()),
    };
    let Judgement::Partitions(work) = judged.map_err(|error| error.to_string())? else { return Ok(Vec::new()) };
    let existing = source.partitions(scope.stores).await.map_err(text)?;
    let existing: HashMap<&PartitionKey, &Partition> =
        existing.iter().map(|partition| (&partition.key, partition)).collect();
    let mut accepted = 0;
    for todo in &work.todo {
        let Some(there) = existing.get(&todo.partition.key) else { continue };
        let rows = match there.receipt.and_then(|receipt| receipt.rows) {
            Some(rows) => rows,
            // Others wrote it.
            None => rows_of(source, scope.stores, there).await?,
        };
        let outcomes = there.receipt.map(|receipt| receipt.outcomes).unwrap_or_default();
        let receipt = PartitionReceipt { fingerprint: todo.fingerprint, rows: Some(rows), outcomes };
        sink.accept_partition(scope.stores, there, receipt).await.map_err(text)?;
        accepted += 1;
    }
    let name = output.info().name.clone();
    if accepted == 0 && work.done == 0 && !work.todo.is_empty() {
        return Err(format!(
            "its output `{name}` has none of the {} partitions of its input\nhelp: run it",
            work.todo.len()
        ));
    }
    output.synced(scope.stores).await.map_err(text)?;
    step.job.succeeded(scope.context);
    Ok(if accepted == 0 { Vec::new() } else { vec![name] })
}

/// The number of rows of a partition.
async fn rows_of(source: &dyn PartitionSource, stores: &Stores, partition: &Partition) -> Result<u64, String> {
    let mut rows = source.load_partition(stores, partition).await.map_err(|error| error.to_string())?;
    let mut count = 0;
    while let Some(batch) = rows.try_next().await.map_err(|error| error.to_string())? {
        count += batch.num_rows() as u64;
    }
    Ok(count)
}

async fn accept_one(scope: Scope<'_>, step: &Step, receipt: Fingerprint) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let stored = || step.outputs.iter().map(|(_, dataset)| dataset).filter(|dataset| dataset.info().persistent);
    for output in stored() {
        let state = output.state(scope.stores).await.map_err(|error| error.to_string())?;
        if state.digest.is_none() {
            return Err(format!("its output `{}` is missing\nhelp: run it", output.info().name));
        }
        if state.receipt != Some(receipt) {
            names.push(output.info().name.clone());
        }
    }
    for output in stored().filter(|output| names.contains(&output.info().name)) {
        output.accept(scope.stores, receipt).await.map_err(|error| error.to_string())?;
    }
    finished::write(&scope.context.service.root, step, receipt);
    step.job.succeeded(scope.context);
    Ok(names)
}
