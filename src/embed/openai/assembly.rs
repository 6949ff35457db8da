//! Assembles the columns of one call from vectors in any order.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{FixedSizeListArray, Float32Array, StringArray, StringBuilder},
    buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer},
    datatypes::Field,
};

use super::{
    dtype::Dtype,
    plan::{EmbedPlan, Long},
    wire::Vectors,
};
use crate::{
    embed::{EMPTY_TEXT, Embedded, INVALID_VECTOR},
    model::{RowTally, ServiceError},
    net::client::AnswerSource,
};

/// The rows of one call, filled in any order.
#[derive(Debug)]
pub(super) struct Assembly {
    plan: Arc<EmbedPlan>,
    dimensions: Option<usize>,
    values: Values,
    filled: Vec<bool>,
    errors: HashMap<u32, Arc<str>>,
    means: HashMap<u32, Mean>,
    tally: RowTally,
}

/// The numbers of all rows.
#[derive(Debug)]
enum Values {
    /// No row has a vector yet.
    None,
    /// Copied, row by row.
    Copied(Vec<f32>),
    /// The buffer of one response that has all rows in order: nothing is copied.
    Adopted(Buffer),
}

/// The mean of the pieces of one long text so far.
#[derive(Debug)]
struct Mean {
    sum: Vec<f64>,
    missing: usize,
    from: AnswerSource,
}

impl Values {
    /// All numbers as a mutable copy of `length` numbers.
    fn copied(&mut self, length: usize) -> &mut [f32] {
        match self {
            Self::Copied(values) => values,
            Self::None => {
                *self = Self::Copied(vec![0.0; length]);
                self.copied(length)
            }
            Self::Adopted(buffer) => {
                *self = Self::Copied(buffer.typed_data().to_vec());
                self.copied(length)
            }
        }
    }
}

impl Assembly {
    pub(super) fn new(plan: Arc<EmbedPlan>, dimensions: Option<usize>) -> Self {
        let mut assembly = Self {
            dimensions,
            values: Values::None,
            filled: vec![false; plan.len()],
            errors: HashMap::new(),
            means: HashMap::new(),
            tally: RowTally::default(),
            plan: Arc::clone(&plan),
        };
        for (text, why) in plan.refused() {
            assembly.fail_text(text, &why.into());
        }
        assembly.tally.empty = (0..plan.len()).filter(|row| plan.is_empty_row(*row)).count() as u64;
        assembly
    }

    /// The length of the vectors, once it is known.
    pub(super) fn dimensions(&self) -> Option<usize> {
        self.dimensions
    }

    /// Sets the length of the vectors, if no vector has.
    pub(super) fn expect_dimensions(&mut self, dimensions: usize) {
        self.dimensions.get_or_insert(dimensions);
    }

    /// Adopts the buffer of a response without a copy, if the response has a vector for each row, in order, and no row has
    /// one yet. False if vectors have to be filled in one by one.
    pub(super) fn adopt(&mut self, vectors: &Vectors, from: AnswerSource) -> bool {
        let rows = self.plan.len();
        // With as many texts as rows there is no duplicate and no empty one, and text `n` is that of row `n`.
        let row_by_row = self.plan.texts() == rows && self.plan.units() == rows && !self.plan.has_long();
        let Some(column) = vectors.column().filter(|_| row_by_row && matches!(self.values, Values::None)) else {
            return false;
        };
        let fits = column.len() == rows * vectors.dimensions() * 4 && self.errors.is_empty();
        if !fits || self.dimensions.is_some_and(|dimensions| dimensions != vectors.dimensions()) {
            return false;
        }
        self.dimensions = Some(vectors.dimensions());
        self.values = Values::Adopted(column.clone());
        self.filled.fill(true);
        match from {
            AnswerSource::Request => self.tally.ok += rows as u64,
            AnswerSource::Elsewhere => self.tally.cached += rows as u64,
        }
        true
    }

    /// Fills in the vector of a unit. `weight` is its weight in the mean of a text that was sent in pieces.
    pub(super) fn fill(&mut self, unit: u32, vector: &[f32], from: AnswerSource, weight: impl FnOnce(&str) -> u64) {
        self.expect_dimensions(vector.len());
        if self.dimensions != Some(vector.len()) {
            let why = format!("{INVALID_VECTOR}: {} dimensions", vector.len());
            return self.fail(unit, &why.into());
        }
        let text = self.plan.text_of(unit);
        let Some(Long::Pieces(pieces)) = self.plan.long(text) else { return self.fill_text(text, vector, from) };
        let (missing, weight) = (*pieces, weight(self.plan.unit(unit)) as f64);
        let mean = self.means.entry(text).or_insert_with(|| Mean {
            sum: vec![0.0; vector.len()],
            missing,
            from: AnswerSource::Elsewhere,
        });
        for (sum, value) in mean.sum.iter_mut().zip(vector) {
            *sum += f64::from(*value) * weight;
        }
        mean.missing -= 1;
        if from == AnswerSource::Request {
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

    /// Records why a unit has no vector.
    pub(super) fn fail(&mut self, unit: u32, why: &Arc<str>) {
        self.fail_text(self.plan.text_of(unit), why);
    }

    fn fill_text(&mut self, text: u32, vector: &[f32], from: AnswerSource) {
        let plan = Arc::clone(&self.plan);
        let rows = plan.rows_of(text);
        let values = self.values.copied(plan.len() * vector.len());
        for row in rows {
            values[*row as usize * vector.len()..][..vector.len()].copy_from_slice(vector);
            self.filled[*row as usize] = true;
        }
        let paid = u64::from(from == AnswerSource::Request);
        self.tally.ok += paid;
        self.tally.cached += rows.len() as u64 - paid;
    }

    fn fail_text(&mut self, text: u32, why: &Arc<str>) {
        let plan = Arc::clone(&self.plan);
        for row in plan.rows_of(text) {
            // Of a text in pieces, the first reason is kept.
            if self.errors.try_insert_reason(*row, why) {
                self.tally.error += 1;
            }
        }
    }

    /// The columns.
    pub(super) fn finish(self, dtype: Dtype) -> Result<Embedded, ServiceError> {
        let dimensions = self.dimensions.unwrap_or(0);
        let mut errors = StringBuilder::with_capacity(self.plan.len(), 0);
        for row in 0..self.plan.len() {
            if self.filled[row] {
                errors.append_null();
            } else if self.plan.is_empty_row(row) {
                errors.append_value(EMPTY_TEXT);
            } else {
                // Every row is filled, failed or empty; a gap would be a bug, and must not become a vector.
                errors.append_value(self.errors.get(&(row as u32)).map_or("lost: no response was recorded", |why| why));
            }
        }
        let length = i32::try_from(dimensions)
            .map_err(|_| ServiceError::Failed(format!("vectors with {dimensions} dimensions do not fit a column")))?;
        let item = Arc::new(Field::new_list_field(dtype.data_type(), true));
        let values = match self.values {
            Values::None => ScalarBuffer::from(vec![0.0; self.plan.len() * dimensions]),
            Values::Copied(values) => ScalarBuffer::from(values),
            Values::Adopted(buffer) => ScalarBuffer::from(buffer),
        };
        let values = dtype.array(Float32Array::new(values, None));
        let valid = NullBuffer::new(BooleanBuffer::from(self.filled));
        let vectors = FixedSizeListArray::try_new_with_length(item, length, values, Some(valid), self.plan.len())
            .map_err(|error| ServiceError::Failed(format!("the vectors do not fit a column: {error}")))?;
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
