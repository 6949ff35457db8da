//! `flow runs`: past runs, from the ledger.

use serde_json::{Value as Json, json};

use crate::{
    cli::{
        Exit,
        app::{App, Outcome, print},
        arguments::RunsCommand,
    },
    run::ledger,
};

pub(in crate::cli) fn runs(app: &App, command: Option<&RunsCommand>) -> Outcome {
    let project = app.project()?;
    let folder = App::state_folder(&project).join("runs");
    let unreadable = |error: std::io::Error| app.fail(Exit::Environment, format!("{}: {error}", folder.display()));
    let ids = ledger::list(&folder).map_err(unreadable)?;
    match command {
        None => {
            let mut rows = Vec::new();
            for id in ids.iter().rev() {
                rows.push(summary(id, ledger::ends(&folder, id).map_err(unreadable)?));
            }
            if app.json() {
                return Ok(app.document(&rows));
            }
            let line = |row: &Json| {
                let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
                format!("{}  {:11}  {:>8}  {}\n", text("run"), text("status"), text("seconds"), text("pipeline"))
            };
            Ok(print(&rows.iter().map(line).collect::<String>()))
        }
        Some(RunsCommand::Show { run }) => {
            let id = if run == "last" { ids.last() } else { ids.iter().find(|id| *id == run) };
            let Some(id) = id else {
                let hint = if ids.is_empty() { "there has been none yet" } else { "`flow runs` lists them" };
                return Err(app.fail(Exit::Wrong, format!("there is no run `{run}`; {hint}")));
            };
            let events = ledger::read(&folder, id).map_err(unreadable)?;
            if app.json() {
                return Ok(app.document(&events));
            }
            Ok(print(&story(&events)))
        }
    }
}

fn summary(id: &str, (first, last): (Option<Json>, Option<Json>)) -> Json {
    let started = first.filter(|event| event["kind"] == "run.started");
    let finished = last.filter(|event| event["kind"] == "run.finished");
    let finished = finished.as_ref();
    json!({
        "run": id,
        // A run without an end was killed.
        "status": finished.map_or("killed", |event| event["status"].as_str().unwrap_or("killed")),
        "seconds": finished.and_then(|event| event["seconds"].as_f64()).map(|seconds| format!("{seconds:.1}s")),
        "pipeline": started.as_ref().and_then(|event| event["pipeline"].as_str()).unwrap_or("(all)"),
    })
}

fn story(events: &[Json]) -> String {
    let mut out = String::new();
    for event in events {
        let kind = event["kind"].as_str().unwrap_or_default();
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let line = match kind {
            "partition.finished" => continue,
            "partition.failed" => format!("{} {}: {}", text("node"), text("partition"), text("error")),
            "node.skipped" | "node.blocked" => format!("{} {}{}", text("node"), text("reason"), text("because")),
            "node.failed" => format!("{}: {}", text("node"), text("error")),
            "node.finished" => format!("{}: {} rows", text("node"), event["rows"]),
            "run.finished" => format!("{} {}", text("status"), event["rows"]),
            _ => text("node").to_owned(),
        };
        out.push_str(&format!("{:>9.2}s  {kind:18}  {line}\n", event["seconds"].as_f64().unwrap_or_default()));
    }
    out
}
