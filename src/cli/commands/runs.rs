//! `flow runs`: past and running runs, from the ledger.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use chrono::Utc;
use serde::Serialize;

use crate::{
    cli::{
        Exit,
        app::{App, Outcome, Stop, print},
        arguments::RunsCommand,
    },
    report,
    run::{Run, event::Event, ledger},
};

pub(in crate::cli) fn runs(app: &App, location: Option<&str>, command: Option<&RunsCommand>) -> Outcome {
    let project = app.project()?;
    let whole = command.map(|RunsCommand::Show { run }| run.as_str());
    let ledgers = app.ledgers(&project, location, whole)?;
    let folder = ledgers.folder.clone();
    let unreadable = |error: std::io::Error| app.fail(Exit::Environment, format!("{}: {error}", folder.display()));
    let ids = ledger::list(&folder).map_err(unreadable)?;
    match command {
        None => {
            let mut runs = Vec::new();
            for id in ids.iter().rev() {
                match ListedRun::read(&folder, id, ledgers.alive.contains(id)) {
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
            Ok(print(&table(&runs)))
        }
        Some(RunsCommand::Show { run }) => {
            let id = find(app, &ids, run)?;
            let events = ledger::read(&folder, id).map_err(unreadable)?;
            if app.json() {
                return Ok(app.document(&events));
            }
            let events: Vec<Event> = events.iter().filter_map(Event::from_json).collect();
            let run = ListedRun::read(&folder, id, ledgers.alive.contains(id)).map_err(unreadable)?.run;
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

/// A run in the list, and what it is a part of.
#[derive(Debug, Serialize)]
struct ListedRun {
    #[serde(flatten)]
    run: Run,
    /// A name that all processes of a submission share.
    group: Option<String>,
    /// The part of the partitions that it computed.
    shard: Option<String>,
}

impl ListedRun {
    /// `alive` is true for a run whose ledger is a copy that was written a moment ago.
    fn read(folder: &Path, id: &str, alive: bool) -> std::io::Result<Self> {
        let mut run = Run::read(folder, id)?;
        if alive && run.status == "killed" {
            run.status = "running".to_owned();
            let since = run.started.and_then(|started| (Utc::now() - started).to_std().ok());
            run.seconds = since.map(|time| (time.as_secs_f64() * 1000.0).round() / 1000.0);
        }
        let first = ledger::ends(folder, id)?.0.filter(|event| event["kind"] == "run.started");
        let text = |name: &str| first.as_ref().and_then(|event| event[name].as_str()).map(str::to_owned);
        Ok(Self { run, group: text("group"), shard: text("shard") })
    }

    /// Its place among the attempts of its group: by shard, then by time.
    fn order(&self) -> (Option<u64>, &str) {
        let index = self.shard.as_ref().and_then(|shard| shard.split_once('/')?.0.parse().ok());
        (index, &self.run.run)
    }
}

/// The list: runs, newest first, with all processes of a submission together.
fn table(runs: &[ListedRun]) -> String {
    let mut text = String::new();
    let mut shown = HashSet::new();
    for listed in runs {
        let Some(group) = &listed.group else {
            text += &(line(&listed.run) + "\n");
            continue;
        };
        if !shown.insert(group) {
            continue;
        }
        let mut members: Vec<&ListedRun> = runs.iter().filter(|other| other.group.as_ref() == Some(group)).collect();
        members.sort_by_key(|member| member.order());
        text += &(group_line(group, &members) + "\n");
        for member in members {
            let shard = member.shard.as_deref().unwrap_or("all");
            text += &format!("  {shard:>7}  {}\n", line(&member.run));
        }
    }
    text
}

/// One line for all processes of a submission: how many shards there are, and how they stand after their last attempts.
fn group_line(group: &str, members: &[&ListedRun]) -> String {
    let mut last: BTreeMap<(Option<u64>, &str), &str> = BTreeMap::new();
    for member in members {
        // Without a shard, each task is its own.
        let task = if member.shard.is_some() { "" } else { member.run.run.as_str() };
        last.insert((member.order().0, task), &member.run.status);
    }
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    last.values().for_each(|status| *states.entry(*status).or_default() += 1);
    let states: Vec<String> = states.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let shards = last.keys().filter(|(shard, _)| shard.is_some()).count();
    let again = members.len() - last.len();
    let again = if again == 0 { String::new() } else { format!(", {again} earlier attempts") };
    let noun = if shards == 1 { "shard" } else { "shards" };
    format!("{group}: {shards} {noun}, {}{again}", states.join(", "))
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
