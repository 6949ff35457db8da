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

use super::{
    contract::{EachFile, Encoder, FileFormat, FormatType, WriterFactory},
    file::{Input, Reading, corrupt},
};
use crate::{
    data::{TypeInfo, args::FormatArgs, error::DataError, spooled_file::SpooledFile},
    diagnostic::Diagnostics,
};

const NAME: &str = "text";

/// The format `text`: what partitions of texts are.
pub(in crate::data) static TEXT: TextType = TextType;

/// See [`TEXT`].
pub(in crate::data) struct TextType;

impl FormatType for TextType {
    fn type_info(&self) -> TypeInfo {
        TypeInfo { name: NAME, aliases: &[], doc: "one text a file: a row with the column `text`" }
    }

    fn decode(&self, _args: &FormatArgs<'_>, _problems: &mut Diagnostics) -> Arc<dyn FileFormat> {
        Arc::new(Text)
    }
}

#[derive(Debug)]
struct Text;

impl FileFormat for Text {
    fn name(&self) -> &'static str {
        NAME
    }

    fn suffix(&self) -> &'static str {
        ".txt"
    }

    fn open(&self, input: &Input, shown: &str, _expected: Option<&SchemaRef>) -> Result<Reading, DataError> {
        let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
        let mut text = String::new();
        input.open(shown)?.read_to_string(&mut text).map_err(|error| corrupt(shown, NAME, &error))?;
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(vec![text]))])?;
        Ok(Reading { schema, batches: Box::new(std::iter::once(Ok(batch))) })
    }

    fn writer(&self, schema: &SchemaRef) -> Result<Arc<dyn WriterFactory>, DataError> {
        if schema.fields().len() != 1 {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let message = format!("holds one column of text, not {} ({})", names.len(), names.join(", "));
            return Err(DataError::unsupported(NAME, message));
        }
        Ok(EachFile::by(schema, |_, sink| Ok(Box::new(TextEncoder { sink, rows: 0 }))))
    }
}

struct TextEncoder {
    sink: SpooledFile,
    rows: u64,
}

impl Encoder for TextEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        let column = cast(batch.column(0), &DataType::Utf8)?;
        let texts = column.as_string::<i32>();
        for i in 0..texts.len() {
            let line = if texts.is_null(i) { "" } else { texts.value(i) };
            let separator = if self.rows > 0 { "\n" } else { "" };
            self.rows += 1;
            write!(self.sink, "{separator}{line}").map_err(|source| DataError::Io { path: NAME.to_owned(), source })?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SpooledFile, DataError> {
        Ok(self.sink)
    }
}
