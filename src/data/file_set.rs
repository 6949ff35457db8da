//! The files of a dataset, their location, and the columns that they share.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};

use super::{
    error::DataError,
    grouping::Grouping,
    listing::Listing,
    partition::check_whole,
    partition_columns::{partition_fields, without},
    schema_difference::difference,
    store_path::StorePath,
};
use crate::model::PartitionKey;

/// One file of a table.
#[derive(Debug, Clone)]
pub(super) struct DataFile {
    /// Relative to the dataset.
    pub(super) path: Arc<str>,
    /// In bytes.
    pub(super) size: u64,
    /// The partition it belongs to.
    pub(super) key: Option<PartitionKey>,
}

impl DataFile {
    /// The files of a listing, with the partition of each where it is partitioned.
    ///
    /// # Errors
    /// When only some files lie in partition directories, or their columns differ.
    pub(super) fn of_listing(
        place: &StorePath,
        listing: &Listing,
        grouping: Grouping<'_>,
    ) -> Result<Vec<Self>, DataError> {
        let Some(partitions) = grouping.partitions(listing, place.shown())? else {
            let files = listing.entries().iter().filter(|entry| entry.path.ends_with(grouping.suffix));
            return Ok(files
                .map(|entry| Self { path: Arc::clone(&entry.path), size: entry.size, key: None })
                .collect());
        };
        partitions.iter().try_for_each(|partition| partition.check_files(place.shown()))?;
        let files = partitions.into_iter().flat_map(|partition| {
            let key = partition.key;
            partition.files.into_iter().map(move |file| Self {
                path: file.path,
                size: file.size,
                key: Some(key.clone()),
            })
        });
        Ok(files.collect())
    }

    /// Refuses truncated files.
    ///
    /// # Errors
    /// [`DataError::Torn`], naming the first.
    pub(super) fn check_all(place: &StorePath, files: &[Self]) -> Result<(), DataError> {
        files.iter().try_for_each(|file| check_whole(|| place.show(&file.path), &file.path, file.size))
    }
}

/// The files of a dataset and the columns they share.
#[derive(Debug, Clone)]
pub(super) struct FileSet {
    place: StorePath,
    files: Arc<[DataFile]>,
    file_schema: SchemaRef,
    partition_fields: Vec<FieldRef>,
    /// Whether the files may hold other columns.
    selects: bool,
}

impl FileSet {
    /// These files of a format, the first of which holds these columns. Only those that are selected are read.
    ///
    /// # Errors
    /// When it lacks a column that the format is to read.
    pub(super) fn new(
        place: &StorePath,
        files: Vec<DataFile>,
        first: &Schema,
        (format, selected): (&'static str, Option<&[String]>),
    ) -> Result<Self, DataError> {
        let partition_fields = partition_fields(files.iter().filter_map(|file| file.key.as_ref()));
        let mut file_schema = without(first, &partition_fields);
        if let Some(selected) = selected {
            let mut fields: Vec<FieldRef> = Vec::with_capacity(selected.len());
            for name in selected {
                match file_schema.fields().find(name) {
                    Some((_, field)) => fields.push(Arc::clone(field)),
                    None if partition_fields.iter().any(|field| field.name() == name) => {}
                    None => {
                        let names = first.fields().iter().chain(&partition_fields).map(|field| field.name().as_str());
                        let names = names.collect::<Vec<_>>().join(", ");
                        let message = format!("it has no column `{name}`, which `columns` asks for; it has {names}");
                        let shown = files.first().map(|file| place.show(&file.path)).unwrap_or_default();
                        return Err(DataError::corrupt(&shown, format, message));
                    }
                }
            }
            file_schema = Arc::new(Schema::new(fields));
        }
        let selects = selected.is_some();
        Ok(Self { place: place.clone(), files: files.into(), file_schema, partition_fields, selects })
    }

    /// Their location.
    pub(super) fn place(&self) -> &StorePath {
        &self.place
    }

    /// One of them as displayed.
    pub(super) fn show(&self, path: &str) -> String {
        self.place.show(path)
    }

    /// The files, in order.
    pub(super) fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// Columns in the files, without partition columns.
    pub(super) fn file_schema(&self) -> &SchemaRef {
        &self.file_schema
    }

    /// Columns in the paths.
    pub(super) fn partition_fields(&self) -> &[FieldRef] {
        &self.partition_fields
    }

    /// All columns: those of the files, then those of the paths.
    pub(super) fn schema(&self) -> SchemaRef {
        let fields = self.file_schema.fields().iter().chain(&self.partition_fields).cloned();
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Refuses a file whose columns differ from those of the first one.
    ///
    /// # Errors
    /// [`DataError::Drift`], naming both.
    pub(super) fn check(&self, found: &Schema, shown: &str) -> Result<(), DataError> {
        let mut found = without(found, &self.partition_fields);
        if self.selects {
            let known = |field: &&FieldRef| self.file_schema.fields().find(field.name()).is_some();
            found = Arc::new(Schema::new(found.fields().iter().filter(known).cloned().collect::<Vec<_>>()));
        }
        match difference(&self.file_schema, &found) {
            None => Ok(()),
            Some(difference) => {
                let first = self.files.first().map(|file| self.show(&file.path)).unwrap_or_default();
                Err(DataError::Drift { file: shown.to_owned(), first, difference })
            }
        }
    }
}
