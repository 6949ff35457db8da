//! `flow cache`: statistics, verification and garbage collection of the project's embedding caches.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::{Value as Json, json};

use crate::{
    cache::{CacheError, GcPolicy, gc, stats, verify},
    cli::{
        Exit,
        app::{App, Outcome, print},
        arguments::CacheCommand,
    },
    config::{self, Project, parse_age, parse_kept_bytes},
};

pub(in crate::cli) fn cache(app: &App, command: &CacheCommand) -> Outcome {
    let project = app.project()?;
    let wrong = |error: CacheError| app.fail(Exit::Environment, error.to_string());
    let mut sound = true;
    let mut rows = Vec::new();
    for folder in folders(&project) {
        let row = match command {
            CacheCommand::Stats => {
                let stats = stats(&folder).map_err(wrong)?;
                json!({"path": shown(&folder, &project), "entries": stats.entries, "segments": stats.segments, "bytes": stats.bytes})
            }
            CacheCommand::Verify => {
                let report = verify(&folder).map_err(wrong)?;
                sound &= report.is_sound();
                json!({
                    "path": shown(&folder, &project), "sound": report.is_sound(), "entries": report.entries,
                    "segments": report.segments, "damaged": report.damaged, "unlisted": report.unlisted,
                    "damaged_indexes": report.damaged_indexes,
                })
            }
            CacheCommand::Gc { max_size, older_than } => {
                let max_bytes = max_size.as_deref().map(parse_kept_bytes).transpose();
                let older_than = older_than.as_deref().map(parse_age).transpose();
                let max_bytes = max_bytes.map_err(|error| app.fail(Exit::Wrong, format!("--max-size: {error}")))?;
                let older_than = older_than.map_err(|error| app.fail(Exit::Wrong, format!("--older-than: {error}")))?;
                let report = gc(&folder, GcPolicy { max_bytes, older_than }).map_err(wrong)?;
                json!({
                    "path": shown(&folder, &project), "segments_removed": report.segments_removed,
                    "bytes_freed": report.bytes_freed, "bytes": report.bytes_left,
                })
            }
        };
        rows.push(row);
    }
    let printed = if app.json() { app.document(&rows) } else { print(&rows.iter().map(line).collect::<String>()) };
    Ok(if sound { printed } else { Exit::Failed })
}

fn shown(folder: &Path, project: &Project) -> String {
    folder.strip_prefix(&project.root).unwrap_or(folder).display().to_string()
}

fn line(row: &Json) -> String {
    let fields = row.as_object().into_iter().flatten();
    let words: Vec<String> = fields
        .map(|(key, value)| match value {
            Json::String(text) => text.clone(),
            other => format!("{} {other}", key.replace('_', " ")),
        })
        .collect();
    words.join(", ") + "\n"
}

/// The default folder, and every `cache: {path: …}` of the parameters.
fn folders(project: &Project) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::from([project.root.join(".flow/cache")]);
    collect(&project.parameters, project, &mut folders);
    folders
}

fn collect(node: &config::Node, project: &Project, folders: &mut BTreeSet<PathBuf>) {
    for (key, entry) in node.as_map().into_iter().flat_map(config::Map::iter) {
        if key == "cache"
            && let Some(path) = entry.node.get("path").and_then(config::Node::as_text)
        {
            folders.insert(project.root.join(path));
        }
        collect(&entry.node, project, folders);
    }
}
