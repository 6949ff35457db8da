//! Why a function failed, and what that means for the rest of the run.

use crate::{data::DataError, model::ServiceError};

/// Why a function failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionError {
    /// The environment or a service refuses the work; nothing more will succeed. Stops the run; exit 3.
    #[error("{0}")]
    Refused(String),
    /// The work cannot go on now, but can later: quota, outage, spending cap. Stops the run; exit 75.
    #[error("{0}")]
    Stopped(String),
    /// The run is to end, and what this work waits for does not come soon. It is not done, and has not failed.
    #[error("{0}")]
    Interrupted(String),
    /// This work failed; other work goes on. Exit 1.
    #[error("{0}")]
    Failed(String),
    /// A panic. Other work goes on; exit 70.
    #[error("a bug in flow: {0}")]
    Bug(String),
    /// The process that did this work died. The work may be tried once more, in another one.
    #[error("{0}")]
    Crashed(String),
    /// Reading or writing rows failed; the data's error says whether that is transient.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl From<ServiceError> for FunctionError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused(text) => Self::Refused(text),
            ServiceError::Stopped(text) => Self::Stopped(text),
            ServiceError::Interrupted(text) => Self::Interrupted(text),
            ServiceError::Failed(text) => Self::Failed(text),
            ServiceError::Bug(text) => Self::Bug(text),
        }
    }
}

impl From<datafusion::error::DataFusionError> for FunctionError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        Self::Data(DataError::Rows(error))
    }
}
