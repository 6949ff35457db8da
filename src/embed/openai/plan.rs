//! From the texts of one call to the distinct units that are sent.
//!
//! Pure: used by a run and by its estimate, so that both plan the same requests.

use std::collections::{HashMap, hash_map::Entry};

use arrow::array::{Array, StringArray};

use crate::{
    embed::OnTooLong,
    model::{ByDigest, Fingerprint, is_blank},
    net::{client::TOO_LONG, tokens::Counter},
};

/// Marks a row without text.
const NONE: u32 = u32::MAX;

/// How the texts of one call are sent.
#[derive(Debug)]
pub(super) struct EmbedPlan {
    array: StringArray,
    /// The distinct text of each row, or [`NONE`].
    text_of_row: Vec<u32>,
    /// Rows by text: those of text `t` are `rows[starts[t]..starts[t + 1]]`.
    rows: Vec<u32>,
    starts: Vec<u32>,
    units: Vec<Unit>,
    keys: Vec<Fingerprint>,
    /// Texts that are sent in several pieces, or not at all.
    long: HashMap<u32, Long>,
}

/// What is sent: a distinct text, its beginning, or a piece of it.
#[derive(Debug, Clone, Copy)]
struct Unit {
    row: u32,
    start: u32,
    end: u32,
    text: u32,
}

/// A text that is not exactly one unit.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Long {
    /// Its vector is the mean of the vectors of this many units.
    Pieces(usize),
    /// It is not sent, for this reason.
    Refused(String),
}

/// How texts become units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The most tokens of one input.
    pub(super) max_input_tokens: Option<u64>,
    /// The handling of longer texts.
    pub(super) on_too_long: OnTooLong,
    /// How tokens are counted.
    pub(super) counter: Counter,
}

impl EmbedPlan {
    /// Finds the distinct texts, and divides those that are too long. `key` is the cache's key of a text.
    pub(super) fn new(array: &StringArray, rules: Rules, key: impl Fn(&str) -> Fingerprint) -> Self {
        let mut plan = Self {
            array: array.clone(),
            text_of_row: Vec::with_capacity(array.len()),
            rows: Vec::new(),
            starts: Vec::new(),
            units: Vec::new(),
            keys: Vec::new(),
            long: HashMap::new(),
        };
        let mut known: HashMap<Fingerprint, u32, ByDigest> =
            HashMap::with_capacity_and_hasher(array.len(), ByDigest::default());
        let mut counts: Vec<u32> = Vec::new();
        for row in 0..array.len() {
            let text = if array.is_null(row) { "" } else { array.value(row) };
            if is_blank(text) {
                plan.text_of_row.push(NONE);
                continue;
            }
            let digest = key(text);
            let number = match known.entry(digest) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    let number = index(counts.len());
                    counts.push(0);
                    entry.insert(number);
                    plan.add_units(index(row), number, text, digest, rules, &key);
                    number
                }
            };
            counts[number as usize] += 1;
            plan.text_of_row.push(number);
        }
        plan.sort_rows(&counts);
        plan
    }

    fn add_units(
        &mut self,
        row: u32,
        number: u32,
        text: &str,
        digest: Fingerprint,
        rules: Rules,
        key: impl Fn(&str) -> Fingerprint,
    ) {
        let fits = rules.max_input_tokens.map_or(text.len(), |limit| rules.counter.cut(text, limit));
        if fits == text.len() {
            self.units.push(Unit { row, start: 0, end: index(text.len()), text: number });
            self.keys.push(digest);
            return;
        }
        let limit = rules.max_input_tokens.unwrap_or(u64::MAX);
        match rules.on_too_long {
            OnTooLong::Truncate => {
                self.units.push(Unit { row, start: 0, end: index(fits), text: number });
                self.keys.push(key(&text[..fits]));
            }
            OnTooLong::Error => {
                let tokens = rules.counter.count(text);
                let why = format!("{TOO_LONG}: {tokens} tokens, the model accepts {limit}");
                self.long.insert(number, Long::Refused(why));
            }
            OnTooLong::Mean => {
                let (mut start, mut pieces) = (0, 0);
                while start < text.len() {
                    let end = start + rules.counter.cut(&text[start..], limit).max(1);
                    let end = text.ceil_char_boundary(end);
                    if !is_blank(&text[start..end]) {
                        self.units.push(Unit { row, start: index(start), end: index(end), text: number });
                        self.keys.push(key(&text[start..end]));
                        pieces += 1;
                    }
                    start = end;
                }
                self.long.insert(number, Long::Pieces(pieces));
            }
        }
    }

    fn sort_rows(&mut self, counts: &[u32]) {
        let mut next = 0;
        self.starts = counts
            .iter()
            .map(|count| {
                next += count;
                next - count
            })
            .collect();
        self.starts.push(next);
        self.rows = vec![0; next as usize];
        let mut filled = self.starts.clone();
        for (row, text) in (0u32..).zip(&self.text_of_row) {
            if *text != NONE {
                let position = &mut filled[*text as usize];
                self.rows[*position as usize] = row;
                *position += 1;
            }
        }
    }

    /// How many rows the call has.
    pub(super) fn len(&self) -> usize {
        self.text_of_row.len()
    }

    /// How many distinct texts there are.
    pub(super) fn texts(&self) -> usize {
        self.starts.len() - 1
    }

    /// True for a row without text.
    pub(super) fn is_empty_row(&self, row: usize) -> bool {
        self.text_of_row[row] == NONE
    }

    /// How many units there are.
    pub(super) fn units(&self) -> usize {
        self.units.len()
    }

    /// The text of a unit.
    pub(super) fn unit(&self, unit: u32) -> &str {
        let unit = &self.units[unit as usize];
        &self.array.value(unit.row as usize)[unit.start as usize..unit.end as usize]
    }

    /// The cache's key of a unit.
    pub(super) fn key(&self, unit: u32) -> Fingerprint {
        self.keys[unit as usize]
    }

    /// The distinct text that a unit belongs to.
    pub(super) fn text_of(&self, unit: u32) -> u32 {
        self.units[unit as usize].text
    }

    /// The rows of a distinct text, in order.
    pub(super) fn rows_of(&self, text: u32) -> &[u32] {
        &self.rows[self.starts[text as usize] as usize..self.starts[text as usize + 1] as usize]
    }

    /// True when some text is not exactly one unit.
    pub(super) fn has_long(&self) -> bool {
        !self.long.is_empty()
    }

    /// The handling of a text that is not exactly one unit.
    pub(super) fn long(&self, text: u32) -> Option<&Long> {
        self.long.get(&text)
    }

    /// False for a text that is refused without being sent.
    pub(super) fn is_sent(&self, text: u32) -> bool {
        !matches!(self.long.get(&text), Some(Long::Refused(_)))
    }

    /// The texts that are not sent, with the reasons.
    pub(super) fn refused(&self) -> impl Iterator<Item = (u32, &str)> {
        self.long.iter().filter_map(|(text, long)| match long {
            Long::Refused(why) => Some((*text, why.as_str())),
            Long::Pieces(_) => None,
        })
    }
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("an Arrow string array has at most 2 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(texts: &[Option<&str>], limit: u64, on_too_long: OnTooLong) -> EmbedPlan {
        let counter = Counter::of("text-embedding-3-small");
        let rules = Rules { max_input_tokens: Some(limit), on_too_long, counter };
        EmbedPlan::new(&StringArray::from(texts.to_vec()), rules, |text| Fingerprint::of(text.as_bytes()))
    }

    fn sent(plan: &EmbedPlan) -> Vec<&str> {
        (0..index(plan.units())).map(|unit| plan.unit(unit)).collect()
    }

    #[test]
    fn each_distinct_text_is_sent_once_in_order_of_appearance() {
        let plan = plan(&[Some("b"), Some("a"), Some("b"), None, Some("a"), Some("a ")], 8192, OnTooLong::Truncate);
        assert_eq!(sent(&plan), ["b", "a", "a "]);
        assert_eq!(plan.rows_of(0), [0, 2]);
        assert_eq!(plan.rows_of(1), [1, 4]);
        assert_eq!((plan.len(), plan.texts()), (6, 3));
    }

    #[test]
    fn rows_without_text_are_never_sent() {
        let plan =
            plan(&[None, Some(""), Some("  \n\t"), Some("\0"), Some("\u{a0}"), Some("x")], 8192, OnTooLong::Truncate);
        assert_eq!(sent(&plan), ["x"]);
        assert_eq!((0..6).filter(|row| plan.is_empty_row(*row)).count(), 5);
    }

    #[test]
    fn long_texts_are_cut_refused_or_divided() {
        let long = "one two three four five six";
        let cut = plan(&[Some(long)], 4, OnTooLong::Truncate);
        assert_eq!(sent(&cut), ["one two three four"]);
        let refused = plan(&[Some(long), Some("short")], 4, OnTooLong::Error);
        assert_eq!(sent(&refused), ["short"]);
        assert_eq!(refused.refused().collect::<Vec<_>>(), [(0, "too_long: 6 tokens, the model accepts 4")]);
        let pieces = plan(&[Some(long)], 4, OnTooLong::Mean);
        assert_eq!(sent(&pieces), ["one two three four", " five six"]);
        assert_eq!(pieces.long(0), Some(&Long::Pieces(2)));
    }
}
