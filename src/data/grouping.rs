//! How the files of a dataset make up partitions.
//!
//! A partition is a hive folder with its files, or one file, known by its id: its path without the suffix.

use std::collections::HashSet;

use super::{
    error::DataError,
    file_name::FileName,
    listing::{Entry, Listing},
    partition::Partition,
    partition_receipts::PartitionReceipts,
};
use crate::model::{Fingerprint, NULL_PARTITION, PartitionKey, PartitionValue};

/// What one partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartitionUnit {
    /// A hive folder; other files are in no partition. Tables.
    Hive,
    /// A hive folder; where there is none, each file.
    FolderOrFile,
    /// Each file, as in Kedro. A file that `flow` named after its content represents its hive folder.
    File,
}

/// A file, and the partition it is in.
type Keyed<'e> = (PartitionKey, &'e Entry);

/// How the files of a dataset make up partitions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grouping<'a> {
    /// What one partition is.
    pub(super) unit: PartitionUnit,
    /// Files whose names end otherwise are in no partition.
    pub(super) suffix: &'a str,
    /// What was written under ids.
    pub(super) receipts: &'a PartitionReceipts,
}

impl Grouping<'_> {
    /// The files by partition, in key order. `None` when no file is in a partition.
    ///
    /// # Errors
    /// When only some files lie in hive folders, or their columns differ.
    pub(super) fn partitions(&self, listing: &Listing, shown: &str) -> Result<Option<Vec<Partition>>, DataError> {
        let mut keyed: Vec<Keyed<'_>> = Vec::with_capacity(listing.entries().len());
        let mut outside = Vec::new();
        for entry in listing.entries().iter().filter(|entry| entry.path.ends_with(self.suffix)) {
            match self.key(entry, shown)? {
                Some(mut key) => {
                    keyed.last().inspect(|(before, _)| key.share_names(before));
                    keyed.push((key, entry));
                }
                None => outside.push(entry),
            }
        }
        let folder = keyed.iter().map(|(key, _)| key).filter(|key| key.file().is_none()).min().cloned();
        if let (Some(entry), Some(folder)) = (outside.first(), &folder) {
            let kedro = match self.unit {
                PartitionUnit::Hive => "",
                _ => {
                    ", or declare the dataset as `type: partitions.PartitionedDataset`, where each file is a partition"
                }
            };
            let message = format!(
                "it is in no partition directory, while others are (`{folder}`); move it out of the dataset{kedro}"
            );
            return Err(layout(shown, &entry.path, &message));
        }
        if self.unit != PartitionUnit::Hive {
            keyed.extend(outside.into_iter().map(|entry| (PartitionKey::of_file(self.id(entry)), entry)));
        }
        keyed.sort_unstable_by(|(one, a), (other, b)| one.cmp(other).then_with(|| a.path.cmp(&b.path)));
        let Some(first) = folder.or_else(|| keyed.first().map(|(key, _)| key.clone())) else { return Ok(None) };
        same_columns(&mut keyed, &first, shown)?;
        let groups = || keyed.chunk_by(|(one, _), (other, _)| one == other);
        let mut partitions = Vec::with_capacity(groups().count());
        partitions.extend(groups().map(|entries| self.partition(entries)));
        Ok(Some(partitions))
    }

    /// The partition of files with the same key.
    fn partition(&self, entries: &[Keyed<'_>]) -> Partition {
        let key = entries[0].0.clone();
        let mut builder = Fingerprint::builder("partition");
        entries.iter().for_each(|(_, entry)| entry.feed(&mut builder));
        let mut files: Vec<_> = entries.iter().map(|(_, entry)| entry.partition_file()).collect();
        let mut receipt = if let [(_, file)] = entries { file.receipt() } else { None };
        if let (Some(id), [(_, file)]) = (key.file(), entries) {
            // Whether its folders give columns depends on its neighbours.
            key.columns().for_each(|(column, _)| builder.push(column.as_bytes()));
            receipt = self.receipts.fitting(id, file);
            let emptied = file.size == 0 && self.receipts.knows(id);
            files.iter_mut().for_each(|file| file.whole &= !emptied);
        }
        Partition { key, files, digest: builder.finish(), receipt }
    }

    /// The id of a file.
    fn id<'e>(&self, entry: &'e Entry) -> &'e str {
        entry.path.strip_suffix(self.suffix).unwrap_or(&entry.path)
    }

    /// The partition of a file; `None` for one that is in none, or that is one only where no file is in a hive folder.
    pub(super) fn key(&self, entry: &Entry, shown: &str) -> Result<Option<PartitionKey>, DataError> {
        let id = self.id(entry);
        let folder = entry.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let key = match self.unit {
            PartitionUnit::File => match PartitionKey::parse(folder) {
                Ok(key) if FileName::parse(&entry.path).is_some() => Some(key),
                _ => Some(PartitionKey::of_file(id)),
            },
            PartitionUnit::FolderOrFile if self.receipts.knows(id) => Some(PartitionKey::of_file(id)),
            PartitionUnit::FolderOrFile | PartitionUnit::Hive => hive_key(entry, shown)?,
        };
        for (column, value) in key.iter().flat_map(PartitionKey::columns) {
            if matches!(value, PartitionValue::Text(text) if &**text == NULL_PARTITION) {
                let message = format!(
                    "partition column `{column}` is null there, and a null key means a different thing to every reader; fill it where it is written"
                );
                return Err(layout(shown, &entry.path, &message));
            }
        }
        Ok(key)
    }
}

/// The directories with `=` in front of a file: its key; `None` for a file without any.
fn hive_key(entry: &Entry, shown: &str) -> Result<Option<PartitionKey>, DataError> {
    let folders: Vec<&str> = entry.path.split('/').collect();
    let folders = &folders[..folders.len() - 1];
    let first = folders.iter().position(|folder| folder.contains('='));
    let Some(first) = first else { return Ok(None) };
    let end = folders[first..].iter().position(|folder| !folder.contains('=')).map_or(folders.len(), |n| first + n);
    let path = folders[first..end].join("/");
    PartitionKey::parse(&path).map(Some).map_err(|error| layout(shown, &entry.path, &error.to_string()))
}

/// Files in hive folders have the columns that all of them have, or none; hive folders must have the same ones.
fn same_columns(keyed: &mut [Keyed<'_>], first: &PartitionKey, shown: &str) -> Result<(), DataError> {
    let columns: Vec<&str> = first.columns().map(|(column, _)| column).collect();
    let differs = |key: &PartitionKey| !key.columns().map(|(column, _)| column).eq(columns.iter().copied());
    let twice = columns.iter().collect::<HashSet<_>>().len() < columns.len();
    let Some((_, entry)) = keyed.iter().find(|(key, _)| differs(key) || (twice && key.file().is_some())) else {
        return Ok(());
    };
    if first.file().is_some() {
        // No part of what identifies them, so they stay in order.
        keyed.iter_mut().for_each(|(key, _)| *key = key.clone().without_columns());
        return Ok(());
    }
    let message = format!("its partition columns differ from those of `{first}`");
    Err(layout(shown, &entry.path, &message))
}

/// A file that does not fit the layout of its dataset, which is displayed as `shown`.
fn layout(shown: &str, relative: &str, message: &str) -> DataError {
    DataError::Layout { file: format!("{shown}/{relative}"), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::listing::Stamp;

    fn folder(paths: &[&str]) -> Listing {
        let entry = |path: &&str| Entry { path: (*path).into(), size: 1, stamp: Stamp::Time(1), plain: true };
        Listing::folder(paths.iter().map(entry).collect())
    }

    fn partitions(paths: &[&str], unit: PartitionUnit, suffix: &str) -> Result<Option<Vec<Partition>>, DataError> {
        let receipts = PartitionReceipts::default();
        Grouping { unit, suffix, receipts: &receipts }.partitions(&folder(paths), "data")
    }

    const UNITS: [PartitionUnit; 3] = [PartitionUnit::Hive, PartitionUnit::FolderOrFile, PartitionUnit::File];

    #[test]
    fn partitions_come_in_the_order_of_their_keys() {
        let paths = ["bucket=10/a.parquet", "bucket=9/a.parquet", "bucket=9/b.parquet", "bucket=9/readme.txt"];
        for unit in [PartitionUnit::Hive, PartitionUnit::FolderOrFile] {
            let partitions = partitions(&paths, unit, ".parquet").expect("hive").expect("some");
            let shown: Vec<_> = partitions.iter().map(|p| (p.key.to_string(), p.files.len())).collect();
            assert_eq!(shown, [("bucket=9".to_owned(), 2), ("bucket=10".to_owned(), 1)]);
        }
    }

    #[test]
    fn mixed_layouts_and_null_keys_are_refused() {
        for (paths, word) in [
            (&["bucket=1/a", "b"][..], "no partition directory"),
            (&["bucket=1/a", "shard=1/a"][..], "differ"),
            (&["bucket=1/a", "bucket=1/x=2/a"][..], "differ"),
            (&["bucket=__HIVE_DEFAULT_PARTITION__/a"][..], "null"),
        ] {
            for unit in [PartitionUnit::Hive, PartitionUnit::FolderOrFile] {
                let error = partitions(paths, unit, "").expect_err("refused").to_string();
                assert!(error.contains(word), "{error}");
            }
        }
        assert_eq!(partitions(&["a", "b/c"], PartitionUnit::Hive, "").expect("a plain folder"), None);
    }

    #[test]
    fn kedros_partition_ids_are_paths_without_the_suffix() {
        let paths = ["2024/jan.csv", "bucket=3/shard.csv", "north.csv", "notes.txt", "ünï cödé/x y.csv", "a.b.csv"];
        let ids = |unit, suffix| -> Vec<String> {
            let found = partitions(&paths, unit, suffix).expect("partitions").expect("some");
            found.iter().map(|partition| partition.key.to_string()).collect()
        };
        let expected = ["2024/jan", "a.b", "bucket=3/shard", "north", "ünï cödé/x y"];
        assert_eq!(ids(PartitionUnit::File, ".csv"), expected);
        assert_eq!(ids(PartitionUnit::File, "").len(), 6, "without a suffix every file is one");
        assert_eq!(ids(PartitionUnit::File, "csv")[0], "2024/jan.");
        let error = partitions(&paths, PartitionUnit::FolderOrFile, ".csv").expect_err("mixed").to_string();
        assert!(error.contains("partitions.PartitionedDataset"), "{error}");
        for unit in UNITS.into_iter().skip(1) {
            let found = partitions(&["b/x.csv", "a.csv"], unit, ".csv").expect("flat").expect("some");
            assert_eq!(found.iter().map(|p| p.key.to_string()).collect::<Vec<_>>(), ["a", "b/x"]);
        }
    }

    #[test]
    fn hive_folders_of_an_id_give_columns_where_all_ids_have_them() {
        let columns = |paths: &[&str]| -> Vec<usize> {
            let found = partitions(paths, PartitionUnit::File, ".csv").expect("partitions").expect("some");
            found.iter().map(|partition| partition.key.columns().len()).collect()
        };
        assert_eq!(columns(&["bucket=3/shard.csv", "x/bucket=4/shard.csv"]), [1, 1]);
        assert_eq!(columns(&["bucket=3/shard.csv", "north.csv"]), [0, 0]);
        assert_eq!(columns(&["a=1/b=2/x.csv", "b=2/a=1/x.csv"]), [0, 0]);
        assert_eq!(columns(&["a=1/a=2/x.csv"]), [0]);
    }

    #[test]
    fn a_file_that_flow_named_stands_for_its_hive_folder() {
        let name = FileName::of_table(Fingerprint::of("x"), 1, ".csv");
        let (ours, plain) = (format!("bucket=3/{name}"), format!("2024/{name}"));
        let found =
            partitions(&[&ours, "bucket=4/shard.csv"], PartitionUnit::File, ".csv").expect("both").expect("some");
        assert_eq!(found.iter().map(|p| p.key.to_string()).collect::<Vec<_>>(), ["bucket=3", "bucket=4/shard"]);
        assert!(found[0].receipt.is_some());
        let found = partitions(&[&plain], PartitionUnit::File, ".csv").expect("one").expect("some");
        assert_eq!(found[0].key.file(), plain.strip_suffix(".csv"));
        let error = partitions(&[&ours, "north.csv"], PartitionUnit::File, ".csv").expect_err("mixed").to_string();
        assert!(error.contains("differ"), "{error}");
    }
}
