//! Which lengths of items an endpoint accepts, as its responses have shown: so that items that it finds too long are sent
//! separately, and not in requests that fail because of them.
//!
//! Servers count tokens and this counts bytes, so between the lengths that pass and those that fail there are some of both.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Requests whose outcomes are remembered, and how many of them have to be refused until most are expected to be.
const REMEMBERED: u32 = 8;
const MOST: u32 = 6;
/// So many items at most are sent one by one because some may be at fault.
pub(super) const FEW: usize = 64;
/// Items that are tried alone to find the length from which on items fail.
const PROBES: usize = 4;

/// What is known about the lengths of items.
#[derive(Debug, Default)]
pub(super) struct Lengths(Mutex<Known>);

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// The longest item that passed.
    passed: usize,
    /// From this length on, none has passed.
    all_fail_from: Option<usize>,
    /// The shortest item that failed.
    some_fail_from: Option<usize>,
    /// The last requests of several items: a set bit for each one that was refused because of one of them.
    refused: u32,
}

impl Lengths {
    /// A request was accepted.
    pub(super) fn passed(&self, lengths: impl ExactSizeIterator<Item = usize>) {
        let several = lengths.len() > 1;
        let longest = lengths.max().unwrap_or_default();
        let mut known = self.lock();
        known.passed = known.passed.max(longest);
        if known.all_fail_from.is_some_and(|from| from <= longest) {
            known.all_fail_from = None;
        }
        if several {
            known.refused <<= 1;
        }
    }

    /// An item of this length was refused as too long.
    pub(super) fn failed(&self, length: usize) {
        let mut known = self.lock();
        known.some_fail_from = Some(known.some_fail_from.map_or(length, |from| from.min(length)));
        if length > known.passed {
            known.all_fail_from = Some(known.all_fail_from.map_or(length, |from| from.min(length)));
        }
    }

    /// A request of several items was refused because of one of them.
    pub(super) fn refused(&self) {
        let mut known = self.lock();
        known.refused = known.refused << 1 | 1;
    }

    /// True if most requests of several items are refused because of one of them.
    pub(super) fn most_are_refused(&self) -> bool {
        (self.lock().refused & ((1 << REMEMBERED) - 1)).count_ones() >= MOST
    }

    /// The positions of items that are expected to be refused.
    pub(super) fn expected_to_fail(&self, lengths: &[usize]) -> Vec<usize> {
        at_least(lengths, self.lock().all_fail_from)
    }

    /// The positions of items as long as some that were refused.
    pub(super) fn may_fail(&self, lengths: &[usize]) -> Vec<usize> {
        at_least(lengths, self.lock().some_fail_from)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn at_least(lengths: &[usize], from: Option<usize>) -> Vec<usize> {
    let Some(from) = from else { return Vec::new() };
    (0..lengths.len()).filter(|at| lengths[*at] >= from).collect()
}

/// The positions of items of about evenly distributed lengths, the longest among them.
pub(super) fn probes(lengths: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|at| lengths[*at]);
    let mut probes: Vec<usize> = (1..=PROBES).filter_map(|n| (n * order.len() / PROBES).checked_sub(1)).collect();
    probes.dedup();
    let mut probes: Vec<usize> = probes.into_iter().map(|rank| order[rank]).collect();
    probes.sort_unstable();
    probes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_alone_tells_what_will_fail_until_a_longer_item_passes() {
        let lengths = Lengths::default();
        let items = [10, 40, 90, 60];
        assert_eq!(lengths.expected_to_fail(&items), [0; 0]);
        lengths.passed([40, 20].into_iter());
        lengths.failed(60);
        assert_eq!(lengths.expected_to_fail(&items), [2, 3]);
        // It has more tokens than longer ones.
        lengths.failed(30);
        assert_eq!((lengths.expected_to_fail(&items), lengths.may_fail(&items)), (vec![2, 3], vec![1, 2, 3]));
        lengths.passed([70].into_iter());
        assert_eq!(lengths.expected_to_fail(&items), [0; 0]);
    }

    #[test]
    fn probes_are_of_all_lengths_and_each_only_once() {
        assert_eq!(probes(&[5, 1, 9, 3, 7, 2, 8, 4]), [2, 4, 5, 7]);
        assert_eq!((probes(&[2, 1]), probes(&[])), (vec![0, 1], vec![]));
    }

    #[test]
    fn most_are_refused_after_a_series_of_refusals_and_not_after_passes() {
        let lengths = Lengths::default();
        (0..MOST).for_each(|_| lengths.refused());
        assert!(lengths.most_are_refused());
        (0..4).for_each(|_| lengths.passed([1, 2].into_iter()));
        assert!(!lengths.most_are_refused());
    }
}
