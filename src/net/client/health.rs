//! Whether an endpoint responds, as far as it is reported: when failures, pauses and silence began, and when they were
//! reported.
//!
//! Pure: is passed the time. The limiter decides what is sent; this decides what is said.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A failing endpoint is reported after this time; one that cannot be reached at once; one that only refuses later.
const REPORT_AFTER: Duration = Duration::from_secs(3);
const REPORT_REFUSALS_AFTER: Duration = Duration::from_secs(15);
/// The time between two reports of the same wait.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(15);
/// A silence is reported after this time, if responses do not usually take as long.
const LONG_SILENCE: Duration = Duration::from_secs(20);
/// A wait that the server asks for is reported if it is longer.
const LONG_WAIT: Duration = Duration::from_secs(9);

/// What is known about an endpoint for reports.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Since when nothing has succeeded.
    failing: Option<Failing>,
    /// All requests wait, because the server asked for it.
    pause: Option<Pause>,
    silence: Silence,
    ever_reached: bool,
}

#[derive(Debug, Clone)]
struct Failing {
    since: Instant,
    error: String,
    kind: Failure,
    reported: Option<Instant>,
}

/// How the last attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection was possible.
    Unreachable,
    /// There was none, or a failure.
    Failed,
    /// "Too many requests".
    Refused,
}

#[derive(Debug, Clone)]
struct Pause {
    began: Instant,
    until: Instant,
    error: String,
    reported: Option<Instant>,
}

/// Requests in flight without any response.
#[derive(Debug, Default)]
struct Silence {
    in_flight: usize,
    since: Option<Instant>,
    reported: Option<Instant>,
    /// The longest time that a good response has taken: as long is no news.
    longest: Duration,
}

/// What is to be reported about a wait.
#[derive(Debug, PartialEq)]
pub(super) struct Report {
    pub(super) what: Wait,
    pub(super) waited: Duration,
}

/// What is waited for.
#[derive(Debug, PartialEq)]
pub(super) enum Wait {
    /// The endpoint fails; the last failure.
    Failing(String, Failure),
    /// The server asked for it: its words, and when requests go on.
    Paused(String, Duration),
    /// So many requests in flight have no response.
    Silent(usize),
}

impl Health {
    /// A request is sent.
    pub(super) fn sent(&self, now: Instant) {
        let silence = &mut self.lock().silence;
        silence.in_flight += 1;
        silence.since.get_or_insert(now);
    }

    /// A request has a response, or is given up or dropped. How long there was no response at all, if that was reported.
    pub(super) fn ended(&self, now: Instant) -> Option<Duration> {
        let silence = &mut self.lock().silence;
        silence.in_flight = silence.in_flight.saturating_sub(1);
        let since = std::mem::replace(&mut silence.since, (silence.in_flight > 0).then_some(now));
        let reported = silence.reported.take();
        since.zip(reported).map(|(since, _)| now - since)
    }

    /// An attempt failed.
    pub(super) fn failed(&self, error: String, kind: Failure, now: Instant) {
        let mut state = self.lock();
        state.ever_reached |= kind != Failure::Unreachable;
        let new = || Failing { since: now, error: String::new(), kind, reported: None };
        let failing = state.failing.get_or_insert_with(new);
        (failing.error, failing.kind) = (error, kind);
    }

    /// All requests wait that long from now on, because a response asked for it.
    pub(super) fn paused(&self, error: String, wait: Duration, now: Instant) {
        if wait <= LONG_WAIT {
            return;
        }
        let mut state = self.lock();
        let until = now + wait;
        match &mut state.pause {
            Some(pause) if now < pause.until => (pause.error, pause.until) = (error, pause.until.max(until)),
            pause => *pause = Some(Pause { began: now, until, error, reported: None }),
        }
    }

    /// A request that was sent then succeeded: how long none had, if that was reported. One that was sent before a wait began
    /// does not end it.
    pub(super) fn succeeded(&self, sent: Instant, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        state.ever_reached = true;
        state.silence.longest = state.silence.longest.max(now - sent);
        let paused = state.pause.take_if(|pause| sent >= pause.until);
        let failing = state.failing.take_if(|failing| sent >= failing.since);
        let paused = paused.and_then(|pause| pause.reported.map(|_| pause.began));
        let failing = failing.and_then(|failing| failing.reported.map(|_| failing.since));
        paused.into_iter().chain(failing).min().map(|since| now - since)
    }

    /// The report that is due, if any.
    pub(super) fn due(&self, now: Instant) -> Option<Report> {
        let mut state = self.lock();
        let at = state.next()?;
        if now < at {
            return None;
        }
        let State { failing, pause, silence, .. } = &mut *state;
        if let Some(pause) = pause.as_mut().filter(|pause| now < pause.until) {
            pause.reported = Some(now);
            let what = Wait::Paused(pause.error.clone(), pause.until - now);
            return Some(Report { what, waited: now - pause.began });
        }
        if let Some(failing) = failing {
            failing.reported = Some(now);
            let what = Wait::Failing(failing.error.clone(), failing.kind);
            return Some(Report { what, waited: now - failing.since });
        }
        silence.reported = Some(now);
        Some(Report { what: Wait::Silent(silence.in_flight), waited: now - silence.since? })
    }

    /// How long until a report is due, if nothing happens until then.
    pub(super) fn next_report(&self, now: Instant) -> Option<Duration> {
        self.lock().next().map(|at| at.saturating_duration_since(now))
    }

    /// How long nothing has succeeded; zero while the endpoint works.
    pub(super) fn fails_for(&self, now: Instant) -> Duration {
        self.lock().failing.as_ref().map_or(Duration::ZERO, |failing| now - failing.since)
    }

    /// How long no connection has been possible, if none ever was.
    pub(super) fn never_reached(&self, now: Instant) -> Option<Duration> {
        let state = self.lock();
        let unreachable = |failing: &&Failing| failing.kind == Failure::Unreachable && !state.ever_reached;
        let failing = state.failing.as_ref().filter(unreachable)?;
        Some(now - failing.since)
    }

    /// The last failure, unless something succeeded after it.
    pub(super) fn last_failure(&self) -> Option<String> {
        let state = self.lock();
        let paused = state.pause.as_ref().map(|pause| &pause.error);
        state.failing.as_ref().map(|failing| &failing.error).or(paused).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When the next report is due. A pause explains failures, and both explain a silence.
    fn next(&self) -> Option<Instant> {
        let again = |reported: Instant| reported + REPORT_EVERY;
        if let Some(pause) = &self.pause
            && self.failing.as_ref().is_none_or(|failing| failing.kind == Failure::Refused)
        {
            // The end of a pause is no report; what follows it is.
            let at = pause.reported.map_or(pause.began, again);
            if at < pause.until {
                return Some(at);
            }
        }
        if let Some(failing) = &self.failing {
            return Some(failing.reported.map_or_else(
                || match failing.kind {
                    Failure::Unreachable => failing.since,
                    Failure::Failed => failing.since + REPORT_AFTER,
                    Failure::Refused => failing.since + REPORT_REFUSALS_AFTER,
                },
                again,
            ));
        }
        let Silence { since, reported, longest, .. } = self.silence;
        since.map(|since| reported.map_or_else(|| since + LONG_SILENCE.max(longest * 2), again))
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
            health.failed("503: Loading model".into(), Failure::Failed, now);
            reports.extend(health.due(now).map(|report| (n, report.what, report.waited.as_secs())));
        }
        let what = || Wait::Failing("503: Loading model".to_owned(), Failure::Failed);
        assert_eq!(reports, [(3, what(), 3), (18, what(), 18), (33, what(), 33)]);
        assert_eq!(health.succeeded(start + 39 * SECOND, start + 40 * SECOND), Some(40 * SECOND));
        assert_eq!((health.last_failure(), health.due(start + 41 * SECOND)), (None, None));
    }

    /// A waiting caller looks again at the time that is told, whether or not anything is sent until then.
    #[test]
    fn an_outage_of_a_few_seconds_has_a_report_although_nothing_is_sent_meanwhile() {
        let (health, start) = (Health::default(), Instant::now());
        health.failed("503".into(), Failure::Failed, start);
        assert_eq!(health.next_report(start + SECOND), Some(2 * SECOND));
        assert!(health.due(start + 3 * SECOND).is_some());
        assert_eq!(health.succeeded(start + 4 * SECOND, start + 5 * SECOND), Some(5 * SECOND));
    }

    #[test]
    fn failures_among_successes_are_not_reported() {
        let (health, start) = (Health::default(), Instant::now());
        for n in 0..100 {
            let now = start + n * SECOND;
            health.failed("500".into(), Failure::Failed, now);
            assert_eq!((health.due(now), health.succeeded(now, now)), (None, None));
        }
    }

    #[test]
    fn a_server_that_was_never_there_is_reported_at_once_and_a_lost_one_is_no_such() {
        let (health, now) = (Health::default(), Instant::now());
        health.failed("connection refused".into(), Failure::Unreachable, now);
        assert!(health.due(now).is_some());
        assert_eq!(health.never_reached(now + SECOND), Some(SECOND));
        let lost = Health::default();
        lost.succeeded(now, now);
        lost.failed("connection refused".into(), Failure::Unreachable, now);
        assert_eq!(lost.never_reached(now + SECOND), None);
    }

    #[test]
    fn a_long_wait_that_the_server_asks_for_is_reported_with_its_end() {
        let (health, now) = (Health::default(), Instant::now());
        health.paused("429: slow down".into(), SECOND, now);
        assert_eq!(health.due(now), None);
        health.paused("429: slow down".into(), 60 * SECOND, now);
        let paused = |left| Some(Wait::Paused("429: slow down".into(), left * SECOND));
        assert_eq!(health.due(now).map(|report| report.what), paused(60));
        assert_eq!(health.due(now + 20 * SECOND).map(|report| report.what), paused(40));
    }

    #[test]
    fn a_response_to_an_earlier_request_does_not_end_a_pause() {
        let (health, start) = (Health::default(), Instant::now());
        health.paused("429".into(), 60 * SECOND, start);
        assert!(health.due(start).is_some());
        assert_eq!(health.succeeded(start - SECOND, start + SECOND), None);
        assert_eq!(health.due(start + 2 * SECOND), None, "it is known");
        assert_eq!(health.succeeded(start + 60 * SECOND, start + 61 * SECOND), Some(61 * SECOND));
    }

    #[test]
    fn a_silence_is_reported_once_unless_it_is_longer_than_responses_take() {
        let (health, start) = (Health::default(), Instant::now());
        let mut reports = Vec::new();
        for round in 0..4 {
            let sent = start + round * 25 * SECOND;
            (0..3).for_each(|_| health.sent(sent));
            for n in 0..25 {
                reports.extend(health.due(sent + n * SECOND).map(|report| (round, n, report.what)));
            }
            for n in 0..3 {
                let reported = round == 0 && n == 0;
                let now = sent + 25 * SECOND;
                assert_eq!(health.ended(now), reported.then_some(25 * SECOND));
                assert_eq!(health.succeeded(sent, now), None);
            }
        }
        assert_eq!(reports, [(0, 20, Wait::Silent(3))]);
    }
}
