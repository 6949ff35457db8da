//! The state that a run shares with its steps: the project, its resources and counters, and stop requests.
//!
//! Must not know what a step does.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    assess::{MemoryDigests, Scope},
    causes::{Cause, Causes},
    event::{EventKind, PartitionTally},
    events::Events,
    needs::Needs,
    node_counters::{AllCounters, NodeCounters},
    workspace::{Step, Workspace},
};
use crate::{
    data::{KeepListings, Stores},
    function::Context,
    graph::NodeId,
    model::{Fingerprint, RowTally, Shard, Usage},
};

/// Options of a run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Recompute what is up to date.
    pub force: bool,
    /// Consent to removing most of a dataset.
    pub yes: bool,
    /// After a failure, continue with nodes that do not depend on it.
    pub keep_going: bool,
    /// The maximum number of steps that run concurrently.
    pub jobs: usize,
    /// The part of the partitions to compute; `None` for all, and what belongs to a whole output.
    pub shard: Option<Shard>,
}

/// Requests that a run stop. The first request finishes and commits work in flight; the second cancels it; the third
/// ends the run without waiting for anything, not even for a blocked read.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Start no new work.
    pub drain: CancellationToken,
    /// Cancel work in flight.
    pub abort: CancellationToken,
    /// End immediately.
    pub leave: CancellationToken,
}

/// The state that a run shares with its steps.
#[derive(Debug)]
pub(crate) struct RunContext {
    pub workspace: Arc<Workspace>,
    pub selected: HashSet<NodeId>,
    pub stores: Arc<Stores>,
    /// The resources that functions use.
    pub functions: Context,
    pub options: RunOptions,
    pub events: Events,
    pub usage: Arc<Usage>,
    pub shutdown: Shutdown,
    /// Cancelled by the first failure after which all other work would fail as well.
    pub halt: CancellationToken,
    /// Steps that write tables run one at a time: each uses all cores, and concurrent sorts would compete for them.
    pub table_work: Semaphore,
    /// True for a shard of which another attempt is alive: it computes the last partitions first, so that the two meet.
    pub backwards: bool,
    rows: Mutex<RowTally>,
    partitions: Mutex<PartitionTally>,
    causes: Mutex<Causes>,
    nodes: AllCounters,
    memory: Mutex<MemoryDigests>,
    /// Which steps are needed for their outputs in memory.
    pub needs: Needs,
    /// Keeps the listings of the checks until the first step writes.
    listings: Mutex<Option<KeepListings>>,
}

impl RunContext {
    pub(crate) fn new(
        workspace: Arc<Workspace>,
        selected: &[NodeId],
        (stores, listings): (Arc<Stores>, KeepListings),
        functions: Context,
        (options, shutdown): (RunOptions, Shutdown),
        events: Events,
    ) -> Self {
        Self {
            workspace,
            selected: selected.iter().copied().collect(),
            stores,
            nodes: AllCounters::new(functions.service.usage.clone()),
            usage: functions.service.usage.clone(),
            functions,
            options,
            events,
            shutdown,
            halt: CancellationToken::new(),
            table_work: Semaphore::new(1),
            backwards: false,
            rows: Mutex::default(),
            partitions: Mutex::default(),
            causes: Mutex::default(),
            memory: Mutex::default(),
            needs: Needs::default(),
            listings: Mutex::new(Some(listings)),
        }
    }

    /// The same for a shard of which another attempt is alive.
    pub(crate) fn backwards(self, backwards: bool) -> Self {
        Self { backwards, ..self }
    }

    /// Completes when no new work may start.
    pub(crate) async fn stopping(&self) {
        tokio::select! {
            () = self.shutdown.drain.cancelled() => {}
            () = self.halt.cancelled() => {}
        }
    }

    /// The scope in which steps are judged.
    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope {
            workspace: &self.workspace,
            stores: &self.stores,
            context: &self.functions,
            selected: &self.selected,
            force: self.options.force,
            shard: self.options.shard,
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

    /// The counters of a node.
    pub(super) fn node(&self, name: &str) -> Arc<NodeCounters> {
        self.nodes.of(name)
    }

    /// Emits the success of a node.
    pub(crate) fn node_finished(
        &self,
        node: String,
        rows: u64,
        partitions: PartitionTally,
        (begin, version): (Instant, Fingerprint),
    ) {
        let version = Some(version.to_string());
        let (seconds, figures) = (begin.elapsed().as_secs_f64(), self.nodes.figures(&node));
        self.events.send(EventKind::NodeFinished { node, rows, partitions, seconds, version, figures });
    }

    /// Emits the failure of a node.
    pub(crate) fn node_failed(&self, node: String, error: String) {
        tracing::Span::current().record("error", error.as_str());
        let figures = self.nodes.figures(&node);
        self.events.send(EventKind::NodeFailed { node, error, figures });
    }

    /// Emits the failure of a partition, and records its cause.
    pub(crate) fn partition_failed(&self, node: String, partition: String, error: String, seconds: f64) {
        tracing::Span::current().record("error", error.as_str());
        self.causes.lock().unwrap_or_else(PoisonError::into_inner).add(&node, &partition, &error);
        self.events.send(EventKind::PartitionFailed { node, partition, error, attempt_seconds: seconds });
    }

    /// The rows and partitions counted so far, and the causes of failed partitions.
    pub(crate) fn counts(&self) -> (RowTally, PartitionTally, Vec<Cause>) {
        let rows = *self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let partitions = *self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        (rows, partitions, self.causes.lock().unwrap_or_else(PoisonError::into_inner).to_vec())
    }

    /// Drops the listings of the checks, before a step writes: from now on datasets are listed again.
    pub(crate) fn drop_listings(&self) {
        drop(self.listings.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Records the receipt of a step's outputs that are kept in memory.
    pub(crate) fn remember(&self, step: &Step, receipt: Fingerprint) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.extend(step.memory_outputs().map(|base| (base.to_owned(), receipt)));
    }

    /// The receipts of datasets that are kept in memory.
    pub(crate) fn memory_digests(&self) -> MemoryDigests {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
