//! `flow config`: the resolved configuration, with secrets masked.

use serde_json::{Map, Value as Json, json};

use crate::{
    cli::{
        Exit,
        app::{App, Outcome, print},
        arguments::{ConfigCommand, ConfigPart},
    },
    config::to_yaml,
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
    Ok(print(&to_yaml(&value)))
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
