//! An opened cache: look-ups, puts and reservations of all threads of a process.

use std::{
    io::{self, Write as _},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use super::{
    claims::Claims,
    error::CacheError,
    mode::CacheMode,
    segment::{FileId, MAX_VALUE, STAGING, WORD, create_folder, new_file, record_len},
    shared::{PendingWork, Shared, lock},
    view::{self, View},
};
use crate::model::{Fingerprint, Namer};

/// An opened cache folder, for use by many threads. Methods do blocking I/O: a few milliseconds for a few thousand
/// values.
#[derive(Debug)]
pub struct Store {
    pub(super) namer: Namer,
    pub(super) mode: CacheMode,
    pub(super) shared: Arc<Shared>,
    pub(super) background: Option<JoinHandle<()>>,
}

/// Of keys that were not found: what to do about each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// To be requested by this process: no other one does until [`Store::release`].
    Ours,
    /// Another process is requesting it.
    Elsewhere,
    /// It was stored meanwhile.
    Stored,
}

/// Disk space for values that are to be stored, released when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct DiskReservation {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Drop for DiskReservation {
    fn drop(&mut self) {
        self.shared.reserved_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Store {
    /// Opens a cache, and creates its folder if it may be written. Segments that a killed process left without an index get
    /// one, which takes about a tenth of a second each.
    ///
    /// `domain` names the kind of values, and `identity` is a digest of everything that they depend on besides what
    /// [`Store::key`] is passed.
    ///
    /// # Errors
    /// When the folder cannot be created, listed or written.
    pub fn open(dir: &Path, domain: &str, identity: Fingerprint, mode: CacheMode) -> Result<Self, CacheError> {
        let writes = mode == CacheMode::ReadWrite;
        let fail =
            |source| CacheError::Io { path: dir.to_path_buf(), what: if writes { "written" } else { "read" }, source };
        if writes {
            create_folder(dir).map_err(fail)?;
        }
        let mut view = View::default();
        if mode != CacheMode::Off {
            view.refresh(dir, writes).map_err(fail)?;
        }
        let compact = writes && view.needs_compaction();
        let shared = Arc::new(Shared {
            dir: dir.to_path_buf(),
            mode,
            view: RwLock::new(view),
            writer: Mutex::default(),
            reserved_bytes: AtomicU64::new(0),
            pending: Mutex::new(PendingWork { compact, ..PendingWork::default() }),
            wake: Condvar::new(),
            claims: Claims::new(dir),
        });
        let background = if writes {
            let shared = Arc::clone(&shared);
            Some(
                std::thread::Builder::new()
                    .name("answer-cache".into())
                    .spawn(move || shared.run_background())
                    .map_err(fail)?,
            )
        } else {
            None
        };
        // Keys of values that are not stored are valid in this process only.
        let namer = if mode == CacheMode::Off { Namer::ephemeral } else { Namer::new };
        Ok(Self { namer: namer(domain, identity), mode, shared, background })
    }

    /// Checks that a folder can be opened in this mode and, if it may be written, that a file can be. Leaves only the folder
    /// behind.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(dir: &Path, mode: CacheMode) -> Result<(), CacheError> {
        const TRIAL: usize = 64 << 10;
        let fail = |what| move |source| CacheError::Io { path: dir.to_path_buf(), what, source };
        match mode {
            CacheMode::Off => Ok(()),
            CacheMode::Read => view::list(dir).map(drop).map_err(fail("read")),
            CacheMode::ReadWrite => {
                let trial = FileId::new().path(dir, STAGING);
                let tried = create_folder(dir).and_then(|()| {
                    let mut file = new_file(dir).create_new(true).open(&trial)?;
                    file.write_all(&vec![0xa5; TRIAL])
                });
                // If it cannot be removed now, compaction removes it.
                let _ = std::fs::remove_file(&trial);
                tried.map_err(fail("written"))
            }
        }
    }

    /// Reserves disk space for `values` values of `bytes` bytes each, before they are paid for; `None` if nothing is stored.
    ///
    /// # Errors
    /// When the disk has not enough free space.
    pub fn reserve(&self, values: usize, bytes: usize) -> Result<Option<DiskReservation>, CacheError> {
        if self.mode != CacheMode::ReadWrite {
            return Ok(None);
        }
        let bytes = values as u64 * record_len(bytes) as u64;
        self.shared.reserve(bytes).map_err(|source| self.cannot_write(source))?;
        Ok(Some(DiskReservation { shared: Arc::clone(&self.shared), bytes }))
    }

    /// Its mode.
    pub fn mode(&self) -> CacheMode {
        self.mode
    }

    /// The key of a text's value; with [`CacheMode::Off`], one that is valid in this process only.
    pub fn key(&self, text: &str) -> Fingerprint {
        self.namer.of(text)
    }

    /// Calls `found` with the position in `keys` and the value, once for each stored key, in any order.
    ///
    /// # Errors
    /// When the folder cannot be read. A record that cannot be read or fails its check is a miss.
    pub fn get_many(&self, keys: &[Fingerprint], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), CacheError> {
        if self.mode == CacheMode::Off {
            return Ok(());
        }
        let mut done = vec![false; keys.len()];
        let mut deliver = |slot: usize, value: &[u8]| {
            done[slot] = true;
            found(slot, value);
        };
        let all: Vec<(usize, Fingerprint)> = keys.iter().copied().enumerate().collect();
        let files_were_gone = self.view().read(&self.shared.dir, &all, &mut deliver);
        if files_were_gone {
            // Another process has merged segments since the last refresh; their records are in newer ones.
            self.refresh()?;
            let rest: Vec<_> = all.into_iter().filter(|(slot, _)| !done[*slot]).collect();
            self.view().read(&self.shared.dir, &rest, &mut |slot, value| found(slot, value));
        }
        Ok(())
    }

    /// Whether a value is stored for each key, by the indexes alone.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn contains_many(&self, keys: &[Fingerprint]) -> Result<Vec<bool>, CacheError> {
        let view = self.view();
        Ok(keys.iter().map(|key| view.contains(*key)).collect())
    }

    /// Claims keys that were looked up and not found, before their values are requested: processes that share the folder
    /// share what they are requesting. Until [`Store::release`], other processes are told so. A cache that is not
    /// written shares nothing. With `even_if_stored`, what is stored is of no use and requested again.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn claim(&self, keys: &[Fingerprint], even_if_stored: bool) -> Result<Vec<Claimed>, CacheError> {
        let ours = || Ok(vec![Claimed::Ours; keys.len()]);
        if self.mode != CacheMode::ReadWrite || keys.is_empty() {
            return ours();
        }
        // What cannot be shared is requested by each for itself.
        let Some(taking) = self.shared.claims.begin() else { return ours() };
        // Claims were read first: what is released after that is stored by now.
        if taking.changed {
            self.refresh()?;
        }
        let of = |(key, stored): (&Fingerprint, bool)| match stored {
            true if !even_if_stored => Claimed::Stored,
            _ if taking.theirs.contains(key) => Claimed::Elsewhere,
            _ => Claimed::Ours,
        };
        let claimed: Vec<Claimed> = keys.iter().zip(self.contains_many(keys)?).map(of).collect();
        let ours = keys.iter().zip(&claimed).filter(|(_, claimed)| **claimed == Claimed::Ours);
        taking.take(ours.map(|(key, _)| *key));
        self.shared.wake.notify_all();
        Ok(claimed)
    }

    /// Gives up claims: the values are stored, or are not requested any more.
    pub fn release<'k>(&self, keys: impl Iterator<Item = &'k Fingerprint>) {
        self.shared.claims.release(keys);
    }

    /// Stores values. After it returns, they survive a kill of the process.
    ///
    /// # Errors
    /// When they cannot be written (those before the failed one are stored), when syncing an earlier call's bytes failed, or
    /// when the length of a value is zero, no multiple of four, or more than [`MAX_VALUE`].
    pub fn put_many(&self, entries: &[(Fingerprint, &[u8])]) -> Result<(), CacheError> {
        let fits = |value: &[u8]| !value.is_empty() && value.len() <= MAX_VALUE && value.len().is_multiple_of(WORD);
        if let Some((_, value)) = entries.iter().find(|(_, value)| !fits(value)) {
            let why =
                format!("a value of {} bytes cannot be stored in the cache (expected up to {MAX_VALUE})", value.len());
            return Err(CacheError::Length(why));
        }
        if self.mode != CacheMode::ReadWrite || entries.is_empty() {
            return Ok(());
        }
        self.shared.put(entries).map_err(|source| self.cannot_write(source))
    }

    /// Syncs everything stored to the disk.
    ///
    /// # Errors
    /// When syncing fails, or failed since the last call.
    pub fn flush(&self) -> Result<(), CacheError> {
        let files: Vec<_> = self.view().ours().map(|ours| Arc::clone(&ours.file)).collect();
        files.iter().try_for_each(|file| file.sync_data()).map_err(|source| self.cannot_write(source))?;
        let mut pending = lock(&self.shared.pending);
        pending.failed.take().map_or(Ok(()), |source| Err(self.cannot_write(source)))
    }

    /// Finds what other processes have stored since.
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

impl Drop for Store {
    fn drop(&mut self) {
        lock(&self.shared.pending).stop = true;
        self.shared.wake.notify_all();
        if let Some(background) = self.background.take() {
            // Errors of the thread were reported by `flush`.
            let _ = background.join();
        }
        let full = std::mem::take(&mut lock(&self.shared.pending).full);
        for mut writer in full.into_iter().chain(lock(&self.shared.writer).take()) {
            writer.release_unused();
            // If the index is not written, the next process writes it.
            let _ = self.shared.seal(&writer);
        }
    }
}
