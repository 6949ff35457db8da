//! The main loop of a run: starts the steps that the dispatcher selects, monitors the leases, and builds the summary.
//!
//! `dispatch` decides which step is next, `step` executes it. Must not know the terminal or clap: progress is reported
//! through events.

use std::{collections::HashMap, sync::Arc};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::task::{Id, JoinError, JoinSet};
use tracing::Instrument as _;

use super::{
    context::RunContext,
    dispatch::Dispatcher,
    event::{EventKind, NodeTally, RunSummary},
    outcome::{Failure, RunVerdict, StepEnd},
    step,
};
use crate::{
    data::{self, DataError, Lease},
    graph::{FailurePolicy, NodeId, Schedule},
};

/// Runs the steps `selected`, in execution order. The leases on their outputs are held until the end of the run.
pub(crate) async fn execute(run: Arc<RunContext>, selected: &[NodeId], leases: Vec<Lease>) -> (RunSummary, RunVerdict) {
    let policy = if run.options.keep_going { FailurePolicy::KeepGoing } else { FailurePolicy::Stop };
    let queue = Schedule::new(&run.workspace.graph, |name| {
        run.workspace.graph.node(name).is_some_and(|node| run.selected.contains(&node.id))
    });
    let mut dispatcher = Dispatcher::new(queue, policy, run.options.jobs);
    let leaving = tokio::select! {
        () = run_steps(&run, selected, &leases, &mut dispatcher) => false,
        () = run.shutdown.leave.cancelled() => true,
    };
    if leaving {
        // A step may still be writing: the leases are held until the process ends.
        leases.into_iter().for_each(std::mem::forget);
        dispatcher.abandon();
        let (nodes, verdict) = dispatcher.finish(true);
        return (summary(&run, nodes, verdict), verdict);
    }
    if leases.iter().any(|lease| lease.lost().is_cancelled()) {
        dispatcher.lease_lost(None);
    }
    let release = async {
        for lease in leases {
            lease.release().await;
        }
    };
    tokio::select! {
        () = release => {}
        () = run.shutdown.leave.cancelled() => {}
    }
    let (nodes, verdict) = dispatcher.finish(run.shutdown.drain.is_cancelled());
    (summary(&run, nodes, verdict), verdict)
}

async fn run_steps(run: &Arc<RunContext>, selected: &[NodeId], leases: &[Lease], dispatcher: &mut Dispatcher) {
    let mut running = JoinSet::new();
    let mut by_task: HashMap<Id, String> = HashMap::new();
    let mut lost: FuturesUnordered<_> = leases
        .iter()
        .map(|lease| async { lease.lost().cancelled_owned().map(|()| lease.dataset().to_owned()).await })
        .collect();
    loop {
        if run.shutdown.drain.is_cancelled() || run.halt.is_cancelled() {
            dispatcher.stop();
        }
        while let Some(name) = dispatcher.next() {
            let id = run.workspace.graph.node(&name).expect("the queue contains nodes of this graph").id;
            let step = run.workspace.step(id);
            let span = tracing::info_span!("node", node = %step.name, error = tracing::field::Empty);
            let task = running.spawn(step::execute(run.clone(), step).instrument(span));
            by_task.insert(task.id(), name);
        }
        let ended = tokio::select! {
            biased;
            Some(dataset) = lost.next() => {
                dispatcher.lease_lost(lease_lost(run, selected, &dataset));
                continue;
            }
            ended = running.join_next_with_id() => ended,
        };
        let Some(ended) = ended else { return };
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let name = by_task.remove(&id).expect("every spawned task is in the map");
        let end = match ended {
            Ok((_, end)) => end,
            Err(error) => panicked(run, &name, error),
        };
        let consequence = dispatcher.ended(&name, end);
        for node in consequence.blocked {
            run.events.send(EventKind::NodeBlocked { node, because: name.clone() });
        }
        if consequence.halt {
            run.halt.cancel();
        }
    }
}

fn panicked(run: &RunContext, name: &str, error: JoinError) -> StepEnd {
    let text =
        if error.is_panic() { data::panic_text(&*error.into_panic()) } else { "the task was cancelled".to_owned() };
    run.node_failed(name.to_owned(), format!("a bug in flow: {text}"));
    StepEnd::Failed(Failure::BUG)
}

/// Halts the run, since another run may write to the dataset now. Returns the name of the node that writes it.
fn lease_lost(run: &RunContext, selected: &[NodeId], dataset: &str) -> Option<String> {
    let writes =
        |id: &&NodeId| run.workspace.step(**id).outputs.iter().any(|(_, output)| output.info().name == dataset);
    let node = selected.iter().find(writes).map(|id| run.workspace.graph[*id].name.clone());
    let error = DataError::LeaseLost { dataset: dataset.to_owned() }.to_string();
    run.node_failed(node.clone().unwrap_or_default(), error);
    run.halt.cancel();
    node
}

fn summary(run: &RunContext, nodes: NodeTally, verdict: RunVerdict) -> RunSummary {
    let (rows, partitions, causes) = run.counts();
    let (usage, seconds) = (run.usage.snapshot(), run.events.seconds());
    RunSummary { status: verdict.status(), nodes, partitions, rows, usage, causes, adapted: Vec::new(), seconds }
}
