//! Provider `openai`: servers with OpenAI's embeddings protocol.
//!
//! Owns the protocol (requests, validation of responses, the meaning of its errors: [`protocol`], [`judge`], [`wire`]) and
//! the steps of a call: find the distinct texts ([`plan`]), look them up in the cache, pack those that no other call is
//! requesting into requests ([`pack`]), pass them to the client of `net`, assemble the rows ([`assembly`]). `net` decides
//! when and how often to send. Providers with an API of their own (a [`Dialect`]) are this
//! one with other requests and responses. Must not know datasets or partitions.

mod adapted;
mod assembly;
mod dialect;
mod dtype;
mod judge;
mod native;
mod pack;
mod plan;
mod profile;
mod protocol;
mod provider;
mod request_fields;
mod settings;
pub mod wire;

use std::{path::Path, sync::Arc};

pub use adapted::Adapted;
pub use dialect::{Ask, Dialect};
pub use dtype::Dtype;
pub use profile::{KeyHeader, PROFILES, Profile};
pub use provider::OpenAiProvider;
pub use request_fields::RequestFields;
pub use settings::{NATIVE_FIELDS, OpenAiSettings};

use super::{Provider, ProviderSpec, ProviderType};
use crate::{
    cache::{CacheMode, Store},
    config::{Field, Record},
    diagnostic::Diagnostics,
    model::{Fingerprint, ServiceError},
    net::{EndpointRegistry, ServiceContext},
};

/// The provider type `openai`.
pub(super) struct OpenAi;

impl ProviderType for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn doc(&self) -> &'static str {
        "OpenAI, Azure OpenAI and compatible servers (vLLM, Ollama, TEI, llama.cpp): obeys rate limits, pays for nothing twice"
    }

    fn fields(&self) -> &'static [Field] {
        settings::FIELDS
    }

    fn decode(&self, model: &Record<'_>, problems: &mut Diagnostics) -> Option<Arc<dyn ProviderSpec>> {
        OpenAiSettings::decode(model, problems).map(|settings| Arc::new(settings) as Arc<dyn ProviderSpec>)
    }
}

impl ProviderSpec for OpenAiSettings {
    fn identity(&self, context: &ServiceContext) -> Result<Fingerprint, ServiceError> {
        Ok(self.rows_identity(&self.target(&context.environment)?))
    }

    fn missing_secrets(&self) -> Vec<String> {
        self.missing_key.iter().cloned().collect()
    }

    fn cache_mode(&self) -> CacheMode {
        self.cache_mode()
    }

    fn cache_folder(&self) -> Option<&Path> {
        self.cache.stored_in().filter(|_| self.cache_mode() == CacheMode::ReadWrite)
    }

    fn check(&self, context: &ServiceContext) -> Result<(), ServiceError> {
        let profile = self.target(&context.environment)?.profile;
        if self.missing_key.is_none() {
            let api_key = self.key(&profile, &context.environment)?;
            provider::headers(&Self { api_key, ..self.clone() }, &profile)?;
        }
        Store::check(&context.root.join(&self.cache.path), self.cache_mode())
            .map_err(|error| ServiceError::Refused(error.to_string()))
    }

    fn open(&self, context: &ServiceContext) -> Result<Arc<dyn Provider>, ServiceError> {
        Ok(Arc::new(OpenAiProvider::open(self.clone(), context, &EndpointRegistry::process())?))
    }
}
