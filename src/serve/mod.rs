//! The page of a run over HTTP: live, from the ledger, with a list of past runs and previews of data. Read-only.
//!
//! Owns the server. What it holds in memory does not depend on the length of a run: a client gets lines of the ledger in parts
//! and makes its page of them. Must not know the terminal, clap or signals.

mod access;
mod connection;
mod live;
mod preview;
mod response;
mod routes;
mod runs;
mod state;
mod tail;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use datafusion::prelude::SessionContext;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::block_in_place,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use access::Access;
use connection::Patience;
use state::State;

use crate::{data::Stores, model::SecretMask, run::Workspace};

pub use access::is_token;

/// Connections at once; more wait. Those that say nothing are closed soon.
const CONNECTIONS: usize = 2048;
/// How long responses may take to end after the server was asked to.
const GRACE: Duration = Duration::from_secs(2);

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    bound: SocketAddr,
    token: Option<String>,
}

/// What a server shows.
pub struct Served {
    /// The folder of the ledgers.
    pub folder: PathBuf,
    /// The project.
    pub workspace: Workspace,
    /// Where datasets are.
    pub stores: Arc<Stores>,
    /// The engine that reads them.
    pub session: SessionContext,
    /// What is shown of no dataset and no ledger.
    pub secrets: SecretMask,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens. Where others than this machine can connect, a token is needed: `token`, or a new one.
    ///
    /// # Errors
    /// When the address is in use or not this machine's.
    pub async fn bind(address: SocketAddr, token: Option<String>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        let token = token.or_else(|| (!bound.ip().is_loopback()).then(|| format!("{:032x}", rand::random::<u128>())));
        Ok(Self { listener, bound, token })
    }

    /// The address of the page, with the token.
    pub fn url(&self) -> String {
        match &self.token {
            Some(token) => {
                let token: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
                format!("http://{}/?token={token}", self.bound)
            }
            None => format!("http://{}/", self.bound),
        }
    }

    /// Serves until `end` is cancelled. `load` reads the project again, or says nothing if it is wrong now.
    pub async fn run(self, served: Served, load: impl Fn() -> Option<Workspace>, end: CancellationToken) {
        let (reloads, mut requested) = mpsc::channel(1);
        let Served { folder, workspace, stores, session, secrets } = served;
        let state = Arc::new(State::new(folder, (stores, session), secrets, workspace, reloads, end.clone()));
        let router = routes::router(Arc::clone(&state), Access::new(self.bound, self.token));
        let tasks = TaskTracker::new();
        tasks.spawn(accept(self.listener, router, tasks.clone(), end.clone()));
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                Some(done) = requested.recv() => {
                    // It may ask other programs and wait for them.
                    if let Some(workspace) = block_in_place(&load) {
                        state.replace(workspace);
                    }
                    // A client that went away needs no answer.
                    let _ = done.send(());
                }
            }
        }
        tasks.close();
        let _ = tokio::time::timeout(GRACE, tasks.wait()).await;
    }
}

/// Accepts connections until `end` is cancelled, each of which becomes one of `tasks`.
async fn accept(listener: TcpListener, router: Router, tasks: TaskTracker, end: CancellationToken) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accept = async {
            let permit = Arc::clone(&connections).acquire_owned().await.expect("the semaphore is never closed");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = end.cancelled() => return,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, end) = (router.clone(), end.clone());
                tasks.spawn(async move {
                    if let Err(error) = connection::serve(stream, router, Patience::default(), &end).await {
                        tracing::debug!(%error, "a connection was not served to its end");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                // For lack of files: until some are closed.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
