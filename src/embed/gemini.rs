//! Provider `gemini`: Google's Gemini API, `POST /v1beta/models/…:batchEmbedContents`.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::{
    ProviderSpec, ProviderType,
    openai::{Ask, Dialect, KeyHeader, NATIVE_FIELDS, OpenAiSettings, Profile},
};
use crate::{
    config::{Field, Record},
    diagnostic::Diagnostics,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Gemini;

impl ProviderType for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn doc(&self) -> &'static str {
        "Google's Gemini API: up to 100 texts in a request; shortened vectors are normalized"
    }

    fn fields(&self) -> &'static [Field] {
        NATIVE_FIELDS
    }

    fn decode(&self, model: &Record<'_>, problems: &mut Diagnostics) -> Option<Arc<dyn ProviderSpec>> {
        let mut settings = OpenAiSettings::decode_native(model, &Self, "gemini-embedding-001", problems)?;
        // The server normalizes vectors of full length only.
        if model.bool("normalize").is_none() {
            settings.normalize = true;
        }
        Some(Arc::new(settings))
    }
}

impl Dialect for Gemini {
    fn profile(&self) -> Profile {
        Profile {
            name: "gemini",
            base_url: Some("https://generativelanguage.googleapis.com/v1beta"),
            max_inputs: 100,
            max_tokens: 200_000,
            max_input_tokens: None,
            key_header: KeyHeader::Google,
            key_variable: "GEMINI_API_KEY",
            ..Profile::NATIVE
        }
    }

    fn path(&self, model: &str) -> String {
        format!("models/{}:batchEmbedContents", model.trim_start_matches("models/"))
    }

    fn body(&self, ask: &Ask<'_>, texts: &mut dyn Iterator<Item = &str>) -> Map<String, Json> {
        let model = format!("models/{}", ask.model.trim_start_matches("models/"));
        let request = |text: &str| {
            let mut request = json!({"model": model, "content": {"parts": [{"text": text}]}});
            if let Some(kind) = ask.input_type {
                request["taskType"] = json!(kind);
            }
            if let Some(dimensions) = ask.dimensions {
                request["outputDimensionality"] = json!(dimensions);
            }
            request
        };
        let mut body = Map::new();
        body.insert("requests".into(), texts.map(request).collect());
        body
    }

    fn vectors<'j>(&self, body: &'j Json, _: &Ask<'_>) -> Option<Vec<&'j Json>> {
        Some(body["embeddings"].as_array()?.iter().map(|one| &one["values"]).collect())
    }

    fn default_dimensions(&self, model: &str) -> Option<usize> {
        (model == "gemini-embedding-001").then_some(3072)
    }
}
