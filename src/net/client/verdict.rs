//! The meaning of a response, or of its absence, for the items that were sent.

use super::{request_limit::RequestLimit, too_long::TooLong};
use crate::net::{RateLimited, WireError};

/// What an attempt means for its request.
#[derive(Debug)]
pub enum ResponseVerdict<A> {
    /// It succeeded.
    Answers(A),
    /// All requests wait, then it is sent again.
    RateLimited {
        /// The limit and the wait.
        rate_limit: RateLimited,
        /// The message.
        why: String,
    },
    /// It failed, perhaps transiently.
    Retry {
        /// The message.
        why: String,
        /// True when the items may be the cause: after a few attempts, the request is divided.
        suspect: bool,
        /// True when it may be a sign of overload.
        congested: bool,
        /// Only the connection failed: it is sent again at once.
        at_once: bool,
        /// True when it may have been billed although the result did not arrive.
        billed: bool,
    },
    /// Complete answers that contradict earlier ones, perhaps transiently.
    Inconsistent(String),
    /// It failed permanently; smaller requests may succeed.
    Divide {
        /// The message; the error of the row if it has a single item.
        why: String,
        /// The cause.
        cause: Cause,
    },
    /// The server does not support what was asked for; the protocol asks for something else from now on.
    Resend,
    /// One answer for several items, or answers that cannot be told apart, perhaps transiently.
    OneAnswer(String),
    /// No request can succeed until the settings change: key, model, address.
    Refused(String),
    /// No request can succeed for now: the quota is used up.
    Exhausted(String),
    /// No request can succeed for now, for the reason in the message.
    Stop(String),
}

/// Why a request has to be divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The request is too large.
    Size(RequestLimit),
    /// An item in it is refused; its index, if named.
    Row(Option<usize>),
    /// An item is too long.
    TooLong(TooLong),
    /// Unknown; it may even be the settings.
    Unclear,
}

impl<A> ResponseVerdict<A> {
    /// A failure that may be transient, and that is neither billed nor due to the items.
    pub fn retry(why: String, congested: bool) -> Self {
        Self::Retry { why, suspect: false, congested, at_once: false, billed: false }
    }

    /// As [`ResponseVerdict::retry`], for responses of a proxy whose server may have done the work.
    pub fn retry_unconfirmed(why: String, congested: bool) -> Self {
        Self::Retry { why, suspect: false, congested, at_once: false, billed: true }
    }

    /// A failure that may be transient or due to the items.
    pub fn retry_suspect(why: String, billed: bool) -> Self {
        Self::Retry { why, suspect: true, congested: false, at_once: false, billed }
    }

    /// True when it is unknown whether a request without answers was billed.
    pub fn may_be_billed(&self) -> bool {
        matches!(self, Self::Retry { billed: true, .. } | Self::Inconsistent(_))
    }
}

/// Judges an attempt without a response.
pub fn judge_failure<A>(error: &WireError) -> ResponseVerdict<A> {
    match error {
        WireError::Permanent(_) => ResponseVerdict::Refused(error.to_string()),
        WireError::Closed => ResponseVerdict::Retry {
            why: error.to_string(),
            suspect: false,
            congested: false,
            at_once: true,
            billed: true,
        },
        _ => ResponseVerdict::Retry {
            why: error.to_string(),
            suspect: matches!(error, WireError::TooLarge(_)),
            congested: error.is_congestion(),
            at_once: false,
            // Only a request that was sent can have been billed.
            billed: !matches!(error, WireError::Connect(_) | WireError::Timeout { sent: false, .. }),
        },
    }
}
