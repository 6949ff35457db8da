//! The list of runs, as often as it is asked for.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::{Mutex, PoisonError},
};

use crate::run::{Run, ledger};

/// The runs of a folder, latest first, without reading again those that are over.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<BTreeMap<String, (u64, Run)>>);

impl Runs {
    /// The runs as they are now. Blocking.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn list(&self, folder: &Path) -> io::Result<Vec<Run>> {
        let ids = ledger::list(folder)?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| ids.contains(id));
        let mut runs = Vec::new();
        for id in ids.iter().rev() {
            let Ok(length) = fs::metadata(folder.join(format!("{id}.jsonl"))).map(|file| file.len()) else { continue };
            if let Some((before, run)) = known.get(id)
                && *before == length
            {
                runs.push(run.clone());
                continue;
            }
            // One that cannot be read hides no other one.
            let Ok(run) = Run::read(folder, id) else { continue };
            if run.status != "running" {
                known.insert(id.clone(), (length, run.clone()));
            }
            runs.push(run);
        }
        Ok(runs)
    }
}
