//! The memory of Python processes where the run has a limit, which they share with `flow` itself.
//!
//! Owns when a process is ended: all together hold more than the limit, and this one more than an equal share. What one held at most
//! decides how many may work at once from then on.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::process::{self, Process};

/// How often the processes are looked at. A process can take some gigabytes a second.
pub(super) const INTERVAL: Duration = Duration::from_millis(50);

/// Why a process was ended; empty while it was not.
pub(super) type Verdict = Arc<OnceLock<String>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct MemoryWatch {
    /// Bytes; 0 without a limit.
    limit: AtomicU64,
    watched: Mutex<Vec<Watched>>,
    /// The most that one process held.
    peak: AtomicU64,
    /// What `flow` itself held when it was last looked at.
    own: AtomicU64,
    started: OnceLock<()>,
}

#[derive(Debug)]
struct Watched {
    id: u64,
    process: Weak<Process>,
    verdict: Verdict,
}

/// A process that is to be ended.
#[derive(Debug)]
pub(super) struct Excess {
    /// Which one.
    pub id: u64,
    process: Arc<Process>,
    verdict: Verdict,
    message: String,
}

impl Excess {
    /// Ends the process; its call reads why.
    pub(super) fn end(self) {
        let _ = self.verdict.set(self.message);
        self.process.kill();
    }
}

impl MemoryWatch {
    /// Sets the limit.
    pub(super) fn limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Looks at a process from now on. True if nobody looks yet.
    pub(super) fn watch(&self, id: u64, process: &Arc<Process>, verdict: &Verdict) -> bool {
        if self.limit.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.push(Watched { id, process: Arc::downgrade(process), verdict: verdict.clone() });
        self.started.set(()).is_ok()
    }

    /// How many processes may work at once by what one of them held so far.
    pub(super) fn most_at_once(&self) -> usize {
        let (limit, peak) = (self.limit.load(Ordering::Relaxed), self.peak.load(Ordering::Relaxed));
        if limit == 0 || peak == 0 {
            return usize::MAX;
        }
        at_once(limit, self.own.load(Ordering::Relaxed), peak)
    }

    /// Looks at all processes. Returns the one that holds most where all of them and `flow` hold more than the limit and it more than its
    /// share; `workers` is how many there may be.
    pub(super) fn excess(&self, workers: usize) -> Option<Excess> {
        let limit = self.limit.load(Ordering::Relaxed);
        let mut found = Vec::new();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|one| one.process.strong_count() > 0);
        for one in watched.iter().filter(|one| one.verdict.get().is_none()) {
            let Some(process) = one.process.upgrade() else { continue };
            if let Some(held) = process.number().and_then(process::memory_of) {
                found.push((held, one.id, process, one.verdict.clone()));
            }
        }
        drop(watched);
        let own = process::own_memory().unwrap_or_default();
        self.own.store(own, Ordering::Relaxed);
        let all = own + found.iter().map(|(held, ..)| held).sum::<u64>();
        let others = found.len().saturating_sub(1);
        let (held, id, process, verdict) = found.into_iter().max_by_key(|(held, ..)| *held)?;
        self.peak.fetch_max(held, Ordering::Relaxed);
        if all <= limit || held <= share(limit, workers) {
            return None;
        }
        let beside = match others {
            0 => "with `flow`".to_owned(),
            1 => "with `flow` and one more Python process".to_owned(),
            others => format!("with `flow` and {others} more Python processes"),
        };
        let message = format!(
            "held {}, and {beside} {}, more than `--memory-limit` allows ({})",
            size(held),
            size(all),
            size(limit)
        );
        Some(Excess { id, process, verdict, message })
    }
}

/// What each process may hold whatever the others do.
fn share(limit: u64, workers: usize) -> u64 {
    limit / (workers as u64 + 1)
}

/// How many processes of a size fit beside `flow`; at least one.
fn at_once(limit: u64, own: u64, peak: u64) -> usize {
    usize::try_from(limit.saturating_sub(own) / peak.max(1)).unwrap_or(usize::MAX).max(1)
}

/// A size as text.
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_processes_work_at_once_as_fit_and_one_always_does() {
        for (limit, own, peak, expected) in
            [(1000, 100, 300, 3), (1000, 100, 450, 2), (1000, 100, 451, 1), (1000, 100, 5000, 1), (1000, 2000, 1, 1)]
        {
            assert_eq!(at_once(limit, own, peak), expected, "{limit} {own} {peak}");
        }
        let watch = MemoryWatch::default();
        assert_eq!(watch.most_at_once(), usize::MAX, "without a limit");
        watch.limit(1 << 30);
        assert_eq!(watch.most_at_once(), usize::MAX, "nothing is known yet");
        assert_eq!(share(900, 2), 300);
    }

    #[test]
    fn sizes_read_as_sizes() {
        assert_eq!((size(300 << 20).as_str(), size(3 << 29).as_str()), ("300 MiB", "1.5 GiB"));
    }
}
