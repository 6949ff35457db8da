//! The known wordings of servers.

use proptest::prelude::*;

use super::*;
use crate::net::client::RequestLimit;

/// A server, its message, and the expected result: index of the text, limit, length, unit.
type Wording = (&'static str, &'static str, Option<usize>, Option<u64>, Option<u64>, Unit);

const WORDINGS: &[Wording] = {
    use Unit::{Characters as C, Tokens as T};
    &[
        (
            "OpenAI, by the model's name",
            "text-embedding-3-small's maximum context length is 8192 tokens, however you requested 9000 tokens",
            None,
            Some(8192),
            Some(9000),
            T,
        ),
        (
            "OpenAI until 2025, Azure",
            "This model's maximum context length is 8192 tokens, however you requested 10001 tokens (10001 in your prompt; 0 for the completion). Please reduce your prompt; or completion length.",
            None,
            Some(8192),
            Some(10001),
            T,
        ),
        ("OpenAI", "Invalid 'input[3]': maximum context length is 8192 tokens.", Some(3), Some(8192), None, T),
        ("OpenAI", "Invalid 'input[0]': maximum input length is 8192 tokens.", Some(0), Some(8192), None, T),
        ("OpenAI, a single text", "Invalid 'input': maximum context length is 8192 tokens.", None, Some(8192), None, T),
        (
            "OpenRouter",
            "This endpoint's maximum context length is 8,192 tokens. However, you requested about 9,000 tokens (9,000 of text input). Please reduce the length of either one.",
            None,
            Some(8192),
            Some(9000),
            T,
        ),
        (
            "vLLM, first",
            "This model's maximum context length is 512 tokens. However, you requested 600 tokens in the input for embedding generation. Please reduce the length of the input.",
            None,
            Some(512),
            Some(600),
            T,
        ),
        (
            "vLLM, second",
            "You passed 600 input tokens and requested 0 output tokens. However, the model's context length is only 512 tokens, resulting in a maximum input length of 512 tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=600)",
            None,
            Some(512),
            Some(600),
            T,
        ),
        (
            "vLLM, third",
            "The decoder prompt (length 600) is longer than the maximum model length of 512. Make sure that `max_model_len` is no smaller than the number of text tokens.",
            None,
            Some(512),
            Some(600),
            T,
        ),
        (
            "vLLM, of a chat model",
            "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens. Please reduce the length of the input messages.",
            None,
            Some(4096),
            Some(5000),
            T,
        ),
        (
            "vLLM, without the exact number",
            "This model's maximum context length is 4096 tokens. However, your prompt contains at least 5000 input tokens.",
            None,
            Some(4096),
            Some(5000),
            T,
        ),
        ("Ollama", "the input length exceeds the context length", None, None, None, T),
        ("Ollama, older", "input length exceeds maximum context length", None, None, None, T),
        (
            "llama.cpp",
            "input (600 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
            None,
            Some(512),
            Some(600),
            T,
        ),
        ("llama.cpp, older", "input is too large to process. increase the physical batch size", None, None, None, T),
        (
            "llama.cpp, the context",
            "request (600 tokens) exceeds the available context size (512 tokens), try increasing it",
            None,
            Some(512),
            Some(600),
            T,
        ),
        ("llama.cpp, the context, older", "input is larger than the max context size. skipping", None, None, None, T),
        ("llama-cpp-python", "Requested tokens (979) exceed context window of 512", None, Some(512), Some(979), T),
        (
            "TEI",
            "Input validation error: `inputs` must have less than 512 tokens. Given: 534",
            None,
            Some(512),
            Some(534),
            T,
        ),
        (
            "TEI, characters",
            "Input validation error: `inputs` must have less than 32000 characters. Given: 67337",
            None,
            Some(32_000),
            Some(67_337),
            C,
        ),
        (
            "LiteLLM quoting OpenAI",
            "litellm.BadRequestError: OpenAIException - Error code: 400 - {'error': {'message': \"This model's maximum context length is 512 tokens. However, you requested 600 tokens in the input\"}}",
            None,
            Some(512),
            Some(600),
            T,
        ),
        (
            "LiteLLM, with an error of its own",
            "litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError: AzureException - Error code: 400 - {'error': {'message': \"This model's maximum context length is 8192 tokens, however you requested 9000 tokens (9000 in your prompt; 0 for the completion).\"}}",
            None,
            Some(8192),
            Some(9000),
            T,
        ),
        ("infinity", "body.input.0: String should have at most 122880 characters", Some(0), Some(122_880), None, C),
        (
            "SGLang",
            "Input length (33432) exceeds model's maximum context length (32768).",
            None,
            Some(32_768),
            Some(33_432),
            T,
        ),
        (
            "SGLang, newer",
            "The input (600 tokens) is longer than the model's context length (512 tokens).",
            None,
            Some(512),
            Some(600),
            T,
        ),
        ("NVIDIA NIM", "Input length 548 exceeds maximum allowed token size 512", None, Some(512), Some(548), T),
        (
            "Cohere",
            "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000. Try using a shorter prompt",
            None,
            Some(4081),
            Some(5000),
            T,
        ),
        (
            "Bedrock, Titan",
            "400 Bad Request: Too many input tokens. Max input tokens: 8192, request input token count: 9875",
            None,
            Some(8192),
            Some(9875),
            T,
        ),
        (
            "Bedrock, Cohere",
            "Malformed input request: expected maxLength: 2048, actual: 2459, please reformat your input and try again.",
            None,
            Some(2048),
            Some(2459),
            C,
        ),
        (
            "Voyage",
            "Request to model 'voyage-large-2' failed. The example at index 2 in your batch has too many tokens and does not fit into the model's context window of 16000 tokens. Please lower the number of tokens in the listed example(s) or use truncation.",
            Some(2),
            Some(16_000),
            None,
            T,
        ),
        ("Jina", "Single text cannot exceed 8194 tokens. 9000 tokens given.", None, Some(8194), Some(9000), T),
        ("Jina, older", "Input text exceeds maximum length of 8192 tokens", None, Some(8192), None, T),
        ("Mistral", "Input id 1 has 9000 tokens, exceeding max 8192 tokens.", Some(1), Some(8192), Some(9000), T),
        (
            "Gemini",
            "The input token count (9000) exceeds the maximum number of tokens allowed (2048).",
            None,
            Some(2048),
            Some(9000),
            T,
        ),
        (
            "Vertex",
            "Unable to submit request because the input token count is 20001 but the model supports up to 20000. Reduce the input token count and try again.",
            None,
            Some(20_000),
            Some(20_001),
            T,
        ),
        (
            "Fireworks",
            "The prompt is too long: 9000, model maximum context length: 8191",
            None,
            Some(8191),
            Some(9000),
            T,
        ),
        (
            "sentence-transformers without a guard",
            "The size of tensor a (600) must match the size of tensor b (512) at non-singleton dimension 1",
            None,
            Some(512),
            Some(600),
            T,
        ),
    ]
};

/// What servers say about a request as a whole, or about something else.
const OTHERS: &[&str] = &[
    "Requested 673477 tokens, max 300000 tokens per request",
    "Too many tokens in batch. Max is 16384 got 17555",
    "Too many tokens overall, split into more batches.",
    "Request to model 'voyage-3' failed. The max allowed tokens per submitted batch is 120000. Your batch has 130000 tokens after truncation. Please lower the number of tokens in the batch.",
    "batch size 64 > maximum allowed batch size 32",
    "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch",
    "'$.input' is invalid. Please check the API reference.",
    "Invalid value for 'dimensions' = 100. Must be less than or equal to 64.",
    "The model `text-embedding-3-small` does not exist",
    "[] is too short - 'input'",
];

#[test]
fn every_servers_wording_is_understood() {
    for (server, message, row, allowed, found, unit) in WORDINGS {
        let expected = TooLong { row: *row, allowed: *allowed, found: *found, unit: *unit };
        assert_eq!(TooLong::read(message, 4), Some(expected), "{server}: {message}");
    }
    for message in OTHERS {
        assert_eq!(TooLong::read(message, 4), None, "{message}");
    }
}

#[test]
fn no_wording_about_a_text_is_taken_for_one_about_a_request() {
    for (server, message, ..) in WORDINGS {
        assert_eq!(RequestLimit::read(message, 4), None, "{server}: {message}");
    }
}

#[test]
fn the_name_of_a_model_is_no_limit() {
    let message = "text-embedding-3-small's maximum context length is 8192 tokens, however you requested 9000 tokens";
    let too_long = TooLong::read(message, 1).expect("it is about a long text");
    let text = "word ".repeat(9000);
    let cut = too_long.cut(&text, Counter::Estimate, 0).expect("it can be cut");
    assert_eq!(cut.len(), text.len() * 8192 / 9000);
    let exact = too_long.cut(&text, Counter::of("text-embedding-3-small"), 0).expect("it can be cut");
    assert_eq!(Counter::of("text-embedding-3-small").count(exact), 8192);
}

#[test]
fn what_the_server_did_not_say_is_not_guessed() {
    let cut = |too_long: TooLong, text: &str| too_long.cut(text, Counter::Estimate, 0).map(str::len);
    let tokens = |allowed, found| TooLong { allowed, found, ..TooLong::default() };
    assert_eq!(cut(tokens(None, Some(900)), &"x".repeat(900)), None, "no limit");
    assert_eq!(cut(tokens(Some(512), Some(600)), "short"), None, "shorter than the limit whatever the tokens");
    assert_eq!(cut(tokens(Some(10), Some(20)), &format!("{}x", " ".repeat(99))), None, "nothing would be left");
    // More tokens than bytes: that number is about something else.
    assert_eq!(cut(tokens(Some(100), Some(100_000)), &"x".repeat(1000)), Some(400));
    let characters = TooLong { allowed: Some(3), unit: Unit::Characters, ..TooLong::default() };
    assert_eq!(cut(characters, "äöüß"), Some(6));
}

#[test]
fn without_a_count_the_longest_beginning_that_may_fit_is_tried_first() {
    let too_long = TooLong { allowed: Some(100), ..TooLong::default() };
    let text = "x".repeat(350);
    let mut lengths = Vec::new();
    let mut next = Some(text.as_str());
    while let Some(text) = next {
        lengths.push(text.len());
        next = too_long.cut(text, Counter::Estimate, 1);
    }
    assert_eq!(lengths, [350, 300, 200, 100]);
}

proptest! {
    #[test]
    fn no_message_panics(message in "\\PC{0,200}", text in "\\PC{0,60}", attempt in 0u32..6) {
        if let Some(too_long) = TooLong::read(&message, 3) {
            let _ = too_long.cut(&text, Counter::Estimate, attempt);
        }
    }

    #[test]
    fn a_cut_keeps_as_much_as_the_limit_asks_for(
        text in "[a-zäé日 ]{50,400}",
        allowed in 1u64..40,
        more in 1u64..100,
        attempt in 0u32..4,
    ) {
        let found = allowed + more;
        let too_long = TooLong { allowed: Some(allowed), found: Some(found), ..TooLong::default() };
        if let Some(cut) = too_long.cut(&text, Counter::Estimate, attempt) {
            prop_assert!(!is_blank(cut) && text.starts_with(cut) && cut.len() < text.len());
            if found <= text.len() as u64 + MAX_SPECIAL_TOKENS {
                let share = text.len() as f64 * allowed as f64 / found as f64;
                prop_assert!(cut.len() as f64 >= share * (1.0 - 0.03 * f64::from(attempt)) - 4.0);
            }
        }
    }
}
