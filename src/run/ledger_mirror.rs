//! The ledgers of a store in a folder of the disk, brought up to date as often as they are asked for.
//!
//! A ledger that is wanted whole only grows; of the others there are the first and the last part, which have their first and last
//! events.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};

use super::ledger_copy::{io_error, run_of};
use crate::data::{DataError, Object, Objects};

/// A run whose copy was not written for this long, and has no last event, has been killed.
const ALIVE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct LedgerMirror {
    objects: Objects,
    folder: PathBuf,
    known: HashMap<String, Mirrored>,
}

/// What of a ledger is in its file.
#[derive(Debug)]
struct Mirrored {
    /// The names and sizes of all its parts on the store.
    parts: Vec<(String, u64)>,
    /// True when the file has all of them.
    whole: bool,
}

impl LedgerMirror {
    /// The ledgers of `objects` in `folder`, which is empty and its own.
    pub fn new(objects: Objects, folder: &Path) -> Self {
        Self { objects, folder: folder.to_path_buf(), known: HashMap::new() }
    }

    /// The same ledgers through a new client: one belongs to the runtime that it was used in first.
    pub fn reconnect(&mut self, objects: Objects) {
        self.objects = objects;
    }

    /// Where the ledgers are, as displayed in messages.
    pub fn shown(&self) -> &str {
        self.objects.shown()
    }

    /// Fetches what is new. Gives the runs whose ledgers were written a moment before `now`: they are alive, as far as they have no
    /// last event.
    ///
    /// # Errors
    /// With what the store or the disk says.
    pub async fn refresh(&mut self, whole: &HashSet<String>, now: DateTime<Utc>) -> Result<HashSet<String>, DataError> {
        let mut runs: BTreeMap<String, Vec<Object>> = BTreeMap::new();
        for object in self.objects.list().await? {
            if let Some(run) = run_of(&object.name) {
                runs.entry(run.to_owned()).or_default().push(object);
            }
        }
        let gone: Vec<String> = self.known.keys().filter(|run| !runs.contains_key(*run)).cloned().collect();
        for run in gone {
            self.known.remove(&run);
            // It may be read now; a later look misses it.
            let _ = fs::remove_file(self.file(&run));
        }
        let mut alive = HashSet::new();
        for (run, parts) in runs {
            let is_new =
                |part: &Object| !now.signed_duration_since(part.modified).to_std().is_ok_and(|age| age > ALIVE);
            if parts.iter().any(is_new) {
                alive.insert(run.clone());
            }
            self.fetch(&run, &parts, whole.contains(&run)).await?;
        }
        Ok(alive)
    }

    fn file(&self, run: &str) -> PathBuf {
        self.folder.join(format!("{run}.jsonl"))
    }

    async fn fetch(&mut self, run: &str, parts: &[Object], whole: bool) -> Result<(), DataError> {
        let now: Vec<(String, u64)> = parts.iter().map(|part| (part.name.clone(), part.size)).collect();
        let before = self.known.get(run);
        if before.is_some_and(|before| before.parts == now && (before.whole || !whole)) {
            return Ok(());
        }
        let path = self.file(run);
        let failed = |error: io::Error| io_error(&path, error);
        // Those that have not changed: all but the last one that is known, which may have grown.
        let kept = match before {
            Some(before) if before.whole => {
                let same = before.parts.iter().zip(&now).take_while(|(before, now)| before == now).count();
                (before.parts.len() == same || before.parts.len() == same + 1).then_some(same)
            }
            _ => None,
        };
        if let Some(kept) = kept {
            let offset = now[..kept].iter().map(|(_, size)| size).sum();
            let mut file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
            file.seek(SeekFrom::Start(offset)).map_err(failed)?;
            for (name, _) in &now[kept..] {
                // Another process that reads it meanwhile finds the same bytes as before, and more.
                file.write_all(&self.objects.read(name).await?).map_err(failed)?;
            }
        } else {
            let new = self.folder.join(format!(".{run}.new"));
            let mut file = File::create(&new).map_err(failed)?;
            for (at, (name, _)) in now.iter().enumerate() {
                if whole || at == 0 || at + 1 == now.len() {
                    file.write_all(&self.objects.read(name).await?).map_err(failed)?;
                }
            }
            fs::rename(&new, &path).map_err(failed)?;
        }
        let whole = whole || kept.is_some();
        self.known.insert(run.to_owned(), Mirrored { parts: now, whole });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::data::{Folder, Stores};

    const RUN: &str = "20260101-000000000-00000001";

    #[tokio::test]
    async fn a_ledger_grows_with_its_parts_and_others_have_their_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let stores = Stores::new(folder.path(), Arc::new(|_| None));
        let Ok(Folder::Store(objects)) = stores.folder("memory://bucket/ledgers") else { panic!("a store") };
        let mut mirror = LedgerMirror::new(objects.clone(), folder.path());
        let put = async |part: u32, text: &str| {
            let name = format!("{RUN}/{part:08}.jsonl");
            objects.put(&name, Bytes::from(text.to_owned())).await.expect("written");
        };
        let whole = HashSet::from([RUN.to_owned()]);
        let read = || fs::read_to_string(folder.path().join(format!("{RUN}.jsonl"))).expect("a file");
        let now = Utc::now();
        assert!(mirror.refresh(&whole, now).await.expect("nothing yet").is_empty());
        put(1, "one\n").await;
        put(2, "two\n").await;
        put(3, "three\n").await;
        assert_eq!(mirror.refresh(&HashSet::new(), now).await.expect("fetched"), whole, "it is alive");
        assert_eq!(read(), "one\nthree\n");
        mirror.refresh(&whole, now).await.expect("fetched");
        assert_eq!(read(), "one\ntwo\nthree\n");
        // Who reads it keeps reading the same file.
        let mut open = File::open(folder.path().join(format!("{RUN}.jsonl"))).expect("a file");
        put(3, "three\nfour\n").await;
        put(4, "five\n").await;
        mirror.refresh(&HashSet::new(), now).await.expect("fetched");
        assert_eq!(read(), "one\ntwo\nthree\nfour\nfive\n");
        let mut text = String::new();
        io::Read::read_to_string(&mut open, &mut text).expect("readable");
        assert_eq!(text, read());
        let later = now + chrono::TimeDelta::seconds(60);
        assert!(mirror.refresh(&whole, later).await.expect("fetched").is_empty(), "nothing was written for a minute");
        assert_eq!(mirror.known.len(), 1);
    }
}
