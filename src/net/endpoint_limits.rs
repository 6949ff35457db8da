//! What is configured of the limits of an endpoint, and the part of it that one of several processes uses.

use std::time::Duration;

use super::retry::FIRST_PAUSE;

/// The configuration of a limiter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EndpointLimits {
    /// Ceiling on requests a minute.
    pub requests_per_minute: Option<f64>,
    /// Ceiling on tokens a minute.
    pub tokens_per_minute: Option<f64>,
    /// Ceiling on requests in flight.
    pub concurrency: Option<usize>,
    /// How much may be sent at once: what the rate allows in this time.
    pub burst: Duration,
    /// False for servers that enforce a minute's limit per second: a full bucket does not raise the rate.
    pub may_exceed: bool,
    /// The pause after a refusal that names no wait; it doubles with each further one. The breaker first opens for twice as
    /// long.
    pub first_pause: Duration,
    /// The shortest time between the starts of two requests.
    pub min_interval: Option<Duration>,
    /// The part of every limit that this process may use, configured or told by the server: other processes use the rest.
    pub share: f64,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            tokens_per_minute: None,
            concurrency: None,
            burst: Duration::from_secs(1),
            may_exceed: true,
            first_pause: FIRST_PAUSE,
            min_interval: None,
            share: 1.0,
        }
    }
}

impl EndpointLimits {
    /// This part of the limits, of which other processes use the rest. At least one request may be in flight.
    #[must_use]
    pub fn shared(self, share: f64) -> Self {
        let part = |limit: Option<f64>| limit.map(|limit| limit * share);
        Self {
            requests_per_minute: part(self.requests_per_minute),
            tokens_per_minute: part(self.tokens_per_minute),
            concurrency: self.concurrency.map(|limit| ((limit as f64 * share) as usize).max(1)),
            min_interval: self.min_interval.map(|interval| interval.div_f64(share)),
            share: self.share * share,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_divides_every_limit_and_leaves_at_least_one_request() {
        let limits = EndpointLimits {
            requests_per_minute: Some(600.0),
            tokens_per_minute: Some(1000.0),
            concurrency: Some(16),
            min_interval: Some(Duration::from_millis(100)),
            ..EndpointLimits::default()
        };
        let part = limits.shared(0.25);
        assert_eq!((part.requests_per_minute, part.tokens_per_minute), (Some(150.0), Some(250.0)));
        assert_eq!((part.concurrency, part.min_interval), (Some(4), Some(Duration::from_millis(400))));
        assert_eq!(part.share, 0.25);
        assert_eq!(limits.shared(1.0), limits);
        assert_eq!(limits.shared(1.0 / 64.0).concurrency, Some(1));
        let unknown = EndpointLimits::default().shared(0.25);
        assert_eq!((unknown.requests_per_minute, unknown.concurrency, unknown.min_interval), (None, None, None));
    }
}
