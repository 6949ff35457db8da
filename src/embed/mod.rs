//! Texts to vectors: the providers and what they share.
//!
//! Owns the [`Provider`] contract, the [`PROVIDERS`] table, what `model:` mappings have in common ([`options`]) and the
//! columns of the result ([`rows`]). Must not know datasets, partitions, nodes or the terminal.
//!
//! Adding a provider: one file with a unit struct that implements [`ProviderType`], one line in [`PROVIDERS`].

mod context;
mod cpu_permits;
mod embedded;
mod embedding_cache;
mod hash;
mod model_files;
mod notices;
pub mod openai;
mod options;
pub mod prices;
mod provider;
mod rows;
mod static_model;
#[cfg(test)]
mod testing;
pub mod tokens;

pub use context::{ProviderContext, ProviderEnvironment};
pub use embedded::Embedded;
pub use embedding_cache::EmbeddingCache;
pub use notices::{Notice, Notices};
pub use options::{CommonOptions, DEFAULT_PROVIDER, OnTooLong, decode};
pub use provider::{DEFAULT_DIMENSIONS, Provider, ProviderSpec, ProviderType};
pub use rows::{EMPTY_TEXT, INVALID_VECTOR, TOO_LONG, is_blank};

/// Every provider that ships, in the order of `flow ls providers`.
pub static PROVIDERS: &[&dyn ProviderType] = &[&openai::OpenAi, &static_model::Static, &hash::Hash];
