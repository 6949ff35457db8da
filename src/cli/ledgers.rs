//! Where the ledgers of runs are: in the project, in a folder that hosts share, or on a store.
//!
//! Ledgers of a store are read from copies in a temporary folder, so that all commands read them in the same way.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use chrono::Utc;

use super::{
    Exit,
    app::{App, Stop, environment},
};
use crate::{
    config::Project,
    data::{Folder, Objects, Stores},
    run::ledger_copy::{LedgerCopy, fetch},
};

/// The place of the ledger of a run that is about to start.
pub(super) struct LedgerOfRun {
    /// The folder of the file.
    pub folder: PathBuf,
    /// True where old ledgers are removed: in the project's own folder.
    pub prune: bool,
    copies: Option<Objects>,
}

impl LedgerOfRun {
    /// Keeps a copy on the store up to date from now on, where the ledger is to be on one.
    pub(super) fn copy(&self, run: &str) -> Option<LedgerCopy> {
        self.copies.clone().map(|objects| LedgerCopy::start(objects, &self.folder, run))
    }
}

/// Ledgers to be read.
pub(super) struct Ledgers {
    /// The folder of their files.
    pub folder: PathBuf,
    /// Runs that are alive and whose files are copies, which show no lock.
    pub alive: HashSet<String>,
    /// Removed with the value.
    _copies: Option<tempfile::TempDir>,
}

impl App {
    fn ledger_folder(&self, stores: &Stores, location: &str) -> Result<Folder, Stop> {
        stores.folder(location).map_err(|error| self.fail(Exit::Wrong, format!("`--ledger`: {error}")))
    }

    /// Where a run writes its ledger.
    pub(super) fn ledger_of_run(
        &self,
        project: &Project,
        stores: &Stores,
        location: Option<&str>,
    ) -> Result<LedgerOfRun, Stop> {
        let own = Self::state_folder(project).join("runs");
        let (folder, prune, copies) = match location {
            None => (own, true, None),
            Some(location) => match self.ledger_folder(stores, location)? {
                Folder::Local(folder) => (folder, false, None),
                Folder::Store(objects) => (own, true, Some(objects)),
            },
        };
        Ok(LedgerOfRun { folder, prune, copies })
    }

    /// The ledgers to read. Of those on a store, the run `whole` (an id, or `last`) is there with all events.
    pub(super) fn ledgers(
        &self,
        project: &Project,
        location: Option<&str>,
        whole: Option<&str>,
    ) -> Result<Ledgers, Stop> {
        let own = Self::state_folder(project).join("runs");
        let Some(location) = location else { return Ok(Ledgers { folder: own, alive: HashSet::new(), _copies: None }) };
        let stores = Stores::new(project.root.clone(), Arc::new(environment));
        let objects = match self.ledger_folder(&stores, location)? {
            Folder::Local(folder) => return Ok(Ledgers { folder, alive: HashSet::new(), _copies: None }),
            Folder::Store(objects) => objects,
        };
        let failed = |error: String| self.fail(Exit::Environment, format!("{}: {error}", objects.shown()));
        let copies = tempfile::tempdir().map_err(|error| failed(error.to_string()))?;
        let fetching = fetch(&objects, copies.path(), |run| whole == Some(run), Utc::now());
        let alive = self.block_on(2, fetching)?.map_err(|error| failed(error.to_string()))?;
        Ok(Ledgers { folder: copies.path().to_path_buf(), alive, _copies: Some(copies) })
    }
}
