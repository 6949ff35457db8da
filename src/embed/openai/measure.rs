//! The tokens of a part: predicted before it is sent, settled after its response.

use super::{client_core::Core, part::Part, wire::Vectors};

/// The tokens of a part before it is sent.
pub(super) struct Measured {
    /// The predicted count of the server, reserved from the limiter.
    pub(super) reserved: u64,
    /// The most tokens that can be billed.
    pub(super) most: u64,
    /// Our own exact count, if there is one.
    pub(super) counted: Option<u64>,
}

impl Core {
    /// Predicts the tokens of a part.
    pub(super) async fn measure(&self, part: &Part, shortened: Option<&str>) -> Measured {
        let (bytes, counted) = match shortened {
            Some(text) => (text.len() as u64, self.counter.count(text)),
            None => {
                let bytes = part.bytes as u64;
                let exact = self.counter.is_exact() && (self.spending.is_capped() || self.limiter.counts_tokens());
                if !exact {
                    let reserved = self.shared.scale.of_bytes(bytes);
                    return Measured { reserved, most: bytes + part.units.len() as u64 * 2, counted: None };
                }
                (bytes, self.count(part).await)
            }
        };
        let reserved = self.shared.scale.of_counted(counted);
        let most = counted.max(reserved).max(if shortened.is_some() { bytes } else { 0 });
        Measured { reserved, most, counted: self.counter.is_exact().then_some(counted) }
    }

    /// The tokens of a part by our own count. Large parts are counted on a thread for blocking work.
    async fn count(&self, part: &Part) -> u64 {
        let counter = self.counter;
        let count = move |part: &Part| part.texts().map(|text| counter.count(text)).sum();
        if part.bytes < 16 << 10 {
            return count(part);
        }
        let part = part.clone();
        let bytes = part.bytes as u64;
        tokio::task::spawn_blocking(move || count(&part)).await.unwrap_or(bytes)
    }

    /// The billed tokens of a response. If the server does not say, or says an impossible number, our own count.
    pub(super) async fn settle(
        &self,
        vectors: &Vectors,
        part: &Part,
        shortened: Option<&str>,
        counted: Option<u64>,
    ) -> u64 {
        let bytes = shortened.map_or(part.bytes, str::len) as u64;
        // No tokenizer makes more than one token per byte, except for a few special ones around each text.
        let most = bytes + 8 * part.units.len() as u64;
        match vectors.tokens {
            Some(tokens) if tokens > 0 && tokens <= most => {
                self.shared.scale.learn(bytes, counted, tokens);
                tokens
            }
            _ => match shortened {
                Some(text) => self.counter.count(text),
                None => self.count(part).await,
            },
        }
    }
}
