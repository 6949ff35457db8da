//! The ledger of a run in a place that hosts share and that takes no appends: an object store.
//!
//! A copy grows in parts, `<run>/00000001.jsonl` and on; the last part is written again while it is small, which also shows that the run
//! is alive. The file on the disk stays the original. Owns the names of parts; `ledger_mirror` puts them together again.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::data::{DataError, Objects};

/// How often a copy is brought up to date.
const EVERY: Duration = Duration::from_secs(5);
/// How often it is looked for the first event: what is killed in its first seconds is seen too.
const FIRST: Duration = Duration::from_millis(200);
/// Past this size, a part is followed by another one.
const PART: usize = 1 << 20;
/// How long the end of a run waits for its copy.
const PATIENCE: Duration = Duration::from_secs(20);

/// A copy that is kept up to date.
#[derive(Debug)]
pub struct LedgerCopy {
    finish: oneshot::Sender<()>,
    copying: AbortOnDropHandle<Result<(), DataError>>,
}

/// How much has been copied.
struct Progress {
    run: String,
    file: PathBuf,
    /// The number of the part that grows, and its content.
    part: u32,
    bytes: Vec<u8>,
    /// Of the file, up to the end of the part.
    copied: u64,
    /// True while the store has not taken the part as it is.
    unsent: bool,
    /// True if the file may hold more than the part.
    more: bool,
}

impl Progress {
    fn new(run: &str, file: PathBuf) -> Self {
        Self { run: run.to_owned(), file, part: 1, bytes: Vec::new(), copied: 0, unsent: false, more: false }
    }

    /// The part to be written next, with what the file holds more by now; the same again until the store has taken it.
    /// `None` before the first event.
    fn pending(&mut self) -> Result<Option<(String, Bytes)>, DataError> {
        if self.unsent {
            self.more = true;
        } else {
            let full = self.bytes.len() >= PART;
            let room = if full { PART } else { PART - self.bytes.len() };
            let more = match read_from(&self.file, self.copied, room) {
                Ok(more) => more,
                // The run has not written its first event.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(io_error(&self.file, error)),
            };
            self.copied += more.len() as u64;
            self.more = more.len() == room;
            if full && !more.is_empty() {
                self.part += 1;
                self.bytes = more;
            } else {
                self.bytes.extend(more);
            }
            self.unsent = !self.bytes.is_empty();
        }
        Ok(self.unsent.then(|| (name(&self.run, self.part), Bytes::from(self.bytes.clone()))))
    }

    /// The store has taken the part.
    fn taken(&mut self) {
        self.unsent = false;
    }

    /// Copies what was written since the last time. The last part is written again even where nothing was.
    async fn copy(&mut self, objects: &Objects) -> Result<(), DataError> {
        while let Some((name, bytes)) = self.pending()? {
            objects.put(&name, bytes).await?;
            self.taken();
            if !self.more {
                break;
            }
        }
        Ok(())
    }
}

impl LedgerCopy {
    /// Keeps the copy of a run's ledger, which is in `folder`, up to date from now on.
    pub fn start(objects: Objects, folder: &Path, run: &str) -> Self {
        let file = folder.join(format!("{run}.jsonl"));
        let mut progress = Progress::new(run, file);
        let (finish, mut finished) = oneshot::channel();
        let copying = tokio::spawn(async move {
            loop {
                let wait = if progress.copied == 0 { FIRST } else { EVERY };
                let over = tokio::time::timeout(wait, &mut finished).await.is_ok();
                let copied = progress.copy(&objects).await;
                if over {
                    return copied;
                }
                // The next time writes the same part again: a store may be unavailable for a while.
                if let Err(error) = copied {
                    tracing::debug!(%error, "the ledger was not copied");
                }
            }
        });
        Self { finish, copying: AbortOnDropHandle::new(copying) }
    }

    /// Copies the rest, once the last event is written.
    ///
    /// # Errors
    /// With what the store says.
    pub async fn finish(self) -> Result<(), String> {
        let _ = self.finish.send(());
        match tokio::time::timeout(PATIENCE, self.copying).await {
            Ok(Ok(copied)) => copied.map_err(|error| error.to_string()),
            Ok(Err(_)) => Err("a bug in flow".to_owned()),
            Err(_) => Err("the store does not respond".to_owned()),
        }
    }
}

pub(super) fn io_error(path: &Path, source: io::Error) -> DataError {
    DataError::Io { path: path.display().to_string(), source }
}

fn name(run: &str, part: u32) -> String {
    format!("{run}/{part:08}.jsonl")
}

/// The run whose ledger an object is a part of.
pub(super) fn run_of(name: &str) -> Option<&str> {
    let (run, part) = name.split_once('/')?;
    // It becomes the name of a file.
    (part.ends_with(".jsonl") && !run.is_empty() && !run.starts_with('.') && !run.contains('\\')).then_some(run)
}

fn read_from(file: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::{Folder, Stores};

    #[tokio::test]
    async fn a_copy_grows_in_parts_and_is_the_file_when_put_together() {
        let folder = tempfile::tempdir().expect("a folder");
        let stores = Stores::new(folder.path(), Arc::new(|_| None));
        let Ok(Folder::Store(objects)) = stores.folder("memory://bucket/ledgers") else { panic!("a store") };
        let run = "20260101-000000000-00000001";
        let file = folder.path().join(format!("{run}.jsonl"));
        let mut progress = Progress::new(run, file.clone());
        progress.copy(&objects).await.expect("nothing to copy");
        let line = format!("{{\"text\":\"{}\"}}\n", "x".repeat(1000));
        let mut text = String::new();
        for times in [1, 3, PART / line.len(), 0, 2 * PART / line.len() + 7, 1] {
            text += &line.repeat(times);
            std::fs::write(&file, &text).expect("written");
            progress.copy(&objects).await.expect("copied");
        }
        let parts = objects.list().await.expect("listed");
        assert!(parts.len() >= 4 && parts[0].name == format!("{run}/00000001.jsonl"), "{parts:?}");
        let mut same = Vec::new();
        for part in parts {
            same.extend(objects.read(&part.name).await.expect("a part"));
        }
        assert!(same == text.as_bytes(), "{} and {} bytes", same.len(), text.len());
    }

    #[test]
    fn a_part_that_the_store_did_not_take_is_written_again_before_the_next_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("run.jsonl");
        let mut progress = Progress::new("run", file.clone());
        assert!(progress.pending().expect("no file").is_none());
        let text: Vec<u8> = (0..2 * PART + 7).map(|at| b'a' + (at % 23) as u8).collect();
        std::fs::write(&file, &text[..PART - 1]).expect("written");
        progress.pending().expect("read");
        progress.taken();
        std::fs::write(&file, &text).expect("written");
        let mut parts = std::collections::BTreeMap::new();
        for refused in [true, false, true, true, false, false] {
            let Some((name, bytes)) = progress.pending().expect("read") else { break };
            if !refused {
                parts.insert(name, bytes);
                progress.taken();
            }
        }
        assert_eq!(parts.len(), 3);
        let whole = parts.into_values().flatten().collect::<Vec<u8>>();
        assert!(whole == text, "{} bytes of {}", whole.len(), text.len());
    }

    #[test]
    fn names_that_are_no_parts_of_a_ledger_are_left_alone() {
        for (name, expected) in [
            ("20260101-000000000-00000001/00000001.jsonl", Some("20260101-000000000-00000001")),
            ("20260101-000000000-00000001/x.txt", None),
            ("a.jsonl", None),
            ("../00000001.jsonl", None),
            ("/00000001.jsonl", None),
        ] {
            assert_eq!(run_of(name), expected, "{name}");
        }
    }
}
