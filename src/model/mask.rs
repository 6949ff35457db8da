//! Masks all secrets that the process has loaded in its output.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use super::Secret;

/// The minimum length of a masked secret, in bytes. Shorter ones also occur in ordinary words, and are masked only under
/// secret names.
const MIN_LENGTH: usize = 6;

/// Replaces secrets in strings with `***`. Cheap to clone; clones share the set of secrets.
#[derive(Clone, Default)]
pub struct SecretMask(Arc<RwLock<Vec<String>>>);

impl SecretMask {
    /// Adds a secret, also in its JSON-escaped form.
    pub fn add(&self, secret: &Secret) {
        let secret = secret.expose();
        if secret.len() < MIN_LENGTH {
            return;
        }
        let json = serde_json::Value::from(secret).to_string();
        let escaped = json[1..json.len() - 1].to_owned();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for form in [secret.to_owned(), escaped] {
            if !known.contains(&form) {
                known.push(form);
            }
        }
        // A secret that contains another one must be replaced first.
        known.sort_by_key(|form| std::cmp::Reverse(form.len()));
    }

    /// The string with every known secret replaced with `***`.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = Cow::Borrowed(text);
        for secret in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if out.contains(secret.as_str()) {
                out = Cow::Owned(out.replace(secret.as_str(), "***"));
            }
        }
        out
    }
}

impl fmt::Debug for SecretMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretMask")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_known_secrets_are_masked_except_short_ones() {
        let mask = SecretMask::default();
        for secret in ["hunter2", "hunter2-long", "true", "q\"uote!"] {
            mask.add(&Secret::new(secret));
        }
        assert_eq!(mask.mask("a hunter2-long and hunter2"), "a *** and ***");
        assert_eq!(mask.mask(r#"{"x": true, "y": "q\"uote!"}"#), r#"{"x": true, "y": "***"}"#);
        assert!(matches!(mask.mask("nothing"), Cow::Borrowed(_)));
        assert_eq!(format!("{mask:?}"), "SecretMask");
    }
}
