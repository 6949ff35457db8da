//! What all clients of one endpoint, key and model share: rate limits, pauses, circuit breaker and concurrency.
//!
//! A request waits in [`EndpointLimiter::acquire`] and nowhere else; waiters are served in FIFO order. A [`Permit`] allows
//! one request, and reports its outcome to the limiter.

mod refusals;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    circuit_breaker::{BreakerDecision, CircuitBreaker},
    concurrency::{ConcurrencyController, Effect},
    endpoint_limits::EndpointLimits,
    outcome::Outcome,
    rate_limit_headers::Hints,
    request_size::{Ended, Load, RequestSize},
    retry::{Jitter, RetryBudget},
    token_bucket::{Debit, TokenBucket},
};
pub use sample::EndpointSample;

use crate::model::Fingerprint;

/// In flight before the first response.
const INITIAL_IN_FLIGHT: usize = 4;
/// In flight while no limit is known: all of them could be refused at once. Grows by one per [`SUCCESSES_PER_STEP`]
/// successes, so that refusals remain a small share of all requests, and by one per [`SECONDS_PER_STEP`] seconds, so that
/// slow servers are used fully.
const EXPLORATION_IN_FLIGHT: usize = 12;
const SUCCESSES_PER_STEP: u64 = 150;
const SECONDS_PER_STEP: u64 = 6;
/// The initial concurrency where none is configured.
const INITIAL_CONCURRENCY: usize = 16;
/// The ceiling where none is configured.
const CONCURRENCY_CEILING: usize = 256;

/// Clients with equal keys share a limiter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointKey {
    /// The address of the requests.
    pub endpoint: String,
    /// A digest of the key, never the key.
    pub key: Option<Fingerprint>,
    /// The model: servers limit each separately.
    pub model: String,
}

/// The purpose of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Work. It is refused while the endpoint seems to be down.
    Work,
    /// Checks whether the endpoint works, with an input whose failure can only be the endpoint's.
    Probe,
}

/// Why a request may not be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// The endpoint seems to be down: send a probe.
    #[error("the endpoint seems to be down")]
    Down,
    /// The server asked for a longer wait than the caller accepts.
    #[error("the server asks to wait {}", seconds(.0))]
    Paused(Duration),
    /// Every request has failed for longer than the longest accepted outage.
    #[error("every request has failed for {}", seconds(.0))]
    Outage(Duration),
}

fn seconds(duration: &Duration) -> String {
    format!("{:.0} s", duration.as_secs_f64().ceil())
}

/// The shared state of one endpoint, key and model.
#[derive(Debug)]
pub struct EndpointLimiter {
    state: Mutex<EndpointState>,
    /// Held by the head of the queue; tokio's mutex is FIFO.
    turn: tokio::sync::Mutex<()>,
    changed: Notify,
    jitter: Jitter,
    budget: Arc<RetryBudget>,
}

#[derive(Debug)]
struct EndpointState {
    requests: TokenBucket,
    tokens: TokenBucket,
    concurrency: ConcurrencyController,
    size: RequestSize,
    breaker: CircuitBreaker,
    first_pause: Duration,
    min_interval: Option<Duration>,
    /// The part of the server's limits that this process may use.
    share: f64,
    last_sent: Option<Instant>,
    /// No request is sent before this.
    paused_until: Option<Instant>,
    /// When the last pause began: refusals of requests sent before it belong to the same episode.
    paused_at: Option<Instant>,
    /// Episodes of refusals since the last success.
    refusals: u32,
    /// True while refusals are not caused by the rate.
    ignoring_refusals: bool,
    /// Refusals for "too many at once" of a request that was alone, since the last success.
    refusals_alone: u32,
    sequence: u64,
    tokens_sent: f64,
    /// True when the concurrency is configured: it is not explored then.
    concurrency_is_configured: bool,
    successes: u64,
    first_success: Option<Instant>,
    last_success: Option<Instant>,
}

impl EndpointLimiter {
    /// A limiter that is in no registry.
    pub fn new(limits: EndpointLimits, budget: Arc<RetryBudget>, jitter: Jitter) -> Arc<Self> {
        let now = Instant::now();
        let bucket = |ceiling| TokenBucket::new(ceiling, limits.burst, limits.may_exceed, now);
        let ceiling = limits.concurrency.unwrap_or(CONCURRENCY_CEILING);
        Arc::new(Self {
            state: Mutex::new(EndpointState {
                requests: bucket(limits.requests_per_minute),
                tokens: bucket(limits.tokens_per_minute),
                concurrency: ConcurrencyController::new(limits.concurrency.unwrap_or(INITIAL_CONCURRENCY), ceiling),
                size: RequestSize::default(),
                breaker: CircuitBreaker::new(limits.first_pause * 2),
                first_pause: limits.first_pause,
                min_interval: limits.min_interval,
                share: limits.share,
                last_sent: None,
                paused_until: None,
                paused_at: None,
                refusals: 0,
                ignoring_refusals: false,
                refusals_alone: 0,
                sequence: 0,
                tokens_sent: 0.0,
                concurrency_is_configured: limits.concurrency.is_some(),
                successes: 0,
                first_success: None,
                last_success: None,
            }),
            turn: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            jitter,
            budget,
        })
    }

    /// Waits until a request with this many tokens may be sent. Waiters are served in FIFO order.
    ///
    /// # Errors
    /// When a pause is longer than `patience`, or an outage longer than `max_outage`; for work, at once while the endpoint
    /// seems to be down.
    pub async fn acquire(
        self: &Arc<Self>,
        kind: RequestKind,
        tokens: u64,
        patience: Duration,
        max_outage: Duration,
    ) -> Result<Permit, AcquireError> {
        let _first = self.turn.lock().await;
        let mut held = Duration::ZERO;
        loop {
            let now = Instant::now();
            let blocked = match self.lock().decide(kind, tokens, now) {
                Decision::Send(requests, tokens) => {
                    return Ok(Permit {
                        limiter: Arc::clone(self),
                        requests,
                        tokens,
                        sent: now,
                        held,
                        load: None,
                        done: false,
                    });
                }
                Decision::Paused(until) if until - now > patience.saturating_sub(held) => {
                    return Err(AcquireError::Paused(until - now));
                }
                Decision::Down => return Err(AcquireError::Down),
                Decision::Open { outage, .. } if outage > max_outage => return Err(AcquireError::Outage(outage)),
                Decision::Paused(until) => {
                    Blocked { why: "the server asked to wait", until: Some(until), counts: true }
                }
                Decision::Open { until, .. } => Blocked { why: "the endpoint seems to be down", until, counts: true },
                Decision::Limited(until) => Blocked { why: "rate limit", until: Some(until), counts: false },
                Decision::Full => Blocked { why: "requests in flight", until: None, counts: false },
            };
            tracing::debug!(
                why = blocked.why,
                seconds = blocked.until.map(|until| (until - now).as_secs_f64()),
                "a request waits before it is sent"
            );
            match blocked.until {
                Some(until) => {
                    let _ = tokio::time::timeout_at(until, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
            if blocked.counts {
                held += now.elapsed();
            }
        }
    }

    /// The time without a success: since the last one, or since `start` if that is later.
    pub fn stalled(&self, start: Instant) -> Duration {
        let since = self.lock().last_success.map_or(start, |success| success.max(start));
        since.elapsed()
    }

    /// True while the endpoint seems to be down: only probes are sent.
    pub fn is_down(&self) -> bool {
        self.lock().breaker.is_open()
    }

    /// How many requests have succeeded.
    pub fn successes(&self) -> u64 {
        self.lock().successes
    }

    /// True when a limit on tokens is known, so that exact counts are needed.
    pub fn counts_tokens(&self) -> bool {
        self.lock().tokens.is_known()
    }

    /// The server's limit on tokens per minute, if it said.
    pub fn tokens_per_minute(&self) -> Option<f64> {
        self.lock().tokens.limit()
    }

    /// The largest load of a request that is expected to be responded to well within `timeout`; `wanted` is the load that
    /// the caller has. `careful` is the assumption about a server of which nothing is known: it may be slow.
    pub fn largest_load(&self, wanted: u64, timeout: Duration, careful: bool) -> u64 {
        self.lock().size.largest(wanted, timeout, careful)
    }

    /// What was learned about the size of requests and how many are sent at once; `None` where nothing had to be adapted.
    pub fn shape(&self) -> (Option<usize>, Option<usize>) {
        let state = self.lock();
        let (texts, at_once) = state.size.shape();
        (texts, at_once.into_iter().chain(state.concurrency.learned_ceiling()).min())
    }

    /// How long no request is sent, because the server asked to wait.
    pub fn paused_for(&self) -> Duration {
        self.lock().paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// How many requests are in flight.
    pub fn in_flight(&self) -> usize {
        self.lock().concurrency.in_flight()
    }

    /// How many requests may be in flight.
    pub fn concurrency(&self) -> usize {
        self.lock().concurrency.allowed()
    }

    /// The upper bound of the requests in flight.
    pub fn ceiling(&self) -> usize {
        self.lock().concurrency.ceiling()
    }

    /// The source of randomness of all waits.
    pub fn jitter(&self) -> &Jitter {
        &self.jitter
    }

    /// The budget that bounds the retries of the process.
    pub fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// Lowers the ceilings, never raises them.
    pub(super) fn tighten(&self, limits: EndpointLimits) {
        let mut state = self.lock();
        state.requests.tighten(limits.requests_per_minute);
        state.tokens.tighten(limits.tokens_per_minute);
        if let Some(ceiling) = limits.concurrency {
            state.concurrency.tighten(ceiling);
        }
        state.min_interval = state.min_interval.max(limits.min_interval);
    }

    fn lock(&self) -> MutexGuard<'_, EndpointState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Blocked {
    /// For the log.
    why: &'static str,
    until: Option<Instant>,
    /// Whether the wait counts against the caller's patience.
    counts: bool,
}

enum Decision {
    Send(Debit, Debit),
    /// All requests are paused until then.
    Paused(Instant),
    /// The breaker is open: no work is sent.
    Down,
    /// The breaker is open, and it is too early for a probe.
    Open {
        until: Option<Instant>,
        outage: Duration,
    },
    /// A rate limit is used up until then.
    Limited(Instant),
    /// As many requests are in flight as allowed.
    Full,
}

impl EndpointState {
    fn decide(&mut self, kind: RequestKind, tokens: u64, now: Instant) -> Decision {
        if let Some(until) = self.paused_until {
            if now < until {
                return Decision::Paused(until);
            }
            // The waiting requests are paced, not sent in one burst.
            self.paused_until = None;
            self.requests.restart(now);
            self.tokens.restart(now);
        }
        if kind == RequestKind::Work && self.breaker.is_open() {
            return Decision::Down;
        }
        let outage = self.breaker.outage(now);
        match self.breaker.decide(now) {
            BreakerDecision::Send => {}
            BreakerDecision::Until(until) => return Decision::Open { until: Some(until), outage },
            BreakerDecision::Probing => return Decision::Open { until: None, outage },
        }
        let cap = self.cap(now).min(self.size.concurrency().unwrap_or(usize::MAX));
        if !self.concurrency.may_start(cap, now) {
            return Decision::Full;
        }
        let mut ready = self.requests.ready_at(1.0, now).max(self.tokens.ready_at(tokens as f64, now));
        if let (Some(interval), Some(last)) = (self.min_interval, self.last_sent) {
            ready = ready.max(last + interval);
        }
        if let Some(until) = self.size.held_until() {
            ready = ready.max(until);
        }
        if ready > now {
            return Decision::Limited(ready);
        }
        self.sequence += 1;
        self.tokens_sent += tokens as f64;
        self.last_sent = Some(now);
        self.concurrency.start();
        self.breaker.sent();
        Decision::Send(self.requests.take(1.0, self.sequence, now), self.tokens.take(tokens as f64, self.sequence, now))
    }

    /// How many may be in flight while limits are unknown.
    fn cap(&self, now: Instant) -> usize {
        if self.refusals >= 2 {
            // Refused again right after a pause: one request at a time.
            1
        } else if self.concurrency_is_configured || self.requests.is_known() || self.tokens.is_known() {
            usize::MAX
        } else {
            let Some(first) = self.first_success else { return INITIAL_IN_FLIGHT };
            let by_time = now.duration_since(first).as_secs() / SECONDS_PER_STEP;
            let steps = by_time.max(self.successes / SUCCESSES_PER_STEP);
            EXPLORATION_IN_FLIGHT + usize::try_from(steps).unwrap_or(usize::MAX)
        }
    }

    fn pause(&mut self, wait: Duration, now: Instant) {
        let until = now + wait;
        self.paused_until = Some(self.paused_until.map_or(until, |earlier| earlier.max(until)));
        self.paused_at = Some(now);
    }
}

/// Allows one request. Dropped without [`Permit::finish`] it frees its slot, but not its share of the rate limits, because
/// the server may have counted the request.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    limiter: Arc<EndpointLimiter>,
    requests: Debit,
    tokens: Debit,
    sent: Instant,
    held: Duration,
    load: Option<Load>,
    done: bool,
}

impl Permit {
    /// Says how large the request is, so that later requests are shaped by the time that its response takes.
    pub fn with_load(mut self, load: Load) -> Self {
        self.load = Some(load);
        self.limiter.lock().size.sent();
        self
    }

    /// Returns an unused permit: nothing was sent.
    pub fn release(mut self) {
        self.done = true;
        let now = Instant::now();
        let mut state = self.limiter.lock();
        state.requests.refund(self.requests, now);
        state.tokens.refund(self.tokens, now);
        state.concurrency.release();
        state.breaker.cancelled();
        drop(state);
        self.limiter.changed.notify_one();
    }

    /// How long a pause or the breaker delayed the request at the head of the queue.
    pub fn held(&self) -> Duration {
        self.held
    }

    /// Reports the outcome of the attempt to the limiter. Returns how long this request alone has to wait before it is sent
    /// again, if others do not.
    pub fn finish(mut self, outcome: Outcome, hints: &Hints) -> Option<Duration> {
        self.done = true;
        let now = Instant::now();
        let limiter = Arc::clone(&self.limiter);
        let own_wait = limiter.lock().finish(&self, outcome, hints, now, &limiter.jitter);
        if matches!(outcome, Outcome::Success { .. }) {
            limiter.budget.deposit();
        }
        limiter.changed.notify_one();
        own_wait
    }
}

impl EndpointState {
    fn finish(
        &mut self,
        permit: &Permit,
        outcome: Outcome,
        hints: &Hints,
        now: Instant,
        jitter: &Jitter,
    ) -> Option<Duration> {
        let mut own_wait = None;
        let counted = !matches!(outcome, Outcome::RateLimited(_));
        let hints = &hints.shared(self.share);
        // Most servers count a refused request, but not its tokens.
        if let Some(quota) = hints.requests {
            self.requests.observe(&permit.requests, quota, true, now);
        }
        if let Some(quota) = hints.tokens {
            self.tokens.observe(&permit.tokens, quota, counted, now);
        }
        if !matches!(outcome, Outcome::Failed { .. } | Outcome::TimedOut { .. }) {
            self.breaker.responded();
            if let Some(wait) = hints.used_up {
                self.pause(wait, now);
            }
        }
        if let Some(load) = permit.load {
            let ended = Ended { load, sent: permit.sent, now, in_flight: self.concurrency.in_flight() };
            match outcome {
                Outcome::Success { .. } => self.size.succeeded(ended),
                Outcome::TimedOut { own } => self.size.timed_out(ended, own),
                Outcome::RateLimited(_) | Outcome::Rejected | Outcome::Failed { .. } => self.size.ended(),
            }
        }
        let effect = match outcome {
            Outcome::Success { tokens } => {
                self.requests.grant(permit.requests, None, now);
                self.tokens.grant(permit.tokens, tokens.map(|n| n as f64), now);
                self.successes += 1;
                self.first_success.get_or_insert(now);
                self.last_success = Some(now);
                if self.paused_at.is_none_or(|paused| permit.sent >= paused) {
                    self.refusals = 0;
                    self.refusals_alone = 0;
                }
                Effect::Success
            }
            Outcome::RateLimited(rate_limit) => {
                let (effect, wait) = self.refused(permit, rate_limit, hints, now, jitter);
                own_wait = wait;
                effect
            }
            Outcome::Rejected => {
                self.tokens.refund(permit.tokens, now);
                Effect::Neutral
            }
            Outcome::Failed { congested, outage } => {
                if outage {
                    self.breaker.failed(now, hints.retry_after);
                } else {
                    self.breaker.cancelled();
                }
                if congested { Effect::Congested } else { Effect::Neutral }
            }
            Outcome::TimedOut { .. } => {
                self.breaker.failed(now, hints.retry_after);
                Effect::Congested
            }
        };
        let size = permit.tokens.amount() as u64;
        self.concurrency.finish(permit.sent, now, size, effect);
        own_wait
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.done {
            let size = self.tokens.amount() as u64;
            let mut state = self.limiter.lock();
            state.concurrency.finish(self.sent, Instant::now(), size, Effect::Neutral);
            state.breaker.cancelled();
            if self.load.is_some() {
                state.size.ended();
            }
            drop(state);
            self.limiter.changed.notify_one();
        }
    }
}

mod sample;
#[cfg(test)]
mod slow_servers;
#[cfg(test)]
mod tests;
