//! How large a request may be and how many are sent at once to a server that is slow: learned from the time that responses
//! take, the same for all clients of an endpoint.
//!
//! The aim is a response time well below the time limit of an attempt. What a request may contain follows from how that time
//! depends on size: in proportion, unless sizes that differ show a part of it that does not ([`Line`]); that part is no reason
//! for smaller requests. The first requests to an unknown server differ for that reason ([`FirstRound`]). A fast server never
//! notices: its second round of requests is as large as callers want. How many are sent at once follows from what the server
//! completes per second ([`AtOnce`]). A server that did not respond in time may still be computing, so one such failure leads
//! to one request at a time, and only a second one, of a request that was alone, to half the size.

mod at_once;
mod first_round;
mod line;
mod load;

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use at_once::{AtOnce, Change, NO_LONGER_CAUTIOUS};
use first_round::FirstRound;
use line::{Line, Point, TARGET};
pub(super) use load::Ended;
pub use load::Load;

/// The longest accepted response time, as a fraction of the time limit.
const LONGEST: f64 = 0.6;
/// The same while more at once, or larger ones, are tried.
const LONGEST_AT_MORE: f64 = 0.75;
/// Growth of the size per response: while nothing has failed, and after a time-out.
const GROWTH: f64 = 8.0;
const CAREFUL_GROWTH: f64 = 1.5;
/// Growth to find out whether size matters at all: at most, and the least that shows it. Not again before this has passed.
const TRIAL: f64 = 2.0;
const LEAST_TRIAL: f64 = 1.25;
const TRY_AGAIN: Duration = Duration::from_secs(600);
/// The fraction of a size without a response in time that is not exceeded, and for how long.
const BELOW_FAILED: f64 = 0.75;
const REMEMBER_FAILED: Duration = Duration::from_secs(600);
/// Responses from which the settings of the next run are derived.
const RECENT: usize = 16;

/// The controller.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestSize {
    /// The largest load of a request; infinite if nothing limits it, `None` before the first request.
    limit: Option<f64>,
    /// The largest load that a caller had.
    wanted: f64,
    /// Until the first requests to an unknown server have responses.
    first_round: Option<FirstRound>,
    seconds_per_load: Option<f64>,
    /// The part of the response time that does not depend on size, if sizes that differ showed one.
    line: Option<Line>,
    /// The last response before the size was changed, and when larger or more ones sent before that have ended: what is sent
    /// later shows whether size matters.
    before_change: Option<(Point, Instant)>,
    /// The last change of the size.
    changed: Option<Instant>,
    /// Until then it is known that size matters.
    matters_until: Option<Instant>,
    /// The average load of a text, for people.
    load_per_text: Option<f64>,
    /// Texts of the last responses, if they came well in time.
    recent: VecDeque<usize>,
    /// True once the time that responses take, or their absence, has limited the size.
    is_limiting: bool,
    /// The last response within the aimed-at time: its load and when it came.
    prompt: Option<(f64, Instant)>,
    /// A size that was alone and had no response in time, and when.
    failed: Option<(f64, Instant)>,
    /// The time limit of a gateway, as its refusals show.
    cut: Option<Duration>,
    /// The last reaction: outcomes of requests sent before it are no news.
    reacted: Option<Instant>,
    /// True since a time-out, until many at once succeed.
    cautious: bool,
    at_once: AtOnce,
}

impl RequestSize {
    /// The largest load of a request with this time limit.
    pub(super) fn largest(&mut self, wanted: u64, timeout: Duration, careful: bool) -> u64 {
        self.wanted = self.wanted.max(wanted as f64);
        if self.limit.is_none() {
            let round = FirstRound::new(timeout);
            // All of it is small.
            let small = wanted as f64 <= round.equal();
            self.limit = Some(if !careful {
                f64::INFINITY
            } else if small {
                round.equal()
            } else {
                round.largest()
            });
            self.first_round = (careful && !small).then_some(round);
        }
        let limit = self.limit.unwrap_or(f64::INFINITY);
        self.first_round.as_ref().map_or(limit, |round| round.next(timeout).min(limit)) as u64
    }

    /// A request with a load is sent.
    pub(super) fn sent(&mut self) {
        if let Some(round) = &mut self.first_round {
            round.sent();
        }
    }

    /// No request is sent before this: responses that tell how large it may be are about to arrive.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.first_round.as_ref()?.held_until()
    }

    /// How many requests may be in flight; `None` while the server is not known to be slow.
    pub(super) fn concurrency(&self) -> Option<usize> {
        (self.cautious || self.is_slow()).then(|| self.at_once.allowed())
    }

    /// Texts in a request and requests at once with which the next run would begin; `None` where nothing is limited.
    pub(super) fn shape(&self) -> (Option<usize>, Option<usize>) {
        if !self.is_limiting || !(self.cautious || self.is_slow()) {
            return (None, None);
        }
        let by_limit = self.limit.filter(|_| self.is_slow()).zip(self.load_per_text);
        let passed = self.recent.iter().copied().max().unwrap_or_default();
        let texts = by_limit.map(|(limit, per_text)| ((limit / per_text) as usize).max(passed).max(1));
        (texts, Some(self.at_once.proven()))
    }

    fn is_slow(&self) -> bool {
        self.limit.is_some_and(|limit| limit < self.wanted)
    }

    /// The time limit of an attempt: the client's, or that of a gateway.
    fn bound(&self, load: &Load) -> f64 {
        self.cut.map_or(load.timeout, |cut| cut.min(load.timeout)).as_secs_f64()
    }

    /// A request ended without a word on the time that it takes: it was refused, failed, or cancelled.
    pub(super) fn ended(&mut self) {
        if self.first_round.as_mut().is_some_and(FirstRound::ended) {
            self.first_round = None;
        }
    }

    /// A request had a good response.
    pub(super) fn succeeded(&mut self, ended: Ended) {
        let Ended { load, sent, now, .. } = ended;
        let point = ended.point();
        let bound = self.bound(&load);
        // Before the reaction: the last response of the first round is judged with all of them.
        let first = self.first_round.as_mut().map(|round| round.responded(point, now));
        let is_first = first.is_some();
        if let Some((line, over)) = first {
            if line.is_some() {
                // They were not computed one after another.
                (self.line, self.at_once) = (line, AtOnce::many());
            }
            if over
                && let Some(round) = self.first_round.take()
                && self.line.is_none()
            {
                self.limit = self.limit.map(|limit| limit.min(round.fits(bound)));
                self.changed = Some(now);
            }
        }
        if load.texts == 0 {
            return;
        }
        let per_text = point.amount / load.texts as f64;
        self.load_per_text = Some(self.load_per_text.map_or(per_text, |old| old + (per_text - old) * 0.1));
        if self.cut.is_some_and(|cut| point.seconds > cut.as_secs_f64() * 1.1) {
            self.cut = None;
        }
        if self.failed.is_some_and(|(size, at)| point.amount >= size || now.duration_since(at) > REMEMBER_FAILED) {
            self.failed = None;
        }
        if point.seconds <= bound * TARGET {
            self.prompt = Some((point.amount, now));
        }
        self.recent.push_back(if point.seconds <= bound * LONGEST { load.texts } else { 0 });
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        if self.concurrency().is_some() {
            self.measure(&ended);
        }
        if self.reacted.is_some_and(|at| sent < at) {
            return;
        }
        self.compare(point, sent, now, bound);
        let limit = self.limit.unwrap_or(f64::INFINITY);
        // A small request shows nothing about large ones, unless that is all that is known.
        let informative = point.amount >= limit * 0.5 || limit.is_infinite() || point.amount >= self.wanted || is_first;
        if informative {
            let per_load = point.seconds / point.amount;
            self.seconds_per_load = Some(self.seconds_per_load.map_or(per_load, |old| (old + per_load) / 2.0));
        }
        self.resize(point, &ended, (bound, informative));
    }

    /// Compares a response with one of another size.
    fn compare(&mut self, point: Point, sent: Instant, now: Instant, bound: f64) {
        if let Some((before, from)) = self.before_change
            && sent >= from
            && point.differs(before)
        {
            self.before_change = None;
            self.line = Line::through(before, point);
            self.matters_until = self.line.is_none().then(|| now + TRY_AGAIN);
            if self.line.is_none() && point.amount > before.amount {
                // The trial has shown that it matters.
                self.limit = self
                    .limit
                    .map(|limit| limit.min((point.amount * bound * TARGET / point.seconds).max(before.amount)));
            }
        }
        if let Some(line) = &mut self.line {
            if line.contradicts(point, bound * TARGET) {
                self.line = None;
            } else {
                line.update(point);
            }
        }
    }

    /// Changes the limit after a response.
    fn resize(&mut self, point: Point, ended: &Ended, (bound, informative): (f64, bool)) {
        let Point { amount, seconds } = point;
        let limit = self.limit.unwrap_or(f64::INFINITY);
        let fits = self.line.map_or(amount * bound * TARGET / seconds, |line| line.fits(bound));
        // Unless it has become so fast that what failed would be prompt.
        let failed = self.failed.filter(|(size, _)| size * seconds / amount > bound * TARGET / 2.0);
        let known_to_fail = failed.map_or(f64::INFINITY, |(size, _)| size * BELOW_FAILED);
        let most = if self.cautious || self.failed.is_some() { CAREFUL_GROWTH } else { GROWTH };
        let grown = fits.min(amount.max(if limit.is_finite() { limit } else { 0.0 }) * most).min(known_to_fail);
        if self.first_round.is_some() && self.line.is_none() && fits <= limit {
            // Larger ones of the first round will tell more.
            return;
        }
        let too_long = if self.line.is_some() { line::LONGEST } else { LONGEST };
        if seconds > bound * too_long && ended.load.texts > 1 && fits < amount {
            self.is_limiting = true;
            self.before_change = Some((point, ended.now + Duration::from_secs_f64(seconds)));
            self.limit = Some(fits.max(amount / 4.0).min(limit));
            (self.reacted, self.changed) = (Some(ended.now), Some(ended.now));
        } else if informative && fits > limit {
            self.limit = Some(grown.max(limit));
            self.changed = Some(ended.now);
        } else if informative && self.is_slow() {
            self.is_limiting = true;
            let factor = (bound * LONGEST_AT_MORE / seconds).min(TRIAL);
            let known = self.line.is_some() || self.before_change.is_some();
            let known = known || self.matters_until.is_some_and(|until| ended.now < until);
            // What was sent before has ended, too.
            let takes = Duration::from_secs_f64(seconds);
            let steady = self.changed.is_none_or(|changed| ended.sent >= changed + takes);
            if !known && !self.cautious && steady && seconds > bound * TARGET && factor >= LEAST_TRIAL {
                self.before_change = Some((point, ended.now + takes));
                self.limit = Some((limit * factor).min(known_to_fail).max(limit));
                self.changed = Some(ended.now);
            }
        }
    }

    /// A request had no response in time.
    pub(super) fn timed_out(&mut self, ended: Ended, own: bool) {
        let Ended { load, sent, now, .. } = ended;
        self.ended();
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
        self.is_limiting = true;
        self.before_change = None;
        self.recent.clear();
        let alone = self.cautious && self.at_once.allowed() == 1;
        self.cautious = true;
        self.at_once = AtOnce::one();
        let bound = self.bound(&load);
        let limit = self.limit.unwrap_or(f64::INFINITY);
        if let (None, Some(per_load)) = (self.line, self.seconds_per_load)
            && per_load * amount > bound * 0.75
        {
            // What is known about its speed explains it.
            self.limit = Some((bound * TARGET / per_load).min(amount).min(limit));
        } else if alone && load.texts > 1 {
            self.failed = Some((amount, now));
            self.limit = Some((amount / 2.0).min(limit));
            self.line = None;
        }
    }

    /// Measures what the server completes with the present number of requests at once, and changes the number while that pays.
    fn measure(&mut self, ended: &Ended) {
        let Some(change) = self.at_once.completed(ended) else { return };
        if change == Change::More {
            // If the server computes one request after another, responses take twice as long.
            let too_long = ended.seconds() * 2.0 / (self.bound(&ended.load) * LONGEST_AT_MORE);
            if let Some(limit) = self.limit.filter(|_| self.line.is_none() && too_long > 1.0) {
                self.limit = Some(limit / too_long);
            }
            if self.at_once.allowed() >= NO_LONGER_CAUTIOUS {
                self.cautious = false;
            }
        }
        // Times before and after the change say nothing about sizes.
        self.before_change = None;
        (self.reacted, self.changed) = (Some(ended.now), Some(ended.now));
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
        assert_eq!((size.concurrency(), size.shape().0), (None, None));
        // Without a prompt response meanwhile, the load may be the reason.
        size.timed_out(ended(SECOND * 10, SECOND * 20), true);
        assert_eq!((size.concurrency(), size.shape().0), (Some(1), None));
        size.timed_out(ended(SECOND * 20, SECOND * 30), true);
        assert_eq!((size.concurrency(), size.shape().0), (Some(1), Some(50)));
    }
}
