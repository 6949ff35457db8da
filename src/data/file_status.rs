//! How a local file looks from outside, without being read.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// A file that was changed so shortly before it was read may have been changed again within the same tick of its file
/// system's clock: it is read anew the next time.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

/// How a file looks from outside. Nothing of it is part of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileStatus {
    pub(super) size: u64,
    /// When its content was last set, in nanoseconds since 1970.
    pub(super) modified: i64,
    /// When anything about it was last set, where the system reports it: a copy that keeps times cannot set this one.
    pub(super) changed: i64,
    pub(super) inode: u64,
    /// Not a pipe or a device, which cannot be read twice.
    pub(super) regular: bool,
}

impl FileStatus {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        let modified = metadata.modified().ok().map_or(0, nanos);
        let (changed, inode) = beneath(metadata);
        Self { size: metadata.len(), modified, changed, inode, regular: metadata.is_file() }
    }

    /// True for a regular file; a pipe or a device cannot be read twice.
    pub(super) fn is_regular(&self) -> bool {
        self.regular
    }

    /// True when a change after `now` would show.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let last = self.modified.max(self.changed);
        nanos(now).saturating_sub(last) > i64::try_from(SETTLED.as_nanos()).unwrap_or(i64::MAX)
    }
}

#[cfg(unix)]
fn beneath(metadata: &fs::Metadata) -> (i64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec()), metadata.ino())
}

#[cfg(not(unix))]
fn beneath(_metadata: &fs::Metadata) -> (i64, u64) {
    (0, 0)
}

fn nanos(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or_default()
}
