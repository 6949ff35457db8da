//! Wordings of "too long", "too many", "slow down" and "quota" as people met them: each row has the public report that it is
//! from.

use reqwest::header::HeaderMap;

use super::*;
use crate::net::client::{Cause, Quantity};

/// What a response is understood as.
#[derive(Debug, PartialEq)]
enum Meaning {
    /// A text is too long; the limit, if named.
    Long(Option<u64>),
    /// The request is too large as a whole; the limit, if named.
    Many(Quantity, Option<u64>),
    /// Requests have to wait.
    Slow,
    /// The server is overloaded: retried, with fewer requests at once.
    Overloaded,
    /// The quota of the account is used up: the run stops.
    Quota,
    /// Something else.
    Other(String),
}

use Meaning::{Long, Many, Overloaded, Quota, Slow};

/// The report, the status, the body, and what it means for a request with 4,000 texts.
#[rustfmt::skip]
const REPORTS: &[(&str, u16, &str, Meaning)] = &[
    ("https://github.com/microsoft/PubSec-Info-Assistant/issues/755", 400,
        r#"{"error":{"message":"This model's maximum context length is 8192 tokens, however you requested 155434 tokens (155434 in your prompt; 0 for the completion). Please reduce your prompt; or completion length.","type":"invalid_request_error","param":null,"code":null}}"#,
        Long(Some(8192))),
    ("https://github.com/sugarforever/chat-ollama/issues/130", 400,
        r#"{"error":{"message":"This model's maximum context length is 8192 tokens, however you requested 25701 tokens (25701 in your prompt; 0 for the completion). Please reduce your prompt; or completion length."}}"#,
        Long(Some(8192))),
    ("https://github.com/neo4j-labs/agent-memory/issues/104", 400,
        r#"{"error":{"message":"Invalid 'input': maximum context length is 8192 tokens.","type":"invalid_request_error","param":null,"code":null}}"#,
        Long(Some(8192))),
    ("https://github.com/Vistaminc/AuditLuma/issues/8", 400,
        r#"{"object":"error","message":"This model's maximum context length is 32768 tokens. However, you requested 44502 tokens in the input for embedding generation. Please reduce the length of the input.","type":"BadRequestError","param":null,"code":400}"#,
        Long(Some(32768))),
    ("https://github.com/vllm-project/vllm/issues/19798", 400,
        r#"{"error":{"message":"This model's maximum context length is 512 tokens. However, you requested 1451 tokens in the input for embedding generation. Please reduce the length of the input.","type":"BadRequestError","code":400}}"#,
        Long(Some(512))),
    ("https://github.com/elara-labs/code-context-engine/issues/87", 400,
        r#"{"error":"the input length exceeds the context length"}"#,
        Long(None)),
    ("https://github.com/lfnovo/open-notebook/issues/350", 500,
        r#"{"error":"Ollama API error: the input length exceeds the context length"}"#,
        Long(None)),
    ("https://github.com/n8n-io/n8n/issues/11144", 400,
        r#"{"error":"input length exceeds maximum context length"}"#,
        Long(None)),
    ("https://github.com/gpustack/gpustack/issues/472", 500,
        r#"{"error":{"code":500,"message":"input is too large to process, please increase the physical batch size","type":"server_error"}}"#,
        Long(None)),
    ("https://github.com/ggml-org/llama.cpp/issues/12295", 500,
        r#"{"error":{"code":500,"message":"input is too large to process. increase the physical batch size","type":"server_error"}}"#,
        Long(None)),
    ("https://github.com/volcengine/OpenViking/issues/731", 500,
        r#"{"error":{"code":500,"message":"input (8129 tokens) is too large to process. increase the physical batch size (current batch size: 1024)","type":"server_error"}}"#,
        Long(Some(1024))),
    ("https://github.com/huggingface/text-embeddings-inference/issues/378", 413,
        r#"{"message":"batch size 129 > maximum allowed batch size 128","code":413,"type":"Validation"}"#,
        Many(Quantity::Texts, Some(128))),
    ("https://github.com/apecloud/ApeRAG/issues/716", 413,
        r#"{"code":20042,"message":"input batch size 136 > maximum allowed batch size 64","data":null}"#,
        Many(Quantity::Texts, Some(64))),
    ("https://github.com/n4ze3m/page-assist/issues/371", 400,
        r#"{"error":{"code":"InvalidParameter","param":null,"message":"<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not be larger than 20.: input.contents","type":"InvalidParameter"},"id":"40c27542"}"#,
        Many(Quantity::Texts, Some(20))),
    ("https://github.com/memodb-io/memobase/issues/142", 400,
        r#"{"error":{"message":"<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not be larger than 10.: input.contents","type":"InvalidParameter","param":null,"code":"InvalidParameter"}}"#,
        Many(Quantity::Texts, Some(10))),
    ("https://github.com/langchain4j/langchain4j/issues/1140", 400,
        r#"{"statusCode":400,"message":"batch size is invalid, it should not be larger than 25.: payload.input.contents","code":"InvalidParameter","isJson":true}"#,
        Many(Quantity::Texts, Some(25))),
    ("https://github.com/vercel/ai/issues/16101", 400,
        r#"[{"error":{"code":400,"message":"* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n","status":"INVALID_ARGUMENT"}}]"#,
        Many(Quantity::Texts, Some(100))),
    ("https://github.com/raphaelmansuy/edgequake-llm/pull/74", 400,
        r#"{"object":"error","message":"Too many inputs in request, split into more batches.","type":"invalid_request_prompt","param":null,"code":"3210"}"#,
        Many(Quantity::Texts, None)),
    ("https://github.com/LangStream/langstream/issues/570", 400,
        r#"{"error":{"code":400,"message":"5 instance(s) is allowed per prediction. Actual: 10","status":"INVALID_ARGUMENT"}}"#,
        Many(Quantity::Texts, Some(5))),
    ("https://github.com/langchain-ai/langchain/issues/4575", 400,
        r#"{"error":{"message":"Too many inputs. The max number of inputs is 1.  We hope to increase the number of inputs per request soon. Please contact us through an Azure support request for further questions.","type":"invalid_request_error","param":null,"code":null}}"#,
        Many(Quantity::Texts, Some(1))),
    ("https://github.com/sigoden/aichat/pull/825", 400,
        r#"{"detail":"Request to model 'voyage-large-2-instruct' failed. The max allowed tokens per submitted batch is 120000. Your batch has 121138 tokens after truncation. Please lower the number of tokens in the batch."}"#,
        Many(Quantity::Tokens, Some(120000))),
    ("https://github.com/langchain-ai/langchain/issues/33668", 400,
        r#"{"error":{"message":"Requested 673477 tokens, max 300000 tokens per request","type":"max_tokens_per_request","param":null,"code":"max_tokens_per_request"}}"#,
        Many(Quantity::Tokens, Some(300000))),
    ("https://github.com/quarkiverse/quarkus-langchain4j/issues/1705", 400,
        r#"{"error":{"code":400,"message":"Request payload size exceeds the limit: 4194304 bytes.","status":"INVALID_ARGUMENT"}}"#,
        Many(Quantity::Bytes, Some(4194304))),
    ("https://github.com/huggingface/text-embeddings-inference/issues/50", 413,
        r#"Failed to buffer the request body: length limit exceeded"#,
        Many(Quantity::Bytes, None)),
    ("https://github.com/apecloud/ApeRAG/pull/724", 413,
        r#"<html><head><title>413 Request Entity Too Large</title></head></html>"#,
        Many(Quantity::Bytes, None)),
    ("https://github.com/openai/openai-cookbook/issues/141", 429,
        r#"{"error":{"message":"Rate limit reached for default-global-with-image-limits in organization org-x on requests per min. Limit: 60.000000 / min. Current: 70.000000 / min. Contact support@openai.com if you continue to have issues.","type":"requests","param":null,"code":null}}"#,
        Slow),
    ("https://github.com/Elliott-Chong/chatpdf-yt/issues/39", 429,
        r#"{"error":{"message":"Rate limit reached for text-embedding-ada-002 in organization org-x on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s. Visit https://platform.openai.com/account/rate-limits to learn more. You can increase your rate limit by adding a payment method to your account at https://platform.openai.com/account/billing.","type":"requests","code":"rate_limit_exceeded"}}"#,
        Slow),
    ("https://github.com/microsoft/PubSec-Info-Assistant/issues/479", 429,
        r#"{"error":{"code":"429","message":"Requests to the Embeddings_Create Operation under Azure OpenAI API version 2023-06-01-preview have exceeded the call rate limit of your current OpenAI S0 pricing tier. Please retry after 54 seconds. Please go here: https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit."}}"#,
        Slow),
    ("https://github.com/anthropics/claude-code/issues/236", 429,
        r#"{"message":"Too many tokens, please wait before trying again."}"#,
        Slow),
    ("https://github.com/FlowiseAI/Flowise/issues/2079", 429,
        r#"{"message":"Too many requests, please wait before trying again. You have sent too many requests.  Wait before trying again."}"#,
        Slow),
    ("https://github.com/lobehub/lobehub/issues/3994", 429,
        r#"{"error":{"body":{"httpStatusCode":429},"message":"Too many requests, please wait before trying again.","type":"ThrottlingException"},"provider":"bedrock"}"#,
        Slow),
    ("https://github.com/NEKOparapa/AiNiee/issues/124", 429,
        r#"{"error":{"code":429,"message":"Resource has been exhausted (e.g. check quota).","status":"RESOURCE_EXHAUSTED"}}"#,
        Slow),
    ("https://github.com/google-gemini/gemini-cli/issues/27665", 429,
        r#"[{"error":{"code":429,"message":"Resource has been exhausted (e.g. check quota).","status":"RESOURCE_EXHAUSTED"}}]"#,
        Slow),
    ("https://github.com/felixbinder/introspection_self_prediction/issues/66", 429,
        r#"{"error":{"code":429,"message":"Quota exceeded for aiplatform.googleapis.com/generate_content_requests_per_minute_per_project_per_base_model with base model: gemini-pro. Please submit a quota increase request.","status":"RESOURCE_EXHAUSTED"}}"#,
        Slow),
    ("https://github.com/ogkalu2/comic-translate/issues/403", 429,
        r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details. For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. To monitor your current usage, head to: https://ai.dev/rate-limit. \n* Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 20, model: gemini-2.5-flash\nPlease retry in 58.821668433s.","status":"RESOURCE_EXHAUSTED"}}"#,
        Slow),
    ("https://github.com/google-gemini/gemini-cli/issues/8437", 429,
        r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details. For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.","status":"RESOURCE_EXHAUSTED"}}"#,
        Slow),
    ("https://github.com/tech-shrimp/gemini-playground/issues/10", 429,
        r#"{"error":{"code":429,"message":"Quota exceeded for quota metric 'Generate Content API requests per minute' and limit 'GenerateContent request limit per minute for a region' of service 'generativelanguage.googleapis.com' for consumer 'project_number:391029737820'.","status":"RESOURCE_EXHAUSTED"}}"#,
        Slow),
    ("https://github.com/meta-llama/llama-models/issues/354", 429,
        r#"{"title":"Too Many Requests","detail":"You have exceeded the maximum number of tokens allowed within a given time frame. Wait a bit and try again.","status":429}"#,
        Slow),
    ("https://github.com/BerriAI/litellm/issues/13898", 429,
        r#"{"error":{"message":"LiteLLM Rate Limit Handler for rate limit type = team. Crossed TPM / RPM / Max Parallel Request Limit. current rpm: 1, rpm limit: 15, current tpm: 12260, tpm limit: 5000, current max_parallel_requests: 0, max_parallel_requests: 9223372036854775807","type":"None","param":"None","code":"429"}}"#,
        Slow),
    ("https://github.com/BerriAI/litellm/issues/8392", 429,
        r#"{"error":{"message":"Max parallel request limit reached","type":"None","param":"None","code":"429"}}"#,
        Slow),
    ("https://github.com/FoundationAgents/OpenManus/issues/746", 429,
        r#"{"error":{"code":"rate_limit_error","message":"This request would exceed the rate limit for your organization of 20,000 input tokens per minute. Please reduce the prompt length or the maximum tokens requested, or try again later.","type":"invalid_request_error","param":null}}"#,
        Slow),
    ("https://github.com/IBM-Blockchain/ansible-collection/issues/189", 429,
        r#"{"error":"[AK Requests] exceeded the high volume rate limit - too many requests, try again later","rate_limit":"100/min"}"#,
        Slow),
    ("https://github.com/huggingface/text-generation-inference/issues/439", 429,
        r#"{"error":"Model is overloaded","error_type":"overloaded"}"#,
        Overloaded),
    ("https://github.com/mckaywrigley/repo-chat/issues/13", 503,
        r#"{"error":{"message":"The server is currently overloaded with other requests. Sorry about that! You can retry your request, or contact us through our help center at help.openai.com if the error persists.","type":"server_error","param":null,"code":null}}"#,
        Overloaded),
    ("https://github.com/google-gemini/gemini-cli/issues/7392", 503,
        r#"{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}"#,
        Overloaded),
    ("https://github.com/mem0ai/mem0/issues/77", 503,
        r#"{"error":{"message":"The server is overloaded or not ready yet.","type":"server_error"}}"#,
        Overloaded),
    ("https://github.com/simonw/llm/issues/494", 429,
        r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
        Quota),
    ("https://github.com/pashpashpash/vault-ai/issues/56", 429,
        r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details."}}"#,
        Quota),
    ("https://github.com/HKUDS/LightRAG/issues/490", 429,
        r#"{"error":{"code":"1113","message":"您的账户已欠费，请充值后重试。"}}"#,
        Quota),
    ("https://github.com/tencentmusic/supersonic/issues/1572", 400,
        r#"{"error":{"message":"Access denied, please make sure your account is in good standing.","type":"Arrearage","param":null,"code":"Arrearage"}}"#,
        Quota),
    ("https://github.com/FoundationAgents/OpenManus/issues/438", 403,
        r#"{"code":30011,"message":"The selected model requires paid balance. Your paid balance is insufficient. Please top up and try again.","data":null}"#,
        Quota),
    ("https://github.com/MiniMax-AI/MiniMax-M2/issues/111", 200,
        r#"{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"},"vectors":null}"#,
        Quota),
    ("https://github.com/continuedev/continue/issues/9853", 402,
        r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
        Quota),
    ("https://github.com/open-assistant-org/open-assistant/issues/80", 402,
        r#"{"error":{"message":"Insufficient credits. Add more using https://openrouter.ai/settings/credits","code":402}}"#,
        Quota),
    ("https://github.com/QwenLM/qwen-code/issues/73", 402,
        r#"{"error":{"message":"This request requires more credits, or fewer max_tokens. You requested up to 225702 tokens, but can only afford 92985. To increase, visit https://openrouter.ai/settings/credits and add more credits","code":402}}"#,
        Quota),
    ("https://github.com/tailcallhq/forgecode/issues/571", 402,
        r#"{"error":{"error":{"message":"More credits are required to run this request. 128000 token capacity required, 19484 available.","code":402},"code":402}}"#,
        Quota),
];

fn meaning(status: u16, body: &str) -> Meaning {
    let response = Response { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() };
    let sent = Sent { rows: 4000, dimensions: Some(8), proven: true, base64: true };
    match judge(&response, &Hints::default(), sent, &[]) {
        ResponseVerdict::Divide { cause: Cause::TooLong(too_long), .. } => Long(too_long.allowed),
        ResponseVerdict::Divide { cause: Cause::Size(limit), .. } => Many(limit.of, limit.allowed),
        ResponseVerdict::RateLimited { .. } => Slow,
        ResponseVerdict::Retry { congested: true, .. } => Overloaded,
        ResponseVerdict::Exhausted(_) => Quota,
        other => Meaning::Other(format!("{other:?}")),
    }
}

#[test]
fn what_people_met_is_understood() {
    assert!(REPORTS.len() >= 50, "{}", REPORTS.len());
    for (source, status, body, expected) in REPORTS {
        assert_eq!(meaning(*status, body), *expected, "{source}: {body}");
    }
}

#[test]
fn a_wait_behind_a_long_message_is_found() {
    let (.., body, _) =
        REPORTS.iter().find(|(_, _, body, _)| body.contains("58.821668433s")).expect("Google's message");
    let response = Response { status: 429, headers: HeaderMap::new(), body: body.as_bytes().to_vec() };
    let sent = Sent { rows: 1, dimensions: None, proven: false, base64: false };
    let ResponseVerdict::RateLimited { rate_limit, why } = judge(&response, &Hints::default(), sent, &[]) else {
        panic!("a limit per minute")
    };
    assert!(rate_limit.wait.is_some_and(|wait| (58.0..59.0).contains(&wait.as_secs_f64())), "{rate_limit:?}");
    assert!(why.chars().count() < 320, "{why}");
}

#[test]
fn base64_that_is_answered_with_nothing_or_refused_is_not_requested_again() {
    let nothing = r#"{"object":"list","data":[],"model":"m","usage":{"prompt_tokens":0,"total_tokens":0}}"#;
    let missing = r#"{"data":[{"index":0,"embedding":null},{"index":1,"embedding":""}]}"#;
    let refused = r#"{"detail":[{"type":"literal_error","loc":["body","encoding_format"],"msg":"Input should be 'float'","input":"base64"}]}"#;
    for (status, body) in [(200, nothing), (200, missing), (400, refused), (422, refused)] {
        let response = Response { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() };
        let sent = Sent { rows: 2, dimensions: None, proven: false, base64: true };
        let verdict = judge(&response, &Hints::default(), sent, &[]);
        assert!(matches!(verdict, ResponseVerdict::Resend), "{status} {body}: {verdict:?}");
        let verdict = judge(&response, &Hints::default(), Sent { base64: false, ..sent }, &[]);
        assert!(!matches!(verdict, ResponseVerdict::Resend), "{status} {body}: {verdict:?}");
    }
}
