//! Fault points: every position at which a write may be interrupted, counted, so that a test can end the process at each.
//!
//! Unarmed, a point is one relaxed load. Armed with `n`, the n-th point kills the process as `kill -9` would: no
//! destructor runs, no buffer is flushed. Must not know what is being written.

use std::sync::atomic::{AtomicU64, Ordering};

const UNARMED: u64 = 0;

static KILL_AT: AtomicU64 = AtomicU64::new(UNARMED);
static PASSED: AtomicU64 = AtomicU64::new(0);

/// Ends this process at the n-th fault point from now, counted from 1. For tests; no promise.
pub fn kill_at(n: u64) {
    PASSED.store(0, Ordering::SeqCst);
    KILL_AT.store(n, Ordering::SeqCst);
}

/// Passes one fault point: a moment at which the disk or the store holds something that the moment before it did not.
#[inline]
pub(super) fn point() {
    let at = KILL_AT.load(Ordering::Relaxed);
    if at != UNARMED && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == at {
        kill();
    }
}

#[cfg(unix)]
fn kill() -> ! {
    use rustix::process::{Signal, getpid, kill_process};

    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
    loop {
        // The signal may come a moment after the call returns, and nothing may happen in between.
        std::thread::park();
    }
}

#[cfg(not(unix))]
fn kill() -> ! {
    std::process::abort();
}
