//! All secrets that a process knows, taken out of whatever it says.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use super::Secret;

/// Shorter secrets would turn ordinary words into stars. They are masked where they are known by their name.
const SHORTEST: usize = 6;

/// Takes secrets out of texts. Cheap to clone; clones share what they know.
#[derive(Clone, Default)]
pub struct SecretMask(Arc<RwLock<Vec<String>>>);

impl SecretMask {
    /// Learns a secret, also as it is written inside JSON.
    pub fn add(&self, secret: &Secret) {
        let secret = secret.expose();
        if secret.len() < SHORTEST {
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
        // A secret that holds another one goes first.
        known.sort_by_key(|form| std::cmp::Reverse(form.len()));
    }

    /// The text with every known secret as `***`.
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
    fn every_known_secret_becomes_stars_and_short_ones_are_left_to_their_names() {
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
