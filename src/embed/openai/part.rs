//! Texts of a call that are sent in one request, and the attempts so far.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::plan::EmbedPlan;

/// Texts of a call that are sent in one request.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) plan: Arc<EmbedPlan>,
    pub(super) units: Vec<u32>,
    /// The length of all texts together.
    pub(super) bytes: usize,
    /// True for a part of a request that failed for a reason that may be one of its texts.
    pub(super) suspect: bool,
    /// How often the server named the text at fault. Limited, because a server that always names the same position would
    /// cause one request per text.
    pub(super) named: u8,
    /// How often its texts had invalid vectors.
    pub(super) invalid: u8,
}

impl Part {
    /// All the texts of a request.
    pub(super) fn new(plan: &Arc<EmbedPlan>, units: Vec<u32>) -> Self {
        let bytes = units.iter().map(|unit| plan.unit(*unit).len()).sum();
        Self { plan: Arc::clone(plan), units, bytes, suspect: false, named: 0, invalid: 0 }
    }

    /// A part with other units of the same call.
    pub(super) fn with(&self, units: impl Into<Vec<u32>>, suspect: bool) -> Self {
        Self { suspect, named: self.named, invalid: self.invalid, ..Self::new(&self.plan, units.into()) }
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.units.iter().map(|unit| self.plan.unit(*unit))
    }
}

/// Divides a part into two.
pub(super) fn halves(part: &Part, suspect: bool) -> Vec<Part> {
    let (left, right) = part.units.split_at(part.units.len().div_ceil(2));
    [left, right].into_iter().filter(|half| !half.is_empty()).map(|half| part.with(half, suspect)).collect()
}

/// The attempts of one part so far.
pub(super) struct Attempts {
    pub(super) started: Instant,
    pub(super) successes: u64,
    pub(super) failures: u32,
    pub(super) sent: u32,
    /// Time in flight and in its own pauses, not in queues.
    pub(super) spent: Duration,
    pub(super) at_once: bool,
    pub(super) probed: bool,
    /// How often the single text had an invalid vector.
    pub(super) invalid: u8,
}
