//! How a part is divided after a refusal because of one of its items: what the server names or what is known about lengths
//! first, halves last.

use super::{
    client::Client,
    lengths::{FEW, probes},
    part::{Items, Part, halves},
    protocol::Protocol,
    request_limit::{Quantity, RequestLimit},
    too_long::TooLong,
};

/// The share of the length that is expected to be allowed from which on an item may be too long.
const MAY_BE_TOO_LONG: f64 = 0.8;
/// How many items that may be too long are sent separately for that reason alone.
const MAX_SEPARATE: usize = 16;
/// The most special tokens that a server adds to a text.
const MAX_SPECIAL_TOKENS: u64 = 64;
/// How often the item that a server names as the cause is sent separately, before the request is divided into halves.
pub(super) const MAX_NAMED: u8 = 8;
/// How often items are tried alone before a part is divided into halves.
const MAX_ROUNDS: u8 = 3;

/// The parts of a divided part.
#[derive(Debug)]
pub(super) enum Divided<I> {
    /// They are sent at the same time.
    Parts(Vec<Part<I>>),
    /// The rest is sent when it is known what became of these.
    First(Vec<Part<I>>, Part<I>),
}

impl<P: Protocol> Client<P> {
    /// The parts of a part with items that are expected to be refused; `None` if there are none.
    pub(super) fn without_too_long(&self, part: &Part<P::Items>) -> Option<Vec<Part<P::Items>>> {
        if part.units.len() < 2 {
            return None;
        }
        let separate = self.shared.lengths.expected_to_fail(&lengths(part));
        (!separate.is_empty()).then(|| separated(part, &separate, part.named))
    }

    /// Divides a part with an item that is too long.
    pub(super) fn divide_too_long(
        &self,
        too_long: TooLong,
        part: &Part<P::Items>,
        (why, first): (&str, bool),
    ) -> Divided<P::Items> {
        let known = &self.shared.lengths;
        let lengths = lengths(part);
        let longest = lengths.iter().copied().max().unwrap_or_default();
        if too_long.row.is_none() && too_long.found.is_some_and(|found| found > longest as u64 + MAX_SPECIAL_TOKENS) {
            // The length of all of them together.
            let limit = RequestLimit { of: Quantity::Tokens, allowed: too_long.allowed, found: too_long.found };
            self.learn_limit(limit, part, why);
            return Divided::Parts(vec![part.clone()]);
        }
        known.refused();
        if let Some(row) = too_long.row.filter(|row| *row < lengths.len() && part.named < u8::MAX) {
            known.failed(lengths[row]);
            let mut separate = known.expected_to_fail(&lengths);
            if !separate.contains(&row) {
                separate.push(row);
                separate.sort_unstable();
            }
            // A server may always name the same position.
            if part.named < MAX_NAMED || separate.len() > 1 {
                return Divided::Parts(separated(part, &separate, part.named + 1));
            }
        }
        let separate = known.expected_to_fail(&lengths);
        if !separate.is_empty() {
            return Divided::Parts(separated(part, &separate, part.named));
        }
        if first && !part.suspect && part.named < MAX_ROUNDS {
            let from = match (too_long.allowed, too_long.found) {
                (Some(allowed), Some(found)) => longest as f64 * MAY_BE_TOO_LONG * allowed as f64 / found as f64,
                _ => longest as f64,
            };
            let may_be: Vec<usize> = (0..lengths.len()).filter(|at| lengths[*at] as f64 >= from).collect();
            if !may_be.is_empty() && may_be.len() <= MAX_SEPARATE && part.named == 0 {
                return Divided::Parts(separated(part, &may_be, part.named + 1));
            }
        }
        let may_fail = known.may_fail(&lengths);
        if !may_fail.is_empty() && (may_fail.len() <= FEW || known.most_are_refused()) {
            return Divided::Parts(separated(part, &may_fail, part.named + 1));
        }
        if part.named < MAX_ROUNDS {
            return self.first(part, &probes(&lengths));
        }
        Divided::Parts(self.halved(part))
    }

    fn first(&self, part: &Part<P::Items>, separate: &[usize]) -> Divided<P::Items> {
        let mut parts = separated(part, separate, part.named + 1);
        match parts.pop() {
            Some(rest) if !parts.is_empty() => Divided::First(parts, rest),
            rest => Divided::Parts(parts.into_iter().chain(rest).collect()),
        }
    }

    /// Halves of a part with an item at fault; its items one by one if it has few and halves are refused as well.
    fn halved(&self, part: &Part<P::Items>) -> Vec<Part<P::Items>> {
        if part.units.len() <= FEW && self.shared.lengths.most_are_refused() {
            return part.units.iter().map(|unit| part.with(vec![*unit], true)).collect();
        }
        halves(part, true)
    }
}

fn lengths<I: Items>(part: &Part<I>) -> Vec<usize> {
    part.units.iter().map(|unit| part.items.len(*unit)).collect()
}

/// The items at these positions one by one, then the others together, if there are any.
fn separated<I: Items>(part: &Part<I>, separate: &[usize], named: u8) -> Vec<Part<I>> {
    let rest: Vec<u32> =
        (0..part.units.len()).filter(|at| separate.binary_search(at).is_err()).map(|at| part.units[at]).collect();
    let rest = (!rest.is_empty()).then(|| Part { named, ..part.with(rest, false) });
    separate.iter().map(|at| part.with(vec![part.units[*at]], true)).chain(rest).collect()
}
