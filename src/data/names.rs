//! Names beside data: locks, staging folders and receipts, temporary names, and which names are hidden.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use crate::model::is_hidden_name;

/// The lock of a dataset, beside it.
pub(super) const LOCK_SUFFIX: &str = ".flow-lock";
/// Where writes to a local dataset are staged: beside it, because readers take any file inside for data.
pub(super) const STAGING_SUFFIX: &str = ".flow-staging";
/// The receipts of partitions that are files with names of their own, beside the dataset: readers take any file inside for
/// data, hidden ones too.
pub(super) const PARTITIONS_SUFFIX: &str = ".flow-partitions";
/// The leases of shards on a store: each is an object of its own.
pub(super) const SHARDS_SUFFIX: &str = ".flow-shards";
/// How the names end that `flow` gives to its own files beside a written dataset `x`: `.x` and one of these.
pub const SIBLING_SUFFIXES: &[&str] = &[".flow", LOCK_SUFFIX, STAGING_SUFFIX, PARTITIONS_SUFFIX, SHARDS_SUFFIX];

/// A name that no other process or call makes, on this machine or on another that shares the disk: in containers every
/// process may be number 1.
pub(super) fn unique_name() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(rand::random);
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}-{}", *PROCESS, COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// The hidden name that belongs to `name`; to the root of a store, which has none, a name that no other place gives.
pub(super) fn hidden(name: Option<&str>, suffix: &str) -> String {
    match name {
        Some(name) => format!(".{name}{suffix}"),
        None => suffix.to_owned(),
    }
}

/// True for a path with a name that is no data; see [`is_hidden_name`].
pub(super) fn is_hidden(relative: &str) -> bool {
    relative.split('/').any(is_hidden_name)
}
