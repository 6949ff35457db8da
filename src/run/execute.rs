//! Runs a selection of steps: as many at once as allowed, each judged again when its inputs are ready.
//!
//! Owns the main loop, stopping and the outcome. One step over partitions is in `partitions`; what there is to do is
//! decided in `assess`. Must not know the terminal or clap: it tells what happens through [`Events`].

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    assess::{AssessError, Assessment, MemoryDigests, assess, nobody_needs},
    event::{EventKind, PartitionTally, RunSummary, Status},
    events::Events,
    partitions,
    workspace::{Step, Workspace},
};
use crate::{
    data::{DataError, Lease, Stores, Survey, WriteRequest},
    embed::RowTally,
    function::{Context, FunctionError, Job, Tables},
    graph::{FailurePolicy, NodeId, Schedule},
    model::{Fingerprint, Usage},
};

/// What a run may use and how it goes on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Recompute what is up to date.
    pub force: bool,
    /// After a failure, go on with what does not depend on it.
    pub keep_going: bool,
    /// Steps at the same time.
    pub jobs: usize,
}

/// Asks a run to stop. The first request finishes and commits what is in flight; the second drops it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Start nothing new.
    pub drain: CancellationToken,
    /// Drop what is in flight.
    pub abort: CancellationToken,
}

/// How a run ended, for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything is done.
    Done,
    /// Done; some rows carry errors.
    RowErrors,
    /// Something failed.
    Failed,
    /// Pointless now, not later.
    Later,
    /// A service or the environment refuses us.
    Environment,
    /// Somebody asked to stop.
    Interrupted,
    /// A panic: a bug of ours.
    Bug,
}

/// What a run shares with its steps.
#[derive(Debug)]
pub(crate) struct Shared {
    pub workspace: Arc<Workspace>,
    pub selected: HashSet<NodeId>,
    pub stores: Arc<Stores>,
    pub context: Context,
    pub settings: Settings,
    pub events: Events,
    pub usage: Arc<Usage>,
    pub shutdown: Shutdown,
    /// Set by the first failure that makes all other work pointless.
    pub halt: CancellationToken,
    pub rows: Mutex<RowTally>,
    pub partitions: Mutex<PartitionTally>,
    pub memory: Mutex<MemoryDigests>,
    /// Steps that write tables share the cores; two sorts at once would only fight.
    pub table_work: Semaphore,
    /// What was found before the start, for as long as no step has begun to change anything.
    pub survey: Mutex<Option<Survey>>,
}

impl Shared {
    pub(crate) fn count_rows(&self, tally: RowTally) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.add(tally);
        self.events.rows(*rows);
    }

    pub(crate) fn count_partitions(&self, add: PartitionTally) {
        let mut total = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        total.done += add.done;
        total.skipped += add.skipped;
        total.failed += add.failed;
    }

    /// Something is about to be written: from now on everybody looks again.
    fn end_survey(&self) {
        drop(self.survey.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Notes what a dataset in memory holds, by the work that made it.
    fn remember(&self, step: &Step, receipt: Fingerprint) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(step.output_base().to_owned(), receipt);
    }

    fn memory_digests(&self) -> MemoryDigests {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How one step ended.
#[derive(Debug)]
pub(crate) enum StepEnd {
    /// Done now, or already; rows with an error of their own among them.
    Done { rows_with_errors: u64, skipped: bool },
    /// Failed; the text was shown already.
    Failed,
    /// Nothing will work, now or at all.
    Halted(Verdict),
    /// Asked to stop before it was done.
    Interrupted,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Assess(#[from] AssessError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Function(#[from] FunctionError),
}

impl StepError {
    /// The verdict for failures that concern the whole run.
    pub(crate) fn halts(&self) -> Option<Verdict> {
        match self {
            Self::Function(FunctionError::Refused(_)) => Some(Verdict::Environment),
            Self::Function(FunctionError::Stopped(_)) => Some(Verdict::Later),
            _ => None,
        }
    }
}

/// Runs the steps `selected`, in execution order, and tells what happens through `events`. Leases on the
/// outputs are held by the caller and passed in, so that they live as long as the run.
pub(crate) async fn execute(shared: Arc<Shared>, selected: &[NodeId], leases: Vec<Lease>) -> (RunSummary, Verdict) {
    let names: HashSet<&str> = selected.iter().map(|id| shared.workspace.graph[*id].name.as_str()).collect();
    let mut queue = Schedule::new(&shared.workspace.graph, |name| names.contains(name));
    let mut running = JoinSet::new();
    let mut by_task: HashMap<tokio::task::Id, String> = HashMap::new();
    let mut verdict = Verdict::Done;
    let (mut done, mut skipped, mut failed) = (0, 0, 0);
    let policy = if shared.settings.keep_going { FailurePolicy::KeepGoing } else { FailurePolicy::Stop };
    let watch = leases.iter().map(|lease| (lease.dataset().to_owned(), lease.lost())).collect();
    let watch = AbortOnDropHandle::new(tokio::spawn(watch_leases(shared.clone(), watch)));
    loop {
        let stopping = shared.shutdown.drain.is_cancelled() || shared.halt.is_cancelled();
        while !stopping && running.len() < shared.settings.jobs {
            let Some(name) = queue.dequeue() else { break };
            let id = shared.workspace.graph.node(&name).expect("the queue holds nodes of this graph").id;
            let step = shared.workspace.step(id);
            let handle = running.spawn(run_step(shared.clone(), step));
            by_task.insert(handle.id(), name);
        }
        let Some(ended) = running.join_next_with_id().await else { break };
        let (id, end) = match ended {
            Ok((id, end)) => (id, end),
            Err(error) => {
                let id = error.id();
                let name = by_task.get(&id).cloned().unwrap_or_default();
                let text = if error.is_panic() { panic_text(error.into_panic()) } else { "was dropped".to_owned() };
                shared.events.send(EventKind::NodeFailed { node: name, error: format!("a bug in flow: {text}") });
                verdict = verdict.max(Verdict::Bug);
                (id, StepEnd::Failed)
            }
        };
        let name = by_task.remove(&id).expect("every task was entered when it was started");
        match end {
            StepEnd::Done { rows_with_errors, skipped: was_skipped } => {
                if was_skipped {
                    skipped += 1
                } else {
                    done += 1
                }
                if rows_with_errors > 0 {
                    verdict = verdict.max(Verdict::RowErrors);
                }
                queue.finish(&name);
            }
            StepEnd::Failed => {
                failed += 1;
                verdict = verdict.max(Verdict::Failed);
                for blocked in queue.fail(&name, policy) {
                    shared.events.send(EventKind::NodeBlocked { node: blocked, because: name.clone() });
                }
            }
            StepEnd::Halted(why) => {
                failed += 1;
                verdict = verdict.max(why);
                shared.halt.cancel();
                queue.fail(&name, FailurePolicy::Stop);
            }
            StepEnd::Interrupted => verdict = verdict.max(Verdict::Interrupted),
        }
    }
    if shared.shutdown.drain.is_cancelled() && done + skipped < selected.len() {
        verdict = verdict.max(Verdict::Interrupted);
    }
    drop(watch);
    if leases.iter().any(|lease| lease.lost().is_cancelled()) {
        verdict = verdict.max(Verdict::Environment);
    }
    for lease in leases {
        lease.release().await;
    }
    let summary = shared.events.summary(
        match verdict {
            Verdict::Done | Verdict::RowErrors => Status::Ok,
            Verdict::Interrupted => Status::Interrupted,
            _ => Status::Failed,
        },
        super::event::NodeTally { done, skipped, failed, blocked: selected.len() - done - skipped - failed },
        *shared.partitions.lock().unwrap_or_else(PoisonError::into_inner),
        *shared.rows.lock().unwrap_or_else(PoisonError::into_inner),
        shared.usage.snapshot(),
    );
    (summary, verdict)
}

/// Stops the run when one of its leases is lost: another run writes there now.
async fn watch_leases(shared: Arc<Shared>, leases: Vec<(String, CancellationToken)>) {
    let mut lost: FuturesUnordered<_> =
        leases.iter().map(|(dataset, lost)| lost.cancelled().map(move |()| dataset)).collect();
    let Some(dataset) = lost.next().await else { return };
    let writes =
        |id: &&NodeId| shared.workspace.step(**id).outputs.iter().any(|(_, output)| output.info().name == *dataset);
    let node = shared.selected.iter().find(writes).map(|id| shared.workspace.graph[*id].name.clone());
    let error = format!(
        "the lease on `{dataset}` could not be renewed in time, and another run may have taken it over; what is \
         committed is kept. Run again when the other one has ended"
    );
    shared.events.send(EventKind::NodeFailed { node: node.unwrap_or_default(), error });
    shared.halt.cancel();
}

/// What a panic said.
pub(crate) fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

async fn run_step(shared: Arc<Shared>, step: Arc<Step>) -> StepEnd {
    match try_step(&shared, &step).await {
        Ok(end) => end,
        Err(error) => {
            let end = error.halts().map_or(StepEnd::Failed, StepEnd::Halted);
            shared.events.send(EventKind::NodeFailed { node: step.name.clone(), error: error.to_string() });
            end
        }
    }
}

async fn try_step(shared: &Arc<Shared>, step: &Arc<Step>) -> Result<StepEnd, StepError> {
    let assessment = assess(step, &shared.stores, &shared.memory_digests(), shared.settings.force).await?;
    let node = step.name.clone();
    match assessment {
        Assessment::Done { partitions, rows_with_errors } => {
            shared.count_partitions(PartitionTally { skipped: partitions, ..Default::default() });
            shared.count_rows(RowTally { error: rows_with_errors, ..Default::default() });
            shared.events.send(EventKind::NodeSkipped { node, reason: "up to date".to_owned() });
            Ok(StepEnd::Done { rows_with_errors, skipped: true })
        }
        Assessment::Partitions(work) => {
            shared.end_survey();
            partitions::run(shared, step, work).await
        }
        Assessment::Table { receipt, .. }
            if !step.output().info().persistent
                && !shared.settings.force
                && nobody_needs(
                    &shared.workspace,
                    &shared.selected,
                    &shared.stores,
                    step,
                    receipt,
                    &shared.memory_digests(),
                )
                .await =>
        {
            shared.remember(step, receipt);
            let reason = "everything that reads it is up to date".to_owned();
            shared.events.send(EventKind::NodeSkipped { node, reason });
            Ok(StepEnd::Done { rows_with_errors: 0, skipped: true })
        }
        Assessment::Table { receipt, reason } => {
            let Job::Table(job) = &step.job else { unreachable!("placeholders are refused before a run starts") };
            shared.end_survey();
            let _turn = shared.table_work.acquire().await.expect("the semaphore is never closed");
            let function = step.function.clone();
            shared.events.send(EventKind::NodeStarted {
                node: node.clone(),
                function,
                reason,
                partitions: None,
                skipped: 0,
            });
            let begin = tokio::time::Instant::now();
            let mut inputs = Tables::new();
            for input in &step.inputs {
                inputs.insert(input.port.clone(), input.dataset.table(&shared.stores).await?);
            }
            let events = shared.events.clone();
            let name = node.clone();
            let progress = move |rows| events.send(EventKind::TableProgress { node: name.clone(), rows });
            let work = async {
                let table = job.run(inputs, &shared.context).await?;
                let request = WriteRequest { table, receipt, progress: &progress };
                Ok::<_, StepError>(step.output().write_table(&shared.stores, request).await?)
            };
            // Nothing was paid for a table: a request to stop drops it at once, and the old one is still there.
            let written = tokio::select! {
                biased;
                () = shared.shutdown.drain.cancelled() => return Ok(StepEnd::Interrupted),
                () = shared.halt.cancelled() => return Ok(StepEnd::Interrupted),
                written = work => written?,
            };
            if !step.output().info().persistent {
                shared.remember(step, receipt);
            }
            let partitions = PartitionTally {
                done: usize::try_from(written.partitions - written.unchanged).unwrap_or(usize::MAX),
                skipped: usize::try_from(written.unchanged).unwrap_or(usize::MAX),
                failed: 0,
            };
            let seconds = begin.elapsed().as_secs_f64();
            shared.events.send(EventKind::NodeFinished { node, rows: written.rows, partitions, seconds });
            Ok(StepEnd::Done { rows_with_errors: 0, skipped: false })
        }
    }
}
