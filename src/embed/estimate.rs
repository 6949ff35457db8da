//! What embedding would take: rows, requests, tokens and their price.

use super::seen::Seen;

/// What embedding would take.
#[derive(Debug, Default)]
pub struct Estimate {
    /// Texts seen, duplicates and empty ones included.
    pub rows: u64,
    /// Distinct texts that are not empty.
    pub unique_rows: u64,
    /// Rows that would cost nothing because the cache has them.
    pub cached_rows: u64,
    /// Requests that would be sent.
    pub requests: u64,
    /// Tokens that would be billed.
    pub tokens: u64,
    /// Their price, in billionths of a US dollar; `None` when no price is known.
    pub cost_nano_usd: Option<u64>,
    /// Texts seen so far, for telling duplicates. Once it is not exact, nor are the numbers above.
    pub seen: Seen,
}
