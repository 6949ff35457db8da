//! HTTP status rules: the meaning of error responses for the items that were sent.
//!
//! One table for all protocols. What only a protocol can know (which parameters are its settings, how its addresses look) is
//! in its [`StatusRules`].

use super::{
    error_body::ErrorBody,
    request_limit::{Quantity, RequestLimit},
    too_long::{TooLong, row_in},
    verdict::{Cause, ResponseVerdict},
};
use crate::net::{Hints, RateLimited, Scope, wait_in_text};

/// What the table has to know of a protocol.
#[derive(Debug, Clone, Copy)]
pub struct StatusRules {
    /// What to do about a redirect.
    pub redirected: &'static str,
    /// What to check after "not found".
    pub not_found: &'static str,
    /// What to check after "method not allowed".
    pub method: &'static str,
    /// Whether a bad request is about the settings, and what to do then; the second argument is its message in lower case.
    pub about_the_settings: fn(&ErrorBody, &str) -> Option<&'static str>,
    /// Whether a bad request is about the items.
    pub about_the_items: fn(&ErrorBody, &str) -> bool,
}

impl StatusRules {
    /// The meaning of a response that is no success. `items` is the number of items sent.
    pub fn judge<A>(&self, status: u16, error: &ErrorBody, hints: &Hints, items: usize) -> ResponseVerdict<A> {
        match (hints.should_retry, self.by_status(status, error, items)) {
            (Some(true), ResponseVerdict::Divide { why, .. } | ResponseVerdict::Refused(why)) => {
                ResponseVerdict::retry(why, false)
            }
            (Some(false), ResponseVerdict::Retry { why, .. }) => ResponseVerdict::Divide { why, cause: Cause::Unclear },
            (_, ResponseVerdict::RateLimited { rate_limit, why }) if hints.at_once => {
                let rate_limit = RateLimited { scope: Some(Scope::Concurrency), ..rate_limit };
                ResponseVerdict::RateLimited { rate_limit, why }
            }
            (_, verdict) => verdict,
        }
    }

    /// The meaning of an error with status 200: the same table, by code or message.
    pub fn judge_in_a_200<A>(&self, error: &ErrorBody, items: usize) -> ResponseVerdict<A> {
        if let Some(status) = error.code.parse::<u16>().ok().filter(|code| (400..600).contains(code)) {
            return self.by_status(status, error, items);
        }
        let message = error.message.to_ascii_lowercase();
        // MiniMax: 1002 is its rate limit, 1008 an empty account.
        if error.code == "1002" || message.contains("rate limit") || error.code == "rate_limit_exceeded" {
            return too_many(describe(200, error), error, items);
        }
        if error.code == "1008" || is_about_the_account(error) {
            return ResponseVerdict::Exhausted(describe(200, error));
        }
        if error.code == "invalid_api_key" || error.code == "1004" || error.code == "model_not_found" {
            return ResponseVerdict::Refused(describe(200, error));
        }
        if error.kind == "invalid_request_error" {
            return self.bad_request(describe(200, error), error, items);
        }
        ResponseVerdict::retry_suspect(describe(200, error), false)
    }

    fn by_status<A>(&self, status: u16, error: &ErrorBody, items: usize) -> ResponseVerdict<A> {
        let why = describe(status, error);
        if matches!(status, 413 | 424 | 500)
            && let Some(cause) = too_large(error, items)
        {
            return ResponseVerdict::Divide { why, cause };
        }
        match status {
            201..=299 => ResponseVerdict::retry_unconfirmed(format!("{why}; expected status 200"), false),
            300..=399 => ResponseVerdict::Refused(format!("{why}: redirects are not followed; {}", self.redirected)),
            400 | 422 => self.bad_request(why, error, items),
            401 | 407 => ResponseVerdict::Refused(why),
            403 if is_about_the_account(error) => ResponseVerdict::Exhausted(why),
            403 => ResponseVerdict::Refused(why),
            404 => ResponseVerdict::Refused(format!("{why}; {}", self.not_found)),
            402 => ResponseVerdict::Exhausted(why),
            405 => ResponseVerdict::Refused(format!("{why}; {}", self.method)),
            408 => ResponseVerdict::retry_unconfirmed(why, true),
            409 | 425 => ResponseVerdict::retry(why, false),
            413 => ResponseVerdict::Divide { why, cause: Cause::Size(RequestLimit::BYTES) },
            424 | 500 => ResponseVerdict::retry_suspect(why, false),
            429 => too_many(why, error, items),
            400..=499 => ResponseVerdict::Divide { why, cause: Cause::Unclear },
            503 | 530 => ResponseVerdict::retry(why, true),
            502 | 504 | 520..=529 => ResponseVerdict::retry_unconfirmed(why, true),
            _ => ResponseVerdict::retry_suspect(why, false),
        }
    }

    fn bad_request<A>(&self, why: String, error: &ErrorBody, items: usize) -> ResponseVerdict<A> {
        let message = error.message.to_ascii_lowercase();
        if is_about_the_account(error) {
            return ResponseVerdict::Exhausted(why);
        }
        if let Some(cause) = too_large(error, items) {
            return ResponseVerdict::Divide { why, cause };
        }
        if let Some(row) = row_in(&message, items) {
            return ResponseVerdict::Divide { why, cause: Cause::Row(Some(row)) };
        }
        if (self.about_the_items)(error, &message) {
            return ResponseVerdict::Divide { why, cause: Cause::Row(None) };
        }
        match (self.about_the_settings)(error, &message) {
            Some("") => ResponseVerdict::Refused(why),
            Some(help) => ResponseVerdict::Refused(format!("{why}; {help}")),
            None => ResponseVerdict::Divide { why, cause: Cause::Unclear },
        }
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

/// What an error says about the size of the request or of a text in it, whatever its status.
fn too_large(error: &ErrorBody, items: usize) -> Option<Cause> {
    RequestLimit::read(&error.message, items)
        .or_else(|| RequestLimit::read(&error.code, items))
        .map(Cause::Size)
        .or_else(|| TooLong::read(&error.message, items).map(Cause::TooLong))
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

fn too_many<A>(why: String, error: &ErrorBody, items: usize) -> ResponseVerdict<A> {
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
            cause: if items > 1 {
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
        return ResponseVerdict::retry(why, true);
    }
    let wait = wait_in_text(&error.message);
    ResponseVerdict::RateLimited { rate_limit: RateLimited { scope, wait, limit }, why }
}
