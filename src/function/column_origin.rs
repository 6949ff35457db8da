//! The columns of tables that may not exist yet, and where they come from.

use arrow::datatypes::SchemaRef;

/// Where a column of a result comes from, or its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnOrigin {
    /// The column of the result; `None` for what decides which rows there are, and their order.
    pub column: Option<String>,
    /// Columns of the inputs, each with its port.
    pub from: Vec<(String, String)>,
    /// What becomes of them.
    pub kind: OriginKind,
}

/// What becomes of the columns from which a column is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OriginKind {
    /// The values are the same.
    Same,
    /// Values are computed from values of the same row.
    Computed,
    /// Values are computed from values of several rows.
    Aggregated,
    /// Rows are left out by them.
    Filtered,
    /// Rows are put together by them.
    Joined,
    /// Rows are gathered by them.
    Grouped,
    /// Values, or rows, follow from their order.
    Ordered,
}

impl ColumnOrigin {
    /// An origin in columns of one port.
    pub fn new<'c>(
        column: impl Into<String>,
        port: &str,
        from: impl IntoIterator<Item = &'c str>,
        kind: OriginKind,
    ) -> Self {
        let from = from.into_iter().map(|name| (port.to_owned(), name.to_owned())).collect();
        Self { column: Some(column.into()), from, kind }
    }
}

/// The columns of a table that may not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The columns.
    pub schema: SchemaRef,
    /// False where only the names are known for sure, and not the types.
    pub exact: bool,
}
