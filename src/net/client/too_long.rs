//! Parses error messages about texts that are too long, and shortens such texts.
//!
//! Owns the wordings of all servers. Pure: sends nothing.

use super::phrases::{first_number, last_number, number_after};
use crate::{model::is_blank, net::tokens::Counter};

/// The reason of an item that is longer than the service accepts.
pub const TOO_LONG: &str = "too_long";

/// What a message says about a text that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TooLong {
    /// The text's index in the request, if named.
    pub row: Option<usize>,
    /// The limit, if named.
    pub allowed: Option<u64>,
    /// The length of the text by the server's count, if named.
    pub found: Option<u64>,
    /// The unit of both numbers.
    pub unit: Unit,
}

/// A unit of length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// Tokens.
    #[default]
    Tokens,
    /// Characters.
    Characters,
}

/// Messages about a text that is too long contain one of these.
const MARKS: &[&str] = &[
    "maximum context length",
    "model's context length",
    "exceeds the context length",
    "exceed context window",
    "model's context window",
    "context window of",
    "context_length_exceeded",
    "available context size",
    "max context size",
    "maximum input length",
    "maximum model length",
    "max_model_len",
    "maximum length of",
    "maximum allowed token size",
    "maximum number of tokens allowed",
    "model's maximum",
    "must have less than",
    "should have at most",
    "string_too_long",
    "expected maxlength",
    "too large to process",
    "too many tokens",
    "too many input tokens",
    "input token count",
    "exceeding max",
    "text cannot exceed",
    "is too long",
    "input too long",
    "text too long",
    "string too long",
    "must match the size of tensor",
];

/// Messages with one of these are about a whole request.
const ABOUT_THE_REQUEST: &[&str] = &[
    "in batch",
    "per request",
    "per batch",
    "submitted batch",
    "tokens overall",
    "more batches",
    "in one batch",
    "array too long",
];

/// Phrases right before the limit, the most specific first.
const ALLOWED: &[&str] = &[
    "maximum input length of ",
    "maximum input length is ",
    "maximum context length is ",
    "maximum context length of ",
    "maximum context length (",
    "maximum context length: ",
    "context length is only ",
    "model's context length (",
    "(context length ",
    "context window of ",
    "context size (",
    "maximum model length of ",
    "maximum length of ",
    "current batch size: ",
    "must have less than ",
    "should have at most ",
    "expected maxlength: ",
    "max input tokens: ",
    "maximum allowed token size ",
    "number of tokens allowed (",
    "model supports up to ",
    "exceeding max ",
    "text cannot exceed ",
    "exceeds the limit of ",
    "exceeds limit of ",
    "cannot exceed ",
    "limit of ",
    "size of tensor b (",
];

/// Phrases right before the length of the text.
const FOUND: &[&str] = &[
    "you requested about ",
    "you requested ",
    "requested tokens (",
    "you passed ",
    "your request has ",
    "prompt contains at least ",
    "prompt contains ",
    "messages resulted in ",
    "request input token count: ",
    "input token count (",
    "input token count is ",
    "actual: ",
    "given: ",
    "(total length ",
    "(length ",
    "input length (",
    "input length ",
    "input prompt (",
    "the input (",
    "input (",
    "request (",
    "prompt is too long: ",
    "received ",
    "size of tensor a (",
];

/// Phrases right after the length of the text.
const FOUND_BEFORE: &[&str] = &[" tokens given", " tokens, exceeding max"];

/// Phrases right before the index of the text.
const ROW: &[&str] = &["input[", "inputs[", "input.list[str].", "input.", "example at index ", "input id "];

impl TooLong {
    /// Parses a message; `None` if it is not about a text that is too long. `rows` is the number of texts sent.
    pub fn read(message: &str, rows: usize) -> Option<Self> {
        let message = message.to_ascii_lowercase();
        if !MARKS.iter().any(|mark| message.contains(mark))
            || ABOUT_THE_REQUEST.iter().any(|word| message.contains(word))
        {
            return None;
        }
        let mut unit = Unit::Tokens;
        let allowed = ALLOWED.iter().find_map(|phrase| {
            let (_, rest) = message.split_once(phrase)?;
            let (number, rest) = first_number(rest)?;
            if rest.trim_start().starts_with("character") || *phrase == "expected maxlength: " {
                unit = Unit::Characters;
            }
            Some(number)
        });
        let found = FOUND
            .iter()
            .find_map(|phrase| number_after(&message, phrase))
            .or_else(|| FOUND_BEFORE.iter().find_map(|phrase| last_number(message.split_once(phrase)?.0)));
        // Inconsistent numbers are ignored.
        let allowed = allowed.filter(|allowed| *allowed > 0);
        let found = found.filter(|found| allowed.is_none_or(|allowed| *found > allowed));
        Some(Self { row: row_in(&message, rows), allowed, found, unit })
    }

    /// The beginning of a refused text that the server should accept. `attempt` is how often the text was shortened before.
    /// `None` if the limit is unknown, or nothing would remain.
    pub fn cut<'t>(&self, text: &'t str, counter: Counter, attempt: u32) -> Option<&'t str> {
        let allowed = self.allowed?;
        let end = match self.unit {
            Unit::Characters => {
                let most = usize::try_from(allowed).unwrap_or(usize::MAX);
                let spare = usize::try_from(attempt).unwrap_or(usize::MAX);
                text.char_indices().nth(most.saturating_sub(spare)).map(|(end, _)| end)?
            }
            Unit::Tokens => self.end_by_tokens(text, allowed, counter, attempt)?,
        };
        let cut = &text[..text.floor_char_boundary(end)];
        (cut.len() < text.len() && !is_blank(cut)).then_some(cut)
    }

    fn end_by_tokens(&self, text: &str, allowed: u64, counter: Counter, attempt: u32) -> Option<usize> {
        let length = text.len() as u64;
        // A token has at least one byte: the message is not about a shorter text.
        if length <= allowed {
            return None;
        }
        if counter.is_exact() {
            // The server may add a few special tokens to each text.
            let end = counter.cut(text, allowed.saturating_sub(u64::from(attempt) * 2).max(1));
            if end < text.len() {
                return Some(end);
            }
        }
        let per_mille = 1000 - 30 * u64::from(attempt).min(30);
        let end = match self.found.filter(|found| *found <= length + MAX_SPECIAL_TOKENS) {
            Some(found) => {
                (u128::from(length) * u128::from(allowed) * u128::from(per_mille) / 1000 / u128::from(found)) as u64
            }
            // About four bytes per token; then three, two, and one, which always fits.
            None => (1..=4).rev().map(|bytes| allowed.saturating_mul(bytes)).find(|end| *end < length)?,
        };
        usize::try_from(end).ok()
    }
}

/// The most special tokens that a server adds to a text.
const MAX_SPECIAL_TOKENS: u64 = 64;

/// The index of the text that a message names: `'$.input[37]' is invalid`.
pub fn row_in(message: &str, rows: usize) -> Option<usize> {
    let row = ROW.iter().find_map(|phrase| number_after(message, phrase))?;
    usize::try_from(row).ok().filter(|row| *row < rows)
}

#[cfg(test)]
mod tests;
