//! Rate limits as OpenAI has them: two token buckets, and the headers that report their state.

use std::time::{Duration, Instant};

use super::State;

/// A token bucket that refills continuously.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    pub(super) level: f64,
    pub(super) at: Instant,
}

impl Bucket {
    pub(super) fn refill(&mut self, per_minute: f64, capacity: f64, now: Instant) -> f64 {
        let seconds = now.duration_since(self.at).as_secs_f64();
        self.level = (self.level + per_minute / 60.0 * seconds).min(capacity);
        self.at = now;
        self.level
    }
}

impl State {
    fn limits(&self) -> (Option<f64>, Option<f64>) {
        let halved = self.behaviour.halve_after.is_some_and(|after| self.number > after);
        let factor = if halved { 0.5 } else { 1.0 };
        (self.behaviour.rpm.map(|n| n * factor), self.behaviour.tpm.map(|n| n * factor))
    }

    /// Takes one request with `tokens` tokens from the buckets. Returns the headers of the response, or how long to
    /// wait, the limit, and how much of it is used.
    pub(super) fn admit(&mut self, tokens: f64, now: Instant) -> Result<Vec<(String, String)>, (Duration, f64, f64)> {
        let (rpm, tpm) = self.limits();
        let share = self.behaviour.burst_seconds / 60.0;
        let wait = |missing: f64, per_minute: f64| Duration::from_secs_f64((missing / (per_minute / 60.0)).max(0.001));
        if let Some(rpm) = rpm {
            let level = self.requests.refill(rpm, (rpm * share).max(1.0), now);
            if level < 1.0 {
                return Err((wait(1.0 - level, rpm), rpm, rpm - level));
            }
        }
        if let Some(tpm) = tpm {
            let level = self.tokens.refill(tpm, tpm * share, now);
            if level < tokens {
                return Err((wait(tokens - level, tpm), tpm, tpm - level));
            }
            self.tokens.level -= tokens;
        }
        if rpm.is_some() {
            self.requests.level -= 1.0;
        }
        Ok(if self.behaviour.headers { self.limit_headers(now) } else { Vec::new() })
    }

    pub(super) fn limit_headers(&self, _now: Instant) -> Vec<(String, String)> {
        let (rpm, tpm) = self.limits();
        let mut headers = Vec::new();
        for (what, limit, bucket) in [("requests", rpm, self.requests), ("tokens", tpm, self.tokens)] {
            if let Some(limit) = limit {
                let capacity = limit * self.behaviour.burst_seconds / 60.0;
                let remaining = bucket.level.clamp(0.0, capacity);
                let reset = (capacity - remaining) / (limit / 60.0);
                headers.push((format!("x-ratelimit-limit-{what}"), format!("{limit:.0}")));
                headers.push((format!("x-ratelimit-remaining-{what}"), format!("{:.0}", remaining.floor())));
                headers.push((format!("x-ratelimit-reset-{what}"), format!("{:.0}ms", (reset * 1000.0).ceil())));
            }
        }
        headers
    }
}
