//! Masks secrets in source lines: an excerpt must not print a password next to a problem.
//!
//! Works on lines, not on trees, because a file with errors may have no tree.

use std::borrow::Cow;

use crate::model::{is_secret_mapping_name, is_secret_name, keys_within};

/// The bytes of a message that are shown.
const MAX_MESSAGE: usize = 8 << 10;

/// The line with every character of a value that may be secret replaced by `*`, byte for byte, so that spans stay true.
/// `all` masks every value (a credentials file). `${…}` stays readable up to its default: it names a secret, and holds none.
pub(super) fn mask_line(line: &str, all: bool) -> String {
    let mut masked = line.as_bytes().to_vec();
    if all {
        let from = line.find([':', '=']).map_or(line.len() - line.trim_start().len(), |i| i + 1);
        stars(line, from, line.len(), &mut masked);
    } else if let Some(from) = secret_value_start(line) {
        stars(line, from, line.len(), &mut masked);
    }
    for key in keys_within(line) {
        masked[key].fill(b'*');
    }
    // A URL may hold `user:password@`.
    for (scheme_end, _) in line.match_indices("://") {
        let rest = &line[scheme_end + 3..];
        let authority = &rest[..rest.find(['/', ' ', '"', '\'']).unwrap_or(rest.len())];
        if let Some(password) = authority.rfind('@').and_then(|at| Some(authority[..at].find(':')? + 1..at)) {
            let start = scheme_end + 3;
            stars(line, start + password.start, start + password.end, &mut masked);
        }
    }
    String::from_utf8(masked).unwrap_or_else(|_| "*".repeat(line.len()))
}

/// A message without what looks like a key, and cut where it is longer than anybody reads: names come from files and from the
/// command line.
pub(super) fn fit_to_show(text: &str) -> Cow<'_, str> {
    let keys = keys_within(text);
    if keys.is_empty() && text.len() <= MAX_MESSAGE {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut from = 0;
    for key in keys {
        out.push_str(&text[from..key.start]);
        out.push_str("***");
        from = key.end;
    }
    out.push_str(&text[from..]);
    if out.len() > MAX_MESSAGE {
        out.truncate(out.floor_char_boundary(MAX_MESSAGE));
        out.push('…');
    }
    Cow::Owned(out)
}

/// An item of `--params` as it may be shown: what is secret by its name or looks like a key is `***`.
pub fn mask_assignment(item: &str) -> String {
    let masked = mask_line(item, false);
    let mut out = String::with_capacity(masked.len());
    let mut characters = masked.chars().peekable();
    while let Some(c) = characters.next() {
        // Not a row of stars: it would show the length of the secret.
        if c == '*' && characters.peek() == Some(&'*') {
            while characters.next_if_eq(&'*').is_some() {}
            out.push_str("***");
        } else {
            out.push(c);
        }
    }
    out
}

/// Where the value of a key named like a secret begins on this line, or a mapping that holds secrets.
fn secret_value_start(line: &str) -> Option<usize> {
    words(line).find_map(|(start, word)| {
        let (named, holds_secrets) = (is_secret_name(word), is_secret_mapping_name(word));
        if !named && !holds_secrets {
            return None;
        }
        let after = &line[start + word.len()..];
        let after_quote = after.trim_start_matches(['"', '\'']).trim_start();
        if let Some(value) = after_quote.strip_prefix([':', '=']) {
            let mapping = value.trim_start();
            let secret = named || mapping.is_empty() || mapping.starts_with(['{', '&', '!', '#']);
            return secret.then_some(line.len() - value.len());
        }
        // A path of `--params`, as in `request.headers.X-Key=…`.
        let path_end = after.find(|c: char| c.is_whitespace() || "=,:/{}[]\"'".contains(c)).unwrap_or(after.len());
        let value = after[path_end..].trim_start().strip_prefix('=').filter(|_| after.starts_with('.'))?;
        Some(line.len() - value.len())
    })
}

/// True when a secret's name, or that of a mapping of secrets, ends this line, so that what is indented below is its value.
pub(super) fn opens_a_secret(line: &str) -> bool {
    secret_value_start(line).is_some_and(|from| {
        let value = line[from..].trim();
        value.is_empty() || value.starts_with(['|', '>', '&', '!', '"', '\'', '[', '{', '#'])
    })
}

fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + line[rest..].find(is_word)?;
        let end = line[start..].find(|c| !is_word(c)).map_or(line.len(), |i| start + i);
        rest = end;
        Some((start, &line[start..end]))
    })
}

/// Fills a range with stars, except blanks, brackets, quotes and the heads of interpolations.
fn stars(line: &str, from: usize, to: usize, masked: &mut [u8]) {
    let mut position = from;
    while position < to {
        let rest = &line[position..to];
        if rest.starts_with("${") {
            position += rest.find([',', '}']).unwrap_or(rest.len());
            continue;
        }
        let Some(c) = rest.chars().next() else { break };
        if !(c.is_whitespace() || matches!(c, '"' | '\'' | '{' | '}' | '[' | ']' | ',' | '|' | '>')) {
            masked[position..position + c.len_utf8()].fill(b'*');
        }
        position += c.len_utf8();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_may_be_secret_are_stars() {
        for (line, all, wanted) in [
            ("path: data/a.csv", false, "path: data/a.csv"),
            ("  api_key: hunter2 # old", false, "  api_key: ******* * ***"),
            ("  \"api_key\": \"hunter2\"", false, "  \"api_key\": \"*******\""),
            ("a.api_key=hunter2", false, "a.api_key=*******"),
            ("api_key: ${oc.env:KEY,hunter2}", false, "api_key: ${oc.env:KEY,*******}"),
            ("max_tokens: 100", false, "max_tokens: 100"),
            ("  headers: {X-Corp: hunter2}", false, "  headers: {******* *******}"),
            ("  headers: ${globals:corp}", false, "  headers: ${globals:corp}"),
            ("headers: true", false, "headers: true"),
            ("load_args: {header: true}", false, "load_args: {header: true}"),
            ("credentials: dev_s3", false, "credentials: dev_s3"),
            ("credentials: {user: ada}", false, "credentials: {***** ***}"),
            ("note: sk-abcdefghijklmnopqrst!", false, "note: ***********************!"),
            ("a${bsk-abcdefghijklmnopqrst12", false, "a${b*************************"),
            ("user: ada", true, "user: ***"),
            ("MIIEvQIBADANB", true, "*************"),
            ("url: postgres://ada:pässword@db/x", false, "url: postgres://ada:*********@db/x"),
        ] {
            let masked = mask_line(line, all);
            assert_eq!(masked, wanted);
            assert_eq!(masked.len(), line.len(), "spans must stay true: {line}");
        }
    }

    #[test]
    fn assignments_keep_their_names_and_lose_their_secrets() {
        for (item, wanted) in [
            ("model.api_key=sk-CANARY0123456789abcdef", "model.api_key=***"),
            ("size=7,+model.api_key=hunter2", "size=7,+model.api_key=***"),
            ("model={api_key: hunter2, provider: hash}", "model={api_key: ***, *** ***}"),
            ("note=sk-CANARY0123456789abcdef", "note=***"),
            ("a.request.headers.X-Tenant=h9", "a.request.headers.X-Tenant=***"),
            ("size=7,+headers.X-Tenant = h9", "size=7,+headers.X-Tenant = ***"),
            ("a={headers: {X-Tenant: h9}}", "a={headers: {*** ***}}"),
            ("a.headers={X-Tenant: h9}", "a.headers={*** ***}"),
            ("a.headers.X-Tenant=${oc.env:TENANT}", "a.headers.X-Tenant=${oc.env:TENANT}"),
            ("load.headers=true", "load.headers=true"),
            ("a.token.b=h9", "a.token.b=***"),
            ("url=https://token.example.org/x?page=2", "url=https://token.example.org/x?page=2"),
            ("a=2*3", "a=2*3"),
        ] {
            assert_eq!(mask_assignment(item), wanted);
        }
    }

    #[test]
    fn a_message_repeats_no_key_and_ends() {
        assert_eq!(fit_to_show("unknown parameter `bsk-abcdefghijklmnopqrst12`"), "unknown parameter `b***`");
        assert_eq!(fit_to_show("unknown parameter `a`"), "unknown parameter `a`");
        let long = fit_to_show(&"é".repeat(1 << 20)).into_owned();
        assert!(long.len() <= MAX_MESSAGE + 3 && long.ends_with("é…"), "{} bytes", long.len());
    }

    #[test]
    fn a_block_under_a_secrets_name_is_its_value() {
        for (line, wanted) in [
            ("private_key: |", true),
            ("password:", true),
            ("token: x", false),
            ("path: |", false),
            ("keys:", false),
            ("  headers:", true),
            ("headers: &h", true),
            ("headers: true", false),
        ] {
            assert_eq!(opens_a_secret(line), wanted, "{line}");
        }
    }
}
