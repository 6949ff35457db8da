//! Counters of API usage and cost, updated by concurrent tasks and read by displays; those of a node are part of its run's.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{Notify, futures::Notified};

/// Counters of one run or of one node, shared by its clients.
#[derive(Debug, Default)]
pub struct Usage {
    /// The counters of which these are a part. Caps hold for them.
    whole: Option<Arc<Usage>>,
    requests: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    tokens: AtomicU64,
    cost_nano_usd: AtomicU64,
    saved_nano_usd: AtomicU64,
    reserved_nano_usd: AtomicU64,
    unconfirmed_nano_usd: AtomicU64,
    reserving: Mutex<()>,
    release: Notify,
}

/// Limits of a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Money, in billionths of a US dollar.
    pub cost_nano_usd: Option<u64>,
    /// Requests, retries included.
    pub requests: Option<u64>,
}

/// The values of all counters at one time.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct UsageSnapshot {
    /// HTTP requests sent, retries included.
    pub requests: u64,
    /// Requests that repeated an earlier one.
    pub retries: u64,
    /// Responses with status 429 (too many requests).
    pub throttled: u64,
    /// Tokens billed, as reported by the server, or counted locally if it does not report them.
    pub tokens: u64,
    /// Money spent, in US dollars at list price.
    pub cost_usd: f64,
    /// The most money that the server may have billed for requests without a usable response, in US dollars at list price.
    /// Not part of `cost_usd`, but counts against the cap.
    pub unconfirmed_usd: f64,
    /// Money that the cache saved, in US dollars at list price.
    pub saved_usd: f64,
}

impl UsageSnapshot {
    /// Adds the counters of another one.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.retries += other.retries;
        self.throttled += other.throttled;
        self.tokens += other.tokens;
        self.cost_usd += other.cost_usd;
        self.unconfirmed_usd += other.unconfirmed_usd;
        self.saved_usd += other.saved_usd;
    }
}

impl Usage {
    /// Counters of a part: what they count, `whole` counts too.
    pub fn part_of(whole: &Arc<Self>) -> Self {
        Self { whole: Some(Arc::clone(whole)), ..Self::default() }
    }

    /// The counters for which caps hold.
    pub fn whole(&self) -> &Self {
        self.whole.as_deref().map_or(self, Self::whole)
    }

    /// Counts one request sent; `retry` when it repeats an earlier one.
    pub fn request(&self, retry: bool) {
        if let Some(whole) = &self.whole {
            whole.request(retry);
        }
        self.count_request(retry);
    }

    fn count_request(&self, retry: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if retry {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one response with status 429 (too many requests).
    pub fn throttled(&self) {
        if let Some(whole) = &self.whole {
            whole.throttled();
        }
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts tokens and what they cost, in billionths of a US dollar.
    pub fn spent(&self, tokens: u64, nano_usd: u64) {
        if let Some(whole) = &self.whole {
            whole.spent(tokens, nano_usd);
        }
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
        self.cost_nano_usd.fetch_add(nano_usd, Ordering::Relaxed);
    }

    /// Counts money that the server may have billed for a request without a usable response, in billionths of a US dollar.
    pub fn unconfirmed(&self, nano_usd: u64) {
        if let Some(whole) = &self.whole {
            whole.unconfirmed(nano_usd);
        }
        self.unconfirmed_nano_usd.fetch_add(nano_usd, Ordering::AcqRel);
    }

    /// Counts the cost that a cached vector saved, in billionths of a US dollar.
    pub fn saved(&self, nano_usd: u64) {
        if let Some(whole) = &self.whole {
            whole.saved(nano_usd);
        }
        self.saved_nano_usd.fetch_add(nano_usd, Ordering::Relaxed);
    }

    /// Counts one request, `retry` when it repeats an earlier one, and reserves its money, unless a cap would be exceeded.
    /// Must be followed by one [`Usage::release`] of the same amount.
    pub fn reserve(&self, nano_usd: u64, retry: bool, caps: Caps) -> bool {
        if let Some(whole) = &self.whole {
            let allowed = whole.reserve(nano_usd, retry, caps);
            if allowed {
                self.count_request(retry);
            }
            return allowed;
        }
        let _one_at_a_time = self.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        // Loaded in this order, an amount that is settled in between is counted twice rather than not at all.
        let reserved = self.reserved_nano_usd.load(Ordering::Acquire);
        let unconfirmed = self.unconfirmed_nano_usd.load(Ordering::Acquire);
        let bound = reserved + unconfirmed + self.cost_nano_usd.load(Ordering::Acquire);
        let affordable = caps.cost_nano_usd.is_none_or(|cap| bound.saturating_add(nano_usd) <= cap);
        let allowed = caps.requests.is_none_or(|cap| self.requests.load(Ordering::Relaxed) < cap);
        if affordable && allowed {
            self.reserved_nano_usd.fetch_add(nano_usd, Ordering::AcqRel);
            self.count_request(retry);
        }
        affordable && allowed
    }

    /// Releases reserved money, after [`Usage::spent`] or [`Usage::unconfirmed`], so that the sum is never too low in
    /// between.
    pub fn release(&self, nano_usd: u64) {
        if let Some(whole) = &self.whole {
            return whole.release(nano_usd);
        }
        self.reserved_nano_usd.fetch_sub(nano_usd, Ordering::AcqRel);
        self.release.notify_waiters();
    }

    /// Completes with the next [`Usage::release`].
    pub fn released(&self) -> Notified<'_> {
        self.whole().release.notified()
    }

    /// Money reserved for requests in flight, in billionths of a US dollar.
    pub fn reserved_nano_usd(&self) -> u64 {
        self.whole().reserved_nano_usd.load(Ordering::Acquire)
    }

    /// The current values of all counters.
    pub fn snapshot(&self) -> UsageSnapshot {
        let usd = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64 / 1e9;
        UsageSnapshot {
            requests: self.requests.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            tokens: self.tokens.load(Ordering::Relaxed),
            cost_usd: usd(&self.cost_nano_usd),
            unconfirmed_usd: usd(&self.unconfirmed_nano_usd),
            saved_usd: usd(&self.saved_nano_usd),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parts_count_is_in_the_whole_and_caps_hold_for_all() {
        let whole = Arc::new(Usage::default());
        let (one, other) = (Usage::part_of(&whole), Usage::part_of(&whole));
        let caps = Caps { cost_nano_usd: Some(10), requests: Some(3) };
        assert!(one.reserve(6, false, caps) && !other.reserve(6, true, caps), "six and six are more than ten");
        one.spent(3, 5);
        one.release(6);
        assert!(other.reserve(5, true, caps), "five and five are ten");
        other.unconfirmed(5);
        other.release(5);
        one.throttled();
        assert!(!one.reserve(1, false, caps), "the money is spent");
        let of = |usage: &Usage| {
            let now = usage.snapshot();
            (now.requests, now.retries, now.throttled, now.tokens)
        };
        assert_eq!((of(&one), of(&other), of(&whole)), ((1, 0, 1, 3), (1, 1, 0, 0), (2, 1, 1, 3)));
        assert_eq!((other.snapshot().unconfirmed_usd, whole.snapshot().cost_usd), (5e-9, 5e-9));
        assert_eq!(one.reserved_nano_usd(), 0);
    }
}
