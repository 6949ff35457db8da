//! What all clients of one endpoint, key and model share: the limits, the gate, the breaker, the concurrency.
//!
//! [`EndpointLimiter::acquire`] is the one place where a request waits before it is sent; whoever waits longest goes first. A
//! [`Permit`] is the leave to send one request, and takes back what its answer taught.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    circuit_breaker::{BreakerDecision, CircuitBreaker},
    concurrency::{ConcurrencyController, Effect},
    rate_limit_headers::{Hints, Quota},
    retry::{FIRST_PAUSE, Jitter, RetryBudget},
    token_bucket::{Debit, TokenBucket},
};
use crate::model::Fingerprint;

/// In flight before the first answer has told anything.
const UNTOLD: usize = 4;
/// In flight while no limit is known: each could be refused at once. Grows by one for every so many successes, so that
/// the first refusals stay a small share of all requests; and by one after each pause, so that slow servers get enough
/// to do.
const EXPLORING: usize = 12;
const SUCCESSES_PER_STEP: u64 = 150;
const SECONDS_PER_STEP: u64 = 6;
/// Where the concurrency begins.
const FIRST_CONCURRENCY: usize = 16;
/// The ceiling where none is configured.
const CONCURRENCY_CEILING: usize = 256;

/// Who shares a limiter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointKey {
    /// The address that requests go to.
    pub endpoint: String,
    /// A digest of the key, never the key.
    pub key: Option<Fingerprint>,
    /// The model; servers count models apart.
    pub model: String,
}

/// What is configured about a limiter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EndpointLimits {
    /// Ceiling on requests a minute.
    pub requests_per_minute: Option<f64>,
    /// Ceiling on tokens a minute.
    pub tokens_per_minute: Option<f64>,
    /// Ceiling on requests in flight.
    pub concurrency: Option<usize>,
    /// How much may be sent at once: this long's worth of the rate.
    pub burst: Duration,
    /// False for servers that judge a minute's limit by the second: a full bucket is not used up faster.
    pub may_exceed: bool,
    /// How long the gate stays closed after a refusal that names no wait; it doubles with each further one. The breaker
    /// opens for twice as long at first.
    pub first_pause: Duration,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            tokens_per_minute: None,
            concurrency: None,
            burst: Duration::from_secs(1),
            may_exceed: true,
            first_pause: FIRST_PAUSE,
        }
    }
}

/// Which limit a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Requests a minute.
    Requests,
    /// Tokens a minute.
    Tokens,
}

/// What the text of a "too many requests" says.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RateLimited {
    /// Which limit, if it told.
    pub scope: Option<Scope>,
    /// The wait that it named.
    pub wait: Option<Duration>,
    /// The limit a minute that it named.
    pub limit: Option<f64>,
}

/// How an attempt ended, as far as the limiter has to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// A good answer; the tokens that the server counted, if it told.
    Success {
        /// What the server counted.
        tokens: Option<u64>,
    },
    /// "Too many requests".
    RateLimited(RateLimited),
    /// An answer about the request itself (400, 401, …): the endpoint works.
    Rejected,
    /// A time-out, a broken connection, 5xx, garbage.
    Failed {
        /// True when it may be a sign of too much load.
        congested: bool,
        /// True when it may be a sign of an outage; false when the request itself may be at fault, and others have been
        /// answered since it was first sent.
        outage: bool,
    },
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Work to be done. It is sent back while the endpoint seems to be down.
    Work,
    /// To find out whether the endpoint works: something harmless, whose failure can only be the endpoint's.
    Probe,
}

/// Why nothing may be sent for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// The endpoint seems to be down: send a probe.
    #[error("the endpoint seems to be down")]
    Down,
    /// The server asked for a wait longer than the caller has patience for.
    #[error("the server asks to wait {}", seconds(.0))]
    Closed(Duration),
    /// Nothing has worked for longer than the longest outage allowed.
    #[error("nothing has worked for {}", seconds(.0))]
    Outage(Duration),
}

fn seconds(duration: &Duration) -> String {
    format!("{:.0} s", duration.as_secs_f64().ceil())
}

/// The shared state of one endpoint, key and model.
#[derive(Debug)]
pub struct EndpointLimiter {
    state: Mutex<EndpointState>,
    /// Held by whoever is first in the queue; tokio's mutex is fair.
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
    breaker: CircuitBreaker,
    first_pause: Duration,
    /// Nobody sends before this.
    gate: Option<Instant>,
    /// When the gate was last closed: refusals of requests sent before belong to the same episode.
    closed_at: Option<Instant>,
    /// Episodes of refusals since the last success.
    refusals: u32,
    sequence: u64,
    /// True when the configuration names a concurrency: then there is nothing to find out.
    told: bool,
    successes: u64,
    first_success: Option<Instant>,
    last_success: Option<Instant>,
}

impl EndpointLimiter {
    /// A limiter of its own, shared with nobody.
    pub fn new(limits: EndpointLimits, budget: Arc<RetryBudget>, jitter: Jitter) -> Arc<Self> {
        let now = Instant::now();
        let bucket = |ceiling| TokenBucket::new(ceiling, limits.burst, limits.may_exceed, now);
        let ceiling = limits.concurrency.unwrap_or(CONCURRENCY_CEILING);
        Arc::new(Self {
            state: Mutex::new(EndpointState {
                requests: bucket(limits.requests_per_minute),
                tokens: bucket(limits.tokens_per_minute),
                concurrency: ConcurrencyController::new(limits.concurrency.unwrap_or(FIRST_CONCURRENCY), ceiling),
                breaker: CircuitBreaker::new(limits.first_pause * 2),
                first_pause: limits.first_pause,
                gate: None,
                closed_at: None,
                refusals: 0,
                sequence: 0,
                told: limits.concurrency.is_some(),
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

    /// Waits until one request with this many tokens may be sent. First come, first served.
    ///
    /// # Errors
    /// When the gate or the breaker keeps everybody waiting for longer than `patience` or `max_outage`; and, for work, at
    /// once when the endpoint seems to be down.
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
                Decision::Go(requests, tokens) => {
                    return Ok(Permit { limiter: Arc::clone(self), requests, tokens, sent: now, held, done: false });
                }
                Decision::Closed(until) if until - now > patience.saturating_sub(held) => {
                    return Err(AcquireError::Closed(until - now));
                }
                Decision::Down => return Err(AcquireError::Down),
                Decision::Open { outage, .. } if outage > max_outage => return Err(AcquireError::Outage(outage)),
                Decision::Closed(until) => {
                    Blocked { why: "the server asked to wait", until: Some(until), counts: true }
                }
                Decision::Open { until, .. } => Blocked { why: "the endpoint seems to be down", until, counts: true },
                Decision::Limited(until) => Blocked { why: "rate limit", until: Some(until), counts: false },
                Decision::Full => Blocked { why: "requests in flight", until: None, counts: false },
            };
            tracing::debug!(
                why = blocked.why,
                seconds = blocked.until.map(|until| (until - now).as_secs_f64()),
                "waits before a request is sent"
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

    /// How long the limiter has had no success: since the last one, or since `start` if that is later.
    pub fn stalled(&self, start: Instant) -> Duration {
        let since = self.lock().last_success.map_or(start, |success| success.max(start));
        since.elapsed()
    }

    /// True while the endpoint seems to be down: one request at a time finds out whether it is back.
    pub fn is_down(&self) -> bool {
        self.lock().breaker.is_open()
    }

    /// How many requests have succeeded.
    pub fn successes(&self) -> u64 {
        self.lock().successes
    }

    /// True when a limit on tokens is known, so that exact counts are worth their time.
    pub fn counts_tokens(&self) -> bool {
        self.lock().tokens.is_known()
    }

    /// The server's limit on tokens a minute, if it told.
    pub fn tokens_per_minute(&self) -> Option<f64> {
        self.lock().tokens.limit()
    }

    /// How many requests are on the wire.
    pub fn in_flight(&self) -> usize {
        self.lock().concurrency.in_flight()
    }

    /// How many requests may be on the wire.
    pub fn concurrency(&self) -> usize {
        self.lock().concurrency.allowed()
    }

    /// The most requests that could ever be on the wire.
    pub fn ceiling(&self) -> usize {
        self.lock().concurrency.ceiling()
    }

    /// The chance that all waits of this limiter are drawn from.
    pub fn jitter(&self) -> &Jitter {
        &self.jitter
    }

    /// The budget that bounds the retries of the process.
    pub fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    fn tighten(&self, limits: EndpointLimits) {
        let mut state = self.lock();
        state.requests.tighten(limits.requests_per_minute);
        state.tokens.tighten(limits.tokens_per_minute);
        if let Some(ceiling) = limits.concurrency {
            state.concurrency.tighten(ceiling);
        }
    }

    fn lock(&self) -> MutexGuard<'_, EndpointState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Blocked {
    /// In words, for the log.
    why: &'static str,
    until: Option<Instant>,
    /// Whether the wait counts against the caller's patience.
    counts: bool,
}

enum Decision {
    Go(Debit, Debit),
    /// The gate is closed until then.
    Closed(Instant),
    /// The breaker is open, for work.
    Down,
    /// The breaker is open, for probes as well.
    Open {
        until: Option<Instant>,
        outage: Duration,
    },
    /// A rate limit holds it back until then.
    Limited(Instant),
    /// Enough is on the wire.
    Full,
}

impl EndpointState {
    fn decide(&mut self, kind: RequestKind, tokens: u64, now: Instant) -> Decision {
        if let Some(gate) = self.gate {
            if now < gate {
                return Decision::Closed(gate);
            }
            // No stampede: what was kept waiting comes at the usual pace.
            self.gate = None;
            self.requests.restart(now);
            self.tokens.restart(now);
        }
        if kind == RequestKind::Work && self.breaker.is_open() {
            return Decision::Down;
        }
        let outage = self.breaker.outage(now);
        match self.breaker.passage(now) {
            BreakerDecision::Free => {}
            BreakerDecision::Until(until) => return Decision::Open { until: Some(until), outage },
            BreakerDecision::Probing => return Decision::Open { until: None, outage },
        }
        let cap = self.cap(now);
        if !self.concurrency.may_start(cap, now) {
            return Decision::Full;
        }
        let ready = self.requests.ready_at(1.0, now).max(self.tokens.ready_at(tokens as f64, now));
        if ready > now {
            return Decision::Limited(ready);
        }
        self.sequence += 1;
        self.concurrency.start();
        self.breaker.passed();
        Decision::Go(self.requests.take(1.0, self.sequence, now), self.tokens.take(tokens as f64, self.sequence, now))
    }

    /// How many may be in flight for want of knowledge.
    fn cap(&self, now: Instant) -> usize {
        if self.refusals >= 2 {
            // Refused again right after a wait: ask one at a time.
            1
        } else if self.told || self.requests.is_known() || self.tokens.is_known() {
            usize::MAX
        } else {
            let Some(first) = self.first_success else { return UNTOLD };
            let by_time = now.duration_since(first).as_secs() / SECONDS_PER_STEP;
            let steps = by_time.max(self.successes / SUCCESSES_PER_STEP);
            EXPLORING + usize::try_from(steps).unwrap_or(usize::MAX)
        }
    }

    fn close(&mut self, wait: Duration, now: Instant) {
        let until = now + wait;
        self.gate = Some(self.gate.map_or(until, |gate| gate.max(until)));
        self.closed_at = Some(now);
    }
}

/// The leave to send one request. Dropped without [`Permit::finish`] it frees its place; what it reserved stays taken,
/// because the server may have done the work.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    limiter: Arc<EndpointLimiter>,
    requests: Debit,
    tokens: Debit,
    sent: Instant,
    held: Duration,
    done: bool,
}

impl Permit {
    /// How long the gate or the breaker kept the request waiting at the head of the queue.
    pub fn held(&self) -> Duration {
        self.held
    }

    /// Tells the limiter how the attempt ended.
    pub fn finish(mut self, outcome: Outcome, hints: &Hints) {
        self.done = true;
        let now = Instant::now();
        let limiter = Arc::clone(&self.limiter);
        limiter.lock().finish(&self, outcome, hints, now, &limiter.jitter);
        if matches!(outcome, Outcome::Success { .. }) {
            limiter.budget.deposit();
        }
        limiter.changed.notify_one();
    }
}

impl EndpointState {
    fn finish(&mut self, permit: &Permit, outcome: Outcome, hints: &Hints, now: Instant, jitter: &Jitter) {
        let counted = !matches!(outcome, Outcome::RateLimited(_));
        // Refused requests count as requests with most servers, but their tokens are not taken.
        if let Some(quota) = hints.requests {
            self.requests.heard(&permit.requests, quota, true, now);
        }
        if let Some(quota) = hints.tokens {
            self.tokens.heard(&permit.tokens, quota, counted, now);
        }
        if !matches!(outcome, Outcome::Failed { .. }) {
            self.breaker.alive();
        }
        let effect = match outcome {
            Outcome::Success { tokens } => {
                self.requests.grant(permit.requests, None, now);
                self.tokens.grant(permit.tokens, tokens.map(|n| n as f64), now);
                self.successes += 1;
                self.first_success.get_or_insert(now);
                self.last_success = Some(now);
                if self.closed_at.is_none_or(|closed| permit.sent >= closed) {
                    self.refusals = 0;
                }
                Effect::Fine
            }
            Outcome::RateLimited(rate_limit) => self.refused(permit, rate_limit, hints, now, jitter),
            Outcome::Rejected => {
                self.tokens.refund(permit.tokens, now);
                Effect::Neutral
            }
            Outcome::Failed { congested, outage } => {
                if outage {
                    self.breaker.failed(now, hints.retry_after);
                } else {
                    self.breaker.abandoned();
                }
                if congested { Effect::Congested } else { Effect::Neutral }
            }
        };
        let size = permit.tokens.amount() as u64;
        self.concurrency.finish(permit.sent, now, size, effect);
    }

    fn refused(
        &mut self,
        permit: &Permit,
        RateLimited { scope, wait, limit }: RateLimited,
        hints: &Hints,
        now: Instant,
        jitter: &Jitter,
    ) -> Effect {
        // What this very answer says counts as well: an answer to a later request may have been heard before it.
        let short = |quota: Option<Quota>, amount: f64| quota.is_some_and(|quota| quota.remaining < amount);
        let explained = short(hints.requests, 1.0)
            || short(hints.tokens, permit.tokens.amount())
            || self.requests.explains_refusal(&permit.requests, now)
            || self.tokens.explains_refusal(&permit.tokens, now);
        self.tokens.refund(permit.tokens, now);
        let same_episode = self.closed_at.is_some_and(|closed| permit.sent < closed);
        if !explained {
            // A number without a name could be either limit's.
            let limit = limit.filter(|_| scope.is_some());
            if scope != Some(Scope::Tokens) {
                self.requests.refused(&permit.requests, limit, now);
            }
            if scope != Some(Scope::Requests) {
                self.tokens.refused(&permit.tokens, limit, now);
            }
        }
        if !same_episode {
            self.refusals += 1;
        }
        match hints.retry_after.or(wait) {
            Some(wait) => self.close(wait, now),
            None if same_episode => {}
            None => {
                // Doubling with every episode, sixtyfold at most; the upper half of it by chance.
                let doubled = self.first_pause * 2u32.pow(self.refusals.saturating_sub(1).min(6)).min(60);
                self.close(doubled.mul_f64(0.5 + 0.5 * jitter.share()), now);
            }
        }
        if explained { Effect::Neutral } else { Effect::Congested }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.done {
            let size = self.tokens.amount() as u64;
            let mut state = self.limiter.lock();
            state.concurrency.finish(self.sent, Instant::now(), size, Effect::Neutral);
            state.breaker.abandoned();
            drop(state);
            self.limiter.changed.notify_one();
        }
    }
}

/// The limiters of a process.
#[derive(Debug, Default)]
pub struct EndpointRegistry {
    limiters: Mutex<HashMap<EndpointKey, Arc<EndpointLimiter>>>,
    budget: Arc<RetryBudget>,
}

impl EndpointRegistry {
    /// The limiters that all clients of this process share.
    pub fn process() -> Arc<Self> {
        static PROCESS: OnceLock<Arc<EndpointRegistry>> = OnceLock::new();
        Arc::clone(PROCESS.get_or_init(Arc::default))
    }

    /// The limiter of this key. Where two users configure different ceilings, the lower ones hold for both.
    pub fn limiter(&self, key: EndpointKey, limits: EndpointLimits) -> Arc<EndpointLimiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let limiter = limiters
            .entry(key)
            .or_insert_with(|| EndpointLimiter::new(limits, Arc::clone(&self.budget), Jitter::new()));
        limiter.tighten(limits);
        Arc::clone(limiter)
    }
}

#[cfg(test)]
mod tests;
