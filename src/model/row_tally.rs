//! The outcomes of rows, counted.

/// Rows by outcome. `ok` counts rows computed now; `cached` those that cost nothing because the result was known (from the
/// cache, or a duplicate).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RowTally {
    /// Computed now.
    pub ok: u64,
    /// From the cache, or equal to another row.
    pub cached: u64,
    /// With nothing to send: null, empty or blank.
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
