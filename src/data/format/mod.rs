//! File formats: bytes to record batches and back, one file at a time, on blocking threads.
//!
//! Must not know where files lie or what they are named; `shown` is only for messages.

mod arrow_ipc;
mod csv;
mod file;
mod json;
mod parquet;
mod text;
mod types;

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};

pub(super) use self::{
    csv::CsvOptions,
    file::{BATCH_ROWS, Encoder, Input, Reading},
    parquet::ParquetOptions,
    types::parse_type,
};
use super::{error::DataError, spooled_file::SpooledFile};

/// A format of one file, with its options.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    Parquet(ParquetOptions),
    Csv(CsvOptions),
    Json,
    Arrow,
    Text,
}

impl Format {
    /// Its name in messages and under `type:`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Parquet(_) => "parquet",
            Self::Csv(_) => "csv",
            Self::Json => "json",
            Self::Arrow => "arrow",
            Self::Text => "text",
        }
    }

    /// Everything that decides what its files look like. What only matters to reading is left out.
    pub(super) fn written_as(&self) -> String {
        match self {
            Self::Parquet(ParquetOptions { compression, group_rows }) => {
                format!("parquet {compression:?} {group_rows}")
            }
            Self::Csv(CsvOptions { delimiter, quote, escape, header, types: _, infer_rows: _ }) => {
                format!("csv {delimiter} {quote} {escape:?} {header}")
            }
            Self::Json | Self::Arrow | Self::Text => self.name().to_owned(),
        }
    }

    /// How names of its files end.
    pub(super) fn suffix(&self) -> &'static str {
        match self {
            Self::Parquet(_) => ".parquet",
            Self::Csv(_) => ".csv",
            Self::Json => ".jsonl",
            Self::Arrow => ".arrow",
            Self::Text => ".txt",
        }
    }

    /// Opens a file. `expected` are the columns that the dataset is known to have, for formats whose files do not
    /// say. Blocking.
    pub(super) fn open(&self, input: &Input, shown: &str, expected: Option<&SchemaRef>) -> Result<Reading, DataError> {
        match self {
            Self::Parquet(_) => parquet::open(input, shown),
            Self::Csv(options) => csv::open(options, input, shown, expected),
            Self::Json => json::open(input, shown, expected),
            Self::Arrow => arrow_ipc::open(input, shown),
            Self::Text => text::open(input, shown),
        }
    }

    /// The columns of a file, without reading its rows. Blocking.
    pub(super) fn schema(&self, input: &Input, shown: &str) -> Result<SchemaRef, DataError> {
        self.open(input, shown, None).map(|reading| reading.schema)
    }

    /// Makes ready to write files with these columns.
    pub(super) fn factory(&self, schema: &SchemaRef) -> Result<WriterFactory, DataError> {
        let parquet = match self {
            Self::Parquet(options) => Some(parquet::WriterFactory::new(options, schema)?),
            _ => None,
        };
        Ok(WriterFactory { format: self.clone(), schema: Arc::clone(schema), parquet })
    }
}

/// How files of one schema are written, made once for all of them.
#[derive(Debug)]
pub(super) struct WriterFactory {
    format: Format,
    schema: SchemaRef,
    parquet: Option<parquet::WriterFactory>,
}

impl WriterFactory {
    /// The columns.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How names of the files end.
    pub(super) fn suffix(&self) -> &'static str {
        self.format.suffix()
    }

    /// Writes a file of which all rows are there.
    pub(super) fn whole(&self, batches: &[RecordBatch], sink: SpooledFile) -> Result<SpooledFile, DataError> {
        if let Some(parquet) = &self.parquet {
            return parquet.whole(batches, sink);
        }
        let mut encoder = self.encoder(sink)?;
        batches.iter().try_for_each(|batch| encoder.write(batch))?;
        encoder.finish()
    }

    /// Starts a file whose rows come later.
    pub(super) fn encoder(&self, sink: SpooledFile) -> Result<Box<dyn Encoder>, DataError> {
        match (&self.format, &self.parquet) {
            (_, Some(parquet)) => parquet.encoder(sink),
            (Format::Csv(options), _) => Ok(csv::encoder(options, &self.schema, sink)),
            (Format::Json, _) => Ok(json::encoder(sink)),
            (Format::Text, _) => text::encoder(&self.schema, sink),
            (Format::Arrow | Format::Parquet(_), _) => arrow_ipc::encoder(&self.schema, sink),
        }
    }
}
