//! CSV: its options, and how it is written.

mod canonical;
mod dialect;
mod escaped;
mod infer;
mod options;
mod reader;

use std::sync::Arc;

use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    compute::cast,
    csv::{QuoteStyle, Writer, WriterBuilder, writer::Terminator},
    datatypes::{DataType, Field as Column, Schema, SchemaRef},
};

use self::{
    dialect::{Dialect, NAME},
    escaped::Escaped,
    options::{CsvRead, CsvWrite},
    reader::CsvRows,
};
use super::{
    coding::TextWriter,
    contract::{ColumnTypes, EachFile, Encoder, FileFormat, FormatType, WriterFactory},
    file::{Input, Reading},
    text_only::{has_no, is_binary},
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

    fn column_types(&self) -> ColumnTypes {
        ColumnTypes::Inferred
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
        let CsvWrite { dialect, encoding, null, quoting, ends_with_return } = &self.write;
        let terminator = match dialect.terminator {
            _ if *ends_with_return => Terminator::CRLF,
            end => Terminator::Any(end.unwrap_or(b'\n')),
        };
        let builder = WriterBuilder::new()
            .with_header(dialect.header)
            .with_delimiter(dialect.delimiter)
            .with_quote(dialect.quote.unwrap_or(b'"'))
            .with_quote_style(*quoting)
            .with_line_terminator(terminator)
            .with_null(null.clone());
        Ok(CsvEncoder {
            writer: builder.build(Escaped::new(TextWriter::new(*encoding, sink)?, *dialect)),
            // A table without rows still has its header.
            empty: Some(RecordBatch::new_empty(Arc::clone(schema))),
            unquoted: matches!(quoting, QuoteStyle::Never).then_some(*dialect),
            rows: 0,
        })
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
        let CsvWrite { dialect, quoting, .. } = &self.write;
        if dialect.header && matches!(quoting, QuoteStyle::Never) {
            let ends = |field: &&Arc<Column>| field.name().bytes().any(|byte| ends_value(*dialect, byte));
            if let Some(field) = schema.fields().iter().find(ends) {
                let message = format!(
                    "the name of column `{}` holds a separator or the end of a line, and `quotechar: null` leaves no way to write it",
                    field.name()
                );
                return Err(DataError::unsupported(NAME, message));
            }
        }
        for field in schema.fields() {
            let what = if field.data_type().is_nested() {
                "lists and objects"
            } else if is_binary(field.data_type()) {
                "bytes"
            } else {
                continue;
            };
            return Err(DataError::unsupported(NAME, has_no(what, field)));
        }
        let csv = self.clone();
        Ok(EachFile::by(schema, move |schema, sink| Ok(Box::new(csv.encoder(schema, sink)?))))
    }
}

struct CsvEncoder {
    writer: Writer<Escaped>,
    empty: Option<RecordBatch>,
    /// The dialect, where values cannot be quoted.
    unquoted: Option<Dialect>,
    rows: usize,
}

impl Encoder for CsvEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        self.empty = None;
        if let Some(dialect) = self.unquoted {
            check_unquoted(batch, dialect, self.rows)?;
        }
        self.rows += batch.num_rows();
        Ok(self.writer.write(batch)?)
    }

    fn finish(mut self: Box<Self>) -> Result<SpooledFile, DataError> {
        if let Some(empty) = self.empty.take() {
            self.writer.write(&empty)?;
        }
        self.writer.into_inner().into_inner().finish()
    }
}

/// True for a byte that ends a value where no quotes are written.
fn ends_value(dialect: Dialect, byte: u8) -> bool {
    byte == dialect.delimiter || byte == dialect.terminator.unwrap_or(b'\n') || matches!(byte, b'\n' | b'\r')
}

/// Refuses text that would end its value where no quotes are written.
fn check_unquoted(batch: &RecordBatch, dialect: Dialect, rows: usize) -> Result<(), DataError> {
    let ends = |byte: u8| ends_value(dialect, byte);
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            continue;
        }
        let text = cast(column, &DataType::LargeUtf8)?;
        let text = text.as_string::<i64>();
        let found = (0..text.len()).find(|&row| text.is_valid(row) && text.value(row).bytes().any(ends));
        if let Some(row) = found {
            let message = format!(
                "row {}: column `{}` holds a separator or the end of a line, and `quotechar: null` leaves no way to write it",
                rows + row + 1,
                field.name()
            );
            return Err(DataError::unsupported(NAME, message));
        }
    }
    Ok(())
}
