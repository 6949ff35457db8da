//! Whether an endpoint responds, as far as it is reported: when failures began, the last one, and when it was reported.
//!
//! Pure: is passed the time. The circuit breaker decides what is sent; this decides what is said.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A failing endpoint is reported after this time; one that cannot be reached at once.
const REPORT_AFTER: Duration = Duration::from_secs(3);
/// The time between two reports of the same wait.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(15);
/// A wait that the server asks for is reported if it is at least this long.
const LONG_WAIT: Duration = Duration::from_secs(10);

/// What is known about an endpoint for reports.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Since when nothing has succeeded.
    failing: Option<Failing>,
    ever_reached: bool,
}

#[derive(Debug, Clone)]
struct Failing {
    since: Instant,
    error: String,
    /// No connection was possible at the last attempt.
    unreachable: bool,
    /// The server named the time at which requests go on.
    until: Option<Instant>,
    reported: Option<Instant>,
}

/// What is to be reported about a wait.
#[derive(Debug, PartialEq)]
pub(super) struct Report {
    pub(super) error: String,
    pub(super) waited: Duration,
    /// When requests go on, if the server said.
    pub(super) until: Option<Duration>,
}

impl Health {
    /// An attempt failed.
    pub(super) fn failed(&self, error: String, unreachable: bool, now: Instant) {
        let mut state = self.lock();
        state.ever_reached |= !unreachable;
        let failing = state.failing(error, now);
        (failing.unreachable, failing.until) = (unreachable, None);
    }

    /// The server asked to wait.
    pub(super) fn paused(&self, error: String, wait: Duration, now: Instant) {
        let mut state = self.lock();
        state.ever_reached = true;
        if wait >= LONG_WAIT || state.failing.is_some() {
            let failing = state.failing(error, now);
            (failing.unreachable, failing.until) = (false, Some(now + wait));
        }
    }

    /// A request succeeded: how long none had, if that was reported.
    pub(super) fn succeeded(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        state.ever_reached = true;
        let failing = state.failing.take()?;
        failing.reported.map(|_| now - failing.since)
    }

    /// The report that is due, if any.
    pub(super) fn due(&self, now: Instant) -> Option<Report> {
        let mut state = self.lock();
        let failing = state.failing.as_mut()?;
        let due = match failing.reported {
            Some(reported) => now - reported >= REPORT_EVERY,
            None => failing.unreachable || failing.until.is_some() || now - failing.since >= REPORT_AFTER,
        };
        due.then(|| {
            failing.reported = Some(now);
            Report {
                error: failing.error.clone(),
                waited: now - failing.since,
                until: failing.until.map(|until| until.saturating_duration_since(now)),
            }
        })
    }

    /// How long no connection has been possible, if none ever was.
    pub(super) fn never_reached(&self, now: Instant) -> Option<Duration> {
        let state = self.lock();
        let failing = state.failing.as_ref().filter(|failing| failing.unreachable && !state.ever_reached)?;
        Some(now - failing.since)
    }

    /// The last failure, unless something succeeded after it.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.lock().failing.as_ref().map(|failing| failing.error.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn failing(&mut self, error: String, now: Instant) -> &mut Failing {
        let new = || Failing { since: now, error: String::new(), unreachable: false, until: None, reported: None };
        let failing = self.failing.get_or_insert_with(new);
        failing.error = error;
        failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_outage_is_reported_when_it_begins_and_then_every_so_often() {
        let (health, start) = (Health::default(), Instant::now());
        let mut reports = Vec::new();
        for n in 0..40 {
            let now = start + n * SECOND;
            health.failed("503: Loading model".into(), false, now);
            reports.extend(health.due(now).map(|report| (n, report.error, report.waited.as_secs())));
        }
        let seconds: Vec<_> = reports.iter().map(|(n, error, waited)| (*n, error.as_str(), *waited)).collect();
        let error = "503: Loading model";
        assert_eq!(seconds, [(3, error, 3), (18, error, 18), (33, error, 33)]);
        assert_eq!(health.succeeded(start + 40 * SECOND), Some(40 * SECOND));
        assert_eq!((health.last_failure(), health.due(start + 41 * SECOND)), (None, None));
    }

    #[test]
    fn failures_among_successes_are_not_reported() {
        let (health, start) = (Health::default(), Instant::now());
        for n in 0..100 {
            let now = start + n * SECOND;
            health.failed("500".into(), false, now);
            assert_eq!((health.due(now), health.succeeded(now)), (None, None));
        }
    }

    #[test]
    fn a_server_that_was_never_there_is_reported_at_once_and_a_lost_one_is_no_such() {
        let (health, now) = (Health::default(), Instant::now());
        health.failed("connection refused".into(), true, now);
        assert!(health.due(now).is_some());
        assert_eq!(health.never_reached(now + SECOND), Some(SECOND));
        let lost = Health::default();
        lost.succeeded(now);
        lost.failed("connection refused".into(), true, now);
        assert_eq!(lost.never_reached(now + SECOND), None);
    }

    #[test]
    fn a_long_wait_that_the_server_asks_for_is_reported_with_its_end() {
        let (health, now) = (Health::default(), Instant::now());
        health.paused("429: slow down".into(), SECOND, now);
        assert_eq!(health.due(now), None);
        health.paused("429: slow down".into(), 60 * SECOND, now);
        let report = health.due(now).expect("a minute is long");
        assert_eq!((report.error.as_str(), report.until), ("429: slow down", Some(60 * SECOND)));
        assert_eq!(health.due(now + 20 * SECOND).and_then(|report| report.until), Some(40 * SECOND));
    }
}
