//! What an opened cache shares with its background thread: the open segment, the view of the folder, and the work that is
//! left to the thread.

use std::{
    collections::HashSet,
    io,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    index,
    mode::CacheMode,
    segment::{Appender, FileId, MAX_BYTES, MAX_DIMENSIONS, MAX_RECORDS, encode, record_len},
    upkeep,
    view::{Tail, View},
};
use crate::model::{ByDigest, Fingerprint};

/// How long bytes may be the operating system's alone.
pub const SYNC_EVERY: Duration = Duration::from_millis(500);

/// Bytes of records that are written in one go, about: few enough to stay in a core's cache between checksum and copy.
const WRITE: usize = 256 << 10;
/// Segments that may wait for their index.
pub(super) const MOST_SEALING: usize = 2;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) mode: CacheMode,
    pub(super) view: RwLock<View>,
    pub(super) writer: Mutex<Option<Appender>>,
    /// Bytes that are promised to answers on their way; changed while `writer` is held.
    pub(super) promised: AtomicU64,
    pub(super) chores: Mutex<Chores>,
    pub(super) wake: Condvar,
}

/// What the background thread is to do.
#[derive(Debug, Default)]
pub(super) struct Chores {
    pub(super) unsynced: Option<Arc<std::fs::File>>,
    /// Segments that need an index.
    pub(super) full: Vec<Appender>,
    pub(super) tidy: bool,
    pub(super) stop: bool,
    pub(super) failed: Option<io::Error>,
}

/// No state behind these locks is left half-changed by a panic: a thread that finds one poisoned may go on.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn put(&self, entries: &[(Fingerprint, &[f32])]) -> io::Result<()> {
        if let Some(error) = lock(&self.chores).failed.take() {
            return Err(error);
        }
        let fresh = self.not_in_our_segment(entries);
        let bytes: usize = fresh.iter().map(|(_, vector)| record_len(vector.len())).sum();
        let mut buffer = Vec::with_capacity(bytes.min(WRITE + record_len(MAX_DIMENSIONS)));
        let mut rest = &fresh[..];
        while !rest.is_empty() {
            buffer.clear();
            // Before it is our turn to write, so that many threads make checksums at once.
            let mut entries = 0;
            for (key, vector) in rest {
                encode(*key, vector, &mut buffer);
                entries += 1;
                if buffer.len() >= WRITE {
                    break;
                }
            }
            let (now, later) = rest.split_at(entries);
            rest = later;
            self.append(now, &buffer)?;
        }
        Ok(())
    }

    /// Writes records to the open segment in one go, and notes where they lie.
    fn append(&self, entries: &[(Fingerprint, &[f32])], records: &[u8]) -> io::Result<()> {
        let mut writer = lock(&self.writer);
        let full = writer.take_if(|open| {
            open.len + records.len() as u64 > MAX_BYTES || self.open_records() + entries.len() > MAX_RECORDS
        });
        if let Some(full) = full {
            self.retire(full)?;
        }
        let open = self.open_segment(&mut writer)?;
        let mut at = open.len;
        if let Err((error, intact)) = open.append(records) {
            if !intact && let Some(broken) = writer.take() {
                // The index lists what is known to be whole; the next call starts a new segment.
                let _ = self.retire(broken);
            }
            return Err(error);
        }
        let file = Arc::clone(&open.file);
        let places = entries.iter().map(|(key, vector)| {
            let quarter = (at / 4) as u32;
            at += record_len(vector.len()) as u64;
            (*key, quarter)
        });
        self.view_mut().own.get_or_insert_with(|| Tail::new(open.id, Arc::clone(&file))).places.extend(places);
        drop(writer);
        let mut chores = lock(&self.chores);
        if chores.unsynced.replace(file).is_none() {
            self.wake.notify_all();
        }
        Ok(())
    }

    /// The segment that is written; a new one where there is none.
    fn open_segment<'w>(&self, writer: &'w mut Option<Appender>) -> io::Result<&'w mut Appender> {
        match writer {
            Some(open) => Ok(open),
            none => {
                let mut open = Appender::create(&self.dir, FileId::new())?;
                // Room that was promised in the last segment moves along. Where there is none now, writing will tell.
                let _ = open.reserve(self.promised.load(Ordering::Relaxed));
                self.view_mut().own = Some(Tail::new(open.id, Arc::clone(&open.file)));
                Ok(none.insert(open))
            }
        }
    }

    pub(super) fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut writer = lock(&self.writer);
        let promised = self.promised.load(Ordering::Relaxed) + bytes;
        self.open_segment(&mut writer)?.reserve(promised)?;
        self.promised.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The entries without those that were just stored: two partitions may have asked for the same text at once.
    fn not_in_our_segment<'a>(&self, entries: &[(Fingerprint, &'a [f32])]) -> Vec<(Fingerprint, &'a [f32])> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let stored = |key| view.ours().any(|ours| ours.places.contains_key(key));
        let mut seen = HashSet::with_capacity_and_hasher(entries.len(), ByDigest::default());
        entries.iter().filter(|(key, _)| !stored(key) && seen.insert(*key)).copied().collect()
    }

    fn open_records(&self) -> usize {
        self.view.read().unwrap_or_else(PoisonError::into_inner).own.as_ref().map_or(0, |own| own.places.len())
    }

    /// Closes our segment. The thread makes its index, as long as it keeps up: what waits is in memory.
    fn retire(&self, mut full: Appender) -> io::Result<()> {
        full.give_back();
        let waiting = {
            let mut view = self.view_mut();
            let own = view.own.take();
            view.sealing.extend(own);
            view.sealing.len()
        };
        if waiting > MOST_SEALING {
            return self.seal(&full);
        }
        lock(&self.chores).full.push(full);
        self.wake.notify_all();
        Ok(())
    }

    /// Makes a segment of ours last, and moves its keys from memory to an index file.
    pub(super) fn seal(&self, full: &Appender) -> io::Result<()> {
        full.file.sync_data()?;
        let places = {
            let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
            let tail = view.ours().find(|tail| tail.id == full.id);
            tail.map_or_else(Vec::new, |tail| tail.places.iter().map(|(key, place)| (*key, *place)).collect())
        };
        index::write(&self.dir, full.id, places)?;
        self.view_mut().sealed(&self.dir, full.id)
    }

    pub(super) fn refresh(&self) -> io::Result<()> {
        self.view_mut().refresh(&self.dir, self.mode == CacheMode::ReadWrite)
    }

    pub(super) fn view_mut(&self) -> std::sync::RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The background thread: brings bytes to the disk, and merges small files when there are many.
    pub(super) fn keep(&self) {
        let mut chores = lock(&self.chores);
        loop {
            while chores.unsynced.is_none() && chores.full.is_empty() && !chores.tidy && !chores.stop {
                chores = self.wake.wait(chores).unwrap_or_else(PoisonError::into_inner);
            }
            if chores.stop {
                return;
            }
            if let Some(full) = chores.full.pop() {
                drop(chores);
                let sealed = self.seal(&full);
                chores = lock(&self.chores);
                match sealed {
                    Ok(()) => chores.tidy = true,
                    Err(error) => chores.failed = Some(error),
                }
                continue;
            }
            if std::mem::take(&mut chores.tidy) {
                drop(chores);
                // Tidying is for speed. What stands in its way now may be gone next time.
                if upkeep::tidy(&self.dir).is_ok_and(|changed| changed) {
                    let _ = self.refresh();
                }
                chores = lock(&self.chores);
            }
            // Many calls share one trip to the disk.
            chores = self
                .wake
                .wait_timeout_while(chores, SYNC_EVERY, |chores| !chores.stop && chores.full.is_empty())
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            if let Some(file) = chores.unsynced.take() {
                drop(chores);
                let result = file.sync_data();
                chores = lock(&self.chores);
                if let Err(error) = result {
                    chores.failed = Some(error);
                }
            }
        }
    }
}
