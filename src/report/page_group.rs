//! What the runs of a submission did together: its shards, and the attempts of each, as if they were one run.

use std::collections::HashMap;

use indexmap::IndexSet;

use super::{
    page_partitions::Partitions,
    page_reading::{Figures, Node, Reading, State, rounded},
    past_runs::{PastRun, last_attempts, last_runs},
};
use crate::run::event::{EventKind, RunSummary, Status};

/// All runs as one. Those of one shard are its attempts; a run without a shard is the last word on its nodes.
pub(super) fn merged(mut all: Vec<(&PastRun, Reading)>) -> Reading {
    if all.len() <= 1 {
        return all.pop().map(|(_, reading)| reading).unwrap_or_default();
    }
    let mut together = Reading::default();
    for (run, reading) in &mut all {
        let who = name(run);
        for mut sample in reading.samples.drain(..) {
            sample.endpoint += &format!(", {who}");
            together.samples.push(sample);
        }
        for mut message in reading.messages.drain(..) {
            message.text = format!("{who}: {}", message.text);
            together.messages.push(message);
        }
        if run.status == "killed" {
            let at = rounded(run.after + run.events.last().map_or(0.0, |event| event.elapsed.as_secs_f64()));
            let text = format!("{who} ended without a last event: what it spent is not counted");
            together.say(at, "warning", None, text);
        }
    }
    together.messages.sort_by(|one, other| one.at.total_cmp(&other.at));
    together.samples.sort_by(|one, other| one.at.total_cmp(&other.at));
    let nodes = all.iter().flat_map(|(_, reading)| &reading.nodes);
    let names: IndexSet<String> = nodes.map(|node| node.name.clone()).collect();
    for name in names {
        let of = |reading: &Reading| reading.index.get(&name).copied();
        let attempts: Vec<(&PastRun, &Node)> =
            all.iter().filter_map(|(run, reading)| Some((*run, &reading.nodes[of(reading)?]))).collect();
        together.index.insert(name.clone(), together.nodes.len());
        together.nodes.push(node(&attempts));
        let cells = all.iter_mut().filter_map(|(run, reading)| Some((*run, reading.partitions.remove(&name)?)));
        if let Some(cells) = partitions(cells.collect()) {
            // Not all attempts that computed rows told of their end.
            let rows = cells.rows();
            let node = together.nodes.last_mut().expect("pushed above");
            node.figures.rows_out = rows.or(node.figures.rows_out);
            together.partitions.insert(name, cells);
        }
    }
    together
}

fn name(run: &PastRun) -> String {
    run.shard.as_ref().map_or_else(|| format!("run {}", run.id), |shard| format!("shard {shard}"))
}

/// What a node did in all attempts.
fn node(attempts: &[(&PastRun, &Node)]) -> Node {
    let last = last_attempts(attempts.iter().map(|(run, node)| (*run, *node)));
    let worst_first = [State::Running, State::Failed, State::Stopped, State::Blocked, State::Done];
    let state = worst_first.into_iter().find(|state| last.iter().any(|node| node.state == *state));
    // What is up to date now was computed by one of them.
    let done = state.is_none() && attempts.iter().any(|(_, node)| node.state == State::Done);
    let of_state = last.iter().find(|node| Some(node.state) == state).or(last.first());
    let started = attempts.iter().filter_map(|(_, node)| node.started).min_by(f64::total_cmp);
    let ended = |node: &Node| Some(node.started? + node.figures.seconds?);
    let ended = attempts.iter().filter_map(|(_, node)| ended(node)).max_by(f64::total_cmp);
    let mut figures = Figures::default();
    attempts.iter().for_each(|(_, node)| figures.add(&node.figures));
    figures.seconds = started.zip(ended).map(|(started, ended)| rounded(ended - started));
    // The first attempt of each shard had nothing done for it, and each one told what it did.
    let mut first: HashMap<&Option<String>, &Node> = HashMap::new();
    for (run, node) in attempts {
        first.entry(&run.shard).or_insert(node);
    }
    let told = |node: &Node| matches!(node.state, State::Done | State::Skipped);
    Node {
        name: attempts.first().map(|(_, node)| node.name.clone()).unwrap_or_default(),
        state: state.unwrap_or(if done { State::Done } else { State::Skipped }),
        reason: of_state.and_then(|node| node.reason.clone()),
        error: of_state.and_then(|node| node.error.clone()),
        started,
        figures,
        whole: first.values().all(|node| node.whole) && attempts.iter().all(|(_, node)| told(node)),
    }
}

/// The partitions of a node in all attempts.
fn partitions(attempts: Vec<(&PastRun, Partitions)>) -> Option<Partitions> {
    let of_last = last_attempts(attempts.iter().map(|(run, partitions)| (*run, partitions.total())));
    let total = of_last.into_iter().sum();
    let mut attempts = attempts.into_iter().map(|(_, partitions)| partitions);
    let mut all = attempts.next()?;
    attempts.for_each(|later| all.append(later));
    all.set_total(total);
    Some(all)
}

/// The totals at the end: of one run its own, of several their sums, as far as they told; `None` while none has.
pub(super) fn summary(runs: &[PastRun], read: &Reading) -> Option<RunSummary> {
    let of = |run: &PastRun| {
        run.events.iter().rev().find_map(|event| match &event.kind {
            EventKind::RunFinished { summary } => Some(summary.clone()),
            _ => None,
        })
    };
    if let [run] = runs {
        return of(run);
    }
    let told: Vec<(&PastRun, RunSummary)> = runs.iter().filter_map(|run| Some((run, of(run)?))).collect();
    let mut all = RunSummary { status: Status::Ok, ..told.first()?.1.clone() };
    for (_, summary) in &told[1..] {
        all.rows.add(summary.rows);
        all.usage.add(&summary.usage);
        all.adapted.extend(summary.adapted.iter().filter(|one| !told[0].1.adapted.contains(one)).cloned());
    }
    let last = last_runs(told.iter().map(|(run, summary)| (*run, summary)));
    all.causes = last.iter().flat_map(|summary| summary.causes.clone()).collect();
    if let Some(bad) = last.iter().find(|summary| summary.status != Status::Ok) {
        all.status = bad.status;
    }
    let count = |states: &[State]| read.nodes.iter().filter(|node| states.contains(&node.state)).count();
    all.nodes.done = count(&[State::Done]);
    all.nodes.skipped = count(&[State::Skipped]);
    all.nodes.failed = count(&[State::Failed]);
    all.nodes.blocked = count(&[State::Blocked, State::Stopped]);
    let tally = |state: char| read.partitions.values().map(|partitions| partitions.count(state)).sum();
    (all.partitions.done, all.partitions.skipped, all.partitions.failed) = (tally('d'), tally('s'), tally('f'));
    let ends = runs.iter().filter_map(|run| Some(run.after + run.seconds?));
    all.seconds = ends.max_by(f64::total_cmp).map_or(all.seconds, rounded);
    Some(all)
}
