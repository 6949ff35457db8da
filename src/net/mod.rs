//! The wire: single HTTP attempts, retry rules, rate limits and adaptive concurrency.
//!
//! Owns everything that decides *when* a request may be sent and what its answer means for the next one. Must not know
//! what a request is about: no embeddings, no datasets, no prices.
//!
//! A [`Lane`] is what all clients of one endpoint, key and model share; [`Lanes`] keeps them for a process. The parts
//! of a lane ([`Meter`], [`Concurrency`], [`Breaker`]) are plain state machines that are handed the time.

mod breaker;
mod concurrency;
mod hints;
mod http;
mod lane;
mod meter;
mod retry;
mod scale;
pub mod work_clock;

pub use breaker::{Breaker, Passage};
pub use concurrency::{Concurrency, Effect};
pub use hints::{Hints, Quota, parse_go_duration, wait_in_text};
pub use http::{Answer, Http, Request, WireError};
pub use lane::{Errand, Lane, LaneKey, LaneLimits, Lanes, NotAdmitted, Outcome, Refusal, Scope, Ticket};
pub use meter::{Meter, Taken};
pub use retry::{Jitter, RetryBudget, RetryPolicy};
pub use scale::TokenScale;
