//! Listings: the files, the partitions they make up, and a digest of both.
//!
//! DatasetState is read by listing only. A file that `flow` wrote carries a fingerprint in its name, so its name is its
//! digest, as long as its size is the one in its name. For any other file the digest is its path and what
//! stands for its content: a digest of its bytes on the local disk, size and etag on a store.

use std::collections::BTreeMap;

use super::{
    error::DataError,
    file_name::FileName,
    file_status::FileStatus,
    partition::{Partition, PartitionFile, PartitionReceipt, RowOutcomes},
};
use crate::model::{Fingerprint, FingerprintBuilder, NULL_PARTITION, PartitionKey, PartitionValue};

/// A file as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative to the dataset's folder; empty for a dataset that is one file.
    pub(super) path: String,
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
    /// A local file that was not read: its name is enough, or only names are wanted.
    Unread(FileStatus),
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
    /// The parts of the name, when `flow` gave it.
    fn name(&self) -> Option<FileName<'_>> {
        FileName::parse(&self.path)
    }

    /// The fingerprint in the name, when `flow` wrote the file and it is as long as it was then.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.name().filter(|name| name.bytes == self.size).map(|name| name.fingerprint)
    }

    fn feed(&self, out: &mut FingerprintBuilder) {
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
                    // Never equal to that of a file that was read, so nothing counts as up to date by mistake.
                    Stamp::Unread(look) => out.push(format!("{look:?}").as_bytes()),
                }
            }
        }
    }

    fn partition_file(&self) -> PartitionFile {
        let whole = self.name().is_none_or(|name| name.bytes == self.size);
        PartitionFile { path: self.path.clone(), size: self.size, whole }
    }

    /// What the name holds about the partition.
    fn receipt(&self) -> Option<PartitionReceipt> {
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
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        links.sort_unstable();
        if entries.is_empty() && links.is_empty() { Self::Absent } else { Self::Folder(entries, links) }
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

    /// The directories with `=` in front of a file: its key; `None` for a file without any.
    fn key(shown: &str, entry: &Entry) -> Result<Option<PartitionKey>, DataError> {
        let folders: Vec<&str> = entry.path.split('/').collect();
        let folders = &folders[..folders.len() - 1];
        let first = folders.iter().position(|folder| folder.contains('='));
        let Some(first) = first else { return Ok(None) };
        let end = folders[first..].iter().position(|folder| !folder.contains('=')).map_or(folders.len(), |n| first + n);
        let path = folders[first..end].join("/");
        let key = PartitionKey::parse(&path).map_err(|error| layout(shown, &entry.path, &error.to_string()))?;
        for (column, value) in key.columns() {
            if matches!(value, PartitionValue::Text(text) if &**text == NULL_PARTITION) {
                let message = format!(
                    "partition column `{column}` is null there, and a null key means a different thing to every reader; fill it where it is written"
                );
                return Err(layout(shown, &entry.path, &message));
            }
        }
        Ok(Some(key))
    }

    /// The files by partition, in key order. `None` when no file is in a partition directory.
    ///
    /// # Errors
    /// When only some files lie in partition directories, or their columns differ.
    pub(super) fn partitions(&self, shown: &str, suffix: &str) -> Result<Option<Vec<Partition>>, DataError> {
        let mut by_key: BTreeMap<PartitionKey, Vec<&Entry>> = BTreeMap::new();
        let mut outside = None;
        let entries = self.entries().iter().filter(|entry| entry.path.ends_with(suffix));
        for entry in entries {
            match Self::key(shown, entry)? {
                Some(key) => by_key.entry(key).or_default().push(entry),
                None => outside = outside.or(Some(entry)),
            }
        }
        let Some(first) = by_key.keys().next() else { return Ok(None) };
        if let Some(entry) = outside {
            let message =
                format!("it is in no partition directory, while others are (`{first}`); move it out of the dataset");
            return Err(layout(shown, &entry.path, &message));
        }
        let columns: Vec<&str> = first.columns().map(|(column, _)| column).collect();
        for (key, entries) in &by_key {
            if !key.columns().map(|(column, _)| column).eq(columns.iter().copied()) {
                let message = format!("its partition columns differ from those of `{first}`");
                return Err(layout(shown, &entries[0].path, &message));
            }
        }
        let partitions = by_key.into_iter().map(|(key, entries)| {
            let mut builder = Fingerprint::builder("partition");
            entries.iter().for_each(|entry| entry.feed(&mut builder));
            let receipt = if let [file] = entries.as_slice() { file.receipt() } else { None };
            let files = entries.iter().map(|entry| entry.partition_file()).collect();
            Partition { key, files, digest: builder.finish(), receipt }
        });
        Ok(Some(partitions.collect()))
    }
}

/// A file that does not fit the layout of its dataset, which is displayed as `shown`.
fn layout(shown: &str, relative: &str, message: &str) -> DataError {
    DataError::Layout { file: format!("{shown}/{relative}"), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(paths: &[&str]) -> Listing {
        let entry = |path: &&str| Entry { path: (*path).to_owned(), size: 1, stamp: Stamp::Time(1), plain: true };
        Listing::folder(paths.iter().map(entry).collect())
    }

    #[test]
    fn partitions_come_in_the_order_of_their_keys() {
        let listing =
            folder(&["bucket=10/a.parquet", "bucket=9/a.parquet", "bucket=9/b.parquet", "bucket=9/readme.txt"]);
        let partitions = listing.partitions("data", ".parquet").expect("hive").expect("some");
        let shown: Vec<_> = partitions.iter().map(|p| (p.key.to_string(), p.files.len())).collect();
        assert_eq!(shown, [("bucket=9".to_owned(), 2), ("bucket=10".to_owned(), 1)]);
    }

    #[test]
    fn mixed_layouts_and_null_keys_are_refused() {
        for (paths, word) in [
            (&["bucket=1/a", "b"][..], "no partition directory"),
            (&["bucket=1/a", "shard=1/a"][..], "differ"),
            (&["bucket=1/a", "bucket=1/x=2/a"][..], "differ"),
            (&["bucket=__HIVE_DEFAULT_PARTITION__/a"][..], "null"),
        ] {
            let error = folder(paths).partitions("data", "").expect_err("refused").to_string();
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(folder(&["a", "b/c"]).partitions("data", "").expect("a plain folder"), None);
    }

    #[test]
    fn a_name_that_flow_gave_is_its_own_digest_while_the_file_is_whole() {
        let name = |bytes| FileName { rows: Some(3), ..FileName::of_table(Fingerprint::of("x"), bytes, ".parquet") };
        let entry =
            |path: &str, size, stamp| Entry { path: path.to_owned(), size, stamp: Stamp::Time(stamp), plain: true };
        let digest = |path: &str, size, stamp| Listing::folder(vec![entry(path, size, stamp)]).digest();
        let ours = format!("bucket=1/{}", name(10));
        assert_eq!(digest(&ours, 10, 1), digest(&ours, 10, 2), "times do not matter");
        assert_eq!(digest(&ours, 10, 1), digest(&format!("bucket=1/{}", name(11)), 11, 1), "nor how it was encoded");
        assert_ne!(digest(&ours, 10, 1), digest(&ours, 9, 1), "cut short");
        assert_ne!(digest(&ours, 10, 1), digest(&format!("bucket=2/{}", name(10)), 10, 1));
        assert_ne!(digest("bucket=1/part-0.parquet", 1, 1), digest("bucket=1/part-0.parquet", 1, 2));
        assert_eq!(entry(&ours, 10, 1).fingerprint(), Some(Fingerprint::of("x")));
        assert_eq!(entry(&ours, 0, 1).fingerprint(), None, "an empty file is never believed");
    }
}
