//! JSON lines: one object a line.

use std::{io::Seek as _, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    error::ArrowError,
    json::{LineDelimitedWriter, ReaderBuilder, WriterBuilder, reader::infer_json_schema, writer::LineDelimited},
};

use super::{
    contract::{EachFile, Encoder, FileFormat, FormatType, WriterFactory},
    file::{BATCH_ROWS, Input, Reading, corrupt},
};
use crate::{
    config::{Field, Kind},
    data::{TypeInfo, args::FormatArgs, error::DataError, spooled_file::SpooledFile},
    diagnostic::Diagnostics,
};

const NAME: &str = "json";
/// From how many lines the columns are guessed.
const INFER_ROWS: usize = 10_000;

/// pandas' options, which leave one choice here.
const ARGS: &[Field] = &[
    Field::optional("lines", Kind::Bool, "true", "`true`: one object a line; `json.JSONDataset` is one JSON document"),
    Field::optional("orient", Kind::Choice(&["records"]), "records", "`records`: each row is an object"),
];

/// The format `json`.
pub(in crate::data) static JSON: JsonType = JsonType;

/// See [`JSON`].
pub(in crate::data) struct JsonType;

impl FormatType for JsonType {
    fn type_info(&self) -> TypeInfo {
        TypeInfo {
            name: NAME,
            aliases: &["pandas.JSONDataset", "polars.JSONDataset"],
            doc: "JSON lines: one object a line; a `json.JSONDataset` is one JSON document",
        }
    }

    fn file_format_names(&self) -> &'static [&'static str] {
        &["jsonl", "ndjson"]
    }

    fn load_args(&self) -> &'static [Field] {
        ARGS
    }

    fn save_args(&self) -> &'static [Field] {
        ARGS
    }

    fn decode(&self, args: &FormatArgs<'_>, problems: &mut Diagnostics) -> Arc<dyn FileFormat> {
        for args_of_one in [args.load, args.save] {
            let record = args_of_one.record();
            if let (Some(false), Some(node)) = (record.bool("lines"), record.node("lines")) {
                let message = "`lines: false` is not supported: a table is written as one object a line; one JSON document is a \
                               `json.JSONDataset`";
                problems.push(args.wrong(node, message));
            }
        }
        Arc::new(Json)
    }
}

#[derive(Debug)]
struct Json;

impl FileFormat for Json {
    fn name(&self) -> &'static str {
        NAME
    }

    fn suffix(&self) -> &'static str {
        ".jsonl"
    }

    fn open(&self, input: &Input, shown: &str, expected: Option<&SchemaRef>) -> Result<Reading, DataError> {
        let failed = |error: ArrowError| corrupt(shown, NAME, &error);
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
        let batches = rows.map(move |batch| batch.map_err(|error| corrupt(&shown, NAME, &error)));
        Ok(Reading { schema, batches: Box::new(batches) })
    }

    fn writer(&self, schema: &SchemaRef) -> Result<Arc<dyn WriterFactory>, DataError> {
        Ok(EachFile::by(schema, |_, sink| {
            // Nulls are written, so that a column without a value is still a column when it is read back.
            Ok(Box::new(JsonEncoder(WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(sink))))
        }))
    }
}

struct JsonEncoder(LineDelimitedWriter<SpooledFile>);

impl Encoder for JsonEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        Ok(self.0.write(batch)?)
    }

    fn finish(mut self: Box<Self>) -> Result<SpooledFile, DataError> {
        self.0.finish()?;
        Ok(self.0.into_inner())
    }
}
