//! The lock on a dataset of the local disk, or of a disk that hosts share: `.<name>.flow-lock` beside it, which the system gives
//! back when the process dies, however it dies.
//!
//! A run locks it alone; shards lock it together. A shard keeps a locked file of its own in the staging folder, which says who it
//! is and keeps the folder from being removed by other shards. What dead processes left staged is removed by the next run that has
//! the lock alone.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path as FsPath, PathBuf},
};

use super::{
    error::DataError,
    guard::EXPIRY,
    lease_holder::Holder,
    names::{LOCK_SUFFIX, STAGING_SUFFIX, unique_name},
    store_path::StorePath,
    tasks::blocking,
};
use crate::model::Shard;

/// The lock on one dataset.
#[derive(Debug)]
pub(super) struct LocalLock {
    file: File,
    lock: PathBuf,
    staging: PathBuf,
    /// The file of a shard; locked.
    marker: Option<(PathBuf, File)>,
    /// True when another attempt of the same shard was alive when the lock was taken.
    has_twin: bool,
}

impl LocalLock {
    /// Takes the lock on a dataset: alone, or together with other shards.
    ///
    /// # Errors
    /// [`DataError::Held`] when another run has it, or when shards have it that are to be kept out.
    pub(super) async fn take(place: &StorePath, dataset: String, shard: Option<Shard>) -> Result<Self, DataError> {
        let path_of = |place: &StorePath| place.local().map(FsPath::to_path_buf).unwrap_or_default();
        let (lock, staging) = (path_of(&place.sibling(LOCK_SUFFIX)), path_of(&place.sibling(STAGING_SUFFIX)));
        blocking(move || {
            for ours in [&lock, &staging] {
                // A link's target belongs to another program and would be truncated or written through it.
                if fs::symlink_metadata(ours).is_ok_and(|metadata| metadata.is_symlink()) {
                    let message = "it is a link where flow keeps a file or folder of its own; remove the link";
                    return Err(DataError::Layout { file: ours.display().to_string(), message: message.to_owned() });
                }
            }
            if let Some(parent) = lock.parent() {
                fs::create_dir_all(parent).map_err(|error| DataError::io(parent, error))?;
            }
            let error = |error| DataError::io(&lock, error);
            let mut file = loop {
                let file =
                    File::options().create(true).truncate(false).read(true).write(true).open(&lock).map_err(error)?;
                match if shard.is_some() { file.try_lock_shared() } else { file.try_lock() } {
                    Ok(()) => {}
                    Err(TryLockError::WouldBlock) => {
                        let shards = if shard.is_some() { Vec::new() } else { shards(&staging) };
                        let by = shards.into_iter().next();
                        let by = by.or_else(|| fs::read(&lock).ok().and_then(|bytes| Holder::parse(&bytes)));
                        let by = by.map_or_else(|| "another process".to_owned(), |holder| holder.shown());
                        return Err(DataError::Held { dataset, by });
                    }
                    Err(TryLockError::Error(source)) => return Err(error(source)),
                }
                // Between opening and locking, the last holder may have removed the file: then this lock protects nothing.
                if same_file(&file, &lock) {
                    break file;
                }
            };
            let (marker, has_twin) = match shard {
                None => {
                    file.set_len(0)
                        .and_then(|()| file.write_all(&Holder::here(EXPIRY, None).to_bytes()))
                        .map_err(error)?;
                    clear(&staging)?;
                    (None, false)
                }
                Some(shard) => {
                    let twin = shards(&staging).iter().any(|other| other.shard == Some(shard.to_string()));
                    (Some(mark(&staging, shard).map_err(|error| DataError::io(&staging, error))?), twin)
                }
            };
            Ok(Self { file, lock, staging, marker, has_twin })
        })
        .await
    }

    /// True when another attempt of the same shard was alive when the lock was taken.
    pub(super) fn has_twin(&self) -> bool {
        self.has_twin
    }
}

impl Drop for LocalLock {
    fn drop(&mut self) {
        if let Some((marker, _)) = &self.marker {
            let _ = fs::remove_file(marker);
            // The last shard finds it empty. The lock's file stays: another shard may have it open.
            let _ = fs::remove_dir(&self.staging);
            let _ = self.file.unlock();
            return;
        }
        // Empty unless the run was killed; then the next lease clears it.
        let _ = fs::remove_dir(&self.staging);
        // Removed while still locked, so that no other process can lock the removed name.
        let _ = fs::remove_file(&self.lock);
        let _ = self.file.unlock();
    }
}

/// The file of a shard, locked before it gets its name.
fn mark(staging: &FsPath, shard: Shard) -> io::Result<(PathBuf, File)> {
    let bytes = Holder::here(EXPIRY, Some(shard)).to_bytes();
    let path = staging.join(unique_name());
    loop {
        fs::create_dir_all(staging)?;
        let mut file = match File::options().create_new(true).write(true).open(&path) {
            // Another shard ended in between, and removed the empty folder.
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        // Where files cannot be locked one by one, others do not see this shard, and are kept out all the same.
        let _ = file.try_lock();
        file.write_all(&bytes)?;
        return Ok((path, file));
    }
}

/// The shards that are alive. What cannot be read is left out.
fn shards(staging: &FsPath) -> Vec<Holder> {
    let items = fs::read_dir(staging).into_iter().flatten().flatten();
    let items = items.filter(|item| item.file_name().to_str().is_some_and(is_staged));
    let alive = items.filter_map(|item| {
        let file = File::open(item.path()).ok()?;
        let locked = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        if locked { Holder::parse(&fs::read(item.path()).ok()?) } else { None }
    });
    alive.collect()
}

/// Removes what a dead process left staged: whatever has a name that only we give.
fn clear(staging: &FsPath) -> Result<(), DataError> {
    let items = match fs::read_dir(staging) {
        Ok(items) => items,
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(DataError::io(staging, source)),
    };
    for item in items {
        let item = item.map_err(|source| DataError::io(staging, source))?;
        let name = item.file_name();
        if !name.to_str().is_some_and(is_staged) {
            continue;
        }
        let path = item.path();
        let kind = item.file_type().map_err(|source| DataError::io(&path, source))?;
        let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Ok(()) => {}
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(DataError::io(&path, source)),
        }
    }
    // Holds something of others, or goes.
    let _ = fs::remove_dir(staging);
    Ok(())
}

/// True for what [`unique_name`] and temporary files are called.
fn is_staged(name: &str) -> bool {
    if let Some(random) = name.strip_prefix(".tmp") {
        return random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
    }
    name.split_once('-').is_some_and(|(process, count)| {
        process.len() == 16
            && process.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !count.is_empty()
            && count.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(unix)]
fn same_file(file: &File, path: &FsPath) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn same_file(_file: &File, _path: &FsPath) -> bool {
    true
}
