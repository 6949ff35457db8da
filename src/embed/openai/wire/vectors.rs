//! The vectors of one response, and which rows of it have none that is usable.

use arrow::buffer::Buffer;

/// The vectors of one answer.
#[derive(Debug)]
pub struct Vectors {
    pub(super) values: Buffer,
    pub(super) dimensions: usize,
    /// Where the vector of each row stands; `None` when they came in order.
    pub(super) places: Option<Vec<u32>>,
    /// Rows whose vector is no vector, sorted.
    pub(super) faults: Vec<(u32, Fault)>,
    /// What the server says it counted.
    pub tokens: Option<u64>,
}

/// Why one vector is no vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not a number, or infinite.
    #[error("invalid_vector: a number is not finite")]
    NotFinite,
    /// All zero: such a vector has no direction.
    #[error("invalid_vector: all numbers are zero")]
    Zero,
    /// Nothing where the vector should be.
    #[error("invalid_vector: there is none")]
    Missing,
    /// Another length than the rest.
    #[error("invalid_vector: {0} numbers")]
    Length(usize),
    /// Base64 that is none.
    #[error("invalid_vector: broken base64")]
    Base64,
}

impl Vectors {
    /// Numbers in each vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The vector of a row, or why there is none.
    ///
    /// # Errors
    /// With the fault of the row.
    pub fn row(&self, row: usize) -> Result<&[f32], Fault> {
        if let Ok(found) = self.faults.binary_search_by_key(&row, |(row, _)| *row as usize) {
            return Err(self.faults[found].1);
        }
        let place = self.places.as_ref().map_or(row, |places| places[row] as usize);
        Ok(&self.values.typed_data::<f32>()[place * self.dimensions..][..self.dimensions])
    }

    /// Bytes of all the numbers.
    pub fn bytes(&self) -> usize {
        self.values.len()
    }

    /// All vectors one after another, when every row has one and they came in order: a column as it stands.
    pub fn column(&self) -> Option<&Buffer> {
        (self.is_sound() && self.places.is_none()).then_some(&self.values)
    }

    /// True when no row has a fault.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// The rows whose vector is no vector, in order.
    pub fn faulty_rows(&self) -> impl ExactSizeIterator<Item = usize> {
        self.faults.iter().map(|(row, _)| *row as usize)
    }

    /// The length that most vectors have, where it is not the length that was expected of them.
    pub(super) fn usual_length(&self, rows: usize) -> Option<usize> {
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
