//! Why a cache folder could not be used.

use std::{io, path::PathBuf};

use super::segment::MAX_DIMENSIONS;
use crate::embed::EmbedError;

/// Why the cache could not be used. A damaged file is no reason: what it lost counts as never stored.
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
        /// What the system says.
        source: io::Error,
    },
    /// A vector without numbers, or with more than a record holds.
    #[error("a vector of {0} numbers cannot be stored in the embedding cache (1 to {MAX_DIMENSIONS} can)")]
    Length(usize),
}

impl From<CacheError> for EmbedError {
    /// Going on without the cache would be paying for what a crash then loses: the run stops and can be taken up again.
    fn from(error: CacheError) -> Self {
        Self::Stopped(error.to_string())
    }
}
