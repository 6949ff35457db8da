//! Why a function in Python could not be called, or failed.

use datafusion::error::DataFusionError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// There is no interpreter, or it does not start.
    #[error("{0}")]
    Unavailable(String),
    /// The process ended in the middle of its work.
    #[error("{0}")]
    Died(String),
    /// The function raised an exception or gave something wrong, or it cannot be imported.
    #[error("{0}")]
    Raised(String),
    /// The rows that it was to get could not be read.
    #[error(transparent)]
    Input(DataFusionError),
}

impl PythonError {
    /// The same error for another waiter. Only errors without a source have one.
    pub(super) fn copied(&self) -> Self {
        match self {
            Self::Unavailable(text) => Self::Unavailable(text.clone()),
            Self::Died(text) => Self::Died(text.clone()),
            Self::Raised(text) => Self::Raised(text.clone()),
            Self::Input(error) => Self::Raised(error.to_string()),
        }
    }
}
