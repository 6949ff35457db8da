//! A language model that answers by rules: OpenAI's chat completions and responses, and Anthropic's messages.
//!
//! An answer follows from the prompt and the schema alone, so that a test can say what belongs to which row.

use bpe_openai::o200k_base;
use serde_json::{Map, Value as Json, json};

/// What is asked, whatever the API.
#[derive(Debug, Clone, Default)]
pub struct Prompted {
    /// `chat/completions`, `responses` or `messages`.
    pub api: &'static str,
    pub system: Option<String>,
    pub text: String,
    /// The address or the media type of the image.
    pub image: Option<String>,
    pub schema: Option<Json>,
    pub max_tokens: Option<u64>,
}

/// Why the model stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Complete,
    Length,
    Refusal,
    Filter,
}

const APIS: [&str; 3] = ["chat/completions", "responses", "messages"];

/// The paths that it serves.
pub fn serves(line: &str) -> bool {
    let path = line.split_whitespace().nth(1).unwrap_or_default();
    line.starts_with("POST ") && APIS.iter().any(|api| path.ends_with(&format!("/{api}")))
}

/// Reads a request.
pub fn read(path: &str, body: &Json) -> Option<Prompted> {
    let api = APIS.into_iter().find(|api| path.ends_with(&format!("/{api}")))?;
    let mut out = Prompted { api, ..Prompted::default() };
    let turns = if api == "responses" { &body["input"] } else { &body["messages"] };
    let system = if api == "messages" { &body["system"] } else { &body["instructions"] };
    out.system = system.as_str().map(str::to_owned);
    for turn in turns.as_array()? {
        if turn["role"] == "system" {
            out.system = Some(turn["content"].as_str()?.to_owned());
            continue;
        }
        if let Some(text) = turn["content"].as_str() {
            out.text = text.to_owned();
        }
        for part in turn["content"].as_array().into_iter().flatten() {
            if let Some(text) = part["text"].as_str() {
                out.text = text.to_owned();
            }
            let address = part["image_url"].as_str().or_else(|| part["image_url"]["url"].as_str());
            let source = part["source"]["url"].as_str().or_else(|| part["source"]["media_type"].as_str());
            out.image = out.image.or_else(|| address.or(source).map(str::to_owned));
        }
    }
    let format = match api {
        "chat/completions" => &body["response_format"]["json_schema"]["schema"],
        "responses" => &body["text"]["format"]["schema"],
        _ => &body["tools"][0]["input_schema"],
    };
    out.schema = Some(format.clone()).filter(|schema| !schema.is_null());
    let names = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    out.max_tokens = names.iter().find_map(|name| body[*name].as_u64());
    Some(out)
}

fn tokens(text: &str) -> u64 {
    o200k_base().count(text) as u64
}

/// The tokens of a request: each message has three tokens around it and one for its role, the answer begins with three.
pub fn input_tokens(asked: &Prompted) -> u64 {
    let message = |text: &str| 4 + tokens(text);
    let schema = asked.schema.as_ref().map_or(0, |schema| tokens(&schema.to_string()));
    asked.system.as_deref().map_or(0, message) + message(&asked.text) + schema + 3
}

/// A number that follows from a text.
fn number(text: &str, salt: &str) -> u64 {
    let digest = blake3::hash(format!("{salt}/{text}").as_bytes());
    u64::from_le_bytes(digest.as_bytes()[..8].try_into().expect("eight bytes")) >> 16
}

/// The answer to a prompt: the last line of it, or what fits the schema.
pub fn answer(asked: &Prompted) -> String {
    match &asked.schema {
        None => format!("You said: {}", asked.text.lines().last().unwrap_or_default().trim()),
        Some(schema) => value(schema, &asked.text, "").to_string(),
    }
}

fn value(schema: &Json, text: &str, at: &str) -> Json {
    let n = number(text, at);
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.is_empty()) {
        return words[n as usize % words.len()].clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            let each = properties.iter().map(|(name, of)| (name.clone(), value(of, text, &format!("{at}/{name}"))));
            Json::Object(each.collect::<Map<_, _>>())
        }
        Some("array") => {
            Json::Array((0..=n % 2).map(|k| value(&schema["items"], text, &format!("{at}/{k}"))).collect())
        }
        Some("integer") => json!(n % 100),
        Some("number") => json!((n % 100) as f64 / 100.0),
        Some("boolean") => json!(n.is_multiple_of(2)),
        _ => json!(text.lines().last().unwrap_or_default().trim()),
    }
}

/// The body of a response with this text.
pub fn reply(asked: &Prompted, text: &str, stop: Stop) -> Json {
    let (input, output) = (input_tokens(asked), tokens(text).max(1).min(asked.max_tokens.unwrap_or(u64::MAX)));
    match asked.api {
        "chat/completions" => {
            let finish = match stop {
                Stop::Length => "length",
                Stop::Filter => "content_filter",
                Stop::Complete | Stop::Refusal => "stop",
            };
            let message = match stop {
                Stop::Refusal => json!({"role": "assistant", "content": null, "refusal": text}),
                _ => json!({"role": "assistant", "content": text, "refusal": null}),
            };
            json!({
                "object": "chat.completion",
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output},
            })
        }
        "responses" => {
            let (status, reason) = match stop {
                Stop::Length => ("incomplete", json!({"reason": "max_output_tokens"})),
                Stop::Filter => ("incomplete", json!({"reason": "content_filter"})),
                Stop::Complete | Stop::Refusal => ("completed", Json::Null),
            };
            let part = match stop {
                Stop::Refusal => json!({"type": "refusal", "refusal": text}),
                _ => json!({"type": "output_text", "text": text}),
            };
            json!({
                "object": "response", "status": status, "incomplete_details": reason, "error": null,
                "output": [{"type": "message", "role": "assistant", "content": [part]}],
                "usage": {"input_tokens": input, "output_tokens": output, "total_tokens": input + output},
            })
        }
        _ => {
            let tool = asked.schema.is_some() && stop == Stop::Complete;
            let reason = match stop {
                Stop::Length => "max_tokens",
                Stop::Refusal | Stop::Filter => "refusal",
                Stop::Complete => {
                    if tool {
                        "tool_use"
                    } else {
                        "end_turn"
                    }
                }
            };
            let input_of_tool = serde_json::from_str(text).unwrap_or_else(|_| json!({}));
            let content = match tool {
                true => json!([{"type": "tool_use", "id": "t", "name": "answer", "input": input_of_tool}]),
                false => json!([{"type": "text", "text": text}]),
            };
            json!({
                "type": "message", "role": "assistant", "content": content, "stop_reason": reason,
                "usage": {"input_tokens": input, "output_tokens": output},
            })
        }
    }
}

/// The status and the body of a response; `fault` picks one of the usual faults.
pub fn respond(line: &str, body: &[u8], fault: Option<usize>) -> (u16, String) {
    let path = line.split_whitespace().nth(1).unwrap_or_default();
    let body: Json = serde_json::from_slice(body).unwrap_or_default();
    let Some(asked) = read(path, &body) else {
        return (
            400,
            json!({"error": {"message": "there are no messages", "type": "invalid_request_error"}}).to_string(),
        );
    };
    let text = answer(&asked);
    let half = text.get(..text.len() / 2).unwrap_or_default();
    match fault.map(|fault| fault % 6) {
        Some(0) => (500, json!({"error": {"message": "The server had an error.", "type": "server_error"}}).to_string()),
        Some(1) => (
            429,
            json!({"error": {"message": "Rate limit reached. Try again in 20ms.", "type": "requests"}}).to_string(),
        ),
        Some(2) => (200, reply(&asked, half, Stop::Complete).to_string()),
        Some(3) => (200, reply(&asked, half, Stop::Length).to_string()),
        Some(4) => (200, reply(&asked, "I cannot help with that.", Stop::Refusal).to_string()),
        Some(_) => (200, "{\"choices\": [".to_owned()),
        None => (200, reply(&asked, &text, Stop::Complete).to_string()),
    }
}
