//! What the nodes of a run have read, written and spent so far.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use datafusion::{execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter};
use futures::StreamExt as _;

use super::event::NodeFigures;
use crate::model::Usage;

/// The same rows; `count` is how many were pulled.
pub(super) fn counting(rows: SendableRecordBatchStream, count: &Arc<AtomicU64>) -> SendableRecordBatchStream {
    let (schema, count) = (rows.schema(), Arc::clone(count));
    let counted = rows.inspect(move |batch| {
        if let Ok(batch) = batch {
            count.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, counted))
}

/// The counters of one node.
#[derive(Debug)]
pub(super) struct NodeCounters {
    /// Its part of the run's usage.
    pub(super) usage: Arc<Usage>,
    rows_in: OptionalCount,
    bytes: OptionalCount,
}

/// A count that is unknown until something is added, were it nothing.
#[derive(Debug, Default)]
struct OptionalCount {
    value: AtomicU64,
    known: AtomicBool,
}

impl OptionalCount {
    fn add(&self, value: u64) {
        self.value.fetch_add(value, Ordering::Relaxed);
        self.known.store(true, Ordering::Release);
    }

    fn get(&self) -> Option<u64> {
        self.known.load(Ordering::Acquire).then(|| self.value.load(Ordering::Relaxed))
    }
}

impl NodeCounters {
    /// Counts bytes that were written.
    pub(super) fn wrote(&self, bytes: u64) {
        self.bytes.add(bytes);
    }

    /// Counts rows that were read.
    pub(super) fn read(&self, rows: u64) {
        self.rows_in.add(rows);
    }

    fn figures(&self) -> NodeFigures {
        NodeFigures { rows_in: self.rows_in.get(), bytes: self.bytes.get(), usage: self.usage.snapshot() }
    }
}

/// The counters of all nodes of a run, by the node's name.
#[derive(Debug)]
pub(super) struct AllCounters {
    usage: Arc<Usage>,
    nodes: Mutex<HashMap<String, Arc<NodeCounters>>>,
}

impl AllCounters {
    /// `usage` counts what all nodes spend.
    pub(super) fn new(usage: Arc<Usage>) -> Self {
        Self { usage, nodes: Mutex::default() }
    }

    /// The counters of a node.
    pub(super) fn of(&self, node: &str) -> Arc<NodeCounters> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || NodeCounters {
            usage: Arc::new(Usage::part_of(&self.usage)),
            rows_in: OptionalCount::default(),
            bytes: OptionalCount::default(),
        };
        Arc::clone(nodes.entry(node.to_owned()).or_insert_with(|| Arc::new(new())))
    }

    /// What a node has read, written and spent so far.
    pub(super) fn figures(&self, node: &str) -> NodeFigures {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(node).map(|counters| counters.figures()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_counted_is_unknown_and_not_zero() {
        let all = AllCounters::new(Arc::default());
        assert_eq!(all.figures("n"), NodeFigures::default());
        all.of("n").wrote(0);
        all.of("n").usage.spent(3, 0);
        let figures = all.figures("n");
        assert_eq!((figures.rows_in, figures.bytes, figures.usage.tokens), (None, Some(0), 3));
        assert_eq!(all.usage.snapshot().tokens, 3);
        assert_eq!(all.figures("other").usage.tokens, 0);
    }
}
