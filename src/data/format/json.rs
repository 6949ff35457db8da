//! JSON lines: one object a line.

use std::{io::Seek as _, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    error::ArrowError,
    json::{LineDelimitedWriter, ReaderBuilder, WriterBuilder, reader::infer_json_schema, writer::LineDelimited},
};

use super::file::{BATCH_ROWS, Encoder, Input, Reading, corrupt, unwritable};
use crate::data::{error::DataError, spooled_file::SpooledFile};

/// From how many lines the columns are guessed.
const INFER_ROWS: usize = 10_000;

pub(super) fn open(input: &Input, shown: &str, expected: Option<&SchemaRef>) -> Result<Reading, DataError> {
    let failed = |error: ArrowError| corrupt(shown, "json", &error);
    let mut reader = input.open(shown)?;
    let schema = match expected {
        Some(expected) => Arc::clone(expected),
        None => {
            let (schema, _) = infer_json_schema(&mut reader, Some(INFER_ROWS)).map_err(|error| {
                let error = failed(error);
                match error {
                    DataError::Corrupt { file, format, message } => DataError::Corrupt {
                        file,
                        format,
                        message: format!("{message}; expected one JSON object per line"),
                    },
                    other => other,
                }
            })?;
            reader.rewind().map_err(|source| DataError::Io { path: shown.to_owned(), source })?;
            Arc::new(schema)
        }
    };
    let rows = ReaderBuilder::new(Arc::clone(&schema))
        .with_batch_size(BATCH_ROWS)
        // A field that another file lacks is drift, not noise.
        .with_strict_mode(true)
        .build(reader)
        .map_err(failed)?;
    let shown = shown.to_owned();
    let batches = rows.map(move |batch| batch.map_err(|error| corrupt(&shown, "json", &error)));
    Ok(Reading { schema, batches: Box::new(batches) })
}

struct Writing(LineDelimitedWriter<SpooledFile>);

pub(super) fn encoder(sink: SpooledFile) -> Box<dyn Encoder> {
    // Nulls are written, so that a column without a value is still a column when it is read back.
    Box::new(Writing(WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(sink)))
}

impl Encoder for Writing {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        self.0.write(batch).map_err(unwritable)
    }

    fn finish(mut self: Box<Self>) -> Result<SpooledFile, DataError> {
        self.0.finish().map_err(unwritable)?;
        Ok(self.0.into_inner())
    }
}
