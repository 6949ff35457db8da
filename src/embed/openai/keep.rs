//! From an answer that was paid for to vectors that are kept: room for them before anything is sent, which of them are
//! believed, which texts are asked for again, and the way into the cache.

use std::sync::{Arc, atomic::Ordering};

use super::{
    send::{Core, Halt, Leaf, Part, Trials},
    verdict::Verdict,
    wire::Vectors,
};
use crate::embed::{
    EmbedError, USUAL_DIMENSIONS,
    cache::{CacheMode, Reserved},
};

/// Answers from this size on, and vectors, are read and kept on a thread of their own.
pub(super) const LARGE_ANSWER: usize = 1 << 20;
/// Texts whose vectors were none are asked for again, each alone, when they are no more than this; else together first.
const FEW_ODD: usize = 8;
/// How often they are asked for again before their rows are given up.
const MOST_ODD: u8 = 2;

impl Core {
    /// Makes sure that an answer can be kept, before it is paid for. Nothing more is sent once one cannot.
    pub(super) fn make_room(&self, vectors: usize) -> Result<Option<Reserved>, Halt> {
        let dimensions = self.shared.dimensions.get().copied().unwrap_or(USUAL_DIMENSIONS);
        self.shared.cache.reserve(vectors, dimensions).map_err(|error| {
            let why = format!(
                "{error}: nothing is asked for that could not be kept; what is done is kept, make room and run again"
            );
            Halt::Error(self.end(EmbedError::Stopped(why)))
        })
    }

    /// Of two answers that came at once while nobody knew the length, the later one gives way to the earlier.
    pub(super) fn held_against_others(&self, verdict: Verdict, rows: usize) -> Verdict {
        let Verdict::Vectors(vectors) = verdict else { return verdict };
        let got = vectors.dimensions();
        if vectors.faulty_rows().len() == rows {
            return Verdict::Vectors(vectors);
        }
        if *self.shared.dimensions.get_or_init(|| got) == got {
            self.shared.proven.store(true, Ordering::Relaxed);
            return Verdict::Vectors(vectors);
        }
        Verdict::Odd(format!("vectors of {got} numbers contradict those that came before"))
    }

    /// What is asked for again after an answer in which some vectors were none: nothing, the one text itself (an empty
    /// list), or these parts.
    pub(super) fn odd_again(&self, part: &Part, vectors: &Vectors, trials: &mut Trials) -> Option<Vec<Part>> {
        let odd: Vec<u32> = vectors.faulty_rows().map(|row| part.units[row]).collect();
        if odd.is_empty() || part.odd + trials.odd >= MOST_ODD || part.units.len() == 1 && part.odd + trials.odd > 0 {
            return None;
        }
        if part.units.len() == 1 {
            trials.odd += 1;
            return Some(Vec::new());
        }
        if odd.len() > FEW_ODD && part.odd > 0 {
            return None;
        }
        let again = |units: &[u32]| Part { odd: part.odd + 1, ..part.with(units, true) };
        Some(if odd.len() > FEW_ODD { vec![again(&odd)] } else { odd.chunks(1).map(again).collect() })
    }

    /// Puts vectors into the cache, before anybody hears of them.
    pub(super) async fn keep(
        self: &Arc<Self>,
        part: &Part,
        vectors: Vectors,
        shortened: bool,
    ) -> Result<Leaf, EmbedError> {
        // The vector of a text that had to be cut is not that text's.
        if shortened || self.shared.cache.mode() != CacheMode::ReadWrite {
            return Ok(Leaf { units: part.units.clone(), result: Ok(vectors) });
        }
        if vectors.bytes() < LARGE_ANSWER {
            return self.store(part, vectors);
        }
        let (core, part) = (Arc::clone(self), part.clone());
        self.shared.cores.run(move || core.store(&part, vectors)).await
    }

    /// Writes vectors to the cache.
    fn store(&self, part: &Part, vectors: Vectors) -> Result<Leaf, EmbedError> {
        let rows = part.units.iter().enumerate();
        let sound = rows.filter_map(|(row, unit)| Some((part.plan.key(*unit), vectors.row(row).ok()?)));
        self.shared.cache.put_many(&sound.collect::<Vec<_>>()).map_err(|error| self.end(error.into()))?;
        Ok(Leaf { units: part.units.clone(), result: Ok(vectors) })
    }
}
