//! What computes the table of a node.

/// What computes tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// This process.
    #[default]
    Local,
    /// A Spark that exists.
    Spark,
}
