//! Why a provider or a service could not do its work, and what that means for the rest of the run.

/// Why a provider or a service could not do its work. Messages never contain a key.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It refuses the work, or its settings are wrong: key, model, dimensions. Stops the run; exit 3.
    #[error("{0}")]
    Refused(String),
    /// The work cannot go on now, but can later: quota, outage, spending cap. Stops the run; exit 75.
    #[error("{0}")]
    Stopped(String),
    /// The run is to end, and what this work waits for does not come soon. It is not done, and has not failed.
    #[error("{0}")]
    Interrupted(String),
    /// This partition failed; others go on. Exit 1.
    #[error("{0}")]
    Failed(String),
    /// A panic. Others go on; exit 70.
    #[error("a bug in flow: {0}")]
    Bug(String),
}

impl From<tokio::task::JoinError> for ServiceError {
    /// Of a task on another thread, which has panicked or was not run because the process ends.
    fn from(error: tokio::task::JoinError) -> Self {
        if error.is_panic() { Self::Bug(error.to_string()) } else { Self::Interrupted(error.to_string()) }
    }
}
