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
    run::{LedgerMirror, Ledgers, ledger_copy::LedgerCopy},
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
pub(super) struct LedgersToRead {
    /// The ledgers. Of those on a store, only those that were loaded have all events.
    pub ledgers: Ledgers,
    /// Where they are copied from.
    pub mirror: Option<LedgerMirror>,
    stores: Arc<dyn Fn() -> Stores>,
    location: String,
    /// Removed with the value.
    _copies: Option<tempfile::TempDir>,
}

impl LedgersToRead {
    /// Fetches these runs whole, and the ends of all others.
    pub(super) fn load(&mut self, app: &App, runs: &[&str]) -> Result<(), Stop> {
        let Some(mirror) = &mut self.mirror else { return Ok(()) };
        let whole: HashSet<String> = runs.iter().map(|run| (*run).to_owned()).collect();
        let fetched = app.block_on(2, mirror.refresh(&whole, Utc::now()))?;
        let alive = fetched.map_err(|error| app.fail(Exit::Environment, format!("{}: {error}", mirror.shown())))?;
        self.ledgers.are_alive(alive);
        // Its client ended with the runtime.
        if let Folder::Store(objects) = app.ledger_folder(&(self.stores)(), &self.location)? {
            mirror.reconnect(objects);
        }
        Ok(())
    }

    /// The message for ledgers that cannot be read.
    pub(super) fn unreadable(&self, app: &App, error: &std::io::Error) -> Stop {
        app.fail(Exit::Environment, format!("{}: {error}", self.ledgers.folder().display()))
    }

    /// The id of a run as it is typed, `last` included.
    pub(super) fn find(&self, app: &App, run: &str) -> Result<String, Stop> {
        let ids = self.ledgers.ids().map_err(|error| self.unreadable(app, &error))?;
        let id = if run == "last" { ids.last() } else { ids.iter().find(|id| *id == run) };
        id.cloned().ok_or_else(|| {
            let hint = if ids.is_empty() { "no run was recorded yet" } else { "`flow runs` lists them" };
            app.fail(Exit::Wrong, format!("there is no run `{run}`; {hint}"))
        })
    }
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

    /// [`App::ledgers`], where a folder that was named must be there: an empty list would hide that its name is wrong.
    pub(super) fn existing_ledgers(&self, project: &Project, location: Option<&str>) -> Result<LedgersToRead, Stop> {
        let read = self.ledgers(project, location)?;
        if location.is_some() && read.mirror.is_none() {
            let folder = read.ledgers.folder();
            folder
                .metadata()
                .map_err(|error| self.fail(Exit::Environment, format!("`--ledger`: {}: {error}", folder.display())))?;
        }
        Ok(read)
    }

    /// The ledgers to read, with the ends of each.
    pub(super) fn ledgers(&self, project: &Project, location: Option<&str>) -> Result<LedgersToRead, Stop> {
        let root = project.root.clone();
        let stores = move || Stores::new(root.clone(), Arc::new(environment));
        let place = location.map(|location| self.ledger_folder(&stores(), location)).transpose()?;
        let mut read = LedgersToRead {
            ledgers: Ledgers::new(Self::state_folder(project).join("runs")),
            mirror: None,
            stores: Arc::new(stores),
            location: location.unwrap_or_default().to_owned(),
            _copies: None,
        };
        match place {
            None => {}
            Some(Folder::Local(folder)) => read.ledgers = Ledgers::new(folder),
            Some(Folder::Store(objects)) => {
                let folder = tempfile::tempdir()
                    .map_err(|error| self.fail(Exit::Environment, format!("{}: {error}", objects.shown())))?;
                read.ledgers = Ledgers::new(folder.path().to_path_buf());
                read.mirror = Some(LedgerMirror::new(objects, folder.path()));
                read._copies = Some(folder);
                read.load(self, &[])?;
            }
        }
        Ok(read)
    }
}
