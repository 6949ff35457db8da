//! The events of a run. The terminal, JSON lines, the ledger and the summary all read the same stream.
//!
//! Owns the event types and their JSON form (`kind` strings and keys are a stable interface). Every event is
//! self-contained: a reader needs no counters of its own.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::causes::Cause;
use crate::{
    model::{RowTally, UsageSnapshot},
    net::Notice,
};

/// The version of the JSON form.
pub const VERSION: u8 = 1;

/// An event of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The id of the run.
    pub run: String,
    /// The time since the start of the run.
    pub elapsed: Duration,
    /// The kind of event, with its fields.
    pub kind: EventKind,
}

/// The kind of an event, with its fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum EventKind {
    /// The run started.
    #[serde(rename = "run.started")]
    RunStarted {
        /// The selected pipelines; `None` for all.
        pipeline: Option<String>,
        /// The configuration environment (`--env`).
        env: Option<String>,
        /// The number of selected nodes.
        nodes: usize,
        /// What the run is a part of: a name that all processes of a submission share.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// The part of the partitions that the run computes, such as `3/8`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shard: Option<String>,
        /// The names of the selected nodes, where the run has a group: they tell its processes apart.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        selected: Vec<String>,
    },
    /// A node was skipped, since it has nothing to do.
    #[serde(rename = "node.skipped")]
    NodeSkipped {
        /// The name of the node.
        node: String,
        /// Why it was skipped, as displayed to the user.
        reason: String,
    },
    /// A node started.
    #[serde(rename = "node.started")]
    NodeStarted {
        /// The name of the node.
        node: String,
        /// The name of its function.
        function: String,
        /// Why it runs, as displayed to the user.
        reason: String,
        /// The number of its partitions; `None` for a table.
        partitions: Option<usize>,
        /// The number of partitions that are up to date already.
        skipped: usize,
    },
    /// A program that does the work of a node wrote a line.
    #[serde(rename = "node.output")]
    NodeOutput {
        /// The name of the node.
        node: String,
        /// The line.
        line: String,
    },
    /// A partition was committed.
    #[serde(rename = "partition.finished")]
    PartitionFinished {
        /// The name of the node.
        node: String,
        /// The key of the partition, such as `bucket=12`.
        partition: String,
        /// The number of rows in the partition.
        rows: u64,
        /// The size of its file.
        #[serde(default)]
        bytes: u64,
        /// The time from its start to its commit, in seconds.
        seconds: f64,
        /// The number of partitions of the node that are done now.
        done: usize,
        /// The number of all partitions of the node.
        total: usize,
    },
    /// Partitions of a node that runs are up to date already: some of them, in the order of their keys.
    #[serde(rename = "partitions.skipped")]
    PartitionsSkipped {
        /// The name of the node.
        node: String,
        /// Their keys, such as `bucket=12`.
        partitions: Vec<String>,
    },
    /// A partition failed.
    #[serde(rename = "partition.failed")]
    PartitionFailed {
        /// The name of the node.
        node: String,
        /// The key of the partition, such as `bucket=12`.
        partition: String,
        /// The error message.
        error: String,
        /// The time from its start to its failure, in seconds.
        attempt_seconds: f64,
    },
    /// Rows of a table were written. Emitted often; not recorded in the ledger.
    #[serde(rename = "table.progress")]
    TableProgress {
        /// The name of the node.
        node: String,
        /// The number of rows written since the last such event.
        rows: u64,
    },
    /// A node finished successfully.
    #[serde(rename = "node.finished")]
    NodeFinished {
        /// The name of the node.
        node: String,
        /// The number of rows written.
        rows: u64,
        /// The number of its partitions by outcome.
        partitions: PartitionTally,
        /// The time since its start, in seconds.
        seconds: f64,
        /// What identifies the content that it wrote: the same for the same work on the same inputs.
        #[serde(default)]
        version: Option<String>,
        /// What it read, wrote and spent.
        #[serde(flatten)]
        figures: NodeFigures,
    },
    /// A node failed.
    #[serde(rename = "node.failed")]
    NodeFailed {
        /// The name of the node.
        node: String,
        /// The error message.
        error: String,
        /// What it read, wrote and spent until then.
        #[serde(flatten)]
        figures: NodeFigures,
    },
    /// A node was not started because another one failed.
    #[serde(rename = "node.blocked")]
    NodeBlocked {
        /// The name of the node.
        node: String,
        /// The name of the node that failed.
        because: String,
    },
    /// Existing outputs of a node were taken over as up to date (`flow accept`).
    #[serde(rename = "node.accepted")]
    NodeAccepted {
        /// The name of the node.
        node: String,
        /// The datasets that were taken over; none when all were up to date.
        datasets: Vec<String>,
    },
    /// A signal requested that the run stop.
    #[serde(rename = "run.interrupted")]
    Interrupted {
        /// The name of the signal: `SIGINT` or `SIGTERM`.
        signal: String,
    },
    /// Nothing succeeds at an endpoint for now. Repeated while that lasts.
    #[serde(rename = "endpoint.waiting")]
    EndpointWaiting {
        /// The address of the requests.
        endpoint: String,
        /// The last failure.
        error: String,
        /// What is waited for, and until when, as displayed to the user.
        waiting_for: String,
        /// The time without a success, in seconds.
        waited_seconds: f64,
        /// The time after which the wait ends at the latest, in seconds.
        until_seconds: f64,
    },
    /// An endpoint that was waited for responds again.
    #[serde(rename = "endpoint.responding")]
    EndpointResponding {
        /// The address of the requests.
        endpoint: String,
        /// The time without a success, in seconds.
        waited_seconds: f64,
    },
    /// What the client had to learn about an endpoint while a node ran.
    #[serde(rename = "endpoint.adapted")]
    EndpointAdapted {
        /// The address of the requests.
        endpoint: String,
        /// Keys of `model:` with which a run would begin with that, as YAML.
        settings: String,
    },
    /// The work at an endpoint and its limits. Emitted at intervals while requests are sent.
    #[serde(rename = "endpoint.sample")]
    EndpointSample {
        /// The address of the requests.
        endpoint: String,
        /// The model that they name; empty where they name none.
        model: String,
        /// How many requests are in flight.
        in_flight: usize,
        /// How many may be.
        concurrency: usize,
        /// Requests in the last minute; before the end of the first one, as many as a minute would have at that rate.
        requests_per_minute: f64,
        /// The limit that is known of them.
        requests_limit: Option<f64>,
        /// Tokens of these requests, as far as they are counted.
        tokens_per_minute: f64,
        /// The limit that is known of them.
        tokens_limit: Option<f64>,
    },
    /// A problem that does not fail the run.
    #[serde(rename = "warning")]
    Warning {
        /// The warning.
        message: String,
    },
    /// The run finished. Always the last event.
    #[serde(rename = "run.finished")]
    RunFinished {
        /// The totals of the run.
        #[serde(flatten)]
        summary: RunSummary,
    },
}

impl EventKind {
    /// The reasons and error messages, which may quote other programs and hence contain secrets.
    pub(super) fn texts(&mut self) -> Vec<&mut String> {
        match self {
            Self::NodeSkipped { reason: text, .. }
            | Self::NodeStarted { reason: text, .. }
            | Self::PartitionFailed { error: text, .. }
            | Self::NodeFailed { error: text, .. }
            | Self::NodeOutput { line: text, .. }
            | Self::Warning { message: text, .. } => vec![text],
            Self::EndpointWaiting { endpoint, error, waiting_for, .. } => vec![endpoint, error, waiting_for],
            Self::EndpointResponding { endpoint, .. } | Self::EndpointSample { endpoint, .. } => vec![endpoint],
            Self::EndpointAdapted { endpoint, settings } => vec![endpoint, settings],
            Self::RunFinished { summary } => {
                let adapted = summary.adapted.iter_mut().flat_map(|one| [&mut one.endpoint, &mut one.settings]);
                summary.causes.iter_mut().map(|cause| &mut cause.error).chain(adapted).collect()
            }
            Self::RunStarted { .. }
            | Self::PartitionFinished { .. }
            | Self::PartitionsSkipped { .. }
            | Self::TableProgress { .. }
            | Self::NodeFinished { .. }
            | Self::NodeBlocked { .. }
            | Self::NodeAccepted { .. }
            | Self::Interrupted { .. } => Vec::new(),
        }
    }
}

impl From<Notice> for EventKind {
    fn from(notice: Notice) -> Self {
        let seconds = |time: Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;
        match notice {
            Notice::Warning(message) => Self::Warning { message },
            Notice::Waiting { endpoint, error, waiting_for, waited, until } => Self::EndpointWaiting {
                endpoint,
                error,
                waiting_for,
                waited_seconds: seconds(waited),
                until_seconds: seconds(until),
            },
            Notice::Responding { endpoint, waited } => {
                Self::EndpointResponding { endpoint, waited_seconds: seconds(waited) }
            }
            Notice::Adapted { endpoint, settings } => Self::EndpointAdapted { endpoint, settings },
        }
    }
}

/// What a node read, wrote and spent in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFigures {
    /// The number of rows read; `None` where they are not counted.
    pub rows_in: Option<u64>,
    /// The size of what was written; `None` where it is not known.
    pub bytes: Option<u64>,
    /// Its part of the run's requests, tokens and money.
    #[serde(flatten)]
    pub usage: UsageSnapshot,
}

/// The number of partitions by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionTally {
    /// Computed and committed by this run.
    pub done: usize,
    /// Up to date already.
    pub skipped: usize,
    /// Failed.
    pub failed: usize,
}

/// The number of nodes by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeTally {
    /// Finished successfully.
    pub done: usize,
    /// Had nothing to do.
    pub skipped: usize,
    /// Failed.
    pub failed: usize,
    /// Never started, because of a failure or a request to stop.
    pub blocked: usize,
}

/// The overall outcome of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All selected nodes are done.
    #[default]
    Ok,
    /// At least one node failed.
    Failed,
    /// A signal stopped the run.
    Interrupted,
}

impl Status {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// The totals of a run, sent with its last event.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSummary {
    /// The overall outcome.
    pub status: Status,
    /// The number of nodes by outcome.
    pub nodes: NodeTally,
    /// The number of partitions of all nodes by outcome.
    pub partitions: PartitionTally,
    /// The number of rows by outcome, of all nodes that count them.
    pub rows: RowTally,
    /// The counters of requests, retries, throttled requests, tokens and cost.
    #[serde(flatten)]
    pub usage: UsageSnapshot,
    /// Why partitions failed, each cause once.
    pub causes: Vec<Cause>,
    /// What had to be adapted to endpoints: sizes, requests at once, encoding.
    pub adapted: Vec<AdaptedEndpoint>,
    /// The duration of the run, in seconds.
    pub seconds: f64,
}

/// What the client had to learn about one endpoint in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdaptedEndpoint {
    /// The address of the requests.
    pub endpoint: String,
    /// Keys of `model:` with which a run would begin with that, as YAML.
    pub settings: String,
}

impl Event {
    /// Parses the output of [`Event::to_json`]. `None` for an event of another version of `flow` that this one does not
    /// know.
    pub fn from_json(json: &Json) -> Option<Self> {
        let elapsed = Duration::try_from_secs_f64(json["elapsed"].as_f64()?).ok()?;
        let kind = EventKind::deserialize(json).ok()?;
        Some(Self { run: json["run"].as_str()?.to_owned(), elapsed, kind })
    }

    /// One flat object: `{"v":1,"kind":…,"run":…,"seconds":…, …}`. `seconds` is the node's or partition's own time where
    /// the event has one, and the time since the start of the run elsewhere; `elapsed` always is the latter.
    pub fn to_json(&self) -> Json {
        let mut object = json!({"v": VERSION});
        let map = object.as_object_mut().expect("`json!({…})` is an object");
        let elapsed = (self.elapsed.as_secs_f64() * 1000.0).round() / 1000.0;
        if let Json::Object(fields) = serde_json::to_value(&self.kind).expect("events serialize to JSON") {
            let mut fields = fields.into_iter();
            // The tag `kind` is serialized first.
            if let Some((key, value)) = fields.next() {
                map.insert(key, value);
            }
            map.insert("run".to_owned(), self.run.clone().into());
            map.insert("elapsed".to_owned(), elapsed.into());
            map.extend(fields);
        }
        map.entry("seconds").or_insert(elapsed.into());
        object
    }
}

/// The JSON Schema of one line of `flow run --output json`.
pub fn schema() -> Json {
    let text = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 0});
    let number = json!({"type": "number", "minimum": 0});
    let tally = |names: &[&str]| {
        let fields: serde_json::Map<_, _> = names.iter().map(|name| ((*name).to_owned(), count.clone())).collect();
        json!({"type": "object", "properties": fields, "required": names})
    };
    let variant = |kind: &str, fields: Json| {
        let mut properties = json!({"kind": {"const": kind}, "v": {"const": VERSION}, "run": text, "elapsed": number, "seconds": number});
        if let (Some(all), Json::Object(fields)) = (properties.as_object_mut(), fields) {
            all.extend(fields);
        }
        let required: Vec<_> = properties.as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default();
        json!({"type": "object", "properties": properties, "required": required})
    };
    let maybe_count = json!({"type": ["integer", "null"], "minimum": 0});
    let maybe_number = json!({"type": ["number", "null"], "minimum": 0});
    let with_figures = |mut fields: Json| {
        fields["rows_in"] = maybe_count.clone();
        fields["bytes"] = maybe_count.clone();
        for key in ["requests", "retries", "throttled", "tokens"] {
            fields[key] = count.clone();
        }
        for key in ["cost_usd", "unconfirmed_usd", "saved_usd"] {
            fields[key] = number.clone();
        }
        fields
    };
    // Keys that only some events have.
    let with = |mut variant: Json, optional: &[(&str, Json)]| {
        for (name, value) in optional {
            variant["properties"][*name] = value.clone();
        }
        variant
    };
    let of_group =
        [("group", text.clone()), ("shard", text.clone()), ("selected", json!({"type": "array", "items": text}))];
    let maybe_text = json!({"type": ["string", "null"]});
    let partitions = tally(&["done", "skipped", "failed"]);
    let cause = json!({
        "type": "object",
        "properties": {
            "node": text, "error": text, "partitions": count, "examples": {"type": "array", "items": text},
        },
        "required": ["node", "error", "partitions", "examples"],
    });
    let adapted = json!({
        "type": "object", "properties": {"endpoint": text, "settings": text}, "required": ["endpoint", "settings"],
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "a line of `flow run --output json`",
        "oneOf": [
            with(variant("run.started", json!({"pipeline": maybe_text, "env": maybe_text, "nodes": count})), &of_group),
            variant("node.skipped", json!({"node": text, "reason": text})),
            variant("node.started", json!({"node": text, "function": text, "reason": text, "partitions": {"type": ["integer", "null"]}, "skipped": count})),
            variant("node.output", json!({"node": text, "line": text})),
            variant("partition.finished", json!({"node": text, "partition": text, "rows": count, "bytes": count, "done": count, "total": count})),
            variant("partitions.skipped", json!({"node": text, "partitions": {"type": "array", "items": text}})),
            variant("partition.failed", json!({"node": text, "partition": text, "error": text, "attempt_seconds": number})),
            variant("table.progress", json!({"node": text, "rows": count})),
            variant("node.finished", with_figures(json!({"node": text, "rows": count, "partitions": partitions, "version": maybe_text}))),
            variant("node.failed", with_figures(json!({"node": text, "error": text}))),
            variant("node.blocked", json!({"node": text, "because": text})),
            variant("node.accepted", json!({"node": text, "datasets": {"type": "array", "items": text}})),
            variant("run.interrupted", json!({"signal": text})),
            variant("endpoint.waiting", json!({"endpoint": text, "error": text, "waiting_for": text, "waited_seconds": number, "until_seconds": number})),
            variant("endpoint.responding", json!({"endpoint": text, "waited_seconds": number})),
            variant("endpoint.adapted", json!({"endpoint": text, "settings": text})),
            variant("endpoint.sample", json!({
                "endpoint": text, "model": text, "in_flight": count, "concurrency": count,
                "requests_per_minute": number, "requests_limit": maybe_number,
                "tokens_per_minute": number, "tokens_limit": maybe_number,
            })),
            variant("warning", json!({"message": text})),
            variant("run.finished", json!({
                "status": {"enum": ["ok", "failed", "interrupted"]},
                "nodes": tally(&["done", "skipped", "failed", "blocked"]),
                "partitions": partitions,
                "rows": tally(&["ok", "cached", "empty", "error"]),
                "requests": count, "retries": count, "throttled": count, "tokens": count,
                "cost_usd": number, "unconfirmed_usd": number, "saved_usd": number,
                "causes": {"type": "array", "items": cause},
                "adapted": {"type": "array", "items": adapted},
            })),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_has_the_documented_keys() {
        let event = Event {
            run: "r1".to_owned(),
            elapsed: Duration::from_millis(1500),
            kind: EventKind::RunFinished { summary: RunSummary { seconds: 1.5, ..RunSummary::default() } },
        };
        assert_eq!(
            event.to_json().to_string(),
            r#"{"v":1,"kind":"run.finished","run":"r1","elapsed":1.5,"status":"ok","nodes":{"done":0,"skipped":0,"failed":0,"blocked":0},"partitions":{"done":0,"skipped":0,"failed":0},"rows":{"ok":0,"cached":0,"empty":0,"error":0},"requests":0,"retries":0,"throttled":0,"tokens":0,"cost_usd":0.0,"unconfirmed_usd":0.0,"saved_usd":0.0,"causes":[],"adapted":[],"seconds":1.5}"#
        );
    }

    #[test]
    fn events_round_trip_through_json() {
        let usage = UsageSnapshot { requests: 3, cost_usd: 0.25, ..UsageSnapshot::default() };
        let cause = Cause {
            node: "embed".to_owned(),
            error: "timed out".to_owned(),
            partitions: 2,
            examples: vec!["bucket=1".to_owned()],
        };
        let rows = RowTally { ok: 5, ..RowTally::default() };
        let summary = RunSummary {
            status: Status::Failed,
            rows,
            usage,
            causes: vec![cause],
            adapted: vec![AdaptedEndpoint {
                endpoint: "http://h/v1".to_owned(),
                settings: "{batch: {max_inputs: 8}}".to_owned(),
            }],
            seconds: 1.5,
            ..RunSummary::default()
        };
        let node = || "embed".to_owned();
        for kind in [
            EventKind::RunStarted {
                pipeline: None,
                env: Some("prod".to_owned()),
                nodes: 2,
                group: Some("slurm-7".to_owned()),
                shard: Some("3/8".to_owned()),
                selected: vec![node()],
            },
            EventKind::NodeStarted { node: node(), function: node(), reason: node(), partitions: Some(3), skipped: 1 },
            EventKind::PartitionFailed { node: node(), partition: node(), error: node(), attempt_seconds: 0.5 },
            EventKind::PartitionsSkipped { node: node(), partitions: vec![node()] },
            EventKind::NodeFinished {
                node: node(),
                rows: 5,
                partitions: PartitionTally::default(),
                seconds: 2.5,
                version: Some(node()),
                figures: NodeFigures { rows_in: Some(6), bytes: None, usage },
            },
            EventKind::EndpointSample {
                endpoint: node(),
                model: node(),
                in_flight: 3,
                concurrency: 4,
                requests_per_minute: 60.5,
                requests_limit: Some(120.0),
                tokens_per_minute: 0.0,
                tokens_limit: None,
            },
            EventKind::RunFinished { summary },
        ] {
            let event = Event { run: "r1".to_owned(), elapsed: Duration::from_millis(1500), kind };
            assert_eq!(Event::from_json(&event.to_json()), Some(event));
        }
        let earlier = json!({"kind": "node.failed", "run": "r1", "elapsed": 1.0, "node": "n", "error": "e"});
        assert!(Event::from_json(&earlier).is_some(), "of a version that did not write figures");
        assert_eq!(Event::from_json(&json!({"kind": "later.thing", "run": "r1", "elapsed": 1.0})), None);
    }
}
