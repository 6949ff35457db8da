//! Parquet files, written whole or row group by row group.

use std::{io::Write, sync::Arc};

use ::parquet::{
    arrow::{
        ArrowSchemaConverter, ArrowWriter,
        arrow_writer::{ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves},
    },
    basic::Compression,
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr},
        writer::SerializedFileWriter,
    },
    schema::types::SchemaDescriptor,
};
use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{DataType, SchemaRef},
};

use super::{
    options::ParquetOptions,
    schema::{footer_entries, in_stored, stored},
    vectors,
    zstd::Compressors,
};
use crate::data::{
    error::DataError,
    format::contract::{Encoder, WriterFactory},
    panics::caught,
    spooled_file::SpooledFile,
};

/// Numbers of lists that are given to the writer at once.
const AT_ONCE: usize = 1 << 18;
/// Files of up to this many rows are written in the plainest way.
const SMALL_ROWS: usize = 4096;

/// How parquet files of one schema are written.
#[derive(Debug)]
pub(super) struct ParquetWriter {
    /// The columns that come.
    given: SchemaRef,
    /// The columns that are stored.
    arrow: SchemaRef,
    parquet: SchemaDescriptor,
    large: WriterProperties,
    small: WriterPropertiesPtr,
    /// What compresses small files that are asked for in zstd; `small` leaves them plain.
    zstd: Option<Compressors>,
}

impl ParquetWriter {
    pub(super) fn new(options: &ParquetOptions, schema: &SchemaRef) -> Result<Self, DataError> {
        let given = schema;
        let schema = &stored(given);
        // The library panics on types that parquet does not have.
        let converted = caught(|| ArrowSchemaConverter::new().convert(schema));
        let parquet = converted.unwrap_or_else(|panic| Err(ParquetError::NYI(panic))).map_err(unwritable)?;
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
                    // Statistics over all numbers of all vectors are of no use to a reader.
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
        let entries = footer_entries(schema);
        let small = small.set_key_value_metadata(Some(entries.clone())).build();
        let large = large.set_key_value_metadata(Some(entries)).build();
        Ok(Self { given: Arc::clone(given), arrow: Arc::clone(schema), parquet, large, small: Arc::new(small), zstd })
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
            let as_vectors: Vec<_> = (0..self.arrow.fields().len()).map(|at| vectors::of(columns_of(at))).collect();
            let mut columns =
                ArrowRowGroupWriterFactory::new(&file, Arc::clone(&self.arrow)).create_column_writers(0)?;
            // The vectors of each column that is written without a copy.
            let mut direct = vec![None; columns.len()];
            for batch in batches {
                let mut next = columns.iter_mut().zip(&mut direct);
                for ((field, array), vectors) in self.arrow.fields().iter().zip(batch.columns()).zip(&as_vectors) {
                    if let Some(vectors) = vectors {
                        next.by_ref().take(1).for_each(|(_, direct)| *direct = Some(vectors));
                        continue;
                    }
                    for (leaf, (column, _)) in compute_leaves(field, array)?.iter().zip(&mut next) {
                        column.write(leaf)?;
                    }
                }
            }
            let mut group = file.next_row_group()?;
            for (column, direct) in columns.into_iter().zip(direct) {
                match direct {
                    Some(vectors) => vectors::write(&mut group, vectors)?,
                    None => column.close()?.append_to_row_group(&mut group)?,
                }
            }
            group.close()?;
        }
        Ok(file)
    }
}

impl WriterFactory for ParquetWriter {
    fn schema(&self) -> &SchemaRef {
        &self.given
    }

    fn encoder(&self, sink: SpooledFile) -> Result<Box<dyn Encoder>, DataError> {
        let settings = ArrowWriterOptions::new()
            .with_properties(self.large.clone())
            .with_parquet_schema(self.parquet.clone())
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(sink, Arc::clone(&self.arrow), settings).map_err(unwritable)?;
        Ok(Box::new(ParquetEncoder(writer, Arc::clone(&self.arrow))))
    }

    fn whole(&self, batches: &[RecordBatch], sink: SpooledFile) -> Result<SpooledFile, DataError> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows > SMALL_ROWS {
            let mut encoder = self.encoder(sink)?;
            batches.iter().try_for_each(|batch| encoder.write(batch))?;
            return encoder.finish();
        }
        let batches = batches.iter().map(|batch| in_stored(batch, &self.arrow)).collect::<Result<Vec<_>, _>>()?;
        let file = match &self.zstd {
            None => self.small(&batches, sink),
            Some(compressors) => self.compressed(&batches, sink, compressors),
        };
        file.and_then(SerializedFileWriter::into_inner).map_err(unwritable)
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

/// The writer, and the columns that are stored.
struct ParquetEncoder(ArrowWriter<SpooledFile>, SchemaRef);

fn unwritable(error: ParquetError) -> DataError {
    DataError::Rows(error.into())
}

impl Encoder for ParquetEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        let batch = in_stored(batch, &self.1)?;
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
