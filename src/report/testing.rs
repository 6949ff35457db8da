//! Test support: a writer that records its output, and constructors of events.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::run::event::{Event, EventKind, NodeFigures, PartitionTally};

/// A writer that records its output; clones share the buffer.
#[derive(Debug, Clone, Default)]
pub(super) struct TestWriter(Arc<Mutex<Vec<u8>>>);

impl TestWriter {
    pub fn writer(&self) -> Box<dyn Write + Send> {
        Box::new(self.clone())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no test panicked").clone()).expect("UTF-8")
    }
}

impl Write for TestWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn event(seconds: f64, kind: EventKind) -> Event {
    Event { run: "r1".to_owned(), elapsed: Duration::from_secs_f64(seconds), kind }
}

pub(super) fn run_started(nodes: usize) -> EventKind {
    EventKind::RunStarted { pipeline: None, env: None, nodes, group: None, shard: None, selected: Vec::new() }
}

pub(super) fn node_started(node: &str, partitions: Option<usize>, skipped: usize) -> EventKind {
    EventKind::NodeStarted {
        node: node.to_owned(),
        function: "f".to_owned(),
        reason: "output is missing".to_owned(),
        partitions,
        skipped,
    }
}

pub(super) fn partition_finished(node: &str, number: usize, rows: u64, done: usize, total: usize) -> EventKind {
    EventKind::PartitionFinished {
        node: node.to_owned(),
        partition: format!("bucket={number}"),
        rows,
        bytes: 100,
        seconds: 1.0,
        done,
        total,
    }
}

pub(super) fn partition_failed(node: &str, number: usize, error: &str) -> EventKind {
    EventKind::PartitionFailed {
        node: node.to_owned(),
        partition: format!("bucket={number}"),
        error: error.to_owned(),
        attempt_seconds: 1.0,
    }
}

pub(super) fn node_finished(node: &str, rows: u64, partitions: (usize, usize, usize), seconds: f64) -> EventKind {
    let (done, skipped, failed) = partitions;
    let partitions = PartitionTally { done, skipped, failed };
    EventKind::NodeFinished {
        node: node.to_owned(),
        rows,
        partitions,
        seconds,
        version: None,
        figures: NodeFigures::default(),
    }
}

pub(super) fn node_failed(node: &str, error: &str) -> EventKind {
    EventKind::NodeFailed { node: node.to_owned(), error: error.to_owned(), figures: NodeFigures::default() }
}

pub(super) fn node_skipped(node: &str) -> EventKind {
    EventKind::NodeSkipped { node: node.to_owned(), reason: "up to date".to_owned() }
}

pub(super) fn node_blocked(node: &str, because: &str) -> EventKind {
    EventKind::NodeBlocked { node: node.to_owned(), because: because.to_owned() }
}
