//! What this process knows of the folder: indexes, and segments that have none yet.
//!
//! Owns finding a key and reading the vector it leads to. Must not know who stores what when.

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

/// More indexes than this are merged, and more small segments.
pub(super) const MANY: usize = 8;
/// Segments below this many bytes are worth merging.
pub(super) const SMALL: u64 = 8 << 20;
/// Open files kept for the next look-up.
const OPEN_FILES: usize = 128;
/// How often a folder that changes while it is listed is listed again.
const RETRIES: usize = 5;

/// The segments and indexes in a folder, as last looked at.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Sorted indexes.
    pub(super) indexes: Vec<Arc<Index>>,
    /// Segments that others still write, or that may not be given an index.
    pub(super) tails: Vec<Tail>,
    /// The segment that this process writes.
    pub(super) own: Option<Tail>,
    /// Segments that this process has filled and that are about to get an index.
    pub(super) sealing: Vec<Tail>,
    small: usize,
    files: Mutex<HashMap<FileId, Arc<File>>>,
}

/// A segment without an index: its keys are in memory.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) id: FileId,
    pub(super) file: Arc<File>,
    /// Key → offset / 4.
    pub(super) places: HashMap<Fingerprint, u32, ByDigest>,
    scanned: u64,
}

impl Tail {
    pub(super) fn new(id: FileId, file: Arc<File>) -> Self {
        Self { id, file, places: HashMap::default(), scanned: 0 }
    }

    /// Reads what was appended since.
    fn catch_up(&mut self) -> io::Result<Scan> {
        let places = &mut self.places;
        let result = scan(&self.file, self.scanned, |offset, record| {
            places.insert(record.key, (offset / 4) as u32);
        })?;
        self.scanned = result.end;
        Ok(result)
    }
}

/// The segments and indexes whose names are in a folder.
pub(super) struct SegmentListing {
    pub(super) segments: Vec<(FileId, u64)>,
    pub(super) indexes: Vec<FileId>,
}

/// Lists a folder; one that is not there is empty.
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
    /// Looks at the folder again. With `may_write`, segments whose writer is gone get the index it did not write.
    pub(super) fn refresh(&mut self, dir: &Path, may_write: bool) -> io::Result<()> {
        let known: HashMap<FileId, Arc<Index>> = self.indexes.drain(..).map(|index| (index.id, index)).collect();
        let mut listing = list(dir)?;
        // Indexes that are gone when they are opened were merged just now: then the listing is out of date.
        for _ in 0..RETRIES {
            let mut all_there = true;
            self.indexes.clear();
            for id in &listing.indexes {
                match known.get(id) {
                    Some(index) => self.indexes.push(Arc::clone(index)),
                    None => all_there &= self.adopt(dir, *id)?,
                }
            }
            if all_there {
                break;
            }
            listing = list(dir)?;
        }
        self.small = listing.segments.iter().filter(|(_, bytes)| *bytes < SMALL).count();
        let indexed: HashSet<FileId> = self.indexes.iter().flat_map(|index| index.segments.iter().copied()).collect();
        let mut tails: HashMap<FileId, Tail> = self.tails.drain(..).map(|tail| (tail.id, tail)).collect();
        for (id, _) in listing.segments {
            if indexed.contains(&id) || self.ours().any(|ours| ours.id == id) {
                continue;
            }
            let mut tail = match tails.remove(&id) {
                Some(tail) => tail,
                None => match File::open(id.path(dir, SEGMENT)) {
                    Ok(file) => Tail::new(id, Arc::new(file)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                },
            };
            // Whoever writes a segment holds its lock; we get it when the writer is gone.
            let abandoned = may_write && tail.file.try_lock().is_ok();
            tail.catch_up()?;
            if abandoned {
                let result = index::write(dir, id, tail.places.iter().map(|(k, p)| (*k, *p)).collect());
                tail.file.unlock()?;
                result?;
                self.adopt(dir, id)?;
            } else {
                self.tails.push(tail);
            }
        }
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// The segments that this process has made and that have no index yet.
    pub(super) fn ours(&self) -> impl Iterator<Item = &Tail> {
        self.own.iter().chain(&self.sealing)
    }

    /// Takes up the index of one of our segments, which then need not be in memory.
    pub(super) fn sealed(&mut self, dir: &Path, id: FileId) -> io::Result<()> {
        if self.indexes.iter().all(|index| index.id != id) {
            self.adopt(dir, id)?;
        }
        self.own.take_if(|own| own.id == id);
        self.sealing.retain(|tail| tail.id != id);
        Ok(())
    }

    /// Takes up an index by its name. False when it is gone; one that is damaged is left out.
    fn adopt(&mut self, dir: &Path, id: FileId) -> io::Result<bool> {
        match Index::open(dir, id) {
            Ok(index) => self.indexes.extend(index.map(Arc::new)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// True when there are so many files that look-ups would gain from merging them.
    pub(super) fn is_untidy(&self) -> bool {
        self.indexes.len() > MANY || self.small > MANY
    }

    /// True when an index or a tail lists the key.
    pub(super) fn contains(&self, key: Fingerprint) -> bool {
        self.ours().chain(&self.tails).any(|tail| tail.places.contains_key(&key))
            || self.indexes.iter().any(|index| index.find(key).next().is_some())
    }

    /// Delivers the vectors of the keys that are stored, each once. True when segments that should hold some were not
    /// there.
    pub(super) fn read(
        &self,
        dir: &Path,
        keys: &[(usize, Fingerprint)],
        deliver: &mut dyn FnMut(usize, &[f32]),
    ) -> bool {
        // Sorted by place, look-ups become forward reads.
        let mut hits: Vec<(EntryLocation, usize)> = Vec::new();
        for (at, (_, key)) in keys.iter().enumerate() {
            for tail in self.ours().chain(&self.tails) {
                let offset = tail.places.get(key).map(|quarter| u64::from(*quarter) * 4);
                hits.extend(offset.map(|offset| (EntryLocation { segment: tail.id, offset }, at)));
            }
            for index in &self.indexes {
                hits.extend(index.find(*key).map(|place| (place, at)));
            }
        }
        hits.sort_unstable();
        let mut done = vec![false; keys.len()];
        let mut gone = false;
        for hits in hits.chunk_by(|a, b| a.0.segment == b.0.segment) {
            let Some((first, _)) = hits.first() else { continue };
            match self.file(dir, first.segment) {
                Ok(file) => read_segment(&file, hits, &mut |at, record_key, vector| {
                    let (slot, key) = keys[at];
                    if record_key == key && !done[at] {
                        done[at] = true;
                        deliver(slot, vector);
                    }
                }),
                Err(_) => gone = true,
            }
        }
        gone
    }

    fn file(&self, dir: &Path, id: FileId) -> io::Result<Arc<File>> {
        if let Some(tail) = self.ours().chain(&self.tails).find(|tail| tail.id == id) {
            return Ok(Arc::clone(&tail.file));
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

/// Reads records of one segment, neighbours in one go. `hits` are sorted by place. What cannot be read is left out.
fn read_segment(file: &File, hits: &[(EntryLocation, usize)], found: &mut dyn FnMut(usize, Fingerprint, &[f32])) {
    const MAX_READ: u64 = 1 << 20;
    let Ok(size) = file.metadata().map(|metadata| metadata.len()) else { return };
    // How long the next record probably is: as long as the last one.
    let mut likely = 4 << 10;
    let (mut buffer, mut longer, mut vector) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = 0;
    while let Some((first, _)) = hits.get(at) {
        let start = first.offset;
        let mut end = start.saturating_add(likely);
        let mut run = 1;
        for (next, _) in &hits[at + 1..] {
            if next.offset > end.saturating_add(likely) || next.offset - start > MAX_READ {
                break;
            }
            end = end.max(next.offset.saturating_add(likely));
            run += 1;
        }
        let end = end.min(size);
        let whole = start < end && fill(file, &mut buffer, start, end - start);
        for (place, slot) in &hits[at..at + run] {
            let Some(bytes) = buffer.get((place.offset - start) as usize..).filter(|_| whole) else { continue };
            let mut deliver = |record: Record<'_>| {
                likely = record.bytes.len() as u64;
                record.read_vector(&mut vector);
                found(*slot, record.key, &vector);
            };
            let mut wanted = match parse(bytes) {
                Parsed::Whole(record) => {
                    deliver(record);
                    continue;
                }
                Parsed::Short(length) => length,
                Parsed::Damaged => continue,
            };
            // Longer than expected. A cut header tells how long the header is, a whole one how long the record is.
            while place.offset + wanted as u64 <= size && fill(file, &mut longer, place.offset, wanted as u64) {
                match parse(&longer) {
                    Parsed::Whole(record) => deliver(record),
                    Parsed::Short(length) => {
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
