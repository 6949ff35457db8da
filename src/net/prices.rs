//! List prices of models.
//!
//! The prices are in `prices.json`, with their date. A project overrides them with `price_per_million_tokens`.

use std::{collections::BTreeMap, sync::LazyLock};

#[derive(Debug, serde::Deserialize)]
struct Prices {
    as_of: String,
    per_million_tokens: BTreeMap<String, f64>,
}

static PRICES: LazyLock<Prices> =
    LazyLock::new(|| serde_json::from_str(include_str!("prices.json")).expect("prices.json is checked by a test"));

/// What tokens cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    usd_per_million: f64,
}

impl Price {
    /// A price in US dollars for a million tokens.
    pub fn per_million(usd: f64) -> Self {
        Self { usd_per_million: usd }
    }

    /// The list price of a model; `None` when it is not known.
    pub fn of(model: &str) -> Option<Self> {
        PRICES.per_million_tokens.get(model).copied().map(Self::per_million)
    }

    /// What these tokens cost, in billionths of a US dollar, rounded up.
    pub fn nano_usd(self, tokens: u64) -> u64 {
        // Dollars a million tokens are thousands of nano-dollars a token.
        (tokens as f64 * self.usd_per_million * 1000.0 - 1e-6).ceil().max(0.0) as u64
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
