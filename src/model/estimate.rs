//! The estimated cost of work: rows, requests, tokens and their price.

use super::seen::Seen;

/// The estimated cost of work.
#[derive(Debug, Default)]
pub struct Estimate {
    /// Rows, including duplicates and empty ones.
    pub rows: u64,
    /// Distinct rows that are not empty.
    pub unique_rows: u64,
    /// Rows whose results are in the cache.
    pub cached_rows: u64,
    /// Requests to be sent.
    pub requests: u64,
    /// Tokens to be billed.
    pub tokens: u64,
    /// Their price, in billionths of a US dollar; `None` if no price is known.
    pub cost_nano_usd: Option<u64>,
    /// What was seen so far, to recognize duplicates. If it is not exact, neither are the numbers above.
    pub seen: Seen,
}
