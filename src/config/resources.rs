//! `resources:` of a node: what a task needs on a cluster.

use std::time::Duration;

use super::{
    fields::{Field, Kind},
    record::Record,
    tree::{Node, Value},
};
use crate::diagnostic::{Diagnostic, Diagnostics, Span};

/// The least memory that `--memory-limit` takes, and so a task. Less is mostly a number whose unit was forgotten.
pub const LEAST_MEMORY: u64 = 64 << 20;
/// The least time of an attempt, in seconds, where no unit says that seconds are meant.
pub(super) const LEAST_TIME: u64 = 60;

/// Keys of `resources:`.
pub static RESOURCE_FIELDS: &[Field] = &[
    Field::optional("cpu", Kind::Number(0.001, 4096.0), "", "Cores; a fraction is possible on Kubernetes."),
    Field::optional("memory", Kind::Bytes, "", "Memory, as `16Gi`, `64Mi` or more; half of it is for tables."),
    Field::optional("gpu", Kind::Integer(0, 1024), "", "GPUs."),
    Field::optional(
        "time",
        Kind::Duration,
        "",
        "The time that one attempt may take, as `4h`; less than a minute needs its unit.",
    ),
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
    /// Reads a mapping of `what` that was checked against [`RESOURCE_FIELDS`]. What is too little for any task is added to `problems`.
    pub(super) fn read(record: &Record<'_>, what: &str, span: Span, problems: &mut Diagnostics) -> Self {
        problems.extend(too_little_memory(record, what).into_iter().chain(too_little_time(record, what)));
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

fn too_little_memory(record: &Record<'_>, what: &str) -> Option<Diagnostic> {
    let node = record.node("memory")?;
    record.bytes("memory").filter(|bytes| *bytes < LEAST_MEMORY)?;
    let number = without_unit(node);
    let is = number.map_or_else(|| node.shown().into_owned(), |number| format!("{number} bytes"));
    let message = format!("`memory` of `resources` of {what} is {is}, but must be 64MiB or more");
    // Beyond a thousand, few mean gibibytes.
    let meant = number.filter(|number| *number >= 1.0).map(|number| {
        let unit = if number < 1024.0 { "GiB" } else { "MiB" };
        format!("did you mean `{number}{unit}`?")
    });
    Some(Diagnostic::error("config::out-of-range", message).at(node.span, "").help_opt(meant))
}

fn too_little_time(record: &Record<'_>, what: &str) -> Option<Diagnostic> {
    let node = record.node("time")?;
    let number = without_unit(node);
    let least = if number.is_some() { Duration::from_secs(LEAST_TIME) } else { Duration::from_nanos(1) };
    record.duration("time").filter(|time| *time < least)?;
    let is = number.map_or_else(|| node.shown().into_owned(), |number| format!("{number} seconds"));
    let wanted = if number.is_some() { "a minute or more" } else { "more than 0" };
    let message = format!("`time` of `resources` of {what} is {is}, but must be {wanted}");
    let meant = number
        .filter(|number| *number > 0.0)
        .map(|number| format!("did you mean `{number}h` or `{number}m`? Seconds are written as `{number}s`"));
    Some(Diagnostic::error("config::out-of-range", message).at(node.span, "").help_opt(meant))
}

/// The number that a size or duration is, where it has no unit.
fn without_unit(node: &Node) -> Option<f64> {
    match &node.value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}
