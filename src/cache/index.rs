//! Indexes: sorted, immutable files that map keys to locations in segments.
//!
//! Owns the layout of an index file, searching one and merging several. Must not know what a record contains: readers
//! verify the record at each location, so a wrong entry costs a read, and never gives a wrong value. Files are read and not
//! mapped: one that another program truncates while it is open is an error of that read, and not the end of the process.
//!
//! Layout, little-endian: `magic [u8; 8] | segments u64 | entries u64 | check [u8; 8]`, then for each segment
//! its id `[u8; 16]`, then for each entry
//! `key [u8; 16] | segment u32 | offset / 4 u32`, sorted by key. The check covers all before the entries.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use super::segment::{FileId, INDEX, STAGING, new_file, read_exact_at, sync_folder};
use crate::model::Fingerprint;

const MAGIC: [u8; 8] = *b"flowidx1";
const HEADER: usize = 32;
const SEGMENT_ENTRY: usize = 16;
const ENTRY: usize = 24;

/// Entries of a larger index stay in its file.
const MAX_IN_MEMORY: usize = (4 << 20) / ENTRY;
/// Entries that a look-up reads at once: a page.
const BLOCK: usize = 4096 / ENTRY;
/// Entries that are read at once from the first to the last.
const SCAN: usize = (1 << 20) / ENTRY;

type Entry = [u8; ENTRY];

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
    /// How many entries it has.
    entries: usize,
    content: Content,
}

/// Where the entries are.
#[derive(Debug)]
enum Content {
    Memory(Vec<Entry>),
    File(File),
}

impl Index {
    /// Opens an index file. `None` when it is damaged: its segments then count as not indexed.
    pub(super) fn open(dir: &Path, id: FileId) -> io::Result<Option<Self>> {
        let file = File::open(id.path(dir, INDEX))?;
        let size = file.metadata()?.len();
        match Self::read(file, size, id) {
            // Truncated just now.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            read => read,
        }
    }

    fn read(file: File, size: u64, id: FileId) -> io::Result<Option<Self>> {
        if size < HEADER as u64 {
            return Ok(None);
        }
        let mut fixed = [0; HEADER];
        read_exact_at(&file, &mut fixed, 0)?;
        let number = |at: usize| {
            let bytes = fixed[at..at + 8].try_into().expect("eight bytes");
            usize::try_from(u64::from_le_bytes(bytes)).ok()
        };
        let (Some(segments), Some(entries)) = (number(8), number(16)) else { return Ok(None) };
        let start = segments.checked_mul(SEGMENT_ENTRY).and_then(|bytes| bytes.checked_add(HEADER));
        let whole = entries.checked_mul(ENTRY).zip(start).and_then(|(bytes, start)| bytes.checked_add(start));
        if fixed[..8] != MAGIC || whole.is_none_or(|whole| whole as u64 != size) {
            return Ok(None);
        }
        let mut list = vec![0; segments * SEGMENT_ENTRY];
        read_exact_at(&file, &mut list, HEADER as u64)?;
        if fixed[24..32] != check(&fixed[..24], &list) {
            return Ok(None);
        }
        let segments = list.as_chunks().0.iter().map(|id| FileId(Fingerprint::from(*id))).collect();
        let mut index = Self { id, segments, entries, content: Content::File(file) };
        if entries <= MAX_IN_MEMORY {
            index.content = Content::Memory(index.block(0, entries)?);
        }
        Ok(Some(index))
    }

    /// How many records it lists.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        (HEADER + self.segments.len() * SEGMENT_ENTRY + self.entries * ENTRY) as u64
    }

    /// Reads `count` entries from the `first` on.
    fn block(&self, first: usize, count: usize) -> io::Result<Vec<Entry>> {
        match &self.content {
            Content::Memory(entries) => Ok(entries[first..first + count].to_vec()),
            Content::File(file) => {
                let mut block = vec![[0; ENTRY]; count];
                let start = HEADER + self.segments.len() * SEGMENT_ENTRY + first * ENTRY;
                read_exact_at(file, block.as_flattened_mut(), start as u64)?;
                Ok(block)
            }
        }
    }

    /// The locations of a key: usually none or one; more if two processes stored the same text.
    ///
    /// # Errors
    /// When the file cannot be read: it was truncated after it was opened.
    pub(super) fn find(&self, key: Fingerprint) -> io::Result<Vec<EntryLocation>> {
        let key = key.as_bytes();
        let mut found = Vec::new();
        if let Content::Memory(entries) = &self.content {
            let same = entries[lower_bound(entries, key)..].iter().take_while(|entry| entry[..16] == key[..]);
            found.extend(same.filter_map(|entry| self.location(entry)));
            return Ok(found);
        }
        let (mut first, mut block) = self.block_of(key)?;
        loop {
            for entry in &block {
                if entry[..16] != key[..] {
                    return Ok(found);
                }
                found.extend(self.location(entry));
            }
            first += block.len();
            if first == self.entries {
                return Ok(found);
            }
            block = self.block(first, BLOCK.min(self.entries - first))?;
        }
    }

    /// The position of the first entry that is not below `key`, and some entries from there on. Keys are hashes and evenly
    /// distributed: the first block is read where their first bytes suggest, the next ones as far from it as its keys do.
    fn block_of(&self, key: &[u8; 16]) -> io::Result<(usize, Vec<Entry>)> {
        /// Blocks after which the rest is divided in halves: the keys are not as they should be.
        const MAX_GUESSES: usize = 6;
        let (mut low, mut high) = (0, self.entries);
        let mut guess = ((u128::from(prefix(key)) * self.entries as u128) >> 64) as usize;
        let mut guesses = 0;
        while low < high {
            let first = guess.saturating_sub(BLOCK / 2).clamp(low, high - 1);
            let mut block = self.block(first, BLOCK.min(high - first))?;
            guesses += 1;
            let distance = |edge: &Entry| {
                let edge = edge[..8].try_into().map_or(0, u64::from_be_bytes);
                ((u128::from(edge.abs_diff(prefix(key))) * self.entries as u128) >> 64) as usize
            };
            let at = block.partition_point(|entry| entry[..16] < key[..]);
            let edge = if at == 0 && first > low {
                high = first;
                first.saturating_sub(distance(&block[0]))
            } else if at == block.len() {
                low = first + at;
                low.saturating_add(distance(&block[at - 1]))
            } else {
                return Ok((first + at, block.split_off(at)));
            };
            guess = if guesses < MAX_GUESSES { edge } else { low.midpoint(high) };
        }
        Ok((low, Vec::new()))
    }

    /// All entries, in the order of their keys. After an error there are no more.
    pub(super) fn iter(&self) -> impl Iterator<Item = io::Result<(Fingerprint, EntryLocation)>> {
        let (mut next, mut block, mut failed) = (0, Vec::new().into_iter(), false);
        std::iter::from_fn(move || {
            loop {
                if failed {
                    return None;
                }
                if let Some(entry) = block.next() {
                    let entry: Entry = entry;
                    let mut key = [0; 16];
                    key.copy_from_slice(&entry[..16]);
                    match self.location(&entry) {
                        Some(location) => return Some(Ok((Fingerprint::from(key), location))),
                        None => continue,
                    }
                }
                let count = SCAN.min(self.entries - next);
                if count == 0 {
                    return None;
                }
                match self.block(next, count) {
                    Ok(read) => block = read.into_iter(),
                    Err(error) => {
                        failed = true;
                        return Some(Err(error));
                    }
                }
                next += count;
            }
        })
    }

    fn location(&self, entry: &Entry) -> Option<EntryLocation> {
        let [.., s0, s1, s2, s3, o0, o1, o2, o3] = *entry;
        let segment = *self.segments.get(u32::from_le_bytes([s0, s1, s2, s3]) as usize)?;
        Some(EntryLocation { segment, offset: u64::from(u32::from_le_bytes([o0, o1, o2, o3])) * 4 })
    }
}

/// The first entry that is not below `key`. Keys are hashes and evenly distributed, so the search starts at the position
/// that their first bytes suggest.
fn lower_bound(entries: &[Entry], key: &[u8; 16]) -> usize {
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
    let staged = stage(dir, &[segment], entries)?;
    publish(dir, segment, &staged)
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
        heap.extend(entries.next().transpose()?.map(|(key, location)| Reverse((key, location, source))));
    }
    let mut last = None;
    // An index that cannot be read to its end must not be replaced: its records would be lost.
    let mut failed = None;
    let merged = std::iter::from_fn(|| {
        loop {
            let Reverse((key, location, source)) = heap.pop()?;
            match sources[source].next().transpose() {
                Ok(next) => heap.extend(next.map(|(key, location)| Reverse((key, location, source)))),
                Err(error) => {
                    failed = Some(error);
                    return None;
                }
            }
            if last.replace((key, location)) == Some((key, location)) {
                continue;
            }
            if let Some(segment) = ordinal(location.segment) {
                return Some((key, segment, (location.offset / 4) as u32));
            }
        }
    });
    let staged = stage(dir, &segments, merged)?;
    if let Some(error) = failed {
        fs::remove_file(&staged)?;
        return Err(error);
    }
    publish(dir, FileId::new(), &staged)
}

/// Gives a staged index its name.
fn publish(dir: &Path, id: FileId, staged: &Path) -> io::Result<()> {
    fs::rename(staged, id.path(dir, INDEX))?;
    sync_folder(dir)
}

/// Writes an index under a temporary name.
fn stage(
    dir: &Path,
    segments: &[FileId],
    entries: impl Iterator<Item = (Fingerprint, u32, u32)>,
) -> io::Result<PathBuf> {
    // Not the final name with another extension: two processes may be writing the same index.
    let staged = FileId::new().path(dir, STAGING);
    let mut file = BufWriter::with_capacity(1 << 20, new_file(dir).create_new(true).open(&staged)?);
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
    Ok(staged)
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
                let offsets: Vec<_> =
                    index.find(key(n)).expect("readable").iter().map(|location| location.offset).collect();
                assert_eq!(offsets, [u64::from(n) * 4]);
            }
            assert!((size..size + 1000).all(|n| index.find(key(n)).expect("readable").is_empty()));
        }
    }

    /// The same index, with its entries left in the file.
    fn in_file(dir: &Path, index: Index) -> Index {
        let file = File::open(index.id.path(dir, INDEX)).expect("readable");
        Index { content: Content::File(file), ..index }
    }

    #[test]
    fn a_large_index_is_searched_in_its_file() {
        let dir = tempfile::tempdir().expect("a folder");
        for size in [0, 1, 169, 170, 171, 5000] {
            let memory = index_of(dir.path(), 0..size);
            let all: Vec<_> = memory.iter().map(|entry| entry.expect("readable")).collect();
            let file = in_file(dir.path(), memory);
            for n in 0..size + 500 {
                let offsets: Vec<_> = file.find(key(n)).expect("readable").iter().map(|found| found.offset).collect();
                assert_eq!(offsets, if n < size { vec![u64::from(n) * 4] } else { vec![] });
            }
            assert_eq!(file.iter().map(|entry| entry.expect("readable")).collect::<Vec<_>>(), all);
        }
    }

    #[test]
    fn an_index_that_is_truncated_while_it_is_open_is_an_error_and_not_the_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let index = in_file(dir.path(), index_of(dir.path(), 0..5000));
        let whole = index_of(dir.path(), 5000..6000);
        let exists: HashSet<_> = [index.id, whole.id].into();
        let path = index.id.path(dir.path(), INDEX);
        File::options().write(true).open(&path).expect("writable").set_len(index.bytes() / 2).expect("cut");
        assert!((0..5000).any(|n| index.find(key(n)).is_err()));
        assert!(index.iter().any(|entry| entry.is_err()));
        let files = || fs::read_dir(dir.path()).expect("a folder").count();
        let before = files();
        merge(dir.path(), &[&whole, &index], &exists).expect_err("one cannot be read");
        assert_eq!(files(), before, "nothing replaces what could not be read");
    }

    #[test]
    fn unevenly_distributed_keys_are_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let id = FileId::new();
        for shift in [0, 60, 120] {
            let keys: Vec<_> = (1..200_u128).map(|n| Fingerprint::from((n << shift).to_be_bytes())).collect();
            write(dir.path(), id, keys.iter().map(|key| (*key, 9)).collect()).expect("a writable folder");
            let index = Index::open(dir.path(), id).expect("a readable file").expect("a complete index");
            let index = in_file(dir.path(), index);
            assert!(keys.iter().all(|key| index.find(*key).expect("readable").len() == 1), "shift {shift}");
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
        let found = |n| merged.find(key(n)).expect("readable").len();
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
                    let found = (0..60).flat_map(|n| opened.find(key(n)).expect("in memory"));
                    assert!(found.into_iter().all(|location| location.segment == index.id));
                }
            }
            fs::write(&path, &bytes[..at]).expect("a writable file");
            assert!(Index::open(dir.path(), index.id).expect("a readable file").is_none());
        }
    }
}
