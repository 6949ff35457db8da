//! Indexes: sorted, immutable, memory-mapped files that map keys to locations in segments.
//!
//! Owns the layout of an index file, searching one and merging several. Must not know what a record contains: readers
//! verify the record at each location, so a wrong entry costs a read, and never gives a wrong vector.
//!
//! Layout, little-endian: `magic [u8; 8] | segments u64 | entries u64 | check [u8; 8]`, then for each segment
//! its id `[u8; 16]`, then for each entry
//! `key [u8; 16] | segment u32 | offset / 4 u32`, sorted by key. The check covers all before the entries.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use memmap2::Mmap;

use super::segment::{FileId, INDEX, STAGING, sync_folder};
use crate::model::Fingerprint;

const MAGIC: [u8; 8] = *b"flowidx1";
const HEADER: usize = 32;
const SEGMENT_ENTRY: usize = 16;
const ENTRY: usize = 24;

/// Approximate bytes of an index that may be resident. Keys are evenly distributed, so look-ups touch all of it in time.
const MAX_RESIDENT: usize = 64 << 20;
/// Look-ups that touch no more than that: the system maps some pages around each.
const MAX_LOOKUPS: usize = MAX_RESIDENT / (64 << 10);

/// The location of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryLocation {
    pub(super) segment: FileId,
    pub(super) offset: u64,
}

/// An opened index.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) id: FileId,
    /// The segments whose records it lists.
    pub(super) segments: Vec<FileId>,
    map: Mmap,
    /// Look-ups since pages were last released.
    lookups: AtomicUsize,
}

impl Index {
    /// Maps an index file. `None` when it is damaged: its segments then count as not indexed.
    #[expect(unsafe_code, reason = "another process could change a mapped file; ours never do")]
    pub(super) fn open(dir: &Path, id: FileId) -> io::Result<Option<Self>> {
        let file = File::open(id.path(dir, INDEX))?;
        if file.metadata()?.len() < HEADER as u64 {
            return Ok(None);
        }
        // SAFETY: an index gets its name when it is complete, and is only replaced or removed by name, never changed in
        // place; what is read from it is not trusted.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self::read_header(&map).map(|segments| Self { id, segments, map, lookups: AtomicUsize::new(0) }))
    }

    fn read_header(map: &[u8]) -> Option<Vec<FileId>> {
        let number = |range| map.get(range).and_then(|b: &[u8]| b.try_into().ok()).map(u64::from_le_bytes);
        let segments = usize::try_from(number(8..16)?).ok()?;
        let entries = usize::try_from(number(16..24)?).ok()?;
        let start = segments.checked_mul(SEGMENT_ENTRY)?.checked_add(HEADER)?;
        let whole = entries.checked_mul(ENTRY)?.checked_add(start)?;
        if map[..8] != MAGIC || map.len() != whole || map[24..32] != check(&map[..24], &map[HEADER..start]) {
            return None;
        }
        Some(map[HEADER..start].as_chunks().0.iter().map(|id| FileId(Fingerprint::from(*id))).collect())
    }

    fn entries(&self) -> &[[u8; ENTRY]] {
        self.map[HEADER + self.segments.len() * SEGMENT_ENTRY..].as_chunks().0
    }

    /// How many records it lists.
    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Releases the pages that were read: they stay in the system's cache, but not in this process's memory.
    #[cfg_attr(unix, expect(unsafe_code, reason = "pages of a file that is never written to may be dropped"))]
    fn release_pages(&self) {
        // SAFETY: the map is shared, of a file, and never written to, so a released page is read again from the file,
        // unchanged, on the next access.
        #[cfg(unix)]
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }

    /// The locations of a key: usually none or one; more if two processes stored the same text.
    pub(super) fn find(&self, key: Fingerprint) -> impl Iterator<Item = EntryLocation> {
        if self.map.len() > MAX_RESIDENT && self.lookups.fetch_add(1, Ordering::Relaxed) >= MAX_LOOKUPS {
            self.lookups.store(0, Ordering::Relaxed);
            self.release_pages();
        }
        let entries = self.entries();
        let key = *key.as_bytes();
        let first = lower_bound(entries, &key);
        entries[first..].iter().take_while(move |entry| entry[..16] == key).filter_map(|entry| self.location(entry))
    }

    /// All entries, in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Fingerprint, EntryLocation)> {
        self.entries().iter().enumerate().filter_map(|(n, entry)| {
            if n % (MAX_RESIDENT / 16 / ENTRY) == MAX_RESIDENT / 16 / ENTRY - 1 {
                self.release_pages();
            }
            let mut key = [0; 16];
            key.copy_from_slice(&entry[..16]);
            Some((Fingerprint::from(key), self.location(entry)?))
        })
    }

    fn location(&self, entry: &[u8; ENTRY]) -> Option<EntryLocation> {
        let [.., s0, s1, s2, s3, o0, o1, o2, o3] = *entry;
        let segment = *self.segments.get(u32::from_le_bytes([s0, s1, s2, s3]) as usize)?;
        Some(EntryLocation { segment, offset: u64::from(u32::from_le_bytes([o0, o1, o2, o3])) * 4 })
    }
}

/// The first entry that is not below `key`. Keys are hashes and evenly distributed, so the search starts at the position
/// that their first bytes suggest.
fn lower_bound(entries: &[[u8; ENTRY]], key: &[u8; 16]) -> usize {
    let below = |i: usize| entries[i][..16] < key[..];
    let guess = ((u128::from(prefix(key)) * entries.len() as u128) >> 64) as usize;
    let (mut low, mut high, mut step) = (guess, guess, 16);
    while low > 0 && !below(low - 1) {
        high = low - 1;
        low = low.saturating_sub(step);
        step *= 2;
    }
    if low == guess {
        step = 16;
        while high < entries.len() && below(high) {
            low = high + 1;
            high = (high + step).min(entries.len());
            step *= 2;
        }
    }
    low + entries[low..high].partition_point(|entry| entry[..16] < key[..])
}

fn prefix(key: &[u8; 16]) -> u64 {
    key[..8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn check(fixed: &[u8], segments: &[u8]) -> [u8; 8] {
    let mut out = [0; 8];
    let digest = Fingerprint::builder("embedding cache index").bytes(fixed).bytes(segments).finish();
    out.copy_from_slice(&digest.as_bytes()[..8]);
    out
}

/// Writes the index of one segment from the offsets of its records. The index has the segment's name, so that two processes
/// that write it at once write the same file.
pub(super) fn write(dir: &Path, segment: FileId, mut offsets: Vec<(Fingerprint, u32)>) -> io::Result<()> {
    offsets.sort_unstable();
    let entries = offsets.into_iter().map(|(key, quarter)| (key, 0, quarter));
    publish(dir, segment, &[segment], entries)
}

/// Merges several indexes into a new one, without segments that no longer exist. The old ones are not removed.
pub(super) fn merge(dir: &Path, indexes: &[&Index], exists: &HashSet<FileId>) -> io::Result<()> {
    let mut segments: Vec<FileId> = indexes.iter().flat_map(|index| index.segments.iter().copied()).collect();
    segments.retain(|id| exists.contains(id));
    segments.sort_unstable();
    segments.dedup();
    let ordinal = |id: FileId| segments.binary_search(&id).ok().map(|i| i as u32);

    let mut sources: Vec<_> = indexes.iter().map(|index| index.iter()).collect();
    let mut heap = BinaryHeap::new();
    for (source, entries) in sources.iter_mut().enumerate() {
        heap.extend(entries.next().map(|(key, location)| Reverse((key, location, source))));
    }
    let mut last = None;
    let merged = std::iter::from_fn(|| {
        loop {
            let Reverse((key, location, source)) = heap.pop()?;
            heap.extend(sources[source].next().map(|(key, location)| Reverse((key, location, source))));
            if last.replace((key, location)) == Some((key, location)) {
                continue;
            }
            if let Some(segment) = ordinal(location.segment) {
                return Some((key, segment, (location.offset / 4) as u32));
            }
        }
    });
    publish(dir, FileId::new(), &segments, merged)
}

fn publish(
    dir: &Path,
    id: FileId,
    segments: &[FileId],
    entries: impl Iterator<Item = (Fingerprint, u32, u32)>,
) -> io::Result<()> {
    // Not the final name with another extension: two processes may be writing the same index.
    let staged = FileId::new().path(dir, STAGING);
    let mut file = BufWriter::with_capacity(1 << 20, File::create_new(&staged)?);
    file.write_all(&[0; HEADER])?;
    let list: Vec<u8> = segments.iter().flat_map(|id| *id.0.as_bytes()).collect();
    file.write_all(&list)?;
    let mut count = 0_u64;
    for (key, segment, quarter) in entries {
        file.write_all(key.as_bytes())?;
        file.write_all(&segment.to_le_bytes())?;
        file.write_all(&quarter.to_le_bytes())?;
        count += 1;
    }
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&(segments.len() as u64).to_le_bytes());
    header.extend_from_slice(&count.to_le_bytes());
    let check = check(&header, &list);
    header.extend_from_slice(&check);
    let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    io::Seek::rewind(&mut file)?;
    file.write_all(&header)?;
    file.sync_data()?;
    fs::rename(&staged, id.path(dir, INDEX))?;
    sync_folder(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Fingerprint {
        Fingerprint::of(n.to_le_bytes())
    }

    fn index_of(dir: &Path, numbers: impl Iterator<Item = u32>) -> Index {
        let id = FileId::new();
        write(dir, id, numbers.map(|n| (key(n), n)).collect()).expect("a writable folder");
        Index::open(dir, id).expect("a readable file").expect("a complete index")
    }

    #[test]
    fn every_listed_key_is_found_and_no_other() {
        let dir = tempfile::tempdir().expect("a folder");
        for size in [0, 1, 2, 17, 5000] {
            let index = index_of(dir.path(), 0..size);
            for n in 0..size {
                let offsets: Vec<_> = index.find(key(n)).map(|location| location.offset).collect();
                assert_eq!(offsets, [u64::from(n) * 4]);
            }
            assert!((size..size + 1000).all(|n| index.find(key(n)).next().is_none()));
        }
    }

    #[test]
    fn released_pages_are_read_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let index = index_of(dir.path(), 0..5000);
        let all: Vec<_> = index.iter().collect();
        index.release_pages();
        assert!(
            (0..5000).all(|n| index.find(key(n)).next().is_some_and(|location| location.offset == u64::from(n) * 4))
        );
        index.release_pages();
        assert_eq!(index.iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn unevenly_distributed_keys_are_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let id = FileId::new();
        for shift in [0, 60, 120] {
            let keys: Vec<_> = (1..200_u128).map(|n| Fingerprint::from((n << shift).to_be_bytes())).collect();
            write(dir.path(), id, keys.iter().map(|key| (*key, 9)).collect()).expect("a writable folder");
            let index = Index::open(dir.path(), id).expect("a readable file").expect("a complete index");
            assert!(keys.iter().all(|key| index.find(*key).next().is_some()), "shift {shift}");
        }
    }

    #[test]
    fn a_merged_index_lists_all_entries_except_those_of_lost_segments() {
        let dir = tempfile::tempdir().expect("a folder");
        let parts = [index_of(dir.path(), 0..100), index_of(dir.path(), 50..300), index_of(dir.path(), 1000..1100)];
        let exists: HashSet<_> = [parts[0].id, parts[1].id].into();
        merge(dir.path(), &parts.each_ref(), &exists).expect("a writable folder");
        let id = fs::read_dir(dir.path())
            .expect("a folder")
            .filter_map(|file| FileId::of(&file.expect("a file").path(), INDEX))
            .find(|id| parts.iter().all(|part| part.id != *id))
            .expect("the merged index");
        let merged = Index::open(dir.path(), id).expect("a readable file").expect("a complete index");
        assert_eq!(merged.segments.iter().copied().collect::<HashSet<_>>(), exists);
        let found = |n| merged.find(key(n)).count();
        assert_eq!((found(10), found(60), found(250), found(1050)), (1, 2, 1, 0));
    }

    #[test]
    fn a_damaged_index_never_panics_and_never_points_outside_its_segments() {
        let dir = tempfile::tempdir().expect("a folder");
        let index = index_of(dir.path(), 0..50);
        let path = index.id.path(dir.path(), INDEX);
        let bytes = fs::read(&path).expect("the index");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x91;
            fs::write(&path, &changed).expect("a writable file");
            match Index::open(dir.path(), index.id).expect("a readable file") {
                None => assert!(at < HEADER + SEGMENT_ENTRY),
                Some(opened) => {
                    assert!((0..60).all(|n| opened.find(key(n)).all(|location| location.segment == index.id)));
                }
            }
            fs::write(&path, &bytes[..at]).expect("a writable file");
            assert!(Index::open(dir.path(), index.id).expect("a readable file").is_none());
        }
    }
}
