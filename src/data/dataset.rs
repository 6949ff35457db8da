//! The contract of a dataset: what each reports about itself, and its capabilities.

use std::fmt;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::{
    capability::{Checkpointed, Document, External, PartitionSink, PartitionSource, TableSink, TableSource},
    dataset_info::{DatasetInfo, DatasetState},
    declared::DeclaredColumns,
    error::DataError,
    location::Location,
    ownership::Occupants,
    stores::Stores,
};
use crate::model::{Fingerprint, Shape, base_name};

/// A named entry of the catalog. What it can do, it says by the `as_…` methods; a type has those that its data allows.
///
/// Only [`Self::info`], [`Self::location`], [`Self::written_as`] and the `as_…` methods do no I/O.
#[async_trait]
pub trait Dataset: fmt::Debug + Send + Sync {
    /// What is known without I/O.
    fn info(&self) -> &DatasetInfo;

    /// Its location; `None` for memory.
    fn location(&self) -> Option<&Location> {
        None
    }

    /// A digest of everything that decides what the files look like that it writes: format, compression, how names
    /// end. Part of what a result is known by; a type with options of its own has its own. Where the files lie and
    /// how many are written at once is no part of it.
    fn written_as(&self) -> Fingerprint {
        Fingerprint::of(&self.info().type_name)
    }

    /// What its entry declares of its columns. What is written has these types.
    fn declared(&self) -> Option<&DeclaredColumns> {
        None
    }

    /// The options that differ between writing and reading, in words, so that what is written is read back as something
    /// else.
    fn differences(&self) -> Vec<String> {
        Vec::new()
    }

    /// The files at its location that `flow` did not write. `columns` are those of its partitions, where they are
    /// known and its entry does not say.
    ///
    /// # Errors
    /// When the store cannot be listed.
    async fn occupants(&self, _stores: &Stores, _columns: Option<&[String]>) -> Result<Occupants, DataError> {
        Ok(Occupants::default())
    }

    /// What it holds: a listing and one receipt, no footers.
    ///
    /// # Errors
    /// When the store cannot be listed.
    async fn state(&self, stores: &Stores) -> Result<DatasetState, DataError>;

    /// Waits until everything that was written to it before now survives the loss of power. No event reports a
    /// partition or table before that. On a store every write does.
    ///
    /// # Errors
    /// When the disk could not take something, this or what was written before.
    async fn synced(&self, _stores: &Stores) -> Result<(), DataError> {
        Ok(())
    }

    /// Takes over what it holds as the result of this work.
    ///
    /// # Errors
    /// When the receipt cannot be written, or it has none.
    async fn accept(&self, _stores: &Stores, _receipt: Fingerprint) -> Result<(), DataError> {
        Err(DataError::unsupported(&self.info().name, "has no receipt as a whole, and cannot be taken over"))
    }

    /// True when what is written keeps its columns, so that a reader finds them as they were.
    fn keeps_columns(&self) -> bool {
        false
    }

    /// The columns of data that is on the local disk, from a listing of names and the head of a file; `None` where that does
    /// not say.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn local_columns(&self, _stores: &Stores) -> Result<Option<SchemaRef>, DataError> {
        Ok(None)
    }

    /// As a table to be read.
    fn as_table_source(&self) -> Option<&dyn TableSource> {
        None
    }

    /// As a table to be written.
    fn as_table_sink(&self) -> Option<&dyn TableSink> {
        None
    }

    /// As partitions to be read.
    fn as_partition_source(&self) -> Option<&dyn PartitionSource> {
        None
    }

    /// As the partitions that were written, which may be more than are read.
    fn as_written_partitions(&self) -> Option<&dyn PartitionSource> {
        self.as_partition_source()
    }

    /// As one that remembers which partitions were read.
    fn as_checkpointed(&self) -> Option<&dyn Checkpointed> {
        None
    }

    /// As partitions to be written.
    fn as_partition_sink(&self) -> Option<&dyn PartitionSink> {
        None
    }

    /// As a value.
    fn as_document(&self) -> Option<&dyn Document> {
        None
    }

    /// As one that only a program of another language opens.
    fn as_external(&self) -> Option<&dyn External> {
        None
    }
}

/// The capabilities again, for those who need one: a missing one is an error that names the dataset and the way out.
impl dyn Dataset + '_ {
    /// As a table to be read.
    ///
    /// # Errors
    /// [`DataError::Unsupported`].
    pub fn table_source(&self) -> Result<&dyn TableSource, DataError> {
        self.as_table_source().ok_or_else(|| self.cannot("be read as a table", Shape::Table))
    }

    /// As a table to be written.
    ///
    /// # Errors
    /// [`DataError::Unsupported`].
    pub fn table_sink(&self) -> Result<&dyn TableSink, DataError> {
        self.as_table_sink().ok_or_else(|| self.cannot("be written as a table", Shape::Table))
    }

    /// As partitions to be read.
    ///
    /// # Errors
    /// [`DataError::Unsupported`].
    pub fn partition_source(&self) -> Result<&dyn PartitionSource, DataError> {
        self.as_partition_source().ok_or_else(|| self.cannot("be read as partitions", Shape::Partitions))
    }

    /// As the partitions that were written.
    ///
    /// # Errors
    /// [`DataError::Unsupported`].
    pub fn written_partitions(&self) -> Result<&dyn PartitionSource, DataError> {
        self.as_written_partitions().ok_or_else(|| self.cannot("be read as partitions", Shape::Partitions))
    }

    /// As partitions to be written.
    ///
    /// # Errors
    /// [`DataError::Unsupported`].
    pub fn partition_sink(&self) -> Result<&dyn PartitionSink, DataError> {
        self.as_partition_sink().ok_or_else(|| self.cannot("be written as partitions", Shape::Partitions))
    }

    /// As a value.
    ///
    /// # Errors
    /// [`DataError::Unsupported`].
    pub fn document(&self) -> Result<&dyn Document, DataError> {
        self.as_document().ok_or_else(|| self.cannot("be read or written as a value", Shape::Value))
    }

    /// A capability that it lacks.
    fn cannot(&self, what: &str, wanted: Shape) -> DataError {
        let DatasetInfo { name, type_name, shape, supported, .. } = self.info();
        if !supported {
            return DataError::unsupported(name, format!("cannot {what}: flow has no type `{type_name}`"));
        }
        let base = base_name(name);
        let help = match (shape, wanted) {
            (Shape::Partitions, Shape::Table) => format!(
                "add a view `{base}@table` of type `parquet` with the same `path` and `save_args: {{partition_by: […]}}`"
            ),
            (Shape::Table, Shape::Partitions) => {
                format!("add a view `{base}@partitioned` of type `partitioned` with the same `path`")
            }
            (_, Shape::Table) => "use a dataset that holds a table, such as one of type `parquet`".to_owned(),
            (_, Shape::Partitions) => "use a dataset of type `partitioned`".to_owned(),
            (_, Shape::Value) => "use a dataset that holds a value, such as one of type `yaml`".to_owned(),
        };
        DataError::unsupported(name, format!("is of type `{type_name}` and cannot {what}\nhelp: {help}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::conformance::dataset;

    #[test]
    fn a_missing_capability_names_the_dataset_and_the_way_out() {
        let cannot = |entry: &str, ask: &dyn Fn(&dyn Dataset) -> Option<DataError>| {
            ask(&*dataset(entry)).unwrap_or_else(|| panic!("{entry} can")).to_string()
        };
        for (entry, wanted, expected) in [
            (
                "{type: partitioned, path: p, dataset: csv}",
                "table sink",
                "`d` is of type `partitioned` and cannot be written as a table\nhelp: add a view `d@table` of type `parquet` with \
                 the same `path` and `save_args: {partition_by: […]}`",
            ),
            (
                "{type: csv, path: p}",
                "partition sink",
                "`d` is of type `csv` and cannot be written as partitions\nhelp: add a view `d@partitioned` of type \
                 `partitioned` with the same `path`",
            ),
            (
                "{type: yaml, path: p}",
                "table source",
                "`d` is of type `yaml` and cannot be read as a table\nhelp: use a dataset that holds a table, such as one of \
                 type `parquet`",
            ),
            (
                "{type: memory}",
                "partition source",
                "`d` is of type `memory` and cannot be read as partitions\nhelp: add a view `d@partitioned` of type \
                 `partitioned` with the same `path`",
            ),
            (
                "{type: csv, path: p}",
                "document",
                "`d` is of type `csv` and cannot be read or written as a value\nhelp: use a dataset that holds a value, such as \
                 one of type `yaml`",
            ),
            (
                "{type: pickle.PickleDataset, filepath: p}",
                "document",
                "`d` cannot be read or written as a value: flow has no type `pickle.PickleDataset`",
            ),
        ] {
            let found = cannot(entry, &|dataset| match wanted {
                "table source" => dataset.table_source().err(),
                "table sink" => dataset.table_sink().err(),
                "partition source" => dataset.partition_source().err(),
                "partition sink" => dataset.partition_sink().err(),
                _ => dataset.document().err(),
            });
            assert_eq!(found, expected, "{entry}");
        }
    }
}
