//! The memory that partitions in work share.
//!
//! Owns how much there is, who waits, and when the allocator is told that memory came back. Must not know what a partition
//! holds: whoever works on one says how many bytes it will be, takes them all at once before it begins, and gives them back
//! when the partition is committed. How many that is only the first rows tell; these are read into a small room of their
//! own. Nobody takes twice, so nobody waits for somebody who waits; and who asks for more than
//! there is gets all of it, alone.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::net::work_clock;

/// What permits count, in bytes: small enough to tell partitions apart, large enough for a semaphore's numbers.
const UNIT: u64 = 4 << 10;

/// Beside all the room, the share of it for rows that are read and wait.
const READ: u64 = 8;

/// Of all the room, the share that may have been given back and be the allocator's still.
const KEPT: u64 = 64;

/// Memory for partitions in work, shared by all clones.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    whole: u64,
    workers: usize,
    free: Arc<Semaphore>,
    /// For rows that are read and wait for the rest of their memory.
    read: Arc<Semaphore>,
    /// Bytes given back since the allocator was last told.
    back: Arc<AtomicU64>,
    tell: fn(),
}

/// Some of a [`MemoryBudget`], given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    bytes: u64,
    room: MemoryBudget,
    permit: OwnedSemaphorePermit,
}

impl Reservation {
    /// Gives back what is more than `bytes`.
    pub fn keep(&mut self, bytes: u64) {
        let kept = units(bytes) as usize;
        if let Some(more) = self.permit.num_permits().checked_sub(kept)
            && more > 0
            && self.permit.split(more).is_some()
        {
            self.bytes = bytes;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.room.freed(self.bytes);
    }
}

impl MemoryBudget {
    /// Half of a process's memory limit, in bytes: the other half is the table engine's.
    pub fn of_limit(memory: u64) -> Self {
        let whole = (memory / 2).max(UNIT);
        let free = Arc::new(Semaphore::new(units(whole) as usize));
        let read = Arc::new(Semaphore::new(units(whole / READ) as usize));
        Self { whole, workers: 1, free, read, back: Arc::default(), tell: || {} }
    }

    /// The same room, with an allocator that keeps freed memory for a while unless it is told to give it to the system: a
    /// small share of the room at the most is then neither free nor in use.
    pub fn telling(self, tell: fn()) -> Self {
        Self { tell, ..self }
    }

    /// Notes that so many bytes were given back to the allocator, also ones that were never taken from here.
    pub fn freed(&self, bytes: u64) {
        if self.back.fetch_add(bytes, Ordering::Relaxed) + bytes >= self.whole / KEPT {
            self.back.store(0, Ordering::Relaxed);
            (self.tell)();
        }
    }

    /// The same room, for `workers` partitions at once.
    pub fn shared_by(&self, workers: usize) -> Self {
        Self { workers: workers.max(1), ..self.clone() }
    }

    /// All of it, in bytes.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// What each of the workers may hold when all hold the same, in bytes.
    pub fn share(&self) -> u64 {
        self.whole / self.workers as u64
    }

    /// Waits until so many bytes are free, first come, first served. The waiting is no work: a [`work_clock::timeout`]
    /// does not count it.
    pub async fn take(&self, bytes: u64) -> Reservation {
        self.take_of(&self.free, bytes.min(self.whole)).await
    }

    /// Waits until so many bytes may be read that nobody has taken memory for yet: a small share of the room, beside it.
    /// They are held until their memory is taken; whoever has taken memory never waits here, so all get their turn.
    pub async fn read(&self, bytes: u64) -> Reservation {
        self.take_of(&self.read, bytes.min(self.whole / READ)).await
    }

    async fn take_of(&self, free: &Arc<Semaphore>, bytes: u64) -> Reservation {
        let _waiting = work_clock::waiting();
        let permits = Arc::clone(free).acquire_many_owned(units(bytes));
        Reservation { bytes, room: self.clone(), permit: permits.await.expect("the semaphore is never closed") }
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
    async fn no_more_is_in_work_than_there_is_room_for_and_all_get_their_turn() {
        let room = MemoryBudget::of_limit(20 * MIB).shared_by(50);
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        // Some are larger than all the room: they count as all of it.
        let sizes = (0..200u64).map(|n| 1 + n * 7919 % (15 * MIB));
        let done = stream::iter(sizes).map(async |bytes| {
            let taken = room.take(bytes).await;
            let counted = bytes.min(room.whole()) / UNIT * UNIT;
            most.fetch_max(held.fetch_add(counted, Ordering::Relaxed) + counted, Ordering::Relaxed);
            tokio::task::yield_now().await;
            held.fetch_sub(counted, Ordering::Relaxed);
            drop(taken);
        });
        assert_eq!(done.buffer_unordered(50).count().await, 200);
        let most = most.into_inner();
        assert!(most <= 10 * MIB && most > 5 * MIB, "{most} bytes at once");
    }

    #[test]
    fn what_is_larger_than_all_the_room_goes_alone() {
        let room = MemoryBudget::of_limit(2 * MIB);
        let small = room.take(1).now_or_never().expect("all of it is free");
        assert!(room.take(1 << 40).now_or_never().is_none());
        drop(small);
        let large = room.take(1 << 40).now_or_never().expect("all of it is free again");
        assert!(room.take(1).now_or_never().is_none());
        drop(large);
        assert_eq!((room.whole(), room.shared_by(4).share()), (MIB, MIB / 4));
    }

    #[test]
    fn the_allocator_is_told_whenever_a_small_share_was_given_back() {
        static TOLD: AtomicU64 = AtomicU64::new(0);
        let room = MemoryBudget::of_limit(16 * MIB).telling(|| {
            TOLD.fetch_add(1, Ordering::Relaxed);
        });
        let told = (0..6).map(|_| {
            drop(room.shared_by(3).take(MIB / 16).now_or_never().expect("room"));
            TOLD.load(Ordering::Relaxed)
        });
        assert_eq!(told.collect::<Vec<_>>(), [0, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn what_turns_out_to_be_too_much_is_given_back_at_once() {
        let room = MemoryBudget::of_limit(2 * MIB);
        let mut taken = room.take(MIB).now_or_never().expect("all of it is free");
        taken.keep(2 * MIB);
        assert!(room.take(1).now_or_never().is_none(), "it keeps what it has");
        taken.keep(MIB / 4);
        let rest = room.take(MIB * 3 / 4).now_or_never().expect("three quarters are free");
        assert!(room.take(1).now_or_never().is_none());
        drop((taken, rest));
        assert!(room.take(MIB).now_or_never().is_some(), "all of it is free again");
    }

    #[tokio::test]
    async fn waiting_for_room_is_no_work_and_a_timeout_does_not_count_it() {
        // As in the tests of the clock: long enough that a busy machine does not matter.
        let limit = Duration::from_millis(400);
        let room = MemoryBudget::of_limit(2 * MIB);
        let taken = room.take(MIB).await;
        let free = async {
            tokio::time::sleep(2 * limit).await;
            drop(taken);
        };
        let work = work_clock::timeout(limit, room.take(MIB));
        let (_, in_time) = tokio::join!(free, work);
        assert!(in_time.is_ok(), "{in_time:?}");
    }
}
