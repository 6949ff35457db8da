//! Masks all secrets that the process has loaded in its output.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    Secret,
    spelling::{Unit, decoded, forms},
};

/// The minimum length of a masked secret, in bytes. Shorter ones also occur in ordinary words, and are masked only under
/// secret names.
const MIN_LENGTH: usize = 6;
/// The minimum length of a secret that is masked in all spellings and within words. A shorter one is masked as a word of its
/// own, spelled as it is: in other spellings, half of an ordinary text would look like it.
const SPELLED_LENGTH: usize = 8;
/// The length of a part of a secret that is always masked, in bytes; of a short secret, half of it is.
const MAX_PART: usize = 32;
/// The bytes by which places that may hold a secret are found.
type Gram = [u8; SPELLED_LENGTH];
/// The positions in one form that are tried for one [`Gram`]: a secret may repeat itself.
const MAX_POSITIONS: usize = 16;

/// Replaces secrets in strings with `***`, whatever their spelling: upper or lower case, base64, hexadecimal,
/// percent-encoded, with escapes or HTML entities, divided by blanks, or only half of one. Cheap to clone; clones share the
/// set of secrets.
#[derive(Clone, Default)]
pub struct SecretMask(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    /// Secrets as they are and in JSON, and whether they count within words too.
    exact: Vec<(String, bool)>,
    /// All spellings of secrets, see [`forms`].
    forms: Vec<Vec<u8>>,
    /// Where each gram occurs: a form and a position in it.
    grams: HashMap<Gram, Vec<(usize, usize)>>,
}

impl SecretMask {
    /// Adds a secret.
    pub fn add(&self, secret: &Secret) {
        let secret = secret.expose();
        if secret.len() < MIN_LENGTH {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.exact.iter().any(|(exact, _)| exact == secret) {
            return;
        }
        let json = serde_json::Value::from(secret).to_string();
        let escaped = &json[1..json.len() - 1];
        let spelled = secret.len() >= SPELLED_LENGTH;
        known.exact.push((secret.to_owned(), spelled));
        if escaped != secret {
            known.exact.push((escaped.to_owned(), spelled));
        }
        if spelled {
            forms(secret).into_iter().for_each(|form| known.add_form(form));
        }
    }

    /// The string with every known secret replaced with `***`.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.exact.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut found = known.exact_in(text);
        known.spelled_in(&decoded(text), &mut found);
        drop(known);
        replaced(text, found)
    }
}

impl<'s> FromIterator<&'s Secret> for SecretMask {
    fn from_iter<I: IntoIterator<Item = &'s Secret>>(secrets: I) -> Self {
        let mask = Self::default();
        secrets.into_iter().for_each(|secret| mask.add(secret));
        mask
    }
}

impl Known {
    fn add_form(&mut self, form: Vec<u8>) {
        if form.len() < SPELLED_LENGTH || self.forms.contains(&form) {
            return;
        }
        let index = self.forms.len();
        for (position, gram) in form.windows(SPELLED_LENGTH).enumerate() {
            let gram = gram.try_into().expect("a window has the length of a gram");
            let positions = self.grams.entry(gram).or_default();
            if positions.iter().filter(|(form, _)| *form == index).count() < MAX_POSITIONS {
                positions.push((index, position));
            }
        }
        self.forms.push(form);
    }

    fn exact_in(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for (secret, within_words) in &self.exact {
            for (at, _) in text.match_indices(secret.as_str()) {
                let end = at + secret.len();
                let alone =
                    !text[..at].ends_with(char::is_alphanumeric) && !text[end..].starts_with(char::is_alphanumeric);
                if *within_words || alone {
                    found.push(at..end);
                }
            }
        }
        found
    }

    /// Adds the ranges in which half of a form, or [`MAX_PART`] bytes of one, are spelled.
    fn spelled_in(&self, units: &[Unit], found: &mut Vec<Range<usize>>) {
        let mut gram: Gram = [0; SPELLED_LENGTH];
        let mut at = 0;
        while let Some(window) = units.get(at..at + SPELLED_LENGTH) {
            for (byte, unit) in gram.iter_mut().zip(window) {
                *byte = unit.byte;
            }
            let longest = self.grams.get(&gram).into_iter().flatten().filter_map(|(form, position)| {
                let form = &self.forms[*form];
                let same = form[*position..].iter().zip(&units[at..]).take_while(|(byte, unit)| **byte == unit.byte);
                let length = same.count();
                (length >= form.len().div_ceil(2).clamp(SPELLED_LENGTH, MAX_PART)).then_some(length)
            });
            match longest.max() {
                Some(length) => {
                    found.push(units[at].start..units[at + length - 1].end);
                    at += length;
                }
                None => at += 1,
            }
        }
    }
}

/// The text with `***` for each of the ranges; those that overlap or touch count as one.
fn replaced(text: &str, mut ranges: Vec<Range<usize>>) -> Cow<'_, str> {
    if ranges.is_empty() {
        return Cow::Borrowed(text);
    }
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut out = String::with_capacity(text.len());
    let mut end = None;
    for range in ranges {
        match end {
            Some(end) if range.start <= end => {}
            _ => {
                out.push_str(&text[end.unwrap_or(0)..range.start]);
                out.push_str("***");
            }
        }
        end = end.max(Some(range.end));
    }
    out.push_str(&text[end.unwrap_or(0)..]);
    Cow::Owned(out)
}

impl fmt::Debug for SecretMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretMask")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask_of(secrets: &[&str]) -> SecretMask {
        secrets.iter().map(|secret| Secret::new(*secret)).collect::<Vec<_>>().iter().collect()
    }

    #[test]
    fn all_known_secrets_are_masked_except_short_ones() {
        let mask = mask_of(&["hunter2", "hunter2-long", "true", "q\"uote!"]);
        assert_eq!(mask.mask("a hunter2-long and hunter2"), "a *** and ***");
        assert_eq!(mask.mask(r#"{"x": true, "y": "q\"uote!"}"#), r#"{"x": true, "y": "***"}"#);
        assert!(matches!(mask.mask("nothing"), Cow::Borrowed(_)));
        assert_eq!(format!("{mask:?}"), "SecretMask");
    }

    #[test]
    fn a_short_secret_masks_words_and_not_parts_of_words() {
        let mask = mask_of(&["secret"]);
        assert_eq!(mask.mask("secret, 'secret' and k=secret"), "***, '***' and k=***");
        for text in ["secretary", "Secret", "sec ret", "c2VjcmV0"] {
            assert_eq!(mask.mask(text), text);
        }
    }

    #[test]
    fn a_secret_is_masked_however_it_is_spelled() {
        let secret = "sk-Canary/0123+456&<Wxyz>";
        let mask = mask_of(&[secret]);
        let base64 = |text: String| base64_simd::STANDARD.encode_to_string(text);
        let url_safe = |text: String| base64_simd::URL_SAFE_NO_PAD.encode_to_string(text);
        let bytes = |with: &dyn Fn(u8) -> String| secret.bytes().map(with).collect::<String>();
        let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let spellings = [
            ("as it is", secret.to_owned()),
            ("upper case", secret.to_uppercase()),
            ("lower case", secret.to_lowercase()),
            ("base64", base64(secret.to_owned())),
            ("base64 after one byte", base64(format!("u{secret}"))),
            ("Basic", format!("Basic {}", base64(format!("user:{secret}")))),
            ("Basic without a user", format!("Basic {}", base64(format!(":{secret}")))),
            ("url-safe base64", url_safe(format!("ab{secret}?"))),
            ("base64 in lines", base64(secret.to_owned()).replace("yM", "yM\r\n")),
            ("hexadecimal", bytes(&|b| format!("{b:02x}"))),
            ("upper hexadecimal", bytes(&|b| format!("{b:02X}"))),
            ("percent-encoded", url::form_urlencoded::byte_serialize(secret.as_bytes()).collect()),
            ("all percent-encoded", bytes(&|b| format!("%{b:02x}"))),
            ("percent-encoded base64", base64(format!("u{secret}")).replace('=', "%3D").replace('/', "%2F")),
            ("entities", html.clone()),
            ("decimal entities", bytes(&|b| format!("&#{b};"))),
            ("hexadecimal entities", bytes(&|b| format!("&#x{b:X};"))),
            ("JSON", bytes(&|b| format!("\\u{b:04x}"))),
            ("Rust", bytes(&|b| format!("\\x{b:02x}"))),
            ("entities in JSON", html.replace('&', "\\u0026")),
            ("with a blank", secret.replace("23", "2 3")),
            ("in lines", secret.replace("0123", "01\n    23")),
            ("in escaped lines", secret.replace("0123", "01\\n23")),
            ("with soft hyphens", secret.replace("01", "0\u{ad}1")),
            ("its beginning", secret[..14].to_owned()),
            ("its end", secret[11..].to_owned()),
        ];
        for (name, spelling) in spellings {
            let text = format!("the server says: {spelling}, no.");
            let masked = mask.mask(&text).into_owned();
            let rest = masked.strip_prefix("the server says: ").and_then(|rest| rest.strip_suffix(", no."));
            // Base64 leaves the characters that hold parts of what is around the secret.
            let left = rest.unwrap_or(&masked).replace("***", "").replace("Basic ", "");
            assert!(rest.is_some() && masked.contains("***") && left.len() <= 10, "{name}: {masked}");
        }
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        let mask = mask_of(&["sk-Canary0123456789Wxyz", "correct horse battery staple"]);
        for text in [
            "a canary bird sings",
            "0123456789",
            "correct horses",
            "dataset `nodes`: data/nodes.csv, 100 % done & more; 50%25",
            "\\ % & &#; %zz \\u{} \\u{110000}",
        ] {
            assert!(matches!(mask.mask(text), Cow::Borrowed(_)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_mask(secret in ".{6,40}", text in "\\PC{0,40}[\\\\%&#;xu{}0-9a-f]{0,30}\\PC{0,10}") {
            let mask = mask_of(&[&secret]);
            let _ = mask.mask(&text);
            let masked = mask.mask(&format!("{text} {secret} {text}")).into_owned();
            prop_assert!(!masked.contains(&secret) || secret.len() < SPELLED_LENGTH || "***".contains(&secret));
        }
    }
}
