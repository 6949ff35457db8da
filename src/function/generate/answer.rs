//! What a model wrote: its text, why it ended, what it cost, and what is kept of it in the cache.

use std::sync::Arc;

use serde_json::{Value as Json, json};

/// What a response contains.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Generated {
    /// The text, or the JSON of an answer with columns.
    pub text: String,
    /// Why it ended.
    pub end: End,
    /// The tokens of the request as the server counted them.
    pub input_tokens: Option<u64>,
    /// The tokens that the model wrote, as the server counted them.
    pub output_tokens: Option<u64>,
}

/// Why a model stopped writing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum End {
    /// It had finished.
    #[default]
    Complete,
    /// It reached the limit on tokens.
    Length,
    /// The server's filter removed the answer, or refused the prompt.
    Filtered(String),
    /// The model declined to answer, with these words.
    Refused(String),
}

impl End {
    fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Length => "length",
            Self::Filtered(_) => "content_filter",
            Self::Refused(_) => "refused",
        }
    }

    /// Why a row has no answer; `None` if it has one.
    pub fn reason(&self) -> Option<String> {
        let with = |words: &str| if words.is_empty() { String::new() } else { format!(": {words}") };
        match self {
            Self::Complete => None,
            Self::Length => Some("length: the answer reached `max_tokens`".to_owned()),
            Self::Filtered(words) | Self::Refused(words) => Some(format!("{}{}", self.word(), with(words))),
        }
    }
}

impl Generated {
    /// As it is kept.
    pub fn to_json(&self) -> Json {
        let mut kept =
            json!({"text": self.text, "input_tokens": self.input_tokens, "output_tokens": self.output_tokens});
        if self.end != End::Complete {
            kept["end"] = json!(self.end.word());
        }
        if let End::Filtered(words) | End::Refused(words) = &self.end {
            kept["why"] = json!(words);
        }
        kept
    }

    /// From what is kept.
    pub fn from_json(kept: &Json) -> Option<Self> {
        let words = || kept["why"].as_str().unwrap_or_default().to_owned();
        let end = match kept.get("end").map(Json::as_str) {
            None => End::Complete,
            Some(Some("length")) => End::Length,
            Some(Some("content_filter")) => End::Filtered(words()),
            Some(Some("refused")) => End::Refused(words()),
            Some(_) => return None,
        };
        Some(Self {
            text: kept["text"].as_str()?.to_owned(),
            end,
            input_tokens: kept["input_tokens"].as_u64(),
            output_tokens: kept["output_tokens"].as_u64(),
        })
    }
}

/// An answer with the values of its columns.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What the model wrote.
    pub generated: Generated,
    /// The value of each column, or why there are none.
    pub values: Result<Vec<Json>, Arc<str>>,
}

impl Answer {
    /// The values as `read` finds them in a complete text.
    pub fn new(generated: Generated, read: impl FnOnce(&str) -> Result<Vec<Json>, String>) -> Self {
        let values = match generated.end.reason() {
            Some(reason) => Err(reason.into()),
            None => read(&generated.text).map_err(|why| format!("invalid_answer: {why}").into()),
        };
        Self { generated, values }
    }

    /// Whether the model finished, and wrote something else than was asked for.
    pub fn is_invalid(&self) -> bool {
        self.generated.end == End::Complete && self.values.is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back() {
        for end in [End::Complete, End::Length, End::Filtered(String::new()), End::Refused("I can't.".into())] {
            let one = Generated { text: "a \"b\"".into(), end, input_tokens: Some(3), output_tokens: None };
            assert_eq!(Generated::from_json(&one.to_json()), Some(one));
        }
        assert_eq!(Generated::from_json(&json!({"text": "a", "end": "new"})), None);
        assert_eq!(Generated::from_json(&json!([1])), None);
    }
}
