//! Token counts: exact if the model's tokenizer is known, otherwise estimated from the length of the text.

use bpe_openai::Tokenizer;

use crate::net::vocabularies::{cl100k, o200k};

/// The longest token of the cl100k vocabulary, in bytes (a sequence of spaces).
const LONGEST_TOKEN: usize = 128;
/// Assumed bytes per token without a tokenizer: too low for English, about right for code.
const BYTES_PER_TOKEN: usize = 3;

/// How the tokens of a model are counted. Special tokens such as `<|endoftext|>` are plain text, as they are for the
/// endpoint that bills them.
#[derive(Clone, Copy)]
pub enum Counter {
    /// With the model's own tokenizer.
    Exact(&'static Tokenizer),
    /// By length.
    Estimate,
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_exact() { "Exact" } else { "Estimate" })
    }
}

impl Counter {
    /// The counter for a model: exact for OpenAI's.
    pub fn of(model: &str) -> Self {
        const O200K: &[&str] = &["gpt-4o", "chatgpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "o1", "o3", "o4-mini"];
        const CL100K: &[&str] = &["gpt-4", "gpt-3.5-turbo"];
        // Gateways prefix the vendor: `openai/text-embedding-3-small`.
        let name = model.rsplit('/').next().unwrap_or(model);
        // A version or a size follows: `gpt-4o-mini-2024-07-18`, `gpt-5.1`.
        let is_one_of = |families: &[&str]| {
            families.iter().any(|family| {
                name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
            })
        };
        match name {
            "text-embedding-3-small" | "text-embedding-3-large" | "text-embedding-ada-002" => Self::Exact(cl100k()),
            _ if is_one_of(O200K) => Self::Exact(o200k()),
            _ if is_one_of(CL100K) => Self::Exact(cl100k()),
            _ => Self::Estimate,
        }
    }

    /// Whether counts are exact.
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Exact(_))
    }

    /// The tokens of a text. Linear in its length.
    pub fn count(self, text: &str) -> u64 {
        match self {
            Self::Exact(tokenizer) => tokenizer.count(text) as u64,
            Self::Estimate => text.len().div_ceil(BYTES_PER_TOKEN) as u64,
        }
    }

    /// An upper bound of [`Counter::count`], in constant time.
    pub fn at_most(self, text: &str) -> u64 {
        match self {
            // Every token has at least one byte.
            Self::Exact(_) => text.len() as u64,
            Self::Estimate => self.count(text),
        }
    }

    /// The end of the longest prefix with at most `limit` tokens; the text's length if all of it fits. Always a character
    /// boundary.
    pub fn cut(self, text: &str, limit: u64) -> usize {
        if self.at_most(text) <= limit {
            return text.len();
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let Self::Exact(tokenizer) = self else {
            return text.floor_char_boundary(limit.saturating_mul(BYTES_PER_TOKEN));
        };
        // Only what could fit is tokenized, so a text of ten megabytes costs no more than its beginning.
        let within = text.floor_char_boundary(limit.saturating_mul(LONGEST_TOKEN).min(text.len()));
        let mut left = limit;
        let mut end = 0;
        for word in tokenizer.split(&text[..within]) {
            let tokens = tokenizer.bpe.encode_via_backtracking(word.as_bytes());
            if tokens.len() > left {
                let bytes: usize = tokens[..left].iter().map(|token| tokenizer.bpe.token_len(*token)).sum();
                end += bytes;
                break;
            }
            left -= tokens.len();
            end += word.len();
        }
        let mut end = text.floor_char_boundary(end);
        // The end of a text is tokenized differently from its middle.
        while end > 0 && tokenizer.count(&text[..end]) > limit {
            end = text.floor_char_boundary(end - 1);
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact() -> Counter {
        Counter::of("text-embedding-3-small")
    }

    #[test]
    fn openai_models_are_counted_exactly() {
        assert!(exact().is_exact());
        assert!(Counter::of("openai/text-embedding-ada-002").is_exact());
        for model in ["gpt-4o-mini", "openai/gpt-4.1-nano-2025-04-14", "gpt-5.1", "gpt-4-0613", "gpt-3.5-turbo", "o3"] {
            assert!(Counter::of(model).is_exact(), "{model}");
        }
        for model in ["nomic-embed-text", "gpt-oss-20b", "llama-3", "o365"] {
            assert!(!Counter::of(model).is_exact(), "{model}");
        }
        let text = "Schönheit 漢字 naïve";
        assert_ne!(Counter::of("gpt-4o").count(text), Counter::of("gpt-4").count(text), "two vocabularies");
        for (text, tokens) in [("hello world", 2), ("tiktoken is great!", 6), ("", 0), ("<|endoftext|>", 7)] {
            assert_eq!(exact().count(text), tokens, "{text}");
        }
        assert_eq!(Counter::Estimate.count("1234567"), 3);
    }

    #[test]
    fn a_cut_text_is_as_long_as_allowed() {
        let text = "word ".repeat(9000);
        let end = exact().cut(&text, 8192);
        assert_eq!(exact().count(&text[..end]), 8192);
        assert_eq!(exact().cut("short", 8192), 5);
    }

    #[test]
    fn exactly_the_limit_is_not_cut() {
        let text = format!("word{}", " word".repeat(8191));
        assert_eq!(exact().count(&text), 8192);
        assert_eq!(exact().cut(&text, 8192), text.len());
        assert_eq!(exact().cut(&text, 8191), text.len() - " word".len());
    }

    #[test]
    fn a_long_text_without_spaces_is_cut_in_linear_time() {
        let text = "a".repeat(10_000_000);
        let end = exact().cut(&text, 8192);
        assert!(end >= 8192 && exact().count(&text[..end]) <= 8192);
    }

    proptest! {
        #[test]
        fn a_cut_is_between_characters_and_fits(text in "[a-zé😀 \\n<|>]{0,200}", limit in 1u64..40) {
            for counter in [exact(), Counter::Estimate] {
                let end = counter.cut(&text, limit);
                prop_assert!(text.is_char_boundary(end));
                prop_assert!(counter.count(&text[..end]) <= limit);
                prop_assert!(counter.count(&text) > limit || end == text.len());
            }
        }

        #[test]
        fn the_bound_holds(text in "\\PC{0,60}") {
            prop_assert!(exact().count(&text) <= exact().at_most(&text));
        }
    }
}
