//! What other libraries and servers say, on its way into a message: short, on one line, and without data.
//!
//! Their errors quote what they could not read: a value, a row, a whole file. A person needs to see what kind of thing was in
//! the way, and no more of it than a few characters.

/// Longer quoted values are cut to [`KEPT`] characters.
const LONGEST_VALUE: usize = 24;
const KEPT: usize = 12;
/// Characters of a whole message.
const LONGEST_MESSAGE: usize = 400;

/// A foreign message that may be shown: no rows, no nested values, no long values, no control characters.
pub fn excerpt(message: &str) -> String {
    let message = message.split("Row data:").next().unwrap_or_default().trim_end();
    let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let message = without_nested(&message);
    let mut short = String::new();
    let mut rest = message.as_str();
    while let Some((at, length)) = quoted(rest) {
        let value: Vec<char> = rest[at + 1..at + length - 1].chars().collect();
        short.push_str(&rest[..=at]);
        if value.len() > LONGEST_VALUE {
            short.extend(&value[..KEPT]);
            short.push('…');
        } else {
            short.extend(&value);
        }
        short.push_str(&rest[at + length - 1..at + length]);
        rest = &rest[at + length..];
    }
    short.push_str(rest);
    if short.chars().count() > LONGEST_MESSAGE {
        short = short.chars().take(LONGEST_MESSAGE - 1).chain(['…']).collect();
    }
    short
}

/// Cuts off a list or mapping after "found" or "got", and keeps what it is called.
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

/// The first text in quotes, quotes included: where it begins, and its length. One that is never closed goes to the end. An
/// apostrophe inside a word is no quote.
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
        // As one that ends with its last character.
        None => after.char_indices().next_back().map(|(last, c)| (at, 1 + last + c.len_utf8())).filter(|_| {
            // Only worth cutting, not worth closing.
            after.chars().count() > LONGEST_VALUE && after.chars().next_back().is_some_and(|c| c.len_utf8() == 1)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_cut_out_of_what_libraries_say() {
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
        assert_eq!(excerpt(&"word ".repeat(500)).chars().count(), LONGEST_MESSAGE);
    }
}
