//! Digests of local files that others wrote, remembered for as long as size, times and inode are unchanged.
//!
//! Only its content decides whether a file changed; its size, times and inode only decide whether it is read
//! again. Owns `.flow/contents.json` in the project's folder, a cache that may be removed at any time. Must not know
//! what the files are for.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{
    file_status::FileStatus,
    listing::{Listing, Stamp},
    names::unique_name,
    private::create_private_file,
};
use crate::{config::open_regular_file, model::Fingerprint};

const VERSION: u32 = 1;
/// No more files than this are remembered; those of this process come first.
const MOST: usize = 200_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    look: FileStatus,
    content: String,
    /// Asked for by this process.
    #[serde(skip)]
    wanted: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    version: u32,
    files: HashMap<String, Seen>,
}

/// What is remembered of a project's local files.
#[derive(Debug)]
pub(super) struct Contents {
    folder: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// `None` until first used.
    files: Option<HashMap<String, Seen>>,
    unsaved: bool,
}

impl Contents {
    /// What is remembered in the project at `root`.
    pub(super) fn new(root: &Path) -> Self {
        Self { folder: root.join(".flow"), known: Mutex::default() }
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> PathBuf {
        self.folder.join("contents.json")
    }

    /// Gives every file of a local listing that carries no fingerprint in its name a digest of its content. A file
    /// that cannot be read keeps its times: its reader reports why. Blocking.
    pub(super) fn fill(&self, root: &Path, listing: &mut Listing) {
        let mut unread: Vec<(PathBuf, FileStatus, &mut Stamp)> = Vec::new();
        {
            let mut known = self.locked();
            for entry in listing.entries_mut() {
                let Stamp::Unread(look) = &entry.stamp else { continue };
                let look = **look;
                if !look.is_regular() || entry.fingerprint().is_some() {
                    continue;
                }
                let path = if entry.path.is_empty() { root.to_path_buf() } else { root.join(&*entry.path) };
                let files = known.files.get_or_insert_with(|| self.load());
                match files.get_mut(&*path.to_string_lossy()).filter(|seen| seen.look == look) {
                    Some(seen) if let Some(content) = Fingerprint::parse(&seen.content) => {
                        seen.wanted = true;
                        entry.stamp = Stamp::Content(content);
                    }
                    _ => unread.push((path, look, &mut entry.stamp)),
                }
            }
        }
        if unread.is_empty() {
            return;
        }
        let now = SystemTime::now();
        let read = read_all(&unread);
        let mut known = self.locked();
        for ((path, look, stamp), content) in unread.into_iter().zip(read) {
            let Some(content) = content else { continue };
            *stamp = Stamp::Content(content);
            if look.is_settled(now) {
                let seen = Seen { look, content: content.to_string(), wanted: true };
                known.files.get_or_insert_default().insert(path.to_string_lossy().into_owned(), seen);
                known.unsaved = true;
            }
        }
        self.save(&mut known);
    }

    fn load(&self) -> HashMap<String, Seen> {
        let mut bytes = Vec::new();
        let read = open_regular_file(&self.file()).and_then(|mut file| file.read_to_end(&mut bytes));
        let saved = read.ok().and_then(|_| serde_json::from_slice::<Saved>(&bytes).ok());
        saved.filter(|saved| saved.version == VERSION).map(|saved| saved.files).unwrap_or_default()
    }

    /// Keeps what is new, where the project has been run before; a plan makes no folder. What cannot be kept is read
    /// again next time.
    fn save(&self, known: &mut Known) {
        if !known.unsaved || !self.folder.is_dir() {
            return;
        }
        let Some(files) = &mut known.files else { return };
        if files.len() > MOST {
            files.retain(|_, seen| seen.wanted);
        }
        let saved = Saved { version: VERSION, files: std::mem::take(files) };
        let bytes = serde_json::to_vec(&saved).expect("plain texts always serialize");
        *files = saved.files;
        let new = self.folder.join(format!(".contents.{}", unique_name()));
        let written = create_private_file(&new).and_then(|mut file| file.write_all(&bytes));
        if written.and_then(|()| fs::rename(&new, self.file())).is_err() {
            let _ = fs::remove_file(&new);
        }
        known.unsaved = false;
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        let mut known = std::mem::take(&mut *self.locked());
        self.save(&mut known);
    }
}

/// The digest of each file, by as many threads as there are cores.
fn read_all(files: &[(PathBuf, FileStatus, &mut Stamp)]) -> Vec<Option<Fingerprint>> {
    let paths: Vec<&Path> = files.iter().map(|(path, ..)| path.as_path()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(i) else { return done };
            done.push((i, read(path).ok()));
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from).min(paths.len());
    let mut contents = vec![None; paths.len()];
    thread::scope(|scope| {
        // Where the system starts no more threads, there are fewer.
        let others: Vec<_> =
            (1..workers).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mine = work();
        let theirs =
            others.into_iter().flat_map(|worker| worker.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
        for (i, content) in mine.into_iter().chain(theirs) {
            contents[i] = content;
        }
    });
    contents
}

/// The digest of a file's bytes.
fn read(path: &Path) -> io::Result<Fingerprint> {
    digest(open_regular_file(path)?)
}

/// The digest of bytes, taken in as a stream.
pub(super) fn digest(bytes: impl Read) -> io::Result<Fingerprint> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(bytes)?;
    Ok(of_hash(&hasher))
}

/// The fingerprint of bytes with this hash.
pub(super) fn of_hash(hasher: &blake3::Hasher) -> Fingerprint {
    let mut out = [0; 16];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Fingerprint::from(out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::file_status::SETTLED, *};
    use crate::data::walk;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().expect("a folder"));
            fs::create_dir(folder.0.path().join(".flow")).expect("a folder");
            folder
        }

        /// Writes a file as if long ago.
        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::write(&path, text).expect("written");
        }

        fn digest(&self, contents: &Contents) -> Fingerprint {
            let path = self.0.path().join("x.csv");
            let mut listing = walk::list(&path).expect("a listing");
            contents.fill(&path, &mut listing);
            listing.digest()
        }

        fn contents(&self) -> Contents {
            Contents::new(self.0.path())
        }
    }

    #[test]
    fn times_change_nothing_and_every_byte_does() {
        let folder = Folder::new();
        folder.write("x.csv", "id\n1\n");
        let first = folder.digest(&folder.contents());
        let file = fs::File::options().write(true).open(folder.0.path().join("x.csv")).expect("opens");
        file.set_modified(SystemTime::now() - Duration::from_secs(100_000)).expect("a time");
        assert_eq!(folder.digest(&folder.contents()), first, "touched");
        // The same size and, as a copy that keeps times would leave it, the same time.
        folder.write("x.csv", "id\n2\n");
        file.set_modified(SystemTime::now() - Duration::from_secs(100_000)).expect("a time");
        assert_ne!(folder.digest(&folder.contents()), first, "another byte");
        folder.write("x.csv", "id\n1\n");
        assert_eq!(folder.digest(&folder.contents()), first, "and back");
    }

    #[test]
    fn what_is_remembered_is_used_only_for_a_file_that_looks_the_same() {
        let folder = Folder::new();
        folder.write("x.csv", "id\n1\n");
        let path = folder.0.path().join("x.csv");
        let look = FileStatus::of(&fs::metadata(&path).expect("metadata"));
        let other = Fingerprint::of("remembered");
        let remember = |look: FileStatus| {
            let seen = Seen { look, content: other.to_string(), wanted: false };
            let files = HashMap::from([(path.to_string_lossy().into_owned(), seen)]);
            let bytes = serde_json::to_vec(&Saved { version: VERSION, files }).expect("JSON");
            fs::write(folder.0.path().join(".flow/contents.json"), bytes).expect("written");
        };
        let read = folder.digest(&folder.contents());
        remember(look);
        let remembered = folder.digest(&folder.contents());
        assert_ne!(remembered, read, "it was not read again");
        for changed in [
            FileStatus { size: 1, ..look },
            FileStatus { modified: 1, ..look },
            FileStatus { changed: 1, ..look },
            FileStatus { inode: 1, ..look },
        ] {
            remember(changed);
            assert_eq!(folder.digest(&folder.contents()), read, "{changed:?}");
        }
        fs::write(folder.0.path().join(".flow/contents.json"), "{").expect("written");
        assert_eq!(folder.digest(&folder.contents()), read, "an unreadable cache is ignored");
    }

    #[test]
    fn a_file_that_was_changed_just_now_is_not_remembered() {
        let folder = Folder::new();
        let now = SystemTime::now();
        folder.write("x.csv", "id\n1\n");
        let look = FileStatus::of(&fs::metadata(folder.0.path().join("x.csv")).expect("metadata"));
        assert!(!look.is_settled(now));
        assert!(look.is_settled(now + 2 * SETTLED));
    }
}
