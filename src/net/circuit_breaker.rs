//! The circuit breaker: while an endpoint is down, a single probe is sent instead of every request's retries.

use std::time::Duration;

use tokio::time::Instant;

/// Consecutive failures that open the breaker. At a random failure rate of 15 % that happens once in thirteen thousand
/// requests, and costs a second.
const FAILURES_TO_OPEN: u32 = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Whether the endpoint works. Only failures that do not depend on the request count: time-outs, broken connections, 5xx.
#[derive(Debug, Clone)]
pub struct CircuitBreaker {
    first_wait: Duration,
    failures: u32,
    /// The first of the present consecutive failures.
    failing_since: Option<Instant>,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Instant,
    wait: Duration,
    probing: bool,
}

/// Whether a request may be sent, as far as the breaker is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerDecision {
    /// It may.
    Send,
    /// No request may be sent before this.
    Until(Instant),
    /// A probe is in flight; wait for its outcome.
    Probing,
}

impl CircuitBreaker {
    /// A closed breaker. Once open, it waits `first_wait` before the first probe.
    pub fn new(first_wait: Duration) -> Self {
        Self { first_wait, failures: 0, failing_since: None, open: None }
    }

    /// Whether a request may be sent now.
    pub fn decide(&self, now: Instant) -> BreakerDecision {
        match self.open {
            None => BreakerDecision::Send,
            Some(open) if open.probing => BreakerDecision::Probing,
            Some(open) if now < open.until => BreakerDecision::Until(open.until),
            Some(_) => BreakerDecision::Send,
        }
    }

    /// A request was sent. While the breaker is open, it is the probe.
    pub fn sent(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// The endpoint responded, if only with a refusal.
    pub fn responded(&mut self) {
        *self = Self::new(self.first_wait);
    }

    /// A request failed. `wait` is the wait that the server asked for, if any.
    pub fn failed(&mut self, now: Instant, wait: Option<Duration>) {
        self.failures += 1;
        self.failing_since.get_or_insert(now);
        match &mut self.open {
            // Outcomes of requests sent before the breaker opened are no news.
            Some(open) if !open.probing => {}
            Some(open) => {
                let longer = (open.wait * 2).min(LONGEST_WAIT);
                *open = Open { until: now + wait.unwrap_or(longer), wait: longer, probing: false };
            }
            None if self.failures >= FAILURES_TO_OPEN => {
                let first = self.first_wait;
                self.open = Some(Open { until: now + wait.unwrap_or(first), wait: first, probing: false });
            }
            None => {}
        }
    }

    /// A request was cancelled: if it was the probe, the next request is one.
    pub fn cancelled(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// How long every request has failed; zero while the endpoint works.
    pub fn outage(&self, now: Instant) -> Duration {
        self.failing_since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// True while only probes are sent.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST_WAIT: Duration = Duration::from_secs(1);

    fn opened(now: Instant) -> CircuitBreaker {
        let mut breaker = CircuitBreaker::new(FIRST_WAIT);
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(breaker.decide(now), BreakerDecision::Send);
            breaker.failed(now, None);
        }
        breaker
    }

    #[test]
    fn opens_after_five_failures_in_a_row_and_lets_one_probe_through() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let until = now + FIRST_WAIT;
        assert_eq!(breaker.decide(now), BreakerDecision::Until(until));
        assert_eq!(breaker.decide(until), BreakerDecision::Send);
        breaker.sent();
        assert_eq!(breaker.decide(until), BreakerDecision::Probing);
        breaker.responded();
        assert_eq!(breaker.decide(until), BreakerDecision::Send);
        assert_eq!(breaker.outage(until), Duration::ZERO);
    }

    #[test]
    fn waits_twice_as_long_after_each_failed_probe_up_to_a_minute() {
        let mut now = Instant::now();
        let start = now;
        let mut breaker = opened(now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let BreakerDecision::Until(until) = breaker.decide(now) else { panic!("the breaker is open") };
            waits.push((until - now).as_secs());
            now = until;
            breaker.sent();
            breaker.failed(now, None);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(breaker.outage(now), now - start);
    }

    #[test]
    fn late_failures_do_not_lengthen_the_wait() {
        let now = Instant::now();
        let mut breaker = opened(now);
        for _ in 0..50 {
            breaker.failed(now, None);
        }
        assert_eq!(breaker.decide(now), BreakerDecision::Until(now + FIRST_WAIT));
    }

    #[test]
    fn a_success_in_between_keeps_it_closed() {
        let now = Instant::now();
        let mut breaker = CircuitBreaker::new(FIRST_WAIT);
        for _ in 0..20 {
            for _ in 0..FAILURES_TO_OPEN - 1 {
                breaker.failed(now, None);
            }
            breaker.responded();
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn after_a_cancelled_probe_the_next_request_is_one() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let until = now + FIRST_WAIT;
        breaker.sent();
        breaker.cancelled();
        assert_eq!(breaker.decide(until), BreakerDecision::Send);
    }
}
