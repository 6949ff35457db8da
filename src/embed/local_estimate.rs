//! The estimate of a local provider.

use arrow::array::{Array, StringArray};

use crate::model::{Estimate, Fingerprint, is_blank};

/// The estimate of a local provider: rows and distinct texts, no requests, no cost.
pub(super) fn estimate_free(texts: &StringArray, estimate: &mut Estimate) {
    estimate.cost_nano_usd.get_or_insert(0);
    estimate.rows += texts.len() as u64;
    let digests: Vec<Fingerprint> =
        texts.iter().flatten().filter(|text| !is_blank(text)).map(Fingerprint::of).collect();
    let (known, fraction) = estimate.seen.check(&digests);
    estimate.unique_rows += if estimate.seen.is_exact() {
        known.iter().filter(|new| **new == Some(true)).count() as u64
    } else {
        (digests.len() as f64 * fraction).round() as u64
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_of_several_partitions_add_up() {
        let mut estimate = Estimate::default();
        for texts in [vec![Some("a"), None, Some("b")], vec![Some("a"), Some("c"), Some(" ")]] {
            estimate_free(&StringArray::from(texts), &mut estimate);
        }
        assert_eq!((estimate.rows, estimate.unique_rows, estimate.requests), (6, 3, 0));
        assert_eq!(estimate.cost_nano_usd, Some(0));
    }
}
