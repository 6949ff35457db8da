//! Why a cache folder could not be used.

use std::{io, path::PathBuf};

use crate::model::ServiceError;

/// Why the cache could not be used. A damaged file is no error: what it lost counts as never stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The folder or a file in it cannot be read or written.
    #[error("the cache at {} cannot be {what}: {source}", path.display())]
    Io {
        /// The cache's folder.
        path: PathBuf,
        /// `read` or `written`.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// A value that is empty or longer than a record can be.
    #[error("{0}")]
    Length(String),
}

impl From<CacheError> for ServiceError {
    /// Without the cache, a crash would lose what was paid for: the run stops, and can be resumed.
    fn from(error: CacheError) -> Self {
        Self::Stopped(error.to_string())
    }
}
