//! How many requests are sent at once to a slow server: twice as many while that makes it complete more per second, half as many
//! while it does not complete less.

use std::time::Duration;

use tokio::time::Instant;

use super::{first_round::SIZES, load::Ended};

/// Requests in flight at first. Their responses have to come in time even if they are computed one by one.
const INITIAL: usize = SIZES;
/// Twice as many at once have to complete this much more per second, and half as many this share.
const WORTH_IT: f64 = 1.25;
const NO_LOSS: f64 = 0.92;
/// When another number is tried again.
const SETTLED: Duration = Duration::from_secs(60);
/// From this many at once on, a server is not treated as slow after a time-out.
pub(super) const NO_LONGER_CAUTIOUS: usize = 16;

/// The number, and what is being measured.
#[derive(Debug, Clone)]
pub(super) struct AtOnce {
    allowed: usize,
    trial: Trial,
    since: Option<Instant>,
    /// The first response of the present measurement, and what has been completed since then.
    begun: Option<Instant>,
    completed: f64,
    responses: usize,
    /// Another number is not tried before this.
    settled_until: Option<Instant>,
}

/// What the present number is compared with: what the server completed per second with another one.
#[derive(Debug, Clone, Copy)]
enum Trial {
    /// Nothing yet. `up` is true if twice as many are tried next, false if half as many are.
    None { up: bool },
    /// With half as many.
    More(f64),
    /// With twice as many.
    Fewer(f64),
}

/// What a measurement led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Twice as many are tried.
    More,
    /// Fewer than before, or as many as before a trial.
    Other,
}

impl Default for AtOnce {
    fn default() -> Self {
        Self { allowed: INITIAL, ..Self::one() }
    }
}

impl AtOnce {
    /// One at a time.
    pub(super) fn one() -> Self {
        Self {
            allowed: 1,
            trial: Trial::None { up: true },
            since: None,
            begun: None,
            completed: 0.0,
            responses: 0,
            settled_until: None,
        }
    }

    /// As many as a server that is not slow may have at first.
    pub(super) fn many() -> Self {
        Self { allowed: NO_LONGER_CAUTIOUS, ..Self::one() }
    }

    /// How many may be in flight.
    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    /// The same without a trial that has not ended.
    pub(super) fn proven(&self) -> usize {
        match self.trial {
            Trial::None { .. } => self.allowed,
            Trial::More(_) => (self.allowed / 2).max(1),
            Trial::Fewer(_) => self.allowed * 2,
        }
    }

    fn measure_again(&mut self, now: Instant) {
        *self = Self { allowed: self.allowed, trial: self.trial, since: Some(now), ..Self::one() };
    }

    fn set(&mut self, allowed: usize, trial: Trial, now: Instant) {
        (self.allowed, self.trial) = (allowed, trial);
        self.measure_again(now);
    }

    /// Counts a response; returns a change that its measurement led to.
    pub(super) fn completed(&mut self, ended: &Ended) -> Option<Change> {
        let now = ended.now;
        if self.since.is_some_and(|since| ended.sent < since) || self.settled_until.is_some_and(|until| now < until) {
            return None;
        }
        if ended.in_flight < self.allowed {
            // There was too little to do.
            self.measure_again(now);
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
        let allowed = self.allowed;
        match self.trial {
            Trial::More(half) if rate < half * WORTH_IT => {
                self.set((allowed / 2).max(1), Trial::None { up: false }, now);
                Some(Change::Other)
            }
            Trial::None { up: true } | Trial::More(_) => {
                self.set(allowed * 2, Trial::More(rate), now);
                Some(Change::More)
            }
            Trial::Fewer(double) if rate < double * NO_LOSS => {
                self.settle(allowed * 2, now);
                Some(Change::Other)
            }
            Trial::None { up: false } | Trial::Fewer(_) if allowed > 1 => {
                let best = if let Trial::Fewer(double) = self.trial { rate.max(double) } else { rate };
                self.set(allowed / 2, Trial::Fewer(best), now);
                Some(Change::Other)
            }
            Trial::None { .. } | Trial::Fewer(_) => {
                self.settle(allowed, now);
                None
            }
        }
    }

    fn settle(&mut self, allowed: usize, now: Instant) {
        self.set(allowed, Trial::None { up: true }, now);
        self.settled_until = Some(now + SETTLED);
    }
}
