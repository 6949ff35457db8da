//! Makes the release binary small. Packs the vocabularies of OpenAI's tokenizers for `src/net/vocabularies.rs`: 47 MB as the crate
//! `bpe-openai` has them, 9 MB without what counting does not use, and compressed.

#![expect(clippy::disallowed_methods, reason = "what cargo tells a build script is in its environment")]

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    io::{Error, Result},
    path::PathBuf,
};

use bpe_openai::{Tokenizer, byte_pair_encoding::BytePairEncoding, cl100k_base, o200k_base};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The fields of `BytePairEncoding`, in the order in which it serializes them. Fields of other types do not deserialize, and
/// other content fails the tests of `vocabularies.rs`.
#[derive(Serialize, Deserialize)]
struct Tables {
    all_tokens: Vec<u8>,
    token_starts: Vec<u32>,
    /// To look a token up by its bytes, which counting does not.
    bytes_hash_to_token: BTreeMap<u32, u32>,
    split_table: Vec<(u32, u32)>,
    pair_lookup: BTreeMap<(u32, u32), u32>,
    longest_searcher: Automaton,
    /// For encodings of all prefixes of a text.
    overlapping_searcher: Automaton,
    overlapping_searcher_rev: Automaton,
    next_prefix_match: Vec<u32>,
    hash_factor: u64,
}

/// A serialized automaton.
#[derive(Clone)]
struct Automaton(Vec<u8>);

impl Serialize for Automaton {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Automaton {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Automaton;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> std::result::Result<Automaton, E> {
                Ok(Automaton(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

fn tables(encoding: &BytePairEncoding) -> Result<Tables> {
    let bytes = rmp_serde::to_vec(encoding).map_err(Error::other)?;
    rmp_serde::from_slice(&bytes).map_err(Error::other)
}

/// Has the linker keep one of functions whose code is the same, where the linker is known to be able to: the one that comes with
/// Rust on Linux.
fn fold_identical_code() {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let own_linker = env::var_os("RUSTC_LINKER").is_some() || flags.contains("link");
    if is("PROFILE", "release") && is("TARGET", "x86_64-unknown-linux-gnu") && !own_linker {
        println!("cargo::rustc-link-arg-bin=flow=-Wl,--icf=all");
    }
}

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    fold_identical_code();
    let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| Error::other("no OUT_DIR"))?);
    // The highest level takes seconds more and saves a fifth.
    let level = if env::var("PROFILE").is_ok_and(|profile| profile == "release") { 19 } else { 1 };
    let empty = tables(&BytePairEncoding::from_dictionary((0..=u8::MAX).map(|byte| vec![byte]), None))?;
    let vocabularies: [(&str, &Tokenizer); 2] = [("cl100k_base", cl100k_base()), ("o200k_base", o200k_base())];
    for (name, tokenizer) in vocabularies {
        let packed = rmp_serde::to_vec(&Tables {
            bytes_hash_to_token: BTreeMap::new(),
            overlapping_searcher: empty.overlapping_searcher.clone(),
            overlapping_searcher_rev: empty.overlapping_searcher_rev.clone(),
            ..tables(&tokenizer.bpe)?
        });
        let packed = zstd::encode_all(packed.map_err(Error::other)?.as_slice(), level)?;
        fs::write(folder.join(format!("{name}.zst")), packed)?;
    }
    Ok(())
}
