//! The body of an error response, in the shapes that servers use.

/// An error as a server writes it, whatever the shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// The message, on one line and cut to what can be of use for understanding it.
    pub message: String,
    /// `type`.
    pub kind: String,
    /// `code`.
    pub code: String,
    /// `param`.
    pub param: String,
}

/// A longer `type`, `code` or `param` is not one; its length is given instead.
const MAX_WORD: usize = 200;
/// The maximum length of a message, in bytes, before it is shortened.
const MAX_RAW: usize = 64 << 10;

/// The longest message that is read, in characters.
const MAX_READ: usize = 4000;
/// The longest message that is shown, in characters.
const MAX_SHOWN: usize = 300;

impl ErrorBody {
    /// The message as shown to a person.
    pub fn short_message(&self) -> String {
        cut(&self.message, MAX_SHOWN)
    }

    /// Parses the body of an error. A body that is not JSON is the message; of HTML only the title is used. Of JSON that was cut
    /// off, because it repeats the request, the message is what its first text for a person says. Nothing of it is fit to be
    /// shown before [`scrubbed`](Self::scrubbed).
    pub fn read(body: &[u8]) -> Self {
        let body = strip_bom(body);
        match serde_json::from_slice::<serde_json::Value>(body) {
            Ok(value) => Self::from_json(&value).unwrap_or_else(|| Self::plain(body)),
            Err(error) if error.is_eof() => Self::cut_off(body).unwrap_or_else(|| Self::plain(body)),
            Err(_) => Self::plain(body),
        }
    }

    /// The error as it may be shown: `scrub` removes secrets from all parts, then the message is cut to what can be of use.
    #[must_use]
    pub fn scrubbed(self, scrub: impl Fn(&str) -> String) -> Self {
        Self {
            message: one_line(&scrub(&self.message)),
            kind: scrub(&self.kind),
            code: scrub(&self.code),
            param: scrub(&self.param),
        }
    }

    /// The message in JSON without its end: the value of the first key that holds one.
    fn cut_off(body: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(body);
        let value = |key: &str| {
            let (_, rest) = text.split_once(&format!("\"{key}\""))?;
            let rest = rest.trim_start().strip_prefix(':')?.trim_start();
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
            values.next()?.ok()
        };
        let message = ["msg", "message"].iter().find_map(|key| value(key)?.as_str().map(str::to_owned))?;
        let at = value("loc").map(|loc| location(&loc)).filter(|at| !at.is_empty());
        let message = at.map_or_else(|| message.clone(), |at| format!("{at}: {message}"));
        let word = |key: &str| value(key).map(|value| word(Some(&value))).unwrap_or_default();
        Some(Self { message, kind: word("type"), code: word("code"), param: word("param") })
    }

    fn plain(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&body[..body.len().min(MAX_RAW)]);
        let lower = text.to_ascii_lowercase();
        let title = lower.find("<title>").and_then(|start| {
            let start = start + "<title>".len();
            let end = lower[start..].find("</title>")? + start;
            text.get(start..end)
        });
        Self { message: title.unwrap_or(&text).to_owned(), ..Self::default() }
    }

    /// OpenAI nests it under `error`, Ollama has a string there, Google has a list of such objects, TEI and vLLM are flat,
    /// FastAPI has `detail`, MiniMax has `base_resp`.
    pub fn from_json(value: &serde_json::Value) -> Option<Self> {
        if let Some(list) = value.as_array() {
            return list.iter().filter(|item| item.is_object()).find_map(Self::from_json);
        }
        let object = value.as_object()?;
        let of = |part: &serde_json::Map<String, serde_json::Value>| Self {
            message: text(part.get("message").or_else(|| part.get("msg")).or_else(|| part.get("status_msg"))),
            kind: word(part.get("type").or_else(|| part.get("error_type"))),
            code: word(part.get("code").or_else(|| part.get("status_code"))),
            param: word(part.get("param")),
        };
        if let Some(error) = object.get("error").filter(|error| !error.is_null()) {
            return Some(match error {
                // A gateway's around that of its server.
                serde_json::Value::Object(part) if !part.contains_key("message") && part.contains_key("error") => {
                    Self::from_json(error)?
                }
                serde_json::Value::Object(part) => of(part),
                other => Self { message: text(Some(other)), ..of(object) },
            });
        }
        if let Some(part) = object.get("base_resp").and_then(serde_json::Value::as_object) {
            let error = of(part);
            return (error.code != "0").then_some(error);
        }
        if object.contains_key("message") {
            return Some(of(object));
        }
        let detail = object.get("detail")?;
        match detail {
            serde_json::Value::Null => None,
            serde_json::Value::Object(part) if part.contains_key("message") || part.contains_key("msg") => {
                Some(of(part))
            }
            serde_json::Value::Array(faults) if faults.iter().any(|fault| fault.get("msg").is_some()) => {
                Some(Self::of_validation(faults))
            }
            other => Some(Self { message: text(Some(other)), ..Self::default() }),
        }
    }

    /// FastAPI's list of what is wrong with a request, without the parts of the request that it repeats.
    fn of_validation(faults: &[serde_json::Value]) -> Self {
        let messages: Vec<String> = faults
            .iter()
            .filter_map(|fault| {
                let message = fault.get("msg")?.as_str()?;
                let at = fault.get("loc").map(location).unwrap_or_default();
                Some(if at.is_empty() { message.to_owned() } else { format!("{at}: {message}") })
            })
            .collect();
        let kind = word(faults.first().and_then(|fault| fault.get("type")));
        Self { message: messages.join("; "), kind, ..Self::default() }
    }
}

/// A value as text: strings without quotes.
fn text(value: Option<&serde_json::Value>) -> String {
    match value {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// As [`text`]; of a long one only its length, because a part of it could be half of a quoted key.
fn word(value: Option<&serde_json::Value>) -> String {
    match text(value) {
        long if long.len() > MAX_WORD => format!("({} bytes)", long.len()),
        word => word,
    }
}

/// The place of a fault in the request, `body.input.0`.
fn location(path: &serde_json::Value) -> String {
    let parts: Vec<String> = path.as_array().into_iter().flatten().map(|part| text(Some(part))).collect();
    parts.join(".")
}

/// One line of at most three hundred characters. Secrets are removed first: half of one is none that is recognized.
pub fn shorten(text: &str) -> String {
    cut(&one_line(text), MAX_SHOWN)
}

/// One line of at most four thousand characters.
fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    cut(&words.join(" "), MAX_READ)
}

fn cut(line: &str, most: usize) -> String {
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// The body without the byte order mark that some servers begin with.
pub fn strip_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_at_the_cut_of_a_long_message_leaves_no_half() {
        let key = crate::model::Secret::new("canary-0123456789-wxyz");
        let scrub = |text: &str| crate::model::SecretMask::from_iter([&key]).mask(text).into_owned();
        for before in 270..310 {
            let text = format!("{} {}", "x".repeat(before), key.expose());
            for body in [text.clone(), serde_json::json!({"error": {"message": text}}).to_string()] {
                let message = ErrorBody::read(body.as_bytes()).scrubbed(scrub).message;
                assert!(!message.contains("can"), "{before}: {message}");
            }
        }
    }

    #[test]
    fn a_code_without_end_is_told_by_its_length() {
        let body = |code: &str| serde_json::json!({"error": {"message": "no", "code": code}}).to_string();
        assert_eq!(ErrorBody::read(body("invalid_api_key").as_bytes()).code, "invalid_api_key");
        assert_eq!(ErrorBody::read(body(&"x".repeat(60_000)).as_bytes()).code, "(60000 bytes)");
    }

    #[test]
    fn the_message_is_found_in_every_shape() {
        for (body, expected) in [
            // NVIDIA NIM: an empty `detail` beside the message.
            (
                r#"{"object":"error","message":"'input_type' parameter is required","detail":{},"type":"invalid_request_error"}"#,
                "'input_type' parameter is required",
            ),
            // Google: a list.
            (
                r#"[{"error":{"code":400,"message":"at most 100 requests can be in one batch","status":"INVALID_ARGUMENT"}}]"#,
                "at most 100 requests can be in one batch",
            ),
            (r#"{"detail":{"message":"inside"}}"#, "inside"),
            (r#"{"detail":"a string"}"#, "a string"),
            // FastAPI: what is wrong, without the input that it repeats.
            (
                r#"{"detail":[{"type":"string_too_long","loc":["body","input","list[str]",1],"msg":"String should have at most 5 characters","input":"abcdefgh"},{"loc":["body","model"],"msg":"Field required","input":{}}]}"#,
                "body.input.list[str].1: String should have at most 5 characters; body.model: Field required",
            ),
        ] {
            assert_eq!(ErrorBody::read(body.as_bytes()).message, expected);
        }
    }

    #[test]
    fn an_error_that_repeats_the_request_and_was_cut_off_is_its_message() {
        let whole = serde_json::json!({"detail": [{
            "type": "string_too_long", "loc": ["body", "input", 3], "msg": "String should have at most 122880 characters",
            "input": "x".repeat(132_000),
        }]});
        // Keys in the order in which servers write them.
        let body = format!(
            r#"{{"detail":[{{"type":"string_too_long","loc":["body","input",3],"msg":{},"input":{}"#,
            whole["detail"][0]["msg"], whole["detail"][0]["input"]
        );
        for body in [whole.to_string().as_bytes(), &body.as_bytes()[..78_336]] {
            assert_eq!(ErrorBody::read(body).message, "body.input.3: String should have at most 122880 characters");
        }
    }
}
