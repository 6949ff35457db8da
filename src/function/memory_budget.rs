//! The memory that partitions in work share.
//!
//! Owns how much there is, the FIFO queue of those that wait for it, and when the allocator is asked to return freed memory
//! to the system. Must not know what a partition holds: a task states how many bytes its partition takes, reserves them all
//! before it begins, and releases them when the partition is committed. How many bytes that is follows from its first rows,
//! which are read under a small budget of their own. A task reserves once per budget, so tasks cannot deadlock; an oversized
//! reservation is capped at the whole budget and runs alone.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::net::work_clock;

/// Bytes of one permit: small enough to distinguish partitions, large enough for the range of a semaphore.
const UNIT: u64 = 4 << 10;

/// The budget for first rows is this fraction of the whole budget, in addition to it.
const READ_FRACTION: u64 = 8;

/// This fraction of the whole budget may be freed before the allocator returns it to the system.
const RELEASE_FRACTION: u64 = 64;

/// Memory for partitions in work, shared by all clones.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    total: u64,
    workers: usize,
    free: Arc<Semaphore>,
    /// For first rows, until the memory of their partition is reserved.
    read: Arc<Semaphore>,
    /// Bytes freed since the allocator last returned memory to the system.
    freed: Arc<AtomicU64>,
    release: fn(),
}

/// A part of a [`MemoryBudget`], released when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    bytes: u64,
    budget: MemoryBudget,
    permit: OwnedSemaphorePermit,
}

impl Reservation {
    /// Releases what exceeds `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let kept = units(bytes) as usize;
        if let Some(surplus) = self.permit.num_permits().checked_sub(kept)
            && surplus > 0
            && self.permit.split(surplus).is_some()
        {
            self.bytes = bytes;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.freed(self.bytes);
    }
}

impl MemoryBudget {
    /// Half of a process's memory limit, in bytes: the other half is the table engine's.
    pub fn of_limit(memory: u64) -> Self {
        let total = (memory / 2).max(UNIT);
        let free = Arc::new(Semaphore::new(units(total) as usize));
        let read = Arc::new(Semaphore::new(units(total / READ_FRACTION) as usize));
        Self { total, workers: 1, free, read, freed: Arc::default(), release: || {} }
    }

    /// The same budget, for an allocator that keeps freed memory until `release` makes it return it to the system. At most a
    /// small fraction of the budget is then neither free nor in use.
    pub fn with_release(self, release: fn()) -> Self {
        Self { release, ..self }
    }

    /// Notes that bytes were freed, including bytes that were never reserved here.
    pub fn freed(&self, bytes: u64) {
        if self.freed.fetch_add(bytes, Ordering::Relaxed) + bytes >= self.total / RELEASE_FRACTION {
            self.freed.store(0, Ordering::Relaxed);
            (self.release)();
        }
    }

    /// The same budget, for `workers` partitions at once.
    pub fn shared_by(&self, workers: usize) -> Self {
        Self { workers: workers.max(1), ..self.clone() }
    }

    /// The whole budget, in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The equal share of each worker, in bytes.
    pub fn share(&self) -> u64 {
        self.total / self.workers as u64
    }

    /// Waits until the bytes are free; waiters are served in FIFO order. A [`work_clock::timeout`] does not count the wait.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        self.reserve_from(&self.free, bytes.min(self.total)).await
    }

    /// Reserves bytes for first rows, from a small budget beside the main one. They are held until the memory of their
    /// partition is reserved. A task that holds main memory never waits here, so every task gets its turn.
    pub async fn reserve_read(&self, bytes: u64) -> Reservation {
        self.reserve_from(&self.read, bytes.min(self.total / READ_FRACTION)).await
    }

    async fn reserve_from(&self, free: &Arc<Semaphore>, bytes: u64) -> Reservation {
        let _waiting = work_clock::waiting();
        let permits = Arc::clone(free).acquire_many_owned(units(bytes));
        Reservation { bytes, budget: self.clone(), permit: permits.await.expect("the semaphore is never closed") }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use futures::{FutureExt as _, StreamExt as _, stream};

    use super::*;

    const MIB: u64 = 1 << 20;

    #[tokio::test]
    async fn reservations_never_exceed_the_budget_and_all_are_served() {
        let budget = MemoryBudget::of_limit(20 * MIB).shared_by(50);
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        // Some are larger than the whole budget and are capped at it.
        let sizes = (0..200u64).map(|n| 1 + n * 7919 % (15 * MIB));
        let done = stream::iter(sizes).map(async |bytes| {
            let reservation = budget.reserve(bytes).await;
            let counted = bytes.min(budget.total()) / UNIT * UNIT;
            most.fetch_max(held.fetch_add(counted, Ordering::Relaxed) + counted, Ordering::Relaxed);
            tokio::task::yield_now().await;
            held.fetch_sub(counted, Ordering::Relaxed);
            drop(reservation);
        });
        assert_eq!(done.buffer_unordered(50).count().await, 200);
        let most = most.into_inner();
        assert!(most <= 10 * MIB && most > 5 * MIB, "{most} bytes at once");
    }

    #[test]
    fn an_oversized_reservation_is_capped_and_runs_alone() {
        let budget = MemoryBudget::of_limit(2 * MIB);
        let small = budget.reserve(1).now_or_never().expect("all of it is free");
        assert!(budget.reserve(1 << 40).now_or_never().is_none());
        drop(small);
        let large = budget.reserve(1 << 40).now_or_never().expect("all of it is free again");
        assert!(budget.reserve(1).now_or_never().is_none());
        drop(large);
        assert_eq!((budget.total(), budget.shared_by(4).share()), (MIB, MIB / 4));
    }

    #[test]
    fn memory_is_released_to_the_system_after_each_freed_fraction() {
        static RELEASES: AtomicU64 = AtomicU64::new(0);
        let budget = MemoryBudget::of_limit(16 * MIB).with_release(|| {
            RELEASES.fetch_add(1, Ordering::Relaxed);
        });
        let releases = (0..6).map(|_| {
            drop(budget.shared_by(3).reserve(MIB / 16).now_or_never().expect("memory is free"));
            RELEASES.load(Ordering::Relaxed)
        });
        assert_eq!(releases.collect::<Vec<_>>(), [0, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn a_reservation_that_shrinks_releases_the_rest_at_once() {
        let budget = MemoryBudget::of_limit(2 * MIB);
        let mut reservation = budget.reserve(MIB).now_or_never().expect("all of it is free");
        reservation.shrink_to(2 * MIB);
        assert!(budget.reserve(1).now_or_never().is_none(), "it keeps what it has");
        reservation.shrink_to(MIB / 4);
        let rest = budget.reserve(MIB * 3 / 4).now_or_never().expect("three quarters are free");
        assert!(budget.reserve(1).now_or_never().is_none());
        drop((reservation, rest));
        assert!(budget.reserve(MIB).now_or_never().is_some(), "all of it is free again");
    }

    #[tokio::test]
    async fn a_timeout_of_work_does_not_count_the_wait_for_memory() {
        // As in the tests of the clock: long enough that a busy machine does not matter.
        let limit = Duration::from_millis(400);
        let budget = MemoryBudget::of_limit(2 * MIB);
        let reservation = budget.reserve(MIB).await;
        let free = async {
            tokio::time::sleep(2 * limit).await;
            drop(reservation);
        };
        let work = work_clock::timeout(limit, budget.reserve(MIB));
        let (_, in_time) = tokio::join!(free, work);
        assert!(in_time.is_ok(), "{in_time:?}");
    }
}
