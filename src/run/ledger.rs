//! The ledger: the events of each run as JSON lines, in `.flow/runs/`.
//!
//! Informational only: no result depends on it, and it may be deleted. An event is written after the commit that it
//! reports and before it is displayed. An incomplete last line (of a killed process) is ignored when reading.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value as Json;

use super::event::Event;
use crate::{
    config::open_regular_file,
    data::{create_private_file, create_private_folder},
};

/// The number of runs that are kept.
const KEEP: usize = 200;
/// The maximum length of the last event of a finished run, in bytes.
const LONGEST_LINE: u64 = 1 << 16;
/// The same of the first event, which may name all nodes of a project.
const LONGEST_FIRST: u64 = 1 << 24;

/// The open ledger of one run.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
}

impl Ledger {
    /// Creates the ledger of a run, and with `prune` removes the oldest ones beyond 200.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create(folder: &Path, run: &str, prune: bool) -> io::Result<Self> {
        create_private_folder(folder)?;
        let mut runs = if prune { list(folder)? } else { Vec::new() };
        runs.truncate(runs.len().saturating_sub(KEEP - 1));
        for old in runs {
            // Another process may have pruned it first.
            match fs::remove_file(folder.join(format!("{old}.jsonl"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let path = folder.join(format!("{run}.jsonl"));
        let file = create_private_file(&path)?;
        lock(&file, || std::thread::sleep(Duration::from_millis(2)));
        Ok(Self { path, file })
    }

    /// Appends one event in one write, so that lines never interleave or tear except at a kill.
    ///
    /// # Errors
    /// When the file cannot be written. The error names the file.
    pub fn append(&mut self, event: &Event) -> io::Result<()> {
        let mut line = event.to_json().to_string();
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))
    }
}

/// Locks the ledger until this process ends in any way: see [`is_running`]. Who looks whether the run goes on holds a lock too,
/// for an instant. On a file system without locks, the run appears as not running.
fn lock(file: &File, mut wait: impl FnMut()) {
    for _ in 0..50 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => wait(),
            _ => return,
        }
    }
}

/// Ids of the runs in a folder, oldest first.
///
/// # Errors
/// When the folder cannot be read. A missing folder contains no runs.
pub fn list(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut runs = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if let Some(run) = name.to_str().and_then(|name| name.strip_suffix(".jsonl")) {
            runs.push(run.to_owned());
        }
    }
    // Ids begin with a timestamp, so they sort by time.
    runs.sort();
    Ok(runs)
}

/// True while a run is in progress: its process holds a lock on its ledger, which the system releases when the process
/// ends.
///
/// # Errors
/// When there is no such run.
pub fn is_running(folder: &Path, run: &str) -> io::Result<bool> {
    let file = open_regular_file(&folder.join(format!("{run}.jsonl")))?;
    // The lock is released when the file is closed on return.
    Ok(matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The ledger of a run, open for reading.
///
/// # Errors
/// When there is no such run.
pub fn open(folder: &Path, run: &str) -> io::Result<File> {
    open_regular_file(&folder.join(format!("{run}.jsonl")))
}

/// The events of a run as JSON, one at a time. Lines that are damaged or incomplete are left out.
///
/// # Errors
/// When there is no such run, and in place of the first event that cannot be read.
pub fn events(folder: &Path, run: &str) -> io::Result<impl Iterator<Item = io::Result<Json>>> {
    let lines = BufReader::new(open(folder, run)?).split(b'\n');
    Ok(lines.filter_map(|line| match line {
        Ok(line) => serde_json::from_slice::<Json>(&line).ok().map(Ok),
        Err(error) => Some(Err(error)),
    }))
}

/// The events of a run as JSON. Lines that are damaged or incomplete are left out.
///
/// # Errors
/// When there is no such run.
pub fn read(folder: &Path, run: &str) -> io::Result<Vec<Json>> {
    events(folder, run)?.collect()
}

/// The first and the last event of a run, without reading those in between, which may be one per partition.
///
/// # Errors
/// When there is no such run.
pub fn ends(folder: &Path, run: &str) -> io::Result<(Option<Json>, Option<Json>)> {
    let mut file = open_regular_file(&folder.join(format!("{run}.jsonl")))?;
    let mut line = Vec::new();
    BufReader::new((&file).take(LONGEST_FIRST)).read_until(b'\n', &mut line)?;
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(size.saturating_sub(LONGEST_LINE)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let last = tail.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    Ok((serde_json::from_slice(&line).ok(), last.and_then(|line| serde_json::from_slice(line).ok())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::event::EventKind;

    fn warning(text: &str) -> Event {
        Event { run: "r".to_owned(), elapsed: Duration::ZERO, kind: EventKind::Warning { message: text.to_owned() } }
    }

    #[test]
    fn an_incomplete_last_line_is_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ledger = Ledger::create(folder.path(), "20260101-000000-0001", true).expect("a ledger");
        ledger.append(&warning("one")).expect("written");
        ledger.append(&warning("two")).expect("written");
        let path = folder.path().join("20260101-000000-0001.jsonl");
        let text = fs::read_to_string(&path).expect("readable");
        fs::write(&path, &text[..text.len() - 5]).expect("truncated");
        let events = read(folder.path(), "20260101-000000-0001").expect("readable");
        assert_eq!(events.len(), 1);
        assert_eq!(events[0]["message"], "one");
        let (first, last) = ends(folder.path(), "20260101-000000-0001").expect("readable");
        assert_eq!((first.expect("an event")["message"].clone(), last), ("one".into(), None));
    }

    #[test]
    fn a_run_is_running_while_its_ledger_is_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = "20260101-000000-0001";
        let ledger = Ledger::create(folder.path(), run, true).expect("a ledger");
        assert!(is_running(folder.path(), run).expect("a ledger"));
        drop(ledger);
        assert!(!is_running(folder.path(), run).expect("a ledger"));
        assert!(is_running(folder.path(), "never").is_err());
    }

    #[test]
    fn a_run_is_running_though_another_process_looked_as_it_began() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r.jsonl");
        let (file, looking) = (File::create(&path).expect("created"), File::open(&path).expect("opened"));
        looking.try_lock_shared().expect("nobody else has it");
        let mut looking = vec![looking];
        lock(&file, || drop(looking.pop()));
        assert!(is_running(folder.path(), "r").expect("a ledger"));
    }

    #[cfg(unix)]
    #[test]
    fn a_ledger_is_readable_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;

        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join(".flow/runs");
        Ledger::create(&folder, "20260101-000000-0001", true).expect("a ledger");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&root.path().join(".flow")), 0o700);
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("20260101-000000-0001.jsonl")), 0o600);
    }

    #[test]
    fn the_oldest_runs_are_pruned() {
        let folder = tempfile::tempdir().expect("a folder");
        for i in 0..KEEP + 3 {
            Ledger::create(folder.path(), &format!("20260101-000000-{i:04}"), true).expect("a ledger");
        }
        let runs = list(folder.path()).expect("listed");
        assert_eq!(runs.len(), KEEP);
        assert_eq!(runs[0], "20260101-000000-0003");
        assert_eq!(list(Path::new("/nowhere/at/all")).expect("empty"), Vec::<String>::new());
    }
}
