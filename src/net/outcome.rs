//! What a response means for later requests: the outcome of an attempt as callers report it.

use std::time::Duration;

/// Which limit a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Requests a minute.
    Requests,
    /// Tokens a minute.
    Tokens,
    /// Requests at the same time.
    Concurrency,
}

/// What the message of a "too many requests" says.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RateLimited {
    /// The exceeded limit, if named.
    pub scope: Option<Scope>,
    /// The wait, if named.
    pub wait: Option<Duration>,
    /// The limit per minute or, for [`Scope::Concurrency`], at the same time; if named.
    pub limit: Option<f64>,
}

/// The outcome of an attempt, as far as the limiter needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// A good response.
    Success {
        /// The tokens that the server counted, if it said.
        tokens: Option<u64>,
    },
    /// "Too many requests".
    RateLimited(RateLimited),
    /// A response about the request itself (400, 401, …): the endpoint works.
    Rejected,
    /// The response did not come in time: a time-out of the client, of a gateway, or a connection cut while it was waited
    /// for. The server may still be computing it.
    TimedOut {
        /// True for the client's own time limit, false for one of the server's side.
        own: bool,
    },
    /// A broken connection, 5xx, garbage.
    Failed {
        /// True when it may be a sign of overload.
        congested: bool,
        /// True when it may be a sign of an outage; false when the request may be the cause, and others have succeeded since
        /// it was first sent.
        outage: bool,
    },
}
