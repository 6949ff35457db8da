//! What the events of one run say, for the page.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{page_partitions::Partitions, past_runs::PastRun};
use crate::run::event::{EventKind, NodeFigures};

/// Messages beyond these are left to the ledger.
pub(super) const MESSAGES: usize = 1000;
/// Samples beyond these are thinned out.
pub(super) const SAMPLES: usize = 4000;

/// The state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Done,
    Skipped,
    Failed,
    Blocked,
    Running,
    Stopped,
}

/// What is known of a node.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) reason: Option<String>,
    pub(super) error: Option<String>,
    /// The time from the start of the run to its own, in seconds.
    pub(super) started: Option<f64>,
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// True when its figures are those of all its partitions, not of some that were missing before.
    #[serde(skip)]
    pub(super) whole: bool,
}

/// What a node read, wrote and spent.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Figures {
    pub(super) rows_in: Option<u64>,
    pub(super) rows_out: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) seconds: Option<f64>,
    pub(super) requests: Option<u64>,
    pub(super) tokens: Option<u64>,
    pub(super) cost_usd: Option<f64>,
}

impl Figures {
    /// What the event of a node's end says. A node that sends no requests has no figures of them.
    pub(super) fn of(figures: &NodeFigures) -> Self {
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

    /// Adds what another attempt read, wrote and spent; not its time, which may be the same one.
    pub(super) fn add(&mut self, other: &Self) {
        fn add<T: std::ops::Add<Output = T>>(all: &mut Option<T>, more: Option<T>) {
            if let Some(more) = more {
                *all = Some(match all.take() {
                    Some(some) => some + more,
                    None => more,
                });
            }
        }
        add(&mut self.rows_in, other.rows_in);
        add(&mut self.rows_out, other.rows_out);
        add(&mut self.bytes, other.bytes);
        add(&mut self.requests, other.requests);
        add(&mut self.tokens, other.tokens);
        add(&mut self.cost_usd, other.cost_usd);
    }
}

/// The work at an endpoint at a time.
#[derive(Debug, Serialize)]
pub(super) struct Sample {
    pub(super) at: f64,
    pub(super) endpoint: String,
    pub(super) in_flight: usize,
    pub(super) concurrency: usize,
    pub(super) requests_per_minute: f64,
    pub(super) requests_limit: Option<f64>,
    pub(super) tokens_per_minute: f64,
    pub(super) tokens_limit: Option<f64>,
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
pub(super) struct Message {
    pub(super) at: f64,
    pub(super) level: &'static str,
    pub(super) node: Option<String>,
    pub(super) text: String,
}

/// What the events of a run say.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) nodes: Vec<Node>,
    pub(super) index: HashMap<String, usize>,
    pub(super) partitions: BTreeMap<String, Partitions>,
    pub(super) messages: Vec<Message>,
    pub(super) samples: Vec<Sample>,
}

impl Reading {
    pub(super) fn of(run: &PastRun) -> Self {
        let mut reading = Self::default();
        for event in &run.events {
            reading.take(run.after + event.elapsed.as_secs_f64(), &event.kind);
        }
        if run.status != "running" {
            let unfinished = reading.nodes.iter_mut().filter(|node| node.state == State::Running);
            unfinished.for_each(|node| node.state = State::Stopped);
        }
        reading
    }

    /// The same, of bounded size.
    pub(super) fn bounded(mut self) -> Self {
        while self.samples.len() > SAMPLES {
            // Every second one of each endpoint: the rest has the same shape.
            let mut kept: HashMap<String, bool> = HashMap::new();
            self.samples.retain(|sample| {
                let keep = kept.entry(sample.endpoint.clone()).or_insert(false);
                *keep = !*keep;
                *keep
            });
        }
        let more = self.messages.len().saturating_sub(MESSAGES);
        if more > 0 {
            self.messages.truncate(MESSAGES);
            let at = self.messages.last().map_or(0.0, |last| last.at);
            self.messages.push(Message {
                at,
                level: "info",
                node: None,
                text: format!("{more} more in `flow runs show`"),
            });
        }
        self
    }

    pub(super) fn take(&mut self, at: f64, kind: &EventKind) {
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
    pub(super) fn node(&mut self, name: &str, state: State) -> &mut Node {
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

    pub(super) fn say(&mut self, at: f64, level: &'static str, node: Option<&str>, text: String) {
        self.messages.push(Message { at: rounded(at), level, node: node.map(str::to_owned), text });
    }
}

/// In milliseconds: more digits take room and say nothing.
pub(super) fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
