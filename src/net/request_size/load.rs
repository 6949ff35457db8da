//! How large a request is, and how long its response took.

use std::time::Duration;

use tokio::time::Instant;

use super::line::Point;

/// The load of a text besides its bytes.
const TEXT_OVERHEAD: u64 = 64;

/// How large a request is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Texts.
    pub texts: usize,
    /// Their length in bytes, with an allowance for each text.
    pub amount: u64,
    /// The time limit of the attempt.
    pub timeout: Duration,
}

impl Load {
    /// The load of so many texts with so many bytes.
    pub fn new(texts: usize, bytes: usize, timeout: Duration) -> Self {
        Self { texts, amount: Self::amount(texts, bytes), timeout }
    }

    /// The amount of so many texts with so many bytes.
    pub fn amount(texts: usize, bytes: usize) -> u64 {
        bytes as u64 + TEXT_OVERHEAD * texts as u64
    }
}

/// A request whose outcome is known. `in_flight` counts it, too.
#[derive(Debug, Clone, Copy)]
pub(in crate::net) struct Ended {
    pub(in crate::net) load: Load,
    pub(in crate::net) sent: Instant,
    pub(in crate::net) now: Instant,
    pub(in crate::net) in_flight: usize,
}

impl Ended {
    pub(super) fn seconds(&self) -> f64 {
        self.now.duration_since(self.sent).as_secs_f64().max(1e-6)
    }

    pub(super) fn point(&self) -> Point {
        Point { amount: self.load.amount as f64, seconds: self.seconds() }
    }
}
