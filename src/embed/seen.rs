//! Which texts an estimate has seen, in bounded memory.
//!
//! Exact as long as all names fit. Beyond that only names from a part of all possible ones are kept, half as large a part
//! each time the room is used up; names are hashes, so that the part stands for all texts. What is counted among the kept
//! ones is multiplied: with a million kept, such an estimate is off by about a thousandth.

use std::collections::HashSet;

use crate::model::{ByDigest, Fingerprint};

/// Bytes that a kept name takes: itself, and the free places of its table.
const EACH: u64 = 40;
/// Names that are kept whatever the memory.
const LEAST: u64 = 1 << 16;
/// Names that are enough for an estimate as exact as anybody needs.
const MOST: u64 = 4 << 20;

/// See the module.
#[derive(Debug)]
pub struct Seen {
    kept: HashSet<Fingerprint, ByDigest>,
    most: usize,
    /// How often the part was halved: of all names, one in two to this power is kept.
    halved: u32,
}

impl Default for Seen {
    fn default() -> Self {
        Self { kept: HashSet::default(), most: MOST as usize, halved: 0 }
    }
}

impl Seen {
    /// Keeps no more names than so many bytes hold.
    pub fn keep_to(&mut self, bytes: u64) {
        self.most = (bytes / EACH).clamp(LEAST, MOST) as usize;
        self.halve();
    }

    /// False once only a part of all names is kept, so that what is counted is an estimate.
    pub fn is_exact(&self) -> bool {
        self.halved == 0
    }

    /// True when the name is new, false when it was seen before; `None` when it is none of those that are kept.
    pub fn insert(&mut self, name: Fingerprint) -> Option<bool> {
        if !self.keeps(name) {
            return None;
        }
        let new = self.kept.insert(name);
        self.halve();
        Some(new)
    }

    /// Of `names`, those that were seen before, or `None` for each that nobody can tell of; and about which share of all
    /// is new.
    pub fn tell(&mut self, names: &[Fingerprint]) -> (Vec<Option<bool>>, f64) {
        let (mut told, mut all, mut new) = (Vec::with_capacity(names.len()), 0u64, 0u64);
        for name in names {
            // Each stands for as many as the part was smaller than the whole when it was looked at.
            let stands_for = 1u64 << self.halved;
            let is_new = self.insert(*name);
            all += if is_new.is_some() { stands_for } else { 0 };
            new += if is_new == Some(true) { stands_for } else { 0 };
            told.push(is_new);
        }
        // Where nothing is known, all may be new.
        (told, if all == 0 { 1.0 } else { new as f64 / all as f64 })
    }

    fn keeps(&self, name: Fingerprint) -> bool {
        let [.., a, b, c, d] = *name.as_bytes();
        u32::from_be_bytes([a, b, c, d]).trailing_zeros() >= self.halved
    }

    fn halve(&mut self) {
        while self.kept.len() > self.most && self.halved < 31 {
            self.halved += 1;
            let kept = std::mem::take(&mut self.kept);
            self.kept = kept.into_iter().filter(|name| self.keeps(*name)).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(range: std::ops::Range<u64>) -> Vec<Fingerprint> {
        range.map(|n| Fingerprint::of(n.to_le_bytes())).collect()
    }

    #[test]
    fn what_fits_is_told_exactly() {
        let mut seen = Seen::default();
        assert_eq!(seen.tell(&names(0..1000)).1, 1.0);
        let (told, share) = seen.tell(&names(500..1500));
        assert_eq!((told[499], told[500], share), (Some(false), Some(true), 0.5));
        assert!(seen.is_exact());
    }

    #[test]
    fn what_does_not_fit_is_estimated_in_bounded_memory() {
        let mut seen = Seen::default();
        seen.keep_to(0);
        let all: Vec<_> = (0..50).map(|part| seen.tell(&names(part * 10_000..(part + 1) * 10_000)).1).collect();
        assert!(!seen.is_exact() && seen.kept.len() as u64 <= LEAST, "{} kept", seen.kept.len());
        assert!(all.iter().all(|share| *share == 1.0), "all are new");
        let (_, again) = seen.tell(&names(100_000..200_000));
        assert_eq!(again, 0.0, "all were seen");
        let (_, half) = seen.tell(&names(450_000..550_000));
        assert!((half - 0.5).abs() < 0.02, "{half} instead of a half");
    }
}
