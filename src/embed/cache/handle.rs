//! An opened cache: look-ups, puts and reservations of all threads of a process.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use super::{
    error::CacheError,
    mode::CacheMode,
    segment::{FileId, MAX_DIMENSIONS, STAGING, record_len},
    shared::{Chores, Shared, lock},
    view::{self, View},
};
use crate::model::{Fingerprint, Namer};

/// A cache folder, opened. Cheap to share behind an [`Arc`]; all methods may be called from many threads. They do
/// blocking I/O of at most a few milliseconds for a few thousand vectors.
#[derive(Debug)]
pub struct EmbeddingCache {
    pub(super) namer: Namer,
    pub(super) mode: CacheMode,
    pub(super) shared: Arc<Shared>,
    pub(super) keeper: Option<JoinHandle<()>>,
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
                let trial = FileId::new().path(dir, STAGING);
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

    pub(super) fn view(&self) -> std::sync::RwLockReadGuard<'_, View> {
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
