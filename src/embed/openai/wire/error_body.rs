//! The body of an error response, in the shapes that servers use.

/// An error as a server writes it, whatever the shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// The message.
    pub message: String,
    /// `type`.
    pub kind: String,
    /// `code`.
    pub code: String,
    /// `param`.
    pub param: String,
}

/// A longer `type`, `code` or `param` is not one; its length is told instead.
const MAX_WORD: usize = 200;
/// The maximum length of a message, in bytes, before it is shortened.
const MAX_RAW: usize = 64 << 10;

impl ErrorBody {
    /// Parses the body of an error. A body that is not JSON is the message; of HTML only the title is used. Nothing of it is
    /// fit to be shown before [`scrubbed`](Self::scrubbed).
    pub fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<serde_json::Value>(strip_bom(body)) {
            Ok(value) => Self::from_json(&value).unwrap_or_else(|| Self::plain(body)),
            Err(_) => Self::plain(body),
        }
    }

    /// The error as it may be shown: `scrub` removes secrets from all parts, then the message is shortened.
    #[must_use]
    pub fn scrubbed(self, scrub: impl Fn(&str) -> String) -> Self {
        Self {
            message: shorten(&scrub(&self.message)),
            kind: scrub(&self.kind),
            code: scrub(&self.code),
            param: scrub(&self.param),
        }
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

    /// OpenAI nests it under `error`, Ollama has a string there, TEI and vLLM are flat, FastAPI has `detail`, MiniMax has
    /// `base_resp`.
    pub(super) fn from_json(value: &serde_json::Value) -> Option<Self> {
        let object = value.as_object()?;
        let text = |value: Option<&serde_json::Value>| match value {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(serde_json::Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        // A part of it could be half of a quoted key.
        let word = |value: Option<&serde_json::Value>| match text(value) {
            long if long.len() > MAX_WORD => format!("({} bytes)", long.len()),
            word => word,
        };
        let of = |part: &serde_json::Map<String, serde_json::Value>| Self {
            message: text(part.get("message").or_else(|| part.get("msg")).or_else(|| part.get("status_msg"))),
            kind: word(part.get("type").or_else(|| part.get("error_type"))),
            code: word(part.get("code").or_else(|| part.get("status_code"))),
            param: word(part.get("param")),
        };
        if let Some(error) = object.get("error").filter(|error| !error.is_null()) {
            return Some(match error {
                serde_json::Value::Object(part) => of(part),
                other => Self { message: text(Some(other)), ..of(object) },
            });
        }
        if let Some(part) = object.get("base_resp").and_then(serde_json::Value::as_object) {
            let error = of(part);
            return (error.code != "0").then_some(error);
        }
        if let Some(detail) = object.get("detail").filter(|detail| !detail.is_null()) {
            return Some(Self { message: text(Some(detail)), ..Self::default() });
        }
        object.contains_key("message").then(|| of(object))
    }
}

/// One line of at most three hundred characters. Secrets are removed first: half of one is none that is recognized.
pub fn shorten(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The body without the byte order mark that some servers begin with.
pub(super) fn strip_bom(body: &[u8]) -> &[u8] {
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
}
