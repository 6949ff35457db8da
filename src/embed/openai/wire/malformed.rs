//! Why a response with status 200 is not usable.

use super::error_body::ErrorBody;

/// Why an answer with status 200 is no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or not the JSON that was asked for.
    #[error("the answer is no embedding response: {0}")]
    Unreadable(String),
    /// An error in a 200.
    #[error("an error in a 200: {}", .0.message)]
    Error(ErrorBody),
    /// Not one vector a text.
    #[error("{expected} texts were sent, {got} vectors came back")]
    Count {
        /// Texts sent.
        expected: usize,
        /// Vectors received.
        got: usize,
    },
    /// The indices are no numbering of the texts.
    #[error("the vectors are not numbered 0 to {last}: {what}")]
    Indices {
        /// The last index there should be.
        last: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// All vectors have another length than was asked for.
    #[error("vectors of {expected} numbers were asked for, the server sends {got}")]
    Dimensions {
        /// As asked for or as before.
        expected: usize,
        /// As received.
        got: usize,
    },
}
