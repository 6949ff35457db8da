//! Removes keys from messages: the key itself, and the parts of keys that servers quote.

use crate::model::{Secret, SecretMask};

/// Characters of a quoted key; servers put stars, dots or an ellipsis in its middle.
fn in_a_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*' | '.' | '…')
}

/// Prefixes of keys.
const BEGINNINGS: &[&str] = &["sk-", "sk_", "pa-", "gsk_", "nvapi-", "AIza", "Bearer "];

/// Removes secrets, and whatever looks like a part of one, from a message.
pub fn scrub(secrets: &[Secret], text: &str) -> String {
    let text = secrets.iter().fold(text.to_owned(), |text, secret| {
        scrub_ends(secret.expose(), &SecretMask::from_iter([secret]).mask(&text))
    });
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((at, beginning)) =
        BEGINNINGS.iter().filter_map(|b| rest.find(b).map(|at| (at, *b))).min_by_key(|(at, _)| *at)
    {
        let after = &rest[at + beginning.len()..];
        let end = after.find(|c| !in_a_key(c)).unwrap_or(after.len());
        let word_goes_on = rest[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        out.push_str(&rest[..at]);
        if word_goes_on || end < 3 {
            // `risk-free` is not a key.
            out.push_str(beginning);
            out.push_str(&after[..end]);
        } else {
            out.push_str("***");
        }
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

/// Removes words with stars or dots that begin or end like the key: `abcd****wxyz`.
fn scrub_ends(key: &str, text: &str) -> String {
    let (Some(first), Some(last)) = (key.get(..4), key.len().checked_sub(4).and_then(|at| key.get(at..))) else {
        return text.to_owned();
    };
    text.split_inclusive(|c: char| !in_a_key(c))
        .map(|word| {
            let bare = word.trim_end_matches(|c| !in_a_key(c));
            let masked = bare.contains("**") || bare.contains("..") || bare.contains('…');
            let ours = bare.starts_with(first) || bare.trim_end_matches('.').ends_with(last);
            if masked && ours { format!("***{}", &word[bare.len()..]) } else { word.to_owned() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_their_parts_disappear() {
        let key = Secret::new("canary-0123456789-wxyz");
        for (text, expected) in [
            ("Incorrect API key provided: canary-0123456789-wxyz.", "Incorrect API key provided: ***."),
            ("Incorrect API key provided: sk-abc***def. See", "Incorrect API key provided: *** See"),
            ("bad key cana**********wxyz here", "bad key *** here"),
            ("bad key ****wxyz, sorry", "bad key ***, sorry"),
            ("a risk-free sk-x word", "a risk-free sk-x word"),
            ("Authorization: Bearer abcdef", "Authorization: ***"),
            ("no keys... at all", "no keys... at all"),
        ] {
            assert_eq!(scrub(std::slice::from_ref(&key), text), expected);
        }
    }
}
