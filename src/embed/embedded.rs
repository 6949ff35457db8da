//! The result for one partition: vectors, row errors and the counts of both.

use arrow::array::{FixedSizeListArray, StringArray};

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

/// Rows by outcome. `ok` counts rows embedded now; `cached` those that cost nothing because the text was known (from the
/// cache, or a duplicate).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RowTally {
    /// Embedded by the provider now.
    pub ok: u64,
    /// From the cache, or equal to another text.
    pub cached: u64,
    /// Without text: null, empty or blank.
    pub empty: u64,
    /// With an error of their own.
    pub error: u64,
}

impl RowTally {
    /// Adds the rows of another one.
    pub fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.cached += other.cached;
        self.empty += other.empty;
        self.error += other.error;
    }
}
