//! The circuit breaker: while an endpoint is down, one probe at a time instead of everybody's retries.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open the breaker. Five by pure chance at 15 % faults happen once in thirteen thousand
/// requests and then cost a second.
const FAILURES_TO_OPEN: u32 = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Knows whether the endpoint works. Only answers that say nothing about the request itself count as failures:
/// time-outs, broken connections, 5xx.
#[derive(Debug, Clone)]
pub struct CircuitBreaker {
    first_wait: Duration,
    failures: u32,
    /// Set from the first failure of a row of failures until the next sign of life.
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
    /// Go.
    Free,
    /// Nobody before this moment.
    Until(Instant),
    /// A probe is on its way; wait for its end.
    Probing,
}

impl CircuitBreaker {
    /// A closed breaker: everything passes. Once open, it waits this long before the first probe.
    pub fn new(first_wait: Duration) -> Self {
        Self { first_wait, failures: 0, failing_since: None, open: None }
    }

    /// Whether a request may pass now.
    pub fn passage(&self, now: Instant) -> BreakerDecision {
        match self.open {
            None => BreakerDecision::Free,
            Some(open) if open.probing => BreakerDecision::Probing,
            Some(open) if now < open.until => BreakerDecision::Until(open.until),
            Some(_) => BreakerDecision::Free,
        }
    }

    /// Notes that a request passes. In an open breaker it is the probe.
    pub fn passed(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// Any answer that shows the endpoint alive, a refusal included.
    pub fn alive(&mut self) {
        *self = Self::new(self.first_wait);
    }

    /// A failure. `wait` is what the server asked for, if it did.
    pub fn failed(&mut self, now: Instant, wait: Option<Duration>) {
        self.failures += 1;
        self.failing_since.get_or_insert(now);
        match &mut self.open {
            // Answers to requests from before the breaker opened say nothing new.
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

    /// A request ended without any answer to learn from (it was cancelled): a probe makes room for the next one.
    pub fn abandoned(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// How long nothing has worked; zero when it works.
    pub fn outage(&self, now: Instant) -> Duration {
        self.failing_since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// True while requests are held back.
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
            assert_eq!(breaker.passage(now), BreakerDecision::Free);
            breaker.failed(now, None);
        }
        breaker
    }

    #[test]
    fn opens_after_five_failures_in_a_row_and_lets_one_probe_through() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let until = now + FIRST_WAIT;
        assert_eq!(breaker.passage(now), BreakerDecision::Until(until));
        assert_eq!(breaker.passage(until), BreakerDecision::Free);
        breaker.passed();
        assert_eq!(breaker.passage(until), BreakerDecision::Probing);
        breaker.alive();
        assert_eq!(breaker.passage(until), BreakerDecision::Free);
        assert_eq!(breaker.outage(until), Duration::ZERO);
    }

    #[test]
    fn waits_twice_as_long_after_each_failed_probe_up_to_a_minute() {
        let mut now = Instant::now();
        let start = now;
        let mut breaker = opened(now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let BreakerDecision::Until(until) = breaker.passage(now) else { panic!("the breaker is open") };
            waits.push((until - now).as_secs());
            now = until;
            breaker.passed();
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
        assert_eq!(breaker.passage(now), BreakerDecision::Until(now + FIRST_WAIT));
    }

    #[test]
    fn a_success_in_between_keeps_it_closed() {
        let now = Instant::now();
        let mut breaker = CircuitBreaker::new(FIRST_WAIT);
        for _ in 0..20 {
            for _ in 0..FAILURES_TO_OPEN - 1 {
                breaker.failed(now, None);
            }
            breaker.alive();
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_cancelled_probe_makes_room_for_the_next() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let until = now + FIRST_WAIT;
        breaker.passed();
        breaker.abandoned();
        assert_eq!(breaker.passage(until), BreakerDecision::Free);
    }
}
