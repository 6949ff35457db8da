//! What paid work has cost so far: counters that many tasks add to and a display reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one run, shared by every client of the process.
#[derive(Debug, Default)]
pub struct Usage {
    requests: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    tokens: AtomicU64,
    cost_nano_usd: AtomicU64,
    saved_nano_usd: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize)]
pub struct UsageSnapshot {
    /// HTTP requests sent, retries included.
    pub requests: u64,
    /// Requests that repeated an earlier one.
    pub retries: u64,
    /// Answers that said "too many requests".
    pub throttled: u64,
    /// Tokens billed, as the server reports them, or counted here where it does not.
    pub tokens: u64,
    /// Money spent, in US dollars at list price.
    pub cost_usd: f64,
    /// Money that the cache saved, in US dollars at list price.
    pub saved_usd: f64,
}

impl Usage {
    /// Counts one request sent; `retry` when it repeats an earlier one.
    pub fn request(&self, retry: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if retry {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one "too many requests".
    pub fn throttled(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts tokens and what they cost, in billionths of a US dollar.
    pub fn spent(&self, tokens: u64, nano_usd: u64) {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
        self.cost_nano_usd.fetch_add(nano_usd, Ordering::Relaxed);
    }

    /// Counts what an answer from the cache would have cost, in billionths of a US dollar.
    pub fn saved(&self, nano_usd: u64) {
        self.saved_nano_usd.fetch_add(nano_usd, Ordering::Relaxed);
    }

    /// All counters now.
    pub fn snapshot(&self) -> UsageSnapshot {
        let usd = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64 / 1e9;
        UsageSnapshot {
            requests: self.requests.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            tokens: self.tokens.load(Ordering::Relaxed),
            cost_usd: usd(&self.cost_nano_usd),
            saved_usd: usd(&self.saved_nano_usd),
        }
    }
}
