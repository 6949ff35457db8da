//! How large a request may be and how many are sent at once to a server that is slow: learned from the time that responses
//! take, the same for all clients of an endpoint.
//!
//! The aim is a response time well below the time limit of an attempt. A fast server never notices: its second round of
//! requests is as large as callers want. What a request may contain follows from the time per unit of load, which includes
//! waiting behind other requests at the server; how many are sent at once follows from what the server completes per
//! second. A server that did not respond in time may still be computing, so one such failure leads to one request at a
//! time, and only a second one, of a request that was alone, to half the size.

use std::time::Duration;

use tokio::time::Instant;

/// The load of a short text, and how much of it a server is assumed to compute in a second while nothing is known. Ten short
/// texts a second are what small models need on old machines.
const SHORT_TEXT: u64 = 100;
const ASSUMED_PER_SECOND: f64 = 10.0 * SHORT_TEXT as f64;
/// The share of the time limit that the first requests may take by that assumption.
const INITIAL_SHARE: f64 = 0.8;
/// The load of a text besides its bytes.
const TEXT_OVERHEAD: u64 = 64;
/// The aimed-at response time, and the longest accepted one, as fractions of the time limit.
const TARGET: f64 = 0.25;
const LONGEST: f64 = 0.5;
/// The same while more at once are tried.
const LONGEST_AT_MORE: f64 = 0.75;
/// Requests in flight at a slow server at first. Their responses have to come in time even if they are computed one by one.
const INITIAL_AT_ONCE: usize = 4;
/// Growth of the size per response: while nothing has failed, and after a time-out.
const GROWTH: f64 = 8.0;
const CAREFUL_GROWTH: f64 = 1.5;
/// Growth where size was found not to matter, up to this share of the time limit.
const FLAT_GROWTH: f64 = 4.0;
const LONGEST_FLAT: f64 = 0.9;
/// The fraction of a size without a response in time that is not exceeded, and for how long.
const BELOW_FAILED: f64 = 0.75;
const REMEMBER_FAILED: Duration = Duration::from_secs(600);
/// Twice as many at once have to complete this much more per second.
const WORTH_IT: f64 = 1.25;
/// When more at once are tried again.
const RETRY_MORE: Duration = Duration::from_secs(60);
/// From this many at once on, a server is not treated as slow after a time-out.
const NO_LONGER_CAUTIOUS: usize = 16;

/// How large a request is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Texts.
    pub texts: usize,
    /// Their length in bytes, with an allowance for each text.
    pub amount: u64,
    /// The time limit of the attempt.
    pub timeout: Duration,
}

impl Load {
    /// The load of so many texts with so many bytes.
    pub fn new(texts: usize, bytes: usize, timeout: Duration) -> Self {
        Self { texts, amount: Self::amount(texts, bytes), timeout }
    }

    /// The amount of so many texts with so many bytes.
    pub fn amount(texts: usize, bytes: usize) -> u64 {
        bytes as u64 + TEXT_OVERHEAD * texts as u64
    }
}

/// A request whose outcome is known. `in_flight` counts it, too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) load: Load,
    pub(super) sent: Instant,
    pub(super) now: Instant,
    pub(super) in_flight: usize,
}

impl Ended {
    fn seconds(&self) -> f64 {
        self.now.duration_since(self.sent).as_secs_f64().max(1e-6)
    }
}

/// The controller.
#[derive(Debug, Clone)]
pub(super) struct RequestSize {
    /// The largest load of a request; infinite if nothing limits it, `None` before the first request.
    limit: Option<f64>,
    /// The largest load that a caller had.
    wanted: f64,
    seconds_per_load: Option<f64>,
    /// The average load of a text, for people.
    load_per_text: Option<f64>,
    /// The last response within the aimed-at time: its load and when it came.
    prompt: Option<(f64, Instant)>,
    /// A size that was alone and had no response in time, and when.
    failed: Option<(f64, Instant)>,
    /// The time limit of a gateway, as its refusals show.
    cut: Option<Duration>,
    /// The last reaction: outcomes of requests sent before it are no news.
    reacted: Option<Instant>,
    /// The last decrease for a slow response: size and time before it, and when larger ones have ended. If smaller requests take as long, size does not matter.
    decreased: Option<(f64, f64, Instant)>,
    /// A small size and its response time, if size was found not to matter.
    flat: Option<(f64, f64)>,
    /// True since a time-out, until many at once succeed.
    cautious: bool,
    at_once: AtOnce,
}

impl Default for RequestSize {
    fn default() -> Self {
        Self {
            limit: None,
            wanted: 0.0,
            seconds_per_load: None,
            load_per_text: None,
            prompt: None,
            failed: None,
            cut: None,
            reacted: None,
            decreased: None,
            flat: None,
            cautious: false,
            at_once: AtOnce::default(),
        }
    }
}

impl RequestSize {
    /// The largest load of a request with this time limit.
    pub(super) fn largest(&mut self, wanted: u64, timeout: Duration, careful: bool) -> u64 {
        self.wanted = self.wanted.max(wanted as f64);
        let limit = *self.limit.get_or_insert_with(|| {
            if !careful {
                return f64::INFINITY;
            }
            timeout.as_secs_f64() * ASSUMED_PER_SECOND * INITIAL_SHARE / INITIAL_AT_ONCE as f64
        });
        limit as u64
    }

    /// How many requests may be in flight; `None` while the server is not known to be slow.
    pub(super) fn concurrency(&self) -> Option<usize> {
        (self.cautious || self.is_slow()).then_some(self.at_once.allowed)
    }

    /// The number of average texts in a request; `None` if it is not limited.
    pub(super) fn texts(&self) -> Option<usize> {
        let limit = self.limit.filter(|_| self.is_slow())?;
        Some((limit / self.load_per_text?).max(1.0) as usize)
    }

    fn is_slow(&self) -> bool {
        self.limit.is_some_and(|limit| limit < self.wanted)
    }

    /// The time limit of an attempt: the client's, or that of a gateway.
    fn bound(&self, load: &Load) -> f64 {
        self.cut.map_or(load.timeout, |cut| cut.min(load.timeout)).as_secs_f64()
    }

    /// A request had a good response.
    pub(super) fn succeeded(&mut self, ended: Ended) {
        let Ended { load, sent, now, .. } = ended;
        if load.texts == 0 {
            return;
        }
        let (amount, seconds) = (load.amount as f64, ended.seconds());
        let per_text = amount / load.texts as f64;
        self.load_per_text = Some(self.load_per_text.map_or(per_text, |old| old + (per_text - old) * 0.1));
        if self.cut.is_some_and(|cut| seconds > cut.as_secs_f64() * 1.1) {
            self.cut = None;
        }
        if self.failed.is_some_and(|(size, at)| amount >= size || now.duration_since(at) > REMEMBER_FAILED) {
            self.failed = None;
        }
        if seconds <= self.bound(&load) * TARGET {
            self.prompt = Some((amount, now));
        }
        if self.concurrency().is_some() {
            self.measure(&ended);
        }
        if self.reacted.is_some_and(|at| sent < at) {
            return;
        }
        let (bound, limit) = (self.bound(&load), self.limit.unwrap_or(f64::INFINITY));
        // A small request shows nothing about large ones.
        let telling = amount >= limit * 0.5 || limit.is_infinite() || amount >= self.wanted;
        if telling {
            let per_load = seconds / amount;
            self.seconds_per_load = Some(self.seconds_per_load.map_or(per_load, |old| (old + per_load) / 2.0));
        }
        let fits = amount * bound * TARGET / seconds;
        // Unless it has become so fast that what failed would be prompt.
        let failed = self.failed.filter(|(size, _)| size * seconds / amount > bound * TARGET / 2.0);
        let known_to_fail = failed.map_or(f64::INFINITY, |(size, _)| size * BELOW_FAILED);
        if self.flat.is_some_and(|(_, before)| seconds > before * 1.25) {
            (self.flat, self.decreased) = (None, None);
        }
        if let Some((size, time, ended)) = self.decreased
            && sent >= ended
            && amount < size * 0.75
            && seconds > time * 0.8
        {
            self.flat = Some((amount, seconds));
            self.limit =
                Some(grown_flat((size, time), (amount, seconds), bound).min(known_to_fail).max(size).max(limit));
            self.decreased = None;
            return;
        }
        if let Some(small) = self.flat {
            if telling {
                self.limit = Some(grown_flat((amount, seconds), small, bound).min(known_to_fail).max(limit));
            }
        } else if seconds > bound * LONGEST {
            if load.texts > 1 {
                self.decreased = Some((amount, seconds, now + Duration::from_secs_f64(seconds)));
                self.limit = Some(fits.max(amount / 4.0).min(limit));
                self.reacted = Some(now);
            }
        } else if telling && fits > limit {
            let growth = if self.cautious || self.failed.is_some() { CAREFUL_GROWTH } else { GROWTH };
            self.limit = Some(fits.min(amount * growth).min(known_to_fail).max(limit));
        }
    }

    /// A request had no response in time.
    pub(super) fn timed_out(&mut self, ended: Ended, own: bool) {
        let Ended { load, sent, now, .. } = ended;
        let (amount, waited) = (load.amount as f64, now.duration_since(sent));
        if !own && waited < load.timeout.mul_f64(0.9) && self.cut.is_none_or(|cut| waited < cut.mul_f64(0.9)) {
            self.cut = Some(waited);
        }
        if self.reacted.is_some_and(|at| sent < at) {
            return;
        }
        // While it was waited for, another one of its size had a prompt response: it was lost, and neither its size nor the
        // load is the reason.
        if self.prompt.is_some_and(|(other, at)| other >= amount * 0.8 && at > sent) {
            return;
        }
        self.reacted = Some(now);
        self.decreased = None;
        self.flat = None;
        let alone = self.cautious && self.at_once.allowed == 1;
        self.cautious = true;
        self.at_once = AtOnce::one();
        let bound = self.bound(&load);
        let limit = self.limit.unwrap_or(f64::INFINITY);
        if let Some(per_load) = self.seconds_per_load
            && per_load * amount > bound * 0.75
        {
            // What is known about its speed explains it.
            self.limit = Some((bound * TARGET / per_load).min(amount).min(limit));
        } else if alone && load.texts > 1 {
            self.failed = Some((amount, now));
            self.limit = Some((amount / 2.0).min(limit));
        }
    }

    /// Measures what the server completes with the present number of requests at once; doubles the number while that pays.
    fn measure(&mut self, ended: &Ended) {
        let Some(change) = self.at_once.completed(ended) else { return };
        match change {
            // If the server computes one request after another, responses take twice as long.
            Change::Doubled => {
                let too_long = ended.seconds() * 2.0 / (self.bound(&ended.load) * LONGEST_AT_MORE);
                if let Some(limit) = self.limit.filter(|_| self.flat.is_none() && too_long > 1.0) {
                    self.limit = Some(limit / too_long);
                }
                if self.at_once.allowed >= NO_LONGER_CAUTIOUS {
                    self.cautious = false;
                }
            }
            Change::Halved => {}
        }
        self.reacted = Some(ended.now);
    }
}

/// The next size where size hardly matters: from two sizes and their times, what stays within the time limit.
fn grown_flat((size, time): (f64, f64), (small, before): (f64, f64), bound: f64) -> f64 {
    let per_load = ((time - before) / (size - small).max(1.0)).max(0.0);
    let fits = if per_load > 0.0 { size + (bound * LONGEST_FLAT - time) / per_load } else { f64::INFINITY };
    (size * FLAT_GROWTH).min(fits)
}

/// How many requests are sent at once to a slow server.
#[derive(Debug, Clone)]
struct AtOnce {
    allowed: usize,
    since: Option<Instant>,
    /// The first response of the present measurement, and what has been completed since then.
    begun: Option<Instant>,
    completed: f64,
    responses: usize,
    /// Half as many, and what they completed per second.
    half: Option<f64>,
    /// More are not tried before this.
    settled_until: Option<Instant>,
}

enum Change {
    Doubled,
    Halved,
}

impl Default for AtOnce {
    fn default() -> Self {
        Self { allowed: INITIAL_AT_ONCE, ..Self::one() }
    }
}

impl AtOnce {
    fn one() -> Self {
        Self { allowed: 1, since: None, begun: None, completed: 0.0, responses: 0, half: None, settled_until: None }
    }

    fn restart(&mut self, now: Instant) {
        *self = Self {
            allowed: self.allowed,
            since: Some(now),
            half: self.half,
            settled_until: self.settled_until,
            ..Self::one()
        };
    }

    /// Counts a response; returns a change that its measurement led to.
    fn completed(&mut self, ended: &Ended) -> Option<Change> {
        let now = ended.now;
        if self.since.is_some_and(|since| ended.sent < since) || self.settled_until.is_some_and(|until| now < until) {
            return None;
        }
        if ended.in_flight < self.allowed {
            // There was too little to do.
            self.restart(now);
            return None;
        }
        let Some(begun) = self.begun else {
            self.begun = Some(now);
            return None;
        };
        self.completed += ended.load.amount as f64;
        self.responses += 1;
        if self.responses < (2 * self.allowed).max(3) {
            return None;
        }
        let rate = self.completed / now.duration_since(begun).as_secs_f64().max(1e-6);
        if self.half.is_some_and(|half| rate < half * WORTH_IT) {
            self.allowed = (self.allowed / 2).max(1);
            self.half = None;
            self.settled_until = Some(now + RETRY_MORE);
            self.restart(now);
            return Some(Change::Halved);
        }
        self.allowed *= 2;
        self.half = Some(rate);
        self.settled_until = None;
        self.restart(now);
        Some(Change::Doubled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_lost_response_among_prompt_ones_changes_nothing() {
        let now = Instant::now();
        let load = Load::new(100, 3600, SECOND * 10);
        let mut size = RequestSize::default();
        assert_eq!(size.largest(load.amount, load.timeout, false), u64::MAX);
        let ended =
            |sent: Duration, now_at: Duration| Ended { load, sent: now + sent, now: now + now_at, in_flight: 2 };
        size.succeeded(ended(SECOND, SECOND * 2));
        size.timed_out(ended(Duration::ZERO, SECOND * 10), true);
        assert_eq!((size.concurrency(), size.texts()), (None, None));
        // Without a prompt response meanwhile, the load may be the reason.
        size.timed_out(ended(SECOND * 10, SECOND * 20), true);
        assert_eq!((size.concurrency(), size.texts()), (Some(1), None));
        size.timed_out(ended(SECOND * 20, SECOND * 30), true);
        assert_eq!((size.concurrency(), size.texts()), (Some(1), Some(50)));
    }
}
