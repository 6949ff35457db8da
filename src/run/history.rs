//! Past and running runs, from the ends of their ledgers.

use std::{io, path::Path};

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Serialize;
use serde_json::Value as Json;

use super::{attempts::Asked, ledger};

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its id.
    pub run: String,
    /// `ok`, `failed`, `interrupted`, `running`, or `killed`: ended without a last event in the ledger.
    pub status: String,
    /// From its start to its end, or to now; null when the end is unknown.
    pub seconds: Option<f64>,
    /// When it began.
    pub started: Option<DateTime<Utc>>,
    /// The selected pipelines; `(all)` for all.
    pub pipeline: String,
    /// A name that all processes of a submission share.
    pub group: Option<String>,
    /// The part of the partitions that it computed.
    pub shard: Option<String>,
    /// The names of the selected nodes, where it has a group and its ledger names them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected: Option<Vec<String>>,
}

impl Run {
    /// Reads the first and the last event of a run, and whether it goes on.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn read(folder: &Path, id: &str) -> io::Result<Self> {
        // Checked first: a run that ends in between is then seen with its end.
        let running = ledger::is_running(folder, id)?;
        let (first, last) = ledger::ends(folder, id)?;
        Ok(Self::of(id, running, first.as_ref(), last.as_ref(), Utc::now()))
    }

    /// The same run, which is known to be alive: it runs, unless it has an end.
    pub(super) fn alive(self, now: DateTime<Utc>) -> Self {
        if self.status != "killed" {
            return self;
        }
        Self { status: "running".to_owned(), seconds: self.started.and_then(|started| seconds(now, started)), ..self }
    }

    /// The pipelines of runs that are shown together: those of each, or `(all)` where they differ.
    pub fn common_pipeline(runs: &[Self]) -> &str {
        match runs.split_first() {
            Some((first, rest)) if rest.iter().all(|run| run.pipeline == first.pipeline) => &first.pipeline,
            _ => "(all)",
        }
    }

    /// Its place among the attempts of its group: by shard, then by time.
    pub fn order(&self) -> (Option<u64>, &str) {
        let index = self.shard.as_ref().and_then(|shard| shard.split_once('/')?.0.parse().ok());
        (index, &self.run)
    }

    /// What it was asked to do.
    pub fn asked(&self) -> Asked<'_> {
        Asked { shard: self.shard.as_deref(), selected: self.selected.as_deref() }
    }

    fn of(id: &str, running: bool, first: Option<&Json>, last: Option<&Json>, now: DateTime<Utc>) -> Self {
        let first = first.filter(|event| event["kind"] == "run.started");
        let text = |name: &str| first.and_then(|event| event[name].as_str()).map(str::to_owned);
        let names = first.and_then(|event| event["selected"].as_array());
        let selected = names.map(|names| names.iter().filter_map(Json::as_str).map(str::to_owned).collect::<Vec<_>>());
        let finished = last.filter(|event| event["kind"] == "run.finished");
        let started = started(id);
        let (status, seconds) = match finished {
            Some(end) => (end["status"].as_str().unwrap_or("killed"), end["seconds"].as_f64()),
            None if running => ("running", started.and_then(|started| seconds(now, started))),
            None => ("killed", None),
        };
        Self {
            run: id.to_owned(),
            status: status.to_owned(),
            seconds,
            started,
            pipeline: text("pipeline").unwrap_or_else(|| "(all)".to_owned()),
            group: text("group"),
            shard: text("shard"),
            selected: selected.filter(|names| !names.is_empty()),
        }
    }
}

/// The time since the start, in seconds.
fn seconds(now: DateTime<Utc>, started: DateTime<Utc>) -> Option<f64> {
    let time = (now - started).to_std().ok()?;
    Some((time.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// When a run began, from its id.
fn started(id: &str) -> Option<DateTime<Utc>> {
    let (time, _) = id.rsplit_once('-')?;
    NaiveDateTime::parse_from_str(time, "%Y%m%d-%H%M%S%3f").ok().map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_is_running_killed_or_what_its_end_says() {
        let id = "20260102-030405678-00ff";
        let now = started(id).expect("a time") + chrono::TimeDelta::milliseconds(1500);
        let first = json!({"kind": "run.started", "pipeline": "main"});
        let end = json!({"kind": "run.finished", "status": "failed", "seconds": 12.5});
        let event = json!({"kind": "node.started", "seconds": 1.0});
        for (running, last, status, seconds) in [
            (true, &event, "running", Some(1.5)),
            (false, &event, "killed", None),
            (false, &end, "failed", Some(12.5)),
            (true, &end, "failed", Some(12.5)),
        ] {
            let run = Run::of(id, running, Some(&first), Some(last), now);
            assert_eq!((run.status.as_str(), run.seconds), (status, seconds));
            let json = serde_json::to_value(&run).expect("plain data becomes JSON");
            assert_eq!(json["seconds"].as_f64(), seconds, "a number or null");
            assert_eq!((&json["pipeline"], &json["started"]), (&json!("main"), &json!("2026-01-02T03:04:05.678Z")));
        }
        let killed = Run::of(id, false, Some(&first), Some(&event), now).alive(now);
        assert_eq!((killed.status.as_str(), killed.seconds), ("running", Some(1.5)));
        assert_eq!(Run::of(id, false, Some(&first), Some(&end), now).alive(now).status, "failed");
        assert_eq!(started("nonsense"), None);
    }
}
