//! What an endpoint does at one moment, for reports: requests in flight and sent, beside their limits.

use tokio::time::Instant;

use super::EndpointLimiter;

/// The work of an endpoint at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EndpointSample {
    /// How many requests are in flight.
    pub in_flight: usize,
    /// How many may be.
    pub concurrency: usize,
    /// How many requests were sent so far.
    pub requests: u64,
    /// The tokens of these requests, as far as they are counted.
    pub tokens: f64,
    /// The limit on requests a minute that holds now, if one is known.
    pub requests_limit: Option<f64>,
    /// The limit on tokens a minute that holds now, if one is known.
    pub tokens_limit: Option<f64>,
}

impl EndpointLimiter {
    /// The work at this moment.
    pub fn sample(&self) -> EndpointSample {
        let now = Instant::now();
        let state = self.lock();
        let cap = state.cap(now).min(state.size.concurrency().unwrap_or(usize::MAX));
        EndpointSample {
            in_flight: state.concurrency.in_flight(),
            concurrency: state.concurrency.allowed().min(cap),
            requests: state.sequence,
            tokens: state.tokens_sent,
            requests_limit: state.requests.limit().or_else(|| state.requests.rate(now).map(|rate| rate * 60.0)),
            tokens_limit: state.tokens.limit().or_else(|| state.tokens.rate(now).map(|rate| rate * 60.0)),
        }
    }
}
