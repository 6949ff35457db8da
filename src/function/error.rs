//! Why a function could not do its work, and what that means for the rest of the run.

use crate::{data::DataError, embed::EmbedError};

/// Why a function could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionError {
    /// The environment or a service refuses us; nothing will work. Exit 3.
    #[error("{0}")]
    Refused(String),
    /// Pointless now, not later: quota, outage, spending cap. Exit 75.
    #[error("{0}")]
    Stopped(String),
    /// This work failed; other work may go on. Exit 1.
    #[error("{0}")]
    Failed(String),
    /// The rows could not be had; the data's error says whether they may be later.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl From<EmbedError> for FunctionError {
    fn from(error: EmbedError) -> Self {
        match error {
            EmbedError::Refused(text) => Self::Refused(text),
            EmbedError::Stopped(text) => Self::Stopped(text),
            EmbedError::Failed(text) => Self::Failed(text),
        }
    }
}

impl From<datafusion::error::DataFusionError> for FunctionError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        Self::Data(DataError::Rows(error))
    }
}
