//! Response headers and error messages that say when to send the next request.
//!
//! The input is written by servers: what cannot be parsed is ignored, and nothing panics.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;

/// Longer waits are implausible: ignored as `Retry-After`, clamped elsewhere, so that sums cannot overflow.
const MAX_WAIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// One rate limit as a server reports it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    /// The capacity of a window or of the full bucket.
    pub limit: f64,
    /// What remained of it after the request.
    pub remaining: f64,
    /// The time until it is full again.
    pub reset: Option<Duration>,
}

/// What one response says about later requests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hints {
    /// No request is to be sent before this has passed.
    pub retry_after: Option<Duration>,
    /// Whether the server recommends a retry.
    pub should_retry: Option<bool>,
    /// True when the response is a refusal for too many requests at the same time.
    pub at_once: bool,
    /// The limit on requests.
    pub requests: Option<Quota>,
    /// The limit on tokens.
    pub tokens: Option<Quota>,
    /// No request is left until this has passed, although this one succeeded.
    pub used_up: Option<Duration>,
}

impl Hints {
    /// The same with this part of the server's limits, of which other processes use the rest.
    #[must_use]
    pub fn shared(&self, share: f64) -> Self {
        let part = |quota: Option<Quota>| {
            quota.map(|quota| Quota { limit: quota.limit * share, remaining: quota.remaining * share, ..quota })
        };
        Self { requests: part(self.requests), tokens: part(self.tokens), ..self.clone() }
    }

    /// Reads the headers of a response. `now` is the wall clock, for dates in `Retry-After`.
    pub fn read(headers: &HeaderMap, now: SystemTime) -> Self {
        let Quotas { requests, tokens } = quotas(headers);
        Self {
            retry_after: retry_after(headers, now),
            should_retry: match header(headers, "x-should-retry") {
                Some("true") => Some(true),
                Some("false") => Some(false),
                _ => None,
            },
            at_once: ["rate_limit_type", "x-ratelimit-type"].iter().any(|name| {
                header(headers, name).is_some_and(|kind| kind.contains("parallel") || kind.contains("concurren"))
            }),
            requests,
            tokens,
            used_up: None,
        }
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

/// A finite and non-negative count.
fn count(headers: &HeaderMap, name: &str) -> Option<f64> {
    header(headers, name)?.parse::<f64>().ok().filter(|n| n.is_finite() && (0.0..=1e15).contains(n))
}

/// The tightest limits of each kind.
struct Quotas {
    requests: Option<Quota>,
    tokens: Option<Quota>,
}

/// Kinds of limits, as names of headers end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Requests,
    Tokens,
}

/// Reads the limits of any scope: `x-ratelimit-limit-tokens` (OpenAI, Azure), `x-ratelimit-limit-project-tokens`,
/// `x-ratelimit-api_key-limit-tokens` (LiteLLM), `x-ratelimit-limit-req-minute` (Mistral),
/// `anthropic-ratelimit-requests-limit`, and `RateLimit-Policy` with `RateLimit`.
fn quotas(headers: &HeaderMap) -> Quotas {
    let mut quotas = Quotas { requests: None, tokens: None };
    for (name, _) in headers {
        let Some(kind) = limit_kind(name.as_str()) else { continue };
        let Some(quota) = quota(headers, name.as_str()) else { continue };
        let known = match kind {
            Kind::Requests => &mut quotas.requests,
            Kind::Tokens => &mut quotas.tokens,
        };
        *known = tighter(*known, Some(quota));
    }
    quotas.requests = tighter(quotas.requests, standard(headers));
    quotas
}

/// The limit in the header of this name, with what the corresponding headers say.
fn quota(headers: &HeaderMap, name: &str) -> Option<Quota> {
    let limit = count(headers, name).filter(|limit| *limit > 0.0)?;
    // The prefix contains the word, too.
    let (prefix, rest) = name.split_at(name.find("ratelimit-")? + "ratelimit-".len());
    let named = |figure: &str| format!("{prefix}{}", rest.replacen("limit", figure, 1));
    let remaining = count(headers, &named("remaining"))?.min(limit);
    let reset = header(headers, &named("reset")).and_then(parse_go_duration);
    Some(Quota { limit, remaining, reset })
}

/// The kind of limit that a header of this name is about. `None` for other headers, limits that are not per minute, and limits
/// on responses.
fn limit_kind(name: &str) -> Option<Kind> {
    let rest = ["x-ratelimit-", "anthropic-ratelimit-"].iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let (mut is_limit, mut kind) = (false, None);
    for word in rest.split('-') {
        match word {
            "limit" => is_limit = true,
            "requests" | "request" | "req" => kind = Some(Kind::Requests),
            "tokens" | "token" => kind = Some(Kind::Tokens),
            "second" | "hour" | "day" | "month" | "output" | "generated" => return None,
            _ => {}
        }
    }
    kind.filter(|_| is_limit)
}

/// The limit of the IETF's draft: `RateLimit-Policy: "default";q=100;w=60` and `RateLimit: "default";r=50;t=30`.
fn standard(headers: &HeaderMap) -> Option<Quota> {
    let parameter = |header: &str, name: &str| -> Option<f64> {
        let value = header.split(',').next()?.split(';').find_map(|part| part.trim().strip_prefix(name))?;
        value.parse::<f64>().ok().filter(|n| n.is_finite() && (0.0..=1e12).contains(n))
    };
    let policy = header(headers, "ratelimit-policy")?;
    let state = header(headers, "ratelimit")?;
    let (quota, window) = (parameter(policy, "q=")?, parameter(policy, "w=").filter(|window| *window >= 1.0)?);
    let limit = quota * 60.0 / window;
    let reset = parameter(state, "t=").map(|seconds| Duration::from_secs_f64(seconds.min(MAX_WAIT.as_secs_f64())));
    Some(Quota { limit, remaining: parameter(state, "r=")?.min(limit), reset }).filter(|quota| quota.limit > 0.0)
}

/// Of an organisation's and a project's limit, the one with the smaller remaining share; on a tie, the smaller limit.
fn tighter(one: Option<Quota>, other: Option<Quota>) -> Option<Quota> {
    match (one, other) {
        (Some(a), Some(b)) => {
            let (left_a, left_b) = (a.remaining / a.limit, b.remaining / b.limit);
            let a_first = if left_a == left_b { a.limit <= b.limit } else { left_a < left_b };
            Some(if a_first { a } else { b })
        }
        (one, other) => one.or(other),
    }
}

/// `retry-after-ms` before `Retry-After` in seconds before `Retry-After` as a date. The date is compared with
/// the server's own `Date`, so that clock skew does not matter.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    // The second name is Azure's.
    let milliseconds = ["retry-after-ms", "x-ms-retry-after-ms"].iter().find_map(|name| header(headers, name));
    if let Some(wait) = milliseconds.and_then(|ms| seconds(ms, 1e-3)) {
        return Some(wait);
    }
    let value = header(headers, "retry-after")?;
    if let Some(wait) = seconds(value, 1.0) {
        return Some(wait);
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = header(headers, "date").and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    // A date in the past is ignored.
    until.duration_since(now).ok().filter(|wait| !wait.is_zero()).map(|wait| wait.min(MAX_WAIT))
}

/// A positive and plausible number of units of `scale` seconds.
fn seconds(text: &str, scale: f64) -> Option<Duration> {
    let number = text.parse::<f64>().ok()? * scale;
    (number > 0.0 && number <= MAX_WAIT.as_secs_f64()).then(|| Duration::from_secs_f64(number))
}

/// Parses a duration as Go prints it (`6m0s`, `2m59.56s`, `20ms`, `1µs`); a bare number is seconds. `None` for anything
/// else, negative durations included.
pub fn parse_go_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() || text.len() > 64 {
        return None;
    }
    if let Ok(bare) = text.parse::<f64>() {
        return (bare.is_finite() && bare >= 0.0).then(|| Duration::from_secs_f64(bare.min(MAX_WAIT.as_secs_f64())));
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit_end] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    total.is_finite().then(|| Duration::from_secs_f64(total.min(MAX_WAIT.as_secs_f64())))
}

/// The wait named in an error message: `Please try again in 510ms`, `Please retry after 3 seconds`.
pub fn wait_in_text(text: &str) -> Option<Duration> {
    const LEADS: &[&str] = &["try again in ", "retry after ", "retry in "];
    let lower = text.to_ascii_lowercase();
    let rest = LEADS.iter().find_map(|lead| lower.split_once(lead).map(|(_, rest)| rest))?;
    let mut words = rest.split_whitespace();
    let first = words.next()?.trim_end_matches(['.', ',', ';', ')']);
    if let Ok(number) = first.parse::<f64>() {
        let unit = words.next().unwrap_or("seconds");
        let scale = match unit {
            _ if unit.starts_with("milli") || unit.starts_with("ms") => 1e-3,
            _ if unit.starts_with("min") => 60.0,
            _ if unit.starts_with("hour") => 3600.0,
            _ => 1.0,
        };
        return (number.is_finite() && number > 0.0)
            .then(|| Duration::from_secs_f64((number * scale).min(MAX_WAIT.as_secs_f64())));
    }
    parse_go_duration(first).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
                (name, HeaderValue::from_bytes(value.as_bytes()).expect("a header value"))
            })
            .collect()
    }

    fn wait(pairs: &[(&str, &str)]) -> Option<f64> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        Hints::read(&headers(pairs), now).retry_after.map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn go_durations_are_parsed_exactly() {
        for (text, seconds) in [
            ("6m0s", 360.0),
            ("20ms", 0.02),
            ("2m59.56s", 179.56),
            ("1h", 3600.0),
            ("1h2m3s", 3723.0),
            ("0s", 0.0),
            ("8.64s", 8.64),
            ("1µs", 1e-6),
            ("1us", 1e-6),
            ("7", 7.0),
            ("0.5", 0.5),
        ] {
            let read = parse_go_duration(text).expect(text).as_secs_f64();
            assert!((read - seconds).abs() < 1e-9, "{text} read as {read}");
        }
        for nonsense in ["", "soon", "-1s", "-3", "1x", "s", "1m-3s", "1..2s", "NaN", "inf", "１s"] {
            assert_eq!(parse_go_duration(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn implausible_durations_are_clamped() {
        for text in ["1e300", "99999999999999999999h", "1000000000000000000000000000000s"] {
            assert_eq!(parse_go_duration(text), Some(MAX_WAIT), "{text}");
        }
    }

    #[test]
    fn milliseconds_take_precedence_over_seconds() {
        assert_eq!(wait(&[("retry-after-ms", "510"), ("retry-after", "1")]), Some(0.51));
        assert_eq!(wait(&[("retry-after-ms", "x"), ("retry-after", "2")]), Some(2.0));
        assert_eq!(wait(&[("retry-after", "1.5")]), Some(1.5));
    }

    #[test]
    fn a_date_is_compared_with_the_servers_clock() {
        let at = |seconds: u64| httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for skew in [0, 3600, 7200] {
            let server = 1_700_000_000 - 3600 + skew;
            assert_eq!(wait(&[("retry-after", &at(server + 3)), ("date", &at(server))]), Some(3.0));
        }
        assert_eq!(wait(&[("retry-after", &at(1_700_000_005))]), Some(5.0), "own clock without a Date header");
        assert_eq!(wait(&[("retry-after", &at(1_600_000_000))]), None, "a date that has passed");
    }

    #[test]
    fn invalid_waits_are_ignored() {
        for text in ["-1", "NaN", "abc", "", "0", "inf", "-inf", "1e308"] {
            assert_eq!(wait(&[("retry-after", text)]), None, "{text}");
        }
    }

    #[test]
    fn the_tighter_limit_of_organisation_and_project_applies() {
        let hints = Hints::read(
            &headers(&[
                ("x-ratelimit-limit-tokens", "1000000"),
                ("x-ratelimit-remaining-tokens", "900000"),
                ("x-ratelimit-reset-tokens", "6s"),
                ("x-ratelimit-limit-project-tokens", "100000"),
                ("x-ratelimit-remaining-project-tokens", "1000"),
                ("x-ratelimit-reset-project-tokens", "59.4s"),
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-requests", "59"),
                ("x-ratelimit-reset-requests", "1s"),
            ]),
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!(hints.tokens.map(|q| q.limit), Some(100_000.0));
        let reset = Some(Duration::from_secs(1));
        assert_eq!(hints.requests, Some(Quota { limit: 60.0, remaining: 59.0, reset }));
    }

    #[test]
    fn garbage_in_limits_is_ignored() {
        for (limit, remaining, reset) in
            [("soon", "1", "1s"), ("-5", "1", "1s"), ("0", "0", "1s"), ("1e30", "1", "1s"), ("60", "-1", "1s")]
        {
            let read = Hints::read(
                &headers(&[
                    ("x-ratelimit-limit-tokens", limit),
                    ("x-ratelimit-remaining-tokens", remaining),
                    ("x-ratelimit-reset-tokens", reset),
                ]),
                SystemTime::UNIX_EPOCH,
            );
            assert_eq!(read, Hints::default(), "{limit} {remaining} {reset}");
        }
        let read = Hints::read(
            &headers(&[
                ("x-ratelimit-limit-tokens", "60"),
                ("x-ratelimit-remaining-tokens", "100"),
                ("x-ratelimit-reset-tokens", "soon"),
            ]),
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!(read.tokens, Some(Quota { limit: 60.0, remaining: 60.0, reset: None }));
    }

    #[test]
    fn waits_in_error_messages() {
        for (text, seconds) in [
            ("Rate limit reached … Requested 8503. Please try again in 510ms. Visit …", Some(0.51)),
            ("Please try again in 6m0s.", Some(360.0)),
            ("Please retry after 3 seconds.", Some(3.0)),
            ("retry after 250 milliseconds", Some(0.25)),
            ("Please retry after 2 minutes", Some(120.0)),
            ("try again in a while", None),
            ("try again in ", None),
            ("too many requests", None),
        ] {
            assert_eq!(wait_in_text(text).map(|wait| wait.as_secs_f64()), seconds, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "\\PC{0,24}") {
            let _ = parse_go_duration(&text);
            let _ = wait_in_text(&format!("try again in {text}"));
        }

        #[test]
        fn any_go_duration_reads_back(h in 0u32..50, m in 0u32..60, ms in 0u32..60_000) {
            let text = format!("{h}h{m}m{}s", f64::from(ms) / 1000.0);
            let expected = f64::from(h) * 3600.0 + f64::from(m) * 60.0 + f64::from(ms) / 1000.0;
            let read = parse_go_duration(&text).expect("a duration").as_secs_f64();
            prop_assert!((read - expected).abs() < 1e-6);
        }
    }
}
