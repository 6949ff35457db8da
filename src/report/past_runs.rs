//! What a page is about: one run, or all processes of a submission, with their events.

use std::io;

use chrono::{DateTime, Utc};

use crate::run::{self, Asked, Ledgers, Run, event::Event, ledger};

/// A run with its events.
#[derive(Debug, Clone)]
pub struct PastRun {
    /// Its id.
    pub id: String,
    /// `ok`, `failed`, `interrupted`, `running` or `killed`.
    pub status: String,
    /// When it started (RFC 3339).
    pub started: Option<String>,
    /// How long it took, or has taken so far.
    pub seconds: Option<f64>,
    /// The part of the partitions that it computed; `None` for all.
    pub shard: Option<String>,
    /// The names of the selected nodes; `None` where they are not known.
    pub selected: Option<Vec<String>>,
    /// When it began, in seconds after the first run that is shown with it.
    pub after: f64,
    /// Its events, in order.
    pub events: Vec<Event>,
}

/// What a page is about: one run, or all processes of a submission.
#[derive(Debug)]
pub struct PastRuns {
    /// The id of the run, or the name of the group.
    pub id: String,
    /// `ok`, `failed`, `interrupted`, `running` or `killed`.
    pub status: String,
    /// When the first one started (RFC 3339).
    pub started: Option<String>,
    /// From then to the end of the last one, or how long they have taken so far.
    pub seconds: Option<f64>,
    /// The run, or all of them, in the order of their begins.
    pub runs: Vec<PastRun>,
}

impl PastRun {
    /// A run without events.
    pub fn begun(run: &Run) -> Self {
        Self {
            id: run.run.clone(),
            status: run.status.clone(),
            started: run.started.map(|time| time.to_rfc3339()),
            seconds: run.seconds,
            shard: run.shard.clone(),
            selected: run.selected.clone(),
            after: 0.0,
            events: Vec::new(),
        }
    }
}

impl PastRuns {
    /// One run.
    pub fn one(run: PastRun) -> Self {
        Self {
            id: run.id.clone(),
            status: run.status.clone(),
            started: run.started.clone(),
            seconds: run.seconds,
            runs: vec![run],
        }
    }

    /// A run, or those of a submission in the order of their begins, with their events.
    ///
    /// # Errors
    /// When a ledger cannot be read.
    pub fn read(ledgers: &Ledgers, runs: &[Run]) -> io::Result<Self> {
        let first = runs.iter().filter_map(|run| run.started).min();
        let of = |run: &Run| -> io::Result<PastRun> {
            let events = ledger::events(ledgers.folder(), &run.run)?;
            // Of those that are damaged or of another version, nothing is known.
            let events = events.filter_map(|event| event.map(|event| Event::from_json(&event)).transpose());
            let after = run.started.zip(first).map_or(0.0, |(started, first)| seconds(first, started));
            Ok(PastRun { after, events: events.collect::<io::Result<_>>()?, ..PastRun::begun(run) })
        };
        let mut past = runs.iter().map(of).collect::<io::Result<Vec<_>>>()?;
        if let [_] = past.as_slice() {
            return Ok(Self::one(past.remove(0)));
        }
        let ended = past.iter().map(|run| run.seconds.map(|seconds| run.after + seconds));
        Ok(Self {
            id: runs.first().and_then(|run| run.group.clone()).unwrap_or_default(),
            status: together(&past),
            started: first.map(|time| time.to_rfc3339()),
            seconds: ended.collect::<Option<Vec<f64>>>().and_then(|ended| ended.into_iter().max_by(f64::total_cmp)),
            runs: past,
        })
    }
}

fn seconds(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).to_std().map_or(0.0, |time| time.as_secs_f64())
}

/// The last attempts at one node, by shard: of those that were asked for the same part of its partitions, the last one; where a run
/// without a shard came after all, that one alone.
pub(super) fn last_attempts<'a, T>(attempts: impl IntoIterator<Item = (&'a PastRun, T)>) -> Vec<T> {
    last(attempts, |run| Asked { shard: run.shard.as_deref(), selected: None })
}

/// The runs of a submission that no later one repeats, by shard: other nodes are other work.
pub(super) fn last_runs<'a, T>(runs: impl IntoIterator<Item = (&'a PastRun, T)>) -> Vec<T> {
    last(runs, |run| Asked { shard: run.shard.as_deref(), selected: run.selected.as_deref() })
}

fn last<'a, T>(
    attempts: impl IntoIterator<Item = (&'a PastRun, T)>,
    asked: impl Fn(&'a PastRun) -> Asked<'a>,
) -> Vec<T> {
    let attempts: Vec<(&PastRun, T)> = attempts.into_iter().collect();
    let asked: Vec<Asked<'_>> = attempts.iter().map(|(run, _)| asked(run)).collect();
    let positions = run::last_attempts(&asked);
    let mut last: Vec<(&PastRun, T)> = attempts
        .into_iter()
        .enumerate()
        .filter(|(position, _)| positions.binary_search(position).is_ok())
        .map(|(_, attempt)| attempt)
        .collect();
    last.sort_by(|(one, _), (other, _)| one.shard.cmp(&other.shard));
    last.into_iter().map(|(_, attempt)| attempt).collect()
}

/// How runs of a submission stand together.
fn together(runs: &[PastRun]) -> String {
    let last = last_runs(runs.iter().map(|run| (run, run.status.as_str())));
    let running = runs.iter().any(|run| run.status == "running");
    let worst = ["failed", "killed", "interrupted"].into_iter().find(|status| last.contains(status));
    if running { "running" } else { worst.unwrap_or("ok") }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(shard: Option<&str>, status: &str) -> PastRun {
        let shard = shard.map(str::to_owned);
        PastRun {
            id: String::new(),
            status: status.to_owned(),
            started: None,
            seconds: None,
            shard,
            selected: None,
            after: 0.0,
            events: Vec::new(),
        }
    }

    #[test]
    fn a_submission_stands_as_the_last_attempts_of_its_shards() {
        let (zero, one) = (Some("0/2"), Some("1/2"));
        for (runs, expected) in [
            (vec![(zero, "ok"), (one, "killed")], "killed"),
            (vec![(zero, "ok"), (one, "killed"), (one, "ok")], "ok"),
            (vec![(zero, "ok"), (one, "killed"), (one, "running")], "running"),
            (vec![(zero, "failed"), (one, "killed")], "failed"),
            (vec![(None, "ok"), (zero, "failed"), (one, "ok")], "failed"),
            (vec![(None, "failed"), (zero, "ok"), (one, "ok")], "ok"),
            (vec![(zero, "failed"), (one, "ok"), (None, "ok")], "ok"),
            (vec![(zero, "ok"), (None, "failed"), (None, "interrupted")], "interrupted"),
        ] {
            let all: Vec<PastRun> = runs.iter().map(|(shard, status)| run(*shard, status)).collect();
            assert_eq!(together(&all), expected, "{runs:?}");
        }
    }

    #[test]
    fn a_failed_shard_is_not_hidden_by_the_same_shard_of_another_node() {
        let of = |node: &str, shard, status| PastRun { selected: Some(vec![node.to_owned()]), ..run(shard, status) };
        let first = of("label", Some("0/2"), "failed");
        let other = of("lengths", Some("0/2"), "ok");
        let again = of("label", Some("0/2"), "ok");
        let gather = of("lengths", None, "ok");
        assert_eq!(together(&[first.clone(), other.clone(), gather.clone()]), "failed");
        assert_eq!(together(&[first, other, gather, again]), "ok");
    }
}
