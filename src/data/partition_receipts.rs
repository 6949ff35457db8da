//! Receipts of partitions that are files with names of their own: which work wrote each of them, and what it wrote.
//!
//! The partition `2024/jan` is the file `2024/jan.csv` for every reader, so its name cannot hold a receipt. The receipt is
//! beside the dataset, in `.<name>.flow-partitions/<digest of the id>/`, and its *name* holds everything, so that state is
//! read by listing here too: `<fingerprint>-r500-b81234.c<digest of the bytes>`, or `.t<digest of the store's etag>`. It
//! counts only while the file has that content. It exists before the file gets its name, so that a file without a receipt
//! that fits is never ours.

use std::collections::HashMap;

use super::{
    error::DataError,
    file_name::FileName,
    listing::{Entry, Listing, Stamp},
    names::PARTITIONS_SUFFIX,
    partition::PartitionReceipt,
    row_outcomes::RowOutcomes,
    store_path::StorePath,
};
use crate::model::Fingerprint;

/// What identifies the content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A digest of its bytes.
    Bytes(Fingerprint),
    /// A digest of what the store says of it.
    Tag(Fingerprint),
}

impl Content {
    /// What a listing says of a file; `None` when it was not read.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        match &entry.stamp {
            Stamp::Content(content) => Some(Self::Bytes(*content)),
            // Azure quotes it in a header and not in a listing.
            Stamp::Tag(tag) => Some(Self::Tag(Fingerprint::of(format!("tag {}", tag.trim_matches('"'))))),
            Stamp::Time(nanos) => Some(Self::Tag(Fingerprint::of(format!("time {nanos}")))),
            Stamp::Named | Stamp::Unread(_) => None,
        }
    }
}

/// One receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileReceipt {
    /// What wrote the file, and how its rows came out.
    pub(super) receipt: PartitionReceipt,
    /// How long the file is.
    pub(super) bytes: u64,
    /// What is in it.
    pub(super) content: Content,
}

impl FileReceipt {
    /// The name of the receipt's object.
    pub(super) fn name(&self) -> String {
        let suffix = match self.content {
            Content::Bytes(digest) => format!(".c{digest}"),
            Content::Tag(digest) => format!(".t{digest}"),
        };
        let PartitionReceipt { fingerprint, rows, outcomes: RowOutcomes { errors, empty } } = self.receipt;
        FileName { fingerprint, rows, errors, empty, bytes: self.bytes, suffix: &suffix }.to_string()
    }

    fn parse(name: &str) -> Option<Self> {
        let FileName { fingerprint, rows, errors, empty, bytes, suffix } = FileName::parse(name)?;
        let content = match (suffix.strip_prefix(".c"), suffix.strip_prefix(".t")) {
            (Some(digest), _) => Content::Bytes(Fingerprint::parse(digest)?),
            (_, Some(digest)) => Content::Tag(Fingerprint::parse(digest)?),
            _ => return None,
        };
        let outcomes = RowOutcomes { errors, empty };
        Some(Self { receipt: PartitionReceipt { fingerprint, rows, outcomes }, bytes, content })
    }
}

/// The folder of one partition's receipts, relative to [`folder`].
pub(super) fn folder_of(id: &str) -> String {
    Fingerprint::of(id).to_string()
}

/// The location of the receipts of a dataset's partitions.
pub(super) fn folder(dataset: &StorePath) -> StorePath {
    dataset.sibling(PARTITIONS_SUFFIX)
}

/// The receipts of a dataset's partitions, by the digest of the partition's id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PartitionReceipts(HashMap<String, Vec<FileReceipt>>);

impl PartitionReceipts {
    /// The receipts in a listing of [`folder`], or in one of a partition's part of it, which is `of`.
    pub(super) fn of_listing(listing: &Listing, of: Option<&str>) -> Self {
        let mut found: HashMap<String, Vec<FileReceipt>> = HashMap::new();
        for entry in listing.entries() {
            let (folder, name) = match (of, entry.path.rsplit_once('/')) {
                (Some(id), None) => (folder_of(id), &*entry.path),
                (None, Some((folder, name))) => (folder.to_owned(), name),
                _ => continue,
            };
            if let Some(receipt) = FileReceipt::parse(name) {
                found.entry(folder).or_default().push(receipt);
            }
        }
        Self(found)
    }

    fn of(&self, id: &str) -> &[FileReceipt] {
        if self.0.is_empty() { &[] } else { self.0.get(&folder_of(id)).map_or(&[], Vec::as_slice) }
    }

    /// True when there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when `flow` has written, or begun to write, this partition.
    pub(super) fn knows(&self, id: &str) -> bool {
        !self.of(id).is_empty()
    }

    /// The receipt that fits this file.
    pub(super) fn fitting(&self, id: &str, entry: &Entry) -> Option<PartitionReceipt> {
        let fits = |receipt: &&FileReceipt| receipt.bytes == entry.size && Content::of(entry) == Some(receipt.content);
        self.of(id).iter().find(fits).map(|found| found.receipt)
    }

    /// True for a file that `flow` wrote for this partition, and for one that a power cut left empty.
    pub(super) fn own(&self, id: &str, entry: &Entry) -> bool {
        self.fitting(id, entry).is_some() || (entry.size == 0 && self.knows(id))
    }

    /// Removes those of partitions that are gone.
    ///
    /// # Errors
    /// When the store refuses.
    pub(super) async fn remove(&self, dataset: &StorePath, ids: &[&str]) -> Result<(), DataError> {
        let path = |id: &str, receipt: &FileReceipt| format!("{}/{}", folder_of(id), receipt.name());
        let paths = ids.iter().flat_map(|id| self.of(id).iter().map(|receipt| path(id, receipt)));
        folder(dataset).remove(paths.collect()).await
    }

    /// Where a write to a store ended between its file and the receipt that knows the etag, finds out whether the file
    /// is the announced one: it is read.
    ///
    /// # Errors
    /// When the store refuses.
    pub(super) async fn complete(
        &mut self,
        dataset: &StorePath,
        listing: &Listing,
        suffix: &str,
    ) -> Result<(), DataError> {
        if self.0.is_empty() {
            return Ok(());
        }
        for entry in listing.entries() {
            let (Some(id), Some(Content::Tag(tag))) = (entry.path.strip_suffix(suffix), Content::of(entry)) else {
                continue;
            };
            if self.fitting(id, entry).is_some() {
                continue;
            }
            let announced = self.of(id).iter().filter(|receipt| receipt.bytes == entry.size);
            let announced: Vec<FileReceipt> =
                announced.filter(|receipt| matches!(receipt.content, Content::Bytes(_))).copied().collect();
            if announced.is_empty() {
                continue;
            }
            let Some(found) = dataset.child(&entry.path).content().await? else { continue };
            if let Some(receipt) = announced.into_iter().find(|receipt| receipt.content == Content::Bytes(found)) {
                let complete = FileReceipt { content: Content::Tag(tag), ..receipt };
                self.0.entry(folder_of(id)).or_default().push(complete);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, size: u64, stamp: Stamp) -> Entry {
        Entry { path: path.into(), size, stamp, plain: true }
    }

    fn receipt(content: Content) -> FileReceipt {
        let outcomes = RowOutcomes { errors: 1, empty: 2 };
        let receipt = PartitionReceipt { fingerprint: Fingerprint::of("work"), rows: Some(9), outcomes };
        FileReceipt { receipt, bytes: 7, content }
    }

    #[test]
    fn a_receipt_counts_only_for_its_partition_and_only_while_the_file_has_its_content() {
        let digest = Fingerprint::of("bytes");
        for (content, stamp, other) in [
            (Content::Bytes(digest), Stamp::Content(digest), Stamp::Content(Fingerprint::of("other"))),
            (
                Content::of(&entry("", 7, Stamp::Tag("e1".into()))).expect("a tag"),
                Stamp::Tag("e1".into()),
                Stamp::Tag("e2".into()),
            ),
            (
                Content::of(&entry("", 7, Stamp::Tag("\"e1\"".into()))).expect("a tag"),
                Stamp::Tag("e1".into()),
                Stamp::Tag("e2".into()),
            ),
            (Content::of(&entry("", 7, Stamp::Time(1))).expect("a time"), Stamp::Time(1), Stamp::Time(2)),
        ] {
            let one = receipt(content);
            assert_eq!(FileReceipt::parse(&one.name()), Some(one));
            let path = format!("{}/{}", folder_of("2024/jan"), one.name());
            let all = PartitionReceipts::of_listing(&Listing::folder(vec![entry(&path, 0, Stamp::Time(0))]), None);
            let file = |size, stamp: &Stamp| entry("2024/jan.csv", size, stamp.clone());
            assert_eq!(all.fitting("2024/jan", &file(7, &stamp)), Some(one.receipt));
            assert!(all.own("2024/jan", &file(7, &stamp)) && all.own("2024/jan", &file(0, &other)));
            for (id, file) in [
                ("2024/feb", file(7, &stamp)),
                ("2024/jan", file(8, &stamp)),
                ("2024/jan", file(7, &other)),
                ("north", file(0, &stamp)),
            ] {
                assert!(all.fitting(id, &file).is_none() && !all.own(id, &file), "{id} {file:?}");
            }
        }
    }
}
