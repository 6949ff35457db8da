//! The vectors of one response, and its rows without a usable one.

use arrow::buffer::Buffer;

/// The vectors of one response.
#[derive(Debug)]
pub struct Vectors {
    pub(super) values: Buffer,
    pub(super) dimensions: usize,
    /// The position of each row's vector; `None` if they are in order.
    pub(super) positions: Option<Vec<u32>>,
    /// The rows with an invalid vector, sorted.
    pub(super) faults: Vec<(u32, Fault)>,
    /// The tokens that the server counted.
    pub tokens: Option<u64>,
}

/// Why a vector is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A number is not finite.
    #[error("invalid_vector: a number is not finite")]
    NotFinite,
    /// All numbers are zero: the vector has no direction.
    #[error("invalid_vector: all numbers are zero")]
    Zero,
    /// There is no vector.
    #[error("invalid_vector: missing")]
    Missing,
    /// It has another length than the others.
    #[error("invalid_vector: {0} dimensions")]
    Length(usize),
    /// Not base64.
    #[error("invalid_vector: invalid base64")]
    Base64,
    /// A number is of another type than `dtype` says.
    #[error("invalid_vector: a number is not of the type that `dtype` names")]
    Dtype,
}

impl Vectors {
    /// The dimensions of the vectors.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The vector of a row.
    ///
    /// # Errors
    /// With the fault of the row.
    pub fn row(&self, row: usize) -> Result<&[f32], Fault> {
        if let Ok(found) = self.faults.binary_search_by_key(&row, |(row, _)| *row as usize) {
            return Err(self.faults[found].1);
        }
        let position = self.positions.as_ref().map_or(row, |positions| positions[row] as usize);
        Ok(&self.values.typed_data::<f32>()[position * self.dimensions..][..self.dimensions])
    }

    /// Gives every valid vector the length 1. Takes a copy.
    pub fn normalize(&mut self) {
        let mut values = self.values.typed_data::<f32>().to_vec();
        for vector in values.chunks_exact_mut(self.dimensions.max(1)) {
            let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            if length > 0.0 && length.is_finite() {
                vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
            }
        }
        self.values = Buffer::from_vec(values);
    }

    /// Makes a fault of each vector with a number that `holds` does not accept.
    pub fn check_numbers(&mut self, rows: usize, holds: impl Fn(f32) -> bool) {
        let wrong = |row: &usize| self.row(*row).is_ok_and(|vector| !vector.iter().all(|number| holds(*number)));
        let wrong: Vec<u32> = (0..rows).filter(wrong).filter_map(|row| u32::try_from(row).ok()).collect();
        self.faults.extend(wrong.into_iter().map(|row| (row, Fault::Dtype)));
        self.faults.sort_unstable_by_key(|(row, _)| *row);
    }

    /// Bytes of all the numbers.
    pub fn bytes(&self) -> usize {
        self.values.len()
    }

    /// The contiguous vectors, if every row has one and they are in order.
    pub fn column(&self) -> Option<&Buffer> {
        (self.is_sound() && self.positions.is_none()).then_some(&self.values)
    }

    /// True when every vector is valid.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// True when none of `rows` rows has a vector, not even an invalid one.
    pub fn is_empty(&self, rows: usize) -> bool {
        self.faults.len() == rows && self.faults.iter().all(|(_, fault)| *fault == Fault::Missing)
    }

    /// The rows with an invalid vector, in order.
    pub fn faulty_rows(&self) -> impl ExactSizeIterator<Item = usize> {
        self.faults.iter().map(|(row, _)| *row as usize)
    }

    /// The length of the majority of the vectors, if it is not the expected one.
    pub(super) fn majority_length(&self, rows: usize) -> Option<usize> {
        let mut lengths: Vec<usize> = self
            .faults
            .iter()
            .filter_map(|(_, fault)| match fault {
                Fault::Length(length) => Some(*length),
                _ => None,
            })
            .collect();
        lengths.sort_unstable();
        let sound = rows - self.faults.len();
        let most = lengths.chunk_by(usize::eq).max_by_key(|same| same.len())?;
        (most.len() > sound).then_some(most[0])
    }
}
