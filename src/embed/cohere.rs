//! Provider `cohere`: Cohere's API, `POST /v2/embed`.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::{
    OnTooLong, ProviderSpec, ProviderType,
    openai::{Ask, Dialect, KeyHeader, NATIVE_FIELDS, OpenAiSettings, Profile},
};
use crate::{
    config::{Field, Record},
    diagnostic::Diagnostics,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Cohere;

impl ProviderType for Cohere {
    fn name(&self) -> &'static str {
        "cohere"
    }

    fn doc(&self) -> &'static str {
        "Cohere's own API: up to 96 texts in a request, `input_type`, `dtype`"
    }

    fn fields(&self) -> &'static [Field] {
        NATIVE_FIELDS
    }

    fn decode(&self, model: &Record<'_>, problems: &mut Diagnostics) -> Option<Arc<dyn ProviderSpec>> {
        let settings = OpenAiSettings::decode_native(model, &Self, "embed-v4.0", problems)?;
        Some(Arc::new(settings))
    }
}

impl Dialect for Cohere {
    fn profile(&self) -> Profile {
        Profile {
            name: "cohere",
            base_url: Some("https://api.cohere.com/v2"),
            max_inputs: 96,
            max_tokens: 120_000,
            key_header: KeyHeader::Bearer,
            key_variable: "CO_API_KEY",
            ..Profile::NATIVE
        }
    }

    fn path(&self, _: &str) -> String {
        "embed".to_owned()
    }

    fn body(&self, ask: &Ask<'_>, texts: &mut dyn Iterator<Item = &str>) -> Map<String, Json> {
        let mut body = Map::new();
        body.insert("model".into(), json!(ask.model));
        body.insert("texts".into(), texts.collect());
        body.extend(fields(ask));
        body
    }

    fn vectors<'j>(&self, body: &'j Json, ask: &Ask<'_>) -> Option<Vec<&'j Json>> {
        lists(body, ask)
    }

    fn has_dtypes(&self, _: &str) -> bool {
        true
    }

    fn tokens(&self, body: &Json) -> Option<u64> {
        body["meta"]["billed_units"]["input_tokens"].as_u64()
    }

    fn default_dimensions(&self, model: &str) -> Option<usize> {
        match model {
            "embed-v4.0" => Some(1536),
            "embed-english-v3.0" | "embed-multilingual-v3.0" => Some(1024),
            _ => None,
        }
    }
}

/// The fields of a request that the model knows wherever it is served.
pub(super) fn fields(ask: &Ask<'_>) -> Map<String, Json> {
    let mut fields = Map::new();
    // Every model needs one.
    fields.insert("input_type".into(), json!(ask.input_type.unwrap_or("search_document")));
    fields.insert("embedding_types".into(), json!([kind(ask)]));
    let truncate = if ask.on_too_long == OnTooLong::Truncate { "END" } else { "NONE" };
    fields.insert("truncate".into(), json!(truncate));
    if let Some(dimensions) = ask.dimensions {
        fields.insert("output_dimension".into(), json!(dimensions));
    }
    fields
}

fn kind<'a>(ask: &Ask<'a>) -> &'a str {
    ask.dtype.unwrap_or("float")
}

/// The vectors of a response.
pub(super) fn lists<'j>(body: &'j Json, ask: &Ask<'_>) -> Option<Vec<&'j Json>> {
    Some(body["embeddings"][kind(ask)].as_array()?.iter().collect())
}
