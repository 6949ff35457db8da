//! Progress lines, for logs and CI.

use std::{io::Write, time::Duration};

use super::{
    DIM, Event, EventKind, EventSink, GREEN, RED, RowTally, UsageSnapshot, YELLOW,
    format::{duration, from_seconds, plural},
    paint,
    track::Track,
};
use crate::run::Causes;

/// The minimum time between two status lines.
const STATUS_INTERVAL: Duration = Duration::from_secs(15);
/// The maximum number of nodes in a status line.
const MAX_NODES: usize = 3;
/// The maximum number of distinct partition errors printed per node; the summary and the ledger contain more.
const MAX_FAILURES: usize = 10;

/// Prints a line for every start, end and failure, and a status line at intervals.
pub struct Lines {
    out: Box<dyn Write + Send>,
    color: bool,
    track: Track,
    /// The time of the last status line, since the start of the run.
    last_status: Duration,
    failures: Causes,
}

impl Lines {
    /// Writes to `out`.
    pub fn new(out: Box<dyn Write + Send>, color: bool) -> Self {
        Self { out, color, track: Track::default(), last_status: Duration::ZERO, failures: Causes::default() }
    }

    fn line(&mut self, at: Duration, text: &str) {
        let time = paint(&format!("{:>9}", clock(at)), DIM, self.color);
        // A failed write must not end a run that saves paid results.
        let _ = writeln!(self.out, "{time}  {text}").and_then(|()| self.out.flush());
    }
}

impl EventSink for Lines {
    fn event(&mut self, event: &Event) {
        self.track.event(event);
        if let Some(text) = describe(event, &mut self.failures, self.color) {
            self.line(event.elapsed, &text);
        }
        let busy = matches!(event.kind, EventKind::PartitionFinished { .. } | EventKind::TableProgress { .. });
        if busy && event.elapsed.saturating_sub(self.last_status) >= STATUS_INTERVAL {
            self.last_status = event.elapsed;
            self.line(event.elapsed, &status(&self.track, event.elapsed));
        }
    }

    fn tick(&mut self, usage: UsageSnapshot, _rows: RowTally) {
        self.track.usage = usage;
    }
}

/// The line for an event, if it has one. Of partition failures with the same cause, only the first has a line.
pub(super) fn describe(event: &Event, failures: &mut Causes, color: bool) -> Option<String> {
    let text = match &event.kind {
        EventKind::RunStarted { pipeline, env, nodes, .. } => {
            let of = pipeline.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
            let with = env.as_ref().map(|name| format!(" with env {name}")).unwrap_or_default();
            format!("run {}: {}{of}{with}", event.run, plural(*nodes as u64, "node"))
        }
        EventKind::NodeSkipped { node, reason } => format!("{node}: {reason}"),
        EventKind::NodeStarted { node, reason, partitions, skipped, .. } => match partitions {
            // Most reasons contain the numbers already.
            Some(total) if !reason.contains(" of ") => {
                let todo = total.saturating_sub(*skipped);
                format!("{node}: started, {} of {}: {reason}", todo, plural(*total as u64, "partition"))
            }
            _ => format!("{node}: started: {reason}"),
        },
        EventKind::PartitionFailed { node, partition, error, .. } => match failures.add(node, partition, error)? {
            ..=MAX_FAILURES => format!("{node}: {} {partition}: {error}", paint("failed", RED, color)),
            n if n == MAX_FAILURES + 1 => {
                format!("{node}: further partitions failed; run `flow runs show last` for all of them")
            }
            _ => return None,
        },
        EventKind::NodeOutput { node, line } => format!("{node} | {line}"),
        EventKind::NodeFinished { node, rows, partitions, seconds, .. } => {
            let mut parts = vec![plural(*rows, "row")];
            if partitions.done > 0 {
                parts.push(plural(partitions.done as u64, "partition"));
            }
            if partitions.failed > 0 {
                parts.push(paint(&format!("{} failed", partitions.failed), RED, color));
            }
            parts.push(duration(from_seconds(*seconds)));
            format!("{node}: {}, {}", paint("done", GREEN, color), parts.join(", "))
        }
        EventKind::NodeFailed { node, error, .. } => format!("{node}: {}: {error}", paint("failed", RED, color)),
        EventKind::NodeBlocked { node, because } => {
            format!("{node}: {}, because `{because}` failed", paint("not started", YELLOW, color))
        }
        EventKind::NodeAccepted { node, .. } => format!("{node}: accepted"),
        EventKind::Interrupted { signal } => {
            format!(
                "{}: stopping after {signal}; work in flight is finished first",
                paint("interrupted", YELLOW, color)
            )
        }
        EventKind::EndpointWaiting { endpoint, error, waiting_for, waited_seconds, .. } => {
            let waited = duration(from_seconds(*waited_seconds));
            let waited = if *waited_seconds < 1.0 { String::new() } else { format!(" for {waited}") };
            format!("{}{waited} for {endpoint}: {error}; {waiting_for}", paint("waiting", YELLOW, color))
        }
        EventKind::EndpointResponding { endpoint, waited_seconds } => {
            let waited = duration(from_seconds(*waited_seconds));
            format!("{}: {endpoint}, after {waited}", paint("responding again", GREEN, color))
        }
        EventKind::Warning { message } => format!("{}: {message}", paint("warning", YELLOW, color)),
        // The summary says what was adapted.
        EventKind::EndpointAdapted { .. }
        | EventKind::EndpointSample { .. }
        | EventKind::PartitionsSkipped { .. }
        | EventKind::PartitionFinished { .. }
        | EventKind::TableProgress { .. }
        | EventKind::RunFinished { .. } => return None,
    };
    Some(text)
}

fn status(track: &Track, now: Duration) -> String {
    let nodes: Vec<_> = track
        .running
        .iter()
        .take(MAX_NODES)
        .map(|(name, running)| format!("{name}: {}", running.message(now)))
        .collect();
    let mut text = nodes.join("; ");
    if track.running.len() > MAX_NODES {
        text.push_str(&format!("; and {} more", plural((track.running.len() - MAX_NODES) as u64, "node")));
    }
    let spending = track.spending();
    if !spending.is_empty() {
        text.push_str(&format!(" | {spending}"));
    }
    text
}

/// `0:07.4` under an hour, `1:02:07` above.
fn clock(time: Duration) -> String {
    let (tenths, seconds) = (time.as_millis() / 100, time.as_secs());
    if seconds < 3_600 {
        format!("{}:{:02}.{}", seconds / 60, seconds % 60, tenths % 10)
    } else {
        format!("{}:{:02}:{:02}", seconds / 3_600, seconds % 3_600 / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{
            TestWriter, event, node_blocked, node_failed, node_finished, node_skipped, node_started, partition_failed,
            partition_finished,
        },
        *,
    };

    fn written(events: &[(f64, EventKind)]) -> String {
        let output = TestWriter::default();
        let mut lines = Lines::new(output.writer(), false);
        for (seconds, kind) in events {
            lines.event(&event(*seconds, kind.clone()));
            let usage = UsageSnapshot { requests: 1_204, throttled: 3, cost_usd: 0.42, ..UsageSnapshot::default() };
            lines.tick(usage, RowTally::default());
        }
        output.text()
    }

    #[test]
    fn starts_ends_and_failures_have_a_line_each() {
        let text = written(&[
            (
                0.0,
                EventKind::RunStarted {
                    pipeline: Some("main".into()),
                    env: Some("prod".into()),
                    nodes: 5,
                    group: None,
                    shard: None,
                    selected: Vec::new(),
                },
            ),
            (0.0, node_skipped("cut")),
            (0.1, node_started("embed", Some(24), 4)),
            (0.2, node_started("join", None, 0)),
            (1.2, partition_finished("embed", 1, 500, 5, 24)),
            (7.4, partition_failed("embed", 2, "timed out after 60 s")),
            (61.0, node_finished("join", 1_500_000, (0, 0, 0), 60.8)),
            (62.0, node_finished("embed", 9_500, (19, 4, 1), 61.9)),
            (63.0, node_failed("train", "no such column")),
            (63.0, node_blocked("report", "train")),
            (64.0, EventKind::Warning { message: "the disk is nearly full".into() }),
            (3_727.0, EventKind::Interrupted { signal: "SIGINT".into() }),
        ]);
        assert_eq!(
            text,
            "   0:00.0  run r1: 5 nodes of main with env prod\n   \
             0:00.0  cut: up to date\n   \
             0:00.1  embed: started, 20 of 24 partitions: output is missing\n   \
             0:00.2  join: started: output is missing\n   \
             0:07.4  embed: failed bucket=2: timed out after 60 s\n   \
             1:01.0  join: done, 1,500,000 rows, 1 min 1 s\n   \
             1:02.0  embed: done, 9,500 rows, 19 partitions, 1 failed, 1 min 2 s\n   \
             1:03.0  train: failed: no such column\n   \
             1:03.0  report: not started, because `train` failed\n   \
             1:04.0  warning: the disk is nearly full\n  \
             1:02:07  interrupted: stopping after SIGINT; work in flight is finished first\n"
        );
    }

    #[test]
    fn the_status_is_printed_at_most_every_fifteen_seconds() {
        let mut events = vec![(0.0, node_started("embed", Some(1_000), 0))];
        events.extend(
            (1..=600).map(|i| (f64::from(i) / 10.0, partition_finished("embed", i as usize, 50, i as usize, 1_000))),
        );
        let text = written(&events);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(
            lines[0],
            "   0:15.0  embed: 150 of 1,000 partitions · 500 rows/s · 1 min 25 s left | 1,204 requests · 3 × 429 · $0.42"
        );
        assert!(lines[3].starts_with("   1:00.0"), "{}", lines[3]);
    }

    #[test]
    fn the_number_of_printed_failures_is_limited() {
        let events: Vec<_> = (0..50).map(|i| (1.0, partition_failed("embed", i, &format!("no {i}")))).collect();
        let text = written(&events);
        assert_eq!(text.lines().count(), MAX_FAILURES + 1);
        assert!(
            text.ends_with("embed: further partitions failed; run `flow runs show last` for all of them\n"),
            "{text}"
        );
    }

    #[test]
    fn the_same_cause_is_printed_once() {
        let mut events: Vec<_> = (0..50).map(|i| (1.0, partition_failed("embed", i, "401 invalid_api_key"))).collect();
        events.push((2.0, partition_failed("embed", 50, "timed out")));
        let text = written(&events);
        assert_eq!(
            text,
            "   0:01.0  embed: failed bucket=0: 401 invalid_api_key\n   0:02.0  embed: failed bucket=50: timed out\n"
        );
    }
}
