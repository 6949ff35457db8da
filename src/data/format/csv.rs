//! CSV: its options, and how it is written.

mod dialect;
mod infer;
mod options;
mod reader;

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    csv::{Writer, WriterBuilder},
    datatypes::{Field as Column, Schema, SchemaRef},
};

use self::{
    dialect::NAME,
    options::{CsvRead, CsvWrite},
    reader::CsvRows,
};
use super::{
    coding::TextWriter,
    contract::{EachFile, Encoder, FileFormat, FormatType, WriterFactory},
    file::{Input, Reading},
};
use crate::{
    config::Field,
    data::{TypeInfo, args::FormatArgs, error::DataError, spooled_file::SpooledFile},
    diagnostic::Diagnostics,
};

/// The format `csv`.
pub(in crate::data) static CSV: CsvType = CsvType;

/// See [`CSV`].
pub(in crate::data) struct CsvType;

impl FormatType for CsvType {
    fn type_info(&self) -> TypeInfo {
        TypeInfo {
            name: NAME,
            aliases: &["pandas.CSVDataset", "polars.CSVDataset", "dask.CSVDataset"],
            doc: "a CSV file, a folder of them, or hive partitions",
        }
    }

    fn load_args(&self) -> &'static [Field] {
        options::LOAD_ARGS
    }

    fn save_args(&self) -> &'static [Field] {
        options::SAVE_ARGS
    }

    fn inert_load_args(&self) -> &'static [Field] {
        options::INERT_LOAD_ARGS
    }

    fn inert_save_args(&self) -> &'static [Field] {
        options::INERT_SAVE_ARGS
    }

    fn decode(&self, args: &FormatArgs<'_>, problems: &mut Diagnostics) -> Arc<dyn FileFormat> {
        Arc::new(Csv { read: CsvRead::of(args, problems), write: CsvWrite::of(args, problems) })
    }
}

#[derive(Debug, Clone)]
struct Csv {
    read: CsvRead,
    write: CsvWrite,
}

impl Csv {
    fn encoder(&self, schema: &SchemaRef, sink: SpooledFile) -> Result<CsvEncoder, DataError> {
        let CsvWrite { dialect, encoding, null, quoting } = &self.write;
        let builder = WriterBuilder::new()
            .with_header(dialect.header)
            .with_delimiter(dialect.delimiter)
            .with_quote(dialect.quote.unwrap_or(b'"'))
            .with_quote_style(*quoting)
            .with_null(null.clone());
        // A table without rows still has its header.
        Ok(CsvEncoder(
            builder.build(TextWriter::new(*encoding, sink)?),
            Some(RecordBatch::new_empty(Arc::clone(schema))),
        ))
    }
}

impl FileFormat for Csv {
    fn name(&self) -> &'static str {
        NAME
    }

    fn suffix(&self) -> &'static str {
        self.write.encoding.suffix(".csv", [".csv.gz", ".csv.zst", ".csv.bz2"])
    }

    fn written_as(&self) -> String {
        self.write.written_as()
    }

    fn differences(&self) -> Vec<String> {
        self.read.differences(&self.write)
    }

    fn infers_types(&self) -> bool {
        true
    }

    fn open(&self, input: &Input, shown: &str, expected: Option<&SchemaRef>) -> Result<Reading, DataError> {
        let rows = CsvRows::open(&self.read, input, shown)?;
        let is_named = |schema: &SchemaRef| schema.fields().iter().map(|field| field.name()).eq(rows.names());
        let schema = match expected {
            // Another file of the dataset has set the types; the names are this file's to keep.
            Some(expected) if is_named(expected) => Arc::clone(expected),
            _ => {
                let columns = CsvRows::open(&self.read, input, shown)?.sample(self.read.infer_rows)?;
                let columns = rows.names().iter().zip(columns);
                let columns = columns.map(|(name, guess)| Column::new(name, guess.data_type(), true));
                self.read.types.apply(&Schema::new(columns.collect::<Vec<_>>()), shown, NAME)?
            }
        };
        Ok(Reading { schema: Arc::clone(&schema), batches: Box::new(rows.batches(schema)) })
    }

    fn writer(&self, schema: &SchemaRef) -> Result<Arc<dyn WriterFactory>, DataError> {
        let csv = self.clone();
        Ok(EachFile::by(schema, move |schema, sink| Ok(Box::new(csv.encoder(schema, sink)?))))
    }
}

struct CsvEncoder(Writer<TextWriter>, Option<RecordBatch>);

impl Encoder for CsvEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        self.1 = None;
        Ok(self.0.write(batch)?)
    }

    fn finish(mut self: Box<Self>) -> Result<SpooledFile, DataError> {
        if let Some(empty) = self.1.take() {
            self.0.write(&empty)?;
        }
        self.0.into_inner().finish()
    }
}
