//! CSV with a header.

use std::{collections::HashSet, io::Seek as _, sync::Arc};

use arrow::{
    array::RecordBatch,
    csv::{ReaderBuilder, Writer, WriterBuilder, reader::Format as Dialect},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};

use super::file::{BATCH_ROWS, Encoder, Input, Reading, corrupt, unwritable};
use crate::{
    data::{error::DataError, spooled_file::SpooledFile},
    model::excerpt,
};

/// How CSV is read and written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CsvOptions {
    /// Between two values.
    pub(crate) delimiter: u8,
    /// Around values that hold a delimiter.
    pub(crate) quote: u8,
    /// In front of a quote inside a value, instead of doubling it.
    pub(crate) escape: Option<u8>,
    /// Whether the first line names the columns; without it they are `column_1`, `column_2`, …
    pub(crate) header: bool,
    /// Types that are given rather than guessed, by column.
    pub(crate) types: Vec<(String, DataType)>,
    /// From how many rows types are guessed.
    pub(crate) infer_rows: usize,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: b',', quote: b'"', escape: None, header: true, types: Vec::new(), infer_rows: 10_000 }
    }
}

impl CsvOptions {
    fn dialect(&self) -> Dialect {
        let dialect = Dialect::default().with_header(self.header).with_delimiter(self.delimiter).with_quote(self.quote);
        match self.escape {
            Some(escape) => dialect.with_escape(escape),
            None => dialect,
        }
    }

    fn apply_types(&self, schema: &Schema, shown: &str) -> Result<SchemaRef, DataError> {
        let known: HashSet<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        if let Some((column, _)) = self.types.iter().find(|(column, _)| !known.contains(column.as_str())) {
            let message = format!("`load_args` gives a type for column `{column}`, which the file does not have");
            return Err(DataError::Corrupt { file: shown.to_owned(), format: "csv", message });
        }
        let fields = schema.fields().iter().map(|field| {
            let given = self.types.iter().find(|(column, _)| column == field.name());
            let data_type = match (given, field.data_type()) {
                (Some((_, given)), _) => given.clone(),
                // A column without a single value: text is the one type that holds whatever comes.
                (None, DataType::Null) => DataType::Utf8,
                (None, guessed) => guessed.clone(),
            };
            Field::new(field.name(), data_type, true)
        });
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }
}

pub(super) fn open(
    options: &CsvOptions,
    input: &Input,
    shown: &str,
    expected: Option<&SchemaRef>,
) -> Result<Reading, DataError> {
    let failed = |error: ArrowError| corrupt(shown, "csv", &error);
    let mut reader = input.open(shown)?;
    let (found, _) = options.dialect().infer_schema(&mut reader, Some(options.infer_rows)).map_err(failed)?;
    if let Some(column) = found.fields().iter().position(|field| field.name().contains('\0')) {
        let message = format!("the name of column {} holds NUL bytes; expected text in UTF-8", column + 1);
        return Err(DataError::Corrupt { file: shown.to_owned(), format: "csv", message });
    }
    reader.rewind().map_err(|source| DataError::Io { path: shown.to_owned(), source })?;
    let names = |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let schema = match expected {
        // Another file of the dataset has set the types; the names are this file's to keep.
        Some(expected) if names(expected) == names(&found) => Arc::clone(expected),
        _ => options.apply_types(&found, shown)?,
    };
    let rows = ReaderBuilder::new(Arc::clone(&schema)).with_format(options.dialect()).with_batch_size(BATCH_ROWS);
    let rows = rows.build_buffered(reader).map_err(failed)?;
    let shown = shown.to_owned();
    let batches = rows.map(move |batch| {
        batch.map_err(|error| match error {
            ArrowError::ParseError(message) => DataError::Corrupt {
                file: shown.clone(),
                format: "csv",
                message: format!(
                    "{}; give the column's type under `load_args: {{dtype: {{column: str}}}}`",
                    excerpt(&message)
                ),
            },
            other => corrupt(&shown, "csv", &other),
        })
    });
    Ok(Reading { schema, batches: Box::new(batches) })
}

struct Writing(Writer<SpooledFile>, Option<RecordBatch>);

pub(super) fn encoder(options: &CsvOptions, schema: &SchemaRef, sink: SpooledFile) -> Box<dyn Encoder> {
    let builder =
        WriterBuilder::new().with_header(options.header).with_delimiter(options.delimiter).with_quote(options.quote);
    let builder = match options.escape {
        Some(escape) => builder.with_escape(escape).with_double_quote(false),
        None => builder,
    };
    // A table without rows still has its header.
    Box::new(Writing(builder.build(sink), Some(RecordBatch::new_empty(Arc::clone(schema)))))
}

impl Encoder for Writing {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        self.1 = None;
        self.0.write(batch).map_err(unwritable)
    }

    fn finish(mut self: Box<Self>) -> Result<SpooledFile, DataError> {
        if let Some(empty) = self.1.take() {
            self.0.write(&empty).map_err(unwritable)?;
        }
        Ok(self.0.into_inner())
    }
}
