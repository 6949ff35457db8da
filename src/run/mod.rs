//! Planning and executing a checked project, with events that report its progress.
//!
//! Owns [`Workspace`] (the assembled project), planning, the main loop, events and the ledger. Must not know the
//! terminal, clap, file formats or providers.
//!
//! Data flow: [`Workspace::assemble`] → [`plan`] or [`start`] → events → [`Finished`].

mod accept;
mod assess;
mod attempts;
mod causes;
mod columns;
mod confirm;
mod context;
mod counted;
mod dialects;
mod dictionary;
mod digest;
mod dispatch;
mod divide;
pub mod event;
mod events;
mod execute;
mod finished;
mod history;
pub mod ledger;
pub mod ledger_copy;
mod ledger_mirror;
mod ledgers;
mod load;
mod locked_columns;
mod missing_input;
mod needs;
mod node_counters;
mod occupants;
mod outcome;
mod outputs;
mod overlap;
mod partitions;
mod plan;
mod preflight;
mod row_errors;
mod rows;
mod samples;
mod simulate;
mod step;
mod table;
mod workspace;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

pub use accept::{Accepted, accept};
pub use attempts::{Asked, last_attempts};
pub use causes::{Cause, Causes};
pub use columns::{KnownColumns, known_columns};
pub use context::{RunOptions, Shutdown};
pub use events::{EventReceiver, EventSink, Events, run_event_loop};
pub use history::Run;
pub use ledger_mirror::LedgerMirror;
pub use ledgers::Ledgers;
pub use load::{LoadProblems, load};
pub use outcome::RunVerdict;
pub use plan::{Action, NodePlan, PartitionCounts, PlanOptions, PlanTotal, RunPlan, Totals};
pub use preflight::Refusal;
pub use workspace::{Input, Registry, Step, Workspace};

use crate::{
    data::{Lease, Stores},
    diagnostic::Diagnostic,
    function::Context,
    graph::NodeId,
    net::Notice,
};
use context::RunContext;
use datafusion::prelude::SessionContext;
use event::{AdaptedEndpoint, EventKind, NodeTally, RunSummary};

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// The totals of the run, as sent with its last event.
    pub summary: RunSummary,
    /// The outcome, which determines the exit code.
    pub verdict: RunVerdict,
}

/// The parameters of a run besides the project.
#[derive(Debug, Clone)]
pub struct Request {
    /// The selected nodes, in execution order.
    pub selected: Vec<NodeId>,
    /// How the nodes are executed.
    pub options: RunOptions,
    /// The selected pipelines, as displayed to the user; `None` for all.
    pub pipeline: Option<String>,
    /// What this run is a part of: a name that all processes of a submission share.
    pub group: Option<String>,
    /// Signals a request to stop the run.
    pub shutdown: Shutdown,
}

/// Checks the columns that are known before anything runs: those that functions make, and those of local data. Sends
/// nothing.
pub async fn check_columns(workspace: &Workspace, stores: &Stores, session: &SessionContext) -> Vec<Diagnostic> {
    columns::check(workspace, stores, session).await
}

/// Plans the nodes `selected`, given in execution order. Writes nothing.
///
/// # Errors
/// When an input is missing or cannot be read.
pub async fn plan(
    workspace: &Workspace,
    stores: &Stores,
    context: &Context,
    selected: &[NodeId],
    options: PlanOptions,
) -> Result<RunPlan, Refusal> {
    preflight::runnable(workspace, selected, options.shard, false)?;
    preflight::load_functions(workspace, context, selected).await?;
    plan::plan(workspace, stores, context, selected, options).await
}

/// Runs a selection. The last event is [`EventKind::RunFinished`].
///
/// # Errors
/// When the run must not start. Nothing has been modified in that case.
pub async fn start(
    workspace: Arc<Workspace>,
    stores: Arc<Stores>,
    mut context: Context,
    request: Request,
    events: Events,
) -> Result<Finished, Refusal> {
    context.service.stopping = request.shutdown.drain.clone();
    let checked = tokio::select! {
        biased;
        // No node has started, so there is no work in flight to finish.
        () = request.shutdown.drain.cancelled() => None,
        checked = preflight::check(&workspace, (&stores, &context), &request.selected, &request.options) => Some(checked?),
    };
    let Some(preflight::Checked { leases, listings, notices }) = checked else {
        let nodes = NodeTally { blocked: request.selected.len(), ..NodeTally::default() };
        let verdict = RunVerdict::Interrupted;
        let seconds = events.seconds();
        let summary = RunSummary { status: verdict.status(), nodes, seconds, ..RunSummary::default() };
        events.send(EventKind::RunFinished { summary: summary.clone() });
        return Ok(Finished { summary, verdict });
    };
    context.python.speaker().listen({
        let events = events.clone();
        move |node, line| events.send(EventKind::NodeOutput { node: node.to_owned(), line: line.to_owned() })
    });
    let python = context.python.clone();
    // Not before the run cannot be refused any more: the listener keeps the stream of events open.
    let adapted = Arc::new(Mutex::new(BTreeMap::new()));
    context.service.notices.listen({
        let (events, adapted) = (events.clone(), Arc::clone(&adapted));
        move |notice| {
            if let Notice::Adapted { endpoint, settings } = &notice {
                let mut all = adapted.lock().unwrap_or_else(PoisonError::into_inner);
                all.insert(endpoint.clone(), settings.clone());
            }
            events.send(notice.into());
        }
    });
    let name = |id: &NodeId| workspace.graph[*id].name.clone();
    let names = request.group.is_some().then(|| request.selected.iter().map(name).collect());
    events.send(EventKind::RunStarted {
        pipeline: request.pipeline,
        env: workspace.project.env.clone(),
        nodes: request.selected.len(),
        group: request.group,
        shard: request.options.shard.map(|shard| shard.to_string()),
        selected: names.unwrap_or_default(),
    });
    notices.into_iter().for_each(|message| events.send(EventKind::Warning { message }));
    let sampling = samples::start(events.clone());
    let leave = request.shutdown.leave.clone();
    let backwards = leases.iter().any(Lease::has_twin);
    let run = RunContext::new(
        workspace,
        &request.selected,
        (stores, listings),
        context,
        (request.options, request.shutdown),
        events.clone(),
    );
    let run = Arc::new(run.backwards(backwards));
    let (mut summary, verdict) = execute::execute(run, &request.selected, leases).await;
    drop(sampling);
    tokio::select! {
        () = python.shut_down() => {}
        () = leave.cancelled() => {}
    }
    python.speaker().mute();
    let adapted = std::mem::take(&mut *adapted.lock().unwrap_or_else(PoisonError::into_inner));
    summary.adapted = adapted.into_iter().map(|(endpoint, settings)| AdaptedEndpoint { endpoint, settings }).collect();
    let span = tracing::Span::current();
    span.record("status", summary.status.name());
    if verdict.status() == event::Status::Failed {
        span.record("error", "the run failed");
    }
    events.send(EventKind::RunFinished { summary: summary.clone() });
    Ok(Finished { summary, verdict })
}
