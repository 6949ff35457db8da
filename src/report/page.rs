//! The document of the page about a run, or about all processes of a submission, made from their events: `schemas/page.schema.json`.
//!
//! What the events do not say is `null`.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value as Json, json};

use super::{
    page_group::{merged, summary},
    page_reading::{Figures, Reading},
    past_runs::{PastRun, PastRuns},
};
use crate::run::event::{Event, EventKind};

fn read(runs: &PastRuns) -> Reading {
    merged(runs.runs.iter().map(|run| (run, Reading::of(run))).collect()).bounded()
}

/// The document of what a page is about. `graph` is the graph's title and JSON form; `locations` says where nodes write.
pub fn document(
    run: &PastRuns,
    earlier: Option<&PastRuns>,
    (title, graph): (&str, Json),
    locations: &HashMap<String, String>,
) -> Json {
    let read = read(run);
    let shards = (run.runs.len() > 1).then(|| {
        let of = |run: &PastRun| {
            json!({
                "run": run.id, "shard": run.shard, "status": run.status, "started": run.started, "seconds": run.seconds,
            })
        };
        run.runs.iter().map(of).collect::<Vec<_>>()
    });
    let mut facts = json!({
        "id": run.id, "status": run.status, "started": run.started, "seconds": run.seconds,
        "pipeline": null, "env": null, "summary": summary(&run.runs, &read), "processes": shards,
    });
    for event in run.runs.iter().flat_map(|run| &run.events) {
        if let EventKind::RunStarted { pipeline, env, .. } = &event.kind {
            facts["pipeline"] = json!(pipeline);
            facts["env"] = json!(env);
        }
    }
    let partitions: BTreeMap<&String, Json> =
        read.partitions.iter().map(|(node, partitions)| (node, partitions.to_json(locations.get(node)))).collect();
    json!({
        "v": 1,
        "title": title,
        "graph": graph,
        "run": facts,
        "nodes": read.nodes,
        "partitions": partitions,
        "samples": read.samples,
        "messages": read.messages,
        "compare": earlier.map(|earlier| comparison(&read, earlier)),
    })
}

/// What a run that goes on is compared with: the figures of the nodes that ran whole in an earlier one. Events are taken one at a
/// time.
pub fn baseline((run, started, status): (&str, Option<String>, &str), events: impl Iterator<Item = Event>) -> Json {
    let mut read = Reading::default();
    for event in events {
        // There may be many of these, and they say nothing about nodes.
        if !matches!(
            event.kind,
            EventKind::PartitionFinished { .. }
                | EventKind::PartitionFailed { .. }
                | EventKind::PartitionsSkipped { .. }
        ) {
            read.take(event.elapsed.as_secs_f64(), &event.kind);
        }
    }
    let whole = read.nodes.iter().filter(|node| node.whole);
    let nodes: BTreeMap<&str, Figures> = whole.map(|node| (node.name.as_str(), node.figures)).collect();
    json!({"run": run, "started": started, "status": status, "nodes": nodes})
}

/// The figures of the nodes that ran whole in both runs: the rows of a part say nothing about a loss.
fn comparison(now: &Reading, earlier: &PastRuns) -> Json {
    let whole = |read: &Reading, name: &str| read.index.get(name).is_some_and(|at| read.nodes[*at].whole);
    let before = read(earlier);
    let both = before.nodes.iter().filter(|node| node.whole && whole(now, &node.name));
    let nodes: BTreeMap<&str, Figures> = both.map(|node| (node.name.as_str(), node.figures)).collect();
    json!({"run": earlier.id, "started": earlier.started, "status": earlier.status, "nodes": nodes})
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        model::UsageSnapshot,
        report::page_reading::{MESSAGES, SAMPLES},
        run::event::{NodeFigures, PartitionTally, RunSummary, Status},
    };

    fn one(id: &str, shard: Option<&str>, status: &str, kinds: Vec<EventKind>) -> PastRun {
        let event = |(i, kind)| Event { run: id.to_owned(), elapsed: Duration::from_secs(i as u64), kind };
        let events = kinds.into_iter().enumerate().map(event).collect();
        let shard = shard.map(str::to_owned);
        PastRun {
            id: id.to_owned(),
            status: status.to_owned(),
            started: None,
            seconds: None,
            shard,
            selected: None,
            after: 0.0,
            events,
        }
    }

    fn group(id: &str, status: &str, runs: Vec<PastRun>) -> PastRuns {
        PastRuns { id: id.to_owned(), status: status.to_owned(), started: None, seconds: None, runs }
    }

    fn run(id: &str, status: &str, kinds: Vec<EventKind>) -> PastRuns {
        group(id, status, vec![one(id, None, status, kinds)])
    }

    fn started(partitions: Option<usize>, skipped: usize) -> EventKind {
        EventKind::NodeStarted {
            node: "n".to_owned(),
            function: "f".to_owned(),
            reason: "no output".to_owned(),
            partitions,
            skipped,
        }
    }

    fn finished(rows: u64) -> EventKind {
        let usage = UsageSnapshot { requests: 2, ..UsageSnapshot::default() };
        EventKind::NodeFinished {
            node: "n".to_owned(),
            rows,
            partitions: PartitionTally::default(),
            seconds: 1.0,
            version: None,
            figures: NodeFigures { rows_in: Some(rows + 1), bytes: None, usage },
        }
    }

    fn of(run: &PastRuns, earlier: Option<&PastRuns>) -> Json {
        document(run, earlier, ("main", Json::Null), &HashMap::new())
    }

    #[test]
    fn rows_are_compared_only_where_both_runs_computed_all() {
        let whole = run("1", "ok", vec![started(None, 0), finished(20)]);
        let again = run("2", "ok", vec![started(None, 0), finished(10)]);
        let rest = run("3", "ok", vec![started(Some(4), 3), finished(5)]);
        assert_eq!(of(&again, Some(&whole))["compare"]["nodes"]["n"]["rows_out"], 20);
        assert_eq!(of(&rest, Some(&again))["compare"]["nodes"], json!({}));
        assert_eq!(of(&whole, Some(&rest))["compare"]["nodes"], json!({}));
    }

    #[test]
    fn figures_and_samples_are_shown_and_thinned_out() {
        let sample = || EventKind::EndpointSample {
            endpoint: "http://h/v1".to_owned(),
            model: "m".to_owned(),
            in_flight: 1,
            concurrency: 2,
            requests_per_minute: 3.0,
            requests_limit: None,
            tokens_per_minute: 0.0,
            tokens_limit: None,
        };
        let mut kinds = vec![started(None, 0), finished(20)];
        kinds.extend((0..SAMPLES + 2).map(|_| sample()));
        let document = of(&run("1", "ok", kinds), None);
        let node = &document["nodes"][0];
        assert_eq!((&node["rows_in"], &node["requests"], &node["tokens"]), (&json!(21), &json!(2), &Json::Null));
        let samples = document["samples"].as_array().expect("a list");
        assert_eq!((samples.len(), &samples[0]["endpoint"]), (SAMPLES / 2 + 1, &json!("http://h/v1 (m)")));
    }

    #[test]
    fn a_node_without_an_end_runs_or_was_stopped() {
        let state = |status| of(&run("1", status, vec![started(None, 0)]), None)["nodes"][0]["state"].clone();
        assert_eq!((state("running"), state("killed")), (json!("running"), json!("stopped")));
    }

    #[test]
    fn messages_beyond_the_bound_are_counted() {
        let warning = |i: usize| EventKind::Warning { message: format!("{i}") };
        let document = of(&run("1", "ok", (0..MESSAGES + 5).map(warning).collect()), None);
        let messages = document["messages"].as_array().expect("a list");
        assert_eq!(messages.len(), MESSAGES + 1);
        assert_eq!(messages[MESSAGES]["text"], "5 more in `flow runs show`");
    }

    fn partition(key: &str, rows: u64) -> EventKind {
        EventKind::PartitionFinished {
            node: "n".to_owned(),
            partition: key.to_owned(),
            rows,
            bytes: 0,
            seconds: 0.5,
            done: 1,
            total: 2,
        }
    }

    fn ended(status: Status, requests: u64) -> EventKind {
        let usage = UsageSnapshot { requests, ..UsageSnapshot::default() };
        EventKind::RunFinished { summary: RunSummary { status, usage, ..RunSummary::default() } }
    }

    #[test]
    fn shards_and_their_attempts_are_one_page() {
        let error = "busy".to_owned();
        let failed = EventKind::NodeFailed { node: "n".to_owned(), error, figures: NodeFigures::default() };
        // The second shard is killed, and tried again.
        let mut all = vec![
            one(
                "1",
                Some("0/2"),
                "ok",
                vec![started(Some(2), 0), partition("b=0", 3), partition("b=2", 4), finished(7), ended(Status::Ok, 5)],
            ),
            one("2", Some("1/2"), "killed", vec![started(Some(3), 0), partition("b=1", 5)]),
        ];
        let document = of(&group("g", "killed", all.clone()), None);
        assert_eq!(document["nodes"][0]["state"], "stopped");
        assert_eq!(document["partitions"]["n"]["unnamed_missing"], 2);
        assert_eq!(
            document["messages"][0]["text"],
            "shard 1/2 ended without a last event: what it spent is not counted"
        );
        let mut again = one(
            "3",
            Some("1/2"),
            "failed",
            vec![
                started(Some(3), 1),
                EventKind::PartitionsSkipped { node: "n".to_owned(), partitions: vec!["b=1".to_owned()] },
                partition("b=3", 6),
                failed,
                ended(Status::Failed, 2),
            ],
        );
        again.after = 10.0;
        all.push(again);
        let document = of(&group("g", "failed", all.clone()), None);
        let node = &document["nodes"][0];
        assert_eq!((&node["state"], &node["error"], &node["rows_out"]), (&json!("failed"), &json!("busy"), &json!(18)));
        let cells = &document["partitions"]["n"];
        assert_eq!((&cells["states"], &cells["unnamed_missing"]), (&json!("dddd"), &json!(1)));
        let summary = &document["run"]["summary"];
        assert_eq!((&summary["requests"], &summary["status"]), (&json!(7), &json!("failed")));
        assert_eq!(summary["partitions"], json!({"done": 4, "skipped": 0, "failed": 0}));
        assert_eq!(document["run"]["processes"].as_array().map(Vec::len), Some(3));
        // The run after all shards has the last word.
        let mut gather =
            one("4", None, "ok", vec![started(Some(5), 4), partition("b=4", 1), finished(1), ended(Status::Ok, 1)]);
        gather.after = 20.0;
        all.push(gather);
        let document = of(&group("g", "ok", all), None);
        assert_eq!((&document["nodes"][0]["state"], &document["nodes"][0]["rows_out"]), (&json!("done"), &json!(19)));
        assert_eq!(document["partitions"]["n"]["unnamed_missing"], 0);
        assert_eq!(document["run"]["summary"]["status"], "ok");
    }
}
