//! The wire: single HTTP attempts, retry rules, rate limits and adaptive concurrency.
//!
//! Owns everything that decides *when* a request may be sent and what its answer means for the next one. Must not know
//! what a request is about: no embeddings, no datasets, no prices.
//!
//! A [`EndpointLimiter`] is what all clients of one endpoint, key and model share; [`EndpointRegistry`] keeps them for a process. The parts
//! of a limiter ([`TokenBucket`], [`ConcurrencyController`], [`CircuitBreaker`]) are plain state machines that are handed the time.

mod circuit_breaker;
mod concurrency;
mod endpoint_limiter;
mod http;
mod rate_limit_headers;
mod retry;
mod scale;
mod token_bucket;
pub mod work_clock;

pub use circuit_breaker::{BreakerDecision, CircuitBreaker};
pub use concurrency::{ConcurrencyController, Effect};
pub use endpoint_limiter::{
    AcquireError, EndpointKey, EndpointLimiter, EndpointLimits, EndpointRegistry, Outcome, Permit, RateLimited,
    RequestKind, Scope,
};
pub use http::{Http, Request, Response, WireError};
pub use rate_limit_headers::{Hints, Quota, parse_go_duration, wait_in_text};
pub use retry::{Jitter, RetryBudget, RetryPolicy};
pub use scale::TokenScale;
pub use token_bucket::{Debit, TokenBucket};
