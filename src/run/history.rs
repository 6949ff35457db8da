//! Past and running runs, from the ends of their ledgers.

use std::{io, path::Path};

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Serialize;
use serde_json::Value as Json;

use super::ledger;

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

    /// The last run of the same pipelines before this one that came to an end of its own. `ids` are those of all runs.
    pub fn before(&self, folder: &Path, ids: &[String]) -> Option<Self> {
        let earlier = ids.iter().rev().skip_while(|id| **id >= self.run);
        let readable = earlier.filter_map(|id| Self::read(folder, id).ok());
        readable
            .into_iter()
            .find(|other| other.pipeline == self.pipeline && matches!(other.status.as_str(), "ok" | "failed"))
    }

    fn of(id: &str, running: bool, first: Option<&Json>, last: Option<&Json>, now: DateTime<Utc>) -> Self {
        let pipeline =
            first.filter(|event| event["kind"] == "run.started").and_then(|event| event["pipeline"].as_str());
        let finished = last.filter(|event| event["kind"] == "run.finished");
        let started = started(id);
        let (status, seconds) = match finished {
            Some(end) => (end["status"].as_str().unwrap_or("killed"), end["seconds"].as_f64()),
            None if running => {
                let seconds = started.and_then(|started| (now - started).to_std().ok());
                ("running", seconds.map(|time| (time.as_secs_f64() * 1000.0).round() / 1000.0))
            }
            None => ("killed", None),
        };
        Self {
            run: id.to_owned(),
            status: status.to_owned(),
            seconds,
            started,
            pipeline: pipeline.unwrap_or("(all)").to_owned(),
        }
    }
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
        assert_eq!(started("nonsense"), None);
    }
}
