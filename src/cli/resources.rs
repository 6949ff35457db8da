//! What the system grants this process: threads and open files. Checked before anything starts, so that a lack of them is
//! a message and no panic in the middle of a run.

use std::{
    io,
    sync::RwLock,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

/// Open files that a run needs at least besides the locks of its outputs: data, cache, ledger, connections.
const OTHER_FILES: u64 = 20;

/// Starts `count` threads of `stack` bytes each, all at once, and ends them.
///
/// # Errors
/// When the system starts fewer; the error says so.
pub(super) fn try_threads(count: usize, stack: usize) -> io::Result<()> {
    let gate = RwLock::new(());
    thread::scope(|scope| {
        let closed = gate.write();
        let started = (0..count).try_for_each(|_| {
            // Each waits until all are there.
            thread::Builder::new().stack_size(stack).spawn_scoped(scope, || drop(gate.read())).map(drop)
        });
        drop(closed);
        started
    })
}

/// Why nothing can be done at this time: many libraries count from 1970 on, and panic before.
pub(super) fn wrong_clock(now: SystemTime) -> Option<&'static str> {
    (now < UNIX_EPOCH).then_some("the system's clock is set to a time before 1970\nhelp: set the clock, and run again")
}

/// Raises the limit on open files as far as the system lets this process.
pub(super) fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // A refusal leaves the limit as it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// Why the limit on open files is too low for a run that holds `locks` locks; `None` where it suffices.
pub(super) fn too_few_files(locks: usize) -> Option<String> {
    too_few(locks, open_files()?)
}

fn open_files() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    None
}

fn too_few(locks: usize, allowed: u64) -> Option<String> {
    let needed = locks as u64 + OTHER_FILES;
    (needed > allowed).then(|| {
        format!(
            "a run of {locks} nodes needs about {needed} open files, one for the lock of each output, and the system allows \
             {allowed}\nhelp: raise the limit with `ulimit -n {needed}`, or run fewer nodes at a time with `--nodes` or `--tags`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_more_locks_than_open_files_is_told_both_numbers() {
        assert_eq!(too_few(1, 256), None);
        let message = too_few(5000, 1024).expect("too few");
        assert!(message.contains("5000 nodes") && message.contains("ulimit -n 5020") && message.contains("1024"));
    }

    #[test]
    fn a_clock_before_1970_is_an_error() {
        let second = std::time::Duration::from_secs(1);
        assert_eq!(wrong_clock(UNIX_EPOCH), None);
        assert!(wrong_clock(UNIX_EPOCH - second).is_some_and(|message| message.contains("1970")));
    }

    #[test]
    fn threads_that_the_system_does_not_start_are_an_error() {
        try_threads(3, 64 << 10).expect("three threads");
        try_threads(2, usize::MAX >> 2).expect_err("no stack is as large");
    }
}
