//! The ratio of a server's token counts to ours: learned from billed tokens, used to predict those of the next request.
//!
//! Must not know how tokens are counted.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Weight of a new response in the ratios.
const WEIGHT: f64 = 0.2;

/// Ratios of billed tokens to what is known before a request is sent.
#[derive(Debug)]
pub struct TokenScale(Mutex<Ratios>);

#[derive(Debug, Clone, Copy)]
struct Ratios {
    per_byte: f64,
    per_token: f64,
}

impl Default for TokenScale {
    fn default() -> Self {
        Self(Mutex::new(Ratios { per_byte: 1.0 / 3.0, per_token: 1.0 }))
    }
}

impl TokenScale {
    fn lock(&self) -> MutexGuard<'_, Ratios> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The predicted tokens of `bytes` bytes of text.
    pub fn of_bytes(&self, bytes: u64) -> u64 {
        (bytes as f64 * self.lock().per_byte).ceil() as u64
    }

    /// The predicted tokens of `tokens` tokens by our own count.
    pub fn of_counted(&self, tokens: u64) -> u64 {
        (tokens as f64 * self.lock().per_token).ceil() as u64
    }

    /// Learns from one billed request. `counted` is our own count, never the reserved amount: that one contains the ratio of
    /// the time of sending, and with many requests in flight the ratio would diverge.
    pub fn learn(&self, bytes: u64, counted: Option<u64>, billed: u64) {
        let mut ratios = self.lock();
        ratios.per_byte += (billed as f64 / bytes.max(1) as f64 - ratios.per_byte) * WEIGHT;
        if let Some(counted) = counted {
            ratios.per_token += (billed as f64 / counted.max(1) as f64 - ratios.per_token) * WEIGHT;
        }
    }

    /// The server refused a request as too large that was predicted to fit.
    pub fn too_low(&self) {
        self.lock().per_byte *= 1.25;
    }
}
