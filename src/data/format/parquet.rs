//! Parquet.

mod vectors;
mod zstd;

use std::{fs::File, io::Write, sync::Arc};

use ::parquet::{
    arrow::{
        ArrowSchemaConverter, ArrowWriter, add_encoded_arrow_schema_to_metadata,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        arrow_writer::{ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves},
    },
    basic::{Compression, GzipLevel, ZstdLevel},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterPropertiesPtr},
        reader::ChunkReader,
        writer::SerializedFileWriter,
    },
    schema::types::SchemaDescriptor,
};
use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{DataType, SchemaRef},
};
use bytes::Bytes;

use self::zstd::Compressors;
use super::file::{BATCH_ROWS, Encoder, Input, Reading, corrupt};
use crate::data::{error::DataError, spooled_file::SpooledFile};

/// Files up to this size are read in one go.
const WHOLE_FILE: u64 = 16 << 20;
/// A row group is closed at this many rows or bytes, whichever comes first; the writer holds one in memory.
const GROUP_ROWS: usize = 1 << 17;
const GROUP_BYTES: usize = 32 << 20;
/// Numbers of lists that are given to the writer at once.
const AT_ONCE: usize = 1 << 18;
/// Files of up to this many rows are written in the plainest way.
const SMALL_ROWS: usize = 4096;

/// How parquet is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ParquetOptions {
    /// How pages are compressed; if not given, small files in the fastest way and others in a small one.
    pub(crate) compression: Option<Compression>,
    /// Rows in a row group.
    pub(crate) group_rows: usize,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        Self { compression: None, group_rows: GROUP_ROWS }
    }
}

impl ParquetOptions {
    /// The words that `save_args: {compression: …}` takes.
    pub(crate) const COMPRESSIONS: &[&str] = &["zstd", "snappy", "gzip", "lz4", "none", "uncompressed"];

    /// Reads such a word.
    pub(crate) fn compression(word: &str) -> Option<Compression> {
        Some(match word {
            "zstd" => Self::zstd(),
            "snappy" => Compression::SNAPPY,
            "gzip" => Compression::GZIP(GzipLevel::default()),
            "lz4" => Compression::LZ4_RAW,
            "none" | "uncompressed" => Compression::UNCOMPRESSED,
            _ => return None,
        })
    }

    /// Level 1: most of what higher levels save, at a tenth of their time.
    fn zstd() -> Compression {
        ZstdLevel::try_new(1).map_or(Compression::SNAPPY, Compression::ZSTD)
    }

    fn properties(&self, compression: Compression) -> WriterPropertiesBuilder {
        WriterProperties::builder()
            .set_created_by(concat!("flow ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(self.compression.unwrap_or(compression))
            .set_max_row_group_row_count(Some(self.group_rows))
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            .set_statistics_enabled(EnabledStatistics::Chunk)
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

/// How files of one schema are written: all that can be made once and shared by thousands of small files.
#[derive(Debug)]
pub(super) struct WriterFactory {
    arrow: SchemaRef,
    parquet: SchemaDescriptor,
    large: WriterProperties,
    small: WriterPropertiesPtr,
    /// What compresses small files that are asked for in zstd; `small` leaves them plain.
    zstd: Option<Compressors>,
}

impl WriterFactory {
    pub(super) fn new(options: &ParquetOptions, schema: &SchemaRef) -> Result<Self, DataError> {
        let parquet = ArrowSchemaConverter::new().convert(schema).map_err(unwritable)?;
        let mut large = options.properties(ParquetOptions::zstd());
        let zstd = match options.compression {
            Some(Compression::ZSTD(level)) => Some(Compressors::new(level)),
            _ => None,
        };
        // In a few hundred rows there is little to look up and nothing to skip: no tables of values, no page index.
        // And unless zstd is asked for, snappy, which takes half its time.
        let mut small =
            options.properties(Compression::SNAPPY).set_dictionary_enabled(false).set_offset_index_disabled(true);
        for (column, field) in parquet.columns().iter().zip(leaves(schema)) {
            // Vectors and measurements rarely repeat, and a table of all of them costs more than it can save. Snappy
            // finds nothing in them either.
            if field.is_floating() {
                large = large.set_column_dictionary_enabled(column.path().clone(), false);
                if column.max_rep_level() > 0 {
                    // The least of all numbers of all vectors helps nobody.
                    small = small.set_column_statistics_enabled(column.path().clone(), EnabledStatistics::None);
                    large = large.set_column_statistics_enabled(column.path().clone(), EnabledStatistics::None);
                }
                if options.compression.is_none() {
                    small = small.set_column_compression(column.path().clone(), Compression::UNCOMPRESSED);
                }
            }
        }
        if zstd.is_some() {
            small = small.set_compression(Compression::UNCOMPRESSED);
        }
        let mut small = small.build();
        let mut large = large.build();
        add_encoded_arrow_schema_to_metadata(schema, &mut small);
        add_encoded_arrow_schema_to_metadata(schema, &mut large);
        Ok(Self { arrow: Arc::clone(schema), parquet, large, small: Arc::new(small), zstd })
    }

    /// Writes a file of which all rows are known.
    pub(super) fn whole(&self, batches: &[RecordBatch], sink: SpooledFile) -> Result<SpooledFile, DataError> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows > SMALL_ROWS {
            let mut encoder = self.encoder(sink)?;
            batches.iter().try_for_each(|batch| encoder.write(batch))?;
            return encoder.finish();
        }
        let file = match &self.zstd {
            None => self.small(batches, sink),
            Some(compressors) => self.compressed(batches, sink, compressors),
        };
        file.and_then(SerializedFileWriter::into_inner).map_err(unwritable)
    }

    /// A small file that is written plain first.
    fn compressed(
        &self,
        batches: &[RecordBatch],
        sink: SpooledFile,
        compressors: &Compressors,
    ) -> Result<SerializedFileWriter<SpooledFile>, ParquetError> {
        let mut plain = self.small(batches, Vec::new())?;
        plain.flush()?;
        let bytes = std::mem::take(plain.inner_mut()).into();
        let mut file = self.file(sink)?;
        for group in plain.flushed_row_groups() {
            let mut written = file.next_row_group()?;
            compressors.append(&mut written, &bytes, group)?;
            written.close()?;
        }
        Ok(file)
    }

    fn file<W: Write + Send>(&self, sink: W) -> Result<SerializedFileWriter<W>, ParquetError> {
        SerializedFileWriter::new(sink, self.parquet.root_schema_ptr(), Arc::clone(&self.small))
    }

    /// A small file.
    fn small<W: Write + Send>(
        &self,
        batches: &[RecordBatch],
        sink: W,
    ) -> Result<SerializedFileWriter<W>, ParquetError> {
        let mut file = self.file(sink)?;
        if batches.iter().any(|batch| batch.num_rows() > 0) {
            let columns_of = |at: usize| batches.iter().map(move |batch| batch.column(at));
            let as_they_stand: Vec<_> = (0..self.arrow.fields().len()).map(|at| vectors::of(columns_of(at))).collect();
            let mut columns =
                ArrowRowGroupWriterFactory::new(&file, Arc::clone(&self.arrow)).create_column_writers(0)?;
            // The vectors that a column of the file is, where it is written as they stand.
            let mut stand = vec![None; columns.len()];
            for batch in batches {
                let mut next = columns.iter_mut().zip(&mut stand);
                for ((field, array), vectors) in self.arrow.fields().iter().zip(batch.columns()).zip(&as_they_stand) {
                    if let Some(vectors) = vectors {
                        next.by_ref().take(1).for_each(|(_, stand)| *stand = Some(vectors));
                        continue;
                    }
                    for (leaf, (column, _)) in compute_leaves(field, array)?.iter().zip(&mut next) {
                        column.write(leaf)?;
                    }
                }
            }
            let mut group = file.next_row_group()?;
            for (column, stand) in columns.into_iter().zip(stand) {
                match stand {
                    Some(vectors) => vectors::write(&mut group, vectors)?,
                    None => column.close()?.append_to_row_group(&mut group)?,
                }
            }
            group.close()?;
        }
        Ok(file)
    }

    pub(super) fn encoder(&self, sink: SpooledFile) -> Result<Box<dyn Encoder>, DataError> {
        let settings = ArrowWriterOptions::new()
            .with_properties(self.large.clone())
            .with_parquet_schema(self.parquet.clone())
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(sink, Arc::clone(&self.arrow), settings).map_err(unwritable)?;
        Ok(Box::new(Writing(writer)))
    }
}

/// The types of a schema's leaf columns, in parquet's order.
fn leaves(schema: &SchemaRef) -> Vec<DataType> {
    fn walk(data_type: &DataType, out: &mut Vec<DataType>) {
        match data_type {
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _) => {
                walk(field.data_type(), out);
            }
            DataType::Struct(fields) => fields.iter().for_each(|field| walk(field.data_type(), out)),
            leaf => out.push(leaf.clone()),
        }
    }
    let mut out = Vec::new();
    schema.fields().iter().for_each(|field| walk(field.data_type(), &mut out));
    out
}

struct Writing(ArrowWriter<SpooledFile>);

fn unwritable(error: ParquetError) -> DataError {
    DataError::Rows(error.into())
}

impl Encoder for Writing {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        // For each number of a list the library makes ten bytes more: of a few rows at a time.
        let width = batch.columns().iter().filter_map(|column| column.as_fixed_size_list_opt());
        let width = width.map(|lists| lists.value_length()).max().unwrap_or(0).max(1);
        let rows = (AT_ONCE / width as usize).max(1);
        (0..batch.num_rows())
            .step_by(rows)
            .try_for_each(|from| self.0.write(&batch.slice(from, rows.min(batch.num_rows() - from))))
            .map_err(unwritable)
    }

    fn finish(self: Box<Self>) -> Result<SpooledFile, DataError> {
        self.0.into_inner().map_err(unwritable)
    }
}
