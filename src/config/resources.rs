//! `resources:` of a node: what a task needs on a cluster.

use std::time::Duration;

use super::{
    fields::{Field, Kind},
    record::Record,
};
use crate::diagnostic::Span;

/// Keys of `resources:`.
pub static RESOURCE_FIELDS: &[Field] = &[
    Field::optional("cpu", Kind::Number(0.001, 4096.0), "", "Cores; a fraction is possible on Kubernetes."),
    Field::optional("memory", Kind::Bytes, "", "Memory, as `16Gi`; half of it is for tables."),
    Field::optional("gpu", Kind::Integer(0, 1024), "", "GPUs."),
    Field::optional("time", Kind::Duration, "", "The time that one attempt may take, as `4h`."),
    Field::optional(
        "shards",
        Kind::Integer(1, 100_000),
        "1",
        "Tasks that share the partitions of this node; only for a node that works partition by partition.",
    ),
];

/// What a task needs. What is `None` is left to the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_milli: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// GPUs.
    pub gpu: Option<u64>,
    /// The time of one attempt.
    pub time: Option<Duration>,
    /// Tasks that share the partitions.
    pub shards: Option<u32>,
    /// Where it is written.
    pub span: Option<Span>,
}

impl Resources {
    /// Reads a mapping that was checked against [`RESOURCE_FIELDS`].
    pub(super) fn read(record: &Record<'_>, span: Span) -> Self {
        let unsigned = |name: &str| record.integer(name).and_then(|number| u64::try_from(number).ok());
        Self {
            // At most 4,096,000.
            cpu_milli: record.number("cpu").map(|cores| (cores * 1000.0).round() as u64),
            memory: record.bytes("memory"),
            gpu: unsigned("gpu").filter(|gpu| *gpu > 0),
            time: record.duration("time"),
            shards: unsigned("shards").and_then(|shards| u32::try_from(shards).ok()),
            span: Some(span),
        }
    }

    /// What is enough for both, one after the other, in one task. Shards are of one node and are not kept.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.max(other.cpu_milli),
            memory: self.memory.max(other.memory),
            gpu: self.gpu.max(other.gpu),
            time: self.time.max(other.time),
            shards: None,
            span: self.span.or(other.span),
        }
    }

    /// Whole cores.
    pub fn cores(&self) -> Option<u64> {
        self.cpu_milli.map(|milli| milli.div_ceil(1000).max(1))
    }
}
