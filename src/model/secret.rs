//! Values that are never displayed: not in a log, an error, a graph, a ledger or a fingerprint.

use std::{fmt, sync::Arc};

/// A string that formats as `***`. Its value is available only through [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a string.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The value itself, to send it to a server.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Names of secrets.
const NAMES: &[&str] =
    &["token", "secret", "password", "passwd", "passphrase", "credential", "sas", "connection_string"];
/// Endings of names of secrets.
const ENDINGS: &[&str] = &[
    "api_key",
    "apikey",
    "access_key",
    "account_key",
    "secret_key",
    "private_key",
    "_token",
    "_secret",
    "_password",
    "secret_access_key",
    "sas_token",
    "session_token",
    "_passphrase",
    "client_secret",
    "authorization",
];

/// Keys of mappings in which every value is a secret, whatever its own name.
const MAPPINGS: &[&str] = &["credentials", HEADERS];
/// The key of the headers of requests.
pub const HEADERS: &str = "headers";
/// Headers that say what is wanted and who asks, and give nobody access.
const OPEN_HEADERS: &[&str] = &[
    "accept",
    "accept_charset",
    "accept_encoding",
    "accept_language",
    "content_language",
    "content_type",
    "prefer",
    "user_agent",
];
/// Parameters of an address that sign it, or hold a key.
const SIGNATURES: &[&str] = &["sig", "signature", "subscription_key", "x_amz_signature", "x_goog_signature"];

/// True for a key whose mapping holds secrets: `headers` and `credentials`. With another value, as `headers: true`, it says
/// nothing about it.
pub fn is_secret_mapping_name(key: &str) -> bool {
    MAPPINGS.contains(&key)
}

/// True for a header whose value is a common word (`application/json`) or a version. It is hidden as all under `headers`, but
/// not masked where the word is used elsewhere, and answers depend on it.
pub fn is_open_header(name: &str) -> bool {
    let name = normal(name);
    OPEN_HEADERS.contains(&name.as_str()) || name.ends_with("version")
}

/// True for a parameter of an address whose value is a secret: one with a secret's name, or a signature.
pub fn is_secret_parameter(name: &str) -> bool {
    is_secret_name(name) || SIGNATURES.contains(&normal(name).as_str())
}

/// True for a key whose name indicates a secret value: `api_key`, `openai_api_key`, `token`, `password`, …, and for one that
/// is a typo away from such a name.
pub fn is_secret_name(key: &str) -> bool {
    named(&normal(key)) || similar_secret_name(key).is_some()
}

/// The name of a secret that this name is one typo away from: `api_key` for `api_kye`. `None` for the name itself, its
/// plural, and names too short to tell.
pub fn similar_secret_name(key: &str) -> Option<&'static str> {
    const MIN_NAME: usize = 6;
    let key = normal(key);
    if named(&key) || named(key.trim_end_matches('s')) {
        return None;
    }
    let names = NAMES.iter().chain(ENDINGS).map(|name| name.trim_start_matches('_'));
    names.filter(|name| name.len() >= MIN_NAME).find(|name| {
        // As many words from the end as the name has: `openai_api_kye`.
        let words = name.split('_').count();
        let start = key.rmatch_indices('_').nth(words - 1).map_or(0, |(at, _)| at + 1);
        strsim::osa_distance(&key[start..], name) == 1
    })
}

fn normal(key: &str) -> String {
    key.to_ascii_lowercase().replace('-', "_")
}

fn named(key: &str) -> bool {
    // `max_tokens` is not a secret; parameters like `max_token` are plural in practice.
    NAMES.contains(&key) || ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// True for a string that looks like a real key (`sk-…`, `AKIA…`, `ghp_…`), which must not be under version control.
pub fn looks_like_a_key(text: &str) -> bool {
    let tail = |prefix: &str, min: usize| {
        text.strip_prefix(prefix).is_some_and(|rest| {
            rest.len() >= min && rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
    };
    tail("sk-", 16)
        || tail("AKIA", 16)
        || tail("ghp_", 30)
        || tail("github_pat_", 30)
        || tail("xoxb-", 20)
        || tail("AIza", 30)
}

/// The ranges of a string that look like real keys, also where one is glued to a word. There, the end of it has to look
/// random: `task-management-pipelines` holds no key.
pub fn keys_within(text: &str) -> Vec<std::ops::Range<usize>> {
    let in_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let random = |part: &str| {
        let is = |test: fn(&u8) -> bool| part.bytes().any(|byte| test(&byte));
        part.len() >= 16 && is(u8::is_ascii_digit) && is(u8::is_ascii_alphabetic)
    };
    let mut found = Vec::new();
    let mut end = 0;
    for word in text.split(|c: char| !u8::try_from(c).is_ok_and(in_key)) {
        let start = text[end..].find(word).map_or(end, |at| end + at);
        end = start + word.len();
        let glued = || (1..word.len()).find(|at| looks_like_a_key(&word[*at..]) && word[*at..].split('-').any(random));
        let key = if looks_like_a_key(word) { Some(0) } else { glued() };
        found.extend(key.map(|at| start + at..end));
    }
    found
}

/// The secrets in the URLs of a string: passwords before the host, and keys and signatures in the query.
pub fn url_secrets(text: &str) -> Vec<Secret> {
    // Mostly keys, but ordinary words as well: what has such a name is masked, and not refused.
    const PERHAPS: &[&str] = &["key", "code"];
    let mut secrets = Vec::new();
    for (scheme_end, separator) in text.match_indices("://") {
        let url = &text[scheme_end + separator.len()..];
        let url = &url[..url.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).unwrap_or(url.len())];
        let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
        let password =
            authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
        let query = url.split_once('?').map_or("", |(_, rest)| rest).split('#').next().unwrap_or_default();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let named = pairs.filter(|(name, _)| is_secret_parameter(name) || PERHAPS.contains(&normal(name).as_str()));
        let found = password.into_iter().chain(named.map(|(_, value)| value)).filter(|value| !value.is_empty());
        secrets.extend(found.map(Secret::new));
    }
    secrets
}

/// The secrets in a connection string, `Server=h;Password=p` or `host=h password=p`; none in another text.
pub fn connection_secrets(text: &str) -> Vec<Secret> {
    /// Names that are written as one word there.
    const NAMES: &[&str] = &["pwd", "sharedaccesskey", "sharedaccesssignature"];
    let separator = |c: char| if text.contains(';') { c == ';' } else { c.is_whitespace() };
    let pieces = text.split(separator).map(str::trim).filter(|piece| !piece.is_empty());
    let Some(pairs) = pieces.map(|piece| piece.split_once('=')).collect::<Option<Vec<_>>>() else {
        return Vec::new();
    };
    let is_secret = |name: &str| is_secret_parameter(name) || NAMES.contains(&normal(name).as_str());
    let found = pairs.into_iter().filter(|(name, _)| is_secret(name.trim()));
    let values = found.map(|(_, value)| value.trim().trim_matches(['"', '\'']));
    values.filter(|value| !value.is_empty()).map(Secret::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_keys_are_found_in_connection_strings() {
        for (text, wanted) in [
            ("Server=h;User Id=sa;Password=hunter2 pass;", vec!["hunter2 pass"]),
            ("Driver={x};PWD='a b';UID=me", vec!["a b"]),
            ("AccountName=a;AccountKey=ab/c==;EndpointSuffix=core.windows.net", vec!["ab/c=="]),
            ("Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=k1", vec!["k1"]),
            ("host=h user=me password=hunter2", vec!["hunter2"]),
            ("SELECT * FROM users WHERE password=name", vec![]),
            ("password=", vec![]),
            ("the token=x is a secret", vec![]),
            ("", vec![]),
        ] {
            let found = connection_secrets(text);
            let found: Vec<&str> = found.iter().map(Secret::expose).collect();
            assert_eq!(found, wanted, "{text}");
        }
    }

    #[test]
    fn passwords_keys_and_signatures_are_found_in_urls() {
        for (text, wanted) in [
            ("https://host/v1?api-key=hunter2&api-version=2024#x", vec!["hunter2"]),
            ("https://ada:hunter2@host/x", vec!["hunter2"]),
            ("https://b.example/k?sv=2022&sig=a%2Bb&X-Amz-Signature=ff00", vec!["a%2Bb", "ff00"]),
            ("try \"https://host?key=hunter2\" or http://ada:hunter3@host", vec!["hunter2", "hunter3"]),
            ("abfss://container@account.dfs.core.windows.net/x", vec![]),
            ("https://host/a=b?page=2&token=", vec![]),
            ("no url: key=hunter2", vec![]),
        ] {
            let found = url_secrets(text);
            let found: Vec<&str> = found.iter().map(Secret::expose).collect();
            assert_eq!(found, wanted, "{text}");
        }
    }

    #[test]
    fn secrets_format_as_asterisks() {
        let secret = Secret::new("sk-canary");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    }

    #[test]
    fn secret_names_are_recognized() {
        for name in [
            "api_key",
            "openai_api_key",
            "OPENAI_API_KEY",
            "token",
            "github_token",
            "account_key",
            "password",
            "client-secret",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["max_tokens", "tokens", "key", "keys", "primary_key", "tokenizer", "path", "secretary"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn headers_are_open_only_where_everybody_has_the_same_value() {
        for name in
            ["Accept", "accept-language", "Content-Type", "User-Agent", "Notion-Version", "X-GitHub-Api-Version"]
        {
            assert!(is_open_header(name), "{name}");
        }
        for name in ["X-Corp-Auth", "Authorization", "X-Tenant", "Cookie", "accept-key"] {
            assert!(!is_open_header(name), "{name}");
        }
    }

    #[test]
    fn parameters_that_sign_an_address_or_hold_a_key_are_secret_and_ordinary_words_are_not() {
        for name in ["api_key", "api-key", "token", "sig", "X-Amz-Signature", "subscription-key"] {
            assert!(is_secret_parameter(name), "{name}");
        }
        for name in ["key", "code", "api-version", "page", "sv"] {
            assert!(!is_secret_parameter(name), "{name}");
        }
    }

    #[test]
    fn a_name_one_typo_away_from_a_secrets_is_one_and_says_which() {
        for (name, wanted) in [
            ("api_kye", Some("api_key")),
            ("openai_api_kye", Some("api_key")),
            ("OPENAI-API-KEI", Some("api_key")),
            ("pasword", Some("password")),
            ("db_passwrod", Some("password")),
            ("acces_key", Some("access_key")),
            ("authorisation", Some("authorization")),
            ("api_key", None),
            ("api_keys", None),
            ("passwords", None),
            ("max_tokens", None),
            ("taken", None),
            ("primary_key", None),
            ("input_features", None),
            ("path", None),
        ] {
            assert_eq!(similar_secret_name(name), wanted, "{name}");
            assert!(wanted.is_none() || is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn strings_that_look_like_keys_are_recognized() {
        assert!(looks_like_a_key("sk-proj-abcdefghijklmnop1234"));
        assert!(looks_like_a_key("AKIAIOSFODNN7EXAMPLE"));
        for (text, keys) in [
            (
                "bsk-proj-abcdefghijklmnop1234 and AKIAIOSFODNN7EXAMPLE",
                vec!["sk-proj-abcdefghijklmnop1234", "AKIAIOSFODNN7EXAMPLE"],
            ),
            ("été sk-abcdefghijklmnop1234é", vec!["sk-abcdefghijklmnop1234"]),
            ("task-management-pipelines-2024", vec![]),
        ] {
            let found: Vec<&str> = keys_within(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, keys);
        }
        for text in ["sk-", "sk-learn", "ski resort", "sk-learn is a library with a long name"] {
            assert!(!looks_like_a_key(text), "{text}");
        }
    }
}
