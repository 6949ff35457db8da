//! The folder of a run's temporary files: spilled rows, downloads, uploads.
//!
//! Each process has one of its own, which goes with it. A process that is killed leaves its folder behind: the next one
//! removes it. A lock on a file beside the folder shows that its process is alive; the number of a process shows nothing, as
//! it may be another one's by now. Only folders with names that are made here are removed, whatever else is in the parent,
//! which may be `/tmp`.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{
    names::unique_name,
    private::{create_private_file, create_private_folder},
};

/// How the names of these folders begin, and how those of their locks end.
const PREFIX: &str = "flow-";
const LOCK_ENDING: &str = ".lock";

/// A folder for temporary files, removed when it is dropped.
#[derive(Debug)]
pub struct TemporaryFolder {
    path: PathBuf,
    lock_path: PathBuf,
    /// Locked until the process ends.
    _lock: File,
    /// Whether the folder around it goes when it is empty.
    owns_parent: bool,
}

impl TemporaryFolder {
    /// Creates a folder in `parent`, readable by its owner alone, and removes those of processes that have ended.
    /// `owns_parent` tells whether `parent` is there for temporary files alone, and goes when it is empty.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(parent: &Path, owns_parent: bool) -> io::Result<Self> {
        create_private_folder(parent)?;
        remove_abandoned(parent);
        let name = format!("{PREFIX}{}", unique_name());
        let (path, lock_path) = (parent.join(&name), parent.join(format!("{name}{LOCK_ENDING}")));
        // It gets the name under which others look for it once it is locked: before, it would look abandoned.
        let unlocked = parent.join(format!("{name}.new"));
        let lock = create_private_file(&unlocked)?;
        // On a file system without locks, no other process removes anything either.
        let _ = lock.try_lock();
        fs::rename(&unlocked, &lock_path)?;
        create_private_folder(&path)?;
        Ok(Self { path, lock_path, _lock: lock, owns_parent })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets all temporary files of this process be made here. Once for each process.
    pub fn use_for_all(&self) {
        // It fails where it was done before.
        let _ = tempfile::env::override_temp_dir(&self.path);
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next process.
        if fs::remove_dir_all(&self.path).is_ok() {
            let _ = fs::remove_file(&self.lock_path);
        }
        if self.owns_parent {
            // It fails while others use it.
            let _ = self.path.parent().map(fs::remove_dir);
        }
    }
}

/// Removes the folders whose lock nobody holds. What cannot be removed stays.
fn remove_abandoned(parent: &Path) {
    for item in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = item.file_name();
        let Some(folder) = name.to_str().and_then(|name| name.strip_suffix(LOCK_ENDING)) else { continue };
        if !is_own_name(folder) || !item.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(lock) = File::open(item.path()) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        match fs::remove_dir_all(parent.join(folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {}
            _ => drop(fs::remove_file(item.path())),
        }
    }
}

/// True for the names that [`TemporaryFolder::create`] gives.
fn is_own_name(folder: &str) -> bool {
    let parts = folder.strip_prefix(PREFIX).and_then(|name| name.split_once('-'));
    parts.is_some_and(|(process, counter)| {
        process.len() == 16
            && process.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !counter.is_empty()
            && counter.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_spilled_is_removed_by_the_next_and_what_a_living_one_did_is_not() {
        let parent = tempfile::tempdir().expect("a folder");
        let tmp = parent.path().join("tmp");
        let dead_name = "flow-00112233445566ff-7";
        let (dead, alive) = (tmp.join(dead_name), TemporaryFolder::create(&tmp, true).expect("a folder"));
        fs::create_dir(&dead).expect("a folder");
        fs::write(dead.join("spilled"), "rows").expect("written");
        fs::write(tmp.join(format!("{dead_name}.lock")), "").expect("written");
        // Of another program.
        fs::create_dir(tmp.join("flow-data")).expect("a folder");
        fs::write(tmp.join("flow-data.lock"), "").expect("written");
        fs::write(alive.path().join("spilled"), "rows").expect("written");
        for other in ["notes.lock", "flow-notes"] {
            fs::write(tmp.join(other), "").expect("written");
        }
        let next = TemporaryFolder::create(&tmp, true).expect("a folder");
        assert!(!dead.exists() && !tmp.join(format!("{dead_name}.lock")).exists());
        assert!(alive.path().join("spilled").exists());
        assert!(tmp.join("notes.lock").exists() && tmp.join("flow-notes").exists());
        drop(next);
        drop(alive);
        let mut left: Vec<_> = fs::read_dir(&tmp).expect("a folder").flatten().map(|item| item.file_name()).collect();
        left.sort();
        assert_eq!(left, ["flow-data", "flow-data.lock", "flow-notes", "notes.lock"]);
    }

    #[test]
    fn an_empty_folder_of_the_user_stays() {
        let parent = tempfile::tempdir().expect("a folder");
        drop(TemporaryFolder::create(parent.path(), false).expect("a folder"));
        assert!(parent.path().exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_temporary_folder_is_readable_by_its_owner_alone_and_goes_with_an_empty_parent() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().expect("a folder");
        let tmp = parent.path().join("tmp");
        let folder = TemporaryFolder::create(&tmp, true).expect("a folder");
        for path in [&*tmp, folder.path()] {
            assert_eq!(fs::metadata(path).expect("a folder").permissions().mode() & 0o777, 0o700);
        }
        drop(folder);
        assert!(!tmp.exists());
    }
}
