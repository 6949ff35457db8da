//! Maintenance of a cache folder: statistics, verification, removal of old segments, and compaction of small ones.
//!
//! Owns when files are removed. One process at a time does that, under a lock; segments that a process is writing are never
//! touched, and a replacement is on the disk before its sources are removed.

use std::{
    collections::HashSet,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::{
    error::CacheError,
    index::{self, EntryLocation, Index},
    segment::{Appender, FileId, INDEX, MAX_BYTES, SEGMENT, STAGING, new_file, scan},
    view::{MAX_SMALL_FILES, SMALL_SEGMENT, View, list},
};
use crate::model::Fingerprint;

const LOCK: &str = "upkeep.lock";
/// Unfinished files are removed at this age; younger ones may be in use.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// Statistics of a cache folder.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct CacheStats {
    /// Stored values. One that two processes stored at once counts twice.
    pub entries: u64,
    /// Segment files.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Index files.
    pub indexes: u64,
    /// Their bytes.
    pub index_bytes: u64,
    /// When the oldest segment was created, in milliseconds since 1970.
    pub oldest_millis: Option<u64>,
    /// When the newest segment was created, in milliseconds since 1970.
    pub newest_millis: Option<u64>,
}

/// The result of verifying every byte.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Segment files.
    pub segments: u64,
    /// Intact values.
    pub entries: u64,
    /// Damaged ranges of bytes: each lost at least one value, which will be requested again.
    pub damaged: u64,
    /// Bytes of torn writes, from a crash or a full disk.
    pub torn_bytes: u64,
    /// Intact values that their segment's index does not list, and that are therefore not found.
    pub unlisted: u64,
    /// Damaged index files; the next run writes them again.
    pub damaged_indexes: u64,
}

impl VerifyReport {
    /// True when nothing is damaged. A torn write is no damage: its values were never acknowledged.
    pub fn is_sound(&self) -> bool {
        self.damaged == 0 && self.unlisted == 0 && self.damaged_indexes == 0
    }
}

/// What to remove. Whole segments are removed, the oldest first; a segment's age is that of its first value.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct GcPolicy {
    /// Remove until the folder has at most this many bytes.
    pub max_bytes: Option<u64>,
    /// Remove what is older than this.
    pub older_than: Option<Duration>,
}

/// What was removed.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Segments removed.
    pub segments_removed: u64,
    /// Bytes freed, indexes included.
    pub bytes_freed: u64,
    /// Bytes left, indexes included.
    pub bytes_left: u64,
    /// Segments that were not removed because a process is writing them.
    pub in_use: u64,
}

/// Statistics of a cache folder, from its indexes. A folder that does not exist is empty.
///
/// # Errors
/// When the folder cannot be read.
pub fn stats(dir: &Path) -> Result<CacheStats, CacheError> {
    let fail = failure(dir, "read");
    let mut view = View::default();
    view.refresh(dir, false).map_err(&fail)?;
    let listing = list(dir).map_err(&fail)?;
    let listed: usize = view.indexes.iter().map(|index| index.len()).sum();
    let unindexed: usize = view.unindexed.iter().map(|segment| segment.offsets.len()).sum();
    Ok(CacheStats {
        entries: (listed + unindexed) as u64,
        segments: listing.segments.len() as u64,
        bytes: listing.segments.iter().map(|(_, bytes)| bytes).sum(),
        indexes: view.indexes.len() as u64,
        index_bytes: view.indexes.iter().map(|index| index.bytes()).sum(),
        oldest_millis: listing.segments.first().map(|(id, _)| id.millis()),
        newest_millis: listing.segments.last().map(|(id, _)| id.millis()),
    })
}

/// Verifies every byte of a cache folder. Changes nothing.
///
/// # Errors
/// When a file cannot be read.
pub fn verify(dir: &Path) -> Result<VerifyReport, CacheError> {
    verify_all(dir).map_err(failure(dir, "read"))
}

fn verify_all(dir: &Path) -> io::Result<VerifyReport> {
    let listing = list(dir)?;
    let mut report = VerifyReport { segments: listing.segments.len() as u64, ..VerifyReport::default() };
    let mut indexes = Vec::new();
    for id in listing.indexes {
        match Index::open(dir, id)? {
            Some(index) => indexes.push(index),
            None => report.damaged_indexes += 1,
        }
    }
    for (id, _) in listing.segments {
        let file = File::open(id.path(dir, SEGMENT))?;
        let listing: Vec<&Index> = indexes.iter().filter(|index| index.segments.contains(&id)).collect();
        let found = scan(&file, 0, |offset, record| {
            report.entries += 1;
            let location = EntryLocation { segment: id, offset };
            // A segment without an index is scanned when the cache is opened.
            let known = |index: &&Index| index.find(record.key).is_ok_and(|found| found.contains(&location));
            report.unlisted += u64::from(!listing.is_empty() && !listing.iter().any(known));
        })?;
        report.damaged += found.damaged;
        // The end of a segment that is being written is not torn.
        report.torn_bytes += if file.try_lock_shared().is_ok() { found.tail } else { 0 };
    }
    Ok(report)
}

/// Removes old segments, and compacts the rest.
///
/// # Errors
/// When the folder cannot be read or written.
pub fn gc(dir: &Path, policy: GcPolicy) -> Result<GcReport, CacheError> {
    collect(dir, policy).map_err(failure(dir, "written"))
}

fn collect(dir: &Path, policy: GcPolicy) -> io::Result<GcReport> {
    if !dir.exists() {
        return Ok(GcReport::default());
    }
    let lock = new_file(dir).create(true).truncate(false).open(dir.join(LOCK))?;
    lock.lock()?;
    let mut report = GcReport::default();
    let before = size_of(dir)?;
    let mut size = before;
    let now = FileId::new().millis();
    for (id, bytes) in list(dir)?.segments {
        let age = Duration::from_millis(now.saturating_sub(id.millis()));
        let too_old = policy.older_than.is_some_and(|limit| age > limit);
        if !too_old && policy.max_bytes.is_none_or(|limit| size <= limit) {
            continue;
        }
        if is_being_written(dir, id)? {
            report.in_use += 1;
            continue;
        }
        // Its index entries are removed by the compaction below.
        fs::remove_file(id.path(dir, SEGMENT))?;
        size = size.saturating_sub(bytes);
        report.segments_removed += 1;
    }
    compact_locked(dir)?;
    report.bytes_left = size_of(dir)?;
    report.bytes_freed = before.saturating_sub(report.bytes_left);
    Ok(report)
}

fn size_of(dir: &Path) -> io::Result<u64> {
    let listing = list(dir)?;
    let mut size = listing.segments.iter().map(|(_, bytes)| bytes).sum();
    for id in listing.indexes {
        size += fs::metadata(id.path(dir, INDEX))?.len();
    }
    Ok(size)
}

/// Merges small files if there are many. True when something changed; false also when another process is doing it.
pub(super) fn compact(dir: &Path) -> io::Result<bool> {
    let lock = new_file(dir).create(true).truncate(false).open(dir.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => compact_locked(dir),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn compact_locked(dir: &Path) -> io::Result<bool> {
    remove_leftovers(dir)?;
    let mut view = View::default();
    view.refresh(dir, true)?;
    let mut small = Vec::new();
    for (id, bytes) in list(dir)?.segments {
        let indexed = view.indexes.iter().any(|index| index.segments.contains(&id));
        if bytes < SMALL_SEGMENT && indexed && !is_being_written(dir, id)? {
            small.push((id, bytes));
        }
    }
    let merges_segments = small.len() > MAX_SMALL_FILES;
    if merges_segments {
        let mut rest = &small[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let take = rest.iter().take_while(|(_, more)| {
                bytes += more;
                bytes <= MAX_BYTES / 2
            });
            let (now, later) = rest.split_at(take.count().max(1));
            merge_segments(dir, now)?;
            rest = later;
        }
        view.refresh(dir, true)?;
    }
    Ok(merge_indexes(dir, &view)? || merges_segments)
}

/// Copies the intact records of several segments into a new one, and removes them.
fn merge_segments(dir: &Path, sources: &[(FileId, u64)]) -> io::Result<()> {
    let newest = sources.iter().map(|(id, _)| id.millis()).max().unwrap_or_default();
    let mut target = Appender::create(dir, FileId::at(newest))?;
    let (mut seen, mut offsets, mut buffer) = (HashSet::new(), Vec::<(Fingerprint, u32)>::new(), Vec::new());
    for (id, _) in sources {
        let file = File::open(id.path(dir, SEGMENT))?;
        scan(&file, 0, |_, record| {
            if seen.insert(record.key) {
                offsets.push((record.key, ((target.len + buffer.len() as u64) / 4) as u32));
                buffer.extend_from_slice(record.bytes);
            }
        })?;
        if let Err((error, _)) = target.append(&buffer) {
            // All sources still exist.
            fs::remove_file(target.id.path(dir, SEGMENT))?;
            return Err(error);
        }
        buffer.clear();
    }
    target.file.sync_data()?;
    index::write(dir, target.id, offsets)?;
    for (id, _) in sources {
        remove_if_there(&id.path(dir, SEGMENT))?;
    }
    Ok(())
}

/// Keeps the number of indexes small: each is to be at least twice as large as all smaller ones together. Each entry is
/// then copied only as often as the cache doubles.
fn merge_indexes(dir: &Path, view: &View) -> io::Result<bool> {
    let exists: HashSet<FileId> = list(dir)?.segments.into_iter().map(|(id, _)| id).collect();
    let mut indexes: Vec<&Index> = view.indexes.iter().map(|index| &**index).collect();
    let mut removed = Vec::new();
    // An index is redundant if all its segments are gone or are listed by another one.
    let mut covered: HashSet<FileId> = HashSet::new();
    indexes.sort_by_key(|index| std::cmp::Reverse(index.segments.len()));
    indexes.retain(|index| {
        let news = index.segments.iter().filter(|id| exists.contains(id) && covered.insert(**id)).count();
        if news == 0 {
            removed.push(index.id);
        }
        news > 0
    });
    indexes.sort_by_key(|index| std::cmp::Reverse(index.len()));
    let has_lost = |index: &&Index| index.segments.iter().any(|id| !exists.contains(id));
    let mut keep = indexes.len();
    if indexes.len() > MAX_SMALL_FILES {
        let mut smaller = 0;
        for (at, index) in indexes.iter().enumerate().rev() {
            if index.len() < 2 * smaller {
                keep = at;
            }
            smaller += index.len();
        }
        keep = keep.min(indexes.len().saturating_sub(2));
    }
    let (kept, mut merged) = (&indexes[..keep], indexes[keep..].to_vec());
    merged.extend(kept.iter().copied().filter(has_lost));
    if !merged.is_empty() {
        index::merge(dir, &merged, &exists)?;
        removed.extend(merged.iter().map(|index| index.id));
    }
    for id in &removed {
        remove_if_there(&id.path(dir, INDEX))?;
    }
    Ok(!removed.is_empty())
}

/// Removes unfinished files of a crash, and damaged indexes.
fn remove_leftovers(dir: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let age = metadata.modified().ok().and_then(|made| now.duration_since(made).ok()).unwrap_or_default();
        let leftover = FileId::of(&path, STAGING).is_some() && age > LEFTOVER_AGE;
        let damaged = match FileId::of(&path, INDEX) {
            Some(id) => matches!(Index::open(dir, id), Ok(None)),
            None => false,
        };
        if leftover || damaged {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

fn is_being_written(dir: &Path, id: FileId) -> io::Result<bool> {
    match File::open(id.path(dir, SEGMENT)) {
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failure(dir: &Path, what: &'static str) -> impl Fn(io::Error) -> CacheError {
    let path = PathBuf::from(dir);
    move |source| CacheError::Io { path: path.clone(), what, source }
}
