//! What a lease says of its holder: which process of which machine, and how long it lives.
//!
//! Owns the text of lock files and lock objects. Must not know where they are kept.

use std::{fs, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{guard::EXPIRY, names::unique_name};
use crate::model::Shard;

/// What the lock says to others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Holder {
    /// Different for every lease.
    pub(super) token: String,
    host: String,
    pid: u32,
    since: DateTime<Utc>,
    pub(super) renewed: DateTime<Utc>,
    /// How long it lives without being renewed.
    #[serde(default = "default_seconds")]
    expires_after_seconds: f64,
    /// The host's boot and the process's start time, which show for certain that the process is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
    /// For the lease of a shard: which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shard: Option<String>,
}

/// No lease lives for longer, in seconds; one that claims to comes from a clock that is wrong, or is damaged.
const MAX_LIFE: f64 = 24.0 * 3600.0;

fn default_seconds() -> f64 {
    EXPIRY.as_secs_f64()
}

/// One process of one machine since its boot. Linux only; elsewhere leases just expire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    boot: String,
    namespace: String,
    started: u64,
}

impl Process {
    fn of(pid: u32) -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; the start time is the 20th field after it.
        let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { boot, namespace, started })
    }
}

impl Holder {
    /// This process, for a lease that lives this long without being renewed.
    pub(super) fn here(expiry: Duration, shard: Option<Shard>) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let now = Utc::now();
        let token = format!("{host}-{}-{}", unique_name(), now.timestamp_nanos_opt().unwrap_or_default());
        let pid = std::process::id();
        let (expires_after_seconds, shard) = (expiry.as_secs_f64(), shard.map(|shard| shard.to_string()));
        Self { token, host, pid, since: now, renewed: now, expires_after_seconds, process: Process::of(pid), shard }
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("plain texts always serialize"))
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// In seconds; negative when it has run out.
    pub(super) fn left(&self) -> f64 {
        let age = Utc::now().signed_duration_since(self.renewed);
        self.expires_after_seconds - age.as_seconds_f64()
    }

    /// Whether it is alive, where that is certain: for a process of this machine since its boot.
    pub(super) fn is_alive(&self) -> Option<bool> {
        let (theirs, ours) = (self.process.as_ref()?, Process::of(std::process::id())?);
        if (&theirs.boot, &theirs.namespace) != (&ours.boot, &ours.namespace) {
            return None;
        }
        Some(Process::of(self.pid).is_some_and(|now| now.started == theirs.started))
    }

    /// True while no other run may count it as ended.
    pub(super) fn holds(&self) -> bool {
        self.left() > 0.0 && self.is_alive() != Some(false)
    }

    pub(super) fn shown(&self) -> String {
        let host = if self.host.is_empty() { String::new() } else { format!(" on {}", self.host) };
        let shard = self.shard.as_ref().map(|shard| format!("shard {shard} of a run: ")).unwrap_or_default();
        format!("{shard}process {}{host} since {}", self.pid, self.since.format("%Y-%m-%d %H:%M:%S UTC"))
    }

    /// For a lease that expires: also when that is.
    pub(super) fn shown_with_end(&self) -> String {
        let life = chrono::TimeDelta::try_milliseconds((self.expires_after_seconds * 1000.0) as i64);
        match life.and_then(|life| self.renewed.checked_add_signed(life)).filter(|_| self.left() <= MAX_LIFE) {
            Some(end) => format!(
                "{} (should it have died: its lease ends at {}, {:.0} s from now, unless it is renewed)",
                self.shown(),
                end.format("%H:%M:%S UTC"),
                self.left().max(0.0).ceil()
            ),
            None => format!(
                "{} (its lease claims to end on {}: if no run is alive, remove the lock object)",
                self.shown(),
                self.renewed.format("%Y-%m-%d")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_object_with_a_date_beyond_all_calendars_is_told_and_no_panic() {
        let mut holder = Holder::here(EXPIRY, None);
        assert!(holder.shown_with_end().contains("its lease ends at"));
        for (renewed, seconds) in
            [(DateTime::<Utc>::MAX_UTC, 90.0), (DateTime::<Utc>::MIN_UTC, -1e300), (Utc::now(), 1e300)]
        {
            holder = Holder { renewed, since: renewed, expires_after_seconds: seconds, ..holder };
            let read = Holder::parse(&holder.to_bytes()).unwrap_or_else(|| holder.clone());
            let shown = read.shown_with_end();
            assert!(shown.contains("process"), "{shown}");
            if seconds > 0.0 {
                assert!(shown.contains("remove the lock object"), "{shown}");
            }
        }
    }
}
