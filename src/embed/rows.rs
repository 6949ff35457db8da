//! From a column of texts to what has to be asked, and from answers back to rows.
//!
//! Owns which rows have no text, which have the same text, and the columns `embedding` and `embedding_error`. Must not
//! know where vectors come from.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, FixedSizeListArray, Float32Array, StringArray, StringBuilder},
    buffer::NullBuffer,
    datatypes::{DataType, Field},
};

use super::{EmbedError, Embedded, RowTally};

/// What `embedding_error` says of a row without text.
pub const EMPTY_TEXT: &str = "empty_text";
/// What it says of a text longer than the model takes, where that is an error.
pub const TOO_LONG: &str = "too_long";
/// What it says when what came back is no usable vector.
pub const INVALID_VECTOR: &str = "invalid_vector";

/// True for a text that says nothing: empty, or white space, control and invisible characters alone.
pub fn is_blank(text: &str) -> bool {
    let invisible = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    text.chars().all(|c| c.is_whitespace() || c.is_control() || invisible(c))
}

/// The different texts of a column. Each has a *slot*, numbered in the order of first appearance.
#[derive(Debug, Clone)]
pub struct Distinct<'a> {
    /// The text of each slot.
    pub texts: Vec<&'a str>,
    /// The slot of each row; `None` where the row has no text.
    pub slots: Vec<Option<usize>>,
}

impl<'a> Distinct<'a> {
    /// Looks through a column. Texts that differ in a single byte are different.
    pub fn of(column: &'a StringArray) -> Self {
        let (mut texts, mut known) = (Vec::new(), HashMap::with_capacity(column.len()));
        let slots = column
            .iter()
            .map(|text| {
                let text = text.filter(|text| !is_blank(text))?;
                Some(*known.entry(text).or_insert_with(|| {
                    texts.push(text);
                    texts.len() - 1
                }))
            })
            .collect();
        Self { texts, slots }
    }
}

/// Collects one vector or one error for each slot, in any order.
#[derive(Debug)]
pub struct Slots {
    dimensions: usize,
    values: Vec<f32>,
    state: Vec<State>,
}

#[derive(Debug, Clone)]
enum State {
    Missing,
    Computed,
    Cached,
    Failed(String),
}

impl Slots {
    /// Room for so many vectors of so many numbers.
    pub fn new(count: usize, dimensions: usize) -> Self {
        Self { dimensions, values: vec![0.0; count * dimensions], state: vec![State::Missing; count] }
    }

    /// How many numbers a vector has.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Sets a slot's vector. One of another length, with a number that is not finite, or of zeros alone is refused and
    /// the slot fails with [`INVALID_VECTOR`]; the answer says whether it was taken.
    pub fn set(&mut self, slot: usize, vector: &[f32], cached: bool) -> bool {
        let sum: f32 = vector.iter().map(|number| number.abs()).sum();
        if vector.len() != self.dimensions || !sum.is_finite() || sum == 0.0 {
            self.fail(slot, INVALID_VECTOR);
            return false;
        }
        self.values[slot * self.dimensions..][..self.dimensions].copy_from_slice(vector);
        self.state[slot] = if cached { State::Cached } else { State::Computed };
        true
    }

    /// Gives a slot a reason why it has no vector.
    pub fn fail(&mut self, slot: usize, reason: impl Into<String>) {
        self.state[slot] = State::Failed(reason.into());
    }

    /// The slots that have neither a vector nor an error yet.
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        self.state.iter().enumerate().filter(|(_, state)| matches!(state, State::Missing)).map(|(slot, _)| slot)
    }

    /// Spreads the slots over the rows. A row whose text another row had first counts as cached: it cost nothing.
    ///
    /// # Errors
    /// When a slot was never settled, or no vector can have so many numbers.
    pub fn finish(self, rows: &[Option<usize>]) -> Result<Embedded, EmbedError> {
        if let Some(slot) = self.missing().next() {
            return Err(EmbedError::Failed(format!("the provider gave no answer for text number {slot}")));
        }
        let mut tally = RowTally::default();
        let mut seen = vec![false; self.state.len()];
        let mut errors = StringBuilder::with_capacity(rows.len(), 0);
        for row in rows {
            let Some(slot) = *row else {
                tally.empty += 1;
                errors.append_value(EMPTY_TEXT);
                continue;
            };
            match &self.state[slot] {
                State::Failed(reason) => {
                    tally.error += 1;
                    errors.append_value(reason);
                    continue;
                }
                State::Computed if !seen[slot] => tally.ok += 1,
                _ => tally.cached += 1,
            }
            seen[slot] = true;
            errors.append_null();
        }
        // Without empty rows and duplicates the slots are the rows, and nothing has to be copied.
        let in_order = rows.len() == self.state.len() && rows.iter().enumerate().all(|(row, slot)| *slot == Some(row));
        let values = if in_order {
            self.values
        } else {
            let mut values = vec![0.0; rows.len() * self.dimensions];
            for (to, slot) in values.chunks_exact_mut(self.dimensions.max(1)).zip(rows) {
                if let Some(slot) = slot {
                    to.copy_from_slice(&self.values[slot * self.dimensions..][..self.dimensions]);
                }
            }
            values
        };
        columns(values, self.dimensions, errors.finish(), tally)
    }
}

/// The answer for rows whose vectors lie one after another in `values`; a row with an error has no vector.
pub(super) fn columns(
    values: Vec<f32>,
    dimensions: usize,
    errors: StringArray,
    tally: RowTally,
) -> Result<Embedded, EmbedError> {
    let size = i32::try_from(dimensions).map_err(|_| EmbedError::Refused(format!("{dimensions} dimensions")))?;
    let valid: NullBuffer = errors.iter().map(|error| error.is_none()).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let nulls = (valid.null_count() > 0).then_some(valid);
    FixedSizeListArray::try_new(item, size, Arc::new(Float32Array::from(values)), nulls)
        .map(|vectors| Embedded { vectors, errors, tally })
        .map_err(|error| EmbedError::Failed(crate::model::excerpt(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Float32Type;

    use super::*;

    fn row(embedded: &Embedded, row: usize) -> Option<Vec<f32>> {
        let vectors = &embedded.vectors;
        vectors.is_valid(row).then(|| vectors.value(row).as_primitive::<Float32Type>().values().to_vec())
    }

    #[test]
    fn equal_texts_share_a_slot_and_blank_ones_have_none() {
        let column =
            StringArray::from(vec![Some("a"), None, Some(""), Some(" \t\u{feff}"), Some("b"), Some("a"), Some("a ")]);
        let distinct = Distinct::of(&column);
        assert_eq!(distinct.texts, ["a", "b", "a "]);
        assert_eq!(distinct.slots, [Some(0), None, None, None, Some(1), Some(0), Some(2)]);
        assert!(is_blank("\0\u{200b}") && !is_blank("0"));
    }

    #[test]
    fn slots_are_spread_over_rows_and_counted() {
        let mut slots = Slots::new(3, 2);
        assert!(slots.set(2, &[0.0, 1.0], true));
        assert!(slots.set(0, &[1.0, 0.0], false));
        assert_eq!(slots.missing().collect::<Vec<_>>(), [1]);
        slots.fail(1, TOO_LONG);
        let embedded = slots.finish(&[Some(0), None, Some(1), Some(0), Some(2)]).expect("all settled");
        assert_eq!(embedded.tally, RowTally { ok: 1, cached: 2, empty: 1, error: 1 });
        let errors: Vec<_> = embedded.errors.iter().collect();
        assert_eq!(errors, [None, Some(EMPTY_TEXT), Some(TOO_LONG), None, None]);
        let vectors: Vec<_> = (0..5).map(|i| row(&embedded, i)).collect();
        let (x, y) = (Some(vec![1.0, 0.0]), Some(vec![0.0, 1.0]));
        assert_eq!(vectors, [x.clone(), None, None, x, y]);
    }

    #[test]
    fn bad_vectors_cost_their_row_alone() {
        for bad in [&[f32::NAN, 1.0][..], &[f32::INFINITY, 0.0], &[0.0, 0.0], &[1.0], &[1.0, 2.0, 3.0]] {
            let mut slots = Slots::new(2, 2);
            assert!(!slots.set(0, bad, false));
            assert!(slots.set(1, &[3.0, 4.0], false));
            let embedded = slots.finish(&[Some(0), Some(1)]).expect("all settled");
            assert_eq!((row(&embedded, 0), row(&embedded, 1)), (None, Some(vec![3.0, 4.0])));
            assert_eq!(embedded.errors.value(0), INVALID_VECTOR);
        }
    }

    #[test]
    fn an_unsettled_slot_is_an_error_and_no_rows_are_no_error() {
        assert!(matches!(Slots::new(1, 2).finish(&[Some(0)]), Err(EmbedError::Failed(_))));
        let embedded = Slots::new(0, 7).finish(&[]).expect("nothing to settle");
        assert_eq!((embedded.vectors.len(), embedded.vectors.value_length()), (0, 7));
    }
}
