//! Why a response with status 200 is not usable.

use crate::net::client::ErrorBody;

/// Why a response with status 200 is not usable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or not an embedding response.
    #[error("not an embedding response: {0}")]
    Unreadable(String),
    /// An error with status 200.
    #[error("an error with status 200: {}", .0.short_message())]
    Error(ErrorBody),
    /// Not one vector per text.
    #[error("expected {expected} vectors, found {got}")]
    Count {
        /// Texts sent.
        expected: usize,
        /// Vectors received.
        got: usize,
    },
    /// The indices do not number the texts.
    #[error("expected indices from 0 to {last}: {what}")]
    Indices {
        /// The expected last index.
        last: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Every vector has the index 0.
    #[error("expected indices from 0 to {}: all of them are 0", rows - 1)]
    OneIndex {
        /// Texts sent.
        rows: usize,
    },
    /// All vectors have another length than expected.
    #[error("expected vectors with {expected} dimensions, found {got}")]
    Dimensions {
        /// Requested, or of earlier responses.
        expected: usize,
        /// Received.
        got: usize,
    },
}
