//! The retry policy: how often and when a failed request is retried. Callers classify responses.

use std::{fmt, sync::Mutex, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

/// How often one request is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Failed attempts of one request; a requested wait does not count as a failure.
    pub max_attempts: u32,
    /// How long one request may keep failing, time in queues not counted.
    pub deadline: Duration,
    /// The upper bound of the pause after the first failure; it doubles with each further one.
    pub first_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 10, deadline: Duration::from_secs(600), first_pause: FIRST_PAUSE }
    }
}

/// The upper bounds of the pause after a first failure, and after any.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A source of randomness that tests can seed.
pub struct Jitter(Mutex<SmallRng>);

impl Jitter {
    /// Seeded by the system.
    pub fn new() -> Self {
        Self(Mutex::new(SmallRng::from_os_rng()))
    }

    /// A reproducible sequence.
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(SmallRng::seed_from_u64(seed)))
    }

    /// A random number in [0, 1).
    pub fn share(&self) -> f64 {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).random()
    }

    /// Full jitter: a random pause below a cap that doubles with each failure, from `first` to thirty seconds.
    pub fn backoff(&self, failures: u32, first: Duration) -> Duration {
        let doubled = first * 2u32.saturating_pow(failures.saturating_sub(1).min(16));
        doubled.min(MAX_PAUSE).mul_f64(self.share())
    }
}

impl Default for Jitter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jitter")
    }
}

/// Bounds the load that all retries of a process add. An empty budget delays retries; first attempts go on and refill it.
#[derive(Debug)]
pub struct RetryBudget(Mutex<Budget>);

#[derive(Debug)]
struct Budget {
    credit: f64,
    at: Option<Instant>,
}

impl RetryBudget {
    const MAX: f64 = 100.0;
    const PER_SUCCESS: f64 = 0.5;
    const PER_SECOND: f64 = 2.0;

    /// A full budget.
    pub fn new() -> Self {
        Self(Mutex::new(Budget { credit: Self::MAX, at: None }))
    }

    /// A request succeeded.
    pub fn deposit(&self) {
        let mut budget = self.lock();
        budget.credit = (budget.credit + Self::PER_SUCCESS).min(Self::MAX);
    }

    /// Withdraws the credit for one retry; returns the wait until it is available.
    pub fn withdraw(&self, now: Instant) -> Duration {
        let mut budget = self.lock();
        let passed = budget.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        budget.at = Some(now);
        budget.credit = (budget.credit + passed * Self::PER_SECOND).min(Self::MAX) - 1.0;
        Duration::from_secs_f64((-budget.credit).max(0.0) / Self::PER_SECOND)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Budget> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_is_full_jitter_under_a_doubling_cap() {
        let jitter = Jitter::seeded(7);
        for (failures, cap) in [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (40, 30.0)] {
            let waits: Vec<f64> = (0..2000).map(|_| jitter.backoff(failures, FIRST_PAUSE).as_secs_f64()).collect();
            let mean = waits.iter().sum::<f64>() / waits.len() as f64;
            assert!(waits.iter().all(|wait| (0.0..=cap).contains(wait)));
            assert!((mean / cap - 0.5).abs() < 0.05, "{failures}: {mean} of {cap}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let waits = |seed| (1..6).map(|n| Jitter::seeded(seed).backoff(n, FIRST_PAUSE)).collect::<Vec<_>>();
        assert_eq!(waits(3), waits(3));
        assert_ne!(waits(3), waits(4));
    }

    #[test]
    fn an_empty_budget_delays_and_success_refills_it() {
        let budget = RetryBudget::new();
        let now = Instant::now();
        for _ in 0..100 {
            assert_eq!(budget.withdraw(now), Duration::ZERO);
        }
        let wait = budget.withdraw(now);
        assert_eq!(wait, Duration::from_millis(500));
        for _ in 0..10 {
            budget.deposit();
        }
        assert_eq!(budget.withdraw(now), Duration::ZERO);
        assert_eq!(budget.withdraw(now + Duration::from_secs(60)), Duration::ZERO);
    }
}
