//! Signals: the first one finishes what is in flight, the second one stops now.

use std::sync::{Arc, OnceLock};

use super::{Exit, app::GRACE};
use crate::run::Shutdown;

/// Listens until the process ends. Gives the handle that a run watches, and a cell with the exit code of the first signal.
pub(super) fn listen(on_first: impl Fn(&'static str) + Send + Sync + 'static) -> (Shutdown, Arc<OnceLock<Exit>>) {
    let shutdown = Shutdown::default();
    let first = Arc::new(OnceLock::new());
    let (asked, cell) = (shutdown.clone(), first.clone());
    // Without handlers the default applies: the process ends at once, and nothing half-written is visible anyway.
    let Ok(mut signals) = Signals::new() else { return (shutdown, first) };
    tokio::spawn(async move {
        let (name, exit) = signals.next().await;
        // Only this task writes the cell.
        let _ = cell.set(exit);
        asked.drain.cancel();
        on_first(name);
        tokio::select! {
            _ = signals.next() => {}
            () = tokio::time::sleep(GRACE) => {}
        }
        asked.abort.cancel();
    });
    (shutdown, first)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> (&'static str, Exit) {
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", Exit::Interrupted),
            _ = self.terminate.recv() => ("SIGTERM", Exit::Terminated),
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> (&'static str, Exit) {
        match tokio::signal::ctrl_c().await {
            Ok(()) => ("Ctrl-C", Exit::Interrupted),
            Err(_) => std::future::pending().await,
        }
    }
}
