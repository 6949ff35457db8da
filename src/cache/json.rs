//! The codec of JSON answers: a text, padded with white space to the store's multiple.

use std::path::Path;

use serde_json::Value;

use super::{
    error::CacheError,
    mode::CacheMode,
    segment::{MAX_VALUE, WORD},
    store::{Claimed, DiskReservation, Store},
};
use crate::model::Fingerprint;

/// A cache of JSON values by the digest of what was asked.
#[derive(Debug)]
pub struct JsonCache(Store);

impl JsonCache {
    /// Opens a cache; see [`Store::open`].
    ///
    /// # Errors
    /// When the folder cannot be created, listed or written.
    pub fn open(dir: &Path, domain: &str, identity: Fingerprint, mode: CacheMode) -> Result<Self, CacheError> {
        Ok(Self(Store::open(dir, domain, identity, mode)?))
    }

    /// Reserves disk space for `values` values of `bytes` bytes each, before they are paid for; `None` if nothing is stored.
    ///
    /// # Errors
    /// When the disk has not enough free space.
    pub fn reserve(&self, values: usize, bytes: usize) -> Result<Option<DiskReservation>, CacheError> {
        self.0.reserve(values, bytes)
    }

    /// Its mode.
    pub fn mode(&self) -> CacheMode {
        self.0.mode()
    }

    /// The key of the answer to a text.
    pub fn key(&self, text: &str) -> Fingerprint {
        self.0.key(text)
    }

    /// Calls `found` with the position in `keys` and the value, once for each stored key, in any order. What is not JSON is
    /// a miss.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn get_many(&self, keys: &[Fingerprint], found: &mut dyn FnMut(usize, Value)) -> Result<(), CacheError> {
        self.0.get_many(keys, &mut |slot, bytes| {
            if let Ok(value) = serde_json::from_slice(bytes) {
                found(slot, value);
            }
        })
    }

    /// Whether a value is stored for each key.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn contains_many(&self, keys: &[Fingerprint]) -> Result<Vec<bool>, CacheError> {
        self.0.contains_many(keys)
    }

    /// See [`Store::claim`].
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn claim(&self, keys: &[Fingerprint], even_if_stored: bool) -> Result<Vec<Claimed>, CacheError> {
        self.0.claim(keys, even_if_stored)
    }

    /// See [`Store::release`].
    pub fn release(&self, keys: &[Fingerprint]) {
        self.0.release(keys.iter());
    }

    /// Stores values, given as JSON texts. After it returns, they survive a kill of the process. One that is larger than a record can
    /// be is not stored: it is asked for again.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put_many(&self, entries: impl Iterator<Item = (Fingerprint, String)>) -> Result<(), CacheError> {
        if self.0.mode() != CacheMode::ReadWrite {
            return Ok(());
        }
        let encoded: Vec<_> = entries.map(|(key, text)| (key, padded(text))).collect();
        let fitting = encoded.iter().filter(|(_, bytes)| bytes.len() <= MAX_VALUE);
        self.0.put_many(&fitting.map(|(key, bytes)| (*key, &bytes[..])).collect::<Vec<_>>())
    }

    /// Syncs everything stored to the disk.
    ///
    /// # Errors
    /// When syncing fails, or failed since the last call.
    pub fn flush(&self) -> Result<(), CacheError> {
        self.0.flush()
    }
}

fn padded(text: String) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    // White space after a value is part of JSON.
    bytes.resize(bytes.len().next_multiple_of(WORD), b' ');
    bytes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_every_length_read_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || JsonCache::open(dir.path(), "test", Fingerprint::of("an API"), CacheMode::ReadWrite);
        let values: Vec<Value> = (0..9)
            .map(|n| json!("x".repeat(n)))
            .chain([json!(null), json!({"b": [1, 2.5], "a": null}), json!(12_345_678_901_234_567_890_u64)])
            .collect();
        let cache = open().expect("a writable folder");
        let keys: Vec<_> = (0..values.len()).map(|n| cache.key(&n.to_string())).collect();
        cache.put_many(keys.iter().copied().zip(values.iter().map(Value::to_string))).expect("free space");
        drop(cache);
        let mut found = vec![None; values.len()];
        let cache = open().expect("a writable folder");
        cache.get_many(&keys, &mut |slot, value| found[slot] = Some(value)).expect("a readable folder");
        let found: Vec<_> = found.into_iter().flatten().collect();
        assert_eq!(found, values);
        assert_eq!(
            serde_json::to_string(&found[10]).expect("JSON"),
            r#"{"b":[1,2.5],"a":null}"#,
            "keys keep their order"
        );
    }
}
