//! How a client sends, whatever the protocol: time limits, rate limits, retries.
//!
//! Owns the keys `timeout`, `limits`, `retry`, `max_retries` and `max_outage` of every mapping that describes a service.

use std::time::Duration;

use crate::{
    config::{Field, Kind, Record},
    diagnostic::{Diagnostic, Diagnostics},
    net::RetryPolicy,
};

/// `timeout`.
pub const TIMEOUT: Field =
    Field::optional("timeout", Kind::Duration, "60s", "The time limit of one attempt, time in queues not counted.")
        .or(&["request_timeout"]);
/// `limits`.
pub const LIMITS: Field = Field::optional(
    "limits",
    Kind::Record(LIMIT_FIELDS),
    "",
    "Upper bounds of the request rate; `auto` learns them from headers and responses.",
);
/// `retry`.
pub const RETRY: Field =
    Field::optional("retry", Kind::Record(RETRY_FIELDS), "", "How often a failed request is retried.");
/// `max_retries`.
pub const MAX_RETRIES: Field =
    Field::optional("max_retries", Kind::Integer(0, 1000), "", "LangChain's name for `retry.max_attempts` minus one.");
/// `max_outage`.
pub const MAX_OUTAGE: Field = Field::optional(
    "max_outage",
    Kind::Duration,
    "15m",
    "How long the endpoint may be down before the run stops; 10s, unless set, if no connection was ever possible.",
);

/// A count, or `auto`.
pub const AUTO_COUNT: Kind = Kind::OrWord("auto", &Kind::Integer(1, 1_000_000_000));
/// `limits.rpm`.
pub const RPM: Field = Field::optional("rpm", AUTO_COUNT, "auto", "Requests per minute.");
/// `limits.concurrency`.
pub const CONCURRENCY: Field = Field::optional("concurrency", AUTO_COUNT, "auto", "Requests in flight at once.");

/// `limits.min_interval`.
pub const MIN_INTERVAL: Field =
    Field::optional("min_interval", Kind::Duration, "", "The shortest time between the starts of two requests.");

const LIMIT_FIELDS: &[Field] =
    &[RPM, Field::optional("tpm", AUTO_COUNT, "auto", "Tokens per minute."), CONCURRENCY, MIN_INTERVAL];

const RETRY_FIELDS: &[Field] = &[
    Field::optional(
        "max_attempts",
        Kind::Integer(1, 1000),
        "10",
        "Attempts of one request; a requested wait does not count.",
    ),
    Field::optional("deadline", Kind::Duration, "10m", "How long a request may keep failing."),
];

/// How a client sends.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientSettings {
    /// The time limit of one attempt.
    pub timeout: Duration,
    /// Upper bound of requests per minute.
    pub rpm: Option<u64>,
    /// Upper bound of tokens per minute.
    pub tpm: Option<u64>,
    /// Upper bound of requests in flight.
    pub concurrency: Option<usize>,
    /// The shortest time between the starts of two requests.
    pub min_interval: Option<Duration>,
    /// How often a failed request is retried.
    pub retry: RetryPolicy,
    /// How long the endpoint may be down.
    pub max_outage: Duration,
    /// How long it may be unreachable before it ever responded.
    pub max_unreachable: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            rpm: None,
            tpm: None,
            concurrency: None,
            min_interval: None,
            retry: RetryPolicy::default(),
            max_outage: Duration::from_secs(15 * 60),
            max_unreachable: Duration::from_secs(8),
        }
    }
}

impl ClientSettings {
    /// Reads the keys of a mapping that was validated by the fields above, as far as it has them. Problems go to `problems`,
    /// and make `sound` false.
    pub fn read(record: &Record<'_>, sound: &mut bool, problems: &mut Diagnostics) -> Self {
        let mut settings = Self::default();
        let count = |record: &Record<'_>, name: &str| record.integer(name).and_then(|n| u64::try_from(n).ok());
        if let Some(timeout) = record.duration("timeout") {
            if timeout.is_zero() {
                *sound = false;
                problems.push(
                    Diagnostic::error("embed::timeout", "`timeout` must be longer than zero")
                        .at(record.span("timeout"), "here"),
                );
            }
            settings.timeout = timeout;
        }
        if let Some(limits) = record.record("limits") {
            settings.rpm = count(&limits, "rpm");
            settings.tpm = count(&limits, "tpm");
            settings.concurrency = count(&limits, "concurrency").and_then(|n| usize::try_from(n).ok());
            settings.min_interval = limits.duration("min_interval");
        }
        if let Some(retries) = count(record, "max_retries") {
            settings.retry.max_attempts = u32::try_from(retries).unwrap_or(u32::MAX).saturating_add(1);
        }
        if let Some(retry) = record.record("retry") {
            if let Some(attempts) = count(&retry, "max_attempts") {
                settings.retry.max_attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
            }
            if let Some(deadline) = retry.duration("deadline") {
                settings.retry.deadline = deadline;
            }
        }
        if let Some(outage) = record.duration("max_outage") {
            settings.max_outage = outage;
            settings.max_unreachable = outage;
        }
        settings
    }
}
