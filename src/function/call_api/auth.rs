//! `auth`: how requests are authorized. Secrets never appear in messages, logs or fingerprints.

use base64_simd::STANDARD;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    config::{Field, Kind, Record, Value},
    function::problems::Problems,
    model::Secret,
};

/// The keys of `auth`.
pub static FIELDS: &[Field] = &[
    Field::required(
        "type",
        Kind::Choice(&["bearer", "api_key", "http_basic"]),
        "`bearer` sends `token`, `api_key` sends `api_key` under `name`, `http_basic` sends `username` and `password`.",
    ),
    Field::optional("token", Kind::Secret, "", "The token of `bearer`."),
    Field::optional("api_key", Kind::Secret, "", "The key of `api_key`."),
    Field::optional("name", Kind::Text, "Authorization", "The name of the header or parameter of `api_key`."),
    Field::optional("location", Kind::Choice(&["header", "query"]), "header", "Where `api_key` is sent."),
    Field::optional("username", Kind::Text, "", "The name of `http_basic`."),
    Field::optional("password", Kind::Secret, "", "The password of `http_basic`."),
];

/// How requests are authorized.
#[derive(Debug, Clone)]
pub enum Auth {
    /// In a header.
    Header {
        /// Its name.
        name: HeaderName,
        /// Its value.
        value: Secret,
        /// What must not be shown besides.
        secret: Secret,
    },
    /// In the query string.
    Query {
        /// The name of the parameter.
        name: String,
        /// Its value.
        value: Secret,
    },
}

impl Auth {
    /// Reads the mapping. Variables that are not set go to `missing`.
    pub fn read(record: &Record<'_>, missing: &mut Vec<String>, problems: &mut Problems<'_>) -> Option<Self> {
        let mut secret = |key: &str, problems: &mut Problems<'_>| {
            if let Some(variable) = record.missing_secret(key) {
                missing.push(variable.to_owned());
                return None;
            }
            let found = record.secret(key).filter(|secret| !secret.expose().is_empty());
            let unresolved = record.node(key).is_some_and(|node| matches!(node.value, Value::Unresolved));
            if found.is_none() && !unresolved {
                problems.wrong(
                    format!("`auth` has no `{key}`"),
                    record.record_span(),
                    &format!("write `{key}: ${{oc.env:NAME}}`, and export the variable"),
                );
            }
            found
        };
        match record.word("type")? {
            "bearer" => {
                let secret = secret("token", problems)?;
                let value = Secret::new(format!("Bearer {}", secret.expose()));
                Some(Self::Header { name: reqwest::header::AUTHORIZATION, value, secret })
            }
            "api_key" => {
                let value = secret("api_key", problems)?;
                let name = record.text("name").unwrap_or("Authorization").to_owned();
                if record.word("location") == Some("query") {
                    return Some(Self::Query { name, value });
                }
                let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
                    problems.wrong(
                        format!("`{name}` is not a header"),
                        record.span("name"),
                        "write a name such as `x-api-key`",
                    );
                    return None;
                };
                Some(Self::Header { name: header, secret: value.clone(), value })
            }
            _ => {
                let secret = secret("password", problems)?;
                let pair = format!("{}:{}", record.text("username").unwrap_or_default(), secret.expose());
                let value = Secret::new(format!("Basic {}", STANDARD.encode_to_string(pair.as_bytes())));
                Some(Self::Header { name: reqwest::header::AUTHORIZATION, value, secret })
            }
        }
    }

    /// What must not be shown.
    pub fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Header { value, secret, .. } => vec![value, secret],
            Self::Query { value, .. } => vec![value],
        }
    }

    /// Adds the header. False if the value is not valid in one.
    pub fn add_to(&self, headers: &mut HeaderMap) -> bool {
        let Self::Header { name, value, .. } = self else { return true };
        let Ok(mut value) = HeaderValue::from_str(value.expose()) else { return false };
        value.set_sensitive(true);
        headers.insert(name.clone(), value);
        true
    }
}
