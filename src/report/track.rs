//! Progress of a run, computed from its events: running nodes, speed and remaining time. Used by bars and lines.

use std::{collections::VecDeque, time::Duration};

use indexmap::IndexMap;

use super::format::{duration, from_seconds, plural};
use crate::{
    model::{UsageSnapshot, count, money},
    run::event::{Event, EventKind},
};

/// The window over which the speed is measured.
const WINDOW: Duration = Duration::from_secs(30);
/// The minimum measured time before a speed is displayed.
const MIN_TIME: Duration = Duration::from_secs(1);
/// The number of time slots in the window; one sample is kept per slot.
const SAMPLES: usize = 256;

/// The progress of a run so far.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// Running nodes, in order of their start.
    pub running: IndexMap<String, Running>,
    /// The number of selected nodes.
    pub nodes: usize,
    /// The number of nodes that ended in any way.
    pub ended: usize,
    /// The latest counters.
    pub usage: UsageSnapshot,
}

/// The progress of a running node.
#[derive(Debug)]
pub(super) struct Running {
    /// The number of finished partitions and of all partitions; `None` for a table.
    pub partitions: Option<(usize, usize)>,
    failed: usize,
    rows: u64,
    /// Time, number of rows and number of finished partitions, oldest first.
    samples: VecDeque<(Duration, u64, usize)>,
}

impl Track {
    pub(super) fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted { nodes, .. } => self.nodes = *nodes,
            EventKind::NodeStarted { node, partitions, skipped, .. } => {
                let running = Running {
                    partitions: partitions.map(|total| (*skipped, total)),
                    failed: 0,
                    rows: 0,
                    samples: VecDeque::from([(event.elapsed, 0, *skipped)]),
                };
                self.running.insert(node.clone(), running);
            }
            EventKind::PartitionFinished { node, rows, done, total, .. } => {
                if let Some(running) = self.running.get_mut(node) {
                    // Events of concurrent partitions may arrive out of order.
                    let before = running.partitions.map_or(0, |(done, _)| done);
                    running.partitions = Some((before.max(*done), *total));
                    running.add(event.elapsed, *rows);
                }
            }
            EventKind::PartitionFailed { node, .. } => {
                if let Some(running) = self.running.get_mut(node) {
                    running.failed += 1;
                }
            }
            EventKind::TableProgress { node, rows } => {
                if let Some(running) = self.running.get_mut(node) {
                    running.add(event.elapsed, *rows);
                }
            }
            EventKind::NodeFinished { node, .. } | EventKind::NodeFailed { node, .. } => {
                self.running.shift_remove(node);
                self.ended += 1;
            }
            EventKind::NodeSkipped { .. } | EventKind::NodeBlocked { .. } | EventKind::NodeAccepted { .. } => {
                self.ended += 1;
            }
            EventKind::RunFinished { summary } => self.usage = summary.usage,
            EventKind::Interrupted { .. }
            | EventKind::NodeOutput { .. }
            | EventKind::EndpointWaiting { .. }
            | EventKind::EndpointResponding { .. }
            | EventKind::EndpointAdapted { .. }
            | EventKind::EndpointSample { .. }
            | EventKind::PartitionsSkipped { .. }
            | EventKind::Warning { .. } => {}
        }
    }

    /// The usage of the API so far: `1,204 requests · 3 × 429 · $0.42`. Empty if there was none.
    pub(super) fn spending(&self) -> String {
        spending(&self.usage).join(" · ")
    }
}

/// The nonzero usage counters as displayed to the user.
pub(super) fn spending(usage: &UsageSnapshot) -> Vec<String> {
    let mut parts = Vec::new();
    if usage.requests > 0 {
        parts.push(plural(usage.requests, "request"));
    }
    if usage.throttled > 0 {
        parts.push(format!("{} × 429", count(usage.throttled)));
    }
    if usage.tokens > 0 {
        parts.push(plural(usage.tokens, "token"));
    }
    if usage.cost_usd > 0.0 {
        parts.push(money(usage.cost_usd));
    }
    if usage.unconfirmed_usd > 0.0 {
        parts.push(format!("up to {} more for requests without a response", money(usage.unconfirmed_usd)));
    }
    if usage.saved_usd > 0.0 {
        parts.push(format!("the cache saved {}", money(usage.saved_usd)));
    }
    parts
}

impl Running {
    fn add(&mut self, now: Duration, rows: u64) {
        self.rows += rows;
        let sample = (now, self.rows, self.partitions.map_or(0, |(done, _)| done));
        // Only the last sample of each time slot is kept.
        let slot = |time: Duration| time.as_millis() / (WINDOW / SAMPLES as u32).as_millis();
        if self.samples.len() > 1 && self.samples.back().is_some_and(|last| slot(last.0) == slot(now)) {
            self.samples.pop_back();
        }
        self.samples.push_back(sample);
        while self.samples.len() > 2 && now.saturating_sub(self.samples[1].0) > WINDOW {
            self.samples.pop_front();
        }
    }

    /// Rows and partitions per second; `None` before [`MIN_TIME`] has been measured.
    fn speed(&self, now: Duration) -> Option<(f64, f64)> {
        let (since, rows, done) = *self.samples.front()?;
        let time = now.saturating_sub(since);
        if time < MIN_TIME {
            return None;
        }
        let now_done = self.partitions.map_or(0, |(done, _)| done);
        let seconds = time.as_secs_f64();
        Some(((self.rows - rows) as f64 / seconds, now_done.saturating_sub(done) as f64 / seconds))
    }

    /// `12 of 24 partitions · 1,234 rows/s · 2 min left`.
    pub(super) fn message(&self, now: Duration) -> String {
        let mut parts = Vec::new();
        match self.partitions {
            Some((done, total)) => {
                parts.push(format!("{} of {}", count(done as u64), plural(total as u64, "partition")))
            }
            None if self.rows > 0 => parts.push(plural(self.rows, "row")),
            None => {}
        }
        if self.failed > 0 {
            parts.push(format!("{} failed", count(self.failed as u64)));
        }
        if let Some((rows, partitions)) = self.speed(now) {
            if rows >= 0.5 {
                parts.push(format!("{} rows/s", count(rows.round() as u64)));
            }
            if let Some((done, total)) = self.partitions
                && partitions > 0.0
            {
                let left = total.saturating_sub(done + self.failed) as f64 / partitions;
                parts.push(format!("{} left", duration(from_seconds(left.round()))));
            }
        }
        parts.join(" · ")
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{
            event, node_failed, node_finished, node_skipped, node_started, partition_failed, partition_finished,
            run_started,
        },
        *,
    };

    fn message(track: &Track, node: &str, seconds: f64) -> String {
        track.running[node].message(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn partitions_are_shown_with_speed_and_remaining_time() {
        let mut track = Track::default();
        track.event(&event(0.0, node_started("n", Some(24), 4)));
        assert_eq!(message(&track, "n", 0.5), "4 of 24 partitions");
        for i in 0..5 {
            track.event(&event(f64::from(i) + 1.0, partition_finished("n", i as usize, 1_000, i as usize + 5, 24)));
        }
        assert_eq!(message(&track, "n", 5.0), "9 of 24 partitions · 1,000 rows/s · 15 s left");
        track.event(&event(5.0, partition_failed("n", 9, "x")));
        assert_eq!(message(&track, "n", 5.0), "9 of 24 partitions · 1 failed · 1,000 rows/s · 14 s left");
        track.event(&event(5.0, partition_finished("n", 10, 0, 7, 24)));
        assert!(message(&track, "n", 5.0).starts_with("9 of 24"), "a late event does not decrease the count");
    }

    #[test]
    fn tables_are_shown_in_rows_with_recent_speed() {
        let mut track = Track::default();
        track.event(&event(0.0, node_started("t", None, 0)));
        assert_eq!(message(&track, "t", 3.0), "");
        for second in 1..=100 {
            let rows = if second <= 50 { 10_000 } else { 100 };
            track.event(&event(f64::from(second), EventKind::TableProgress { node: "t".to_owned(), rows }));
        }
        assert_eq!(message(&track, "t", 100.0), "505,000 rows · 100 rows/s");
    }

    #[test]
    fn samples_are_bounded_however_many_events_there_are() {
        let mut track = Track::default();
        track.event(&event(0.0, node_started("t", None, 0)));
        for step in 1..=100_000 {
            let rows = if step <= 50_000 { 2 } else { 1 };
            track.event(&event(f64::from(step) / 1_000.0, EventKind::TableProgress { node: "t".to_owned(), rows }));
        }
        assert!(track.running["t"].samples.len() <= SAMPLES + 8, "{}", track.running["t"].samples.len());
        assert_eq!(message(&track, "t", 100.0), "150,000 rows · 1,000 rows/s");
    }

    #[test]
    fn nodes_are_added_and_removed() {
        let mut track = Track::default();
        track.event(&event(0.0, run_started(3)));
        track.event(&event(0.0, node_skipped("a")));
        track.event(&event(0.0, node_started("b", None, 0)));
        track.event(&event(0.0, node_started("c", None, 0)));
        assert_eq!(track.running.keys().collect::<Vec<_>>(), ["b", "c"]);
        track.event(&event(1.0, node_finished("b", 1, (0, 0, 0), 1.0)));
        track.event(&event(1.0, node_failed("c", "x")));
        assert_eq!((track.running.len(), track.ended, track.nodes), (0, 3, 3));
        // An event of a node that has ended is ignored.
        track.event(&event(1.0, partition_finished("b", 1, 1, 1, 1)));
        assert!(track.running.is_empty());
    }

    #[test]
    fn only_nonzero_counters_are_shown() {
        assert_eq!(spending(&UsageSnapshot::default()), [""; 0]);
        let usage = UsageSnapshot {
            requests: 1_204,
            retries: 3,
            throttled: 3,
            tokens: 1,
            cost_usd: 0.42,
            unconfirmed_usd: 0.0,
            saved_usd: 1.0,
        };
        assert_eq!(spending(&usage).join(" · "), "1,204 requests · 3 × 429 · 1 token · $0.42 · the cache saved $1.00");
        let cut = UsageSnapshot { requests: 2, cost_usd: 0.2, unconfirmed_usd: 0.1, ..UsageSnapshot::default() };
        assert_eq!(spending(&cut).join(" · "), "2 requests · $0.20 · up to $0.10 more for requests without a response");
    }
}
