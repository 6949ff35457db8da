//! A time-out around work that does not count the time spent waiting for a permit.
//!
//! Code that waits for a limit says so with [`waiting`], and [`timeout`] counts only the rest: a long pause of the rate
//! limiter does not fail a healthy partition.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

tokio::task_local! {
    static CLOCK: Arc<WorkClock>;
}

#[derive(Debug, Default)]
struct WorkClock(Mutex<Waits>);

/// Overlapping waits of one task count once.
#[derive(Debug, Default)]
struct Waits {
    open: u32,
    since: Option<Instant>,
    total: Duration,
}

impl WorkClock {
    fn waited(&self) -> Duration {
        let waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.total + waits.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// The work exceeded its time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("took longer than {0:?} of work")]
pub struct TimedOut(pub Duration);

/// Marks the current task as waiting for a limit until the guard is dropped. Without a [`timeout`] around it, this has no
/// effect.
#[must_use]
pub fn waiting() -> Waiting {
    let clock = CLOCK.try_with(Arc::clone).ok();
    if let Some(clock) = &clock {
        let mut waits = clock.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.open += 1;
        if waits.open == 1 {
            waits.since = Some(Instant::now());
        }
    }
    Waiting { clock }
}

/// See [`waiting`].
#[derive(Debug)]
pub struct Waiting {
    clock: Option<Arc<WorkClock>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(clock) = &self.clock {
            let mut waits = clock.0.lock().unwrap_or_else(PoisonError::into_inner);
            waits.open -= 1;
            if waits.open == 0
                && let Some(since) = waits.since.take()
            {
                waits.total += since.elapsed();
            }
        }
    }
}

/// Runs `work` for at most `limit`, time spent under [`waiting`] not counted.
///
/// # Errors
/// When the limit is exceeded; the work is dropped then.
pub async fn timeout<F: Future>(limit: Duration, work: F) -> Result<F::Output, TimedOut> {
    let clock = Arc::new(WorkClock::default());
    let begin = Instant::now();
    let work = CLOCK.scope(clock.clone(), work);
    tokio::pin!(work);
    let mut left = limit;
    loop {
        tokio::select! {
            biased;
            output = &mut work => return Ok(output),
            () = tokio::time::sleep(left) => {
                let worked = begin.elapsed().saturating_sub(clock.waited());
                if worked >= limit {
                    return Err(TimedOut(limit));
                }
                left = limit - worked;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    /// Long enough that a busy machine does not matter, short enough for a test.
    const LIMIT: Duration = Duration::from_millis(400);

    #[tokio::test]
    async fn waiting_for_a_limit_does_not_count_as_work() {
        let work = async {
            let pause = waiting();
            sleep(LIMIT * 2).await;
            drop(pause);
            "done"
        };
        assert_eq!(timeout(LIMIT, work).await, Ok("done"));
    }

    #[tokio::test]
    async fn work_is_dropped_at_its_limit() {
        let begin = Instant::now();
        let work = async {
            let pause = waiting();
            sleep(LIMIT / 2).await;
            drop(pause);
            std::future::pending::<()>().await;
        };
        assert_eq!(timeout(LIMIT, work).await, Err(TimedOut(LIMIT)));
        assert!(begin.elapsed() >= LIMIT + LIMIT / 2, "{:?}", begin.elapsed());
    }
}
