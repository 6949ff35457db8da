//! Characters that steer a terminal or reorder text, made visible.
//!
//! Names, cells, file names and messages of servers come from elsewhere: an escape sequence in one of them must be read,
//! not obeyed. Every output that is not JSON, which escapes by itself, passes here once.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::Value as Json;

/// The text with control characters and bidirectional overrides written out (`\x1b`, `\u{202e}`). Line breaks and tabs
/// stay, as messages have several lines.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && c != '\n' && c != '\t')
}

/// As [`visible`], for a message with names of other origin in it: what follows a line break is indented, so that no name can
/// forge a line of the output.
pub fn visible_message(text: &str) -> Cow<'_, str> {
    let shown = visible(text);
    if !shown.contains('\n') {
        return shown;
    }
    let mut out = String::with_capacity(shown.len() + 16);
    for (number, line) in shown.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
            if line.starts_with(|c: char| !c.is_whitespace()) {
                out.push_str("  ");
            }
        }
        out.push_str(line);
    }
    Cow::Owned(out)
}

/// As [`visible`], for a name: line breaks and tabs are written out too.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// The fields of an event, which are names or messages.
pub fn visible_event(fields: Json) -> Json {
    const NAMES: &[&str] = &["node", "partition", "dataset", "because", "function", "run", "pipeline", "env"];
    match fields {
        Json::Object(map) => map
            .into_iter()
            .map(|(key, value)| match value {
                Json::String(text) if NAMES.contains(&key.as_str()) => (key, visible_line(&text).into()),
                value => (key, visible_event(value)),
            })
            .collect(),
        Json::Array(list) => list.into_iter().map(visible_event).collect(),
        Json::String(text) => visible_message(&text).into(),
        other => other,
    }
}

/// The value with all its strings and keys as [`visible`] makes them.
pub fn visible_json(value: Json) -> Json {
    match value {
        Json::String(text) => Json::String(visible(&text).into_owned()),
        Json::Array(list) => list.into_iter().map(visible_json).collect(),
        Json::Object(map) => {
            map.into_iter().map(|(key, value)| (visible(&key).into_owned(), visible_json(value))).collect()
        }
        other => other,
    }
}

/// A JSON document with the characters that JSON does not escape by itself and a terminal may obey as `\u009b`. They can only be
/// in strings, so the document stays the same.
pub fn visible_json_text(json: &str) -> Cow<'_, str> {
    let hidden = |c: char| is_hidden(c) && (!c.is_ascii() || c == '\u{7f}');
    if !json.chars().any(hidden) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if hidden(c) {
            // All of them have four digits at most.
            write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes all");
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// As [`visible_line`], for text in which byte positions count: each hidden character of several bytes becomes one mark
/// of as many bytes. Characters of one byte stay: who positions text draws them itself.
pub fn visible_in_place(text: &str) -> String {
    let shown = |c: char| match c.len_utf8() {
        2 if is_hidden(c) => '\u{b7}',
        3 if is_hidden(c) => char::REPLACEMENT_CHARACTER,
        _ => c,
    };
    text.chars().map(shown).collect()
}

/// C0, DEL, C1, separators of lines and paragraphs, and the marks that change the direction of text.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        let code = u32::from(c);
        let written = match c {
            _ if !hidden(c) => {
                out.push(c);
                Ok(())
            }
            ..='\u{ff}' => write!(out, "\\x{code:02x}"),
            _ => write!(out, "\\u{{{code:x}}}"),
        };
        written.expect("a string takes all");
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out_and_the_rest_stays() {
        for (text, wanted) in [
            ("", ""),
            ("été\t1\n\\x1b", "été\t1\n\\x1b"),
            ("\u{1b}]0;x\u{7}", "\\x1b]0;x\\x07"),
            ("a\rb\u{7f}\u{9b}31m", "a\\x0db\\x7f\\x9b31m"),
            ("\u{202e}cod\u{2066}", "\\u{202e}cod\\u{2066}"),
        ] {
            assert_eq!(visible(text), wanted);
            assert_eq!(visible(&visible(text)), wanted, "a second time changes nothing");
        }
        assert_eq!(visible_line("a\n\tb"), "a\\x0a\\x09b");
        assert_eq!(
            visible_json(serde_json::json!({"\u{1b}": ["\u{7}", 1]})),
            serde_json::json!({"\\x1b": ["\\x07", 1]})
        );
    }

    #[test]
    fn json_with_marks_that_a_terminal_obeys_is_the_same_json_without_them() {
        let value = serde_json::json!({"a\u{9b}31m": "\u{202e}x\u{7f}\u{1b}\n", "plain": "ü"});
        for text in [value.to_string(), serde_json::to_string_pretty(&value).expect("JSON")] {
            let shown = visible_json_text(&text);
            assert!(!shown.chars().any(|c| is_hidden(c) && c != '\n'), "{shown}");
            assert_eq!(serde_json::from_str::<Json>(&shown).expect("JSON"), value);
        }
        assert!(matches!(visible_json_text("{\n  \"a\": \"ü\"\n}"), Cow::Borrowed(_)));
    }

    #[test]
    fn no_character_that_is_hidden_is_left() {
        for c in (0..=0x2_ffff_u32).filter_map(char::from_u32) {
            let text = visible_line(c.encode_utf8(&mut [0; 4])).into_owned();
            assert!(!text.chars().any(is_hidden), "{c:?}: {text:?}");
            let same = visible_in_place(c.encode_utf8(&mut [0; 4]));
            assert_eq!(same.len(), c.len_utf8());
            assert!(c.is_ascii() || !same.chars().any(is_hidden), "{c:?}: {same:?}");
        }
    }
}
