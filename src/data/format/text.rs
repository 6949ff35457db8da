//! Plain text as a table: one file is one row with one column, `text`.

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use arrow::{
    array::{Array as _, AsArray as _, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
};

use super::file::{Encoder, Input, Reading, corrupt, unwritable};
use crate::data::{error::DataError, spooled_file::SpooledFile};

pub(super) fn open(input: &Input, shown: &str) -> Result<Reading, DataError> {
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
    let mut text = String::new();
    input.open(shown)?.read_to_string(&mut text).map_err(|error| corrupt(shown, "text", &error))?;
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(vec![text]))]).map_err(unwritable)?;
    Ok(Reading { schema, batches: Box::new(std::iter::once(Ok(batch))) })
}

struct Writing {
    sink: SpooledFile,
    rows: u64,
}

pub(super) fn encoder(schema: &SchemaRef, sink: SpooledFile) -> Result<Box<dyn Encoder>, DataError> {
    if schema.fields().len() != 1 {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(DataError::unsupported(
            "text",
            format!("holds one column of text, not {} ({})", names.len(), names.join(", ")),
        ));
    }
    Ok(Box::new(Writing { sink, rows: 0 }))
}

impl Encoder for Writing {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        let column = cast(batch.column(0), &DataType::Utf8).map_err(unwritable)?;
        let texts = column.as_string::<i32>();
        for i in 0..texts.len() {
            let line = if texts.is_null(i) { "" } else { texts.value(i) };
            let separator = if self.rows > 0 { "\n" } else { "" };
            self.rows += 1;
            write!(self.sink, "{separator}{line}")
                .map_err(|source| DataError::Io { path: "text".to_owned(), source })?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SpooledFile, DataError> {
        Ok(self.sink)
    }
}
