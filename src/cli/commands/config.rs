//! `flow config`: the resolved configuration, with secrets masked.

use serde_json::{Map, Value as Json, json};

use crate::{
    cli::{
        Exit,
        app::{App, Outcome, print},
        arguments::{ConfigCommand, ConfigPart},
    },
    diagnostic::did_you_mean,
    model::SecretMask,
};

pub(in crate::cli) fn config(app: &App, command: &ConfigCommand) -> Outcome {
    let project = app.project()?;
    let value = match command {
        ConfigCommand::Show { part: ConfigPart::Parameters } => project.parameters.to_json(),
        ConfigCommand::Show { part: ConfigPart::Globals } => project.globals.to_json(),
        ConfigCommand::Show { part: ConfigPart::Credentials } => project.credentials.to_json(),
        ConfigCommand::Show { part: ConfigPart::Catalog } => {
            let entries = project.catalog.entries.values().chain(&project.catalog.patterns);
            Json::Object(entries.map(|spec| (spec.name.clone(), spec.options.to_json())).collect::<Map<_, _>>())
        }
        ConfigCommand::Resolve { name } => {
            let Some(resolved) = project.catalog.resolve(name) else {
                let hint = did_you_mean(name, project.catalog.entries.keys())
                    .map(|hint| format!("; {hint}"))
                    .unwrap_or_default();
                return Err(app.fail(Exit::Wrong, format!("the catalog has no dataset `{name}`{hint}")));
            };
            json!({"name": name, "pattern": resolved.pattern, "config": resolved.spec.options.to_json()})
        }
    };
    // A secret may be a part of a value that is none: of a URL's query, for example.
    let value = masked(value, &app.secrets);
    if app.json() {
        return Ok(app.document(&value));
    }
    Ok(print(&yaml(&value)))
}

/// The value with known secrets in its strings masked.
pub(super) fn masked(value: Json, secrets: &SecretMask) -> Json {
    match value {
        Json::String(text) => Json::String(secrets.mask(&text).into_owned()),
        Json::Array(list) => list.into_iter().map(|item| masked(item, secrets)).collect(),
        Json::Object(map) => map.into_iter().map(|(key, value)| (key, masked(value, secrets))).collect(),
        other => other,
    }
}

/// Block-style YAML. Scalars that would be ambiguous as plain words are quoted as in JSON, a subset of YAML.
fn yaml(value: &Json) -> String {
    let mut out = String::new();
    match value {
        Json::Object(map) if !map.is_empty() => write_map(map, 0, &mut out),
        Json::Array(list) if !list.is_empty() => write_list(list, 0, &mut out),
        other => out.push_str(&format!("{}\n", scalar(other))),
    }
    out
}

fn write_map(map: &Map<String, Json>, depth: usize, out: &mut String) {
    for (key, value) in map {
        out.push_str(&"  ".repeat(depth));
        out.push_str(&word(key));
        out.push(':');
        write_value(value, depth, out);
    }
}

fn write_list(list: &[Json], depth: usize, out: &mut String) {
    for value in list {
        out.push_str(&"  ".repeat(depth));
        out.push('-');
        write_value(value, depth, out);
    }
}

fn write_value(value: &Json, depth: usize, out: &mut String) {
    match value {
        Json::Object(map) if !map.is_empty() => {
            out.push('\n');
            write_map(map, depth + 1, out);
        }
        Json::Array(list) if !list.is_empty() => {
            out.push('\n');
            write_list(list, depth + 1, out);
        }
        other => out.push_str(&format!(" {}\n", scalar(other))),
    }
}

fn scalar(value: &Json) -> String {
    match value {
        Json::String(text) => word(text),
        other => other.to_string(),
    }
}

/// A string as a plain word if that is unambiguous, otherwise quoted.
fn word(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_' | '.'))
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@' | '+' | '=' | '{' | '}'))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | ".inf" | ".nan" | "."
        );
    if plain { text.to_owned() } else { Json::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_yaml_that_reads_back_the_same() {
        let value = json!({"a": {"b": [1, "two", {"c": null}]}, "d.e": "yes", "f": "a: b", "g": [], "h": {}, "i": 1.5, "j@k": "***"});
        let text = yaml(&value);
        assert_eq!(
            text,
            "a:\n  b:\n    - 1\n    - two\n    -\n      c: null\nd.e: \"yes\"\nf: \"a: b\"\ng: []\nh: {}\ni: 1.5\nj@k: \"***\"\n"
        );
    }
}
