//! The rate that is learned from refusals where a server does not tell its limits.
//!
//! Pure: is passed the time and what was granted.

use std::time::Duration;

use tokio::time::Instant;

/// Limits are per minute.
pub(super) const MINUTE: f64 = 60.0;
/// Growth of a learned rate per granted request: at first, at most, and while it recovers to the rate of the last refusal.
pub(super) const GROWTH: f64 = 0.000_08;
const MAX_GROWTH: f64 = 0.002;
const RECOVERY_GROWTH: f64 = 0.003;
/// After this many grants without a refusal, growth has doubled.
const GRANTS_TO_DOUBLE_GROWTH: f64 = 600.0;
/// A refusal that is followed by a longer wait costs about a window: the rate is not raised for some time after it, which
/// doubles while further refusals confirm the limit.
const COSTLY_WAIT: Duration = Duration::from_secs(20);
const FIRST_REST: Duration = Duration::from_secs(20 * 60);
const LONGEST_REST: Duration = Duration::from_secs(2 * 3600);
/// Its growth a minute after that.
const COSTLY_GROWTH: f64 = 0.02;
/// The margin below a limit that was learned from such refusals.
const COSTLY_MARGIN: f64 = 0.97;
/// Such a wait is a whole window, however much of it had passed.
const WHOLE_WINDOW: Duration = Duration::from_secs(59);

/// The rate, and what it was learned from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Learned {
    pub(super) rate: f64,
    /// Its growth per granted request.
    pub(super) growth: f64,
    /// Requests granted since the last refusal.
    pub(super) grants_since_refusal: f64,
    /// Whether it has delayed a request since the last grant.
    pub(super) binding: bool,
    /// The last grant.
    pub(super) grown: Instant,
    /// The rate at the last refusal.
    pub(super) refused: f64,
    /// When the server's bucket was last empty, and the grants until then.
    pub(super) empty_at: Instant,
    pub(super) empty_granted: f64,
    /// Refusals of requests sent before this are no news.
    pub(super) cut: Instant,
    /// What was granted per second before the last refusal, and refusals in a row that no limit explains.
    pub(super) measured: f64,
    pub(super) early_refusals: u32,
    /// Refusals in a row with few grants in between, and the most that was granted per second between two of them.
    pub(super) few_grants: u32,
    pub(super) best: f64,
    /// The most that was granted per second between two refusals with many grants in between.
    pub(super) most: f64,
    /// Whether the last refusal cost a long wait. Then it is not raised before this, and for how long.
    pub(super) costly: bool,
    pub(super) settled_until: Instant,
    pub(super) rest: Duration,
    /// How many seconds of a window had passed at that refusal, at most.
    pub(super) phase: f64,
    /// What the last refusal ended, until it is known how long sending had to wait.
    pub(super) ended: Option<Stretch>,
}

/// A time before a refusal in which sending was not paused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    began: Instant,
    granted_before: f64,
    refused: Instant,
    /// The rate, if it did not change in that time.
    rate: Option<f64>,
    /// The wait that the server asked for.
    wait: Duration,
}

impl Stretch {
    /// From the first request to the first refusal.
    pub(super) fn first(began: Instant, refused: Instant, wait: Option<Duration>) -> Self {
        Self { began, granted_before: 0.0, refused, rate: None, wait: wait.unwrap_or_default() }
    }

    fn seconds(&self) -> f64 {
        self.refused.duration_since(self.began).as_secs_f64()
    }

    /// The limit per second, if the server counts in windows of a minute, and how much of a window had passed at the refusal,
    /// at most. `phase` is the same for the refusal before, `granted` what was granted until this one.
    fn limit(&self, phase: f64, granted: f64) -> (f64, f64) {
        let seconds = self.seconds();
        let average = (granted - self.granted_before) / seconds.max(MINUTE);
        if self.wait < WHOLE_WINDOW {
            // Sending went on at the beginning of a window.
            return (average, MINUTE);
        }
        match self.rate {
            // It began at the same point of a window as the pause before it, and ended in that window or in the next one: in a
            // whole one, more than the limit would have been sent. In neither more was granted than the limit. A guess that is
            // too high costs a minute, one that is too low all the time until the rate is raised.
            Some(rate) if (MINUTE - phase..2.0 * MINUTE).contains(&seconds) => {
                let in_next = (seconds - MINUTE + phase).min(MINUTE);
                let most = if seconds <= MINUTE { seconds } else { in_next };
                let least = (seconds / 2.0).max(seconds - MINUTE).min(most);
                (rate * (least + (most - least) * 0.75) / MINUTE, most)
            }
            _ => (average, (phase + seconds).min(MINUTE)),
        }
    }
}

impl Learned {
    /// The time before a refusal: `earlier` is when it began, and what was granted until then.
    pub(super) fn stretch(&self, earlier: (Instant, f64), now: Instant, wait: Option<Duration>) -> Stretch {
        let rate = (now < self.settled_until).then_some(self.rate);
        Stretch { began: earlier.0, granted_before: earlier.1, refused: now, rate, wait: wait.unwrap_or_default() }
    }

    /// A pause has ended, and with it all requests that were sent before it; `granted` is what was granted of them and before.
    pub(super) fn paused(&mut self, granted: f64) {
        if let Some(ended) = self.ended.take_if(|ended| ended.wait >= COSTLY_WAIT) {
            self.settle(ended, granted);
        }
    }

    /// The first request that was granted after a refusal was sent then.
    pub(super) fn waited(&mut self, sent: Instant) {
        if let Some(ended) = self.ended.take()
            && sent - self.empty_at >= COSTLY_WAIT
        {
            self.settle(ended, self.empty_granted);
        }
    }

    /// Sets the rate after a refusal that cost a long wait. Buckets that refill do not ask for one: it is a window.
    fn settle(&mut self, ended: Stretch, granted: f64) {
        let phase = if self.rest.is_zero() { 0.0 } else { self.phase };
        let (limit, phase) = ended.limit(phase, granted);
        let again = !self.rest.is_zero() && limit > self.refused * 0.9;
        self.rest = if again { (self.rest * 2).min(LONGEST_REST) } else { FIRST_REST };
        self.costly = true;
        self.settled_until = self.empty_at + self.rest;
        self.phase = phase;
        self.refused = limit;
        self.rate = (limit * COSTLY_MARGIN).max(1e-3);
        self.grants_since_refusal = 0.0;
    }

    /// Grows with one more granted request. If requests are rare, each counts for several, or growth would take hours.
    pub(super) fn grow(&mut self, now: Instant) {
        let seconds = now.duration_since(self.grown).as_secs_f64();
        self.grown = now;
        if self.costly {
            if now >= self.settled_until && std::mem::take(&mut self.binding) {
                self.rate *= (seconds / MINUTE * COSTLY_GROWTH).min(COSTLY_GROWTH).exp();
            }
            return;
        }
        let weight = (seconds * 3.0).clamp(1.0, 15.0);
        self.grants_since_refusal += weight;
        // A rate that delays no request is not tested by raising it.
        if !std::mem::take(&mut self.binding) {
            return;
        }
        // The longer the time without a refusal, the faster.
        let growth = (GROWTH * (1.0 + (self.grants_since_refusal / GRANTS_TO_DOUBLE_GROWTH).powi(2))).min(MAX_GROWTH);
        let recovery = if self.rate < self.refused * 0.9 { RECOVERY_GROWTH } else { 0.0 };
        self.rate *= (self.growth.max(growth).max(recovery) * weight).min(0.7).exp();
    }
}
