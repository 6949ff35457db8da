//! Items of a call that are sent in one request, and the attempts so far.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::net::Load;

/// The items of one call, by number.
pub trait Items: Send + Sync + 'static {
    /// The length of an item, in bytes.
    fn len(&self, unit: u32) -> usize;
}

/// Items of a call that are sent in one request.
#[derive(Debug)]
pub struct Part<I> {
    /// All items of the call.
    pub items: Arc<I>,
    /// The numbers of those of this part.
    pub units: Vec<u32>,
    /// The length of all of them together.
    pub bytes: usize,
    /// True for a part of a request that failed for a reason that may be one of its items.
    pub(super) suspect: bool,
    /// How often the server named the item at fault. Limited, because a server that always names the same position would
    /// cause one request per item.
    pub(super) named: u8,
    /// How often its items had invalid answers.
    pub(super) invalid: u8,
}

impl<I> Clone for Part<I> {
    fn clone(&self) -> Self {
        Self { items: Arc::clone(&self.items), units: self.units.clone(), ..*self }
    }
}

impl<I: Items> Part<I> {
    /// All the items of a request.
    pub fn new(items: &Arc<I>, units: Vec<u32>) -> Self {
        let bytes = units.iter().map(|unit| items.len(*unit)).sum();
        Self { items: Arc::clone(items), units, bytes, suspect: false, named: 0, invalid: 0 }
    }

    /// A part with other units of the same call.
    pub(super) fn with(&self, units: impl Into<Vec<u32>>, suspect: bool) -> Self {
        Self { suspect, named: self.named, invalid: self.invalid, ..Self::new(&self.items, units.into()) }
    }

    /// Takes off the first items so that they are within these limits, and all such parts about equally large; the rest is
    /// `None` if everything fits. A part has one item at least.
    pub(super) fn take(&self, inputs: usize, bytes: usize, load: u64) -> (Self, Option<Self>) {
        let units = self.units.len();
        let whole = Load::amount(units, self.bytes);
        if units <= 1 || (units <= inputs && self.bytes <= bytes && whole <= load) {
            return (self.clone(), None);
        }
        let even = |whole: u64, limit: u64| whole.div_ceil(whole.div_ceil(limit.max(1)).max(1));
        let inputs = usize::try_from(even(units as u64, inputs as u64)).unwrap_or(usize::MAX);
        let (mut taken, mut length) = (0, 0);
        // Rounded up to whole items, if that is within the limit.
        let aim = even(whole, load);
        for unit in &self.units {
            let more = length + self.items.len(*unit);
            let reached = Load::amount(taken, length) >= aim;
            if taken > 0 && (taken >= inputs || more > bytes || reached || Load::amount(taken + 1, more) > load) {
                break;
            }
            (taken, length) = (taken + 1, more);
        }
        let (head, rest) = self.units.split_at(taken);
        (self.with(head, self.suspect), (!rest.is_empty()).then(|| self.with(rest, self.suspect)))
    }
}

/// Divides a part into two.
pub(super) fn halves<I: Items>(part: &Part<I>, suspect: bool) -> Vec<Part<I>> {
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
    /// True if its single item was shortened: then its length is not that of the item.
    pub(super) shortened: bool,
    /// How often the single item had an invalid answer.
    pub(super) invalid: u8,
}

impl Attempts {
    /// None so far. `successes` is how many requests the endpoint has answered by now.
    pub(super) fn new(successes: u64) -> Self {
        Self {
            started: Instant::now(),
            successes,
            failures: 0,
            sent: 0,
            spent: Duration::ZERO,
            at_once: false,
            waited: Duration::ZERO,
            probed: false,
            shortened: false,
            invalid: 0,
        }
    }

    /// None of the next page so far. What is known of the item stays known.
    pub(super) fn of_next_page(&self, successes: u64) -> Self {
        Self { shortened: self.shortened, invalid: self.invalid, ..Self::new(successes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_and_failures_of_earlier_pages_do_not_count_for_the_next_one() {
        let spent = Duration::from_secs(3600);
        let earlier =
            Attempts { spent, failures: 9, sent: 10, probed: true, invalid: 1, shortened: true, ..Attempts::new(1) };
        let next = earlier.of_next_page(7);
        assert_eq!((next.spent, next.failures, next.sent, next.probed), (Duration::ZERO, 0, 0, false));
        assert_eq!((next.successes, next.invalid, next.shortened), (7, 1, true));
    }
}
