//! The list of runs, as often as it is asked for.

use std::{
    collections::BTreeMap,
    fs, io,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::run::{Ledgers, Run};

/// The runs that are listed, latest first: a folder that hosts share may hold any number.
const MOST: usize = 1000;
/// A list that is not older serves all pages that are open.
const RECENT: Duration = Duration::from_millis(200);

/// The runs of a folder, latest first, without reading again those that are over.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Runs that are over, each with the length of its ledger.
    over: BTreeMap<String, (u64, Run)>,
    last: Option<(Instant, Vec<Run>)>,
}

impl Runs {
    /// The runs as they are now. Blocking.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn list(&self, ledgers: &Ledgers) -> io::Result<Vec<Run>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = known.list(ledgers)?;
        known.last = Some((Instant::now(), runs.clone()));
        Ok(runs)
    }

    /// The runs as they were a moment ago. Blocking.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn recent(&self, ledgers: &Ledgers) -> io::Result<Vec<Run>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, runs)) = &known.last
            && at.elapsed() < RECENT
        {
            return Ok(runs.clone());
        }
        drop(known);
        self.list(ledgers)
    }
}

impl Known {
    fn list(&mut self, ledgers: &Ledgers) -> io::Result<Vec<Run>> {
        let folder = ledgers.folder();
        let ids = ledgers.ids()?;
        let ids = &ids[ids.len().saturating_sub(MOST)..];
        // They are sorted.
        self.over.retain(|id, _| ids.binary_search(id).is_ok());
        let mut runs = Vec::new();
        for id in ids.iter().rev() {
            let Ok(length) = fs::metadata(folder.join(format!("{id}.jsonl"))).map(|file| file.len()) else { continue };
            if let Some((before, run)) = self.over.get(id)
                && *before == length
            {
                runs.push(ledgers.alive_or_not(run.clone()));
                continue;
            }
            // One that cannot be read hides no other one.
            let Ok(run) = Run::read(folder, id) else { continue };
            // The list does not show them, and a project may have any number.
            let run = Run { selected: None, ..run };
            if run.status != "running" {
                self.over.insert(id.clone(), (length, run.clone()));
            }
            runs.push(ledgers.alive_or_not(run));
        }
        Ok(runs)
    }
}
