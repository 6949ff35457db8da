//! The right to write, checked before each change: whether the lease is certainly still held, and which writes are not
//! finished.
//!
//! Everything that changes a dataset begins with [`Guard::begin`] and ends when the returned value is dropped, also after the
//! future that awaited it was cancelled. A lease is given back only after all of it has ended, so that nothing of one run
//! can reach a dataset that another one writes. Must not know how a lease is kept.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::error::DataError;

/// How long a lease on an object store lives without being renewed. Clocks must agree to well within this.
pub(super) const EXPIRY: Duration = Duration::from_secs(90);

/// A moment by two clocks: a monotonic one, and one that continues while the machine sleeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// How long ago it was, by the clock that says more: other runs may have counted that long.
    fn age(self) -> Duration {
        self.steady.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

/// A lease as seen by those who write under it.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    inner: Arc<Inner>,
    /// True for the lease of a shard: others write at the same time.
    shared: bool,
}

#[derive(Debug)]
struct Inner {
    dataset: String,
    /// When it was last renewed, and how long after that it is certainly ours; `None` for a lease that cannot expire.
    renewed: Option<Mutex<(Moment, Duration)>>,
    lost: CancellationToken,
    /// Cancelled when the lease is about to be given back.
    ending: CancellationToken,
    writing: TaskTracker,
}

/// Something that changes the dataset. For as long as it lives, the lease is not given back.
#[derive(Debug)]
#[must_use = "what is dropped counts as ended"]
pub(super) struct Writing {
    _counted: Option<TaskTrackerToken>,
}

impl Guard {
    /// A lease that is ours until it is given back.
    pub(super) fn lasting(dataset: String) -> Self {
        Self::new(dataset, None)
    }

    /// A lease that was taken at a moment and is certainly ours for so long after it, if it is not renewed.
    pub(super) fn expiring(dataset: String, taken: Moment, sure: Duration) -> Self {
        Self::new(dataset, Some(Mutex::new((taken, sure))))
    }

    fn new(dataset: String, renewed: Option<Mutex<(Moment, Duration)>>) -> Self {
        let (lost, ending) = (CancellationToken::new(), CancellationToken::new());
        let inner = Arc::new(Inner { dataset, renewed, lost, ending, writing: TaskTracker::new() });
        Self { inner, shared: false }
    }

    /// The same lease, held together with other shards.
    pub(super) fn shared(self) -> Self {
        Self { shared: true, ..self }
    }

    /// True when others may write at the same time.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// It is ours for as long again, counted from before the request that renewed it.
    pub(super) fn renewed(&self, begun: Moment) {
        if let Some(renewed) = &self.inner.renewed {
            renewed.lock().unwrap_or_else(PoisonError::into_inner).0 = begun;
        }
    }

    /// How long it is certainly ours still; `None` for ever.
    pub(super) fn left(&self) -> Option<Duration> {
        let renewed = self.inner.renewed.as_ref()?;
        let (begun, sure) = *renewed.lock().unwrap_or_else(PoisonError::into_inner);
        Some(sure.saturating_sub(begun.age()))
    }

    /// From now on nothing is written.
    pub(super) fn lose(&self) {
        self.inner.lost.cancel();
    }

    /// Cancelled when it is lost.
    pub(super) fn lost(&self) -> CancellationToken {
        self.inner.lost.clone()
    }

    fn refused(&self) -> DataError {
        DataError::LeaseLost { dataset: self.inner.dataset.clone() }
    }

    /// Refuses where another run may have the lease by now, also before the loss was noticed: a process that was stopped
    /// for a while checks the clocks before it continues.
    pub(super) fn check(&self) -> Result<(), DataError> {
        if self.left().is_some_and(|left| left.is_zero()) {
            self.lose();
        }
        if self.inner.lost.is_cancelled() || self.inner.ending.is_cancelled() { Err(self.refused()) } else { Ok(()) }
    }

    /// Begins something that changes the dataset.
    pub(super) fn begin(&self) -> Result<Writing, DataError> {
        // Counted before the check: a waiter for the end either sees it or has stopped it.
        let writing = Writing { _counted: Some(self.inner.writing.token()) };
        self.check().map(|()| writing)
    }

    /// Does one request, given up when the lease is lost. The clocks are read each time the request could go on: a process
    /// that was stopped sends nothing more when it wakes up, and its client tries nothing again.
    pub(super) async fn hold<T>(&self, request: impl Future<Output = T>) -> Result<T, DataError> {
        self.check()?;
        let mut request = std::pin::pin!(request);
        let going_on = std::future::poll_fn(|context| {
            if self.left().is_some_and(|left| left.is_zero()) {
                self.lose();
                return Poll::Ready(Err(self.refused()));
            }
            request.as_mut().poll(context).map(Ok)
        });
        tokio::select! {
            biased;
            () = self.inner.lost.cancelled() => Err(self.refused()),
            response = going_on => response,
        }
    }

    /// Lets nothing new begin.
    pub(super) fn end(&self) {
        self.inner.ending.cancel();
        self.inner.writing.close();
    }

    /// Lets nothing new begin, and waits until everything that has begun is over; false if that takes too long.
    pub(super) async fn ended(&self, patience: Duration) -> bool {
        self.end();
        tokio::time::timeout(patience, self.inner.writing.wait()).await.is_ok()
    }

    /// The part that does not keep it alive.
    pub(super) fn downgrade(&self) -> WeakGuard {
        WeakGuard { inner: Arc::downgrade(&self.inner), shared: self.shared }
    }
}

/// A guard, while the lease is held.
#[derive(Debug)]
pub(super) struct WeakGuard {
    inner: std::sync::Weak<Inner>,
    shared: bool,
}

impl WeakGuard {
    pub(super) fn upgrade(&self) -> Option<Guard> {
        self.inner.upgrade().map(|inner| Guard { inner, shared: self.shared })
    }
}

/// Writes that are under no lease, as in a library's own use of a dataset.
pub(super) fn begin(guard: Option<&Guard>) -> Result<Writing, DataError> {
    guard.map_or(Ok(Writing { _counted: None }), Guard::begin)
}

/// See [`Guard::hold`].
pub(super) async fn hold<T>(guard: Option<&Guard>, request: impl Future<Output = T>) -> Result<T, DataError> {
    match guard {
        Some(guard) => guard.hold(request).await,
        None => Ok(request.await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn ago(steady: Duration, wall: Duration) -> Moment {
        let now = Moment::now();
        Moment { steady: now.steady.checked_sub(steady).expect("the machine is up for longer"), wall: now.wall - wall }
    }

    #[test]
    fn either_clock_ends_it() {
        let zero = Duration::ZERO;
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        for (moment, lost) in [
            (ago(zero, zero), false),
            (ago(second, second), false),
            // The machine slept, or the monotonic clock does not advance in a suspended process.
            (ago(zero, LONG), true),
            // The wall clock was set back.
            (ago(minute, zero), true),
        ] {
            let guard = Guard::expiring("d".to_owned(), moment, minute);
            assert_eq!(guard.check().is_err(), lost, "{moment:?}");
            assert_eq!(guard.lost().is_cancelled(), lost, "{moment:?}");
            guard.renewed(Moment::now());
            assert_eq!(guard.check().is_err(), lost, "{moment:?}: what is lost stays lost");
        }
    }

    #[tokio::test]
    async fn it_ends_after_everything_that_was_begun() {
        let guard = Guard::lasting("d".to_owned());
        let (one, two) = (guard.begin().expect("ours"), guard.begin().expect("ours"));
        drop(one);
        assert!(!guard.ended(Duration::ZERO).await, "one is at it");
        assert!(guard.begin().is_err(), "nothing new begins");
        drop(two);
        assert!(guard.ended(LONG).await);
    }

    #[tokio::test]
    async fn a_request_ends_with_the_lease() {
        let guard = Guard::lasting("d".to_owned());
        assert_eq!(guard.hold(async { 1 }).await.expect("ours"), 1);
        let lose = async { guard.lose() };
        let (result, ()) = futures::join!(guard.hold(std::future::pending::<()>()), lose);
        assert!(matches!(result, Err(DataError::LeaseLost { .. })));
        assert!(guard.begin().is_err());
    }

    #[tokio::test]
    async fn a_request_does_not_go_on_in_a_process_that_was_stopped_for_too_long() {
        let guard = Guard::expiring("d".to_owned(), Moment::now(), Duration::from_millis(50));
        let mut tries = 0;
        let request = std::future::poll_fn(|context| {
            tries += 1;
            // Nothing of the process runs meanwhile.
            std::thread::sleep(Duration::from_millis(60));
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let result = guard.hold(request).await;
        assert!(matches!(result, Err(DataError::LeaseLost { .. })));
        assert_eq!(tries, 1, "tried again after the lease was lost");
    }
}
