//! Texts to vectors: the providers and what they share.
//!
//! Owns the [`Provider`] contract, the [`PROVIDERS`] table, what `model:` mappings have in common ([`options`]) and the
//! columns of the result ([`rows`]). Must not know datasets, partitions, nodes or the terminal.
//!
//! Adding a provider: one file with a unit struct that implements [`ProviderType`], one line in [`PROVIDERS`].

mod bedrock;
mod cohere;
mod embedded;
mod embedding_cache;
mod gemini;
mod hash;
mod local_estimate;
mod model_files;
pub mod openai;
mod options;
mod provider;
mod rows;
mod static_model;
#[cfg(test)]
pub(crate) mod testing;

pub use embedded::Embedded;
pub use embedding_cache::EmbeddingCache;
pub use options::{COMMON, CommonOptions, DEFAULT_PROVIDER, OnTooLong, decode};
pub use provider::{DEFAULT_DIMENSIONS, Provider, ProviderSpec, ProviderType};
pub use rows::{EMPTY_TEXT, INVALID_VECTOR};

/// Every provider that ships, in the order of `flow ls providers`.
pub static PROVIDERS: &[&dyn ProviderType] =
    &[&openai::OpenAi, &cohere::Cohere, &gemini::Gemini, &bedrock::Bedrock, &static_model::Static, &hash::Hash];
