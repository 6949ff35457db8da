//! Why a cache folder could not be used.

use std::{io, path::PathBuf};

use super::segment::MAX_DIMENSIONS;
use crate::model::ServiceError;

/// Why the cache could not be used. A damaged file is no error: what it lost counts as never stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The folder or a file in it cannot be read or written.
    #[error("the embedding cache at {} cannot be {what}: {source}", path.display())]
    Io {
        /// The cache's folder.
        path: PathBuf,
        /// `read` or `written`.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// An empty vector, or one with more dimensions than a record can have.
    #[error("a vector with {0} dimensions cannot be stored in the embedding cache (expected 1 to {MAX_DIMENSIONS})")]
    Length(usize),
}

impl From<CacheError> for ServiceError {
    /// Without the cache, a crash would lose what was paid for: the run stops, and can be resumed.
    fn from(error: CacheError) -> Self {
        Self::Stopped(error.to_string())
    }
}
