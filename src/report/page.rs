//! The document of the page about a run, made from the run's events: `schemas/page.schema.json`.
//!
//! What the events do not say is `null`.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::page_partitions::Partitions;
use crate::run::event::{Event, EventKind, NodeFigures};

/// Messages beyond these are left to the ledger.
const MESSAGES: usize = 1000;
/// Samples beyond these are thinned out.
const SAMPLES: usize = 4000;

/// A run that has events in the ledger.
#[derive(Debug)]
pub struct PastRun {
    /// Its id.
    pub id: String,
    /// `ok`, `failed`, `interrupted`, `running` or `killed`.
    pub status: String,
    /// When it started (RFC 3339).
    pub started: Option<String>,
    /// How long it took, or has taken so far.
    pub seconds: Option<f64>,
    /// Its events, in order.
    pub events: Vec<Event>,
}

/// The state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Done,
    Skipped,
    Failed,
    Blocked,
    Running,
    Stopped,
}

/// What is known of a node.
#[derive(Debug, Serialize)]
struct Node {
    name: String,
    state: State,
    reason: Option<String>,
    error: Option<String>,
    /// The time from the start of the run to its own, in seconds.
    started: Option<f64>,
    #[serde(flatten)]
    figures: Figures,
    /// True when its figures are those of all its partitions, not of some that were missing before.
    #[serde(skip)]
    whole: bool,
}

/// What a node read, wrote and spent.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Figures {
    rows_in: Option<u64>,
    rows_out: Option<u64>,
    bytes: Option<u64>,
    seconds: Option<f64>,
    requests: Option<u64>,
    tokens: Option<u64>,
    cost_usd: Option<f64>,
}

impl Figures {
    /// What the event of a node's end says. A node that sends no requests has no figures of them.
    fn of(figures: &NodeFigures) -> Self {
        let usage = &figures.usage;
        let sends = usage.requests > 0;
        Self {
            rows_in: figures.rows_in,
            bytes: figures.bytes,
            requests: sends.then_some(usage.requests),
            tokens: (sends && usage.tokens > 0).then_some(usage.tokens),
            cost_usd: (sends && usage.cost_usd > 0.0).then_some(usage.cost_usd),
            ..Self::default()
        }
    }
}

/// The work at an endpoint at a time.
#[derive(Debug, Serialize)]
struct Sample {
    at: f64,
    endpoint: String,
    in_flight: usize,
    concurrency: usize,
    requests_per_minute: f64,
    requests_limit: Option<f64>,
    tokens_per_minute: f64,
    tokens_limit: Option<f64>,
}

impl Sample {
    fn of(at: f64, kind: &EventKind) -> Option<Self> {
        let EventKind::EndpointSample {
            endpoint,
            model,
            in_flight,
            concurrency,
            requests_per_minute,
            requests_limit,
            tokens_per_minute,
            tokens_limit,
        } = kind
        else {
            return None;
        };
        Some(Self {
            at: rounded(at),
            endpoint: if model.is_empty() { endpoint.clone() } else { format!("{endpoint} ({model})") },
            in_flight: *in_flight,
            concurrency: *concurrency,
            requests_per_minute: *requests_per_minute,
            requests_limit: *requests_limit,
            tokens_per_minute: *tokens_per_minute,
            tokens_limit: *tokens_limit,
        })
    }
}

#[derive(Debug, Serialize)]
struct Message {
    at: f64,
    level: &'static str,
    node: Option<String>,
    text: String,
}

/// The document of a run. `graph` is the graph's title and JSON form; `locations` says where nodes write.
pub fn document(
    run: &PastRun,
    earlier: Option<&PastRun>,
    (title, graph): (&str, Json),
    locations: &HashMap<String, String>,
) -> Json {
    let read = Reading::of(run);
    let mut facts = json!({
        "id": run.id, "status": run.status, "started": run.started, "seconds": run.seconds,
        "pipeline": null, "env": null, "summary": null,
    });
    for event in &run.events {
        match &event.kind {
            EventKind::RunStarted { pipeline, env, .. } => {
                facts["pipeline"] = json!(pipeline);
                facts["env"] = json!(env);
            }
            EventKind::RunFinished { summary } => facts["summary"] = json!(summary),
            _ => {}
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
fn comparison(now: &Reading, earlier: &PastRun) -> Json {
    let whole = |read: &Reading, name: &str| read.index.get(name).is_some_and(|at| read.nodes[*at].whole);
    let before = Reading::of(earlier);
    let both = before.nodes.iter().filter(|node| node.whole && whole(now, &node.name));
    let nodes: BTreeMap<&str, Figures> = both.map(|node| (node.name.as_str(), node.figures)).collect();
    json!({"run": earlier.id, "started": earlier.started, "status": earlier.status, "nodes": nodes})
}

/// What the events of a run say.
#[derive(Debug, Default)]
struct Reading {
    nodes: Vec<Node>,
    index: HashMap<String, usize>,
    partitions: BTreeMap<String, Partitions>,
    messages: Vec<Message>,
    samples: Vec<Sample>,
}

impl Reading {
    fn of(run: &PastRun) -> Self {
        let mut reading = Self::default();
        for event in &run.events {
            reading.take(event.elapsed.as_secs_f64(), &event.kind);
        }
        if run.status != "running" {
            let unfinished = reading.nodes.iter_mut().filter(|node| node.state == State::Running);
            unfinished.for_each(|node| node.state = State::Stopped);
        }
        while reading.samples.len() > SAMPLES {
            // Every second one of each endpoint: the rest has the same shape.
            let mut kept: HashMap<String, bool> = HashMap::new();
            reading.samples.retain(|sample| {
                let keep = kept.entry(sample.endpoint.clone()).or_insert(false);
                *keep = !*keep;
                *keep
            });
        }
        let more = reading.messages.len().saturating_sub(MESSAGES);
        if more > 0 {
            reading.messages.truncate(MESSAGES);
            let at = reading.messages.last().map_or(0.0, |last| last.at);
            reading.messages.push(Message {
                at,
                level: "info",
                node: None,
                text: format!("{more} more in `flow runs show`"),
            });
        }
        reading
    }

    fn take(&mut self, at: f64, kind: &EventKind) {
        match kind {
            EventKind::NodeSkipped { node, reason } => {
                let node = self.node(node, State::Skipped);
                node.reason = Some(reason.clone());
            }
            EventKind::NodeStarted { node, reason, partitions, skipped, .. } => {
                if let Some(total) = partitions {
                    self.partitions.insert(node.clone(), Partitions::new(*total, *skipped));
                }
                let node = self.node(node, State::Running);
                node.reason = Some(reason.clone());
                node.started = Some(rounded(at));
                node.whole = *skipped == 0;
            }
            EventKind::PartitionFinished { node, partition, rows, seconds, .. } => {
                if let Some(partitions) = self.partitions.get_mut(node) {
                    partitions.finished(partition, rounded(at), rounded(*seconds), *rows);
                }
            }
            EventKind::PartitionsSkipped { node, partitions: keys } => {
                if let Some(partitions) = self.partitions.get_mut(node) {
                    keys.iter().for_each(|key| partitions.up_to_date(key));
                }
            }
            EventKind::PartitionFailed { node, partition, error, attempt_seconds } => {
                if let Some(partitions) = self.partitions.get_mut(node) {
                    partitions.failed(partition, rounded(at), rounded(*attempt_seconds), error);
                }
            }
            EventKind::NodeFinished { node, rows, seconds, figures, .. } => {
                let node = self.node(node, State::Done);
                node.figures =
                    Figures { rows_out: Some(*rows), seconds: Some(rounded(*seconds)), ..Figures::of(figures) };
            }
            EventKind::NodeFailed { node, error, figures } => {
                self.say(at, "error", Some(node), error.clone());
                let node = self.node(node, State::Failed);
                node.error = Some(error.clone());
                let seconds = node.started.map(|started| rounded(at - started));
                node.figures = Figures { seconds, ..Figures::of(figures) };
                node.whole = false;
            }
            EventKind::NodeBlocked { node, because } => {
                self.node(node, State::Blocked).reason = Some(format!("`{because}` failed"));
            }
            EventKind::NodeAccepted { node, .. } => {
                self.node(node, State::Skipped).reason = Some("its outputs were accepted as they are".to_owned());
            }
            EventKind::Interrupted { signal } => self.say(at, "warning", None, format!("stopped by {signal}")),
            EventKind::EndpointWaiting { endpoint, error, waiting_for, .. } => {
                self.say(at, "warning", None, format!("{endpoint}: {error}; waiting for {waiting_for}"));
            }
            EventKind::EndpointResponding { endpoint, .. } => {
                self.say(at, "info", None, format!("{endpoint} responds again"));
            }
            EventKind::EndpointAdapted { endpoint, settings } => {
                self.say(at, "info", None, format!("learned about {endpoint}:\n{settings}"));
            }
            EventKind::EndpointSample { .. } => self.samples.extend(Sample::of(at, kind)),
            EventKind::Warning { message } => self.say(at, "warning", None, message.clone()),
            _ => {}
        }
    }

    /// The node, in a new state.
    fn node(&mut self, name: &str, state: State) -> &mut Node {
        let at = *self.index.entry(name.to_owned()).or_insert_with(|| {
            self.nodes.push(Node {
                name: name.to_owned(),
                state,
                reason: None,
                error: None,
                started: None,
                figures: Figures::default(),
                whole: false,
            });
            self.nodes.len() - 1
        });
        let node = &mut self.nodes[at];
        node.state = state;
        node
    }

    fn say(&mut self, at: f64, level: &'static str, node: Option<&str>, text: String) {
        self.messages.push(Message { at: rounded(at), level, node: node.map(str::to_owned), text });
    }
}

/// In milliseconds: more digits take room and say nothing.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{model::UsageSnapshot, run::event::PartitionTally};

    fn run(id: &str, status: &str, kinds: Vec<EventKind>) -> PastRun {
        let event = |(i, kind)| Event { run: id.to_owned(), elapsed: Duration::from_secs(i as u64), kind };
        let events = kinds.into_iter().enumerate().map(event).collect();
        PastRun { id: id.to_owned(), status: status.to_owned(), started: None, seconds: None, events }
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

    fn of(run: &PastRun, earlier: Option<&PastRun>) -> Json {
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
}
