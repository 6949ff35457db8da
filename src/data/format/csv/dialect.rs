//! The characters that give a CSV file its structure.

/// The format's name.
pub(super) const NAME: &str = "csv";

/// The characters of a file, and whether its first line names the columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Dialect {
    /// Between two values.
    pub(super) delimiter: u8,
    /// Around a value; `None` where a quote is a character like any other.
    pub(super) quote: Option<u8>,
    /// In front of a character that is meant as it is.
    pub(super) escape: Option<Escape>,
    /// Whether two quotes inside of quotes stand for one.
    pub(super) double_quote: bool,
    /// At the end of a record; `None` for any end of a line.
    pub(super) terminator: Option<u8>,
    /// Whether the first line names the columns.
    pub(super) header: bool,
}

/// A character in front of one that is meant as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// pandas: in front of any character, in quotes or not.
    Anywhere(u8),
    /// Spark: inside of quotes, in front of a quote and of itself; elsewhere a character like any other.
    InQuotes(u8),
}

/// The character in front of a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comment {
    /// pandas: a comment goes from it to the end of the line.
    Anywhere(u8),
    /// Spark and Polars: lines that begin with it are comments.
    Line(u8),
}

impl Dialect {
    /// True for what the reader of records cannot be told.
    pub(super) fn is_unusual(&self) -> bool {
        self.escape.is_some() || !self.double_quote || self.terminator.is_some()
    }
}

impl Default for Dialect {
    fn default() -> Self {
        Self { delimiter: b',', quote: Some(b'"'), escape: None, double_quote: true, terminator: None, header: true }
    }
}

impl Escape {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Anywhere(byte) | Self::InQuotes(byte) => byte,
        }
    }

    pub(super) fn is_anywhere(self) -> bool {
        matches!(self, Self::Anywhere(_))
    }
}

impl Comment {
    /// The character with which a line that is a comment begins.
    pub(super) fn of_line(self) -> Option<u8> {
        match self {
            Self::Anywhere(byte) | Self::Line(byte) => Some(byte),
        }
    }

    /// The character with which a comment begins behind a value.
    pub(super) fn anywhere(self) -> Option<u8> {
        match self {
            Self::Anywhere(byte) => Some(byte),
            Self::Line(_) => None,
        }
    }
}
