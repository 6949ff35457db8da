//! The ledgers of one place: which runs there are, and how each stands.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use chrono::Utc;

use super::{history::Run, ledger};

/// A folder of ledgers. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Ledgers {
    folder: PathBuf,
    /// Runs whose files are copies, which show no lock, and which were written a moment ago.
    alive: Arc<RwLock<HashSet<String>>>,
}

impl Ledgers {
    /// The ledgers in a folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, alive: Arc::default() }
    }

    /// The folder of the files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Says which runs are alive though their files are copies.
    pub fn are_alive(&self, runs: HashSet<String>) {
        *self.alive.write().unwrap_or_else(PoisonError::into_inner) = runs;
    }

    /// Ids of all runs, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read. A missing folder contains no runs.
    pub fn ids(&self) -> io::Result<Vec<String>> {
        ledger::list(&self.folder)
    }

    /// A run.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn run(&self, id: &str) -> io::Result<Run> {
        Ok(self.alive_or_not(Run::read(&self.folder, id)?))
    }

    /// A run as its ledger says, which runs if it is known to be alive and has no end.
    pub fn alive_or_not(&self, run: Run) -> Run {
        let alive = self.alive.read().unwrap_or_else(PoisonError::into_inner).contains(&run.run);
        if alive { run.alive(Utc::now()) } else { run }
    }

    /// The last run of the same pipelines before this one that came to an end of its own: of the same shard in an earlier submission.
    pub fn before(&self, run: &Run) -> Option<Run> {
        let ids = self.ids().ok()?;
        let earlier = ids.iter().rev().skip_while(|id| **id >= run.run);
        let readable = earlier.filter_map(|id| self.run(id).ok());
        readable.into_iter().find(|other| {
            other.pipeline == run.pipeline
                && other.shard == run.shard
                && (run.group.is_none() || other.group != run.group)
                && matches!(other.status.as_str(), "ok" | "failed")
        })
    }

    /// The runs of a submission, in the order of their begins; none where there is no such group.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn group(&self, name: &str) -> io::Result<Vec<Run>> {
        let runs = self.ids()?.into_iter().filter_map(|id| self.run(&id).ok());
        Ok(runs.filter(|run| run.group.as_deref() == Some(name)).collect())
    }
}
