//! `POST /messages`: Anthropic's API. An answer with columns is the input of a tool that the model has to call: every model
//! and every compatible server can do that.

use serde_json::{Map, Value as Json, json};

use super::contract::{Api, Ask, SCHEMA_NAME, set};
use crate::function::generate::{
    answer::{End, Generated},
    format::Schema,
    image::Image,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Messages;

impl Api for Messages {
    fn name(&self) -> &'static str {
        "messages"
    }

    fn path(&self) -> &'static str {
        "messages"
    }

    fn body(&self, ask: &Ask<'_>) -> Map<String, Json> {
        let content = match ask.image {
            None => json!(ask.prompt),
            Some((image, _)) => {
                let source = match image {
                    Image::Address(address) => json!({"type": "url", "url": **address}),
                    Image::Data { media_type, base64, .. } => {
                        json!({"type": "base64", "media_type": media_type, "data": **base64})
                    }
                };
                json!([{"type": "image", "source": source}, {"type": "text", "text": ask.prompt}])
            }
        };
        let mut body = Map::new();
        body.insert("model".into(), json!(ask.model));
        set(&mut body, "max_tokens", ask.max_tokens);
        set(&mut body, "system", ask.system);
        body.insert("messages".into(), json!([{"role": "user", "content": content}]));
        set(&mut body, "temperature", ask.temperature);
        body
    }

    fn format(&self, schema: &Schema) -> Map<String, Json> {
        let tool = json!({"name": SCHEMA_NAME, "description": "The answer.", "input_schema": schema.schema});
        let choice = json!({"type": "tool", "name": SCHEMA_NAME});
        Map::from_iter([("tools".to_owned(), json!([tool])), ("tool_choice".to_owned(), choice)])
    }

    fn read(&self, body: &Json) -> Result<Generated, String> {
        let content = body["content"].as_array().ok_or("the response has no `content`")?;
        let called = content.iter().find(|part| part["type"] == "tool_use");
        let text = match called {
            Some(part) => part["input"].to_string(),
            None => content.iter().filter_map(|part| part["text"].as_str()).collect(),
        };
        let end = match body["stop_reason"].as_str() {
            Some("max_tokens" | "model_context_window_exceeded") => End::Length,
            Some("refusal") => End::Refused(if called.is_some() { String::new() } else { text.clone() }),
            _ => End::Complete,
        };
        // Tokens that were read from or written to the server's cache are counted apart.
        let usage = &body["usage"];
        let cached = ["cache_creation_input_tokens", "cache_read_input_tokens"];
        let cached: u64 = cached.iter().filter_map(|name| usage[*name].as_u64()).sum();
        Ok(Generated {
            text,
            end,
            input_tokens: usage["input_tokens"].as_u64().map(|tokens| tokens.saturating_add(cached)),
            output_tokens: usage["output_tokens"].as_u64(),
        })
    }
}
