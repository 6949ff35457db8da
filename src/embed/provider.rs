//! The contract of a provider: its type, its checked settings, and the opened provider.
//!
//! Must not know any provider that implements it.

use std::{fmt, sync::Arc};

use arrow::array::StringArray;
use async_trait::async_trait;

use super::{context::ProviderContext, embedded::Embedded, error::EmbedError, estimate::Estimate};
use crate::{
    config::{Field, Record},
    diagnostic::Diagnostics,
    model::Fingerprint,
};

/// Assumed of a provider that does not know its own before the first answer.
pub const USUAL_DIMENSIONS: usize = 1536;

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
    /// Everything the vectors depend on (provider, endpoint, model and its files, dimensions, preprocessing), also what
    /// the mapping leaves to the environment, and no secret. Reads files, but reaches no network.
    ///
    /// # Errors
    /// When it cannot be told: no address, a model that is not there.
    fn identity(&self, context: &ProviderContext) -> Result<Fingerprint, EmbedError>;
    /// Variables that hold secrets this provider needs and that are not set; `flow run` stops with exit 3 on any.
    fn missing_secrets(&self) -> Vec<String> {
        Vec::new()
    }
    /// Tries what would keep the work from being done or its results from being kept, without a network: keys, folders.
    ///
    /// # Errors
    /// With what is wrong.
    fn check(&self, _: &ProviderContext) -> Result<(), EmbedError> {
        Ok(())
    }
    /// Loads the model or builds the client.
    ///
    /// # Errors
    /// When the model cannot be read or the endpoint's settings cannot work.
    fn open(&self, context: &ProviderContext) -> Result<Arc<dyn Provider>, EmbedError>;
}

/// An opened provider, shared by all partitions of a node.
#[async_trait]
pub trait Provider: fmt::Debug + Send + Sync {
    /// Embeds one partition's texts. The answer has one row for each text, in order. A row that cannot be embedded has
    /// a null vector and a reason; it never harms its neighbours. Null, empty and blank texts get `empty_text`.
    ///
    /// Cancel safe: dropping the future stops waiting; paid answers that arrived are in the cache.
    ///
    /// # Errors
    /// When the partition as a whole cannot be finished; see [`EmbedError`].
    async fn embed(&self, texts: &StringArray) -> Result<Embedded, EmbedError>;

    /// How many numbers a vector has, where that is known before the first answer.
    fn dimensions(&self) -> Option<usize> {
        None
    }

    /// About how many bytes a row takes while it is in work, beside its text: its vector, and what that arrives in.
    fn bytes_a_row(&self) -> usize {
        self.dimensions().unwrap_or(USUAL_DIMENSIONS) * size_of::<f32>()
    }

    /// What [`Provider::embed`] would cost for these texts, without sending anything. Calls add up: texts that an
    /// earlier call with the same `estimate` has seen count as already embedded.
    ///
    /// # Errors
    /// When the cache cannot be read.
    fn estimate(&self, texts: &StringArray, estimate: &mut Estimate) -> Result<(), EmbedError>;

    /// Asks the provider whether it would work (`flow check --online`).
    ///
    /// # Errors
    /// With what is wrong.
    async fn ping(&self) -> Result<(), EmbedError> {
        Ok(())
    }

    /// Waits until everything that was paid for is on disk.
    ///
    /// # Errors
    /// When the cache cannot be written.
    fn flush(&self) -> Result<(), EmbedError> {
        Ok(())
    }
}
