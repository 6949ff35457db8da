//! From vectors, as they arrive, to the columns of one call.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{FixedSizeListArray, Float32Array, StringArray, StringBuilder},
    buffer::{BooleanBuffer, NullBuffer, ScalarBuffer},
    datatypes::{DataType, Field},
};

use super::plan::{Long, Plan};
use crate::embed::{EMPTY_TEXT, EmbedError, Embedded, INVALID_VECTOR, RowTally};

/// Where a vector came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// A request of this call.
    Request,
    /// The cache, or a request of another call.
    Elsewhere,
}

/// The rows of one call, filled in any order.
#[derive(Debug)]
pub(super) struct Assembly {
    plan: Arc<Plan>,
    dimensions: Option<usize>,
    values: Vec<f32>,
    filled: Vec<bool>,
    errors: HashMap<u32, Arc<str>>,
    means: HashMap<u32, Mean>,
    tally: RowTally,
}

/// The pieces of one long text so far.
#[derive(Debug)]
struct Mean {
    sum: Vec<f64>,
    missing: usize,
    from: From,
}

impl Assembly {
    pub(super) fn new(plan: Arc<Plan>, dimensions: Option<usize>) -> Self {
        let mut assembly = Self {
            dimensions: None,
            values: Vec::new(),
            filled: vec![false; plan.len()],
            errors: HashMap::new(),
            means: HashMap::new(),
            tally: RowTally::default(),
            plan: Arc::clone(&plan),
        };
        if let Some(dimensions) = dimensions {
            assembly.set_dimensions(dimensions);
        }
        for (text, why) in plan.refused() {
            assembly.fail_text(text, &why.into());
        }
        assembly.tally.empty = (0..plan.len()).filter(|row| plan.is_empty_row(*row)).count() as u64;
        assembly
    }

    fn set_dimensions(&mut self, dimensions: usize) {
        self.dimensions = Some(dimensions);
        self.values = vec![0.0; dimensions * self.plan.len()];
    }

    /// How long the vectors are, once that is known.
    pub(super) fn dimensions(&self) -> Option<usize> {
        self.dimensions
    }

    /// Sets the length of the vectors where no vector did.
    pub(super) fn expect_dimensions(&mut self, dimensions: usize) {
        if self.dimensions.is_none() {
            self.set_dimensions(dimensions);
        }
    }

    /// The vector of a unit. `weight` says how much it counts in the mean of a text that was sent in pieces.
    pub(super) fn fill(&mut self, unit: u32, vector: &[f32], from: From, weight: impl FnOnce(&str) -> u64) {
        self.expect_dimensions(vector.len());
        if self.dimensions != Some(vector.len()) {
            let why = format!("{INVALID_VECTOR}: {} numbers", vector.len());
            return self.fail(unit, &why.into());
        }
        let text = self.plan.text_of(unit);
        let Some(Long::Pieces(pieces)) = self.plan.long(text) else { return self.fill_text(text, vector, from) };
        let (missing, weight) = (*pieces, weight(self.plan.unit(unit)) as f64);
        let mean = self.means.entry(text).or_insert_with(|| Mean {
            sum: vec![0.0; vector.len()],
            missing,
            from: From::Elsewhere,
        });
        for (sum, value) in mean.sum.iter_mut().zip(vector) {
            *sum += f64::from(*value) * weight;
        }
        mean.missing -= 1;
        if from == From::Request {
            mean.from = from;
        }
        if mean.missing == 0
            && let Some(mean) = self.means.remove(&text)
        {
            let length = mean.sum.iter().map(|value| value * value).sum::<f64>().sqrt();
            if length > 0.0 {
                let unit_length: Vec<f32> = mean.sum.iter().map(|value| (value / length) as f32).collect();
                self.fill_text(text, &unit_length, mean.from);
            } else {
                self.fail_text(text, &format!("{INVALID_VECTOR}: the pieces cancel each other out").into());
            }
        }
    }

    /// A unit has no vector, and this is why.
    pub(super) fn fail(&mut self, unit: u32, why: &Arc<str>) {
        self.fail_text(self.plan.text_of(unit), why);
    }

    fn fill_text(&mut self, text: u32, vector: &[f32], from: From) {
        let plan = Arc::clone(&self.plan);
        let rows = plan.rows_of(text);
        for row in rows {
            self.values[*row as usize * vector.len()..][..vector.len()].copy_from_slice(vector);
            self.filled[*row as usize] = true;
        }
        let paid = u64::from(from == From::Request);
        self.tally.ok += paid;
        self.tally.cached += rows.len() as u64 - paid;
    }

    fn fail_text(&mut self, text: u32, why: &Arc<str>) {
        let plan = Arc::clone(&self.plan);
        for row in plan.rows_of(text) {
            // Of a text in pieces, the first reason stays.
            if self.errors.try_insert_reason(*row, why) {
                self.tally.error += 1;
            }
        }
    }

    /// The columns.
    pub(super) fn finish(self) -> Result<Embedded, EmbedError> {
        let dimensions = self.dimensions.unwrap_or(0);
        let mut errors = StringBuilder::with_capacity(self.plan.len(), 0);
        for row in 0..self.plan.len() {
            if self.filled[row] {
                errors.append_null();
            } else if self.plan.is_empty_row(row) {
                errors.append_value(EMPTY_TEXT);
            } else {
                // Every row is filled, failed or empty; a gap would be ours, and must not pass for a vector.
                errors.append_value(self.errors.get(&(row as u32)).map_or("lost: no answer was kept", |why| why));
            }
        }
        let length = i32::try_from(dimensions)
            .map_err(|_| EmbedError::Failed(format!("vectors of {dimensions} numbers do not fit a column")))?;
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        let values = Arc::new(Float32Array::new(ScalarBuffer::from(self.values), None));
        let valid = NullBuffer::new(BooleanBuffer::from(self.filled));
        let vectors = FixedSizeListArray::try_new_with_length(item, length, values, Some(valid), self.plan.len())
            .map_err(|error| EmbedError::Failed(format!("the vectors do not fit a column: {error}")))?;
        let errors: StringArray = errors.finish();
        Ok(Embedded { vectors, errors, tally: self.tally })
    }
}

trait FirstReason {
    fn try_insert_reason(&mut self, row: u32, why: &Arc<str>) -> bool;
}

impl FirstReason for HashMap<u32, Arc<str>> {
    fn try_insert_reason(&mut self, row: u32, why: &Arc<str>) -> bool {
        match self.entry(row) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Arc::clone(why));
                true
            }
            std::collections::hash_map::Entry::Occupied(_) => false,
        }
    }
}
