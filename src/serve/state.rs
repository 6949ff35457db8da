//! What all requests share.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use datafusion::prelude::SessionContext;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::runs::Runs;
use crate::{
    data::Stores,
    model::SecretMask,
    run::{Run, Workspace},
};

/// A request to read the project again; the answer is sent when that is done.
pub(super) type Reload = oneshot::Sender<()>;

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
    ) -> Self {
        Self {
            folder,
            stores,
            session,
            secrets,
            previews: Mutex::default(),
            reloads,
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
}
