//! The state of an opened cache that its background thread shares: the open segment, the view of the folder, and the pending
//! work of the thread.

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
    claims::{Claims, REFRESH_EVERY},
    index, maintenance,
    mode::CacheMode,
    segment::{Appender, FileId, MAX_BYTES, MAX_RECORDS, MAX_VALUE, encode, record_len},
    view::{Unindexed, View},
};
use crate::model::{ByDigest, Fingerprint};

/// The longest time until written bytes are synced to the disk.
pub const SYNC_EVERY: Duration = Duration::from_millis(500);

/// Approximate bytes of one write: few enough to stay in the CPU cache between checksum and copy.
const WRITE_BYTES: usize = 256 << 10;
/// The most segments that may wait for their index.
pub(super) const MAX_SEALING: usize = 2;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) mode: CacheMode,
    pub(super) view: RwLock<View>,
    pub(super) writer: Mutex<Option<Appender>>,
    /// Bytes reserved for responses in flight; changed while `writer` is locked.
    pub(super) reserved_bytes: AtomicU64,
    pub(super) pending: Mutex<PendingWork>,
    pub(super) wake: Condvar,
    pub(super) claims: Claims,
}

/// Work for the background thread.
#[derive(Debug, Default)]
pub(super) struct PendingWork {
    pub(super) unsynced: Option<Arc<std::fs::File>>,
    /// Closed segments that need an index.
    pub(super) full: Vec<Appender>,
    pub(super) compact: bool,
    pub(super) stop: bool,
    pub(super) failed: Option<io::Error>,
}

/// Locks a mutex, poisoned or not: a panic leaves no state behind these mutexes inconsistent.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn put(&self, entries: &[(Fingerprint, &[u8])]) -> io::Result<()> {
        if let Some(error) = lock(&self.pending).failed.take() {
            return Err(error);
        }
        let fresh = self.without_stored(entries);
        let bytes: usize = fresh.iter().map(|(_, value)| record_len(value.len())).sum();
        let mut buffer = Vec::with_capacity(bytes.min(WRITE_BYTES + record_len(MAX_VALUE)));
        let mut rest = &fresh[..];
        while !rest.is_empty() {
            buffer.clear();
            // Encoded before the lock is taken, so that threads compute checksums in parallel.
            let mut entries = 0;
            for (key, value) in rest {
                encode(*key, value, &mut buffer);
                entries += 1;
                if buffer.len() >= WRITE_BYTES {
                    break;
                }
            }
            let (now, later) = rest.split_at(entries);
            rest = later;
            self.append(now, &buffer)?;
        }
        Ok(())
    }

    /// Writes records to the open segment in one call, and adds their offsets to the view.
    fn append(&self, entries: &[(Fingerprint, &[u8])], records: &[u8]) -> io::Result<()> {
        let mut writer = lock(&self.writer);
        let full = writer.take_if(|open| {
            open.len + records.len() as u64 > MAX_BYTES || self.open_segment_records() + entries.len() > MAX_RECORDS
        });
        if let Some(full) = full {
            self.close_segment(full)?;
        }
        let open = self.open_segment(&mut writer)?;
        let mut at = open.len;
        if let Err((error, intact)) = open.append(records) {
            if !intact && let Some(broken) = writer.take() {
                // The index lists the complete records; the next call starts a new segment.
                let _ = self.close_segment(broken);
            }
            return Err(error);
        }
        let file = Arc::clone(&open.file);
        let offsets = entries.iter().map(|(key, value)| {
            let quarter = (at / 4) as u32;
            at += record_len(value.len()) as u64;
            (*key, quarter)
        });
        self.view_mut().own.get_or_insert_with(|| Unindexed::new(open.id, Arc::clone(&file))).offsets.extend(offsets);
        drop(writer);
        let mut pending = lock(&self.pending);
        if pending.unsynced.replace(file).is_none() {
            self.wake.notify_all();
        }
        Ok(())
    }

    /// The open segment; a new one if there is none.
    fn open_segment<'w>(&self, writer: &'w mut Option<Appender>) -> io::Result<&'w mut Appender> {
        match writer {
            Some(open) => Ok(open),
            none => {
                let mut open = Appender::create(&self.dir, FileId::new())?;
                // Reservations made in the last segment move to this one. If the space is gone, the write reports it.
                let _ = open.reserve(self.reserved_bytes.load(Ordering::Relaxed));
                self.view_mut().own = Some(Unindexed::new(open.id, Arc::clone(&open.file)));
                Ok(none.insert(open))
            }
        }
    }

    pub(super) fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut writer = lock(&self.writer);
        let reserved_bytes = self.reserved_bytes.load(Ordering::Relaxed) + bytes;
        self.open_segment(&mut writer)?.reserve(reserved_bytes)?;
        self.reserved_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The entries without those of our segments: two partitions may have requested the same text at once.
    fn without_stored<'a>(&self, entries: &[(Fingerprint, &'a [u8])]) -> Vec<(Fingerprint, &'a [u8])> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let stored = |key| view.ours().any(|ours| ours.offsets.contains_key(key));
        let mut seen = HashSet::with_capacity_and_hasher(entries.len(), ByDigest::default());
        entries.iter().filter(|(key, _)| !stored(key) && seen.insert(*key)).copied().collect()
    }

    fn open_segment_records(&self) -> usize {
        self.view.read().unwrap_or_else(PoisonError::into_inner).own.as_ref().map_or(0, |own| own.offsets.len())
    }

    /// Closes the open segment. The thread writes its index, unless it falls behind: keys without an index are in memory.
    fn close_segment(&self, mut full: Appender) -> io::Result<()> {
        full.release_unused();
        let waiting = {
            let mut view = self.view_mut();
            let own = view.own.take();
            view.sealing.extend(own);
            view.sealing.len()
        };
        if waiting > MAX_SEALING {
            return self.seal(&full);
        }
        lock(&self.pending).full.push(full);
        self.wake.notify_all();
        Ok(())
    }

    /// Syncs a closed segment, and moves its keys from memory to an index file.
    pub(super) fn seal(&self, full: &Appender) -> io::Result<()> {
        full.file.sync_data()?;
        let offsets = {
            let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
            let segment = view.ours().find(|segment| segment.id == full.id);
            segment
                .map_or_else(Vec::new, |segment| segment.offsets.iter().map(|(key, offset)| (*key, *offset)).collect())
        };
        index::write(&self.dir, full.id, offsets)?;
        self.view_mut().sealed(&self.dir, full.id)
    }

    pub(super) fn refresh(&self) -> io::Result<()> {
        self.view_mut().refresh(&self.dir, self.mode == CacheMode::ReadWrite)
    }

    pub(super) fn view_mut(&self) -> std::sync::RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The background thread: syncs written bytes, indexes closed segments, and merges small files when there are
    /// many. Tells other processes what is claimed.
    pub(super) fn run_background(&self) {
        let mut pending = lock(&self.pending);
        loop {
            while pending.unsynced.is_none() && pending.full.is_empty() && !pending.compact && !pending.stop {
                pending = if self.claims.any() {
                    self.wake.wait_timeout(pending, REFRESH_EVERY).unwrap_or_else(PoisonError::into_inner).0
                } else {
                    self.wake.wait(pending).unwrap_or_else(PoisonError::into_inner)
                };
                self.claims.tell_from_time_to_time();
            }
            if pending.stop {
                return;
            }
            self.claims.tell_from_time_to_time();
            if let Some(full) = pending.full.pop() {
                drop(pending);
                let sealed = self.seal(&full);
                pending = lock(&self.pending);
                match sealed {
                    Ok(()) => pending.compact = true,
                    Err(error) => pending.failed = Some(error),
                }
                continue;
            }
            if std::mem::take(&mut pending.compact) {
                drop(pending);
                // Compaction only saves time; after a failure it is tried again later.
                if maintenance::compact(&self.dir).is_ok_and(|changed| changed) {
                    let _ = self.refresh();
                }
                pending = lock(&self.pending);
            }
            // Many puts share one sync.
            pending = self
                .wake
                .wait_timeout_while(pending, SYNC_EVERY, |pending| !pending.stop && pending.full.is_empty())
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            if let Some(file) = pending.unsynced.take() {
                drop(pending);
                let result = file.sync_data();
                pending = lock(&self.pending);
                if let Err(error) = result {
                    pending.failed = Some(error);
                }
            }
        }
    }
}
