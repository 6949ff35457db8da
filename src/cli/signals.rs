//! Signals: the first one finishes what is in flight, the second one stops now.

use std::{sync::OnceLock, sync::Arc};

use super::{Exit, app::GRACE};
use crate::run::Shutdown;

/// Listens until the process ends. Gives the handle that a run watches, and a cell with the exit code of the first signal.
pub(super) fn listen(on_first: impl Fn(&'static str) + Send + Sync + 'static) -> (Shutdown, Arc<OnceLock<Exit>>) {
    let shutdown = Shutdown::default();
    let first = Arc::new(OnceLock::new());
    let (asked, cell) = (shutdown.clone(), first.clone());
    tokio::spawn(async move {
        let (name, exit) = next().await;
        // Only this task writes the cell.
        let _ = cell.set(exit);
        asked.drain.cancel();
        on_first(name);
        tokio::select! {
            _ = next() => {}
            () = tokio::time::sleep(GRACE) => {}
        }
        asked.abort.cancel();
    });
    (shutdown, first)
}

#[cfg(unix)]
async fn next() -> (&'static str, Exit) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        // Without handlers the default applies: the process ends, and nothing half-written is visible anyway.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => ("SIGINT", Exit::Interrupted),
        _ = terminate.recv() => ("SIGTERM", Exit::Terminated),
    }
}

#[cfg(not(unix))]
async fn next() -> (&'static str, Exit) {
    match tokio::signal::ctrl_c().await {
        Ok(()) => ("Ctrl-C", Exit::Interrupted),
        Err(_) => std::future::pending().await,
    }
}
