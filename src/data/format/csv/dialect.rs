//! The characters that give a CSV file its structure.

/// The format's name.
pub(super) const NAME: &str = "csv";

/// The characters of a file, and whether its first line names the columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    /// Between two values.
    pub(super) delimiter: u8,
    /// Around a value; `None` where a quote is a character like any other.
    pub(super) quote: Option<u8>,
    /// In front of a quote inside a value; `None` for a quote that is doubled.
    pub(super) escape: Option<u8>,
    /// Whether the first line names the columns.
    pub(super) header: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { delimiter: b',', quote: Some(b'"'), escape: None, header: true }
    }
}
