//! How a server's token counts compare to ours: learned from what it bills, used to foretell the next request.
//!
//! Knows numbers only: who counts, and how, is the caller's business.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Weight of a new answer in the ratios.
const WEIGHT: f64 = 0.2;

/// Ratios between what is known before a request is sent and what it is billed.
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

    /// What so many bytes of text will be billed as, in tokens.
    pub fn of_bytes(&self, bytes: u64) -> u64 {
        (bytes as f64 * self.lock().per_byte).ceil() as u64
    }

    /// What so many tokens by our own count will be billed as.
    pub fn of_counted(&self, tokens: u64) -> u64 {
        (tokens as f64 * self.lock().per_token).ceil() as u64
    }

    /// Takes in what one request was billed. `counted` is our own count of it, never the amount that was reserved: that
    /// one holds the ratio of the moment it was sent, and with many on the wire the ratio would run away.
    pub fn learn(&self, bytes: u64, counted: Option<u64>, billed: u64) {
        let mut ratios = self.lock();
        ratios.per_byte += (billed as f64 / bytes.max(1) as f64 - ratios.per_byte) * WEIGHT;
        if let Some(counted) = counted {
            ratios.per_token += (billed as f64 / counted.max(1) as f64 - ratios.per_token) * WEIGHT;
        }
    }

    /// The server called a request too large that was foretold to fit.
    pub fn too_low(&self) {
        self.lock().per_byte *= 1.25;
    }
}
