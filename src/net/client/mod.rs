//! The request loop of every service: sends items in requests until each has an answer or an error.
//!
//! Owns when a request is sent, retried, divided or given up ([`send`]), what it may cost ([`spend`]), what an error status
//! means ([`status_rules`]), what is learned from refusals, which items other calls are requesting ([`in_flight`]), and that
//! no message contains a secret ([`scrub`]). A [`Protocol`] says how items become a request and what a response means. Must
//! not know any protocol.
//!
//! A protocol is a type that implements [`Protocol`]; all nodes of a process that talk to the same endpoint with the same key
//! and model share an [`Endpoint`] through [`Clients`].

mod attempt;
#[expect(clippy::module_inception, reason = "the module is named after its main type")]
mod client;
mod dispatch;
mod endpoint;
mod error_body;
mod health;
mod in_flight;
mod invalid;
mod learn_limit;
mod lengths;
mod part;
mod phrases;
mod probe;
mod protocol;
mod reports;
mod request_limit;
mod request_outcome;
mod scrub;
mod send;
pub mod settings;
mod spend;
mod status_rules;
mod too_long;
mod too_long_part;
mod verdict;

pub use attempt::LARGE_RESPONSE;
pub use client::{Caller, Client, Halt};
pub use dispatch::{AnswerSource, Awaited, Round};
pub use endpoint::{Clients, Endpoint};
pub use error_body::{ErrorBody, shorten, strip_bom};
pub use in_flight::{Claim, InFlight, Outcome as CallOutcome, Waiter};
pub use part::{Items, Part};
pub use protocol::{Answers, Measured, Probe, Protocol, ServiceTerms};
pub use request_limit::{Quantity, RequestLimit};
pub use request_outcome::{PartOutcome, RequestOutcome};
pub use scrub::scrub;
pub use settings::ClientSettings;
pub use spend::{SpendReservation, Spending};
pub use status_rules::StatusRules;
pub use too_long::{TOO_LONG, TooLong, Unit, row_in};
pub use verdict::{Cause, ResponseVerdict, judge_failure};
