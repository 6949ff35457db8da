//! HTTP attempts, retry policy, rate limits, adaptive concurrency, and the request loop of every service.
//!
//! Owns the decision *when* a request may be sent, what its response means for later ones, and what it may cost. Must not
//! know the content of a request: no embeddings, no datasets. The loop is in [`client`].
//!
//! All clients of one endpoint, key and model share an [`EndpointLimiter`]; an [`EndpointRegistry`] holds those of a
//! process. The parts of a limiter ([`TokenBucket`], [`ConcurrencyController`], [`CircuitBreaker`]) are state machines that
//! are passed the time.

mod address_secret;
mod circuit_breaker;
pub mod client;
mod concurrency;
mod context;
mod cpu_permits;
mod endpoint_limiter;
mod endpoint_limits;
mod endpoint_registry;
mod http;
mod learned_rate;
mod notices;
mod outcome;
pub mod prices;
mod rate_limit_headers;
mod request_size;
mod retry;
mod scale;
mod token_bucket;
pub mod tokens;
mod vocabularies;
pub mod work_clock;

pub use address_secret::AddressSecret;
pub use circuit_breaker::{BreakerDecision, CircuitBreaker};
pub use concurrency::{ConcurrencyController, Effect};
pub use context::{ServiceContext, ServiceEnvironment};
pub use cpu_permits::CpuPermits;
pub use endpoint_limiter::{AcquireError, EndpointKey, EndpointLimiter, EndpointSample, Permit, RequestKind};
pub use endpoint_limits::EndpointLimits;
pub use endpoint_registry::EndpointRegistry;
pub use http::{Http, Request, Response, WireError, without_secrets};
pub use notices::{Notice, Notices};
pub use outcome::{Outcome, RateLimited, Scope};
pub use rate_limit_headers::{Hints, Quota, parse_go_duration, wait_in_text};
pub use request_size::Load;
pub use retry::{Jitter, RetryBudget, RetryPolicy};
pub use scale::TokenScale;
pub use token_bucket::{Debit, TokenBucket};
