//! What every API of a language model has: a request from what is asked, an answer from a response.

use serde_json::{Map, Value as Json};

use crate::function::generate::{answer::Generated, format::Schema, image::Image};

/// What is sent, whatever the API.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The instructions before the prompt.
    pub system: Option<&'a str>,
    /// The prompt.
    pub prompt: &'a str,
    /// The image that goes with it, and how closely it is to be looked at.
    pub image: Option<(&'a Image, Option<&'a str>)>,
    /// The temperature.
    pub temperature: Option<f64>,
    /// The most tokens of the answer.
    pub max_tokens: Option<u64>,
    /// The seed.
    pub seed: Option<i64>,
    /// Whether the server is OpenAI's, whose newer models know other names.
    pub at_openai: bool,
}

/// An API of a language model.
pub trait Api: std::fmt::Debug + Send + Sync {
    /// The word under `api:`.
    fn name(&self) -> &'static str;
    /// The end of the address.
    fn path(&self) -> &'static str;
    /// The fields of a request, without those of the format.
    fn body(&self, ask: &Ask<'_>) -> Map<String, Json>;
    /// The fields that say what an answer has to look like, the same in all requests.
    fn format(&self, schema: &Schema) -> Map<String, Json>;
    /// The answer in a response.
    ///
    /// # Errors
    /// When it has another shape.
    fn read(&self, body: &Json) -> Result<Generated, String>;
}

/// Adds a field that is set.
pub(super) fn set(body: &mut Map<String, Json>, name: &str, value: Option<impl Into<Json>>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), value.into());
    }
}

/// The name of the schema in a request.
pub(super) const SCHEMA_NAME: &str = "answer";
