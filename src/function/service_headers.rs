//! `headers`: what a mapping adds to each request. Its values are secrets.

use crate::{
    config::{Map, Value},
    function::problems::Problems,
    model::{Secret, is_open_header},
};

/// All headers, and those on whose values answers depend (`Accept-Language`).
pub(super) type Headers = (Vec<(String, Secret)>, Vec<(String, String)>);

/// Reads the key. Variables that are not set go to `missing`.
pub(super) fn read_headers(map: Option<&Map>, missing: &mut Vec<String>, problems: &mut Problems<'_>) -> Headers {
    let (mut all, mut open) = (Vec::new(), Vec::new());
    for (name, entry) in map.into_iter().flat_map(Map::iter) {
        let value = match &entry.node.value {
            Value::Secret(secret) => Some(secret.clone()),
            Value::MissingSecret { variable } => {
                missing.push(variable.clone());
                continue;
            }
            Value::Text(text) => Some(Secret::new(text.as_str())),
            Value::Int(number) => Some(Secret::new(number.to_string())),
            Value::Bool(yes) => Some(Secret::new(yes.to_string())),
            Value::Unresolved => continue,
            _ => None,
        };
        let valid = reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_ok();
        let value = value.filter(|value| valid && reqwest::header::HeaderValue::from_str(value.expose()).is_ok());
        let Some(value) = value else {
            problems.wrong(
                format!("`{name}` of `headers` is not a valid header"),
                entry.node.span,
                "write a name and a string of visible ASCII characters",
            );
            continue;
        };
        if is_open_header(name) {
            open.push((name.to_ascii_lowercase(), value.expose().to_owned()));
        }
        all.push((name.to_ascii_lowercase(), value));
    }
    (all, open)
}
