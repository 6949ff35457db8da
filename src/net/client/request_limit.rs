//! Parses error messages about requests that are too large as a whole: texts, tokens or bytes.
//!
//! Owns the wordings of all servers; each has its source beside it. Pure: sends nothing.

use super::phrases::{number_after, number_before};

/// What a message says about the size of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimit {
    /// What there is too much of.
    pub of: Quantity,
    /// The limit, if named.
    pub allowed: Option<u64>,
    /// How much the request has by the server's count, if named.
    pub found: Option<u64>,
}

/// What the size of a request is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Texts.
    Texts,
    /// Tokens of all texts together.
    Tokens,
    /// Bytes of the body.
    Bytes,
}

/// Where a number is.
#[derive(Clone, Copy)]
enum Number {
    /// Right after the phrase.
    After(&'static str),
    /// Right before the phrase.
    Before(&'static str),
    /// The message does not name it.
    Unnamed,
}

/// A wording: what it is about, a phrase that no other message has, the limit, and the size of the request.
type Wording = (Quantity, &'static str, Number, Number);

const WORDINGS: &[Wording] = {
    use Number::{After, Before, Unnamed};
    use Quantity::{Bytes, Texts, Tokens};
    &[
        // TEI, SiliconFlow: https://github.com/huggingface/text-embeddings-inference/issues/378,
        // https://github.com/apecloud/ApeRAG/issues/716
        (Texts, "maximum allowed batch size", After("maximum allowed batch size "), After("batch size ")),
        // DashScope: https://github.com/memodb-io/memobase/issues/142
        (Texts, "batch size is invalid", After("should not be larger than "), Unnamed),
        // Gemini: https://github.com/vercel/ai/issues/16101
        (Texts, "requests can be in one batch", Before(" requests can be in one batch"), Unnamed),
        // OpenAI: "array too long. Expected an array with maximum length 2048, but got an array with length 3000"
        (Texts, "array too long", After("maximum length "), After("array with length ")),
        // Azure OpenAI: https://github.com/langchain-ai/langchain/issues/4575
        (Texts, "too many inputs. the max number", After("max number of inputs is "), Unnamed),
        // Mistral: https://github.com/raphaelmansuy/edgequake-llm/pull/74
        (Texts, "too many inputs", Unnamed, Unnamed),
        // pydantic, and so infinity, Jina and every FastAPI server: "List should have at most 2048 items after validation"
        (Texts, "items after validation", After("should have at most "), After("validation, not ")),
        // pydantic 1: "ensure this value has at most 1024 items"
        (Texts, "ensure this value has at most", After("has at most "), Unnamed),
        // Cohere: "total number of texts must be at most 96 - received 100"
        (Texts, "number of texts must be at most", After("must be at most "), After("received ")),
        // Cohere on Bedrock: "#/texts: expected maximum item count: 96, found: 100"
        (Texts, "expected maximum item count", After("maximum item count: "), After("found: ")),
        // Vertex AI: "250 instance(s) is allowed per prediction. Actual: 251"
        (Texts, "allowed per prediction", Before(" instance(s)"), After("actual: ")),
        // Voyage: "The batch size limit is 128. Your batch size is 300."
        (Texts, "batch size limit is", After("batch size limit is "), After("your batch size is ")),
        // Zhipu: "the array of inputs has at most 64 items"
        (Texts, "input数组最大不得超过", After("不得超过"), Unnamed),
        // Voyage: https://github.com/sigoden/aichat/pull/825
        (Tokens, "tokens per submitted batch", After("per submitted batch is "), After("your batch has ")),
        // OpenAI, newer: "maximum request size is 300000 tokens per request"
        (Tokens, "maximum request size is", After("maximum request size is "), Unnamed),
        // OpenAI: https://github.com/langchain-ai/langchain/issues/33668
        (Tokens, "max_tokens_per_request", After("max "), After("requested ")),
        (Tokens, "tokens per request", After("max "), After("requested ")),
        // Mistral: "Too many tokens in batch. Max is 16384 got 17555"
        (Tokens, "too many tokens in batch", After("max is "), After("got ")),
        (Tokens, "too many tokens overall", Unnamed, Unnamed),
        // Gemini: https://github.com/quarkiverse/quarkus-langchain4j/issues/1705
        (Bytes, "request payload size exceeds the limit", After("exceeds the limit: "), Unnamed),
        // TEI: https://github.com/huggingface/text-embeddings-inference/issues/50
        (Bytes, "failed to buffer the request body", Unnamed, Unnamed),
        // Express: "request entity too large"; nginx: the title of its page
        (Bytes, "request entity too large", Unnamed, Unnamed),
        (Bytes, "request body too large", Unnamed, Unnamed),
        (Bytes, "payload too large", Unnamed, Unnamed),
        // aiohttp: "Maximum request body size 1048576 exceeded, actual body size 1049088"
        (Bytes, "maximum request body size", After("maximum request body size "), After("actual body size ")),
        // LiteLLM: "Request size is too large. Request size is 12.1 MB. Max size is 10 MB"
        (Bytes, "request size is too large", Unnamed, Unnamed),
        // Any other word for a batch, without a number.
        (Texts, "batch size too large", Unnamed, Unnamed),
        (Texts, "batch size exceeds", Unnamed, Unnamed),
        (Texts, "in one batch", Unnamed, Unnamed),
        (Tokens, "in batch", Unnamed, Unnamed),
        (Tokens, "more batches", Unnamed, Unnamed),
    ]
};

impl Number {
    fn find(self, message: &str) -> Option<u64> {
        match self {
            Self::After(phrase) => number_after(message, phrase),
            Self::Before(phrase) => number_before(message, phrase),
            Self::Unnamed => None,
        }
    }
}

impl RequestLimit {
    /// A limit on bytes that is not named.
    pub const BYTES: Self = Self { of: Quantity::Bytes, allowed: None, found: None };

    /// Parses a message; `None` if it is not about the size of a request. `texts` is the number of texts sent.
    pub fn read(message: &str, texts: usize) -> Option<Self> {
        let message = message.to_lowercase();
        let (of, _, allowed, found) = WORDINGS.iter().find(|(_, mark, ..)| message.contains(mark))?;
        // A limit that the request keeps is about something else.
        let kept = |allowed: u64| *of == Quantity::Texts && allowed >= texts as u64;
        let allowed = allowed.find(&message).filter(|allowed| *allowed > 0 && !kept(*allowed));
        let found = found.find(&message).filter(|found| allowed.is_some_and(|allowed| *found > allowed));
        Some(Self { of: *of, allowed, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_phrase_for_every_wording() {
        use Quantity::{Bytes, Texts, Tokens};
        for (message, of, allowed, found) in [
            ("batch size 64 > maximum allowed batch size 32", Texts, Some(32), Some(64)),
            ("input batch size 136 > maximum allowed batch size 64", Texts, Some(64), Some(136)),
            (
                "<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not be larger than 10.: input.contents",
                Texts,
                Some(10),
                None,
            ),
            (
                "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n",
                Texts,
                Some(100),
                None,
            ),
            (
                "Invalid 'input': array too long. Expected an array with maximum length 2048, but got an array with length 3000 instead.",
                Texts,
                Some(2048),
                Some(3000),
            ),
            (
                "Too many inputs. The max number of inputs is 16.  We hope to increase the number of inputs per request soon.",
                Texts,
                Some(16),
                None,
            ),
            ("Too many inputs in request, split into more batches.", Texts, None, None),
            (
                "body.input: List should have at most 2048 items after validation, not 3000",
                Texts,
                Some(2048),
                Some(3000),
            ),
            ("body.input: ensure this value has at most 1024 items", Texts, Some(1024), None),
            ("invalid request: total number of texts must be at most 96 - received 100", Texts, Some(96), Some(100)),
            (
                "Malformed input request: #/texts: expected maximum item count: 96, found: 100, please reformat your input",
                Texts,
                Some(96),
                Some(100),
            ),
            ("250 instance(s) is allowed per prediction. Actual: 251", Texts, Some(250), Some(251)),
            ("The batch size limit is 128. Your batch size is 300.", Texts, Some(128), Some(300)),
            ("input数组最大不得超过64条", Texts, Some(64), None),
            (
                "Request to model 'voyage-large-2-instruct' failed. The max allowed tokens per submitted batch is 120000. Your batch has 121138 tokens after truncation. Please lower the number of tokens in the batch.",
                Tokens,
                Some(120_000),
                Some(121_138),
            ),
            ("Requested 673477 tokens, max 300000 tokens per request", Tokens, Some(300_000), Some(673_477)),
            ("Invalid 'input': maximum request size is 300000 tokens per request.", Tokens, Some(300_000), None),
            ("Too many tokens in batch. Max is 16384 got 17555", Tokens, Some(16_384), Some(17_555)),
            ("Too many tokens overall, split into more batches.", Tokens, None, None),
            ("INVALID_ARGUMENT: Request payload size exceeds the limit: 4194304 bytes.", Bytes, Some(4_194_304), None),
            ("Failed to buffer the request body: length limit exceeded", Bytes, None, None),
            ("413 Request Entity Too Large", Bytes, None, None),
            (
                "Maximum request body size 1048576 exceeded, actual body size 1049088",
                Bytes,
                Some(1_048_576),
                Some(1_049_088),
            ),
        ] {
            assert_eq!(RequestLimit::read(message, 4000), Some(RequestLimit { of, allowed, found }), "{message}");
        }
    }

    #[test]
    fn a_limit_that_the_request_keeps_is_not_learned() {
        let read = RequestLimit::read("batch size 64 > maximum allowed batch size 64", 64);
        assert_eq!(read, Some(RequestLimit { of: Quantity::Texts, allowed: None, found: None }));
        assert_eq!(RequestLimit::read("'$.input' is invalid. Please check the API reference.", 64), None);
    }
}
