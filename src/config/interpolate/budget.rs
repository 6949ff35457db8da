//! How much references may copy: references to references multiply.

use super::super::tree::{Node, Value};

/// Values (long strings count for several) that references may copy in all.
pub(super) const MAX_COPIED: usize = 2_000_000;

/// Counts what was copied.
#[derive(Debug, Default)]
pub(super) struct CopyBudget {
    copied: usize,
}

/// The budget is spent.
#[derive(Debug)]
pub(super) struct Exhausted {
    /// True the first time.
    pub(super) first: bool,
}

impl CopyBudget {
    /// Takes the weight of one copy.
    pub(super) fn charge(&mut self, weight: usize) -> Result<(), Exhausted> {
        let first = self.copied <= MAX_COPIED;
        self.copied += weight;
        if self.copied <= MAX_COPIED { Ok(()) } else { Err(Exhausted { first }) }
    }
}

/// The weight of a string of this length.
pub(super) fn string_weight(length: usize) -> usize {
    1 + length / 64
}

/// How much memory a copy of a value takes.
pub(super) fn weight(node: &Node) -> usize {
    match &node.value {
        Value::Text(text) => string_weight(text.len()),
        Value::Secret(secret) => string_weight(secret.expose().len()),
        Value::List(list) => 1 + list.iter().map(weight).sum::<usize>(),
        Value::Map(map) => 1 + map.iter().map(|(_, entry)| 1 + weight(&entry.node)).sum::<usize>(),
        _ => 1,
    }
}
