//! `flow runs`: past and running runs, from the ledger.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::{
    cli::{
        Exit,
        app::{App, Outcome, print},
        arguments::RunsCommand,
    },
    model::visible_line,
    report,
    run::{self, Run, event::Event, ledger},
};

pub(in crate::cli) fn runs(app: &App, location: Option<&str>, command: Option<&RunsCommand>) -> Outcome {
    let project = app.project()?;
    let mut read = app.existing_ledgers(&project, location)?;
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
            if runs.is_empty() {
                app.say("no runs yet; `flow run` begins one");
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
        let selections: BTreeSet<_> = members.iter().map(|member| &member.selected).collect();
        let differ = selections.len() > 1;
        for member in members {
            let shard = member.shard.as_deref().unwrap_or("all");
            let nodes = member.selected.as_deref().filter(|_| differ).map(some).unwrap_or_default();
            text += &format!("  {shard:>7}  {}{nodes}\n", line(member));
        }
    }
    text
}

/// The first of these names: what tells apart the runs of a group that were asked for different nodes.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let list = names.iter().take(SHOWN).map(|name| visible_line(name)).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => String::new(),
        1..=SHOWN => format!("  {list}"),
        more => format!("  {list} and {} more", more - SHOWN),
    }
}

/// One line for all processes of a submission: how many shards of nodes there are, and how they stand after their last attempts.
fn group_line(group: &str, members: &[&Run]) -> String {
    let mut by_time = members.to_vec();
    by_time.sort_by(|one, other| one.run.cmp(&other.run));
    // A run without a shard comes after its shards, and repeats them only where they did not do their work.
    let (mut last, mut shards) = (HashSet::new(), 0);
    let mut tasks: BTreeMap<Option<&str>, Vec<&Run>> = BTreeMap::new();
    for &member in &by_time {
        tasks.entry(member.shard.as_deref()).or_default().push(member);
    }
    for (shard, runs) in &tasks {
        // Of an earlier version of `flow`: without a shard, each task is its own.
        let (known, unknown): (Vec<&Run>, Vec<&Run>) =
            runs.iter().copied().partition(|run| shard.is_some() || run.selected.is_some());
        let positions = last_of(&known);
        shards += if shard.is_some() { positions.len() } else { 0 };
        last.extend(positions.into_iter().map(|position| known[position].run.as_str()));
        last.extend(unknown.iter().map(|run| run.run.as_str()));
    }
    let whole = last_of(&by_time);
    for (position, run) in by_time.iter().enumerate() {
        let has_ended_badly = !matches!(run.status.as_str(), "ok" | "running");
        if has_ended_badly && run.selected.is_some() && whole.binary_search(&position).is_err() {
            last.remove(run.run.as_str());
        }
    }
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    let counted = by_time.iter().filter(|run| last.contains(run.run.as_str()));
    counted.for_each(|run| *states.entry(&run.status).or_default() += 1);
    let states: Vec<String> = states.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let again = members.len() - last.len();
    let again = if again == 0 { String::new() } else { format!(", {again} earlier attempts") };
    let noun = if shards == 1 { "shard" } else { "shards" };
    format!("{}: {shards} {noun}, {}{again}", visible_line(group), states.join(", "))
}

fn last_of(runs: &[&Run]) -> Vec<usize> {
    run::last_attempts(&runs.iter().map(|run| run.asked()).collect::<Vec<_>>())
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
            selected: None,
        };
        assert_eq!(title(&run), "run 20260102-030405678-00ff of main: running, 1.5 s, started 2026-01-02 03:04:05 UTC");
    }

    /// `0/2 failed label`: the shard or `all`, the status, and the nodes where the ledger names them. Newest first, as they are listed.
    fn group(runs: &[&str]) -> String {
        let run = |(number, text): (usize, &&str)| {
            let words: Vec<&str> = text.split(' ').collect();
            Run {
                run: format!("20260102-030405{number:03}-00ff"),
                status: words[1].to_owned(),
                seconds: None,
                started: None,
                pipeline: "main".to_owned(),
                group: Some("H".to_owned()),
                shard: (words[0] != "all").then(|| words[0].to_owned()),
                selected: (words.len() > 2).then(|| words[2..].iter().map(|word| (*word).to_owned()).collect()),
            }
        };
        let mut runs: Vec<Run> = runs.iter().enumerate().map(run).collect();
        runs.reverse();
        table(&runs)
    }

    #[test]
    fn a_shard_of_another_node_is_no_earlier_attempt_and_hides_no_failure() {
        for (runs, expected) in [
            (vec!["0/2 failed label", "0/2 ok lengths"], "H: 2 shards, 1 failed, 1 ok"),
            (vec!["0/2 failed label", "0/2 ok lengths", "0/2 ok label"], "H: 2 shards, 2 ok, 1 earlier attempts"),
            (vec!["0/1 failed label", "all ok lengths", "all ok label"], "H: 1 shard, 2 ok, 1 earlier attempts"),
            (vec!["0/1 ok label", "all ok label"], "H: 1 shard, 2 ok"),
            (vec!["all failed cut", "all ok cut", "0/1 ok label"], "H: 1 shard, 2 ok, 1 earlier attempts"),
            // Of an earlier version.
            (vec!["0/2 failed", "0/2 ok", "all ok", "all ok"], "H: 1 shard, 3 ok, 1 earlier attempts"),
        ] {
            assert_eq!(group(&runs).lines().next(), Some(expected), "{runs:?}");
        }
        let listed = group(&["0/2 failed label", "0/2 ok lengths"]);
        assert!(listed.contains("  main  label\n") && listed.contains("  main  lengths\n"), "{listed}");
        assert!(!group(&["0/2 ok label", "1/2 ok label"]).contains("label"), "they were asked for the same");
    }
}
