//! The cache of answers that were paid for: a log-structured store of bytes by fingerprint.
//!
//! Owns the folder `cache: {path}`: when it is written, and what is trusted when it is read back; and a codec for JSON
//! ([`JsonCache`]). Must not know what an answer means, what it costs, or partitions.
//!
//! The cache is also the journal of paid work. [`Store::put_many`] returns when the operating system has the bytes,
//! so that a killed process loses nothing; a thread syncs them to the disk within [`SYNC_EVERY`], so that a power failure
//! loses half a second. Every process appends to segments of its own ([`segment`]), and nothing is changed in place, so any
//! number of processes may share a folder; they tell each other what they are requesting ([`claims`]). Sorted indexes
//! ([`index`]) are searched in their files from a few MiB on: memory does not grow with the cache, except for the keys of
//! segments without an index.

mod claims;
mod error;
#[cfg(test)]
mod fuzz_tests;
mod index;
mod json;
mod maintenance;
mod mode;
mod options;
mod segment;
mod shared;
mod store;
mod view;

pub use error::CacheError;
pub use json::JsonCache;
pub use maintenance::{CacheStats, GcPolicy, GcReport, VerifyReport, gc, stats, verify};
pub use mode::CacheMode;
pub use options::CacheOptions;
pub use segment::MAX_VALUE;
pub use shared::SYNC_EVERY;
pub use store::{Claimed, DiskReservation, Store};

#[cfg(test)]
mod tests;
