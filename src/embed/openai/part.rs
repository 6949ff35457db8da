//! Texts of a call that are sent in one request, and the attempts so far.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::plan::EmbedPlan;
use crate::net::Load;

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

    /// Takes off the first texts so that they are within these limits, and all such parts about equally large; the rest is
    /// `None` if everything fits. A part has one text at least.
    pub(super) fn take(&self, inputs: usize, bytes: usize, load: u64) -> (Part, Option<Part>) {
        let units = self.units.len();
        let whole = Load::amount(units, self.bytes);
        if units <= 1 || (units <= inputs && self.bytes <= bytes && whole <= load) {
            return (self.clone(), None);
        }
        let even = |whole: u64, limit: u64| whole.div_ceil(whole.div_ceil(limit.max(1)).max(1));
        let inputs = usize::try_from(even(units as u64, inputs as u64)).unwrap_or(usize::MAX);
        let (mut taken, mut length) = (0, 0);
        // Rounded up to whole texts, if that is within the limit.
        let aim = even(whole, load);
        for unit in &self.units {
            let more = length + self.plan.unit(*unit).len();
            let reached = Load::amount(taken, length) >= aim;
            if taken > 0 && (taken >= inputs || more > bytes || reached || Load::amount(taken + 1, more) > load) {
                break;
            }
            (taken, length) = (taken + 1, more);
        }
        let (head, rest) = self.units.split_at(taken);
        (self.with(head, self.suspect), (!rest.is_empty()).then(|| self.with(rest, self.suspect)))
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
    /// How long the last attempt waited for its response.
    pub(super) waited: Duration,
    pub(super) probed: bool,
    /// How often the single text had an invalid vector.
    pub(super) invalid: u8,
}
