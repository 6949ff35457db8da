//! Sinks of the event stream for other systems: OpenLineage's run events, and OpenTelemetry's traces and metrics.
//!
//! A sink that fails never fails a run: it says so once, and the run ends as it would have. Must not know the terminal, clap or how
//! nodes are executed.

mod delivery;
mod jobs;
mod openlineage;
mod otlp;
mod spans;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

pub use delivery::{Target, WarnOnce};
pub use jobs::Jobs;
pub use spans::Spans;

use crate::{
    model::{RowTally, SecretMask, UsageSnapshot},
    run::{
        EventSink,
        event::{Event, EventKind},
    },
};
use delivery::Delivery;
use openlineage::LineageEvents;
use otlp::{Durations, FinishedSpan, REQUEST, Resource, Sum};

/// How long the end of a run waits for receivers.
const PATIENCE: Duration = Duration::from_secs(5);
/// Spans are sent when so many have ended, or after this time.
const SPANS: usize = 512;
const SPANS_EVERY: Duration = Duration::from_secs(2);
/// More spans than these do not wait to be sent: they are dropped.
const MOST_SPANS: usize = 20_000;
/// The time between two exports of metrics.
const METRICS_EVERY: Duration = Duration::from_secs(10);
/// Documents that wait for their receiver.
const MOST_EVENTS: usize = 100_000;
const MOST_BATCHES: usize = 32;

/// Where OpenTelemetry's data goes.
#[derive(Debug)]
pub struct OtlpSettings {
    /// The receiver of spans; `None` for none.
    pub traces: Option<Target>,
    /// The receiver of metrics; `None` for none.
    pub metrics: Option<Target>,
    /// Attributes of the service.
    pub resource: Vec<(String, String)>,
    /// The spans of the log.
    pub spans: Spans,
    /// The `traceparent` of what started the run.
    pub parent: Option<String>,
}

/// The sinks of a run.
#[derive(Debug, Clone)]
pub struct Telemetry(Arc<Mutex<Sinks>>);

#[derive(Debug, Default)]
struct Sinks {
    lineage: Option<Lineage>,
    otlp: Option<Otlp>,
}

#[derive(Debug)]
struct Lineage {
    run: String,
    begin: DateTime<Utc>,
    /// `None` until it is known what the run is about.
    events: Option<LineageEvents>,
    delivery: Delivery,
}

#[derive(Debug)]
struct Otlp {
    resource: Resource,
    mask: SecretMask,
    ended: Arc<Mutex<Ended>>,
    traces: Option<Delivery>,
    metrics: Option<Delivery>,
    begin: u64,
    last_spans: Instant,
    last_metrics: Instant,
    usage: UsageSnapshot,
    rows: RowTally,
    partitions: (u64, u64, u64),
}

/// The spans that have ended and were not sent yet.
#[derive(Debug, Default)]
struct Ended {
    spans: Vec<FinishedSpan>,
    dropped: u64,
    durations: Durations,
}

impl Telemetry {
    /// The sinks of the run `run`, which begins now. Each warns at most once, through `print`.
    pub fn new(
        run: &str,
        openlineage: Option<Target>,
        otlp: Option<OtlpSettings>,
        mask: &SecretMask,
        print: impl Fn(&str) + Clone + Send + Sync + 'static,
    ) -> Self {
        let lineage = openlineage.map(|target| Lineage {
            run: run.to_owned(),
            begin: Utc::now(),
            events: None,
            delivery: Delivery::start("OpenLineage events", target, MOST_EVENTS, &WarnOnce::new(print.clone())),
        });
        let otlp = otlp.map(|settings| Otlp::new(settings, mask, &WarnOnce::new(print)));
        Self(Arc::new(Mutex::new(Sinks { lineage, otlp })))
    }

    /// True when lineage is sent, for which [`Telemetry::describe`] is needed.
    pub fn wants_jobs(&self) -> bool {
        self.lock().lineage.is_some()
    }

    /// What the run is about. To be called before its first event.
    pub fn describe(&self, jobs: Jobs) {
        if let Some(lineage) = &mut self.lock().lineage {
            lineage.events = Some(LineageEvents::new(jobs, &lineage.run, lineage.begin));
        }
    }

    /// Sends what is left, and waits for it for a bounded time. To be called when the run is over.
    pub fn finish(&self) {
        let mut sinks = self.lock();
        if let Some(lineage) = &mut sinks.lineage {
            if let Some(events) = &mut lineage.events {
                events.abort().into_iter().for_each(|event| lineage.delivery.send(event.to_string()));
            }
            lineage.delivery.finish(PATIENCE);
        }
        if let Some(otlp) = &mut sinks.otlp {
            otlp.send_spans();
            otlp.send_metrics();
            for delivery in otlp.traces.iter_mut().chain(&mut otlp.metrics) {
                delivery.finish(PATIENCE);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sinks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for Telemetry {
    fn event(&mut self, event: &Event) {
        let mut sinks = self.lock();
        if let Some(lineage) = &mut sinks.lineage
            && let Some(events) = &mut lineage.events
        {
            events.take(event).into_iter().for_each(|event| lineage.delivery.send(event.to_string()));
        }
        if let Some(otlp) = &mut sinks.otlp {
            otlp.event(event);
        }
    }

    fn tick(&mut self, usage: UsageSnapshot, rows: RowTally) {
        if let Some(otlp) = &mut self.lock().otlp {
            otlp.tick(usage, rows);
        }
    }
}

impl Otlp {
    fn new(settings: OtlpSettings, mask: &SecretMask, warn: &Arc<WarnOnce>) -> Self {
        let ended: Arc<Mutex<Ended>> = Arc::default();
        let into = Arc::clone(&ended);
        let with_spans = settings.traces.is_some();
        settings.spans.take(settings.parent.as_deref(), move |span| {
            let mut ended = into.lock().unwrap_or_else(PoisonError::into_inner);
            if span.name == REQUEST {
                ended.durations.add(&span);
            }
            if with_spans && ended.spans.len() < MOST_SPANS {
                ended.spans.push(span);
            } else if with_spans {
                ended.dropped += 1;
            }
        });
        let start =
            |what, target: Option<Target>| target.map(|target| Delivery::start(what, target, MOST_BATCHES, warn));
        Self {
            resource: settings.resource,
            mask: mask.clone(),
            ended,
            traces: start("traces", settings.traces),
            metrics: start("metrics", settings.metrics),
            begin: now(),
            last_spans: Instant::now(),
            last_metrics: Instant::now(),
            usage: UsageSnapshot::default(),
            rows: RowTally::default(),
            partitions: (0, 0, 0),
        }
    }

    fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::PartitionFinished { .. } => self.partitions.0 += 1,
            EventKind::PartitionFailed { .. } => self.partitions.2 += 1,
            EventKind::RunFinished { summary } => {
                self.usage = summary.usage;
                self.rows = summary.rows;
                let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
                let all = summary.partitions;
                self.partitions = (count(all.done), count(all.skipped), count(all.failed));
            }
            _ => {}
        }
    }

    fn tick(&mut self, usage: UsageSnapshot, rows: RowTally) {
        (self.usage, self.rows) = (usage, rows);
        let waiting = self.ended.lock().unwrap_or_else(PoisonError::into_inner).spans.len();
        if waiting >= SPANS || (waiting > 0 && self.last_spans.elapsed() >= SPANS_EVERY) {
            self.send_spans();
        }
        if self.last_metrics.elapsed() >= METRICS_EVERY {
            self.send_metrics();
        }
    }

    fn send_spans(&mut self) {
        self.last_spans = Instant::now();
        let Some(delivery) = &self.traces else { return };
        let spans = {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if ended.dropped > 0 {
                tracing::debug!(spans = ended.dropped, "more spans ended than were sent");
            }
            ended.dropped = 0;
            std::mem::take(&mut ended.spans)
        };
        for part in spans.chunks(SPANS) {
            let text = otlp::traces(&self.resource, part).to_string();
            delivery.send(self.mask.mask(&text).into_owned());
        }
    }

    fn send_metrics(&mut self) {
        self.last_metrics = Instant::now();
        let Some(delivery) = &self.metrics else { return };
        let one = |name, unit, description, value| Sum { name, unit, description, points: vec![(Vec::new(), value)] };
        let by_outcome = |name, unit, description, values: &[(&str, u64)]| {
            let points = values
                .iter()
                .map(|(outcome, value)| (vec![("flow.outcome".to_owned(), (*outcome).to_owned())], *value as f64));
            Sum { name, unit, description, points: points.collect() }
        };
        let (usage, rows, partitions) = (self.usage, self.rows, self.partitions);
        let sums = [
            one("flow.requests", "{request}", "Requests that were sent, retries included", usage.requests as f64),
            one("flow.retries", "{request}", "Requests that repeated an earlier one", usage.retries as f64),
            one("flow.throttled", "{request}", "Responses with status 429", usage.throttled as f64),
            one("flow.tokens", "{token}", "Tokens that were billed", usage.tokens as f64),
            one("flow.cost", "USD", "Money that was spent, at list price", usage.cost_usd),
            by_outcome(
                "flow.rows",
                "{row}",
                "Rows by outcome",
                &[("ok", rows.ok), ("cached", rows.cached), ("empty", rows.empty), ("error", rows.error)],
            ),
            by_outcome(
                "flow.partitions",
                "{partition}",
                "Partitions by outcome",
                &[("done", partitions.0), ("skipped", partitions.1), ("failed", partitions.2)],
            ),
        ];
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        delivery.send(otlp::metrics(&self.resource, &sums, &ended.durations, (self.begin, now())).to_string());
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    Utc::now().timestamp_nanos_opt().and_then(|time| u64::try_from(time).ok()).unwrap_or_default()
}
