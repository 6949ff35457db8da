//! The meaning of responses and failures for the texts that were sent: the table of errors.

use super::{
    request_limit::{Quantity, RequestLimit},
    scrub::scrub,
    too_long::{TooLong, row_in},
    wire::{self, ErrorBody, Malformed, Vectors},
};
use crate::{
    model::Secret,
    net::{Hints, RateLimited, Response, Scope, WireError, wait_in_text},
};

/// What an attempt means for its request.
#[derive(Debug)]
pub enum ResponseVerdict {
    /// It succeeded.
    Vectors(Vectors),
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
        /// True when the texts may be the cause: after a few attempts, the request is divided.
        suspect: bool,
        /// True when it may be a sign of overload.
        congested: bool,
        /// Only the connection failed: it is sent again at once.
        at_once: bool,
        /// True when it may have been billed although the result did not arrive.
        billed: bool,
    },
    /// Complete vectors of another length than earlier ones, perhaps transiently.
    InconsistentDimensions(String),
    /// It failed permanently; smaller requests may succeed.
    Divide {
        /// The message; the error of the row if it has a single text.
        why: String,
        /// The cause.
        cause: Cause,
    },
    /// The server does not support base64: numbers are requested instead.
    NoBase64,
    /// One vector for several texts, or vectors that cannot be told apart, perhaps transiently.
    OneVector(String),
    /// No request can succeed until the settings change: key, model, address.
    Refused(String),
    /// No request can succeed for now: the quota is used up.
    Exhausted(String),
}

/// Why a request has to be divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The request is too large.
    Size(RequestLimit),
    /// A text in it is refused; its index, if named.
    Row(Option<usize>),
    /// A text is too long.
    TooLong(TooLong),
    /// Unknown; it may even be the settings.
    Unclear,
}

/// What is needed of a request to judge its response.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// The number of texts.
    pub rows: usize,
    /// The expected dimensions, if known.
    pub dimensions: Option<usize>,
    /// Whether an earlier response had vectors of that length.
    pub proven: bool,
    /// Whether base64 was requested.
    pub base64: bool,
}

/// Judges an attempt with a response. Whatever the server quotes of `key` is removed before anything is shortened.
pub fn judge(response: &Response, hints: &Hints, sent: Sent, key: Option<&Secret>) -> ResponseVerdict {
    let without_key = |text: &str| scrub(key, text);
    match response.status {
        200 => match wire::decode(&response.body, sent.rows, sent.dimensions) {
            Ok(vectors) if sent.base64 && !sent.proven && sent.rows > 1 && vectors.is_empty(sent.rows) => {
                ResponseVerdict::NoBase64
            }
            Ok(vectors) => ResponseVerdict::Vectors(vectors),
            // Gateways answer so to base64 that the server behind them does not support.
            Err(Malformed::Count { got: 0, .. }) if sent.base64 && !sent.proven => ResponseVerdict::NoBase64,
            Err(error @ Malformed::OneIndex { .. }) => ResponseVerdict::OneVector(error.to_string()),
            Err(error @ Malformed::Count { got: 1, .. }) if sent.rows > 1 => {
                ResponseVerdict::OneVector(error.to_string())
            }
            Err(Malformed::Error(error)) => in_a_200(&error.scrubbed(without_key), sent),
            // A length that no response ever had is permanent; one that contradicts earlier responses may be transient.
            Err(error @ Malformed::Dimensions { .. }) if !sent.proven => ResponseVerdict::Refused(format!(
                "{error}; set `dimensions` to those of the model, or choose another model"
            )),
            Err(error @ Malformed::Dimensions { .. }) => ResponseVerdict::InconsistentDimensions(error.to_string()),
            Err(error) => ResponseVerdict::Retry {
                why: wire::shorten(&without_key(&error.to_string())),
                suspect: true,
                congested: false,
                at_once: false,
                billed: true,
            },
        },
        status => {
            let error = ErrorBody::read(&response.body).scrubbed(without_key);
            match (hints.should_retry, by_status(status, &error, sent)) {
                (Some(true), ResponseVerdict::Divide { why, .. } | ResponseVerdict::Refused(why)) => retry(why, false),
                (Some(false), ResponseVerdict::Retry { why, .. }) => {
                    ResponseVerdict::Divide { why, cause: Cause::Unclear }
                }
                (_, ResponseVerdict::RateLimited { rate_limit, why }) if hints.at_once => {
                    let rate_limit = RateLimited { scope: Some(Scope::Concurrency), ..rate_limit };
                    ResponseVerdict::RateLimited { rate_limit, why }
                }
                (_, verdict) => verdict,
            }
        }
    }
}

/// Judges an attempt without a response.
pub fn judge_failure(error: &WireError) -> ResponseVerdict {
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

fn retry(why: String, congested: bool) -> ResponseVerdict {
    ResponseVerdict::Retry { why, suspect: false, congested, at_once: false, billed: false }
}

/// As [`retry`], for responses of a proxy whose server may have done the work.
fn retry_unconfirmed(why: String, congested: bool) -> ResponseVerdict {
    ResponseVerdict::Retry { why, suspect: false, congested, at_once: false, billed: true }
}

fn by_status(status: u16, error: &ErrorBody, sent: Sent) -> ResponseVerdict {
    let why = describe(status, error);
    if matches!(status, 413 | 424 | 500)
        && let Some(cause) = too_large(error, sent)
    {
        return ResponseVerdict::Divide { why, cause };
    }
    match status {
        201..=299 => retry_unconfirmed(format!("{why}; expected status 200"), false),
        300..=399 => {
            ResponseVerdict::Refused(format!("{why}: redirects are not followed; set `base_url` to the final address"))
        }
        400 | 422 => bad_request(why, error, sent),
        401 | 407 => ResponseVerdict::Refused(why),
        403 if is_about_the_account(error) => ResponseVerdict::Exhausted(why),
        403 => ResponseVerdict::Refused(why),
        404 => ResponseVerdict::Refused(format!(
            "{why}; check `model`, and that `base_url` followed by `/embeddings` is the address"
        )),
        402 => ResponseVerdict::Exhausted(why),
        405 => ResponseVerdict::Refused(format!("{why}; check `base_url`")),
        408 => retry_unconfirmed(why, true),
        409 | 425 => retry(why, false),
        413 => ResponseVerdict::Divide { why, cause: Cause::Size(RequestLimit::BYTES) },
        424 | 500 => ResponseVerdict::Retry { why, suspect: true, congested: false, at_once: false, billed: false },
        429 => too_many(why, error, sent),
        400..=499 => ResponseVerdict::Divide { why, cause: Cause::Unclear },
        503 | 530 => retry(why, true),
        502 | 504 | 520..=529 => retry_unconfirmed(why, true),
        _ => ResponseVerdict::Retry { why, suspect: true, congested: false, at_once: false, billed: false },
    }
}

/// `429 rate_limit_exceeded: Rate limit reached …`.
fn describe(status: u16, error: &ErrorBody) -> String {
    let code = if error.code.is_empty() || error.code == "null" || error.code == status.to_string() {
        &error.kind
    } else {
        &error.code
    };
    let message = error.short_message();
    match (code.is_empty(), message.is_empty()) {
        (true, true) => status.to_string(),
        (true, false) => format!("{status}: {message}"),
        (false, true) => format!("{status} {code}"),
        (false, false) => format!("{status} {code}: {message}"),
    }
}

fn bad_request(why: String, error: &ErrorBody, sent: Sent) -> ResponseVerdict {
    let message = error.message.to_ascii_lowercase();
    let about = |parameter: &str| error.param == parameter || message.contains(parameter);
    if sent.base64 && (about("encoding_format") || message.contains("base64")) {
        return ResponseVerdict::NoBase64;
    }
    if is_about_the_account(error) {
        return ResponseVerdict::Exhausted(why);
    }
    if let Some(cause) = too_large(error, sent) {
        return ResponseVerdict::Divide { why, cause };
    }
    if let Some(row) = row_in(&message, sent.rows) {
        return ResponseVerdict::Divide { why, cause: Cause::Row(Some(row)) };
    }
    if message.contains("$.input") || error.param.starts_with("input") {
        return ResponseVerdict::Divide { why, cause: Cause::Row(None) };
    }
    if message.contains("input_type") {
        return ResponseVerdict::Refused(format!("{why}; set `input_type` under `model:`"));
    }
    let about_the_settings = ["model", "dimensions", "encoding_format", "user", "api-version", "api_version"]
        .iter()
        .any(|parameter| error.param == *parameter)
        || ["model_not_found", "invalid_api_key", "unknown_parameter", "unsupported_parameter", "deploymentnotfound"]
            .contains(&error.code.to_ascii_lowercase().as_str())
        || message.contains("dimensions")
        || message.contains("encoding_format")
        || message.contains("unrecognized request argument")
        || message.contains("unknown parameter")
        || message.contains("api key");
    if about_the_settings {
        return ResponseVerdict::Refused(why);
    }
    ResponseVerdict::Divide { why, cause: Cause::Unclear }
}

/// What an error says about the size of the request or of a text in it, whatever its status.
fn too_large(error: &ErrorBody, sent: Sent) -> Option<Cause> {
    RequestLimit::read(&error.message, sent.rows)
        .or_else(|| RequestLimit::read(&error.code, sent.rows))
        .map(Cause::Size)
        .or_else(|| TooLong::read(&error.message, sent.rows).map(Cause::TooLong))
}

fn is_about_the_account(error: &ErrorBody) -> bool {
    const CODES: &[&str] = &[
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
    ];
    // DashScope's `Arrearage`; Zhipu's 1113 and MiniMax's 1008 come with words.
    const WORDS: &[&str] = &[
        "insufficient balance",
        "balance is insufficient",
        "insufficient credit",
        "credit balance is too low",
        "requires more credits",
        "more credits are required",
        "in good standing",
        "api calls / month",
        "欠费",
        "余额不足",
    ];
    let message = error.message.to_lowercase();
    // Google says so of limits per minute too, with the time to wait.
    let per_minute = message.contains("retry in") || message.contains("/rate-limits");
    let quota = message.contains("exceeded your current quota") && !per_minute;
    quota
        || error.code == "Arrearage"
        || CODES.iter().any(|code| error.code == *code || error.kind == *code)
        || WORDS.iter().any(|words| message.contains(words))
}

/// Words of refusals that are about requests at the same time, not about their rate.
const AT_ONCE: &[&str] = &[
    "parallel",
    "concurren",
    "simultaneous",
    "at the same time",
    "in-flight requests",
    "in flight requests",
    "requests in flight",
    "queue is full",
];

fn too_many(why: String, error: &ErrorBody, sent: Sent) -> ResponseVerdict {
    let message = error.message.to_ascii_lowercase();
    if is_about_the_account(error) {
        return ResponseVerdict::Exhausted(why);
    }
    let number_after = |word: &str| -> Option<f64> {
        let (_, rest) = message.split_once(word)?;
        let digits: String =
            rest.chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',').collect();
        digits.parse().ok()
    };
    let limit = number_after("limit ").or_else(|| number_after("limit: "));
    let requested = number_after("requested ").or_else(|| number_after("requested: "));
    if let (Some(limit), Some(requested)) = (limit, requested)
        && requested > limit
    {
        // It exceeds the limit, however long one waits.
        return ResponseVerdict::Divide {
            why,
            cause: if sent.rows > 1 {
                let (allowed, found) = (Some(limit as u64), Some(requested as u64));
                Cause::Size(RequestLimit { of: Quantity::Tokens, allowed, found })
            } else {
                Cause::TooLong(TooLong::default())
            },
        };
    }
    let at_once = [&message, &error.code.to_ascii_lowercase(), &error.kind.to_ascii_lowercase()]
        .iter()
        .any(|text| AT_ONCE.iter().any(|words| text.contains(words)));
    let scope = if at_once {
        Some(Scope::Concurrency)
    } else if message.contains("(tpm)")
        || message.contains("tokens per min")
        || message.contains("limit type: tokens")
        || error.kind == "tokens"
    {
        Some(Scope::Tokens)
    } else if message.contains("(rpm)")
        || message.contains("requests per min")
        || message.contains("limit type: requests")
        || error.kind == "requests"
    {
        Some(Scope::Requests)
    } else {
        None
    };
    if error.kind == "overloaded" {
        return retry(why, true);
    }
    let wait = wait_in_text(&error.message);
    ResponseVerdict::RateLimited { rate_limit: RateLimited { scope, wait, limit }, why }
}

/// Errors with status 200: the same table, by code or message.
fn in_a_200(error: &ErrorBody, sent: Sent) -> ResponseVerdict {
    if let Some(status) = error.code.parse::<u16>().ok().filter(|code| (400..600).contains(code)) {
        return by_status(status, error, sent);
    }
    let message = error.message.to_ascii_lowercase();
    // MiniMax: 1002 is its rate limit, 1008 an empty account.
    if error.code == "1002" || message.contains("rate limit") || error.code == "rate_limit_exceeded" {
        return too_many(describe(200, error), error, sent);
    }
    if error.code == "1008" || is_about_the_account(error) {
        return ResponseVerdict::Exhausted(describe(200, error));
    }
    if error.code == "invalid_api_key" || error.code == "1004" || error.code == "model_not_found" {
        return ResponseVerdict::Refused(describe(200, error));
    }
    if error.kind == "invalid_request_error" {
        return bad_request(describe(200, error), error, sent);
    }
    ResponseVerdict::Retry { why: describe(200, error), suspect: true, congested: false, at_once: false, billed: false }
}

#[cfg(test)]
mod wordings;
