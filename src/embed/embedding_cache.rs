//! The codec of vectors on top of the cache of answers.

use std::path::Path;

use arrow::datatypes::ToByteSlice;

use crate::{
    cache::{CacheError, CacheMode, Claimed, DiskReservation, Store},
    model::Fingerprint,
};

/// Longer vectors are refused.
const MAX_DIMENSIONS: usize = 1 << 16;

/// A cache of vectors by the digest of their text and model.
#[derive(Debug)]
pub struct EmbeddingCache(Store);

impl EmbeddingCache {
    /// Opens a cache; see [`Store::open`]. `identity` is a digest of everything besides the text that the vectors depend on.
    ///
    /// # Errors
    /// When the folder cannot be created, listed or written.
    pub fn open(dir: &Path, identity: Fingerprint, mode: CacheMode) -> Result<Self, CacheError> {
        Ok(Self(Store::open(dir, "embedding", identity, mode)?))
    }

    /// Reserves disk space for `vectors` vectors, before they are paid for; `None` if nothing is stored.
    ///
    /// # Errors
    /// When the disk has not enough free space.
    pub fn reserve(&self, vectors: usize, dimensions: usize) -> Result<Option<DiskReservation>, CacheError> {
        self.0.reserve(vectors, dimensions * size_of::<f32>())
    }

    /// Its mode.
    pub fn mode(&self) -> CacheMode {
        self.0.mode()
    }

    /// The key of a text's vector; with [`CacheMode::Off`], one that is valid in this process only.
    pub fn key(&self, text: &str) -> Fingerprint {
        self.0.key(text)
    }

    /// Calls `found` with the position in `keys` and the vector, once for each stored key, in any order.
    ///
    /// # Errors
    /// When the folder cannot be read. A record that cannot be read or fails its check is a miss.
    pub fn get_many(&self, keys: &[Fingerprint], found: &mut dyn FnMut(usize, &[f32])) -> Result<(), CacheError> {
        let mut vector = Vec::new();
        self.0.get_many(keys, &mut |slot, bytes| {
            vector.clear();
            vector.extend(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            found(slot, &vector);
        })
    }

    /// Whether a vector is stored for each key, by the indexes alone.
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

    /// Stores vectors. After it returns, they survive a kill of the process.
    ///
    /// # Errors
    /// When they cannot be written (those before the failed one are stored), when syncing an earlier call's bytes failed, or
    /// when a vector is empty or too long.
    pub fn put_many(&self, entries: &[(Fingerprint, &[f32])]) -> Result<(), CacheError> {
        if let Some((_, vector)) = entries.iter().find(|(_, vector)| vector.is_empty() || vector.len() > MAX_DIMENSIONS)
        {
            let dimensions = vector.len();
            return Err(CacheError::Length(format!(
                "a vector with {dimensions} dimensions cannot be stored in the cache (expected 1 to {MAX_DIMENSIONS})"
            )));
        }
        if cfg!(target_endian = "little") {
            let bytes: Vec<_> = entries.iter().map(|(key, vector)| (*key, vector.to_byte_slice())).collect();
            return self.0.put_many(&bytes);
        }
        let bytes: Vec<(Fingerprint, Vec<u8>)> = entries
            .iter()
            .map(|(key, vector)| (*key, vector.iter().flat_map(|number| number.to_le_bytes()).collect()))
            .collect();
        self.0.put_many(&bytes.iter().map(|(key, bytes)| (*key, &bytes[..])).collect::<Vec<_>>())
    }

    /// Syncs everything stored to the disk.
    ///
    /// # Errors
    /// When syncing fails, or failed since the last call.
    pub fn flush(&self) -> Result<(), CacheError> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_read_back_to_the_bit_and_those_of_invalid_length_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let cache =
            EmbeddingCache::open(dir.path(), Fingerprint::of("a model"), CacheMode::ReadWrite).expect("a folder");
        let (key, vector) = (cache.key("a"), [1.5, -0.0, f32::NAN]);
        for invalid in [&[][..], &[0.0; MAX_DIMENSIONS + 1]] {
            assert!(matches!(cache.put_many(&[(key, invalid)]), Err(CacheError::Length(_))));
        }
        cache.put_many(&[(key, &vector)]).expect("free space");
        let mut found = Vec::new();
        cache.get_many(&[key], &mut |_, vector| found.extend(vector.iter().map(|n| n.to_bits()))).expect("a folder");
        assert_eq!(found, vector.map(f32::to_bits));
    }
}
