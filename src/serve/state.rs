//! What all requests share.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, PoisonError, RwLock},
};

use datafusion::prelude::SessionContext;
use tokio::{
    sync::{Mutex, Semaphore, mpsc, oneshot},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

use super::runs::Runs;
use crate::{
    data::Stores,
    model::{SecretMask, visible_json_text},
    run::{Ledgers, Run, Workspace},
};

/// Pages that are open at once, each with a stream of events.
const STREAMS: usize = 64;

/// A request to read something again; the answer is sent when that is done.
pub(super) type Reload = oneshot::Sender<()>;
/// Ids of runs.
pub(super) type Watched = Arc<std::sync::Mutex<HashSet<String>>>;

/// What all requests share, for a request.
pub(super) type Shared = Arc<State>;

/// What all requests share.
pub(super) struct State {
    pub(super) ledgers: Ledgers,
    /// Runs that were asked for: where ledgers are copies, these are whole ones.
    pub(super) watched: Watched,
    /// Asks for new copies; `None` where ledgers are no copies.
    refreshes: Option<mpsc::Sender<Reload>>,
    pub(super) stores: Arc<Stores>,
    pub(super) session: SessionContext,
    pub(super) secrets: SecretMask,
    /// Held by the preview that is made.
    pub(super) previews: Mutex<()>,
    pub(super) reloads: mpsc::Sender<Reload>,
    /// Cancelled when the server ends.
    pub(super) end: CancellationToken,
    /// A permit for each stream of events.
    pub(super) streams: Arc<Semaphore>,
    workspace: RwLock<Arc<Workspace>>,
    runs: Runs,
}

impl State {
    pub(super) fn new(
        (ledgers, refreshes): (Ledgers, Option<mpsc::Sender<Reload>>),
        (stores, session): (Arc<Stores>, SessionContext),
        secrets: SecretMask,
        workspace: Workspace,
        reloads: mpsc::Sender<Reload>,
        end: CancellationToken,
    ) -> Self {
        Self {
            ledgers,
            watched: Watched::default(),
            refreshes,
            stores,
            session,
            secrets,
            previews: Mutex::default(),
            reloads,
            end,
            streams: Arc::new(Semaphore::new(STREAMS)),
            workspace: RwLock::new(Arc::new(workspace)),
            runs: Runs::default(),
        }
    }

    /// The project as it was read last.
    pub(super) fn workspace(&self) -> Arc<Workspace> {
        Arc::clone(&self.workspace.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the project.
    pub(super) fn replace(&self, workspace: Workspace) {
        *self.workspace.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(workspace);
    }

    /// Waits until the project is read again. If that fails, the earlier one stays.
    pub(super) async fn reload(&self) {
        ask(&self.reloads).await;
    }

    /// Waits until all events of these runs are there, as far as they are known now.
    pub(super) async fn watch(&self, runs: impl IntoIterator<Item = String>) {
        let Some(refreshes) = &self.refreshes else { return };
        let mut new = false;
        for run in runs {
            new |= self.watched.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
        }
        if new {
            ask(refreshes).await;
        }
    }

    /// The runs, latest first. Blocking.
    ///
    /// # Errors
    /// When the folder of the ledgers cannot be read.
    pub(super) fn runs(&self) -> io::Result<Vec<Run>> {
        self.runs.list(&self.ledgers)
    }

    /// The runs as they were a moment ago. Blocking.
    ///
    /// # Errors
    /// When the folder of the ledgers cannot be read.
    pub(super) fn recent_runs(&self) -> io::Result<Vec<Run>> {
        self.runs.recent(&self.ledgers)
    }

    /// JSON as it may be sent: without secrets, and without characters that are not seen.
    pub(super) fn shown(&self, json: &str) -> String {
        self.secrets.mask(&visible_json_text(json)).into_owned()
    }
}

/// Waits until something is read again.
async fn ask(reloads: &mpsc::Sender<Reload>) {
    let (done, wait) = oneshot::channel();
    if reloads.send(done).await.is_ok() {
        // The server ends if nobody answers.
        let _ = wait.await;
    }
}

/// Work with what all requests share that may wait for the disk.
///
/// # Errors
/// Those of the work.
pub(super) async fn blocking<T: Send + 'static>(
    state: &Shared,
    work: impl FnOnce(&State) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let state = Arc::clone(state);
    spawn_blocking(move || work(&state)).await.map_err(io::Error::other)?
}
