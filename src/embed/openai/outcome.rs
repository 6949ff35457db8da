//! The outcome of a request: for each text of it a vector, or the reason why there is none.

use std::sync::Arc;

use super::wire::Vectors;

/// The outcome of one request, including those that it was divided into.
#[derive(Debug, Default)]
pub(super) struct RequestOutcome {
    pub(super) outcomes: Vec<PartOutcome>,
}

/// Texts with a common outcome.
#[derive(Debug)]
pub(super) struct PartOutcome {
    /// Sorted.
    pub(super) units: Vec<u32>,
    pub(super) result: Result<Vectors, Arc<str>>,
}

impl RequestOutcome {
    /// The vector of a unit, or the reason why there is none.
    pub(super) fn find(&self, unit: u32) -> Option<Result<&[f32], Arc<str>>> {
        self.outcomes.iter().find_map(|outcome| {
            let row = outcome.units.binary_search(&unit).ok()?;
            Some(match &outcome.result {
                Ok(vectors) => vectors.row(row).map_err(|fault| fault.to_string().into()),
                Err(why) => Err(Arc::clone(why)),
            })
        })
    }
}

impl RequestOutcome {
    /// The vectors of a whole request, if it was not divided and `units` (ours, theirs) are all of its units in order.
    pub(super) fn column_of(&self, units: &[(u32, u32)]) -> Option<&Vectors> {
        let [PartOutcome { units: theirs, result: Ok(vectors) }] = &self.outcomes[..] else { return None };
        let same = theirs.len() == units.len()
            && units.iter().zip(theirs).zip(0u32..).all(|((unit, there), n)| *unit == (n, n) && *there == n);
        same.then_some(vectors)
    }
}
