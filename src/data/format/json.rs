//! JSON: one object a line, or one document as pandas writes it.

mod document;
mod infer;
mod rows;

use std::{
    io::{BufRead, Cursor, Write as _},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    error::ArrowError,
    json::{LineDelimitedWriter, WriterBuilder, writer::LineDelimited},
};

use bytes::Bytes;

use self::{document::Orient, rows::Rows};
use super::{
    coding::{Decoding, ENCODING, Encoding, LOAD_COMPRESSION, SAVE_COMPRESSION, TextWriter, difference},
    contract::{ColumnTypes, EachFile, Encoder, FileFormat, FormatType, WriterFactory},
    exact::{text_schema, typed},
    file::{Input, Reading, corrupt},
    text_only::{has_no, is_binary, not_finite},
    types::{DTYPE, DeclaredTypes, Nesting},
};
use crate::{
    config::{Field, Kind},
    data::{
        TypeInfo,
        args::{Args, FormatArgs},
        error::DataError,
        library::Library,
        spooled_file::SpooledFile,
    },
    diagnostic::Diagnostics,
    model::excerpt,
};

const NAME: &str = "json";
/// From how many lines the columns are guessed.
const INFER_ROWS: usize = 10_000;

const LINES: Field = Field::optional(
    "lines",
    Kind::Bool,
    "true",
    "`true`: one object a line; `false`: one JSON document; the default is `false` for pandas' and Polars' types, or where `orient` says it",
);
const ORIENT: Field = Field::optional(
    "orient",
    Kind::Choice(Orient::WORDS),
    "",
    "where the rows of a document are, in pandas' words; lines are `records`; a document is `columns` if not given, Polars' is `records`",
);

/// Names that say that there is an object a line.
const WORDS_OF_LINES: &[&str] = &["jsonl", "ndjson"];

/// How the rows of a file are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Lines,
    Document(Orient),
}

impl Layout {
    /// Reads [`LINES`] and [`ORIENT`].
    fn of(args: &FormatArgs<'_>, of: &Args<'_>, problems: &mut Diagnostics) -> Self {
        let (lines, orient) = (of.record().bool("lines"), of.record().word("orient").map(Orient::of));
        let is_lines = match args.library {
            _ if args.file_format.is_some_and(|word| WORDS_OF_LINES.contains(&word)) => lines.unwrap_or(true),
            Library::Pandas | Library::Polars => lines.unwrap_or(false),
            _ => lines.unwrap_or(orient.is_none_or(|orient| orient == Orient::Records)),
        };
        if !is_lines {
            let usual = if args.library == Library::Polars { Orient::Records } else { Orient::Columns };
            return Self::Document(orient.unwrap_or(usual));
        }
        if let (Some(orient), Some(node)) =
            (orient.filter(|orient| *orient != Orient::Records), of.record().node("orient"))
        {
            let message =
                format!("`orient: {}` is for one document, and `lines: true` for one object a line", orient.name());
            problems.push(args.wrong(node, &message));
        }
        Self::Lines
    }

    fn name(self) -> String {
        match self {
            Self::Lines => "lines".to_owned(),
            Self::Document(orient) => format!("document, orient: {}", orient.name()),
        }
    }
}

/// The format `json`.
pub(in crate::data) static JSON: JsonType = JsonType;

/// See [`JSON`].
pub(in crate::data) struct JsonType;

impl FormatType for JsonType {
    fn type_info(&self) -> TypeInfo {
        TypeInfo {
            name: NAME,
            aliases: &["pandas.JSONDataset", "polars.JSONDataset"],
            doc: "JSON lines: one object a line, or a document as pandas writes it (`orient`); a `json.JSONDataset` is a value",
        }
    }

    fn file_format_names(&self) -> &'static [&'static str] {
        WORDS_OF_LINES
    }

    fn column_types(&self) -> ColumnTypes {
        ColumnTypes::Inferred
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

    fn inert_save_args(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            Field::optional("date_format", Kind::Choice(&["iso"]), "", "times are written as ISO 8601 has them"),
            Field::optional("force_ascii", Kind::Any, "", "text is written as it is, which every reader takes"),
            Field::optional("indent", Kind::Any, "", ""),
            Field::optional("index", Kind::Choice(&["true"]), "", ""),
            Field::optional("mode", Kind::Choice(&["w"]), "", ""),
        ];
        FIELDS
    }

    fn decode(&self, args: &FormatArgs<'_>, problems: &mut Diagnostics) -> Arc<dyn FileFormat> {
        Arc::new(Json {
            read: Layout::of(args, args.load, problems),
            write: Layout::of(args, args.save, problems),
            types: DeclaredTypes::of(args, Nesting::Any, problems),
            decoding: Decoding::of(args, problems),
            encoding: Encoding::of(args, problems),
        })
    }
}

#[derive(Debug)]
struct Json {
    read: Layout,
    write: Layout,
    types: DeclaredTypes,
    decoding: Decoding,
    encoding: Encoding,
}

impl FileFormat for Json {
    fn name(&self) -> &'static str {
        NAME
    }

    fn suffix(&self) -> &'static str {
        match self.write {
            Layout::Lines => self.encoding.suffix(".jsonl", [".jsonl.gz", ".jsonl.zst", ".jsonl.bz2"]),
            Layout::Document(_) => self.encoding.suffix(".json", [".json.gz", ".json.zst", ".json.bz2"]),
        }
    }

    fn written_as(&self) -> String {
        let layout = if self.write == Layout::Lines { String::new() } else { format!(" {}", self.write.name()) };
        format!("{NAME}{layout}{}", self.encoding.written_as())
    }

    fn differences(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.read != self.write {
            out.push(difference("lines", &self.write.name(), &self.read.name()));
        }
        self.decoding.differences(&self.encoding, &mut out);
        out
    }

    fn infers_types(&self) -> bool {
        true
    }

    fn open(&self, input: &Input, shown: &str, expected: Option<&SchemaRef>) -> Result<Reading, DataError> {
        let corrupted = |message| DataError::corrupt(shown, NAME, message);
        let source = || input.open_text(shown, NAME, self.decoding);
        let document = match self.read {
            Layout::Lines => None,
            Layout::Document(orient) => Some(Bytes::from(document::lines(source()?, orient).map_err(corrupted)?)),
        };
        let open = || -> Result<Box<dyn BufRead + Send>, DataError> {
            Ok(match &document {
                Some(lines) => Box::new(Cursor::new(lines.clone())),
                None => Box::new(source()?),
            })
        };
        let sample = if document.is_some() { usize::MAX } else { INFER_ROWS };
        let schema = match expected {
            Some(expected) => Arc::clone(expected),
            // A value that is null may be left out of every row.
            None => self.types.complete(&infer::columns(open()?, sample).map_err(corrupted)?),
        };
        let rows = Rows::new(open()?, text_schema(&schema)).map_err(|error| corrupt(shown, NAME, &error))?;
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
        if let Some(field) = schema.fields().iter().find(|field| is_binary(field.data_type())) {
            return Err(DataError::unsupported(NAME, has_no("bytes", field)));
        }
        let (encoding, write) = (self.encoding, self.write);
        Ok(EachFile::by(schema, move |schema, sink| {
            let sink = TextWriter::new(encoding, sink)?;
            // Nulls are written, so that a column without a value is still a column when it is read back.
            let lines = WriterBuilder::new().with_explicit_nulls(true);
            Ok(match write {
                Layout::Lines => Box::new(LinesEncoder { lines: lines.build::<_, LineDelimited>(sink), rows: 0 }),
                Layout::Document(orient) => {
                    let lines = lines.build::<_, LineDelimited>(Vec::new());
                    Box::new(DocumentEncoder { lines, orient, sink, schema: Arc::clone(schema), rows: 0 })
                }
            })
        }))
    }
}

struct LinesEncoder {
    lines: LineDelimitedWriter<TextWriter>,
    rows: usize,
}

/// Refuses floats that JSON has no numbers for, instead of writing `null`, and counts the rows.
fn check_finite(batch: &RecordBatch, rows: &mut usize) -> Result<(), DataError> {
    if let Some((row, column)) = not_finite(batch) {
        let row = *rows + row + 1;
        let message = format!(
            "row {row}: column `{column}` holds a float that is infinite or not a number, which JSON does not have"
        );
        return Err(DataError::unsupported(NAME, message));
    }
    *rows += batch.num_rows();
    Ok(())
}

impl Encoder for LinesEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        check_finite(batch, &mut self.rows)?;
        Ok(self.lines.write(batch)?)
    }

    fn finish(mut self: Box<Self>) -> Result<SpooledFile, DataError> {
        self.lines.finish()?;
        self.lines.into_inner().finish()
    }
}

/// A document, whose rows are held up to [`document::LIMIT`].
struct DocumentEncoder {
    lines: LineDelimitedWriter<Vec<u8>>,
    orient: Orient,
    sink: TextWriter,
    schema: SchemaRef,
    rows: usize,
}

impl Encoder for DocumentEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        check_finite(batch, &mut self.rows)?;
        self.lines.write(batch)?;
        if self.lines.get_ref().len() > document::LIMIT {
            return Err(DataError::unsupported(NAME, document::too_large()));
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SpooledFile, DataError> {
        let Self { mut lines, orient, mut sink, schema, rows: _ } = *self;
        lines.finish()?;
        let lines = String::from_utf8(lines.into_inner())
            .map_err(|error| DataError::unsupported(NAME, format!("holds text in UTF-8: {error}")))?;
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let text = document::document(&lines, &names, orient).map_err(|error| DataError::unsupported(NAME, error))?;
        sink.write_all(text.as_bytes()).map_err(|source| DataError::Io { path: NAME.to_owned(), source })?;
        sink.finish()
    }
}
