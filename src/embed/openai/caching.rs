//! From a response to stored vectors: reserves disk space before anything is sent, checks the vectors' length, selects the
//! texts to request again, and stores the rest.

use std::sync::{Arc, atomic::Ordering};

use super::{
    client_core::{Core, Halt},
    outcome::PartOutcome,
    part::{Attempts, Part},
    response_verdict::ResponseVerdict,
    wire::Vectors,
};
use crate::{
    cache::{CacheMode, DiskReservation},
    embed::DEFAULT_DIMENSIONS,
    model::ServiceError,
};

/// Responses and vectors of at least this many bytes are decoded and stored on a thread for blocking work.
pub(super) const LARGE_RESPONSE: usize = 1 << 20;
/// Up to this many texts with invalid vectors are requested again one by one; more are requested again together first.
const FEW_INVALID: usize = 8;
/// How often they are requested again before their rows fail.
const MAX_INVALID: u8 = 2;

impl Core {
    /// Reserves disk space for a response, before it is paid for. A failure is fatal: nothing more is sent.
    pub(super) fn reserve_cache(&self, vectors: usize) -> Result<Option<DiskReservation>, Halt> {
        let dimensions = self.shared.dimensions.get().copied().unwrap_or(DEFAULT_DIMENSIONS);
        self.shared.cache.reserve(vectors, dimensions).map_err(|error| {
            let why = format!(
                "{error}: nothing is requested that could not be stored; finished work is kept, free some disk space and run again"
            );
            Halt::Error(self.fail(ServiceError::Stopped(why)))
        })
    }

    /// Checks the length of a response's vectors. Of two concurrent first responses, the earlier one determines it.
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
        ResponseVerdict::InconsistentDimensions(format!("vectors with {got} dimensions contradict earlier ones"))
    }

    /// What to request again after a response with invalid vectors: nothing, the single text itself (an empty list), or these
    /// parts.
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

    /// Stores vectors in the cache, before they are returned.
    pub(super) async fn store_vectors(
        self: &Arc<Self>,
        part: &Part,
        vectors: Vectors,
        shortened: bool,
    ) -> Result<PartOutcome, ServiceError> {
        // The vector of a shortened text is not that of the text.
        if shortened || self.shared.cache.mode() != CacheMode::ReadWrite {
            return Ok(PartOutcome { units: part.units.clone(), result: Ok(vectors) });
        }
        if vectors.bytes() < LARGE_RESPONSE {
            return self.store(part, vectors);
        }
        let (core, part) = (Arc::clone(self), part.clone());
        self.shared.permits.run(move || core.store(&part, vectors)).await
    }

    /// Writes vectors to the cache.
    fn store(&self, part: &Part, vectors: Vectors) -> Result<PartOutcome, ServiceError> {
        let rows = part.units.iter().enumerate();
        let sound = rows.filter_map(|(row, unit)| Some((part.plan.key(*unit), vectors.row(row).ok()?)));
        self.shared.cache.put_many(&sound.collect::<Vec<_>>()).map_err(|error| self.fail(error.into()))?;
        Ok(PartOutcome { units: part.units.clone(), result: Ok(vectors) })
    }
}
