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

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::Router;
use chrono::Utc;
use datafusion::prelude::SessionContext;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::block_in_place,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use access::Access;
use connection::Patience;
use state::{Reload, State, Watched};

use crate::{
    data::Stores,
    model::SecretMask,
    run::{LedgerMirror, Ledgers, Workspace},
};

pub use access::is_token;

/// Connections at once; more wait. Those that say nothing are closed soon.
const CONNECTIONS: usize = 2048;
/// The time between two looks at a store's ledgers: runs copy theirs as often.
const REFRESH: Duration = Duration::from_secs(5);
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
    /// The ledgers.
    pub ledgers: Ledgers,
    /// Where they are copied from, unless they are no copies.
    pub mirror: Option<LedgerMirror>,
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
        f.debug_struct("Served").field("ledgers", &self.ledgers).finish_non_exhaustive()
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
        let Served { ledgers, mirror, workspace, stores, session, secrets } = served;
        let (refreshes, refreshed) = mpsc::channel(1);
        let refreshes = mirror.is_some().then_some(refreshes);
        let read = (ledgers.clone(), refreshes);
        let state = Arc::new(State::new(read, (stores, session), secrets, workspace, reloads, end.clone()));
        let router = routes::router(Arc::clone(&state), Access::new(self.bound, self.token));
        let tasks = TaskTracker::new();
        if let Some(mirror) = mirror {
            tasks.spawn(keep_up(mirror, ledgers, Arc::clone(&state.watched), refreshed, end.clone()));
        }
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

/// Copies what is new, at intervals and when it is asked for, until `end` is cancelled.
async fn keep_up(
    mut mirror: LedgerMirror,
    ledgers: Ledgers,
    watched: Watched,
    mut requests: mpsc::Receiver<Reload>,
    end: CancellationToken,
) {
    loop {
        let request = tokio::select! {
            () = end.cancelled() => return,
            Some(request) = requests.recv() => Some(request),
            () = tokio::time::sleep(REFRESH) => None,
        };
        let whole = watched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match mirror.refresh(&whole, Utc::now()).await {
            Ok(alive) => ledgers.are_alive(alive),
            Err(error) => tracing::warn!(%error, "the ledgers were not copied; they are tried again"),
        }
        if let Some(request) = request {
            // A client that went away needs no answer.
            let _ = request.send(());
        }
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
