//! Signals: the first one drains work in flight, the second one drops it, the third one exits at once.

use std::{
    sync::{Arc, OnceLock, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::Exit;
use crate::run::Shutdown;

/// How long work in flight may take after the first signal.
const GRACE: Duration = Duration::from_secs(30);
/// How long dropped work may take to end, and blocking work after the end of a run.
pub(super) const LAST_GRACE: Duration = Duration::from_secs(3);

/// A thread that listens for signals. It ends when this is dropped.
pub(super) struct Listener {
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            // It reports nothing.
            let _ = thread.join();
        }
    }
}

/// Listens for signals. Returns the handle that a run watches, and a cell for the exit code of the first signal.
pub(super) fn listen(
    on_first: impl Fn(&'static str) + Send + Sync + 'static,
) -> (Shutdown, Arc<OnceLock<Exit>>, Listener) {
    let shutdown = Shutdown::default();
    let first = Arc::new(OnceLock::new());
    let (requested, cell) = (shutdown.clone(), first.clone());
    let (listening, installed) = mpsc::channel();
    let end = CancellationToken::new();
    let until = end.clone();
    let listen = move || {
        // A runtime and a thread of its own: that of the run does not look for signals while all its threads compute.
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(until.run_until_cancelled(async move {
            let Ok(mut signals) = Signals::new() else { return };
            let _ = listening.send(());
            let (name, exit) = signals.next().await;
            // Only this task writes the cell.
            let _ = cell.set(exit);
            requested.drain.cancel();
            on_first(name);
            signals.next_within(GRACE).await;
            requested.abort.cancel();
            signals.next_within(LAST_GRACE).await;
            requested.leave.cancel();
        }));
    };
    // Without handlers the default applies: the process ends at once, and no partial file is visible.
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(listen).ok();
    if thread.is_some() {
        let _ = installed.recv();
    }
    (shutdown, first, Listener { end, thread })
}

impl Signals {
    /// Waits for one more signal, up to a limit.
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
    /// The terminal was closed; `None` where that is ignored, as under `nohup`.
    hangup: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        // A file that may not grow is an error of its write then, and not the end of the process.
        let _ = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
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

/// True when this process was started to outlive its terminal; false where the system does not say.
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
