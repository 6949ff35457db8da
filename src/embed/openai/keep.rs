//! From an answer that was paid for to vectors that are kept: room for them before anything is sent, which of them are
//! believed, which texts are asked for again, and the way into the cache.

use std::sync::{Arc, atomic::Ordering};

use super::{
    client_core::{Core, Halt},
    outcome::PartOutcome,
    part::{Attempts, Part},
    response_verdict::ResponseVerdict,
    wire::Vectors,
};
use crate::embed::{
    EmbedError, USUAL_DIMENSIONS,
    cache::{CacheMode, Reserved},
};

/// Answers from this size on, and vectors, are read and kept on a thread of their own.
pub(super) const LARGE_ANSWER: usize = 1 << 20;
/// Texts whose vectors were none are asked for again, each alone, when they are no more than this; else together first.
const FEW_INVALID: usize = 8;
/// How often they are asked for again before their rows are given up.
const MAX_INVALID: u8 = 2;

impl Core {
    /// Makes sure that an answer can be kept, before it is paid for. Nothing more is sent once one cannot.
    pub(super) fn reserve_cache(&self, vectors: usize) -> Result<Option<Reserved>, Halt> {
        let dimensions = self.shared.dimensions.get().copied().unwrap_or(USUAL_DIMENSIONS);
        self.shared.cache.reserve(vectors, dimensions).map_err(|error| {
            let why = format!(
                "{error}: nothing is asked for that could not be kept; finished work is kept, make room and run again"
            );
            Halt::Error(self.fail(EmbedError::Stopped(why)))
        })
    }

    /// Of two answers that came at once while nobody knew the length, the later one gives way to the earlier.
    pub(super) fn check_dimensions(&self, verdict: ResponseVerdict, rows: usize) -> ResponseVerdict {
        let ResponseVerdict::Vectors(vectors) = verdict else { return verdict };
        let got = vectors.dimensions();
        if vectors.faulty_rows().len() == rows {
            return ResponseVerdict::Vectors(vectors);
        }
        if *self.shared.dimensions.get_or_init(|| got) == got {
            self.shared.proven.store(true, Ordering::Relaxed);
            return ResponseVerdict::Vectors(vectors);
        }
        ResponseVerdict::InconsistentDimensions(format!("vectors of {got} numbers contradict those that came before"))
    }

    /// What is asked for again after an answer in which some vectors were none: nothing, the one text itself (an empty
    /// list), or these parts.
    pub(super) fn retry_invalid(&self, part: &Part, vectors: &Vectors, attempts: &mut Attempts) -> Option<Vec<Part>> {
        let invalid: Vec<u32> = vectors.faulty_rows().map(|row| part.units[row]).collect();
        if invalid.is_empty()
            || part.invalid + attempts.invalid >= MAX_INVALID
            || part.units.len() == 1 && part.invalid + attempts.invalid > 0
        {
            return None;
        }
        if part.units.len() == 1 {
            attempts.invalid += 1;
            return Some(Vec::new());
        }
        if invalid.len() > FEW_INVALID && part.invalid > 0 {
            return None;
        }
        let again = |units: &[u32]| Part { invalid: part.invalid + 1, ..part.with(units, true) };
        Some(if invalid.len() > FEW_INVALID { vec![again(&invalid)] } else { invalid.chunks(1).map(again).collect() })
    }

    /// Puts vectors into the cache, before anybody hears of them.
    pub(super) async fn keep(
        self: &Arc<Self>,
        part: &Part,
        vectors: Vectors,
        shortened: bool,
    ) -> Result<PartOutcome, EmbedError> {
        // The vector of a text that had to be cut is not that text's.
        if shortened || self.shared.cache.mode() != CacheMode::ReadWrite {
            return Ok(PartOutcome { units: part.units.clone(), result: Ok(vectors) });
        }
        if vectors.bytes() < LARGE_ANSWER {
            return self.store(part, vectors);
        }
        let (core, part) = (Arc::clone(self), part.clone());
        self.shared.cores.run(move || core.store(&part, vectors)).await
    }

    /// Writes vectors to the cache.
    fn store(&self, part: &Part, vectors: Vectors) -> Result<PartOutcome, EmbedError> {
        let rows = part.units.iter().enumerate();
        let sound = rows.filter_map(|(row, unit)| Some((part.plan.key(*unit), vectors.row(row).ok()?)));
        self.shared.cache.put_many(&sound.collect::<Vec<_>>()).map_err(|error| self.fail(error.into()))?;
        Ok(PartOutcome { units: part.units.clone(), result: Ok(vectors) })
    }
}
