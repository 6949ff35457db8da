//! `POST /chat/completions`: OpenAI's older API, which most servers speak.

use serde_json::{Map, Value as Json, json};

use super::contract::{Api, Ask, SCHEMA_NAME, set};
use crate::function::generate::{
    answer::{End, Generated},
    format::Schema,
};

/// See the module.
#[derive(Debug)]
pub(super) struct ChatCompletions;

impl Api for ChatCompletions {
    fn name(&self) -> &'static str {
        "chat_completions"
    }

    fn path(&self) -> &'static str {
        "chat/completions"
    }

    fn body(&self, ask: &Ask<'_>) -> Map<String, Json> {
        let content = match ask.image {
            None => json!(ask.prompt),
            Some((image, detail)) => {
                let mut address = json!({"url": image.to_address()});
                if let Some(detail) = detail {
                    address["detail"] = json!(detail);
                }
                json!([{"type": "text", "text": ask.prompt}, {"type": "image_url", "image_url": address}])
            }
        };
        let mut messages = Vec::with_capacity(2);
        if let Some(system) = ask.system {
            messages.push(json!({"role": "system", "content": system}));
        }
        messages.push(json!({"role": "user", "content": content}));
        let mut body = Map::new();
        body.insert("model".into(), json!(ask.model));
        body.insert("messages".into(), Json::Array(messages));
        set(&mut body, "temperature", ask.temperature);
        // OpenAI's models that reason refuse the older name.
        set(&mut body, if ask.at_openai { "max_completion_tokens" } else { "max_tokens" }, ask.max_tokens);
        set(&mut body, "seed", ask.seed);
        body
    }

    fn format(&self, schema: &Schema) -> Map<String, Json> {
        let format = json!({"name": SCHEMA_NAME, "strict": schema.strict, "schema": schema.schema});
        Map::from_iter([("response_format".to_owned(), json!({"type": "json_schema", "json_schema": format}))])
    }

    fn read(&self, body: &Json) -> Result<Generated, String> {
        let choice = body["choices"].get(0).ok_or("the response has no `choices`")?;
        let message = choice.get("message").ok_or("the choice has no `message`")?;
        let text = match &message["content"] {
            Json::String(text) => text.clone(),
            Json::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => String::new(),
        };
        let refusal = message["refusal"].as_str().filter(|words| !words.is_empty());
        let end = match (refusal, choice["finish_reason"].as_str()) {
            (Some(words), _) => End::Refused(words.to_owned()),
            (None, Some("length")) => End::Length,
            (None, Some("content_filter")) => End::Filtered(String::new()),
            (None, _) => End::Complete,
        };
        Ok(Generated {
            text,
            end,
            input_tokens: body["usage"]["prompt_tokens"].as_u64(),
            output_tokens: body["usage"]["completion_tokens"].as_u64(),
        })
    }
}
