//! Provider `bedrock`: Amazon Bedrock, `POST /model/…/invoke` with a bearer key, for Titan's and Cohere's models.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::{
    ProviderSpec, ProviderType, cohere,
    openai::{Ask, Dialect, KeyHeader, NATIVE_FIELDS, OpenAiSettings, Profile},
};
use crate::{
    config::{Field, Record},
    diagnostic::Diagnostics,
    net::ServiceEnvironment,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Bedrock;

/// Whether a model is Cohere's, also behind an inference profile (`us.cohere.…`).
fn is_cohere(model: &str) -> bool {
    model.split('.').any(|part| part == "cohere")
}

impl ProviderType for Bedrock {
    fn name(&self) -> &'static str {
        "bedrock"
    }

    fn doc(&self) -> &'static str {
        "Amazon Bedrock with a bearer key: Titan (one text in a request) and Cohere (up to 96)"
    }

    fn fields(&self) -> &'static [Field] {
        NATIVE_FIELDS
    }

    fn decode(&self, model: &Record<'_>, problems: &mut Diagnostics) -> Option<Arc<dyn ProviderSpec>> {
        let settings = OpenAiSettings::decode_native(model, &Self, "amazon.titan-embed-text-v2:0", problems)?;
        Some(Arc::new(settings))
    }
}

impl Dialect for Bedrock {
    fn profile(&self) -> Profile {
        Profile {
            name: "bedrock",
            // The region is part of the address.
            base_url: None,
            max_inputs: 1,
            key_header: KeyHeader::Bearer,
            key_variable: "AWS_BEARER_TOKEN_BEDROCK",
            ..Profile::NATIVE
        }
    }

    fn path(&self, model: &str) -> String {
        // The colon of a version is percent-encoded, as AWS's own clients do.
        format!("model/{}/invoke", model.replace(':', "%3A"))
    }

    fn max_inputs(&self, model: &str) -> usize {
        if is_cohere(model) { 96 } else { 1 }
    }

    fn body(&self, ask: &Ask<'_>, texts: &mut dyn Iterator<Item = &str>) -> Map<String, Json> {
        let mut body = Map::new();
        if is_cohere(ask.model) {
            body.insert("texts".into(), texts.collect());
            body.extend(cohere::fields(ask));
            return body;
        }
        body.insert("inputText".into(), json!(texts.next().unwrap_or_default()));
        if let Some(dimensions) = ask.dimensions {
            body.insert("dimensions".into(), json!(dimensions));
        }
        body
    }

    fn vectors<'j>(&self, body: &'j Json, ask: &Ask<'_>) -> Option<Vec<&'j Json>> {
        if is_cohere(ask.model) {
            return cohere::lists(body, ask);
        }
        body["embedding"].is_array().then(|| vec![&body["embedding"]])
    }

    fn base_url(&self, environment: &ServiceEnvironment) -> Option<String> {
        let region = environment.get("AWS_REGION").or_else(|| environment.get("AWS_DEFAULT_REGION"))?;
        Some(format!("https://bedrock-runtime.{}.amazonaws.com", region.trim()))
    }

    fn has_dtypes(&self, model: &str) -> bool {
        is_cohere(model)
    }

    fn tokens(&self, body: &Json) -> Option<u64> {
        body["inputTextTokenCount"].as_u64()
    }

    fn default_dimensions(&self, model: &str) -> Option<usize> {
        model.contains("titan-embed-text-v2").then_some(1024)
    }
}
