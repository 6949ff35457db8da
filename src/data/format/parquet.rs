//! Parquet.

use std::fs::File;

use ::parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        arrow_writer::ArrowWriterOptions,
    },
    basic::{Compression, GzipLevel, ZstdLevel},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        reader::ChunkReader,
    },
};
use arrow::{array::RecordBatch, datatypes::SchemaRef};
use bytes::Bytes;

use super::{BATCH_ROWS, Encoder, Input, Reading, corrupt};
use crate::data::{error::DataError, spool::Spool};

/// Files up to this size are read in one go.
const WHOLE_FILE: u64 = 16 << 20;
/// A row group is closed at this many rows or bytes, whichever comes first; the writer holds one in memory.
const GROUP_ROWS: usize = 1 << 17;
const GROUP_BYTES: usize = 32 << 20;

/// How parquet is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ParquetOptions {
    /// How pages are compressed.
    pub(crate) compression: Compression,
    /// Rows in a row group.
    pub(crate) group_rows: usize,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        let compression = ZstdLevel::try_new(1).map_or(Compression::SNAPPY, Compression::ZSTD);
        Self { compression, group_rows: GROUP_ROWS }
    }
}

impl ParquetOptions {
    /// The words that `save_args: {compression: …}` takes.
    pub(crate) const COMPRESSIONS: &[&str] = &["zstd", "snappy", "gzip", "lz4", "none", "uncompressed"];

    /// Reads such a word.
    pub(crate) fn compression(word: &str) -> Option<Compression> {
        Some(match word {
            "zstd" => Self::default().compression,
            "snappy" => Compression::SNAPPY,
            "gzip" => Compression::GZIP(GzipLevel::default()),
            "lz4" => Compression::LZ4_RAW,
            "none" | "uncompressed" => Compression::UNCOMPRESSED,
            _ => return None,
        })
    }

    fn properties(&self) -> WriterProperties {
        WriterProperties::builder()
            .set_created_by(concat!("flow ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(self.compression)
            .set_max_row_group_row_count(Some(self.group_rows))
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .build()
    }
}

pub(super) fn open(input: &Input, shown: &str) -> Result<Reading, DataError> {
    let io = |source| DataError::Io { path: shown.to_owned(), source };
    match input {
        Input::Bytes(bytes) => read(bytes.clone(), shown),
        Input::Path(path) => {
            let file = File::open(path).map_err(io)?;
            if file.metadata().map_err(io)?.len() <= WHOLE_FILE {
                let bytes = std::fs::read(path).map_err(io)?;
                read(Bytes::from(bytes), shown)
            } else {
                read(file, shown)
            }
        }
    }
}

fn read<R: ChunkReader + 'static>(source: R, shown: &str) -> Result<Reading, DataError> {
    let failed = |error: ParquetError| corrupt(shown, "parquet", &error);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(source, ArrowReaderOptions::new()).map_err(failed)?;
    let schema = builder.schema().clone();
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(failed)?;
    let shown = shown.to_owned();
    let batches = reader.map(move |batch| batch.map_err(|error| corrupt(&shown, "parquet", &error)));
    Ok(Reading { schema, batches: Box::new(batches) })
}

struct Writing(ArrowWriter<Spool>);

fn unwritable(error: ParquetError) -> DataError {
    DataError::Rows(error.into())
}

pub(super) fn encoder(
    options: &ParquetOptions,
    schema: &SchemaRef,
    sink: Spool,
) -> Result<Box<dyn Encoder>, DataError> {
    let settings = ArrowWriterOptions::new().with_properties(options.properties());
    let writer = ArrowWriter::try_new_with_options(sink, schema.clone(), settings).map_err(unwritable)?;
    Ok(Box::new(Writing(writer)))
}

impl Encoder for Writing {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        self.0.write(batch).map_err(unwritable)
    }

    fn finish(self: Box<Self>) -> Result<Spool, DataError> {
        self.0.into_inner().map_err(unwritable)
    }
}
