//! Makes what was committed survive the loss of power, much of it at once.
//!
//! On Linux one `syncfs` at a time for each file system covers every commit that came before it began, file contents and
//! directory entries alike; between two there is a pause, so that a small part of the time is spent on them however many
//! commits there are. Elsewhere every file and its folder are synced by themselves as they are committed
//! ([`sync_file`]), and nothing is left to be done here.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::tasks::blocking;

/// The length of a pause, in times of the sync before it.
const PAUSES: u32 = 19;
/// No pause is longer: a commit is reported after it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

type SyncResult = Result<(), (io::ErrorKind, String)>;

/// The file systems of a run.
#[derive(Debug, Default)]
pub(super) struct Syncer {
    systems: Mutex<Systems>,
    /// The number of [`Unbatched`] values.
    unbatched: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Systems {
    by_device: HashMap<u64, Arc<FileSystem>>,
    /// Folders that were looked up before.
    by_path: HashMap<PathBuf, Arc<FileSystem>>,
}

/// One file system and the callers that wait for a sync of it.
#[derive(Debug)]
struct FileSystem {
    /// Open during the whole run: a file description reports only write errors that occurred while it was open.
    root: Arc<File>,
    state: Mutex<SyncState>,
    unbatched: watch::Receiver<usize>,
}

#[derive(Debug, Default)]
struct SyncState {
    waiting: Vec<oneshot::Sender<SyncResult>>,
    syncing: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, syncs are not batched: there are no pauses between them.
#[derive(Debug)]
#[must_use = "batching resumes when it is dropped"]
pub struct Unbatched(watch::Sender<usize>);

impl Drop for Unbatched {
    fn drop(&mut self) {
        self.0.send_modify(|unbatched| *unbatched -= 1);
    }
}

impl Syncer {
    /// Waits until everything that was written to the file system of `path` before now is on the disk.
    pub(super) async fn synced(&self, path: &Path) -> io::Result<()> {
        let Some(system) = self.system_of(path).await? else { return Ok(()) };
        let (sender, result) = oneshot::channel();
        let first = {
            let mut state = locked(&system.state);
            state.waiting.push(sender);
            !std::mem::replace(&mut state.syncing, true)
        };
        if first {
            // Continues as long as there is a waiter, whichever began it.
            tokio::spawn(system.work());
        }
        match result.await {
            Ok(result) => result.map_err(|(kind, text)| io::Error::new(kind, text)),
            Err(_) => Err(io::Error::other("the thread that syncs the disk has ended")),
        }
    }

    /// Ends the batching of syncs while the value lives: for a caller that has nothing more to commit.
    pub(super) fn unbatched(&self) -> Unbatched {
        self.unbatched.send_modify(|unbatched| *unbatched += 1);
        Unbatched(self.unbatched.clone())
    }

    /// `None` where nothing has to be synced.
    async fn system_of(&self, path: &Path) -> io::Result<Option<Arc<FileSystem>>> {
        if let Some(system) = locked(&self.systems).by_path.get(path) {
            return Ok(Some(Arc::clone(system)));
        }
        let wanted = path.to_path_buf();
        let Some(Found { at, device, root }) = blocking(move || open(&wanted)).await? else { return Ok(None) };
        let mut systems = locked(&self.systems);
        let new = || {
            let unbatched = self.unbatched.subscribe();
            Arc::new(FileSystem { root: Arc::new(root), state: Mutex::default(), unbatched })
        };
        let system = Arc::clone(systems.by_device.entry(device).or_insert_with(new));
        // A folder that does not exist yet may be on another disk once it does.
        if at == path {
            systems.by_path.insert(at, Arc::clone(&system));
        }
        Ok(Some(system))
    }
}

impl FileSystem {
    async fn work(self: Arc<Self>) {
        let mut unbatched = self.unbatched.clone();
        loop {
            let waiting = {
                let mut state = locked(&self.state);
                if state.waiting.is_empty() {
                    state.syncing = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            let (root, begin) = (Arc::clone(&self.root), Instant::now());
            let result = blocking(move || sync(&root)).await.map_err(|error| (error.kind(), error.to_string()));
            for waiter in waiting {
                // The receiver is gone if its caller was cancelled.
                let _ = waiter.send(result.clone());
            }
            let pause = (begin.elapsed() * PAUSES).min(LONGEST_PAUSE);
            let _ = tokio::time::timeout(pause, unbatched.wait_for(|unbatched| *unbatched > 0)).await;
        }
    }
}

/// A file or folder, opened, and the number of its file system.
struct Found {
    at: PathBuf,
    device: u64,
    root: File,
}

/// The nearest thing that exists at or above a path.
#[cfg(target_os = "linux")]
fn open(path: &Path) -> io::Result<Option<Found>> {
    use std::os::unix::fs::MetadataExt;
    for place in path.ancestors() {
        match File::open(place) {
            Ok(root) => {
                let device = root.metadata()?.dev();
                return Ok(Some(Found { at: place.to_path_buf(), device, root }));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(target_os = "linux")]
fn sync(root: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(root)?)
}

#[cfg(not(target_os = "linux"))]
fn open(_path: &Path) -> io::Result<Option<Found>> {
    Ok(None)
}

#[cfg(not(target_os = "linux"))]
fn sync(_root: &File) -> io::Result<()> {
    Ok(())
}

/// Syncs one file, and the folder that its name is in, where there is no way to sync many at once.
#[cfg(not(target_os = "linux"))]
pub(super) fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    #[cfg(unix)]
    for folder in path.ancestors().skip(1).take(3) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// See [`Syncer::synced`], which covers it here.
#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
pub(super) fn sync_file(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn many_callers_share_few_syncs() {
        let folder = tempfile::tempdir().expect("a folder");
        let syncer = Syncer::default();
        syncer.synced(&folder.path().join("not/there/yet")).await.expect("a single caller does not wait");
        let begin = Instant::now();
        for round in 0..2 {
            // When batched, the second sync waits for the pause to end.
            let _unbatched = (round == 1).then(|| syncer.unbatched());
            for result in futures::future::join_all((0..1000).map(|_| syncer.synced(folder.path()))).await {
                result.expect("synced");
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "not one after the other");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cancelled_caller_does_not_affect_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let syncer = Arc::new(Syncer::default());
        for _ in 0..20 {
            let (one, path) = (Arc::clone(&syncer), folder.path().to_path_buf());
            let dropped = tokio::spawn(async move { one.synced(&path).await });
            let waiting = syncer.synced(folder.path());
            dropped.abort();
            let _unbatched = syncer.unbatched();
            waiting.await.expect("synced");
        }
    }
}
