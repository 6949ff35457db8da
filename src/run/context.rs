//! What a run shares with its steps: the project, what it may use, its counters, and the requests to stop.
//!
//! Must not know what a step does.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    assess::{MemoryDigests, Scope},
    causes::{Cause, Causes},
    event::{EventKind, PartitionTally},
    events::Events,
    workspace::{Step, Workspace},
};
use crate::{
    data::{KeepListings, Stores},
    embed::RowTally,
    function::Context,
    graph::NodeId,
    model::{Fingerprint, Usage},
};

/// How a run goes on.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Recompute what is up to date.
    pub force: bool,
    /// Remove most of a dataset without asking.
    pub yes: bool,
    /// After a failure, go on with what does not depend on it.
    pub keep_going: bool,
    /// Steps at the same time.
    pub jobs: usize,
}

/// Asks a run to stop. The first request finishes and commits what is in flight; the second drops it; the third waits
/// for nothing any more, not even for a read that hangs.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Start nothing new.
    pub drain: CancellationToken,
    /// Drop what is in flight.
    pub abort: CancellationToken,
    /// End now.
    pub leave: CancellationToken,
}

/// What a run shares with its steps.
#[derive(Debug)]
pub(crate) struct RunContext {
    pub workspace: Arc<Workspace>,
    pub selected: HashSet<NodeId>,
    pub stores: Arc<Stores>,
    /// What functions may use.
    pub functions: Context,
    pub options: RunOptions,
    pub events: Events,
    pub usage: Arc<Usage>,
    pub shutdown: Shutdown,
    /// Set by the first failure that makes all other work pointless.
    pub halt: CancellationToken,
    /// Steps that write tables share the cores; two sorts at once would only fight.
    pub table_work: Semaphore,
    rows: Mutex<RowTally>,
    partitions: Mutex<PartitionTally>,
    causes: Mutex<Causes>,
    memory: Mutex<MemoryDigests>,
    /// What was found before the start, for as long as no step has begun to change anything.
    survey: Mutex<Option<KeepListings>>,
}

impl RunContext {
    pub(crate) fn new(
        workspace: Arc<Workspace>,
        selected: &[NodeId],
        (stores, survey): (Arc<Stores>, KeepListings),
        functions: Context,
        (options, shutdown): (RunOptions, Shutdown),
        events: Events,
    ) -> Self {
        Self {
            workspace,
            selected: selected.iter().copied().collect(),
            stores,
            usage: functions.provider.usage.clone(),
            functions,
            options,
            events,
            shutdown,
            halt: CancellationToken::new(),
            table_work: Semaphore::new(1),
            rows: Mutex::default(),
            partitions: Mutex::default(),
            causes: Mutex::default(),
            memory: Mutex::default(),
            survey: Mutex::new(Some(survey)),
        }
    }

    /// Waits until nothing more is to begin.
    pub(crate) async fn stopping(&self) {
        tokio::select! {
            () = self.shutdown.drain.cancelled() => {}
            () = self.halt.cancelled() => {}
        }
    }

    /// What steps are judged by.
    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope {
            workspace: &self.workspace,
            stores: &self.stores,
            context: &self.functions,
            selected: &self.selected,
            force: self.options.force,
        }
    }

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

    /// Tells that a partition failed, and notes why.
    pub(crate) fn partition_failed(&self, node: String, partition: String, error: String, seconds: f64) {
        self.causes.lock().unwrap_or_else(PoisonError::into_inner).add(&node, &partition, &error);
        self.events.send(EventKind::PartitionFailed { node, partition, error, attempt_seconds: seconds });
    }

    /// Rows and partitions counted so far, and why partitions failed.
    pub(crate) fn counts(&self) -> (RowTally, PartitionTally, Vec<Cause>) {
        let rows = *self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let partitions = *self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        (rows, partitions, self.causes.lock().unwrap_or_else(PoisonError::into_inner).to_vec())
    }

    /// Something is about to be written: from now on everybody looks again.
    pub(crate) fn end_survey(&self) {
        drop(self.survey.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Notes what a dataset in memory holds, by the work that made it.
    pub(crate) fn remember(&self, step: &Step, receipt: Fingerprint) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(step.output_base().to_owned(), receipt);
    }

    /// What datasets in memory hold.
    pub(crate) fn memory_digests(&self) -> MemoryDigests {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
