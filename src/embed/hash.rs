//! Provider `hash`: vectors without meaning, computed from a hash of the text.
//!
//! They depend on nothing but the text: equal on every machine and in every run. For tests, for trying out a pipeline, and
//! for benchmarks of everything but the embedding.

use std::sync::Arc;

use arrow::array::{Array, StringArray, StringBuilder};
use async_trait::async_trait;

use super::{EMPTY_TEXT, Embedded, Provider, ProviderSpec, ProviderType, rows::columns};
use crate::{
    config::{Field, Kind, Record},
    diagnostic::Diagnostics,
    embed::local_estimate::estimate_free,
    model::{Estimate, Fingerprint, RowTally, ServiceError, is_blank},
    net::{CpuPermits, ServiceContext},
};

const DEFAULT_DIMENSIONS: u32 = 64;

static FIELDS: &[Field] =
    &[Field::optional("dimensions", Kind::Integer(1, 65_536), "64", "Dimensions of each vector.")];

/// The provider type `hash`.
pub(super) struct Hash;

impl ProviderType for Hash {
    fn name(&self) -> &'static str {
        "hash"
    }

    fn doc(&self) -> &'static str {
        "Vectors computed from a hash of the text: without meaning, for tests and benchmarks"
    }

    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn decode(&self, model: &Record<'_>, _: &mut Diagnostics) -> Option<Arc<dyn ProviderSpec>> {
        let dimensions = model.integer("dimensions").and_then(|n| u32::try_from(n).ok()).unwrap_or(DEFAULT_DIMENSIONS);
        Some(Arc::new(HashSpec { dimensions: dimensions as usize }))
    }
}

#[derive(Debug, Clone, Copy)]
struct HashSpec {
    dimensions: usize,
}

impl ProviderSpec for HashSpec {
    fn identity(&self, _: &ServiceContext) -> Result<Fingerprint, ServiceError> {
        Ok(Fingerprint::builder("hash provider 1").number(self.dimensions as u64).finish())
    }

    fn open(&self, _: &ServiceContext) -> Result<Arc<dyn Provider>, ServiceError> {
        Ok(Arc::new(HashProvider { dimensions: self.dimensions, permits: CpuPermits::default() }))
    }
}

#[derive(Debug)]
struct HashProvider {
    dimensions: usize,
    permits: CpuPermits,
}

#[async_trait]
impl Provider for HashProvider {
    async fn embed(&self, texts: &StringArray) -> Result<Embedded, ServiceError> {
        let (texts, dimensions) = (texts.clone(), self.dimensions);
        self.permits.run(move || embed(&texts, dimensions)).await
    }

    fn dimensions(&self) -> Option<usize> {
        Some(self.dimensions)
    }

    fn estimate(&self, texts: &StringArray, estimate: &mut Estimate) -> Result<(), ServiceError> {
        estimate_free(texts, estimate);
        Ok(())
    }
}

fn embed(texts: &StringArray, dimensions: usize) -> Result<Embedded, ServiceError> {
    let mut values = vec![0.0; texts.len() * dimensions];
    let mut errors = StringBuilder::with_capacity(texts.len(), 0);
    let mut tally = RowTally::default();
    // Finding duplicates would take longer than computing them again.
    for (row, text) in values.chunks_exact_mut(dimensions).zip(texts) {
        match text.filter(|text| !is_blank(text)) {
            Some(text) => {
                fill(text, row);
                tally.ok += 1;
                errors.append_null();
            }
            None => {
                tally.empty += 1;
                errors.append_value(EMPTY_TEXT);
            }
        }
    }
    columns(values, dimensions, errors.finish(), tally)
}

/// A unit vector from a text: a hash is the seed of a fast generator (SplitMix64, two numbers per step).
fn fill(text: &str, row: &mut [f32]) {
    let digest = blake3::hash(text.as_bytes());
    let mut state = digest.as_bytes()[..8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let to_number = |bits: u32| bits.cast_signed() as f32 / 2_147_483_648.0;
    let mut square = 0.0;
    for pair in row.chunks_mut(2) {
        let bits = next();
        for (number, bits) in pair.iter_mut().zip([bits as u32, (bits >> 32) as u32]) {
            *number = to_number(bits);
            square += *number * *number;
        }
    }
    // A vector of zeros is practically impossible.
    let scale = 1.0 / square.sqrt().max(f32::MIN_POSITIVE);
    row.iter_mut().for_each(|number| *number *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(text: &str, dimensions: usize) -> Vec<f32> {
        let mut row = vec![0.0; dimensions];
        fill(text, &mut row);
        row
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn vectors_are_stable_and_have_unit_length() {
        assert_eq!(vector("a text", 64), vector("a text", 64));
        let rounded: Vec<_> = vector("a text", 4).iter().map(|n| format!("{n:.4}")).collect();
        assert_eq!(rounded, ["0.4947", "0.5089", "-0.4623", "-0.5316"]);
        for dimensions in [1, 2, 3, 64, 1536] {
            let length = dot(&vector("b", dimensions), &vector("b", dimensions));
            assert!((length - 1.0).abs() < 1e-4, "{dimensions}: {length}");
        }
    }

    #[test]
    fn vectors_of_different_texts_are_nearly_orthogonal() {
        let texts: Vec<_> = (0..50).map(|n| vector(&format!("text {n}"), 1024)).collect();
        for (i, one) in texts.iter().enumerate() {
            assert!(texts[..i].iter().all(|other| dot(one, other).abs() < 0.2));
        }
    }

    #[test]
    fn rows_without_text_have_no_vector() {
        let embedded = embed(&StringArray::from(vec![Some("a"), None, Some("  ")]), 8).expect("nothing to fail");
        assert_eq!(embedded.tally, RowTally { ok: 1, empty: 2, ..RowTally::default() });
        assert_eq!(embedded.errors.iter().collect::<Vec<_>>(), [None, Some(EMPTY_TEXT), Some(EMPTY_TEXT)]);
        assert_eq!((embedded.vectors.null_count(), embedded.vectors.value_length()), (2, 8));
    }
}
