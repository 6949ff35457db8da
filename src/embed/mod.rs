//! Texts to vectors: the providers and what they share.
//!
//! Owns the [`Provider`] contract, the [`PROVIDERS`] table, what `model:` mappings have in common ([`options`]) and how
//! answers become rows ([`rows`]). Must not know datasets, partitions, nodes or the terminal.
//!
//! Adding a provider: one file with a unit struct that implements [`ProviderType`], one line in [`PROVIDERS`].

pub mod cache;
mod cores;
mod hash;
mod model_files;
pub mod openai;
mod options;
pub mod prices;
mod rows;
mod seen;
mod static_model;
#[cfg(test)]
mod testing;
pub mod tokens;

use std::{fmt, path::PathBuf, sync::Arc};

use arrow::array::{FixedSizeListArray, StringArray};
use async_trait::async_trait;

pub use options::{CacheOptions, CommonOptions, OnTooLong, decode};
pub use rows::{Distinct, EMPTY_TEXT, INVALID_VECTOR, Slots, TOO_LONG, is_blank};
pub use seen::Seen;

use crate::{
    config::{Field, Record},
    diagnostic::Diagnostics,
    model::{Fingerprint, Usage},
};

/// Every provider that ships, in the order of `flow ls providers`.
pub static PROVIDERS: &[&dyn ProviderType] = &[&openai::OpenAi, &static_model::Static, &hash::Hash];

/// The provider of a `model:` mapping that names none: it needs no key and no network.
pub const DEFAULT_PROVIDER: &str = "static";

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

/// What a provider may use of the process it runs in.
#[derive(Debug, Clone)]
pub struct ProviderContext {
    /// The project's folder; relative paths (models, cache) start here.
    pub root: PathBuf,
    /// Where to count requests, tokens and money.
    pub usage: Arc<Usage>,
    /// Hard cap on money, in billionths of a US dollar.
    pub max_cost_nano_usd: Option<u64>,
    /// Hard cap on requests.
    pub max_requests: Option<u64>,
    /// The process's environment, for addresses and keys that a mapping leaves out.
    pub environment: Environment,
    /// What nodes share that ask the same endpoint for the same vectors.
    pub clients: openai::Clients,
}

/// A way to look up environment variables; empty by default.
#[derive(Clone, Default)]
pub struct Environment(Option<Arc<Lookup>>);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Environment {
    /// Looks variables up with a function.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(lookup)))
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.as_ref().and_then(|lookup| lookup(name))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.write_str("Environment")
    }
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

/// The vectors of one partition.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// One vector a text, `FixedSizeList<Float32>`; null where `errors` has a reason.
    pub vectors: FixedSizeListArray,
    /// Why a row has no vector; null where all is well.
    pub errors: StringArray,
    /// How the rows came out.
    pub tally: RowTally,
}

/// How many rows came out how. `ok` holds rows embedded now; `cached` those that cost nothing because the text was
/// known (from the cache, or a duplicate).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RowTally {
    /// Embedded by the provider now.
    pub ok: u64,
    /// Answered from the cache or by an identical text.
    pub cached: u64,
    /// Without text: null, empty or blank.
    pub empty: u64,
    /// With an error of their own.
    pub error: u64,
}

impl RowTally {
    /// Adds the rows of another one.
    pub fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.cached += other.cached;
        self.empty += other.empty;
        self.error += other.error;
    }
}

/// What embedding would take.
#[derive(Debug, Default)]
pub struct Estimate {
    /// Texts seen, duplicates and empty ones included.
    pub rows: u64,
    /// Distinct texts that are not empty.
    pub unique_rows: u64,
    /// Rows that would cost nothing because the cache has them.
    pub cached_rows: u64,
    /// Requests that would be sent.
    pub requests: u64,
    /// Tokens that would be billed.
    pub tokens: u64,
    /// Their price, in billionths of a US dollar; `None` when no price is known.
    pub cost_nano_usd: Option<u64>,
    /// Texts seen so far, for telling duplicates. Once it is not exact, nor are the numbers above.
    pub seen: Seen,
}

/// Why a partition could not be embedded. Messages never hold a key.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The provider refuses us or is set up wrongly: bad key, unknown model, bad dimensions. Stops the run; exit 3.
    #[error("{0}")]
    Refused(String),
    /// Going on now is pointless, later it is not: quota used up, outage, spending cap. Stops the run; exit 75.
    #[error("{0}")]
    Stopped(String),
    /// This partition failed; others may go on. Exit 1.
    #[error("{0}")]
    Failed(String),
}
