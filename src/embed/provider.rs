//! The contract of a provider: its type, its checked settings, and the opened provider.
//!
//! Must not know any provider that implements it.

use std::{fmt, path::Path, sync::Arc};

use arrow::array::StringArray;
use async_trait::async_trait;

use super::embedded::Embedded;
use crate::{
    cache::CacheMode,
    config::{Field, Record},
    diagnostic::Diagnostics,
    model::{Estimate, Fingerprint, ServiceError},
    net::ServiceContext,
};

/// The assumed dimensions of a provider that learns its own from the first response.
pub const DEFAULT_DIMENSIONS: usize = 1536;

/// A kind of provider, as named under `provider:`.
pub trait ProviderType: Send + Sync {
    /// The word under `provider:`.
    fn name(&self) -> &'static str;
    /// One line for `flow ls providers`.
    fn doc(&self) -> &'static str;
    /// The keys of `model:` it understands, besides those of every provider (`provider`, `object`, `errors`).
    fn fields(&self) -> &'static [Field];
    /// Reads and checks a `model:` mapping. Pure: opens nothing, so that `flow check` works offline and without keys.
    /// Problems go to `problems`; `None` when there were any.
    fn decode(&self, model: &Record<'_>, problems: &mut Diagnostics) -> Option<Arc<dyn ProviderSpec>>;
}

/// A checked `model:` mapping, not yet opened.
pub trait ProviderSpec: fmt::Debug + Send + Sync {
    /// A digest of everything the vectors depend on (provider, endpoint, model and its files, dimensions, preprocessing),
    /// including what the mapping leaves to the environment, and without secrets. Reads files, but uses no network.
    ///
    /// # Errors
    /// When it is unknown: no address, a missing model.
    fn identity(&self, context: &ServiceContext) -> Result<Fingerprint, ServiceError>;
    /// Unset environment variables of secrets that this provider needs; `flow run` stops with exit 3 if there is any.
    fn missing_secrets(&self) -> Vec<String> {
        Vec::new()
    }
    /// Checks, without a network, that the work can be done and its results can be stored: keys, folders.
    ///
    /// # Errors
    /// With what is wrong.
    fn check(&self, _: &ServiceContext) -> Result<(), ServiceError> {
        Ok(())
    }
    /// Whether results that cost something are stored as they come. A model of this machine costs nothing.
    fn cache_mode(&self) -> CacheMode {
        CacheMode::ReadWrite
    }
    /// The folder that they are stored in, relative to the project; `None` where there is none.
    fn cache_folder(&self) -> Option<&Path> {
        None
    }
    /// Loads the model or builds the client.
    ///
    /// # Errors
    /// When the model cannot be read or the endpoint's settings cannot work.
    fn open(&self, context: &ServiceContext) -> Result<Arc<dyn Provider>, ServiceError>;
}

/// An opened provider, shared by all partitions of a node.
#[async_trait]
pub trait Provider: fmt::Debug + Send + Sync {
    /// Embeds the texts of one partition. The result has one row for each text, in order. A row that cannot be embedded has
    /// a null vector and a reason, and does not affect others. Null, empty and blank texts get `empty_text`.
    ///
    /// Cancel safe: dropping the future stops the wait; vectors that arrived are in the cache.
    ///
    /// # Errors
    /// When the partition as a whole cannot be finished; see [`ServiceError`].
    async fn embed(&self, texts: &StringArray) -> Result<Embedded, ServiceError>;

    /// The dimensions of the vectors, if known before the first response.
    fn dimensions(&self) -> Option<usize> {
        None
    }

    /// Approximate bytes of a row in work besides its text: its vector, and the response that contains it.
    fn bytes_per_row(&self) -> usize {
        self.dimensions().unwrap_or(DEFAULT_DIMENSIONS) * size_of::<f32>()
    }

    /// Adds what [`Provider::embed`] would cost for these texts to `estimate`, without sending anything. Texts that an
    /// earlier call with the same `estimate` has seen count as already embedded.
    ///
    /// # Errors
    /// When the cache cannot be read.
    fn estimate(&self, texts: &StringArray, estimate: &mut Estimate) -> Result<(), ServiceError>;

    /// Checks that the provider responds (`flow check --online`).
    ///
    /// # Errors
    /// With what is wrong.
    async fn ping(&self) -> Result<(), ServiceError> {
        Ok(())
    }

    /// Waits until everything that was paid for is on disk.
    ///
    /// # Errors
    /// When the cache cannot be written.
    async fn flush(&self) -> Result<(), ServiceError> {
        Ok(())
    }
}
