//! The embedding cache: a log-structured store of vectors by the digest of their text and model.
//!
//! Owns the folder `cache: {path}`: when it is written, and what is trusted when it is read back. Must not know providers,
//! prices or partitions.
//!
//! The cache is also the journal of paid work. [`EmbeddingCache::put_many`] returns when the operating system has the bytes,
//! so that a killed process loses nothing; a thread syncs them to the disk within [`SYNC_EVERY`], so that a power failure
//! loses half a second. Every process appends to segments of its own ([`segment`]), and nothing is changed in place, so any
//! number of processes may share a folder. Sorted indexes ([`index`]) are searched in their files from a few MiB on:
//! memory does not grow with the cache, except for the keys of segments without an index.

mod error;
mod handle;
mod index;
mod maintenance;
mod mode;
mod segment;
mod shared;
mod view;

pub use error::CacheError;
pub use handle::{DiskReservation, EmbeddingCache};
pub use maintenance::{CacheStats, GcPolicy, GcReport, VerifyReport, gc, stats, verify};
pub use mode::CacheMode;
pub use shared::SYNC_EVERY;

#[cfg(test)]
mod tests;
