//! One rate limit (requests or tokens), as the client keeps it: how much may be sent, and when.
//!
//! Three sources bound the rate; the lowest applies:
//! - the configured ceiling;
//! - the server's own numbers, from headers: the rate follows the remaining quota, so that a small reserve is kept, a full
//!   bucket is used up, and other clients of the same quota get their share;
//! - without headers, an estimate from refusals. A refusal marks a moment at which the server's bucket was empty; what was
//!   granted between two such moments was refilled in between. Between refusals the rate rises slowly; if a refusal costs a
//!   long wait, as in windows of a minute, hardly ever.
//!
//! Sending is always paced: at most a short burst at once; an amount larger than the burst is sent alone, and later ones
//! wait until it is paid off.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    learned_rate::{GROWTH, Learned, MINUTE, Stretch},
    rate_limit_headers::Quota,
};

/// Fraction of the server's bucket that is kept in reserve.
const RESERVE: f64 = 0.10;
/// By how much the rate exceeds the limit while the bucket is full: a full bucket is used up in five minutes.
const SURPLUS: f64 = 0.20;
/// Margin below a configured ceiling: clocks differ, and requests bunch up in transit.
const CEILING_MARGIN: f64 = 0.99;
/// A learned rate may change during a wait, so waits end after this time at the latest and are computed again.
const MAX_LEARNED_WAIT: Duration = Duration::from_millis(250);
/// The assumed time from sending a request to the server counting it; less if the response was faster.
const TRANSIT_TIME: Duration = Duration::from_millis(50);
/// Refused after so few grants, while less was granted per second than before the last refusal: a limit would have granted as
/// much. So the rate is not the reason.
const EARLY: f64 = 30.0;
/// After so many in a row the rate is not lowered any more, until none has come for this long.
const EARLY_REFUSALS: u32 = 4;
const UNRELATED: Duration = Duration::from_secs(300);
/// The same after so many with few grants in between, not in a row, if what is granted has fallen to this fraction meanwhile: a
/// limit grants the same whatever the rate.
const FEW_GRANTS: u32 = 3;
const FALLEN: f64 = 0.4;
/// The same with many grants in between, if what is granted has fallen to this fraction of the most since the first refusal.
const FAR_FALLEN: f64 = 0.25;
/// After so many refusals of which the rate is not the reason, so many times as much has to be granted per second as before,
/// and this share of the requests: otherwise it is the reason.
const JUDGED_REFUSALS: u32 = 20;
const RISEN: f64 = 1.25;
const LEAST_GRANTED: f64 = 0.1;
/// If the rate was the reason after all, it is taken for the reason for so long.
const RELATED: Duration = Duration::from_secs(600);
/// Whether a limit refills or counts in windows is told apart when the two differ by this fraction of it.
const SIGNIFICANT: f64 = 0.05;
/// A longer window is a quota, which is used when there is work and not spread over time.
const MAX_PACED_WINDOW: Duration = Duration::from_secs(120);

/// A limit and all that is known about it. Amounts are requests or tokens; rates are per second.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    ceiling: Option<f64>,
    burst: f64,
    /// By how much the rate may exceed the server's while its bucket is full; 0 for servers that enforce limits per second.
    surplus: f64,
    level: f64,
    level_at: Instant,
    /// The next request is not paced.
    first: bool,
    server: Option<Server>,
    learned: Option<Learned>,
    unrelated: Option<Unrelated>,
    /// Until then refusals are taken to be caused by the rate.
    related_until: Option<Instant>,
    /// The sum of all debits, corrected by what the server counted.
    taken: f64,
    /// What the server has granted, since the first request.
    granted: f64,
    first_taken_at: Option<Instant>,
    /// A minute to two minutes ago, or the end of the last pause, if that is later; what was granted until then; and the next
    /// such moment.
    earlier: Option<[(Instant, f64); 2]>,
}

/// The server's bucket as its last response described it.
#[derive(Debug, Clone, Copy)]
struct Server {
    limit: f64,
    /// The capacity of the bucket: a minute's worth, or less.
    capacity: f64,
    remaining: f64,
    /// Whether it refills continuously. Unknown if it does not say when the bucket is full again: then it may count in windows,
    /// and what is sent faster than the limit is missing at the end of one.
    refills: bool,
    /// Without such a time: an earlier response that later ones are compared with, and when the present window began.
    earlier: Earlier,
    window_began: Instant,
    /// Set if the server counts in windows instead of refilling continuously: the end of the present window.
    window_ends: Option<Instant>,
    /// When the server counted this request, at the latest; its number, and the debits when it was sent.
    seen: Instant,
    sequence: u64,
    taken: f64,
}

/// Refusals are not caused by the rate: they kept coming while it fell.
#[derive(Debug, Clone, Copy)]
struct Unrelated {
    until: Instant,
    /// Refusals since it was last judged, when that was, and the grants until then.
    refusals: u32,
    judged: Instant,
    granted: f64,
    /// What was granted per second before, if that was measured.
    before: f64,
}

/// What remained at the server, when, and the debits until then.
#[derive(Debug, Clone, Copy)]
struct Earlier {
    remaining: f64,
    at: Instant,
    taken: f64,
}

/// An amount taken for a request, until its outcome is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Debit {
    amount: f64,
    total: f64,
    sent: Instant,
    sequence: u64,
}

impl Debit {
    /// The amount.
    pub fn amount(&self) -> f64 {
        self.amount
    }
}

impl TokenBucket {
    /// A limit of at most `ceiling` per minute, with bursts of at most what the rate allows in `burst`.
    pub fn new(ceiling: Option<f64>, burst: Duration, may_exceed: bool, now: Instant) -> Self {
        Self {
            ceiling: ceiling.map(|per_minute| per_minute / MINUTE * CEILING_MARGIN),
            burst: burst.as_secs_f64(),
            surplus: if may_exceed { SURPLUS } else { 0.0 },
            level: 0.0,
            level_at: now,
            first: true,
            server: None,
            learned: None,
            unrelated: None,
            related_until: None,
            taken: 0.0,
            granted: 0.0,
            first_taken_at: None,
            earlier: None,
        }
    }

    /// Lowers the ceiling, never raises it.
    pub fn tighten(&mut self, per_minute: Option<f64>) {
        if let Some(rate) = per_minute.map(|n| n / MINUTE * CEILING_MARGIN) {
            self.ceiling = Some(self.ceiling.map_or(rate, |old| old.min(rate)));
        }
    }

    /// True when the rate is bounded: by a ceiling, the server's numbers, or a refusal.
    pub fn is_known(&self) -> bool {
        self.ceiling.is_some() || self.server.is_some() || self.learned.is_some()
    }

    /// The server's limit, if known.
    pub fn limit(&self) -> Option<f64> {
        self.server.map(|server| server.limit)
    }

    /// The rate per second now; `None` if it is unbounded.
    pub fn rate(&self, now: Instant) -> Option<f64> {
        let server = self.server.filter(Server::is_paced).map(|server| {
            let left = self.left(&server, now) / server.capacity;
            let factor = if let (false, Some(ends)) = (server.refills, server.window_ends) {
                // What remains is spread over the rest of the window.
                let rest = ends.saturating_duration_since(now).as_secs_f64() / MINUTE;
                (left / rest.max(1e-3)).clamp(0.05, 1.0)
            } else if left < RESERVE {
                (left / RESERVE).max(0.05)
            } else {
                1.0 + if server.refills { self.surplus } else { 0.0 } * ((left - RESERVE) / RESERVE / 2.0).min(1.0)
            };
            server.limit / MINUTE * factor
        });
        let learned = self.learned.map(|learned| learned.rate);
        [self.ceiling, server, learned].into_iter().flatten().reduce(f64::min)
    }

    /// The earliest time at which `amount` may be taken, as far as is known now; not after `now` if that is now.
    pub fn ready_at(&mut self, amount: f64, now: Instant) -> Instant {
        self.advance(now);
        let mut ready = now;
        if let Some(rate) = self.rate(now)
            && !self.first
        {
            let missing = amount.min(rate * self.burst) - self.level;
            if missing > 0.0 {
                ready = after(now, missing / rate);
                if let Some(learned) = &mut self.learned {
                    learned.binding = true;
                    ready = ready.min(now + MAX_LEARNED_WAIT);
                }
            }
        }
        if let Some(server) = self.server {
            // An amount larger than the bucket is sent when the bucket is full; the server decides.
            let needed = if amount <= server.capacity { amount } else { server.capacity * 0.98 };
            let missing = needed - self.left(&server, now);
            if missing > 0.0 {
                let refilled = match server.window_ends {
                    Some(ends) => ends.max(now),
                    None => after(now, missing / (server.limit / MINUTE)),
                };
                ready = ready.max(refilled);
            }
        }
        ready
    }

    /// Takes an amount for the request with this sequence number.
    pub fn take(&mut self, amount: f64, sequence: u64, now: Instant) -> Debit {
        self.advance(now);
        self.first_taken_at.get_or_insert(now);
        self.earlier.get_or_insert([(now, 0.0); 2]);
        self.first = false;
        self.level -= amount;
        self.taken += amount;
        Debit { amount, total: self.taken, sent: now, sequence }
    }

    /// The server granted the debit; `real` is what it counted.
    pub fn grant(&mut self, debit: Debit, real: Option<f64>, now: Instant) {
        let real = real.unwrap_or(debit.amount);
        self.advance(now);
        self.level -= real - debit.amount;
        self.taken += real - debit.amount;
        self.granted += real;
        if let Some([_, next]) = self.earlier.filter(|[_, (at, _)]| now.duration_since(*at).as_secs_f64() >= MINUTE) {
            self.earlier = Some([next, (now, self.granted)]);
        }
        let Some(learned) = &mut self.learned else { return };
        if debit.sent < learned.empty_at {
            // It was granted before the refusal.
            learned.empty_granted += real;
        } else {
            learned.waited(debit.sent);
        }
        learned.grow(now);
    }

    /// The server did not count the debit.
    pub fn refund(&mut self, debit: Debit, now: Instant) {
        self.advance(now);
        self.level += debit.amount;
        self.taken -= debit.amount;
    }

    /// Records the server's numbers. Responses to requests older than the last observed one are ignored. `counted` is false
    /// for a refused request that the server did not count; `now` is when the response arrived.
    pub fn observe(&mut self, debit: &Debit, Quota { limit, remaining, reset }: Quota, counted: bool, now: Instant) {
        if self.server.is_some_and(|server| server.sequence > debit.sequence) {
            return;
        }
        // A bucket that refills continuously is full after (limit - remaining) / rate. If the server names a much later time,
        // it counts in windows; if a much earlier one, its capacity is less than a minute's worth.
        let rate = limit / MINUTE;
        let refill = (limit - remaining) / rate;
        let (much_later, much_earlier) = (refill * 1.5 + 1.0, refill * 0.5 - 1.0);
        // The refill until the server counted this request is in its numbers already; counting it again would send too early.
        let seen = now.min(debit.sent + TRANSIT_TIME);
        if let Some(server) =
            self.server.filter(|server| reset.is_none() && server.window_ends.is_none() && !server.refills)
            && seen < server.seen
        {
            // It was counted in the window before.
            return;
        }
        let taken = if counted { debit.total } else { debit.total - debit.amount };
        let here = Earlier { remaining, at: seen, taken };
        let (refills, earlier) = match self.server {
            _ if reset.is_some() => (true, here),
            Some(server) if server.limit == limit => server.compare(here),
            _ => (false, here),
        };
        let window_began = match self.server {
            Some(server) if server.limit == limit && !server.is_in_next_window(here) => server.window_began,
            Some(_) => seen,
            None => self.first_taken_at.unwrap_or(seen),
        };
        let window_ends = match reset {
            Some(reset) => Some(seen + reset).filter(|_| reset.as_secs_f64() > much_later),
            // At the latest, unless it refills.
            None => Some(window_began + Duration::from_secs(60)).filter(|_| !refills),
        };
        let small = reset.filter(|reset| reset.as_secs_f64() < much_earlier);
        let capacity = small.map_or(limit, |reset| remaining + rate * reset.as_secs_f64());
        self.server = Some(Server {
            limit,
            capacity: capacity.max(1.0),
            remaining,
            refills,
            earlier,
            window_began,
            window_ends,
            seen,
            sequence: debit.sequence,
            taken,
        });
    }

    /// Whether the server's numbers explain why this debit was refused.
    pub fn explains_refusal(&self, debit: &Debit, now: Instant) -> bool {
        self.server.is_some_and(|server| self.left(&server, now) <= debit.amount.max(server.capacity * 0.01))
    }

    /// A refusal that the server's numbers do not explain. `limit` is the limit per minute that its message named, `wait` the
    /// wait that it asks for. False for a request that was sent before the last reaction to a refusal.
    pub fn refused(&mut self, debit: &Debit, limit: Option<f64>, wait: Option<Duration>, now: Instant) -> bool {
        if self.learned.is_some_and(|learned| debit.sent < learned.cut) {
            return false;
        }
        self.advance(now);
        if self.is_unrelated(now) && self.stays_unrelated(debit.amount, now) {
            return false;
        }
        let since = self.learned.map_or(self.first_taken_at.unwrap_or(now), |learned| learned.empty_at);
        let granted = self.granted - self.learned.map_or(0.0, |learned| learned.empty_granted);
        let seconds = now.duration_since(since).as_secs_f64().max(1e-3);
        if granted <= 0.0 && limit.is_none() {
            // Refused again without a grant in between: the pause was too short; nothing is learned about the rate.
            if let Some(learned) = &mut self.learned {
                learned.cut = now;
            }
            return true;
        }
        let measured = granted / seconds;
        let early_refusals = match self.learned {
            Some(learned) if measured < learned.measured * 0.9 && granted < EARLY * debit.amount => {
                learned.early_refusals + 1
            }
            _ => 0,
        };
        // What was granted until the first refusal was in the bucket.
        let (few_grants, best) = match self.learned {
            Some(learned) if granted < EARLY * debit.amount => (learned.few_grants + 1, learned.best.max(measured)),
            _ => (0, 0.0),
        };
        // What was granted until the first refusal is no measure: it was in the bucket.
        let most = match self.learned {
            Some(learned) if granted >= EARLY * debit.amount => learned.most.max(measured),
            Some(learned) => learned.most,
            None => 0.0,
        };
        let fallen = few_grants >= FEW_GRANTS && measured <= best * FALLEN
            || granted >= EARLY / 3.0 * debit.amount && measured <= most * FAR_FALLEN;
        let may_be_unrelated = limit.is_none() && self.related_until.is_none_or(|until| now >= until);
        if (early_refusals >= EARLY_REFUSALS || fallen) && may_be_unrelated {
            self.ignore(measured, now);
            return false;
        }
        let ended = match self.learned {
            _ if limit.is_some() => None,
            None => Some(Stretch::first(since, now, wait)),
            Some(learned) => self.earlier.map(|[earlier, _]| learned.stretch(earlier, now, wait)),
        };
        let (rate, growth, refused) = match (self.learned, limit) {
            (_, Some(limit)) => (limit / MINUTE * CEILING_MARGIN, GROWTH, limit / MINUTE),
            // The bucket is empty, and its size is unknown: between nothing and a minute's worth.
            (None, None) => {
                let rate = (granted / (seconds + MINUTE)).max(measured * 0.5);
                (rate, (measured / rate).ln() / 300.0, measured)
            }
            // Between two moments with an empty bucket exactly the refill was granted, or less if the bucket was full: the
            // limit is between that and the refused rate.
            (Some(learned), None) if seconds >= 4.0 && granted >= 10.0 * debit.amount => {
                let rate = (measured * 0.985).min(learned.rate * 0.985);
                (rate, ((learned.rate / rate).ln() / 300.0).max(GROWTH), learned.rate)
            }
            (Some(learned), None) => {
                let rate = (measured * 0.95).clamp(learned.rate * 0.3, learned.rate * 0.9);
                (rate, (learned.growth * 0.3).max(GROWTH), learned.rate)
            }
        };
        self.learned = Some(Learned {
            rate: rate.max(1e-3),
            growth,
            refused,
            empty_at: now,
            empty_granted: self.granted,
            cut: now,
            measured,
            early_refusals,
            few_grants,
            best,
            most,
            costly: false,
            settled_until: now,
            rest: self.learned.map_or(Duration::ZERO, |learned| learned.rest),
            phase: self.learned.map_or(MINUTE, |learned| learned.phase),
            ended,
            grants_since_refusal: 0.0,
            binding: false,
            grown: now,
        });
        self.level = 0.0;
        true
    }

    /// True while refusals are not caused by the rate.
    pub fn is_unrelated(&self, now: Instant) -> bool {
        self.unrelated.is_some_and(|unrelated| now < unrelated.until)
    }

    /// Refusals are not caused by the rate from now on: what was learned from them is forgotten.
    pub fn ignore_refusals(&mut self, now: Instant) {
        if !self.is_unrelated(now) {
            self.ignore(0.0, now);
        }
    }

    /// The same, with what was granted per second while the rate was lowered.
    fn ignore(&mut self, before: f64, now: Instant) {
        self.learned = None;
        let granted = self.granted;
        self.unrelated = Some(Unrelated { until: now + UNRELATED, refusals: 0, judged: now, granted, before });
    }

    /// Counts one more such refusal. False if it turns out that the rate is the reason: what is granted has not risen with it,
    /// or hardly anything is granted.
    fn stays_unrelated(&mut self, amount: f64, now: Instant) -> bool {
        let Some(unrelated) = &mut self.unrelated else { return false };
        unrelated.until = now + UNRELATED;
        unrelated.refusals += 1;
        if unrelated.refusals < JUDGED_REFUSALS {
            return true;
        }
        let granted = self.granted - unrelated.granted;
        let per_second = granted / now.duration_since(unrelated.judged).as_secs_f64().max(1e-3);
        if granted >= f64::from(JUDGED_REFUSALS) * amount * LEAST_GRANTED && per_second >= unrelated.before * RISEN {
            *unrelated = Unrelated { refusals: 0, judged: now, granted: self.granted, ..*unrelated };
            return true;
        }
        self.unrelated = None;
        self.related_until = Some(now + RELATED);
        false
    }

    /// Restarts pacing after a pause: one request at once, no burst.
    pub fn restart(&mut self, now: Instant) {
        self.advance(now);
        self.level = self.level.min(0.0);
        self.first = true;
        if let Some(learned) = &mut self.learned {
            learned.paused(self.granted);
        }
        self.earlier = Some([(now, self.granted); 2]);
    }

    /// What remains at the server, if no other client has used it since.
    fn left(&self, server: &Server, now: Instant) -> f64 {
        let refilled = match server.window_ends {
            Some(ends) if now < ends => 0.0,
            Some(_) => server.capacity,
            None => server.limit / MINUTE * now.duration_since(server.seen).as_secs_f64(),
        };
        (server.remaining + refilled).min(server.capacity) - (self.taken - server.taken)
    }

    /// Advances to `now`: the level refills, windows end.
    fn advance(&mut self, now: Instant) {
        if let Some(server) = &mut self.server
            && server.window_ends.is_some_and(|ends| now >= ends)
        {
            *server = Server { remaining: server.capacity, window_ends: None, seen: now, taken: self.taken, ..*server };
        }
        let seconds = now.duration_since(self.level_at).as_secs_f64();
        // What was sent while no limit was known is not paid off.
        self.level = self.rate(now).map_or(0.0, |rate| (self.level + rate * seconds).min(rate * self.burst));
        self.level_at = now;
    }
}

impl Server {
    /// Whether a later response was counted in another window.
    fn is_in_next_window(&self, now: Earlier) -> bool {
        let kept = self.remaining - (now.taken - self.taken);
        self.window_ends.is_none() || now.remaining > kept + self.limit * SIGNIFICANT
    }

    /// Whether it refills continuously, as a later response shows, and the response that the next one is compared with.
    fn compare(&self, now: Earlier) -> (bool, Earlier) {
        let before = self.earlier;
        let kept = before.remaining - (now.taken - before.taken);
        let refill = self.limit / MINUTE * now.at.saturating_duration_since(before.at).as_secs_f64();
        let refilled = (before.remaining + refill - (now.taken - before.taken)).min(self.limit);
        if refilled - kept < self.limit * SIGNIFICANT {
            return (self.refills, before);
        }
        let tolerance = (refilled - kept) / 2.0;
        // A window that ended in between is neither.
        match now.remaining {
            remaining if (remaining - refilled).abs() < tolerance => (true, now),
            remaining if (remaining - kept).abs() < tolerance => (false, now),
            _ => (self.refills, now),
        }
    }

    fn is_paced(&self) -> bool {
        self.window_ends.is_none_or(|ends| ends.duration_since(self.seen) <= MAX_PACED_WINDOW)
    }
}

fn after(now: Instant, seconds: f64) -> Instant {
    // Rounded up, or a waiter would wake a nanosecond early and wait again.
    now + Duration::from_secs_f64(seconds.clamp(0.0, 1e6)) + Duration::from_micros(50)
}

#[cfg(test)]
mod tests;
