//! How rows came out that were computed one by one.

/// How the rows of a computed partition came out, as far as they have no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowOutcomes {
    /// Rows with an error of their own.
    pub errors: u64,
    /// Rows with nothing to compute.
    pub empty: u64,
}

/// How the rows of a table came out that were computed one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ComputedRows {
    /// How many there are.
    pub rows: u64,
    /// How many of them have no result.
    pub outcomes: RowOutcomes,
}
