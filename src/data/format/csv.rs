//! CSV with a header.

use std::{collections::HashSet, io::Seek as _, sync::Arc};

use arrow::{
    array::RecordBatch,
    csv::{ReaderBuilder, Writer, WriterBuilder, reader::Format as Dialect},
    datatypes::{DataType, Field as Column, Schema, SchemaRef},
    error::ArrowError,
};

use super::{
    contract::{EachFile, Encoder, FileFormat, FormatType, WriterFactory},
    file::{BATCH_ROWS, Input, Reading, corrupt},
    types::parse_type,
};
use crate::{
    config::{Field, Kind, Value},
    data::{TypeInfo, args::FormatArgs, error::DataError, spooled_file::SpooledFile},
    diagnostic::Diagnostics,
    model::excerpt,
};

const NAME: &str = "csv";

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
            Field::optional("dtype", Kind::Map(&Kind::Text), "", "types that are given rather than guessed, by column")
                .or(&["dtypes", "schema", "schema_overrides"]),
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
        csv.delimiter = character(args, "sep", problems).unwrap_or(csv.delimiter);
        csv.quote = character(args, "quotechar", problems).unwrap_or(csv.quote);
        csv.escape = character(args, "escapechar", problems);
        if let Some((node, _)) = args.either("header") {
            match &node.value {
                // pandas: the number of the line; `null` for none.
                Value::Bool(header) => csv.header = *header,
                Value::Int(0) => csv.header = true,
                Value::Null => csv.header = false,
                Value::Text(text) if text == "infer" => csv.header = true,
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
        for (column, entry) in args.load.record().map("dtype").into_iter().flat_map(|types| types.iter()) {
            match entry.node.as_text().and_then(parse_type) {
                Some(data_type) => csv.types.push((column.to_owned(), data_type)),
                None => {
                    let message = format!(
                        "the type of column `{column}` is not known; use str, int64, float64, bool, date or datetime"
                    );
                    problems.push(args.wrong(&entry.node, &message));
                }
            }
        }
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
    delimiter: u8,
    quote: u8,
    escape: Option<u8>,
    header: bool,
    /// Types that are given rather than guessed, by column.
    types: Vec<(String, DataType)>,
    infer_rows: usize,
}

impl Default for Csv {
    fn default() -> Self {
        Self { delimiter: b',', quote: b'"', escape: None, header: true, types: Vec::new(), infer_rows: 10_000 }
    }
}

impl Csv {
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
            return Err(DataError::corrupt(shown, NAME, message));
        }
        let fields = schema.fields().iter().map(|field| {
            let given = self.types.iter().find(|(column, _)| column == field.name());
            let data_type = match (given, field.data_type()) {
                (Some((_, given)), _) => given.clone(),
                // A column without a single value: text is the one type that holds whatever comes.
                (None, DataType::Null) => DataType::Utf8,
                (None, guessed) => guessed.clone(),
            };
            Column::new(field.name(), data_type, true)
        });
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    fn encoder(&self, schema: &SchemaRef, sink: SpooledFile) -> CsvEncoder {
        let builder =
            WriterBuilder::new().with_header(self.header).with_delimiter(self.delimiter).with_quote(self.quote);
        let builder = match self.escape {
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
        let Self { delimiter, quote, escape, header, types: _, infer_rows: _ } = self;
        format!("{NAME} {delimiter} {quote} {escape:?} {header}")
    }

    fn open(&self, input: &Input, shown: &str, expected: Option<&SchemaRef>) -> Result<Reading, DataError> {
        let failed = |error: ArrowError| corrupt(shown, NAME, &error);
        let mut reader = input.open(shown)?;
        let (found, _) = self.dialect().infer_schema(&mut reader, Some(self.infer_rows)).map_err(failed)?;
        if let Some(column) = found.fields().iter().position(|field| field.name().contains('\0')) {
            let message = format!("the name of column {} holds NUL bytes; expected text in UTF-8", column + 1);
            return Err(DataError::corrupt(shown, NAME, message));
        }
        reader.rewind().map_err(|source| DataError::Io { path: shown.to_owned(), source })?;
        let names = |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        let schema = match expected {
            // Another file of the dataset has set the types; the names are this file's to keep.
            Some(expected) if names(expected) == names(&found) => Arc::clone(expected),
            _ => self.apply_types(&found, shown)?,
        };
        let rows = ReaderBuilder::new(Arc::clone(&schema)).with_format(self.dialect()).with_batch_size(BATCH_ROWS);
        let rows = rows.build_buffered(reader).map_err(failed)?;
        let shown = shown.to_owned();
        let batches = rows.map(move |batch| {
            batch.map_err(|error| match error {
                ArrowError::ParseError(message) => {
                    let message = format!(
                        "{}; give the column's type under `load_args: {{dtype: {{column: str}}}}`",
                        excerpt(&message)
                    );
                    DataError::corrupt(&shown, NAME, message)
                }
                other => corrupt(&shown, NAME, &other),
            })
        });
        Ok(Reading { schema, batches: Box::new(batches) })
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
