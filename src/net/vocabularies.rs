//! The tokenizers of OpenAI's models, unpacked when they are first used.
//!
//! They count tokens, and find the tokens of a text from its begin. The other encodings of their type have no tables: `build.rs`
//! leaves them out, and compresses the rest.

use std::sync::LazyLock;

use bpe_openai::{Tokenizer, byte_pair_encoding::BytePairEncoding};

/// How a text is cut into words before their tokens are counted, as OpenAI publishes it for this vocabulary: the first of these
/// that fits, then spaces.
const CL100K_WORDS: &[&str] = &[
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"\s*[\r\n]+",
    r"\s+$",
];
/// The same for the newer vocabulary, which cuts words of mixed case where capitals begin.
const O200K_WORDS: &[&str] = &[
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+$",
];

static CL100K: LazyLock<Tokenizer> =
    LazyLock::new(|| unpack(include_bytes!(concat!(env!("OUT_DIR"), "/cl100k_base.zst")), CL100K_WORDS));
static O200K: LazyLock<Tokenizer> =
    LazyLock::new(|| unpack(include_bytes!(concat!(env!("OUT_DIR"), "/o200k_base.zst")), O200K_WORDS));

/// Of the embedding models, GPT-4 and GPT-3.5.
pub fn cl100k() -> &'static Tokenizer {
    &CL100K
}

/// Of GPT-4o and everything after it.
pub fn o200k() -> &'static Tokenizer {
    &O200K
}

/// # Panics
/// If the tables are not those that the build has packed.
#[expect(clippy::unwrap_used, reason = "both are constants of the build")]
fn unpack(packed: &[u8], words: &[&str]) -> Tokenizer {
    let tables: BytePairEncoding = rmp_serde::from_slice(&zstd::decode_all(packed).unwrap()).unwrap();
    // OpenAI's `\s+(?!\S)`, spaces up to the one before a word, is spaces with one character more that is given back.
    let patterns = [(&*words.join("|"), false), (r"\s+\s", true), (r"\s+", false)];
    Tokenizer::new_lookahead(tables, &patterns, false).unwrap()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_are_those_of_the_crate_that_the_tables_come_from(text in "(\\PC|[ \n\r\t'/]|'ll|[A-Z]{1,3}[a-z]{0,3}|[0-9]){0,40}") {
            for (ours, theirs) in [(cl100k(), bpe_openai::cl100k_base()), (o200k(), bpe_openai::o200k_base())] {
                prop_assert_eq!(ours.encode(text.as_str()), theirs.encode(text.as_str()));
                prop_assert_eq!(ours.count(text.as_str()), theirs.count(text.as_str()));
                let (mine, other) = (ours.split(&text).collect::<Vec<_>>(), theirs.split(&text).collect::<Vec<_>>());
                prop_assert_eq!(&mine, &other);
                for word in mine {
                    let tokens = ours.bpe.encode_via_backtracking(word.as_bytes());
                    prop_assert_eq!(&tokens, &theirs.bpe.encode_via_backtracking(word.as_bytes()));
                    prop_assert!(tokens.iter().all(|token| ours.bpe.token_len(*token) == theirs.bpe.token_len(*token)));
                }
            }
        }
    }
}
