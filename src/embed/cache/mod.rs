//! The embedding cache: vectors that were paid for, found again by what they were made from.
//!
//! Owns the folder `cache: {path}`: what is written when, and what is believed when it is read back. Must not know
//! providers, prices or partitions.
//!
//! The cache is also the journal of paid work. [`EmbeddingCache::put_many`] returns when the operating system has the
//! bytes, so that a killed process loses nothing; a thread brings them to the disk within [`SYNC_EVERY`], so that a
//! power failure loses half a second. Every process appends to segments of its own ([`segment`]) and nothing is
//! changed in place, so that any number of processes may share a folder. Sorted indexes ([`index`]) are mapped, not
//! loaded, and let go when much of them was looked at: memory does not grow with the cache, save for the keys of the
//! segments that have no index yet.

mod index;
mod segment;
mod upkeep;
mod view;

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

pub use upkeep::{CacheStats, GcPolicy, GcReport, VerifyReport, gc, stats, verify};

use self::{
    segment::{Appender, FileId, MAX_BYTES, MAX_DIMENSIONS, MAX_RECORDS, encode, record_len},
    view::{Tail, View},
};
use super::EmbedError;
use crate::model::{ByDigest, Fingerprint, Namer};

/// How long bytes may be the operating system's alone.
pub const SYNC_EVERY: Duration = Duration::from_millis(500);

/// Bytes of records that are written in one go, about: few enough to stay in a core's cache between checksum and copy.
const WRITE: usize = 256 << 10;
/// Segments that may wait for their index.
const MOST_SEALING: usize = 2;

/// What may be done with a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Look up and store.
    #[default]
    ReadWrite,
    /// Look up only. Nothing in the folder is written, not even a missing index.
    Read,
    /// Neither: every look-up misses, every store does nothing.
    Off,
}

impl CacheMode {
    /// The words under `cache: {mode}`.
    pub const WORDS: &'static [&'static str] = &["readwrite", "read", "off"];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "readwrite",
            Self::Read => "read",
            Self::Off => "off",
        }
    }

    /// Reads one of [`CacheMode::WORDS`].
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "readwrite" => Some(Self::ReadWrite),
            "read" => Some(Self::Read),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// Why the cache could not be used. A damaged file is no reason: what it lost counts as never stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The folder or a file in it cannot be read or written.
    #[error("the embedding cache at {} cannot be {what}: {source}", path.display())]
    Io {
        /// The cache's folder.
        path: PathBuf,
        /// `read` or `written`.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A vector without numbers, or with more than a record holds.
    #[error("a vector of {0} numbers cannot be stored in the embedding cache (1 to {MAX_DIMENSIONS} can)")]
    Length(usize),
}

impl From<CacheError> for EmbedError {
    /// Going on without the cache would be paying for what a crash then loses: the run stops and can be taken up again.
    fn from(error: CacheError) -> Self {
        Self::Stopped(error.to_string())
    }
}

/// Room for vectors that are to be stored, given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Reserved {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shared.promised.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A cache folder, opened. Cheap to share behind an [`Arc`]; all methods may be called from many threads. They do
/// blocking I/O of at most a few milliseconds for a few thousand vectors.
#[derive(Debug)]
pub struct EmbeddingCache {
    namer: Namer,
    mode: CacheMode,
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    mode: CacheMode,
    view: RwLock<View>,
    writer: Mutex<Option<Appender>>,
    /// Bytes that are promised to answers on their way; changed while `writer` is held.
    promised: AtomicU64,
    chores: Mutex<Chores>,
    wake: Condvar,
}

/// What the background thread is to do.
#[derive(Debug, Default)]
struct Chores {
    unsynced: Option<Arc<std::fs::File>>,
    /// Segments that need an index.
    full: Vec<Appender>,
    tidy: bool,
    stop: bool,
    failed: Option<io::Error>,
}

impl EmbeddingCache {
    /// Opens a cache, making its folder where it may write. Segments that a killed process left without an index get
    /// one, which takes about a tenth of a second for each.
    ///
    /// `identity` says everything besides the text that the vectors depend on.
    ///
    /// # Errors
    /// When the folder cannot be made, listed or written.
    pub fn open(dir: &Path, identity: Fingerprint, mode: CacheMode) -> Result<Self, CacheError> {
        let writes = mode == CacheMode::ReadWrite;
        let fail =
            |source| CacheError::Io { path: dir.to_path_buf(), what: if writes { "written" } else { "read" }, source };
        if writes {
            std::fs::create_dir_all(dir).map_err(fail)?;
        }
        let mut view = View::default();
        if mode != CacheMode::Off {
            view.refresh(dir, writes).map_err(fail)?;
        }
        let tidy = writes && view.is_untidy();
        let shared = Arc::new(Shared {
            dir: dir.to_path_buf(),
            mode,
            view: RwLock::new(view),
            writer: Mutex::default(),
            promised: AtomicU64::new(0),
            chores: Mutex::new(Chores { tidy, ..Chores::default() }),
            wake: Condvar::new(),
        });
        let keeper = if writes {
            let shared = Arc::clone(&shared);
            Some(
                std::thread::Builder::new()
                    .name("embedding-cache".into())
                    .spawn(move || shared.keep())
                    .map_err(fail)?,
            )
        } else {
            None
        };
        // What is not kept needs no name that another process could find it by.
        let namer = if mode == CacheMode::Off { Namer::ephemeral } else { Namer::new };
        Ok(Self { namer: namer("embedding", identity), mode, shared, keeper })
    }

    /// Tries whether a folder could be opened with this mode and, where it may be written, takes some bytes. Leaves nothing
    /// behind but the folder.
    ///
    /// # Errors
    /// When it could not.
    pub fn check(dir: &Path, mode: CacheMode) -> Result<(), CacheError> {
        const TRIAL: usize = 64 << 10;
        let fail = |what| move |source| CacheError::Io { path: dir.to_path_buf(), what, source };
        match mode {
            CacheMode::Off => Ok(()),
            CacheMode::Read => view::list(dir).map(drop).map_err(fail("read")),
            CacheMode::ReadWrite => {
                let trial = FileId::new().path(dir, segment::STAGING);
                let tried = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&trial, vec![0xa5; TRIAL]));
                // What cannot be removed now goes when the folder is tidied.
                let _ = std::fs::remove_file(&trial);
                tried.map_err(fail("written"))
            }
        }
    }

    /// Makes sure that so many vectors can be stored, before they are paid for; `None` where nothing is stored.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn reserve(&self, vectors: usize, dimensions: usize) -> Result<Option<Reserved>, CacheError> {
        if self.mode != CacheMode::ReadWrite {
            return Ok(None);
        }
        let bytes = vectors as u64 * record_len(dimensions) as u64;
        self.shared.reserve(bytes).map_err(|source| self.cannot_write(source))?;
        Ok(Some(Reserved { shared: Arc::clone(&self.shared), bytes }))
    }

    /// What may be done with it.
    pub fn mode(&self) -> CacheMode {
        self.mode
    }

    /// The key under which a text's vector is stored; without a cache, one that holds in this process only.
    pub fn key(&self, text: &str) -> Fingerprint {
        self.namer.of(text)
    }

    /// Calls `found` with the position in `keys` and the vector, once for each key that is stored, in any order.
    ///
    /// # Errors
    /// When the folder cannot be read. A record that cannot be read, or is not what was written, is a miss.
    pub fn get_many(&self, keys: &[Fingerprint], found: &mut dyn FnMut(usize, &[f32])) -> Result<(), CacheError> {
        if self.mode == CacheMode::Off {
            return Ok(());
        }
        let mut done = vec![false; keys.len()];
        let mut deliver = |slot: usize, vector: &[f32]| {
            done[slot] = true;
            found(slot, vector);
        };
        let all: Vec<(usize, Fingerprint)> = keys.iter().copied().enumerate().collect();
        let files_were_gone = self.view().read(&self.shared.dir, &all, &mut deliver);
        if files_were_gone {
            // Another process has merged segments since we looked; what they held is in newer ones.
            self.refresh()?;
            let rest: Vec<_> = all.into_iter().filter(|(slot, _)| !done[*slot]).collect();
            self.view().read(&self.shared.dir, &rest, &mut |slot, vector| found(slot, vector));
        }
        Ok(())
    }

    /// For each key whether a vector is stored, from the indexes alone.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn contains_many(&self, keys: &[Fingerprint]) -> Result<Vec<bool>, CacheError> {
        let view = self.view();
        Ok(keys.iter().map(|key| view.contains(*key)).collect())
    }

    /// Stores vectors. When it returns, they survive the death of the process.
    ///
    /// # Errors
    /// When they cannot be written (those before the one that could not are then stored), when an earlier call's bytes
    /// could not be brought to the disk, or when a vector has no numbers or too many.
    pub fn put_many(&self, entries: &[(Fingerprint, &[f32])]) -> Result<(), CacheError> {
        if let Some((_, vector)) = entries.iter().find(|(_, vector)| vector.is_empty() || vector.len() > MAX_DIMENSIONS)
        {
            return Err(CacheError::Length(vector.len()));
        }
        if self.mode != CacheMode::ReadWrite || entries.is_empty() {
            return Ok(());
        }
        self.shared.put(entries).map_err(|source| self.cannot_write(source))
    }

    /// Waits until everything stored is on the disk.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn flush(&self) -> Result<(), CacheError> {
        let files: Vec<_> = self.view().ours().map(|ours| Arc::clone(&ours.file)).collect();
        files.iter().try_for_each(|file| file.sync_data()).map_err(|source| self.cannot_write(source))?;
        let mut chores = lock(&self.shared.chores);
        chores.failed.take().map_or(Ok(()), |source| Err(self.cannot_write(source)))
    }

    /// Looks again at what other processes have stored.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn refresh(&self) -> Result<(), CacheError> {
        if self.mode == CacheMode::Off {
            return Ok(());
        }
        self.shared.refresh().map_err(|source| CacheError::Io { path: self.shared.dir.clone(), what: "read", source })
    }

    fn view(&self) -> std::sync::RwLockReadGuard<'_, View> {
        self.shared.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn cannot_write(&self, source: io::Error) -> CacheError {
        CacheError::Io { path: self.shared.dir.clone(), what: "written", source }
    }
}

impl Drop for EmbeddingCache {
    fn drop(&mut self) {
        lock(&self.shared.chores).stop = true;
        self.shared.wake.notify_all();
        if let Some(keeper) = self.keeper.take() {
            // A panic in the thread has nothing to say that a flush would not have said.
            let _ = keeper.join();
        }
        let full = std::mem::take(&mut lock(&self.shared.chores).full);
        for mut writer in full.into_iter().chain(lock(&self.shared.writer).take()) {
            writer.give_back();
            // Without an index the next process makes one; nothing is lost.
            let _ = self.shared.seal(&writer);
        }
    }
}

/// No state behind these locks is left half-changed by a panic: a thread that finds one poisoned may go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn put(&self, entries: &[(Fingerprint, &[f32])]) -> io::Result<()> {
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

    fn reserve(&self, bytes: u64) -> io::Result<()> {
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
    fn seal(&self, full: &Appender) -> io::Result<()> {
        full.file.sync_data()?;
        let places = {
            let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
            let tail = view.ours().find(|tail| tail.id == full.id);
            tail.map_or_else(Vec::new, |tail| tail.places.iter().map(|(key, place)| (*key, *place)).collect())
        };
        index::write(&self.dir, full.id, places)?;
        self.view_mut().sealed(&self.dir, full.id)
    }

    fn refresh(&self) -> io::Result<()> {
        self.view_mut().refresh(&self.dir, self.mode == CacheMode::ReadWrite)
    }

    fn view_mut(&self) -> std::sync::RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The background thread: brings bytes to the disk, and merges small files when there are many.
    fn keep(&self) {
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

#[cfg(test)]
mod tests;
