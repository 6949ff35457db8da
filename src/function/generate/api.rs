//! The APIs of language models: how a prompt is sent, and where the answer is.
//!
//! One file for each, and one line in [`APIS`].

mod chat_completions;
mod contract;
mod messages;
mod responses;

pub use contract::{Api, Ask};

/// Every API.
pub static APIS: &[&dyn Api] = &[&chat_completions::ChatCompletions, &responses::Responses, &messages::Messages];

/// The words under `api:`.
pub const NAMES: &[&str] = &["chat_completions", "responses", "messages"];

/// The API of this name.
pub fn named(name: &str) -> Option<&'static dyn Api> {
    APIS.iter().copied().find(|api| api.name() == name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::function::generate::answer::End;

    #[test]
    fn every_api_is_found_by_its_name() {
        assert_eq!(APIS.iter().map(|api| api.name()).collect::<Vec<_>>(), NAMES);
        assert!(NAMES.iter().all(|name| named(name).is_some()));
    }

    #[test]
    fn ends_are_recognized_in_every_api() {
        let chat = |message: Json, finish: &str| json!({"choices": [{"message": message, "finish_reason": finish}], "usage": {"prompt_tokens": 5, "completion_tokens": 2}});
        let responses = |status: &str, reason: Json, part: Json| {
            json!({
                "status": status, "incomplete_details": reason,
                "output": [{"type": "reasoning", "summary": []}, {"type": "message", "content": [part]}],
                "usage": {"input_tokens": 5, "output_tokens": 2},
            })
        };
        let messages = |stop: &str, content: Json| json!({"stop_reason": stop, "content": content, "usage": {"input_tokens": 5, "output_tokens": 2}});
        let text = |text: &str| json!([{"type": "text", "text": text}]);
        let part = |text: &str| json!({"type": "output_text", "text": text});
        for (api, body, expected, end) in [
            ("chat_completions", chat(json!({"content": "yes"}), "stop"), "yes", End::Complete),
            ("chat_completions", chat(json!({"content": "ye"}), "length"), "ye", End::Length),
            ("chat_completions", chat(json!({"content": ""}), "content_filter"), "", End::Filtered(String::new())),
            (
                "chat_completions",
                chat(json!({"content": null, "refusal": "I can't."}), "stop"),
                "",
                End::Refused("I can't.".into()),
            ),
            (
                "chat_completions",
                chat(json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}), "stop"),
                "ab",
                End::Complete,
            ),
            ("responses", responses("completed", Json::Null, part("yes")), "yes", End::Complete),
            (
                "responses",
                responses("incomplete", json!({"reason": "max_output_tokens"}), part("ye")),
                "ye",
                End::Length,
            ),
            (
                "responses",
                responses("incomplete", json!({"reason": "content_filter"}), part("")),
                "",
                End::Filtered(String::new()),
            ),
            (
                "responses",
                responses("completed", Json::Null, json!({"type": "refusal", "refusal": "No."})),
                "",
                End::Refused("No.".into()),
            ),
            ("messages", messages("end_turn", text("yes")), "yes", End::Complete),
            ("messages", messages("max_tokens", text("ye")), "ye", End::Length),
            ("messages", messages("refusal", json!([])), "", End::Refused(String::new())),
            (
                "messages",
                messages("tool_use", json!([{"type": "tool_use", "name": "answer", "input": {"a": 1}}])),
                "{\"a\":1}",
                End::Complete,
            ),
        ] {
            let found = named(api).expect("an API").read(&body).expect("an answer");
            assert_eq!((found.text.as_str(), &found.end), (expected, &end), "{api}: {body}");
            assert_eq!((found.input_tokens, found.output_tokens), (Some(5), Some(2)), "{api}");
        }
        for (api, body) in [
            ("chat_completions", json!({"choices": []})),
            ("chat_completions", json!({"id": 1})),
            ("responses", json!({"status": "completed"})),
            ("responses", json!({"status": "queued", "output": []})),
            ("messages", json!({"content": "text"})),
        ] {
            assert!(named(api).expect("an API").read(&body).is_err(), "{api}: {body}");
        }
    }
}
