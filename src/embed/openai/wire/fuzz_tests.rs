//! Responses with bytes that nobody expects: sound vectors or a fault, and never more memory than the response has.

use super::*;
use crate::{model::fuzz::fuzz, net::client::ErrorBody};

const RESPONSES: &[&str] = &[
    r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,0.25,-1.0]},{"object":"embedding","index":1,"embedding":[1,2,3e-1]}],"model":"m","usage":{"prompt_tokens":2,"total_tokens":2}}"#,
    r#"{"data":[{"index":1,"embedding":"AACAPwAAAEAAAEBA"},{"index":0,"embedding":"AAAAPwAAAD8AAAA/"}]}"#,
    r#"{"error":{"message":"Rate limit reached \u001b[31m for sk-canary","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
    r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#,
    "<html><head><title>502 Bad Gateway</title></head></html>",
];
const WORDS: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\"",
    "NaN",
    "-Infinity",
    "null",
    "true",
    "\"index\":",
    "\"embedding\":",
    "\"data\":[",
    "1e39",
    "1e400",
    "\\ud800",
    "\u{feff}",
    "{\"error\":",
    "AACAPw",
    "=",
    "\0",
    "<title>",
    "\"message\":",
];

#[test]
fn a_response_gives_sound_vectors_or_a_fault() {
    fuzz("responses", 24000, |random| {
        let body = random.mutated_text(RESPONSES, WORDS);
        let rows = 1 + random.below(4);
        let dimensions = (random.below(2) == 0).then_some(3);
        match decode(body.as_bytes(), rows, dimensions) {
            Ok(vectors) => {
                for row in 0..rows {
                    if let Ok(vector) = vectors.row(row) {
                        assert!(vector.iter().all(|number| number.is_finite()), "{body:?}");
                        assert!(dimensions.is_none_or(|length| length == vector.len()), "{body:?}");
                        assert_eq!(vector.len(), vectors.dimensions(), "{body:?}");
                        assert!(!vector.is_empty(), "{body:?}");
                    }
                }
                assert!(vectors.bytes() <= rows * (body.len() * 4 + 64), "{} bytes: {body:?}", vectors.bytes());
            }
            Err(error) => assert!(error.to_string().len() < 2 << 10, "{error}"),
        }
        let error = ErrorBody::read(body.as_bytes());
        for part in [&error.short_message(), &error.kind, &error.code, &error.param] {
            assert!(part.len() < 2 << 10, "{} bytes of error", part.len());
        }
    });
}
