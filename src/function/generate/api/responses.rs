//! `POST /responses`: OpenAI's newer API.

use serde_json::{Map, Value as Json, json};

use super::contract::{Api, Ask, SCHEMA_NAME, set};
use crate::function::generate::{
    answer::{End, Generated},
    format::Schema,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Responses;

impl Api for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }

    fn path(&self) -> &'static str {
        "responses"
    }

    fn body(&self, ask: &Ask<'_>) -> Map<String, Json> {
        let mut content = vec![json!({"type": "input_text", "text": ask.prompt})];
        if let Some((image, detail)) = ask.image {
            let mut part = json!({"type": "input_image", "image_url": image.to_address()});
            if let Some(detail) = detail {
                part["detail"] = json!(detail);
            }
            content.push(part);
        }
        let mut body = Map::new();
        body.insert("model".into(), json!(ask.model));
        set(&mut body, "instructions", ask.system);
        body.insert("input".into(), json!([{"role": "user", "content": content}]));
        set(&mut body, "temperature", ask.temperature);
        set(&mut body, "max_output_tokens", ask.max_tokens);
        set(&mut body, "seed", ask.seed);
        body
    }

    fn format(&self, schema: &Schema) -> Map<String, Json> {
        let format = json!({
            "type": "json_schema", "name": SCHEMA_NAME, "strict": schema.strict, "schema": schema.schema,
        });
        Map::from_iter([("text".to_owned(), json!({"format": format}))])
    }

    fn read(&self, body: &Json) -> Result<Generated, String> {
        let output = body["output"].as_array().ok_or("the response has no `output`")?;
        let parts = || {
            let messages = output.iter().filter(|item| item["type"] == "message");
            messages.flat_map(|item| item["content"].as_array().into_iter().flatten())
        };
        let text = parts().filter_map(|part| part["text"].as_str()).collect();
        let refusal = parts().find_map(|part| part["refusal"].as_str());
        let end = match (refusal, body["status"].as_str(), body["incomplete_details"]["reason"].as_str()) {
            (Some(words), _, _) => End::Refused(words.to_owned()),
            (_, Some("incomplete"), Some("content_filter")) => End::Filtered(String::new()),
            (_, Some("incomplete"), _) => End::Length,
            (_, Some("completed") | None, _) => End::Complete,
            (_, Some(status), _) => return Err(format!("the response has the status `{status}`")),
        };
        Ok(Generated {
            text,
            end,
            input_tokens: body["usage"]["input_tokens"].as_u64(),
            output_tokens: body["usage"]["output_tokens"].as_u64(),
        })
    }
}
