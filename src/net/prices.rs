//! List prices of models.
//!
//! The prices are in `prices.json`, with their date. A project overrides them with `price_per_million_tokens`.

use std::{collections::BTreeMap, sync::LazyLock};

#[derive(Debug, serde::Deserialize)]
struct Prices {
    as_of: String,
    per_million_tokens: BTreeMap<String, f64>,
    /// Models that write: a million tokens of what they read, and of what they write.
    per_million_read_and_written: BTreeMap<String, (f64, f64)>,
}

static PRICES: LazyLock<Prices> =
    LazyLock::new(|| serde_json::from_str(include_str!("prices.json")).expect("prices.json is checked by a test"));

/// Tokens of a request and of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// What was sent.
    pub input: u64,
    /// What a model wrote.
    pub output: u64,
}

impl Tokens {
    /// All of them.
    pub fn sum(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl From<u64> for Tokens {
    fn from(input: u64) -> Self {
        Self { input, output: 0 }
    }
}

/// What a request and its tokens cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    usd_per_million: f64,
    usd_per_million_written: f64,
    usd_per_request: f64,
}

impl Price {
    /// A price in US dollars for a million tokens.
    pub fn per_million(usd: f64) -> Self {
        Self { usd_per_million: usd, usd_per_million_written: usd, usd_per_request: 0.0 }
    }

    /// Prices in US dollars for a million tokens that a model reads, and for a million that it writes.
    pub fn per_million_read_and_written(read: f64, written: f64) -> Self {
        Self { usd_per_million: read, usd_per_million_written: written, usd_per_request: 0.0 }
    }

    /// A price in US dollars for a request, whatever its tokens.
    pub fn per_request(usd: f64) -> Self {
        Self { usd_per_million: 0.0, usd_per_million_written: 0.0, usd_per_request: usd }
    }

    /// The list price of a model; `None` when it is not known.
    pub fn of(model: &str) -> Option<Self> {
        let both = || {
            let (read, written) = PRICES.per_million_read_and_written.get(model)?;
            Some(Self::per_million_read_and_written(*read, *written))
        };
        PRICES.per_million_tokens.get(model).copied().map(Self::per_million).or_else(both)
    }

    /// What one request with these tokens costs, in billionths of a US dollar, rounded up.
    pub fn nano_usd(self, tokens: impl Into<Tokens>) -> u64 {
        self.nano_usd_of(1, tokens)
    }

    /// What so many requests with these tokens cost together, in billionths of a US dollar, rounded up.
    pub fn nano_usd_of(self, requests: u64, tokens: impl Into<Tokens>) -> u64 {
        let Tokens { input, output } = tokens.into();
        // Dollars a million tokens are thousands of nano-dollars a token.
        let of_tokens = input as f64 * self.usd_per_million + output as f64 * self.usd_per_million_written;
        (of_tokens * 1000.0 + requests as f64 * self.usd_per_request * 1e9 - 1e-6).ceil().max(0.0) as u64
    }
}

/// The date of the list prices.
pub fn as_of() -> &'static str {
    &PRICES.as_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_list_reads_and_has_a_date() {
        assert_eq!(as_of().len(), "2026-01-01".len());
        for model in ["text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"] {
            assert!(Price::of(model).is_some(), "{model}");
        }
        assert_eq!(Price::of("unknown-model"), None);
        let mini = Price::of("gpt-4o-mini").expect("listed");
        assert_eq!(mini.nano_usd(Tokens { input: 1_000_000, output: 1_000_000 }), 750_000_000);
        assert_eq!(Price::per_request(0.001).nano_usd_of(3, 7), 3_000_000);
    }

    #[test]
    fn three_hundred_million_small_tokens_are_six_dollars() {
        let small = Price::of("text-embedding-3-small").expect("listed");
        assert_eq!(small.nano_usd(300_000_000), 6_000_000_000);
        assert_eq!(small.nano_usd(1), 20);
        assert_eq!(small.nano_usd(0), 0);
        assert_eq!(Price::per_million(0.0001).nano_usd(1), 1, "never rounded down to nothing");
    }
}
