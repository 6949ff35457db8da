//! Shortens error messages of libraries and servers to one line without user data.
//!
//! Such messages quote the input that could not be parsed: a value, a row, a whole file. The user needs its kind and at
//! most a few characters of it.

/// The maximum length of a quoted value, in characters. A longer one is truncated to [`TRUNCATED_VALUE`].
const MAX_VALUE: usize = 24;
const TRUNCATED_VALUE: usize = 12;
/// The maximum length of a message, in characters.
const MAX_MESSAGE: usize = 400;

/// A message with rows, nested values, long values and control characters removed, safe to display.
pub fn excerpt(message: &str) -> String {
    let message = message.split("Row data:").next().unwrap_or_default().trim_end();
    let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let message = without_nested(&message);
    let mut short = String::new();
    let mut rest = message.as_str();
    while let Some((at, length)) = quoted(rest) {
        let value: Vec<char> = rest[at + 1..at + length - 1].chars().collect();
        short.push_str(&rest[..=at]);
        if value.len() > MAX_VALUE {
            short.extend(&value[..TRUNCATED_VALUE]);
            short.push('…');
        } else {
            short.extend(&value);
        }
        short.push_str(&rest[at + length - 1..at + length]);
        rest = &rest[at + length..];
    }
    short.push_str(rest);
    if short.chars().count() > MAX_MESSAGE {
        short = short.chars().take(MAX_MESSAGE - 1).chain(['…']).collect();
    }
    short
}

/// Truncates the message at a list or mapping after "found" or "got", and keeps only the kind of the value.
fn without_nested(message: &str) -> String {
    for word in [" found ", " got "] {
        let Some(at) = message.find(word).map(|at| at + word.len()) else { continue };
        let name = message[at..].find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(message.len() - at);
        let name = &message[at..at + name];
        let value = message[at + name.len()..].trim_start();
        let what = match (name, value.chars().next()) {
            ("", Some('[')) => "a list",
            ("", Some('{')) => "a mapping",
            (name, Some('[' | '{' | '(')) if !name.is_empty() => name,
            _ => continue,
        };
        return format!("{}{what}", &message[..at]);
    }
    message.to_owned()
}

/// The byte offset and length of the first quoted string, including its quotes. An unclosed quote extends to the end of the
/// message. An apostrophe inside a word is not a quote.
fn quoted(text: &str) -> Option<(usize, usize)> {
    let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (at, quote) =
        text.char_indices().find(|(at, c)| matches!(c, '"' | '\'') && !inside(text[..*at].chars().next_back()))?;
    let after = &text[at + 1..];
    let end = after
        .char_indices()
        .find(|(end, c)| *c == quote && !after[..*end].ends_with('\\') && !inside(after[end + 1..].chars().next()));
    match end {
        Some((end, _)) => Some((at, end + 2)),
        // Treat the last character as the closing quote.
        None => after.char_indices().next_back().map(|(last, c)| (at, 1 + last + c.len_utf8())).filter(|_| {
            // Only if the string is long enough to be truncated.
            after.chars().count() > MAX_VALUE && after.chars().next_back().is_some_and(|c| c.len_utf8() == 1)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_removed_from_messages_of_libraries() {
        let long = "x".repeat(1000);
        for (message, wanted) in [
            (
                "Expected JSON record to be an object, found Array [Object {\"id\": Number(0)}]".to_owned(),
                "Expected JSON record to be an object, found Array",
            ),
            (
                "Json error: whilst decoding field 'a': expected [ got {\"b\": 1}".to_owned(),
                "Json error: whilst decoding field 'a': expected [ got a mapping",
            ),
            ("expected string got [1, 2]".to_owned(), "expected string got a list"),
            ("expected int got true".to_owned(), "expected int got true"),
            (
                "Error while parsing value '4.x4' as type 'Float32' for column 1 at line 4. Row data: '[4,secret]'"
                    .to_owned(),
                "Error while parsing value '4.x4' as type 'Float32' for column 1 at line 4.",
            ),
            (
                format!("Cannot cast string '{long}' to value of Int64 type"),
                "Cannot cast string 'xxxxxxxxxxxx…' to value of Int64 type",
            ),
            (format!("failed to parse \"{long}\" as Date32"), "failed to parse \"xxxxxxxxxxxx…\" as Date32"),
            (format!("bad value '{long}"), "bad value 'xxxxxxxxxxxx…x"),
            ("don't, can't and won't are words".to_owned(), "don't, can't and won't are words"),
            ("a\u{1b}[31mred\nline".to_owned(), "a [31mred line"),
            ("größe 'ä' ≠ 'ö'".to_owned(), "größe 'ä' ≠ 'ö'"),
        ] {
            assert_eq!(excerpt(&message), wanted);
        }
        assert_eq!(excerpt(&"word ".repeat(500)).chars().count(), MAX_MESSAGE);
    }
}
