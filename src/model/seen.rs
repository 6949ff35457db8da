//! The texts that an estimate has seen, by their digests, in bounded memory.
//!
//! Exact while all digests fit. After that only a sample is kept: the digests with a number of trailing zero bits, one more
//! each time the memory is used up. Digests are uniformly distributed, so counts among the sample are scaled: with a
//! million kept, the error is about a thousandth.

use std::collections::HashSet;

use super::fingerprint::{ByDigest, Fingerprint};

/// Bytes of a digest in the hash table, including its free slots.
const ENTRY_BYTES: u64 = 40;
/// Digests that are kept whatever the memory.
const MIN_ENTRIES: u64 = 1 << 16;
/// Digests that make the estimate exact enough.
const MAX_ENTRIES: u64 = 4 << 20;

/// The texts that an estimate has seen; see the module.
#[derive(Debug)]
pub struct Seen {
    kept: HashSet<Fingerprint, ByDigest>,
    max_entries: usize,
    /// How often the sample was halved: one in two to this power of all digests is kept.
    halvings: u32,
}

impl Default for Seen {
    fn default() -> Self {
        Self { kept: HashSet::default(), max_entries: MAX_ENTRIES as usize, halvings: 0 }
    }
}

impl Seen {
    /// Limits the kept digests to `bytes` bytes.
    pub fn limit_memory(&mut self, bytes: u64) {
        self.max_entries = (bytes / ENTRY_BYTES).clamp(MIN_ENTRIES, MAX_ENTRIES) as usize;
        self.halve();
    }

    /// False once only a sample is kept.
    pub fn is_exact(&self) -> bool {
        self.halvings == 0
    }

    /// Whether a digest is new; `None` if it is not in the sample.
    pub fn insert(&mut self, digest: Fingerprint) -> Option<bool> {
        if !self.is_sampled(digest) {
            return None;
        }
        let new = self.kept.insert(digest);
        self.halve();
        Some(new)
    }

    /// Whether each of `digests` is new, `None` for those that are not in the sample; and the estimated fraction of new ones.
    pub fn check(&mut self, digests: &[Fingerprint]) -> (Vec<Option<bool>>, f64) {
        let (mut known, mut all, mut new) = (Vec::with_capacity(digests.len()), 0u64, 0u64);
        for digest in digests {
            // A sampled digest represents as many as the sampling rate at this time says.
            let weight = 1u64 << self.halvings;
            let is_new = self.insert(*digest);
            all += if is_new.is_some() { weight } else { 0 };
            new += if is_new == Some(true) { weight } else { 0 };
            known.push(is_new);
        }
        // Without a sample, all may be new.
        (known, if all == 0 { 1.0 } else { new as f64 / all as f64 })
    }

    fn is_sampled(&self, digest: Fingerprint) -> bool {
        let [.., a, b, c, d] = *digest.as_bytes();
        u32::from_be_bytes([a, b, c, d]).trailing_zeros() >= self.halvings
    }

    fn halve(&mut self) {
        while self.kept.len() > self.max_entries && self.halvings < 31 {
            self.halvings += 1;
            let kept = std::mem::take(&mut self.kept);
            self.kept = kept.into_iter().filter(|digest| self.is_sampled(*digest)).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(range: std::ops::Range<u64>) -> Vec<Fingerprint> {
        range.map(|n| Fingerprint::of(n.to_le_bytes())).collect()
    }

    #[test]
    fn what_fits_in_memory_is_exact() {
        let mut seen = Seen::default();
        assert_eq!(seen.check(&digests(0..1000)).1, 1.0);
        let (known, fraction) = seen.check(&digests(500..1500));
        assert_eq!((known[499], known[500], fraction), (Some(false), Some(true), 0.5));
        assert!(seen.is_exact());
    }

    #[test]
    fn what_exceeds_the_memory_is_estimated_from_a_sample() {
        let mut seen = Seen::default();
        seen.limit_memory(0);
        let all: Vec<_> = (0..50).map(|part| seen.check(&digests(part * 10_000..(part + 1) * 10_000)).1).collect();
        assert!(!seen.is_exact() && seen.kept.len() as u64 <= MIN_ENTRIES, "{} kept", seen.kept.len());
        assert!(all.iter().all(|fraction| *fraction == 1.0), "all are new");
        let (_, again) = seen.check(&digests(100_000..200_000));
        assert_eq!(again, 0.0, "all were seen");
        let (_, half) = seen.check(&digests(450_000..550_000));
        assert!((half - 0.5).abs() < 0.02, "{half} instead of a half");
    }
}
