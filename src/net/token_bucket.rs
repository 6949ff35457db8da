//! One rate limit (requests or tokens), kept from our side: how much may be sent, and when.
//!
//! Three sources bound the rate, the lowest wins:
//! - the ceiling from the configuration;
//! - the server's own numbers, from headers: the rate follows what the server says is left, so that a little stays in
//!   reserve, a full bucket is used up, and other clients of the same quota are made room for;
//! - without headers, what refusals teach. A refusal marks a moment at which the server's bucket was empty; what was
//!   granted between two such moments is what was refilled. In between the rate rises slowly.
//!
//! Whatever the source, sending is paced: no more than a short burst at once, and something larger than the burst is
//! admitted alone and paid off afterwards.

use std::time::Duration;

use tokio::time::Instant;

use super::rate_limit_headers::Quota;

/// Limits are a minute's worth.
const MINUTE: f64 = 60.0;
/// Share of the server's bucket that is kept full.
const RESERVE: f64 = 0.10;
/// How much faster than the limit a full bucket is used up: a minute's worth in five minutes.
const SURPLUS: f64 = 0.20;
/// Below a configured ceiling: clocks differ, and requests bunch up on the way.
const UNDER_CEILING: f64 = 0.99;
/// How fast a learned rate rises, with every request granted, to find out whether more is allowed: at first, at most,
/// and back to where it was refused before.
const PROBE: f64 = 0.000_08;
const PROBE_MOST: f64 = 0.002;
const RECOVER: f64 = 0.003;
/// So many requests without a refusal make the probing twice as bold.
const CALM: f64 = 600.0;
/// A learned rate changes while somebody waits for it; so waits are looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long a request may be on its way to the server: when its answer took less, no longer than that.
const ON_THE_WAY: Duration = Duration::from_millis(50);
/// A window longer than this is a quota, to be used when there is work and not to be spread.
const LONGEST_PACED_WINDOW: Duration = Duration::from_secs(120);

/// A limit and all that is known about it. Amounts are requests or tokens; rates are a second's worth.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    ceiling: Option<f64>,
    burst: f64,
    /// How far above the server's own rate a full bucket may be used up, 0 for servers that judge by the second.
    surplus: f64,
    level: f64,
    level_at: Instant,
    /// The next one need not wait for the pace.
    first: bool,
    server: Option<Server>,
    learned: Option<Learned>,
    /// Everything taken so far, corrected by what was really used.
    taken: f64,
    /// What the server has granted, since the first request.
    granted: f64,
    born: Option<Instant>,
}

/// The server's bucket as its last answer described it.
#[derive(Debug, Clone, Copy)]
struct Server {
    limit: f64,
    /// What the bucket holds when it is full: a minute's worth, or less.
    capacity: f64,
    remaining: f64,
    /// Set when the server counts in windows instead of refilling all the time: nothing comes back before that.
    window_ends: Option<Instant>,
    /// When the server counted the request whose answer this is, at the latest; its number, and what had been taken when
    /// it left.
    seen: Instant,
    sequence: u64,
    taken: f64,
}

#[derive(Debug, Clone, Copy)]
struct Learned {
    rate: f64,
    /// How fast it rises, with every request granted.
    growth: f64,
    /// Requests granted since the last refusal.
    calm: f64,
    /// Whether it has held anybody back since the last grant.
    binding: bool,
    /// When something was last granted.
    grown: Instant,
    /// The rate at which the last refusal came.
    refused: f64,
    /// When the server's bucket was last known to be empty, and what had been granted by then.
    empty_at: Instant,
    empty_granted: f64,
    /// Requests sent before this do not count as refused again.
    cut: Instant,
}

impl Learned {
    /// One more request was granted. Where requests are few, each counts for several, or finding out would take hours.
    fn grow(&mut self, now: Instant) {
        let seconds = now.duration_since(self.grown).as_secs_f64();
        self.grown = now;
        let weight = (seconds * 3.0).clamp(1.0, 15.0);
        self.calm += weight;
        // A rate that holds nobody back is not tried out by rising.
        if !std::mem::take(&mut self.binding) {
            return;
        }
        // The longer there was no refusal, the bolder.
        let probe = (PROBE * (1.0 + (self.calm / CALM).powi(2))).min(PROBE_MOST);
        let recover = if self.rate < self.refused * 0.9 { RECOVER } else { 0.0 };
        self.rate *= (self.growth.max(probe).max(recover) * weight).min(0.7).exp();
    }
}

/// What a taken amount has to remember until its answer comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Debit {
    amount: f64,
    total: f64,
    sent: Instant,
    sequence: u64,
}

impl Debit {
    /// How much was taken.
    pub fn amount(&self) -> f64 {
        self.amount
    }
}

impl TokenBucket {
    /// A limit of at most `ceiling` a minute that sends at most `burst` seconds' worth at once.
    pub fn new(ceiling: Option<f64>, burst: Duration, may_exceed: bool, now: Instant) -> Self {
        Self {
            ceiling: ceiling.map(|per_minute| per_minute / MINUTE * UNDER_CEILING),
            burst: burst.as_secs_f64(),
            surplus: if may_exceed { SURPLUS } else { 0.0 },
            level: 0.0,
            level_at: now,
            first: true,
            server: None,
            learned: None,
            taken: 0.0,
            granted: 0.0,
            born: None,
        }
    }

    /// Lowers the ceiling, never raises it.
    pub fn tighten(&mut self, per_minute: Option<f64>) {
        if let Some(rate) = per_minute.map(|n| n / MINUTE * UNDER_CEILING) {
            self.ceiling = Some(self.ceiling.map_or(rate, |old| old.min(rate)));
        }
    }

    /// True when something bounds the rate: a ceiling, the server's numbers, or a refusal.
    pub fn is_known(&self) -> bool {
        self.ceiling.is_some() || self.server.is_some() || self.learned.is_some()
    }

    /// The server's limit, if it told.
    pub fn limit(&self) -> Option<f64> {
        self.server.map(|server| server.limit)
    }

    /// How much may be sent a second now; `None` when nothing is known.
    pub fn rate(&self, now: Instant) -> Option<f64> {
        let server = self.server.filter(Server::is_paced).map(|server| {
            let left = self.left(&server, now) / server.capacity;
            let factor = if left < RESERVE {
                (left / RESERVE).max(0.05)
            } else {
                1.0 + self.surplus * ((left - RESERVE) / RESERVE / 2.0).min(1.0)
            };
            server.limit / MINUTE * factor
        });
        let learned = self.learned.map(|learned| learned.rate);
        [self.ceiling, server, learned].into_iter().flatten().reduce(f64::min)
    }

    /// The earliest moment at which `amount` may be taken, as far as is known now; not after `now` when it may be now.
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
                    ready = ready.min(now + LOOK_AGAIN);
                }
            }
        }
        if let Some(server) = self.server {
            // More than the bucket ever holds is sent from a full one; the server will say what it thinks of it.
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

    /// Takes an amount for the request with this number.
    pub fn take(&mut self, amount: f64, sequence: u64, now: Instant) -> Debit {
        self.advance(now);
        self.born.get_or_insert(now);
        self.first = false;
        self.level -= amount;
        self.taken += amount;
        Debit { amount, total: self.taken, sent: now, sequence }
    }

    /// The server granted what was taken; `real` is what it counted.
    pub fn grant(&mut self, taken: Debit, real: Option<f64>, now: Instant) {
        let real = real.unwrap_or(taken.amount);
        self.advance(now);
        self.level -= real - taken.amount;
        self.taken += real - taken.amount;
        self.granted += real;
        if let Some(learned) = &mut self.learned {
            learned.grow(now);
        }
    }

    /// The server did not count what was taken.
    pub fn refund(&mut self, taken: Debit, now: Instant) {
        self.advance(now);
        self.level += taken.amount;
        self.taken -= taken.amount;
    }

    /// Takes in what the server says about the limit. Answers to requests older than the last one heard are ignored.
    /// `counted` is false for a refused request whose amount the server did not take; `now` is when the answer came.
    pub fn heard(&mut self, taken: &Debit, Quota { limit, remaining, reset }: Quota, counted: bool, now: Instant) {
        if self.server.is_some_and(|server| server.sequence > taken.sequence) {
            return;
        }
        // A bucket that refills all the time is whole again after (limit - remaining) / rate. If the server names a
        // much later moment, it counts in windows; if a much earlier one, its bucket holds less than a minute's worth.
        let rate = limit / MINUTE;
        let refill = (limit - remaining) / rate;
        let (later, earlier) = (refill * 1.5 + 1.0, refill * 0.5 - 1.0);
        // What it refilled before it counted this request is in its numbers already: to count that again would be to come
        // too early.
        let seen = now.min(taken.sent + ON_THE_WAY);
        let window_ends = reset.filter(|reset| reset.as_secs_f64() > later).map(|reset| seen + reset);
        let small = reset.filter(|reset| reset.as_secs_f64() < earlier);
        let capacity = small.map_or(limit, |reset| remaining + rate * reset.as_secs_f64());
        self.server = Some(Server {
            limit,
            capacity: capacity.max(1.0),
            remaining,
            window_ends,
            seen,
            sequence: taken.sequence,
            taken: if counted { taken.total } else { taken.total - taken.amount },
        });
    }

    /// Whether the server's own numbers explain why this amount was refused.
    pub fn explains_refusal(&self, taken: &Debit, now: Instant) -> bool {
        self.server.is_some_and(|server| self.left(&server, now) <= taken.amount.max(server.capacity * 0.01))
    }

    /// A refusal that the server's numbers do not explain. `limit` is a limit a minute that the text of the refusal
    /// named. True when this is news: the request was sent after the last reaction to a refusal.
    pub fn refused(&mut self, taken: &Debit, limit: Option<f64>, now: Instant) -> bool {
        if self.learned.is_some_and(|learned| taken.sent < learned.cut) {
            return false;
        }
        self.advance(now);
        let since = self.learned.map_or(self.born.unwrap_or(now), |learned| learned.empty_at);
        let granted = self.granted - self.learned.map_or(0.0, |learned| learned.empty_granted);
        let seconds = now.duration_since(since).as_secs_f64().max(1e-3);
        if granted <= 0.0 && limit.is_none() {
            // Refused again with nothing in between: the wait was too short, of the rate it says nothing.
            if let Some(learned) = &mut self.learned {
                learned.cut = now;
            }
            return true;
        }
        let measured = granted / seconds;
        let (rate, growth, refused) = match (self.learned, limit) {
            (_, Some(limit)) => (limit / MINUTE * UNDER_CEILING, PROBE, limit / MINUTE),
            // The bucket has just run out, and nobody knows how large it was: up to a minute's worth, or next to nothing.
            (None, None) => {
                let rate = (granted / (seconds + MINUTE)).max(measured * 0.5);
                (rate, (measured / rate).ln() / 300.0, measured)
            }
            // Between two moments with an empty bucket exactly the refill was granted, or less if it ran over: the
            // limit lies between that and the rate that was refused.
            (Some(learned), None) if seconds >= 4.0 && granted >= 10.0 * taken.amount => {
                let rate = (measured * 0.985).min(learned.rate * 0.985);
                (rate, ((learned.rate / rate).ln() / 300.0).max(PROBE), learned.rate)
            }
            (Some(learned), None) => {
                let rate = (measured * 0.95).clamp(learned.rate * 0.3, learned.rate * 0.9);
                (rate, (learned.growth * 0.3).max(PROBE), learned.rate)
            }
        };
        self.learned = Some(Learned {
            rate: rate.max(1e-3),
            growth,
            refused,
            empty_at: now,
            empty_granted: self.granted,
            cut: now,
            calm: 0.0,
            binding: false,
            grown: now,
        });
        self.level = 0.0;
        true
    }

    /// The pace begins anew after a pause: one at once, no burst.
    pub fn restart(&mut self, now: Instant) {
        self.advance(now);
        self.level = self.level.min(0.0);
        self.first = true;
    }

    /// What the server has left, if nobody else has taken from it since.
    fn left(&self, server: &Server, now: Instant) -> f64 {
        let refilled = match server.window_ends {
            Some(ends) if now < ends => 0.0,
            Some(_) => server.capacity,
            None => server.limit / MINUTE * now.duration_since(server.seen).as_secs_f64(),
        };
        (server.remaining + refilled).min(server.capacity) - (self.taken - server.taken)
    }

    /// Lets time pass: the pace refills, windows end.
    fn advance(&mut self, now: Instant) {
        if let Some(server) = &mut self.server
            && server.window_ends.is_some_and(|ends| now >= ends)
        {
            *server = Server { remaining: server.capacity, window_ends: None, seen: now, taken: self.taken, ..*server };
        }
        let seconds = now.duration_since(self.level_at).as_secs_f64();
        // Nothing is owed for what was sent when no limit was known.
        self.level = self.rate(now).map_or(0.0, |rate| (self.level + rate * seconds).min(rate * self.burst));
        self.level_at = now;
    }
}

impl Server {
    fn is_paced(&self) -> bool {
        self.window_ends.is_none_or(|ends| ends.duration_since(self.seen) <= LONGEST_PACED_WINDOW)
    }
}

fn after(now: Instant, seconds: f64) -> Instant {
    // A little more than exact, or rounding makes the waiter wake a nanosecond early and go round again.
    now + Duration::from_secs_f64(seconds.clamp(0.0, 1e6)) + Duration::from_micros(50)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    /// Sends `amount` again and again for `seconds`; when each was sent.
    fn drive(meter: &mut TokenBucket, now: &mut Instant, seconds: u64, amount: f64) -> Vec<f64> {
        let start = *now;
        let end = start + SECOND * u32::try_from(seconds).expect("a short test");
        let mut sent = Vec::new();
        loop {
            let ready = meter.ready_at(amount, *now);
            if ready > end {
                return sent;
            }
            if ready > *now {
                *now = ready;
                continue;
            }
            meter.take(amount, sent.len() as u64, *now);
            sent.push((*now - start).as_secs_f64());
        }
    }

    #[test]
    fn a_ceiling_is_kept_and_used_up() {
        let mut now = Instant::now();
        let mut meter = TokenBucket::new(Some(600.0), SECOND, true, now);
        let sent = drive(&mut meter, &mut now, 60, 1.0);
        assert!((590..=604).contains(&sent.len()), "{}", sent.len());
        for window in sent.windows(21) {
            assert!(window[20] - window[0] >= 0.95, "20 in a second is a burst of more than a second's worth");
        }
    }

    #[test]
    fn something_larger_than_the_burst_is_admitted_and_paid_off() {
        let mut now = Instant::now();
        let mut meter = TokenBucket::new(Some(300_000.0), SECOND, true, now);
        let sent = drive(&mut meter, &mut now, 600, 50_000.0);
        assert!((58..=61).contains(&sent.len()), "{}", sent.len());
    }

    #[test]
    fn unused_reservations_are_given_back() {
        let now = Instant::now();
        let mut meter = TokenBucket::new(Some(60_000.0), SECOND, true, now);
        let taken = meter.take(5000.0, 1, now);
        let before = meter.ready_at(1000.0, now);
        meter.grant(taken, Some(1000.0), now);
        let after = meter.ready_at(1000.0, now);
        assert!(before - after >= Duration::from_millis(3900), "{:?}", before - after);
    }

    #[test]
    fn nothing_left_on_the_server_means_waiting_for_its_refill() {
        let now = Instant::now();
        let mut meter = TokenBucket::new(None, SECOND, true, now);
        let taken = meter.take(1.0, 1, now);
        meter.heard(&taken, Quota { limit: 600.0, remaining: 0.0, reset: Some(SECOND * 60) }, true, now);
        let ready = meter.ready_at(1.0, now);
        assert!(ready - now >= Duration::from_millis(100), "{:?}", ready - now);
        // A window instead of a refill: nothing before its end.
        meter.heard(&taken, Quota { limit: 600.0, remaining: 0.0, reset: Some(SECOND * 110) }, true, now);
        assert_eq!(meter.ready_at(1.0, now), now + SECOND * 110);
        assert!(meter.ready_at(1.0, now + SECOND * 110) <= now + SECOND * 110);
    }

    #[test]
    fn a_server_that_saw_the_request_late_refills_later() {
        let sent = Instant::now();
        for (answered, refilled) in [(0, 500), (10, 510), (2000, 550)].map(|(a, r)| (sent + MS * a, sent + MS * r)) {
            // Two a second, one at once.
            let mut meter = TokenBucket::new(None, SECOND, true, sent);
            let taken = meter.take(1.0, 1, sent);
            meter.heard(&taken, Quota { limit: 120.0, remaining: 0.0, reset: Some(MS * 500) }, true, answered);
            let ready = meter.ready_at(1.0, answered);
            assert!(ready >= refilled.max(answered), "{:?} after it was sent", ready - sent);
            assert!(meter.ready_at(1.0, ready) <= ready);
        }
    }

    #[test]
    fn answers_to_older_requests_are_ignored() {
        let now = Instant::now();
        let mut meter = TokenBucket::new(None, SECOND, true, now);
        let older = meter.take(1.0, 1, now);
        let newer = meter.take(1.0, 2, now);
        meter.heard(&newer, Quota { limit: 300.0, remaining: 100.0, reset: None }, true, now);
        meter.heard(&older, Quota { limit: 600.0, remaining: 599.0, reset: None }, true, now);
        assert_eq!(meter.limit(), Some(300.0));
    }

    #[test]
    fn a_full_bucket_is_used_up_and_an_empty_one_left_to_fill() {
        let now = Instant::now();
        let rate = |remaining: f64| {
            let mut meter = TokenBucket::new(None, SECOND, true, now);
            let taken = meter.take(0.0, 1, now);
            meter.heard(&taken, Quota { limit: 600.0, remaining, reset: None }, true, now);
            meter.rate(now).expect("known")
        };
        assert!(rate(600.0) > 10.4);
        assert!((rate(60.0) - 10.0).abs() < 0.01);
        assert!(rate(30.0) < 5.1);
        assert!(rate(0.0) > 0.0, "never stuck for good");
    }

    #[test]
    fn a_quota_of_a_day_is_not_spread_over_the_day() {
        let now = Instant::now();
        let mut meter = TokenBucket::new(None, SECOND, true, now);
        let taken = meter.take(1.0, 1, now);
        meter.heard(
            &taken,
            Quota { limit: 14_400.0, remaining: 14_370.0, reset: Some(Duration::from_millis(179_560)) },
            true,
            now,
        );
        assert_eq!(meter.rate(now), None);
        assert!(meter.ready_at(1.0, now) <= now);
    }
}
