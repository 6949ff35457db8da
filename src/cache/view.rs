//! A process's view of the folder: its indexes, and the segments without one.
//!
//! Owns finding a key and reading its record. Must not know when records are written.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    index::{self, EntryLocation, Index},
    segment::{FileId, INDEX, Parsed, Record, SEGMENT, Scan, parse, read_exact_at, scan},
};
use crate::model::{ByDigest, Fingerprint};

/// If there are more indexes or more small segments than this, they are merged.
pub(super) const MAX_SMALL_FILES: usize = 8;
/// Segments below this many bytes are small.
pub(super) const SMALL_SEGMENT: u64 = 8 << 20;
/// The most open segments that are kept for later look-ups.
const OPEN_FILES: usize = 128;
/// How often a folder is listed again if it changes meanwhile.
const RETRIES: usize = 5;

/// The segments and indexes of a folder at the last refresh.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Sorted indexes.
    pub(super) indexes: Vec<Arc<Index>>,
    /// Segments that other processes are writing, or whose index may not be written.
    pub(super) unindexed: Vec<Unindexed>,
    /// The open segment of this process.
    pub(super) own: Option<Unindexed>,
    /// Closed segments of this process whose index is pending.
    pub(super) sealing: Vec<Unindexed>,
    small: usize,
    files: Mutex<HashMap<FileId, Arc<File>>>,
}

/// A segment without an index, with its keys in memory.
#[derive(Debug)]
pub(super) struct Unindexed {
    pub(super) id: FileId,
    pub(super) file: Arc<File>,
    /// Key → offset / 4.
    pub(super) offsets: HashMap<Fingerprint, u32, ByDigest>,
    scanned: u64,
}

impl Unindexed {
    pub(super) fn new(id: FileId, file: Arc<File>) -> Self {
        Self { id, file, offsets: HashMap::default(), scanned: 0 }
    }

    /// Reads the records appended since.
    fn catch_up(&mut self) -> io::Result<Scan> {
        let offsets = &mut self.offsets;
        let result = scan(&self.file, self.scanned, |offset, record| {
            offsets.insert(record.key, (offset / 4) as u32);
        })?;
        self.scanned = result.end;
        Ok(result)
    }
}

/// The segments and indexes of a folder.
pub(super) struct SegmentListing {
    pub(super) segments: Vec<(FileId, u64)>,
    pub(super) indexes: Vec<FileId>,
}

/// Lists a folder; one that does not exist is empty.
pub(super) fn list(dir: &Path) -> io::Result<SegmentListing> {
    let mut listing = SegmentListing { segments: Vec::new(), indexes: Vec::new() };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if let Some(id) = FileId::of(&entry.path(), SEGMENT) {
            match entry.metadata() {
                Ok(metadata) => listing.segments.push((id, metadata.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        } else if let Some(id) = FileId::of(&entry.path(), INDEX) {
            listing.indexes.push(id);
        }
    }
    listing.segments.sort_unstable();
    listing.indexes.sort_unstable();
    Ok(listing)
}

impl View {
    /// Lists the folder again. With `may_write`, segments whose writer has ended get a missing index.
    pub(super) fn refresh(&mut self, dir: &Path, may_write: bool) -> io::Result<()> {
        let known: HashMap<FileId, Arc<Index>> = self.indexes.drain(..).map(|index| (index.id, index)).collect();
        let mut listing = list(dir)?;
        // An index that is gone when it is opened was merged just now: the listing is stale.
        for _ in 0..RETRIES {
            let mut is_complete = true;
            self.indexes.clear();
            for id in &listing.indexes {
                match known.get(id) {
                    Some(index) => self.indexes.push(Arc::clone(index)),
                    None => is_complete &= self.load_index(dir, *id)?,
                }
            }
            if is_complete {
                break;
            }
            listing = list(dir)?;
        }
        self.small = listing.segments.iter().filter(|(_, bytes)| *bytes < SMALL_SEGMENT).count();
        let indexed: HashSet<FileId> = self.indexes.iter().flat_map(|index| index.segments.iter().copied()).collect();
        let mut unindexed: HashMap<FileId, Unindexed> =
            self.unindexed.drain(..).map(|segment| (segment.id, segment)).collect();
        for (id, _) in listing.segments {
            if indexed.contains(&id) || self.ours().any(|ours| ours.id == id) {
                continue;
            }
            let mut segment = match unindexed.remove(&id) {
                Some(segment) => segment,
                None => match File::open(id.path(dir, SEGMENT)) {
                    Ok(file) => Unindexed::new(id, Arc::new(file)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                },
            };
            // The writer of a segment holds its lock until it ends.
            let abandoned = may_write && segment.file.try_lock().is_ok();
            segment.catch_up()?;
            if abandoned {
                let result = index::write(dir, id, segment.offsets.iter().map(|(k, p)| (*k, *p)).collect());
                segment.file.unlock()?;
                result?;
                self.load_index(dir, id)?;
            } else {
                self.unindexed.push(segment);
            }
        }
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// The segments of this process without an index.
    pub(super) fn ours(&self) -> impl Iterator<Item = &Unindexed> {
        self.own.iter().chain(&self.sealing)
    }

    /// Loads the index of one of our segments, and drops its keys from memory.
    pub(super) fn sealed(&mut self, dir: &Path, id: FileId) -> io::Result<()> {
        if self.indexes.iter().all(|index| index.id != id) {
            self.load_index(dir, id)?;
        }
        self.own.take_if(|own| own.id == id);
        self.sealing.retain(|segment| segment.id != id);
        Ok(())
    }

    /// Loads an index. False if it is gone; a damaged one is ignored.
    fn load_index(&mut self, dir: &Path, id: FileId) -> io::Result<bool> {
        match Index::open(dir, id) {
            Ok(index) => self.indexes.extend(index.map(Arc::new)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// True when there are so many files that merging them makes look-ups faster.
    pub(super) fn needs_compaction(&self) -> bool {
        self.indexes.len() > MAX_SMALL_FILES || self.small > MAX_SMALL_FILES
    }

    /// True when an index or a segment without one lists the key.
    pub(super) fn contains(&self, key: Fingerprint) -> bool {
        self.ours().chain(&self.unindexed).any(|segment| segment.offsets.contains_key(&key))
            || self.indexes.iter().any(|index| index.find(key).is_ok_and(|found| !found.is_empty()))
    }

    /// Delivers the values of the stored keys, each once. True when segments that an index lists are gone.
    pub(super) fn read(
        &self,
        dir: &Path,
        keys: &[(usize, Fingerprint)],
        deliver: &mut dyn FnMut(usize, &[u8]),
    ) -> bool {
        // Sorted by location, look-ups become forward reads.
        let mut hits: Vec<(EntryLocation, usize)> = Vec::new();
        for (at, (_, key)) in keys.iter().enumerate() {
            for segment in self.ours().chain(&self.unindexed) {
                let offset = segment.offsets.get(key).map(|quarter| u64::from(*quarter) * 4);
                hits.extend(offset.map(|offset| (EntryLocation { segment: segment.id, offset }, at)));
            }
            for index in &self.indexes {
                // One that cannot be read lists nothing: the text is requested again.
                hits.extend(index.find(*key).into_iter().flatten().map(|location| (location, at)));
            }
        }
        hits.sort_unstable();
        let mut done = vec![false; keys.len()];
        let mut gone = false;
        for hits in hits.chunk_by(|a, b| a.0.segment == b.0.segment) {
            let Some((first, _)) = hits.first() else { continue };
            match self.file(dir, first.segment) {
                Ok(file) => read_segment(&file, hits, &mut |at, record_key, value| {
                    let (slot, key) = keys[at];
                    if record_key == key && !done[at] {
                        done[at] = true;
                        deliver(slot, value);
                    }
                }),
                Err(_) => gone = true,
            }
        }
        gone
    }

    fn file(&self, dir: &Path, id: FileId) -> io::Result<Arc<File>> {
        if let Some(segment) = self.ours().chain(&self.unindexed).find(|segment| segment.id == id) {
            return Ok(Arc::clone(&segment.file));
        }
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&id) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(id.path(dir, SEGMENT))?);
        if files.len() >= OPEN_FILES {
            files.clear();
        }
        files.insert(id, Arc::clone(&file));
        Ok(file)
    }
}

/// Reads records of one segment, adjacent ones in one read. `hits` are sorted by location. Records that cannot be read are
/// skipped.
fn read_segment(file: &File, hits: &[(EntryLocation, usize)], found: &mut dyn FnMut(usize, Fingerprint, &[u8])) {
    const MAX_READ: u64 = 1 << 20;
    let Ok(size) = file.metadata().map(|metadata| metadata.len()) else { return };
    // The expected length of the next record: that of the last one.
    let mut expected = 4 << 10;
    let (mut buffer, mut longer) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some((first, _)) = hits.get(at) {
        let start = first.offset;
        let mut end = start.saturating_add(expected);
        let mut run = 1;
        for (next, _) in &hits[at + 1..] {
            if next.offset > end.saturating_add(expected) || next.offset - start > MAX_READ {
                break;
            }
            end = end.max(next.offset.saturating_add(expected));
            run += 1;
        }
        let end = end.min(size);
        let whole = start < end && fill(file, &mut buffer, start, end - start);
        for (location, slot) in &hits[at..at + run] {
            let Some(bytes) = buffer.get((location.offset - start) as usize..).filter(|_| whole) else { continue };
            let mut deliver = |record: Record<'_>| {
                expected = record.bytes.len() as u64;
                found(*slot, record.key, record.value());
            };
            let mut wanted = match parse(bytes) {
                Parsed::Complete(record) => {
                    deliver(record);
                    continue;
                }
                Parsed::Incomplete(length) => length,
                Parsed::Damaged => continue,
            };
            // Longer than expected: of an incomplete header the length of the header is known, else that of the record.
            while location.offset + wanted as u64 <= size && fill(file, &mut longer, location.offset, wanted as u64) {
                match parse(&longer) {
                    Parsed::Complete(record) => deliver(record),
                    Parsed::Incomplete(length) => {
                        wanted = length;
                        continue;
                    }
                    Parsed::Damaged => {}
                }
                break;
            }
        }
        at += run;
    }
}

fn fill(file: &File, buffer: &mut Vec<u8>, start: u64, length: u64) -> bool {
    buffer.resize(length as usize, 0);
    read_exact_at(file, buffer, start).is_ok()
}
