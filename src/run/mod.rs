//! Running: a checked project, what it has to do, doing it, and telling about it.
//!
//! Owns [`Workspace`] (the project put together), planning, the main loop, events and the ledger. Must not know the
//! terminal, clap, file formats or providers.
//!
//! The way through: [`Workspace::assemble`] → [`plan`] or [`start`] → events → [`Finished`].

mod assess;
mod causes;
mod context;
mod dispatch;
pub mod event;
mod events;
mod execute;
pub mod ledger;
mod occupants;
mod outcome;
mod overlap;
mod partitions;
mod plan;
mod preflight;
mod row_errors;
mod simulate;
mod step;
mod table;
mod workspace;

use std::sync::Arc;

pub use causes::{Cause, Causes};
pub use context::{RunOptions, Shutdown};
pub use events::{EventSink, Events, run_event_loop};
pub use outcome::RunVerdict;
pub use plan::{Action, NodePlan, PartitionCounts, PlanTotal, RunPlan, Totals};
pub use preflight::Refusal;
pub use workspace::{Input, Registry, Step, Workspace};

use crate::{data::Stores, function::Context, graph::NodeId};
use context::RunContext;
use event::{EventKind, NodeTally, RunSummary};

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// The last line.
    pub summary: RunSummary,
    /// What it means for the exit code.
    pub verdict: RunVerdict,
}

/// What a run needs besides the project.
#[derive(Debug, Clone)]
pub struct Request {
    /// The nodes, in execution order.
    pub selected: Vec<NodeId>,
    /// How it goes on.
    pub options: RunOptions,
    /// The pipelines asked for, as shown to people.
    pub pipeline: Option<String>,
    /// Where to hear that somebody wants to stop.
    pub shutdown: Shutdown,
}

/// Plans the nodes `selected`, given in execution order. Writes nothing.
///
/// # Errors
/// When an input is not there or cannot be read.
pub async fn plan(
    workspace: &Workspace,
    stores: &Stores,
    context: &Context,
    selected: &[NodeId],
    force: bool,
) -> Result<RunPlan, Refusal> {
    preflight::runnable(workspace, selected, false)?;
    plan::plan(workspace, stores, context, selected, force).await
}

/// Runs a selection. The last event is [`EventKind::RunFinished`].
///
/// # Errors
/// When the run must not start: nothing was touched then.
pub async fn start(
    workspace: Arc<Workspace>,
    stores: Arc<Stores>,
    context: Context,
    request: Request,
    events: Events,
) -> Result<Finished, Refusal> {
    let checked = tokio::select! {
        biased;
        // Nothing has begun: there is nothing to finish first.
        () = request.shutdown.drain.cancelled() => None,
        checked = preflight::check(&workspace, (&stores, &context), &request.selected, &request.options) => Some(checked?),
    };
    let Some(preflight::Checked { leases, survey, notices }) = checked else {
        let nodes = NodeTally { blocked: request.selected.len(), ..NodeTally::default() };
        let verdict = RunVerdict::Interrupted;
        let seconds = events.seconds();
        let summary = RunSummary { status: verdict.status(), nodes, seconds, ..RunSummary::default() };
        events.send(EventKind::RunFinished { summary: summary.clone() });
        return Ok(Finished { summary, verdict });
    };
    events.send(EventKind::RunStarted {
        pipeline: request.pipeline,
        env: workspace.project.env.clone(),
        nodes: request.selected.len(),
    });
    notices.into_iter().for_each(|message| events.send(EventKind::Warning { message }));
    let run = Arc::new(RunContext::new(
        workspace,
        &request.selected,
        (stores, survey),
        context,
        (request.options, request.shutdown),
        events.clone(),
    ));
    let (summary, verdict) = execute::execute(run, &request.selected, leases).await;
    events.send(EventKind::RunFinished { summary: summary.clone() });
    Ok(Finished { summary, verdict })
}
