//! The result for one partition: vectors, row errors and the counts of both.

use arrow::array::{FixedSizeListArray, StringArray};

use crate::model::RowTally;

/// The vectors of one partition.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// One vector per text, `FixedSizeList<Float32>`; null where `errors` has a reason.
    pub vectors: FixedSizeListArray,
    /// Why a row has no vector; null where it has one.
    pub errors: StringArray,
    /// The outcomes of the rows.
    pub tally: RowTally,
}
