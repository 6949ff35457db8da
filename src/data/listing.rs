//! Listings: the files at a location, and a digest of them.
//!
//! State is read by listing only. A file that `flow` wrote carries a fingerprint in its name, so its name is its
//! digest, as long as its size is the one in its name. For any other file the digest is its path and what
//! identifies its content: a digest of its bytes on the local disk, size and etag on a store.

use std::sync::Arc;

use super::{
    file_name::FileName,
    file_status::FileStatus,
    glob::Glob,
    partition::{PartitionFile, PartitionReceipt},
    row_outcomes::RowOutcomes,
};
use crate::model::{Fingerprint, FingerprintBuilder};

/// A file as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative to the dataset's folder; empty for a dataset that is one file.
    pub(super) path: Arc<str>,
    /// In bytes.
    pub(super) size: u64,
    /// Changes when the content does.
    pub(super) stamp: Stamp,
    /// A regular file or an object, reached through no link.
    pub(super) plain: bool,
}

/// What changes when a file's content does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stamp {
    /// The store's etag.
    Tag(String),
    /// The time of the last change, in nanoseconds since 1970, where a store gives nothing better.
    Time(i64),
    /// A digest of the bytes of a local file.
    Content(Fingerprint),
    /// Nothing is needed: `flow` named the file after its content, and it is as long as it was then.
    Named,
    /// A local file that was not read, as only names are wanted.
    Unread(Box<FileStatus>),
}

/// The files at a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listing {
    /// Nothing.
    Absent,
    /// One file.
    File(Entry),
    /// A folder: its files, and the links in it that lead to folders or to nothing, both sorted by path.
    Folder(Vec<Entry>, Vec<String>),
}

impl Entry {
    /// A plain file. What a store says of one that is known by its name is not kept: listings have hundreds of thousands of files.
    pub(super) fn new(path: impl Into<Arc<str>>, size: u64, stamp: impl FnOnce() -> Stamp) -> Self {
        let path = path.into();
        let named = FileName::parse(&path).is_some_and(|name| name.bytes == size);
        Self { path, size, stamp: if named { Stamp::Named } else { stamp() }, plain: true }
    }

    /// The parts of the name, when `flow` gave it.
    fn name(&self) -> Option<FileName<'_>> {
        FileName::parse(&self.path)
    }

    /// The fingerprint in the name, when `flow` wrote the file and it is as long as it was then.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.name().filter(|name| name.bytes == self.size).map(|name| name.fingerprint)
    }

    /// Adds what it is to a digest.
    pub(super) fn feed(&self, out: &mut FingerprintBuilder) {
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        match self.name() {
            // How the same rows were encoded is no part of what they are.
            Some(name) if name.bytes == self.size => {
                out.push(b"flow");
                out.push(folder.as_bytes());
                out.push(name.fingerprint.as_bytes());
                out.push(&name.rows.unwrap_or(u64::MAX).to_le_bytes());
                out.push(&name.errors.to_le_bytes());
                out.push(name.suffix.as_bytes());
            }
            _ => {
                out.push(b"file");
                out.push(self.path.as_bytes());
                out.push(&self.size.to_le_bytes());
                match &self.stamp {
                    Stamp::Tag(tag) => out.push(tag.as_bytes()),
                    Stamp::Time(nanos) => out.push(&nanos.to_le_bytes()),
                    Stamp::Content(content) => out.push(content.as_bytes()),
                    Stamp::Named => {}
                    // Never equal to that of a file that was read, so nothing counts as up to date by mistake.
                    Stamp::Unread(look) => out.push(format!("{look:?}").as_bytes()),
                }
            }
        }
    }

    /// It as one of a partition.
    pub(super) fn partition_file(&self) -> PartitionFile {
        let whole = self.name().is_none_or(|name| name.bytes == self.size);
        PartitionFile { path: Arc::clone(&self.path), size: self.size, whole }
    }

    /// What the name holds about the partition.
    pub(super) fn receipt(&self) -> Option<PartitionReceipt> {
        let name = self.name().filter(|name| name.bytes == self.size)?;
        let outcomes = RowOutcomes { errors: name.errors, empty: name.empty };
        Some(PartitionReceipt { fingerprint: name.fingerprint, rows: name.rows, outcomes })
    }
}

impl Listing {
    pub(super) fn folder(entries: Vec<Entry>) -> Self {
        Self::with_links(entries, Vec::new())
    }

    /// As [`Self::folder`], with the links in it.
    pub(super) fn with_links(mut entries: Vec<Entry>, mut links: Vec<String>) -> Self {
        entries.shrink_to_fit();
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        links.sort_unstable();
        if entries.is_empty() && links.is_empty() { Self::Absent } else { Self::Folder(entries, links) }
    }

    /// The files below a folder that a pattern matches.
    pub(super) fn matching(self, glob: &Glob) -> Self {
        match self {
            Self::Folder(mut entries, _) => {
                entries.retain(|entry| glob.matches(&entry.path));
                Self::folder(entries)
            }
            Self::Absent | Self::File(_) => Self::Absent,
        }
    }

    /// The same without files that `keep` says no to.
    pub(super) fn retaining(&self, keep: impl Fn(&str) -> bool) -> Self {
        match self {
            Self::Folder(entries, links) => {
                Self::with_links(entries.iter().filter(|entry| keep(&entry.path)).cloned().collect(), links.clone())
            }
            other => other.clone(),
        }
    }

    /// Links in the folder that lead to folders or to nothing.
    pub(super) fn links(&self) -> &[String] {
        match self {
            Self::Folder(_, links) => links,
            Self::Absent | Self::File(_) => &[],
        }
    }

    /// The files, in order.
    pub(super) fn entries(&self) -> &[Entry] {
        match self {
            Self::Absent => &[],
            Self::File(entry) => std::slice::from_ref(entry),
            Self::Folder(entries, _) => entries,
        }
    }

    /// The files, in order.
    pub(super) fn entries_mut(&mut self) -> &mut [Entry] {
        match self {
            Self::Absent => &mut [],
            Self::File(entry) => std::slice::from_mut(entry),
            Self::Folder(entries, _) => entries,
        }
    }

    /// A digest of what is here; also of nothing, for a table without partitions.
    pub(super) fn digest(&self) -> Fingerprint {
        let mut builder = Fingerprint::builder("listing");
        self.entries().iter().for_each(|entry| entry.feed(&mut builder));
        builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_flow_gave_is_its_own_digest_while_the_file_is_whole() {
        let name = |bytes| FileName { rows: Some(3), ..FileName::of_table(Fingerprint::of("x"), bytes, ".parquet") };
        let entry = |path: &str, size, stamp| Entry { path: path.into(), size, stamp: Stamp::Time(stamp), plain: true };
        let digest = |path: &str, size, stamp| Listing::folder(vec![entry(path, size, stamp)]).digest();
        let ours = format!("bucket=1/{}", name(10));
        assert_eq!(digest(&ours, 10, 1), digest(&ours, 10, 2), "times do not matter");
        assert_eq!(digest(&ours, 10, 1), digest(&format!("bucket=1/{}", name(11)), 11, 1), "nor how it was encoded");
        assert_ne!(digest(&ours, 10, 1), digest(&ours, 9, 1), "truncated");
        assert_ne!(digest(&ours, 10, 1), digest(&format!("bucket=2/{}", name(10)), 10, 1));
        assert_ne!(digest("bucket=1/part-0.parquet", 1, 1), digest("bucket=1/part-0.parquet", 1, 2));
        assert_eq!(entry(&ours, 10, 1).fingerprint(), Some(Fingerprint::of("x")));
        assert_eq!(entry(&ours, 0, 1).fingerprint(), None, "an empty file is never believed");
    }
}
