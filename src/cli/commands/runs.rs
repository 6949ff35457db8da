//! `flow runs`: past and running runs, from the ledger.

use std::collections::{BTreeMap, HashSet};

use crate::{
    cli::{
        Exit,
        app::{App, Outcome, print},
        arguments::RunsCommand,
    },
    report,
    run::{Run, event::Event, ledger},
};

pub(in crate::cli) fn runs(app: &App, location: Option<&str>, command: Option<&RunsCommand>) -> Outcome {
    let project = app.project()?;
    let mut read = app.ledgers(&project, location)?;
    match command {
        None => {
            let mut runs = Vec::new();
            for id in read.ledgers.ids().map_err(|error| read.unreadable(app, &error))?.iter().rev() {
                match read.ledgers.run(id) {
                    Ok(run) => runs.push(run),
                    // One that cannot be read hides no other one.
                    Err(error) => {
                        let file = read.ledgers.folder().join(format!("{id}.jsonl"));
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
            let id = read.find(app, run)?;
            read.load(app, &[&id])?;
            let events = ledger::read(read.ledgers.folder(), &id).map_err(|error| read.unreadable(app, &error))?;
            if app.json() {
                return Ok(app.document(&events));
            }
            let events: Vec<Event> = events.iter().filter_map(Event::from_json).collect();
            let run = read.ledgers.run(&id).map_err(|error| read.unreadable(app, &error))?;
            Ok(print(&format!("{}\n{}", title(&run), report::render(&events))))
        }
    }
}

/// The list: runs, newest first, with all processes of a submission together.
fn table(runs: &[Run]) -> String {
    let mut text = String::new();
    let mut shown = HashSet::new();
    for run in runs {
        let Some(group) = &run.group else {
            let shard = run.shard.as_ref().map(|shard| format!("  shard {shard}")).unwrap_or_default();
            text += &format!("{}{shard}\n", line(run));
            continue;
        };
        if !shown.insert(group) {
            continue;
        }
        let mut members: Vec<&Run> = runs.iter().filter(|other| other.group.as_ref() == Some(group)).collect();
        members.sort_by_key(|member| member.order());
        text += &(group_line(group, &members) + "\n");
        for member in members {
            let shard = member.shard.as_deref().unwrap_or("all");
            text += &format!("  {shard:>7}  {}\n", line(member));
        }
    }
    text
}

/// One line for all processes of a submission: how many shards there are, and how they stand after their last attempts.
fn group_line(group: &str, members: &[&Run]) -> String {
    let mut last: BTreeMap<(Option<u64>, &str), &str> = BTreeMap::new();
    for member in members {
        // Without a shard, each task is its own.
        let task = if member.shard.is_some() { "" } else { member.run.as_str() };
        last.insert((member.order().0, task), &member.status);
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
            group: None,
            shard: None,
        };
        assert_eq!(title(&run), "run 20260102-030405678-00ff of main: running, 1.5 s, started 2026-01-02 03:04:05 UTC");
    }
}
