//! What processes that share a cache folder are requesting: each tells its keys in a file of its own, so that no two
//! request the same text at once.
//!
//! Owns the folder `claims` of a cache. Must not know what is stored. The file of a process is locked while the process
//! lives: a claim of a dead process counts for nothing. Claims are taken under one lock for all processes, which is held
//! for a look-up and never for a request. Claims only save money: where a lock cannot be taken in time, or files cannot be
//! written, a process goes on without them.

use std::{
    collections::HashSet,
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::segment::{FileId, new_file};
use crate::model::{ByDigest, Fingerprint};

const FOLDER: &str = "claims";
const LOCK: &str = "claims.lock";
const ENDING: &str = "claim";
/// How long taking claims waits for other processes that take theirs.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a process that has claims shows that it goes on.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// Claims of a process that has not done so for this long count for nothing: it is stopped.
const STALE_AFTER: Duration = Duration::from_secs(30);

type Keys = HashSet<Fingerprint, ByDigest>;

/// The claims of this process on one folder.
#[derive(Debug)]
pub(super) struct Claims {
    dir: PathBuf,
    own: Mutex<Own>,
}

#[derive(Debug, Default)]
struct Own {
    keys: Keys,
    file: Option<(FileId, File)>,
    /// Whether keys were released since the file was written.
    stale: bool,
    /// When it was last written.
    told: Option<Instant>,
    /// The folder of the cache when it was last looked at, and whether there were other processes.
    seen: Option<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    changed: SystemTime,
    alone: bool,
}

/// The right to take claims, and what other processes have claimed.
#[derive(Debug)]
pub(super) struct Taking<'c> {
    claims: &'c Claims,
    _lock: File,
    pub(super) theirs: Keys,
    /// Whether other processes may have stored something since the last time.
    pub(super) changed: bool,
}

impl Claims {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.join(FOLDER), own: Mutex::default() }
    }

    fn own(&self) -> std::sync::MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who may use the folder of the cache may use this one.
    fn create_folder(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
            let parent = fs::metadata(self.dir.parent().unwrap_or(&self.dir))?;
            builder.mode(parent.mode() & 0o777);
        }
        match builder.create(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Begins to take claims; `None` when that is not possible here and now.
    pub(super) fn begin(&self) -> Option<Taking<'_>> {
        self.try_begin().inspect_err(|error| tracing::debug!(%error, "claims cannot be shared")).ok()
    }

    fn try_begin(&self) -> io::Result<Taking<'_>> {
        self.create_folder()?;
        let lock = new_file(&self.dir).create(true).truncate(false).open(self.dir.join(LOCK))?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut own = self.own();
        if own.file.is_none() {
            let id = FileId::new();
            let file = new_file(&self.dir).create_new(true).open(id.path(&self.dir, ENDING))?;
            // Nobody looks at it unlocked: they hold the lock that we hold now.
            file.lock()?;
            own.file = Some((id, file));
        }
        let ours = own.file.as_ref().map(|(id, _)| *id);
        let mut theirs = Keys::default();
        let mut alone = true;
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            match FileId::of(&path, ENDING) {
                Some(id) if Some(id) != ours => alone &= !read_claims(&path, &mut theirs)?,
                _ => {}
            }
        }
        // A process that came and went left segments, which changed the cache's folder.
        let changed = fs::metadata(self.dir.parent().unwrap_or(&self.dir))?.modified()?;
        let seen = Seen { changed, alone };
        let recent = changed.elapsed().map_or(true, |age| age < Duration::from_secs(1));
        let changed = !alone || recent || own.seen != Some(seen);
        own.seen = Some(seen);
        drop(own);
        Ok(Taking { claims: self, _lock: lock, theirs, changed })
    }

    /// Gives up claims: what was requested is stored, or will not be. Others learn it within [`REFRESH_EVERY`].
    pub(super) fn release<'k>(&self, keys: impl Iterator<Item = &'k Fingerprint>) {
        let mut own = self.own();
        for key in keys {
            own.stale |= own.keys.remove(key);
        }
    }

    /// True while this process has claims, or its file still lists some.
    pub(super) fn any(&self) -> bool {
        let own = self.own();
        own.stale || !own.keys.is_empty()
    }

    /// Tells others what is claimed now, and that this process goes on, if that was not done just before.
    pub(super) fn tell_from_time_to_time(&self) {
        let mut own = self.own();
        let due = own.told.is_none_or(|told| told.elapsed() >= REFRESH_EVERY);
        if due && (own.stale || !own.keys.is_empty()) {
            // Others believe what it said before for a while.
            let _ = own.write();
        }
    }
}

impl Own {
    fn write(&mut self) -> io::Result<()> {
        self.told = Some(Instant::now());
        let Some((_, file)) = &mut self.file else { return Ok(()) };
        let bytes: Vec<u8> = self.keys.iter().flat_map(|key| *key.as_bytes()).collect();
        io::Seek::rewind(file)?;
        file.write_all(&bytes)?;
        file.set_len(bytes.len() as u64)?;
        // A write of nothing does not change the time.
        file.set_modified(SystemTime::now())?;
        self.stale = false;
        Ok(())
    }
}

/// Adds the claims of another process. False when it is dead; its file is removed.
fn read_claims(path: &Path, theirs: &mut Keys) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    if file.try_lock().is_ok() {
        // Its process may be removing it just now.
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(false),
        };
    }
    let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
    if age < STALE_AFTER {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        theirs.extend(bytes.as_chunks::<16>().0.iter().map(|key| Fingerprint::from(*key)));
    }
    Ok(true)
}

impl Taking<'_> {
    /// Claims keys for this process.
    pub(super) fn take(self, keys: impl Iterator<Item = Fingerprint>) {
        let mut own = self.claims.own();
        own.keys.extend(keys);
        // Without it others may request the same: it costs money, and nothing is wrong.
        if let Err(error) = own.write() {
            tracing::debug!(%error, "claims cannot be shared");
        }
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        if let Some((id, file)) = self.own().file.take() {
            // Removed before it is unlocked. If it cannot be removed, the next process does it.
            let _ = fs::remove_file(id.path(&self.dir, ENDING));
            drop(file);
        }
    }
}
