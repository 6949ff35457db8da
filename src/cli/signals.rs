//! Signals: the first one finishes what is in flight, the second one drops it, the third one waits for nothing.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::Exit;
use crate::run::Shutdown;

/// How long work in flight may take after the first request to stop.
const GRACE: Duration = Duration::from_secs(30);
/// How long what was dropped may take to end, and what blocks may take after the end of a run.
pub(super) const LAST_GRACE: Duration = Duration::from_secs(3);

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
        signals.next_within(GRACE).await;
        asked.abort.cancel();
        signals.next_within(LAST_GRACE).await;
        asked.leave.cancel();
    });
    (shutdown, first)
}

impl Signals {
    /// Waits for one more signal, and not for ever.
    async fn next_within(&mut self, limit: Duration) {
        tokio::select! {
            _ = self.next() => {}
            () = tokio::time::sleep(limit) => {}
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// The terminal was closed; `None` where that is to be ignored, as under `nohup`.
    hangup: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hangup })
    }

    async fn next(&mut self) -> (&'static str, Exit) {
        let hangup = async {
            match &mut self.hangup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", Exit::Interrupted),
            _ = self.terminate.recv() => ("SIGTERM", Exit::Terminated),
            _ = hangup => ("SIGHUP", Exit::Terminated),
        }
    }
}

/// True when whoever started this process wants it to outlive its terminal. Where the system does not tell, nobody does.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The first bit is signal 1, which is SIGHUP.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
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
