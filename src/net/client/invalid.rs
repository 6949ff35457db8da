//! Which items are requested again after a response with invalid answers.

use super::{
    client::Client,
    part::{Attempts, Part},
    protocol::{Answers as _, Protocol},
};

/// Up to this many items with invalid answers are requested again one by one; more are requested again together first.
const FEW_INVALID: usize = 8;
/// How often they are requested again before their rows fail.
const MAX_INVALID: u8 = 2;

impl<P: Protocol> Client<P> {
    /// What to request again after a response with invalid answers: nothing, the single item itself (an empty list), or these
    /// parts.
    pub(super) fn retry_invalid(
        &self,
        part: &Part<P::Items>,
        answers: &P::Answers,
        attempts: &mut Attempts,
    ) -> Option<Vec<Part<P::Items>>> {
        let invalid: Vec<u32> = answers.faulty().into_iter().map(|row| part.units[row]).collect();
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
}
