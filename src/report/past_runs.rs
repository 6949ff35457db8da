//! What a page is about: one run, or all processes of a submission, with their events.

use std::{collections::BTreeMap, io};

use chrono::{DateTime, Utc};

use crate::run::{Ledgers, Run, event::Event, ledger};

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

/// The last attempt of each shard; where a run without a shard came after all, that one alone.
pub(super) fn last_attempts<'a, T>(attempts: impl IntoIterator<Item = (&'a PastRun, T)>) -> Vec<T> {
    let mut last: BTreeMap<Option<&str>, T> = BTreeMap::new();
    for (run, attempt) in attempts {
        if run.shard.is_none() {
            last.clear();
        }
        last.insert(run.shard.as_deref(), attempt);
    }
    // What came before the shards is not one of them.
    if last.len() > 1 {
        last.remove(&None);
    }
    last.into_values().collect()
}

/// How runs of a submission stand together.
fn together(runs: &[PastRun]) -> String {
    let last = last_attempts(runs.iter().map(|run| (run, run.status.as_str())));
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
}
