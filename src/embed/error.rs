//! Why a partition could not be embedded, and what that means for the rest of the run.

/// Why a partition could not be embedded. Messages never hold a key.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The provider refuses us or is set up wrongly: bad key, unknown model, bad dimensions. Stops the run; exit 3.
    #[error("{0}")]
    Refused(String),
    /// Going on now is pointless, later it is not: quota used up, outage, spending cap. Stops the run; exit 75.
    #[error("{0}")]
    Stopped(String),
    /// This partition failed; others may go on. Exit 1.
    #[error("{0}")]
    Failed(String),
}
