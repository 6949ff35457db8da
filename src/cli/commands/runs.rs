//! `flow runs`: past and running runs, from the ledger.

use crate::{
    cli::{
        Exit,
        app::{App, Outcome, Stop, print},
        arguments::RunsCommand,
    },
    report,
    run::{Run, event::Event, ledger},
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
            Ok(print(&runs.iter().map(|run| line(run) + "\n").collect::<String>()))
        }
        Some(RunsCommand::Show { run }) => {
            let id = find(app, &ids, run)?;
            let events = ledger::read(&folder, id).map_err(unreadable)?;
            if app.json() {
                return Ok(app.document(&events));
            }
            let events: Vec<Event> = events.iter().filter_map(Event::from_json).collect();
            let run = Run::read(&folder, id).map_err(unreadable)?;
            Ok(print(&format!("{}\n{}", title(&run), report::render(&events))))
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

fn time(run: &Run) -> Option<String> {
    run.seconds.map(|seconds| report::duration(report::from_seconds(seconds)))
}

fn line(run: &Run) -> String {
    format!("{}  {:11}  {:>12}  {}", run.run, run.status, time(run).unwrap_or_default(), run.pipeline)
}

fn title(run: &Run) -> String {
    let mut title = format!("run {} of {}: {}", run.run, run.pipeline, run.status);
    if let Some(time) = time(run) {
        title.push_str(&format!(", {time}"));
    }
    if let Some(started) = run.started {
        title.push_str(&format!(", started {}", started.format("%Y-%m-%d %H:%M:%S UTC")));
    }
    title
}

#[cfg(test)]
#[path = "runs_fuzz_tests.rs"]
mod fuzz_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_a_title() {
        let run = Run {
            run: "20260102-030405678-00ff".to_owned(),
            status: "running".to_owned(),
            seconds: Some(1.5),
            started: chrono::DateTime::parse_from_rfc3339("2026-01-02T03:04:05Z").ok().map(|time| time.to_utc()),
            pipeline: "main".to_owned(),
        };
        assert_eq!(title(&run), "run 20260102-030405678-00ff of main: running, 1.5 s, started 2026-01-02 03:04:05 UTC");
    }
}
