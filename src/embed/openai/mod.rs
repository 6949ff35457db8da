//! Provider `openai`: servers with OpenAI's embeddings protocol.
//!
//! Owns the protocol (requests, validation of responses, the meaning of errors) and the steps of a call: find the distinct
//! texts ([`plan`]), look them up in the cache, wait for those that other calls are requesting ([`in_flight`]), pack the
//! rest into requests ([`pack`]), send each until every text has a vector or an error ([`send`]), assemble the rows
//! ([`assembly`]). `net` decides when to send. Must not know datasets or partitions.

mod adapted;
mod assembly;
mod caching;
mod client_core;
mod endpoint;
mod exchange;
mod health;
mod in_flight;
mod learn_limit;
mod measure;
mod outcome;
mod pack;
mod part;
mod phrases;
mod plan;
mod probe;
mod profile;
mod provider;
mod reports;
mod request_fields;
mod request_limit;
mod response_verdict;
mod scrub;
mod send;
mod settings;
mod spend;
mod too_long;
pub mod wire;

use std::sync::Arc;

pub use adapted::Adapted;
pub use endpoint::Clients;
pub use profile::{KeyHeader, PROFILES, Profile};
pub use provider::OpenAiProvider;
pub use request_fields::RequestFields;
pub use settings::OpenAiSettings;

use super::{Provider, ProviderContext, ProviderSpec, ProviderType};
use crate::{
    cache::Store,
    config::{Field, Record},
    diagnostic::Diagnostics,
    model::{Fingerprint, ServiceError},
    net::EndpointRegistry,
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
    fn identity(&self, context: &ProviderContext) -> Result<Fingerprint, ServiceError> {
        Ok(self.rows_identity(&self.target(&context.environment)?))
    }

    fn missing_secrets(&self) -> Vec<String> {
        self.missing_key.iter().cloned().collect()
    }

    fn check(&self, context: &ProviderContext) -> Result<(), ServiceError> {
        let profile = self.target(&context.environment)?.profile;
        if self.missing_key.is_none() {
            let api_key = self.key(&profile, &context.environment)?;
            provider::headers(&Self { api_key, ..self.clone() }, &profile)?;
        }
        Store::check(&context.root.join(&self.cache.path), self.cache.mode)
            .map_err(|error| ServiceError::Refused(error.to_string()))
    }

    fn open(&self, context: &ProviderContext) -> Result<Arc<dyn Provider>, ServiceError> {
        Ok(Arc::new(OpenAiProvider::open(self.clone(), context, &EndpointRegistry::process())?))
    }
}
