//! The ledger of a run in a place that hosts share and that takes no appends: an object store.
//!
//! A copy grows in parts, `<run>/00000001.jsonl` and on; the last part is written again while it is small, which also shows that the run
//! is alive. The file on the disk stays the original. Owns the names of parts and how they are put together again.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::data::{DataError, Object, Objects};

/// How often a copy is brought up to date.
const EVERY: Duration = Duration::from_secs(5);
/// A run whose copy was not written for this long, and has no last event, has been killed.
const ALIVE: Duration = Duration::from_secs(30);
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
    objects: Objects,
    run: String,
    file: PathBuf,
    /// The number of the part that grows, and its content.
    part: u32,
    bytes: Vec<u8>,
    /// Of the file, up to the end of the part.
    copied: u64,
}

impl Progress {
    /// Copies what was written since the last time. The last part is written again even where nothing was.
    async fn copy(&mut self) -> Result<(), DataError> {
        loop {
            let full = self.bytes.len() >= PART;
            let room = if full { PART } else { PART - self.bytes.len() };
            let more = match read_from(&self.file, self.copied, room) {
                Ok(more) => more,
                // The run has not written its first event.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(io_error(&self.file, error)),
            };
            self.copied += more.len() as u64;
            let last = more.len() < room;
            if full && !more.is_empty() {
                self.part += 1;
                self.bytes = more;
            } else {
                self.bytes.extend(more);
            }
            if self.bytes.is_empty() {
                return Ok(());
            }
            self.objects.put(&name(&self.run, self.part), Bytes::from(self.bytes.clone())).await?;
            if last {
                return Ok(());
            }
        }
    }
}

impl LedgerCopy {
    /// Keeps the copy of a run's ledger, which is in `folder`, up to date from now on.
    pub fn start(objects: Objects, folder: &Path, run: &str) -> Self {
        let file = folder.join(format!("{run}.jsonl"));
        let mut progress = Progress { objects, run: run.to_owned(), file, part: 1, bytes: Vec::new(), copied: 0 };
        let (finish, mut finished) = oneshot::channel();
        let copying = tokio::spawn(async move {
            loop {
                let over = tokio::time::timeout(EVERY, &mut finished).await.is_ok();
                let copied = progress.copy().await;
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

fn io_error(path: &Path, source: io::Error) -> DataError {
    DataError::Io { path: path.display().to_string(), source }
}

fn name(run: &str, part: u32) -> String {
    format!("{run}/{part:08}.jsonl")
}

fn read_from(file: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts the ledgers of a store together again in a folder of the disk: of `whole` all parts, of other runs the first and the last one, which have their
/// first and last events. Gives the runs that are alive, as far as they have no last event.
///
/// # Errors
/// With what the store or the disk says.
pub async fn fetch(
    objects: &Objects,
    folder: &Path,
    whole: impl Fn(&str) -> bool,
    now: DateTime<Utc>,
) -> Result<HashSet<String>, DataError> {
    let mut runs: BTreeMap<String, Vec<Object>> = BTreeMap::new();
    for object in objects.list().await? {
        if let Some((run, part)) = object.name.split_once('/')
            && part.ends_with(".jsonl")
        {
            runs.entry(run.to_owned()).or_default().push(object);
        }
    }
    let last_known = runs.keys().next_back().cloned();
    let mut alive = HashSet::new();
    for (run, parts) in runs {
        let last = parts.len() - 1;
        let is_whole = whole(&run) || (whole("last") && last_known.as_ref() == Some(&run));
        let file = folder.join(format!("{run}.jsonl"));
        let mut out = File::create(&file).map_err(|error| io_error(&file, error))?;
        for (at, part) in parts.iter().enumerate() {
            if is_whole || at == 0 || at == last {
                let bytes = objects.read(&part.name).await?;
                out.write_all(&bytes).map_err(|error| io_error(&file, error))?;
            }
            if now.signed_duration_since(part.modified).to_std().is_ok_and(|age| age > ALIVE) {
                continue;
            }
            alive.insert(run.clone());
        }
    }
    Ok(alive)
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
        let mut progress = Progress {
            objects: objects.clone(),
            run: run.to_owned(),
            file: file.clone(),
            part: 1,
            bytes: Vec::new(),
            copied: 0,
        };
        progress.copy().await.expect("nothing to copy");
        let line = format!("{{\"text\":\"{}\"}}\n", "x".repeat(1000));
        let mut text = String::new();
        for times in [1, 3, PART / line.len(), 0, 2 * PART / line.len() + 7, 1] {
            text += &line.repeat(times);
            std::fs::write(&file, &text).expect("written");
            progress.copy().await.expect("copied");
        }
        let parts = objects.list().await.expect("listed");
        assert!(parts.len() >= 4 && parts[0].name == format!("{run}/00000001.jsonl"), "{parts:?}");
        let fetched = tempfile::tempdir().expect("a folder");
        let alive = fetch(&objects, fetched.path(), |id| id == run, Utc::now()).await.expect("fetched");
        assert_eq!(alive, HashSet::from([run.to_owned()]));
        let same = std::fs::read_to_string(fetched.path().join(format!("{run}.jsonl"))).expect("a file");
        assert!(same == text, "{} and {} bytes", same.len(), text.len());
        // For a list, only its ends.
        let later = Utc::now() + chrono::TimeDelta::seconds(60);
        let alive = fetch(&objects, fetched.path(), |_| false, later).await.expect("fetched");
        assert!(alive.is_empty(), "nothing was written for a minute");
        let ends = std::fs::read_to_string(fetched.path().join(format!("{run}.jsonl"))).expect("a file");
        assert!(
            ends.len() < text.len() && text.starts_with(&ends[..1000]) && text.ends_with(&ends[ends.len() - 1000..])
        );
    }
}
