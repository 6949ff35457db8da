//! The contract of a file format: what it declares and does, so that nothing else has to know any of them by name.
//!
//! A format reads and writes one file at a time, on blocking threads. Only where it can do better (a footer that holds the
//! columns, a scan that skips rows) does it see the locations of files.

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;

use super::file::{Input, Reading};
use crate::{
    config::Field,
    data::{
        TypeInfo, args::FormatArgs, error::DataError, file_set::FileSet, spooled_file::SpooledFile,
        store_path::StorePath,
    },
    diagnostic::Diagnostics,
};

/// Where the types of columns come from, and so what `schema:` of a dataset means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data) enum ColumnTypes {
    /// There is one column of one type, and nothing to declare.
    Fixed,
    /// Files do not say them: they are inferred, or declared.
    Inferred,
    /// Files say them, and are compared with what is declared.
    Written,
}

/// A format as it is registered: its name, its options, and how it is made of them.
pub(in crate::data) trait FormatType: Send + Sync {
    /// What it is called and what it is.
    fn type_info(&self) -> TypeInfo;

    /// Other names for it under `file_format:`.
    fn file_format_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Where the types of columns come from.
    fn column_types(&self) -> ColumnTypes {
        ColumnTypes::Fixed
    }

    /// The options that it reads under `load_args:`.
    fn load_args(&self) -> &'static [Field] {
        &[]
    }

    /// The options that it reads under `save_args:`.
    fn save_args(&self) -> &'static [Field] {
        &[]
    }

    /// Options of other libraries under `load_args:` that change nothing here, with the values for which that is so.
    fn inert_load_args(&self) -> &'static [Field] {
        &[]
    }

    /// As [`Self::inert_load_args`], under `save_args:`.
    fn inert_save_args(&self) -> &'static [Field] {
        &[]
    }

    /// The format with the options of an entry. Instead of one that is wrong, which becomes a problem, the default counts.
    fn decode(&self, args: &FormatArgs<'_>, problems: &mut Diagnostics) -> Arc<dyn FileFormat>;
}

/// A format with its options.
#[async_trait]
pub(in crate::data) trait FileFormat: fmt::Debug + Send + Sync {
    /// Its name in messages and under `type:`.
    fn name(&self) -> &'static str;

    /// How names of its files end, with the dot.
    fn suffix(&self) -> &'static str;

    /// Everything that decides what its files look like. What only matters to reading is left out.
    fn written_as(&self) -> String {
        self.name().to_owned()
    }

    /// The options that differ between reading and writing, so that what is written is not read back as it was.
    fn differences(&self) -> Vec<String> {
        Vec::new()
    }

    /// True when a table is read back as it was written, to the last type of a column.
    fn keeps_types(&self) -> bool {
        false
    }

    /// True when the types of columns are inferred from a sample of rows, so that other files may need wider ones.
    fn infers_types(&self) -> bool {
        false
    }

    /// The columns that are read, in this order; `None` for all.
    fn selected(&self) -> Option<&[String]> {
        None
    }

    /// Opens a file. `expected` are the columns that the dataset is known to have, for formats whose files do not say;
    /// `shown` names the file in errors. Blocking.
    ///
    /// # Errors
    /// When the file cannot be read, or is not of this format.
    fn open(&self, input: &Input, shown: &str, expected: Option<&SchemaRef>) -> Result<Reading, DataError>;

    /// The columns of a file, without reading its rows. Blocking.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    fn schema(&self, input: &Input, shown: &str) -> Result<SchemaRef, DataError> {
        self.open(input, shown, None).map(|reading| reading.schema)
    }

    /// The columns of a file of `size` bytes from a part of it; `None` where all of it has to be there.
    ///
    /// # Errors
    /// When the store refuses, or the file is not of this format.
    async fn schema_of_part(&self, _file: &StorePath, _size: u64) -> Result<Option<SchemaRef>, DataError> {
        Ok(None)
    }

    /// A table over these files that leaves out what a query does not need; `None` where all rows are read.
    fn table(&self, _files: &FileSet) -> Option<Arc<dyn TableProvider>> {
        None
    }

    /// Makes ready to write files with these columns.
    ///
    /// # Errors
    /// When the format cannot hold them.
    fn writer(&self, schema: &SchemaRef) -> Result<Arc<dyn WriterFactory>, DataError>;
}

/// How files of one schema are written: what can be made once and shared by thousands of small files.
pub(in crate::data) trait WriterFactory: fmt::Debug + Send + Sync {
    /// The columns.
    fn schema(&self) -> &SchemaRef;

    /// Starts a file whose rows come later.
    ///
    /// # Errors
    /// When the format cannot hold these columns.
    fn encoder(&self, sink: SpooledFile) -> Result<Box<dyn Encoder>, DataError>;

    /// Writes a file of which all rows are there. Blocking.
    ///
    /// # Errors
    /// When they cannot be encoded, or the disk is full.
    fn whole(&self, batches: &[RecordBatch], sink: SpooledFile) -> Result<SpooledFile, DataError> {
        let mut encoder = self.encoder(sink)?;
        batches.iter().try_for_each(|batch| encoder.write(batch))?;
        encoder.finish()
    }
}

/// A file being written. Blocking.
pub(in crate::data) trait Encoder: Send {
    /// Adds rows.
    ///
    /// # Errors
    /// When they cannot be encoded, or the disk is full.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError>;

    /// Ends the file.
    ///
    /// # Errors
    /// As for [`Self::write`].
    fn finish(self: Box<Self>) -> Result<SpooledFile, DataError>;
}

/// A [`WriterFactory`] that has nothing to prepare: it begins each file by a call.
pub(super) struct EachFile<F> {
    schema: SchemaRef,
    begin: F,
}

impl<F> EachFile<F>
where
    F: Fn(&SchemaRef, SpooledFile) -> Result<Box<dyn Encoder>, DataError> + Send + Sync + 'static,
{
    /// Files with these columns, each begun by `begin`.
    pub(super) fn by(schema: &SchemaRef, begin: F) -> Arc<dyn WriterFactory> {
        Arc::new(Self { schema: Arc::clone(schema), begin })
    }
}

impl<F> fmt::Debug for EachFile<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EachFile").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl<F> WriterFactory for EachFile<F>
where
    F: Fn(&SchemaRef, SpooledFile) -> Result<Box<dyn Encoder>, DataError> + Send + Sync + 'static,
{
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn encoder(&self, sink: SpooledFile) -> Result<Box<dyn Encoder>, DataError> {
        (self.begin)(&self.schema, sink)
    }
}
