//! CSV: its options, and how it is written.

mod dialect;
mod infer;
mod reader;

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    csv::{Writer, WriterBuilder},
    datatypes::{Field as Column, Schema, SchemaRef},
};

use self::{
    dialect::{Dialect, NAME},
    reader::CsvRows,
};
use super::{
    contract::{EachFile, Encoder, FileFormat, FormatType, WriterFactory},
    file::{Input, Reading},
    types::{DTYPE, DeclaredTypes},
};
use crate::{
    config::{Field, Kind, Value},
    data::{TypeInfo, args::FormatArgs, error::DataError, spooled_file::SpooledFile},
    diagnostic::Diagnostics,
};

const SEPARATOR: Field =
    Field::optional("sep", Kind::Text, "','", "the character between two values").or(&["delimiter", "separator"]);
const QUOTE: Field =
    Field::optional("quotechar", Kind::Text, "'\"'", "the character around values that hold a separator")
        .or(&["quote_char", "quote"]);
const HEADER: &str = "whether the first line names the columns; without it they are `column_1`, `column_2`, …";

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
        const FIELDS: &[Field] = &[
            SEPARATOR,
            QUOTE,
            Field::optional("header", Kind::Any, "true", HEADER).or(&["has_header"]),
            Field::optional(
                "escapechar",
                Kind::Text,
                "",
                "the character in front of a quote inside a value, instead of doubling it",
            )
            .or(&["escape"]),
            DTYPE,
            Field::optional(
                "infer_schema_length",
                Kind::Integer(1, i64::MAX),
                "10000",
                "from how many rows types are guessed; `null` for all",
            ),
        ];
        FIELDS
    }

    fn save_args(&self) -> &'static [Field] {
        const FIELDS: &[Field] =
            &[SEPARATOR, QUOTE, Field::optional("header", Kind::Any, "true", HEADER).or(&["include_header"])];
        FIELDS
    }

    fn decode(&self, args: &FormatArgs<'_>, problems: &mut Diagnostics) -> Arc<dyn FileFormat> {
        let mut csv = Csv::default();
        csv.dialect.delimiter = character(args, "sep", problems).unwrap_or(csv.dialect.delimiter);
        csv.dialect.quote = character(args, "quotechar", problems).unwrap_or(csv.dialect.quote);
        csv.dialect.escape = character(args, "escapechar", problems);
        if let Some((node, _)) = args.either("header") {
            match &node.value {
                // pandas: the number of the line; `null` for none.
                Value::Bool(header) => csv.dialect.header = *header,
                Value::Int(0) => csv.dialect.header = true,
                Value::Null => csv.dialect.header = false,
                Value::Text(text) if text == "infer" => csv.dialect.header = true,
                _ => {
                    let message = "`header` must be `true`, `false` or 0: the first line, or none";
                    problems.push(args.wrong(node, message));
                }
            }
        }
        match args.load.record().integer("infer_schema_length") {
            Some(rows) => csv.infer_rows = usize::try_from(rows).unwrap_or(usize::MAX),
            None if args.load.is_null("infer_schema_length") => csv.infer_rows = usize::MAX,
            None => {}
        }
        csv.types = DeclaredTypes::of(args, problems);
        Arc::new(csv)
    }
}

/// An option that is one ASCII character; `\t` is a tab.
fn character(args: &FormatArgs<'_>, name: &'static str, problems: &mut Diagnostics) -> Option<u8> {
    let (node, record) = args.either(name)?;
    match record.text(name).map(|text| if text == "\\t" { "\t" } else { text }) {
        Some(text) if text.len() == 1 => text.bytes().next(),
        _ => {
            problems.push(args.wrong(node, &format!("`{name}` must be one ASCII character")));
            None
        }
    }
}

#[derive(Debug, Clone)]
struct Csv {
    dialect: Dialect,
    types: DeclaredTypes,
    infer_rows: usize,
}

impl Default for Csv {
    fn default() -> Self {
        Self { dialect: Dialect::default(), types: DeclaredTypes::default(), infer_rows: 10_000 }
    }
}

impl Csv {
    fn encoder(&self, schema: &SchemaRef, sink: SpooledFile) -> CsvEncoder {
        let builder = WriterBuilder::new()
            .with_header(self.dialect.header)
            .with_delimiter(self.dialect.delimiter)
            .with_quote(self.dialect.quote);
        let builder = match self.dialect.escape {
            Some(escape) => builder.with_escape(escape).with_double_quote(false),
            None => builder,
        };
        // A table without rows still has its header.
        CsvEncoder(builder.build(sink), Some(RecordBatch::new_empty(Arc::clone(schema))))
    }
}

impl FileFormat for Csv {
    fn name(&self) -> &'static str {
        NAME
    }

    fn suffix(&self) -> &'static str {
        ".csv"
    }

    fn written_as(&self) -> String {
        let Dialect { delimiter, quote, escape, header } = self.dialect;
        format!("{NAME} {delimiter} {quote} {escape:?} {header}")
    }

    fn infers_types(&self) -> bool {
        true
    }

    fn open(&self, input: &Input, shown: &str, expected: Option<&SchemaRef>) -> Result<Reading, DataError> {
        let rows = CsvRows::open(self.dialect, input, shown)?;
        let is_named = |schema: &SchemaRef| schema.fields().iter().map(|field| field.name()).eq(rows.names());
        let schema = match expected {
            // Another file of the dataset has set the types; the names are this file's to keep.
            Some(expected) if is_named(expected) => Arc::clone(expected),
            _ => {
                let columns = CsvRows::open(self.dialect, input, shown)?.sample(self.infer_rows)?;
                let columns = rows.names().iter().zip(columns);
                let columns = columns.map(|(name, guess)| Column::new(name, guess.data_type(), true));
                self.types.apply(&Schema::new(columns.collect::<Vec<_>>()), shown, NAME)?
            }
        };
        Ok(Reading { schema: Arc::clone(&schema), batches: Box::new(rows.batches(schema)) })
    }

    fn writer(&self, schema: &SchemaRef) -> Result<Arc<dyn WriterFactory>, DataError> {
        let csv = self.clone();
        Ok(EachFile::by(schema, move |schema, sink| Ok(Box::new(csv.encoder(schema, sink)))))
    }
}

struct CsvEncoder(Writer<SpooledFile>, Option<RecordBatch>);

impl Encoder for CsvEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        self.1 = None;
        Ok(self.0.write(batch)?)
    }

    fn finish(mut self: Box<Self>) -> Result<SpooledFile, DataError> {
        if let Some(empty) = self.1.take() {
            self.0.write(&empty)?;
        }
        Ok(self.0.into_inner())
    }
}
