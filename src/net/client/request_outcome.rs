//! The outcome of a request: for each item of it an answer, or the reason why there is none.

use std::sync::Arc;

use super::protocol::Answers;

/// The outcome of one request, including those that it was divided into.
#[derive(Debug)]
pub struct RequestOutcome<A> {
    /// Of each request that had answers, and of each item without one.
    pub outcomes: Vec<PartOutcome<A>>,
}

impl<A> Default for RequestOutcome<A> {
    fn default() -> Self {
        Self { outcomes: Vec::new() }
    }
}

/// Items with a common outcome.
#[derive(Debug)]
pub struct PartOutcome<A> {
    /// Sorted.
    pub units: Vec<u32>,
    /// The answers to them, or the reason why there are none.
    pub result: Result<A, Arc<str>>,
}

impl<A: Answers> RequestOutcome<A> {
    /// The answers that a unit's is among, and its position in them; or the reason why there is none.
    pub fn find(&self, unit: u32) -> Option<Result<(&A, usize), Arc<str>>> {
        self.outcomes.iter().find_map(|outcome| {
            let row = outcome.units.binary_search(&unit).ok()?;
            Some(match &outcome.result {
                Ok(answers) => answers.fault(row).map_or(Ok((answers, row)), |fault| Err(fault.into())),
                Err(why) => Err(Arc::clone(why)),
            })
        })
    }

    /// The answers of a whole request, if it was not divided and `units` (ours, theirs) are all of its units in order.
    pub fn whole(&self, units: &[(u32, u32)]) -> Option<&A> {
        let [PartOutcome { units: theirs, result: Ok(answers) }] = &self.outcomes[..] else { return None };
        let same = theirs.len() == units.len()
            && units.iter().zip(theirs).zip(0u32..).all(|((unit, there), n)| *unit == (n, n) && *there == n);
        same.then_some(answers)
    }
}
