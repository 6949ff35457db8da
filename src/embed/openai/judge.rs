//! The meaning of responses of OpenAI's protocol: of good ones, of what only embeddings can say, and the rules of its settings.

use super::wire::{self, Malformed, Vectors};
use crate::{
    model::Secret,
    net::{
        Hints, Response,
        client::{ErrorBody, ResponseVerdict, StatusRules, scrub, shorten},
    },
};

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

const RULES: StatusRules = StatusRules {
    redirected: "set `base_url` to the final address",
    not_found: "check `model`, and that `base_url` followed by `/embeddings` is the address",
    method: "check `base_url`",
    about_the_settings,
    about_the_items: |error, message| message.contains("$.input") || error.param.starts_with("input"),
};

/// Judges an attempt with a response. Whatever the server quotes of `secrets` is removed before anything is shortened.
/// [`ResponseVerdict::Resend`] means that the server does not support base64.
pub fn judge(response: &Response, hints: &Hints, sent: Sent, secrets: &[Secret]) -> ResponseVerdict<Vectors> {
    judge_with(RULES, response, hints, sent, secrets, |body| wire::decode(body, sent.rows, sent.dimensions))
}

/// [`judge`] for an API whose vectors `decode` finds.
pub fn judge_native(
    response: &Response,
    hints: &Hints,
    sent: Sent,
    secrets: &[Secret],
    decode: impl FnOnce(&[u8]) -> Result<Vectors, Malformed>,
) -> ResponseVerdict<Vectors> {
    let rules = StatusRules { not_found: "check `model` and `base_url`", ..RULES };
    judge_with(rules, response, hints, sent, secrets, decode)
}

fn judge_with(
    rules: StatusRules,
    response: &Response,
    hints: &Hints,
    sent: Sent,
    secrets: &[Secret],
    decode: impl FnOnce(&[u8]) -> Result<Vectors, Malformed>,
) -> ResponseVerdict<Vectors> {
    let without_key = |text: &str| scrub(secrets, text);
    if response.status != 200 {
        let error = ErrorBody::read(&response.body).scrubbed(without_key);
        if matches!(response.status, 400 | 422) && refuses_base64(&error, sent) {
            return ResponseVerdict::Resend;
        }
        return rules.judge(response.status, &error, hints, sent.rows);
    }
    match decode(&response.body) {
        Ok(vectors) if sent.base64 && !sent.proven && sent.rows > 1 && vectors.is_empty(sent.rows) => {
            ResponseVerdict::Resend
        }
        Ok(vectors) => ResponseVerdict::Answers(vectors),
        // Gateways answer so to base64 that the server behind them does not support.
        Err(Malformed::Count { got: 0, .. }) if sent.base64 && !sent.proven => ResponseVerdict::Resend,
        Err(error @ Malformed::OneIndex { .. }) => ResponseVerdict::OneAnswer(error.to_string()),
        Err(error @ Malformed::Count { got: 1, .. }) if sent.rows > 1 => ResponseVerdict::OneAnswer(error.to_string()),
        Err(Malformed::Error(error)) => {
            let error = error.scrubbed(without_key);
            let bad_request = matches!(error.code.as_str(), "400" | "422") || error.kind == "invalid_request_error";
            if bad_request && refuses_base64(&error, sent) {
                return ResponseVerdict::Resend;
            }
            rules.judge_in_a_200(&error, sent.rows)
        }
        // A length that no response ever had is permanent; one that contradicts earlier responses may be transient.
        Err(error @ Malformed::Dimensions { .. }) if !sent.proven => ResponseVerdict::Refused(format!(
            "{error}; set `dimensions` to those of the model, or choose another model"
        )),
        Err(error @ Malformed::Dimensions { .. }) => ResponseVerdict::Inconsistent(error.to_string()),
        Err(error) => ResponseVerdict::retry_suspect(shorten(&without_key(&error.to_string())), true),
    }
}

fn refuses_base64(error: &ErrorBody, sent: Sent) -> bool {
    let message = error.message.to_ascii_lowercase();
    let about = |parameter: &str| error.param == parameter || message.contains(parameter);
    sent.base64 && (about("encoding_format") || message.contains("base64"))
}

fn about_the_settings(error: &ErrorBody, message: &str) -> Option<&'static str> {
    if message.contains("input_type") {
        return Some("set `input_type` under `model:`");
    }
    let about = ["model", "dimensions", "encoding_format", "user", "api-version", "api_version"]
        .iter()
        .any(|parameter| error.param == *parameter)
        || ["model_not_found", "invalid_api_key", "unknown_parameter", "unsupported_parameter", "deploymentnotfound"]
            .contains(&error.code.to_ascii_lowercase().as_str())
        || message.contains("dimensions")
        || message.contains("encoding_format")
        || message.contains("unrecognized request argument")
        || message.contains("unknown parameter")
        || message.contains("api key");
    about.then_some("")
}

#[cfg(test)]
mod wordings;
