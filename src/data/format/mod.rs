//! File formats: bytes to record batches and back, one file at a time, on blocking threads.
//!
//! Must not know where files lie or what they are named; `shown` is only for messages.

mod arrow_ipc;
mod csv;
mod json;
mod parquet;
mod text;
mod types;

use std::{
    fs::File,
    io::{BufReader, Cursor, Read, Seek},
    path::PathBuf,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use bytes::Bytes;

pub(super) use self::{csv::CsvOptions, parquet::ParquetOptions, types::parse_type};
use super::{error::DataError, spool::Spool};

/// Rows in a batch that a reader gives.
pub(super) const BATCH_ROWS: usize = 8192;

/// A format of one file, with its options.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    Parquet(ParquetOptions),
    Csv(CsvOptions),
    Json,
    Arrow,
    Text,
}

/// A file to be read.
#[derive(Debug, Clone)]
pub(super) enum Input {
    Path(PathBuf),
    Bytes(Bytes),
}

/// Anything that can be read and rewound.
trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, DataError>> + Send>;

/// A file being read.
pub(super) struct Reading {
    /// The file's columns.
    pub(super) schema: SchemaRef,
    /// Its rows.
    pub(super) batches: Batches,
}

/// A file being written.
pub(super) trait Encoder: Send {
    /// Adds rows.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError>;
    /// Ends the file.
    fn finish(self: Box<Self>) -> Result<Spool, DataError>;
}

impl Input {
    fn open(&self, shown: &str) -> Result<BufReader<Box<dyn ReadSeek>>, DataError> {
        let reader: Box<dyn ReadSeek> = match self {
            Self::Path(path) => {
                Box::new(File::open(path).map_err(|source| DataError::Io { path: shown.to_owned(), source })?)
            }
            Self::Bytes(bytes) => Box::new(Cursor::new(bytes.clone())),
        };
        Ok(BufReader::with_capacity(1 << 17, reader))
    }
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

    /// Starts a file.
    pub(super) fn encoder(&self, schema: &SchemaRef, sink: Spool) -> Result<Box<dyn Encoder>, DataError> {
        match self {
            Self::Parquet(options) => parquet::encoder(options, schema, sink),
            Self::Csv(options) => Ok(csv::encoder(options, schema, sink)),
            Self::Json => Ok(json::encoder(sink)),
            Self::Arrow => arrow_ipc::encoder(schema, sink),
            Self::Text => text::encoder(schema, sink),
        }
    }
}

/// An error while reading `shown` as `format`.
fn corrupt(shown: &str, format: &'static str, error: &dyn std::error::Error) -> DataError {
    DataError::Corrupt { file: shown.to_owned(), format, message: super::error::chain(error) }
}

/// An error while writing; the rows or their types are to blame.
fn unwritable(error: arrow::error::ArrowError) -> DataError {
    DataError::Rows(error.into())
}
