//! The summary at the end of a run: failures, blocked nodes, finished work, cost, and the command to resume.

use std::io::Write;

use indexmap::{IndexMap, IndexSet};

use super::{
    BOLD, Display, GREEN, RED, YELLOW,
    format::{duration, from_seconds, plural},
    lines::describe,
    paint,
    track::spending,
};
use crate::{
    model::{RowTally, UsageSnapshot, count, money},
    run::{
        Cause, Causes, EventSink,
        event::{Event, EventKind, PartitionTally, RunSummary, Status},
    },
};

/// The maximum number of lines of one kind.
const MAX_LINES: usize = 10;

/// Collects events, and writes a summary at the end of the run.
pub struct Summary {
    out: Box<dyn Write + Send>,
    display: Display,
    color: bool,
    command: String,
    failed: IndexMap<String, String>,
    blocked: Vec<(String, String)>,
    done: Vec<Done>,
    skipped: usize,
    signal: Option<String>,
    /// By endpoint: the settings with which a run would begin with what this one had to learn.
    adapted: IndexMap<String, String>,
}

struct Done {
    node: String,
    rows: u64,
    partitions: PartitionTally,
    seconds: f64,
}

impl Summary {
    /// Writes to `out`. `command` is the command to resume with; if empty, it is omitted. A quiet summary is written only
    /// after failures or row errors.
    pub fn new(out: Box<dyn Write + Send>, display: Display, color: bool, command: &str) -> Self {
        Self {
            out,
            display,
            color,
            command: command.to_owned(),
            failed: IndexMap::new(),
            blocked: Vec::new(),
            done: Vec::new(),
            skipped: 0,
            signal: None,
            adapted: IndexMap::new(),
        }
    }

    fn write(&mut self, text: &str) {
        // A failed write to the terminal cannot be reported anywhere.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    fn paint(&self, text: &str, style: anstyle::Style) -> String {
        paint(text, style, self.color)
    }

    fn text(&self, summary: &RunSummary) -> String {
        let mut out = String::new();
        let mut line = |text: &str| {
            out.push_str(text);
            out.push('\n');
        };
        line(&self.verdict(summary));
        self.failures(&summary.causes, &mut line);
        for (node, because) in self.blocked.iter().take(MAX_LINES) {
            line(&format!("  {} {node}: `{because}` failed", self.paint("not started", YELLOW)));
        }
        rest(self.blocked.len(), "node", &mut line);
        // Bars and lines have reported each node when it ended.
        if self.display == Display::Summary {
            for done in self.done.iter().take(MAX_LINES) {
                line(&format!("  {} {}", self.paint("done", GREEN), done.describe()));
            }
            rest(self.done.len(), "node", &mut line);
        }
        if self.skipped > 0 && self.display != Display::Quiet {
            line(&format!("  {} {}", self.paint("up to date", GREEN), plural(self.skipped as u64, "node")));
        }
        let rows = rows(&summary.rows);
        if !rows.is_empty() {
            line(&format!("  rows: {rows}"));
        }
        let spent = spent(&summary.usage, &summary.rows);
        if !spent.is_empty() {
            line(&format!("  spent: {spent}"));
        }
        for (endpoint, settings) in &self.adapted {
            line(&format!("  {} to {endpoint}: to begin with that, set `{settings}`", self.paint("adapted", YELLOW)));
        }
        for text in self.next_steps(summary) {
            line(&text);
        }
        out
    }

    fn verdict(&self, summary: &RunSummary) -> String {
        let time = duration(from_seconds(summary.seconds));
        let nodes = summary.nodes;
        match summary.status {
            Status::Ok if nodes.done == 0 => format!("{}: everything is up to date", self.paint("ok", GREEN)),
            Status::Ok => format!("{}: {} in {time}", self.paint("ok", GREEN), plural(nodes.done as u64, "node")),
            Status::Interrupted => {
                let by = self.signal.as_ref().map(|signal| format!(" by {signal}")).unwrap_or_default();
                format!("{}{by} after {time}", self.paint("stopped", YELLOW))
            }
            Status::Failed => {
                let all = nodes.done + nodes.skipped + nodes.failed + nodes.blocked;
                let mut text = format!(
                    "{} after {time}: {} of {}",
                    self.paint("failed", RED),
                    nodes.failed,
                    plural(all as u64, "node")
                );
                if nodes.blocked > 0 {
                    text.push_str(&format!(", {} not started", nodes.blocked));
                }
                text
            }
        }
    }

    /// Writes the failed nodes with their errors; an error that several share is written once.
    fn failures(&self, causes: &[Cause], line: &mut impl FnMut(&str)) {
        let mut shown: IndexMap<&str, &str> = IndexMap::new();
        for (node, error) in &self.failed {
            let failed = self.paint("failed", RED);
            match shown.get(error.as_str()) {
                Some(first) if !causes.iter().any(|cause| cause.node == *node) => {
                    line(&format!("  {failed} {node}: for the same reason as {first}"));
                }
                _ => line(&format!("  {failed} {node}: {error}")),
            }
            shown.entry(error).or_insert(node);
            self.causes(node, causes, &mut shown, line);
        }
        let more: IndexSet<&str> =
            causes.iter().map(|cause| cause.node.as_str()).filter(|node| !self.failed.contains_key(*node)).collect();
        for node in more {
            let partitions = causes.iter().filter(|cause| cause.node == node).map(|cause| cause.partitions as u64);
            line(&format!("  {} {node}: {}", self.paint("failed", RED), plural(partitions.sum(), "partition")));
            self.causes(node, causes, &mut shown, line);
        }
    }

    fn causes<'a>(
        &self,
        node: &'a str,
        causes: &'a [Cause],
        shown: &mut IndexMap<&'a str, &'a str>,
        line: &mut impl FnMut(&str),
    ) {
        let of_node: Vec<_> = causes.iter().filter(|cause| cause.node == node).collect();
        for cause in of_node.iter().take(MAX_LINES) {
            let which = cause.which();
            match shown.get(cause.error.as_str()) {
                Some(first) => line(&format!("    {which}: for the same reason as {first}")),
                None => line(&format!("    {which}: {}", cause.error)),
            }
            shown.entry(&cause.error).or_insert(node);
        }
        if of_node.len() > MAX_LINES {
            let more = plural((of_node.len() - MAX_LINES) as u64, "cause");
            line(&format!("    and {more} more; run `flow runs show last` for all of them"));
        }
    }

    fn next_steps(&self, summary: &RunSummary) -> Vec<String> {
        if summary.status == Status::Ok {
            let errors = summary.rows.error;
            let note = format!(
                "  {}: {} without a result; the output contains their errors",
                self.paint("note", YELLOW),
                plural(errors, "row")
            );
            return if errors > 0 { vec![note] } else { Vec::new() };
        }
        if self.command.is_empty() {
            return Vec::new();
        }
        vec![
            self.paint("finished work is kept; to resume, run", BOLD),
            // `--force` would recompute finished work.
            format!("  {}", without_force(&self.command)),
        ]
    }
}

impl Done {
    fn describe(&self) -> String {
        let mut parts = vec![plural(self.rows, "row")];
        if self.partitions.done > 0 {
            parts.push(plural(self.partitions.done as u64, "partition"));
        }
        if self.partitions.skipped > 0 {
            parts.push(format!("{} up to date", count(self.partitions.skipped as u64)));
        }
        parts.push(duration(from_seconds(self.seconds)));
        format!("{}: {}", self.node, parts.join(", "))
    }
}

impl EventSink for Summary {
    fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::NodeFailed { node, error, .. } => drop(self.failed.insert(node.clone(), error.clone())),
            EventKind::NodeBlocked { node, because } => self.blocked.push((node.clone(), because.clone())),
            EventKind::NodeFinished { node, rows, partitions, seconds, .. } => {
                let done = Done { node: node.clone(), rows: *rows, partitions: *partitions, seconds: *seconds };
                self.done.push(done);
            }
            EventKind::NodeSkipped { .. } | EventKind::NodeAccepted { .. } => self.skipped += 1,
            EventKind::Interrupted { signal } => self.signal = Some(signal.clone()),
            EventKind::EndpointAdapted { endpoint, settings } => {
                self.adapted.insert(endpoint.clone(), settings.clone());
            }
            EventKind::EndpointWaiting { .. } | EventKind::EndpointResponding { .. }
                if self.display == Display::Summary =>
            {
                if let Some(text) = describe(event, &mut Causes::default(), self.color) {
                    self.write(&format!("{text}\n"));
                }
            }
            // Other displays print warnings immediately.
            EventKind::Warning { message } if self.display == Display::Summary => {
                let text = format!("{}: {message}\n", self.paint("warning", YELLOW));
                self.write(&text);
            }
            EventKind::RunFinished { summary } => {
                let wrong = summary.status != Status::Ok || summary.rows.error > 0;
                if wrong || self.display != Display::Quiet {
                    self.write(&self.text(summary));
                }
            }
            _ => {}
        }
    }
}

fn rest(all: usize, word: &str, line: &mut impl FnMut(&str)) {
    if all > MAX_LINES {
        line(&format!("  and {} more", plural((all - MAX_LINES) as u64, word)));
    }
}

fn rows(rows: &RowTally) -> String {
    let parts =
        [(rows.ok, "computed"), (rows.cached, "cached"), (rows.empty, "without text"), (rows.error, "with an error")];
    let nonzero: Vec<_> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
    nonzero.join(", ")
}

fn spent(usage: &UsageSnapshot, rows: &RowTally) -> String {
    let mut parts = spending(&UsageSnapshot { saved_usd: 0.0, ..*usage });
    // Without any requests, state that the rows came from the cache.
    if usage.requests == 0 && rows.cached > 0 {
        parts.push(format!("0 requests, {} from the cache", plural(rows.cached, "row")));
    }
    if usage.retries > 0 {
        let word = if usage.retries == 1 { "retry" } else { "retries" };
        parts.insert(1.min(parts.len()), format!("{} {word}", count(usage.retries)));
    }
    let mut text = parts.join(", ");
    if usage.saved_usd > 0.0 {
        let saved = format!("the cache saved {}", money(usage.saved_usd));
        text = if text.is_empty() { saved } else { format!("{text}; {saved}") };
    }
    text
}

/// The command without `--force`.
fn without_force(command: &str) -> String {
    command.split(' ').filter(|word| *word != "--force").collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{TestWriter, event, node_blocked, node_failed, node_finished, node_skipped},
        *,
    };
    use crate::run::event::NodeTally;

    fn written(display: Display, events: &[EventKind], summary: RunSummary) -> String {
        let output = TestWriter::default();
        let mut sink = Summary::new(output.writer(), display, false, "flow run -p main --force --params 'a=b c'");
        events.iter().for_each(|kind| sink.event(&event(1.0, kind.clone())));
        sink.event(&event(2.0, EventKind::RunFinished { summary }));
        output.text()
    }

    fn nodes(done: usize, skipped: usize, failed: usize, blocked: usize) -> NodeTally {
        NodeTally { done, skipped, failed, blocked }
    }

    #[test]
    fn a_successful_run_is_summarized_with_rows_and_cost() {
        let summary = RunSummary {
            nodes: nodes(1, 1, 0, 0),
            rows: RowTally { ok: 1_000, cached: 500, empty: 3, error: 0 },
            usage: UsageSnapshot {
                requests: 12,
                retries: 1,
                throttled: 2,
                tokens: 5_000,
                cost_usd: 0.1,
                unconfirmed_usd: 0.0,
                saved_usd: 0.05,
            },
            seconds: 75.0,
            ..RunSummary::default()
        };
        let events = [node_skipped("cut"), node_finished("embed", 1_503, (3, 21, 0), 74.0)];
        assert_eq!(
            written(Display::Summary, &events, summary.clone()),
            "ok: 1 node in 1 min 15 s\n  \
             done embed: 1,503 rows, 3 partitions, 21 up to date, 1 min 14 s\n  \
             up to date 1 node\n  \
             rows: 1,000 computed, 500 cached, 3 without text\n  \
             spent: 12 requests, 1 retry, 2 × 429, 5,000 tokens, $0.10; the cache saved $0.050\n"
        );
        let lines = written(Display::Lines, &events, summary.clone());
        assert!(lines.starts_with("ok: 1 node in 1 min 15 s\n  up to date 1 node\n  rows:"), "{lines}");
        assert_eq!(written(Display::Quiet, &events, summary), "");
    }

    #[test]
    fn a_run_without_requests_reports_rows_from_the_cache() {
        let summary = RunSummary {
            nodes: nodes(1, 0, 0, 0),
            rows: RowTally { ok: 0, cached: 117_659, empty: 0, error: 0 },
            seconds: 2.0,
            ..RunSummary::default()
        };
        let text = written(Display::Lines, &[], summary);
        assert!(text.contains("  spent: 0 requests, 117,659 rows from the cache\n"), "{text}");
    }

    #[test]
    fn nothing_to_do_is_one_line() {
        let summary = RunSummary { nodes: nodes(0, 2, 0, 0), ..RunSummary::default() };
        let text = written(Display::Summary, &[node_skipped("a"), node_skipped("b")], summary);
        assert_eq!(text, "ok: everything is up to date\n  up to date 2 nodes\n");
    }

    #[test]
    fn failures_come_first_then_blocked_nodes_then_the_command_to_resume() {
        let cause = |node: &str, error: &str, partitions: usize| Cause {
            node: node.to_owned(),
            error: error.to_owned(),
            partitions,
            examples: (0..partitions.min(3)).map(|n| format!("bucket={n}")).collect(),
        };
        let summary = RunSummary {
            status: Status::Failed,
            nodes: nodes(1, 0, 3, 1),
            seconds: 3.0,
            causes: vec![
                cause("embed", "401 invalid_api_key", 12),
                cause("embed", "timed out", 1),
                cause("other", "401 invalid_api_key", 2),
                cause("third", "no such column", 1),
            ],
            ..RunSummary::default()
        };
        let events = [
            node_finished("cut", 10, (0, 0, 0), 0.5),
            node_blocked("report", "embed"),
            node_failed("embed", "13 of 24 partitions failed"),
            node_failed("other", "stopped"),
            node_failed("one", "no space"),
            node_failed("two", "no space"),
        ];
        let text = written(Display::Summary, &events, summary.clone());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "failed after 3.0 s: 3 of 5 nodes, 1 not started",
                "  failed embed: 13 of 24 partitions failed",
                "    bucket=0, bucket=1, bucket=2 and 9 more: 401 invalid_api_key",
                "    bucket=0: timed out",
                "  failed other: stopped",
                "    bucket=0, bucket=1: for the same reason as embed",
                "  failed one: no space",
                "  failed two: for the same reason as one",
                "  failed third: 1 partition",
                "    bucket=0: no such column",
                "  not started report: `embed` failed",
                "  done cut: 10 rows, 500 ms",
                "finished work is kept; to resume, run",
                "  flow run -p main --params 'a=b c'",
            ]
        );
        let quiet = written(Display::Quiet, &events, summary);
        assert!(quiet.contains("failed embed") && !quiet.contains("done cut"), "{quiet}");
    }

    #[test]
    fn an_interruption_names_the_signal_and_the_command_to_resume() {
        let summary = RunSummary { status: Status::Interrupted, seconds: 1.0, ..RunSummary::default() };
        let text = written(Display::Bars, &[EventKind::Interrupted { signal: "SIGTERM".to_owned() }], summary);
        assert_eq!(
            text,
            "stopped by SIGTERM after 1.0 s\nfinished work is kept; to resume, run\n  flow run -p main --params 'a=b c'\n"
        );
    }

    #[test]
    fn rows_with_errors_are_reported_even_with_quiet() {
        let summary = RunSummary {
            nodes: nodes(1, 0, 0, 0),
            rows: RowTally { error: 2, ..RowTally::default() },
            ..RunSummary::default()
        };
        let text = written(Display::Quiet, &[], summary);
        assert_eq!(
            text,
            "ok: 1 node in 0 ms\n  rows: 2 with an error\n  note: 2 rows without a result; the output contains their errors\n"
        );
    }
}
