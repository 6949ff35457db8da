//! What all requests share.

use std::{
    io,
    path::PathBuf,
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
    run::{Run, Workspace},
};

/// Pages that are open at once, each with a stream of events.
const STREAMS: usize = 64;

/// A request to read the project again; the answer is sent when that is done.
pub(super) type Reload = oneshot::Sender<()>;

/// What all requests share, for a request.
pub(super) type Shared = Arc<State>;

/// What all requests share.
pub(super) struct State {
    /// The folder of the ledgers.
    pub(super) folder: PathBuf,
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
        folder: PathBuf,
        (stores, session): (Arc<Stores>, SessionContext),
        secrets: SecretMask,
        workspace: Workspace,
        reloads: mpsc::Sender<Reload>,
        end: CancellationToken,
    ) -> Self {
        Self {
            folder,
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
        let (done, wait) = oneshot::channel();
        if self.reloads.send(done).await.is_ok() {
            // The server ends if nobody answers.
            let _ = wait.await;
        }
    }

    /// The runs, latest first. Blocking.
    ///
    /// # Errors
    /// When the folder of the ledgers cannot be read.
    pub(super) fn runs(&self) -> io::Result<Vec<Run>> {
        self.runs.list(&self.folder)
    }

    /// JSON as it may be sent: without secrets, and without characters that are not seen.
    pub(super) fn shown(&self, json: &str) -> String {
        self.secrets.mask(&visible_json_text(json)).into_owned()
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
