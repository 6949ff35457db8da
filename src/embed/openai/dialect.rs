//! How the embeddings API of a server differs from OpenAI's: its address, its requests, its responses.
//!
//! A native provider is a file that implements [`Dialect`] and [`ProviderType`](crate::embed::ProviderType); everything else
//! (limits, retries, the cache, the order of rows) is shared.

use serde_json::{Map, Value as Json};

use super::profile::Profile;
use crate::{embed::OnTooLong, net::ServiceEnvironment};

/// An embeddings API that is not OpenAI's.
pub trait Dialect: std::fmt::Debug + Send + Sync {
    /// Limits, defaults, and how the key is sent.
    fn profile(&self) -> Profile;

    /// The path of requests, after that of the base address.
    fn path(&self, model: &str) -> String;

    /// The body of a request with these texts.
    fn body(&self, ask: &Ask<'_>, texts: &mut dyn Iterator<Item = &str>) -> Map<String, Json>;

    /// The lists of numbers in a response, in the order of the texts.
    fn vectors<'j>(&self, body: &'j Json, ask: &Ask<'_>) -> Option<Vec<&'j Json>>;

    /// The tokens that the server counted.
    fn tokens(&self, _: &Json) -> Option<u64> {
        None
    }

    /// The length of the vectors, if nothing is configured and it is known.
    fn default_dimensions(&self, _model: &str) -> Option<usize> {
        None
    }

    /// The default address, as far as the environment says it.
    fn base_url(&self, _: &ServiceEnvironment) -> Option<String> {
        None
    }

    /// Whether the model makes other numbers than floats.
    fn has_dtypes(&self, _model: &str) -> bool {
        false
    }

    /// Texts in one request to this model.
    fn max_inputs(&self, _model: &str) -> usize {
        self.profile().max_inputs
    }
}

/// What is asked for, whatever the API.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The dimensions, if they are configured.
    pub dimensions: Option<usize>,
    /// What the texts are.
    pub input_type: Option<&'a str>,
    /// The type of numbers, as the API calls it, if it is not the usual one.
    pub dtype: Option<&'a str>,
    /// How a long text is handled.
    pub on_too_long: OnTooLong,
}
