//! One partition of a dataset, as listed.

use std::sync::Arc;

use super::{dataset_info::DatasetInfo, error::DataError, file_name::FileName, row_outcomes::RowOutcomes};
use crate::model::{Fingerprint, PartitionKey};

/// One partition, listed and not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Which one.
    pub key: PartitionKey,
    /// Its files, sorted by path (relative to the dataset).
    pub files: Vec<PartitionFile>,
    /// A digest of its content, as in [`DatasetState::digest`](super::DatasetState::digest).
    pub digest: Fingerprint,
    /// What wrote it, when it is one whole file that `flow` wrote.
    pub receipt: Option<PartitionReceipt>,
}

/// What the name of a partition's file holds: the work that wrote it, and its row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionReceipt {
    /// The fingerprint of the work, or of the rows where a table was written.
    pub fingerprint: Fingerprint,
    /// How many rows it holds; `None` where a table was written.
    pub rows: Option<u64>,
    /// How many of them have no result.
    pub outcomes: RowOutcomes,
}

/// A file of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFile {
    /// Relative to the dataset's folder.
    pub path: Arc<str>,
    /// In bytes.
    pub size: u64,
    /// False when its size differs from the one in its name: it is truncated.
    pub whole: bool,
}

impl Partition {
    /// Refuses a partition with a truncated file. `of` is the dataset it belongs to.
    ///
    /// # Errors
    /// [`DataError::Torn`] or [`DataError::Layout`], naming the file.
    pub fn check_whole(&self, of: &DatasetInfo) -> Result<(), DataError> {
        self.check_files(of.location.as_deref().unwrap_or_default())
    }

    /// As [`Self::check_whole`], for a dataset that is displayed as `place`.
    pub(super) fn check_files(&self, place: &str) -> Result<(), DataError> {
        let place = place.trim_end_matches('/');
        let computed = |file: &&PartitionFile| FileName::parse(&file.path).is_some_and(|name| name.rows.is_some());
        let mut computed = self.files.iter().filter(computed);
        if let (Some(first), Some(second)) = (computed.next(), computed.next()) {
            let message = format!(
                "it lies beside `{}`: flow computed the partition twice, and the run that did so last was stopped before it removed the other file; run the node that writes it again",
                first.path
            );
            return Err(DataError::Layout { file: format!("{place}/{}", second.path), message });
        }
        self.files.iter().filter(|file| !file.whole).try_for_each(|file| {
            check_whole(|| format!("{place}/{}", file.path), &file.path, file.size)?;
            let message =
                "it is empty, though flow wrote rows to it: it was truncated; run the node that writes it again";
            Err(DataError::Layout { file: format!("{place}/{}", file.path), message: message.to_owned() })
        })
    }
}

/// Refuses a file whose size differs from the one in its name. `shown` is its whole path.
///
/// # Errors
/// [`DataError::Torn`].
pub(super) fn check_whole(shown: impl FnOnce() -> String, path: &str, size: u64) -> Result<(), DataError> {
    match FileName::parse(path) {
        Some(name) if name.bytes != size => Err(DataError::Torn { file: shown(), size, whole: name.bytes }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_was_computed_twice_is_no_input() {
        let name = |work: &str, rows| FileName { rows, ..FileName::of_table(Fingerprint::of(work), 9, ".csv") };
        let partition = |names: &[FileName<'_>]| {
            let file = |name: &FileName<'_>| PartitionFile { path: format!("a=1/{name}").into(), size: 9, whole: true };
            let files = names.iter().map(file).collect();
            Partition { key: PartitionKey::integer("a", 1), files, digest: Fingerprint::of("d"), receipt: None }
        };
        partition(&[name("one", Some(3))]).check_files("data").expect("computed once");
        partition(&[name("one", None), name("two", None)]).check_files("data").expect("two files of a table");
        let twice = partition(&[name("one", Some(3)), name("two", Some(3))]);
        let error = twice.check_files("data").expect_err("twice").to_string();
        assert!(error.contains("computed the partition twice") && error.starts_with("data/a=1/"), "{error}");
    }

    #[test]
    fn a_file_of_another_size_than_its_name_tells_is_refused() {
        let path = format!("a=1/{}", FileName::of_table(Fingerprint::of("x"), 10, ".csv"));
        let check = |path: &str, size| check_whole(|| format!("data/{path}"), path, size);
        check(&path, 10).expect("whole");
        check("a=1/part-0.csv", 0).expect("not ours");
        let error = check(&path, 0).expect_err("torn").to_string();
        assert!(
            error.starts_with(&format!("data/{path} ")) && error.contains("0 bytes") && error.contains("10"),
            "{error}"
        );
    }
}
