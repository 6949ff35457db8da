//! The embedding cache: vectors that were paid for, found again by what they were made from.
//!
//! Owns the folder `cache: {path}`: what is written when, and what is believed when it is read back. Must not know
//! providers, prices or partitions.
//!
//! The cache is also the journal of paid work. [`EmbeddingCache::put_many`] returns when the operating system has the
//! bytes, so that a killed process loses nothing; a thread brings them to the disk within [`SYNC_EVERY`], so that a
//! power failure loses half a second. Every process appends to segments of its own ([`segment`]) and nothing is
//! changed in place, so that any number of processes may share a folder. Sorted indexes ([`index`]) are mapped, not
//! loaded, and let go when much of them was looked at: memory does not grow with the cache, save for the keys of the
//! segments that have no index yet.

mod error;
mod handle;
mod index;
mod mode;
mod segment;
mod shared;
mod upkeep;
mod view;

pub use error::CacheError;
pub use handle::{EmbeddingCache, Reserved};
pub use mode::CacheMode;
pub use shared::SYNC_EVERY;
pub use upkeep::{CacheStats, GcPolicy, GcReport, VerifyReport, gc, stats, verify};

#[cfg(test)]
mod tests;
