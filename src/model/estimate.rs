//! The estimated cost of work: rows, requests, tokens and their price.

use super::seen::Seen;

/// Tokens that a model may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct OutputTokens {
    /// At least.
    pub least: u64,
    /// At most; `None` if nothing limits them.
    pub most: Option<u64>,
}

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
    /// Tokens that a model may write; `None` for services that write none.
    pub output_tokens: Option<OutputTokens>,
    /// The price, in billionths of a US dollar; `None` if no price is known. The least, if a model may write more or less.
    pub cost_nano_usd: Option<u64>,
    /// The most that it can be, if a model may write more or less.
    pub most_nano_usd: Option<u64>,
    /// What was seen so far, to recognize duplicates. If it is not exact, neither are the numbers above.
    pub seen: Seen,
}
