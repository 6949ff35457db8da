//! JSON lines: one object a line.

mod infer;

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    error::ArrowError,
    json::{LineDelimitedWriter, ReaderBuilder, WriterBuilder, writer::LineDelimited},
};

use super::{
    coding::{Decoding, ENCODING, Encoding, LOAD_COMPRESSION, SAVE_COMPRESSION, TextWriter},
    contract::{EachFile, Encoder, FileFormat, FormatType, WriterFactory},
    exact::{text_schema, typed},
    file::{Input, Reading, batch_rows, corrupt},
    types::{DTYPE, DeclaredTypes},
};
use crate::{
    config::{Field, Kind},
    data::{TypeInfo, args::FormatArgs, error::DataError, spooled_file::SpooledFile},
    diagnostic::Diagnostics,
    model::excerpt,
};

const NAME: &str = "json";
/// From how many lines the columns are guessed.
const INFER_ROWS: usize = 10_000;

const LINES: Field =
    Field::optional("lines", Kind::Bool, "true", "`true`: one object a line; `json.JSONDataset` is one JSON document");
const ORIENT: Field =
    Field::optional("orient", Kind::Choice(&["records"]), "records", "`records`: each row is an object");

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
        const FIELDS: &[Field] = &[LINES, ORIENT, DTYPE, ENCODING, LOAD_COMPRESSION];
        FIELDS
    }

    fn save_args(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[LINES, ORIENT, ENCODING, SAVE_COMPRESSION];
        FIELDS
    }

    fn inert_load_args(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            Field::optional("engine", Kind::Any, "", ""),
            Field::optional("convert_dates", Kind::Choice(&["false"]), "", "strings are strings"),
            Field::optional("encoding_errors", Kind::Choice(&["strict"]), "", ""),
        ];
        FIELDS
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
        Arc::new(Json {
            types: DeclaredTypes::of(args, problems),
            decoding: Decoding::of(args, problems),
            encoding: Encoding::of(args, problems),
        })
    }
}

#[derive(Debug)]
struct Json {
    types: DeclaredTypes,
    decoding: Decoding,
    encoding: Encoding,
}

impl FileFormat for Json {
    fn name(&self) -> &'static str {
        NAME
    }

    fn suffix(&self) -> &'static str {
        self.encoding.suffix(".jsonl", [".jsonl.gz", ".jsonl.zst", ".jsonl.bz2"])
    }

    fn written_as(&self) -> String {
        format!("{NAME}{}", self.encoding.written_as())
    }

    fn differences(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.decoding.differences(&self.encoding, &mut out);
        out
    }

    fn infers_types(&self) -> bool {
        true
    }

    fn open(&self, input: &Input, shown: &str, expected: Option<&SchemaRef>) -> Result<Reading, DataError> {
        let schema = match expected {
            Some(expected) => Arc::clone(expected),
            None => {
                let found = infer::columns(input.open_text(shown, NAME, self.decoding)?, INFER_ROWS);
                let found = found.map_err(|message| DataError::corrupt(shown, NAME, message))?;
                self.types.apply(&found, shown, NAME)?
            }
        };
        let rows = ReaderBuilder::new(text_schema(&schema))
            .with_batch_size(batch_rows(schema.fields().len()))
            // Numbers and booleans come as they are written, and are cast without loss below.
            .with_coerce_primitive(true)
            // A field that another file lacks is drift, not noise.
            .with_strict_mode(true)
            .build(input.open_text(shown, NAME, self.decoding)?)
            .map_err(|error| corrupt(shown, NAME, &error))?;
        let (shown, types, mut read) = (shown.to_owned(), Arc::clone(&schema), 0);
        let batches = rows.map(move |batch| {
            let batch = batch.map_err(|error: ArrowError| {
                let message = format!("after row {read}: {}", excerpt(&error.to_string()));
                DataError::corrupt(&shown, NAME, message)
            })?;
            let rows_before = read;
            read += batch.num_rows();
            typed(&batch, &types)?.map_err(|inexact| {
                let row = rows_before + inexact.row + 1;
                DataError::corrupt(&shown, NAME, format!("row {row}: {inexact}"))
            })
        });
        Ok(Reading { schema, batches: Box::new(batches) })
    }

    fn writer(&self, schema: &SchemaRef) -> Result<Arc<dyn WriterFactory>, DataError> {
        let encoding = self.encoding;
        Ok(EachFile::by(schema, move |_, sink| {
            let sink = TextWriter::new(encoding, sink)?;
            // Nulls are written, so that a column without a value is still a column when it is read back.
            Ok(Box::new(JsonEncoder(WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(sink))))
        }))
    }
}

struct JsonEncoder(LineDelimitedWriter<TextWriter>);

impl Encoder for JsonEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        Ok(self.0.write(batch)?)
    }

    fn finish(mut self: Box<Self>) -> Result<SpooledFile, DataError> {
        self.0.finish()?;
        self.0.into_inner().finish()
    }
}
