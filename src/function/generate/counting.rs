//! The tokens of a request before it is sent: exactly for models whose tokenizer is known, and the most that can be billed.

use super::{prompts::Prompt, settings::GenerateSettings};
use crate::net::tokens::Counter;

/// Tokens around a message: its begin, its role, its end.
const MESSAGE: u64 = 4;
/// Tokens with which the answer begins.
const REPLY: u64 = 3;
/// Bytes of a request that are neither its prompt nor configured.
const FRAME: u64 = 64;

/// How the tokens of requests are counted.
#[derive(Debug, Clone, Copy)]
pub struct Counting {
    counter: Counter,
    /// Tokens that every request has: instructions, schema, what is around messages.
    fixed: u64,
    /// The most that the server may count for these.
    fixed_most: u64,
    /// The most tokens of an image.
    image: u64,
}

impl Counting {
    /// For requests with these settings.
    pub fn of(settings: &GenerateSettings) -> Self {
        // Anthropic's tokenizer is not published.
        let counter = if settings.anthropic { Counter::Estimate } else { Counter::of(&settings.model) };
        let system = settings.system.as_deref();
        let schema = settings.format.text();
        let count = |text: Option<&str>| text.map_or(0, |text| counter.count(text));
        let bytes = |text: Option<&str>| text.map_or(0, |text| text.len() as u64);
        let messages = 1 + u64::from(system.is_some());
        // A server may add field names that the request does not have.
        let extra = serde_json::Value::Object(settings.extra_body.clone()).to_string();
        Self {
            counter,
            fixed: count(system) + count(schema.as_deref()) + messages * MESSAGE + REPLY,
            fixed_most: bytes(system) + 2 * bytes(schema.as_deref()) + bytes(Some(&extra)) + FRAME,
            image: settings.image.as_ref().map_or(0, |image| image.max_tokens),
        }
    }

    /// The counter of texts.
    pub fn counter(&self) -> Counter {
        self.counter
    }

    /// The tokens of a request.
    pub fn count(&self, prompt: &Prompt) -> u64 {
        self.fixed + self.counter.count(&prompt.text) + self.image_of(prompt)
    }

    /// The most tokens that a server can bill for a request: no tokenizer makes more than one of a byte.
    pub fn most(&self, prompt: &Prompt) -> u64 {
        self.fixed_most + prompt.text.len() as u64 + self.image_of(prompt)
    }

    /// Bytes of a request that are tokens.
    pub fn bytes(&self, prompt: &Prompt) -> u64 {
        self.fixed_most + prompt.text.len() as u64
    }

    fn image_of(&self, prompt: &Prompt) -> u64 {
        if prompt.image.is_some() { self.image } else { 0 }
    }
}
