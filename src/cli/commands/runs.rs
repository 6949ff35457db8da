//! `flow runs`: past and running runs, from the ledger.

use std::path::Path;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Serialize;
use serde_json::Value as Json;

use crate::{
    cli::{
        Exit,
        app::{App, Outcome, Stop, print},
        arguments::RunsCommand,
    },
    report,
    run::{event::Event, ledger},
};

pub(in crate::cli) fn runs(app: &App, command: Option<&RunsCommand>) -> Outcome {
    let project = app.project()?;
    let folder = App::state_folder(&project).join("runs");
    let unreadable = |error: std::io::Error| app.fail(Exit::Environment, format!("{}: {error}", folder.display()));
    let ids = ledger::list(&folder).map_err(unreadable)?;
    match command {
        None => {
            let mut runs = Vec::new();
            for id in ids.iter().rev() {
                match Run::read(&folder, id) {
                    Ok(run) => runs.push(run),
                    // One that cannot be read hides no other one.
                    Err(error) => {
                        let file = folder.join(format!("{id}.jsonl"));
                        app.fail(Exit::Environment, format!("{}: {error}", file.display()));
                    }
                }
            }
            if app.json() {
                return Ok(app.document(&runs));
            }
            Ok(print(&runs.iter().map(|run| run.line() + "\n").collect::<String>()))
        }
        Some(RunsCommand::Show { run }) => {
            let id = find(app, &ids, run)?;
            let events = ledger::read(&folder, id).map_err(unreadable)?;
            if app.json() {
                return Ok(app.document(&events));
            }
            let events: Vec<Event> = events.iter().filter_map(Event::from_json).collect();
            let run = Run::read(&folder, id).map_err(unreadable)?;
            Ok(print(&format!("{}\n{}", run.title(), report::render(&events))))
        }
    }
}

/// The id of a run as it is typed, `last` included.
pub(super) fn find<'a>(app: &App, ids: &'a [String], run: &str) -> Result<&'a String, Stop> {
    let id = if run == "last" { ids.last() } else { ids.iter().find(|id| *id == run) };
    id.ok_or_else(|| {
        let hint = if ids.is_empty() { "no run was recorded yet" } else { "`flow runs` lists them" };
        app.fail(Exit::Wrong, format!("there is no run `{run}`; {hint}"))
    })
}

/// A run in the list.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) run: String,
    /// `ok`, `failed`, `interrupted`, `running`, or `killed`: ended without a last event in the ledger.
    pub(super) status: String,
    /// From its start to its end, or to now; null when the end is unknown.
    pub(super) seconds: Option<f64>,
    pub(super) started: Option<DateTime<Utc>>,
    pub(super) pipeline: String,
}

impl Run {
    pub(super) fn read(folder: &Path, id: &str) -> std::io::Result<Self> {
        // Checked first: a run that ends in between is then seen with its end.
        let running = ledger::is_running(folder, id)?;
        let (first, last) = ledger::ends(folder, id)?;
        Ok(Self::of(id, running, first.as_ref(), last.as_ref(), Utc::now()))
    }

    fn of(id: &str, running: bool, first: Option<&Json>, last: Option<&Json>, now: DateTime<Utc>) -> Self {
        let pipeline =
            first.filter(|event| event["kind"] == "run.started").and_then(|event| event["pipeline"].as_str());
        let finished = last.filter(|event| event["kind"] == "run.finished");
        let started = started(id);
        let (status, seconds) = match finished {
            Some(end) => (end["status"].as_str().unwrap_or("killed"), end["seconds"].as_f64()),
            None if running => {
                let seconds = started.and_then(|started| (now - started).to_std().ok());
                ("running", seconds.map(|time| (time.as_secs_f64() * 1000.0).round() / 1000.0))
            }
            None => ("killed", None),
        };
        Self {
            run: id.to_owned(),
            status: status.to_owned(),
            seconds,
            started,
            pipeline: pipeline.unwrap_or("(all)").to_owned(),
        }
    }

    fn time(&self) -> Option<String> {
        self.seconds.map(|seconds| report::duration(report::from_seconds(seconds)))
    }

    fn line(&self) -> String {
        format!("{}  {:11}  {:>12}  {}", self.run, self.status, self.time().unwrap_or_default(), self.pipeline)
    }

    fn title(&self) -> String {
        let mut title = format!("run {} of {}: {}", self.run, self.pipeline, self.status);
        if let Some(time) = self.time() {
            title.push_str(&format!(", {time}"));
        }
        if let Some(started) = self.started {
            title.push_str(&format!(", started {}", started.format("%Y-%m-%d %H:%M:%S UTC")));
        }
        title
    }
}

/// When a run began, from its id.
fn started(id: &str) -> Option<DateTime<Utc>> {
    let (time, _) = id.rsplit_once('-')?;
    NaiveDateTime::parse_from_str(time, "%Y%m%d-%H%M%S%3f").ok().map(|time| time.and_utc())
}

#[cfg(test)]
#[path = "runs_fuzz_tests.rs"]
mod fuzz_tests;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_is_running_killed_or_what_its_end_says() {
        let id = "20260102-030405678-00ff";
        let now = started(id).expect("a time") + chrono::TimeDelta::milliseconds(1500);
        let first = json!({"kind": "run.started", "pipeline": "main"});
        let end = json!({"kind": "run.finished", "status": "failed", "seconds": 12.5});
        let event = json!({"kind": "node.started", "seconds": 1.0});
        for (running, last, status, seconds) in [
            (true, &event, "running", Some(1.5)),
            (false, &event, "killed", None),
            (false, &end, "failed", Some(12.5)),
            (true, &end, "failed", Some(12.5)),
        ] {
            let run = Run::of(id, running, Some(&first), Some(last), now);
            assert_eq!((run.status.as_str(), run.seconds), (status, seconds));
            let json = serde_json::to_value(&run).expect("plain data becomes JSON");
            assert_eq!(json["seconds"].as_f64(), seconds, "a number or null");
            assert_eq!((&json["pipeline"], &json["started"]), (&json!("main"), &json!("2026-01-02T03:04:05.678Z")));
        }
        let run = Run::of(id, true, Some(&first), Some(&event), now);
        assert_eq!(run.title(), format!("run {id} of main: running, 1.5 s, started 2026-01-02 03:04:05 UTC"));
        assert_eq!(started("nonsense"), None);
    }
}
