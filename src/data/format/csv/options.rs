//! What `load_args` and `save_args` of a CSV file say, in the words of pandas, polars and Spark.

use std::{collections::BTreeSet, sync::Arc};

use arrow::csv::QuoteStyle;

use super::{
    canonical::LeftOut,
    dialect::{Comment, Dialect, Escape},
};
use crate::{
    config::{Field, Kind, Node, Value},
    data::{
        args::{Args, FormatArgs},
        format::{
            coding::{Decoding, ENCODING, Encoding, LOAD_COMPRESSION, SAVE_COMPRESSION, character, difference},
            types::{DTYPE, DeclaredTypes, Nesting},
        },
        library::Library,
    },
    diagnostic::Diagnostics,
};

const SEP: &[&str] = &["sep", "delimiter", "separator"];
const QUOTE: &[&str] = &["quotechar", "quote_char", "quote"];
const SEPARATOR: Field =
    Field::optional("sep", Kind::Text, "','", "the character between two values").or(&["delimiter", "separator"]);
const QUOTECHAR: Field = Field::optional(
    "quotechar",
    Kind::Text,
    "'\"'",
    "the character around values that hold a separator; `null` for none",
)
.or(&["quote_char", "quote"]);
const ESCAPE: &[&str] = &["escapechar", "escape"];
const ESCAPECHAR: Field = Field::optional(
    "escapechar",
    Kind::Text,
    "",
    "the character in front of one that is meant as it is; for Spark's types it is `\\`, and counts inside of quotes",
)
.or(&["escape"]);
const DOUBLEQUOTE: Field = Field::optional(
    "doublequote",
    Kind::Bool,
    "true",
    "whether two quotes inside of quotes stand for one; `false` for Spark's types",
);
const TERMINATOR: &[&str] = &["lineterminator", "line_terminator", "lineSep", "eol_char"];
const LINETERMINATOR: Field = Field::optional(
    "lineterminator",
    Kind::Text,
    "",
    "the character at the end of a row, or `\"\\r\\n\"`; if not given, every end of a line is read, and `\"\\n\"` is written",
)
.or(&["line_terminator", "lineSep", "eol_char"]);

/// The options under `load_args`.
pub(super) const LOAD_ARGS: &[Field] = &[
    SEPARATOR,
    QUOTECHAR,
    ESCAPECHAR,
    DOUBLEQUOTE,
    LINETERMINATOR,
    Field::optional(
        "comment",
        Kind::Text,
        "",
        "the character in front of a comment, which is not read: it goes to the end of the line; for Spark's and Polars' types it is a line \
         that begins so",
    )
    .or(&["comment_prefix", "comment_char"]),
    Field::optional(
        "header",
        Kind::Any,
        "true",
        "whether the first line names the columns; without it they are `column_1`, `column_2`, … (Spark: `_c0`, `_c1`, …); `false` if \
         `names` are given, or for Spark",
    )
    .or(&["has_header"]),
    Field::optional(
        "names",
        Kind::List(&Kind::Text),
        "",
        "the names of the columns, instead of those of the first line, which is a row unless `header` says otherwise",
    )
    .or(&["new_columns"]),
    Field::optional("usecols", Kind::List(&Kind::Any), "", "the columns that are read, by name or by position from 0")
        .or(&["columns"]),
    DTYPE,
    Field::optional(
        "skiprows",
        Kind::Any,
        "0",
        "how many lines at the beginning are not read, or a list of the numbers, from 0, of rows that are not",
    )
    .or(&["skip_rows"]),
    Field::optional("nrows", Kind::Integer(0, i64::MAX), "", "how many rows of each file are read").or(&["n_rows"]),
    Field::optional(
        "na_values",
        Kind::List(&Kind::Text),
        "",
        "values that are null, besides the empty one and those of `keep_default_na`",
    )
    .or(&["nullValue", "null_values"]),
    Field::optional(
        "keep_default_na",
        Kind::Bool,
        "",
        "`true`: what pandas takes for null is null: `NA`, `NaN`, `None`, `null`, …; the default of pandas' types, and of no other",
    ),
    ENCODING,
    LOAD_COMPRESSION,
    Field::optional(
        "infer_schema_length",
        Kind::Integer(1, i64::MAX),
        "10000",
        "from how many rows types are guessed; `null` for all",
    ),
    Field::optional("inferSchema", Kind::Bool, "", "`false`: all columns are text; the default of Spark's types"),
];

/// The options under `save_args`.
pub(super) const SAVE_ARGS: &[Field] = &[
    SEPARATOR,
    QUOTECHAR,
    ESCAPECHAR,
    DOUBLEQUOTE,
    LINETERMINATOR,
    Field::optional("header", Kind::Bool, "true", "whether the first line names the columns; `false` for Spark")
        .or(&["include_header"]),
    Field::optional("na_rep", Kind::Text, "''", "what is written for null").or(&["nullValue", "null_value"]),
    Field::optional(
        "quoting",
        Kind::Integer(0, 2),
        "0",
        "0: values that need it are quoted; 1: all; 2: all but numbers",
    ),
    ENCODING,
    SAVE_COMPRESSION,
];

/// See [`FormatType::inert_load_args`](crate::data::format::FormatType::inert_load_args).
pub(super) const INERT_LOAD_ARGS: &[Field] = &[
    Field::optional("engine", Kind::Any, "", "which parser is used"),
    Field::optional("low_memory", Kind::Any, "", "files are always streamed"),
    Field::optional("memory_map", Kind::Any, "", ""),
    Field::optional("rechunk", Kind::Any, "", ""),
    Field::optional("multiLine", Kind::Any, "", "a quoted value may hold lines"),
    Field::optional("index_col", Kind::Choice(&["false"]), "", "all columns are columns"),
    Field::optional("skip_blank_lines", Kind::Choice(&["true"]), "", "blank lines are skipped"),
    Field::optional("on_bad_lines", Kind::Choice(&["error"]), "", "a row of another width is an error"),
    Field::optional("encoding_errors", Kind::Choice(&["strict"]), "", ""),
    Field::optional("quoting", Kind::Integer(0, 2), "", ""),
    Field::optional("mode", Kind::Choice(&["FAILFAST"]), "", "what is damaged is an error"),
];
/// As [`INERT_LOAD_ARGS`].
pub(super) const INERT_SAVE_ARGS: &[Field] = &[
    Field::optional("index", Kind::Choice(&["false"]), "", "a table has no index"),
    Field::optional("chunksize", Kind::Any, "", ""),
    Field::optional("errors", Kind::Choice(&["strict"]), "", ""),
    Field::optional("batch_size", Kind::Any, "", ""),
];

/// pandas' list, but for the empty value, which is null everywhere.
const PANDAS_NULLS: &[&str] = &[
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
];
const INFER_ROWS: usize = 10_000;

/// How CSV is read.
#[derive(Debug, Clone)]
pub(super) struct CsvRead {
    pub(super) dialect: Dialect,
    pub(super) decoding: Decoding,
    pub(super) types: DeclaredTypes,
    /// The names of columns that are given.
    pub(super) names: Option<Vec<String>>,
    /// The columns that are read; all if `None`.
    pub(super) columns: Option<Vec<Selected>>,
    /// Lines that are skipped at the beginning.
    pub(super) skip: u64,
    /// Rows and comments that are not read.
    pub(super) left_out: LeftOut,
    /// Rows that are read at most.
    pub(super) rows: usize,
    /// Values that are null, besides the empty one.
    pub(super) nulls: Vec<String>,
    /// From how many rows types are guessed; none for text.
    pub(super) infer_rows: usize,
    /// In front of the number of a column without a name, and the number of the first.
    pub(super) numbered: (&'static str, usize),
}

/// A column by its name or its position.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Selected {
    Name(String),
    Position(usize),
}

/// How CSV is written.
#[derive(Debug, Clone)]
pub(super) struct CsvWrite {
    pub(super) dialect: Dialect,
    pub(super) encoding: Encoding,
    pub(super) null: String,
    pub(super) quoting: QuoteStyle,
    /// Whether lines end with a carriage return and a line feed.
    pub(super) ends_with_return: bool,
}

impl CsvRead {
    /// Reads [`LOAD_ARGS`].
    pub(super) fn of(args: &FormatArgs<'_>, problems: &mut Diagnostics) -> Self {
        let load = args.load.record();
        let names: Option<Vec<String>> =
            load.texts("names").map(|names| names.into_iter().map(str::to_owned).collect());
        let spark = args.library == Library::Spark;
        let mut dialect = dialect(args, args.load, problems);
        dialect.header = match load.node("header").map(|node| (node, &node.value)) {
            None => names.is_none() && !spark,
            Some((_, Value::Bool(header))) => *header,
            // pandas: the number of the line; `null` for none.
            Some((_, Value::Int(0))) => true,
            Some((_, Value::Null)) => false,
            Some((_, Value::Text(text))) if text == "infer" => names.is_none(),
            Some((_, Value::Text(text))) if text == "true" || text == "false" => text == "true",
            Some((node, _)) => {
                problems.push(args.wrong(node, "`header` must be `true`, `false` or 0: the first line, or none"));
                true
            }
        };
        let infers = load.bool("inferSchema").unwrap_or(!spark);
        let infer_rows = match load.integer("infer_schema_length") {
            _ if !infers => 0,
            Some(rows) => usize::try_from(rows).unwrap_or(usize::MAX),
            None if args.load.is_null(&["infer_schema_length"]) => usize::MAX,
            None => INFER_ROWS,
        };
        let mut nulls: Vec<String> =
            load.texts("na_values").unwrap_or_default().into_iter().map(str::to_owned).collect();
        if load.bool("keep_default_na").unwrap_or(args.library == Library::Pandas) {
            nulls.extend(PANDAS_NULLS.iter().map(|&null| null.to_owned()));
        }
        let (skip, records) = skipped(args, problems);
        let comment = character(args, args.load, &["comment", "comment_prefix", "comment_char"], problems).flatten();
        let comment = comment.map(|byte| match args.library {
            Library::Spark | Library::Polars => Comment::Line(byte),
            _ => Comment::Anywhere(byte),
        });
        let rows = load.integer("nrows").map_or(usize::MAX, |rows| usize::try_from(rows).unwrap_or(usize::MAX));
        Self {
            dialect,
            decoding: Decoding::of(args, problems),
            types: DeclaredTypes::of(args, Nesting::None, problems),
            names,
            columns: columns(args, load.node("usecols"), problems),
            skip,
            left_out: LeftOut { records: Arc::new(records), comment },
            rows,
            nulls,
            infer_rows,
            numbered: if spark { ("_c", 0) } else { ("column_", 1) },
        }
    }

    /// What is read otherwise than `write` writes it.
    pub(super) fn differences(&self, write: &CsvWrite) -> Vec<String> {
        let character = |byte: u8| char::from(byte).to_string();
        let mut out = Vec::new();
        let (read, written) = (self.dialect, write.dialect);
        if read.delimiter != written.delimiter {
            out.push(difference("sep", &character(written.delimiter), &character(read.delimiter)));
        }
        if read.header != written.header && (self.names.is_none() || written.header) {
            out.push(difference("header", &written.header.to_string(), &read.header.to_string()));
        }
        if read.quote != written.quote {
            let name = |quote: Option<u8>| quote.map_or("null".to_owned(), character);
            out.push(difference("quotechar", &name(written.quote), &name(read.quote)));
        }
        let escape = |dialect: Dialect| dialect.escape.map_or("null".to_owned(), |escape| character(escape.byte()));
        if escape(read) != escape(written) {
            out.push(difference("escapechar", &escape(written), &escape(read)));
        } else if read.double_quote != written.double_quote {
            out.push(difference("doublequote", &written.double_quote.to_string(), &read.double_quote.to_string()));
        }
        let end = |dialect: Dialect| dialect.terminator.filter(|end| !matches!(end, b'\n' | b'\r'));
        if end(read) != end(written) {
            let name = |end: Option<u8>| end.map_or("\\n".to_owned(), character);
            out.push(difference("lineterminator", &name(end(written)), &name(end(read))));
        }
        if !write.null.is_empty() && !self.nulls.contains(&write.null) {
            out.push(format!("`na_rep` is `{}`, which `na_values` for reading does not have", write.null));
        }
        if self.skip > 0 || !self.left_out.records.is_empty() {
            out.push("`skiprows` leaves out rows that are written".to_owned());
        }
        if let Some(Comment::Anywhere(byte) | Comment::Line(byte)) = self.left_out.comment {
            out.push(format!("`comment: {}` leaves out text that is written", character(byte)));
        }
        self.decoding.differences(&write.encoding, &mut out);
        out
    }
}

impl CsvWrite {
    /// Reads [`SAVE_ARGS`].
    pub(super) fn of(args: &FormatArgs<'_>, problems: &mut Diagnostics) -> Self {
        let save = args.save.record();
        let mut dialect = dialect(args, args.save, problems);
        dialect.header = save.bool("header").unwrap_or(args.library != Library::Spark);
        let quoting = match save.integer("quoting") {
            _ if dialect.quote.is_none() => QuoteStyle::Never,
            Some(1) => QuoteStyle::Always,
            Some(2) => QuoteStyle::NonNumeric,
            _ => QuoteStyle::Necessary,
        };
        if !dialect.double_quote && dialect.escape.is_none() && dialect.quote.is_some() {
            let node = save.node("doublequote").unwrap_or(args.save.node());
            problems.push(
                args.wrong(node, "`doublequote: false` leaves no way to write a quote; give an `escapechar`, too"),
            );
        }
        let null = save.text("na_rep").unwrap_or_default().to_owned();
        let ends_with_return = save.text("lineterminator") == Some("\r\n");
        Self { dialect, encoding: Encoding::of(args, problems), null, quoting, ends_with_return }
    }

    /// Everything that decides what the files look like.
    pub(super) fn written_as(&self) -> String {
        let Dialect { delimiter, quote, escape, double_quote, terminator, header } = self.dialect;
        let (quote, escape) = (quote.unwrap_or_default(), escape.map(Escape::byte));
        let mut out = format!("csv {delimiter} {quote} {escape:?} {header}{}", self.encoding.written_as());
        if !double_quote || terminator.is_some() || self.ends_with_return {
            out.push_str(&format!(" {double_quote} {terminator:?} {}", self.ends_with_return));
        }
        if !self.null.is_empty() || !matches!(self.quoting, QuoteStyle::Necessary) {
            out.push_str(&format!(" {} {:?}", self.null, self.quoting));
        }
        out
    }
}

fn dialect(args: &FormatArgs<'_>, of: &Args<'_>, problems: &mut Diagnostics) -> Dialect {
    let mut dialect = Dialect::default();
    match character(args, of, SEP, problems) {
        Some(Some(b'\n' | b'\r')) => {
            let node = of.node();
            problems
                .push(args.wrong(node, "`sep` is the end of a line; expected the character between two values of one"));
        }
        Some(Some(delimiter)) => dialect.delimiter = delimiter,
        Some(None) => {
            let node = of.node();
            problems.push(args.wrong(node, "`sep` must be one ASCII character: it is not guessed"));
        }
        None => {}
    }
    if let Some(quote) = character(args, of, QUOTE, problems) {
        dialect.quote = quote;
    }
    let spark = args.library == Library::Spark;
    let escape = character(args, of, ESCAPE, problems).unwrap_or(spark.then_some(b'\\'));
    // The word for quotes that are doubled.
    let doubles = escape.is_some() && escape == dialect.quote;
    dialect.double_quote = of.record().bool("doublequote").unwrap_or(doubles || !spark);
    dialect.escape = escape.filter(|_| !doubles).map(if spark { Escape::InQuotes } else { Escape::Anywhere });
    if spark && dialect.escape.is_none() {
        dialect.double_quote = true;
    }
    if of.record().text("lineterminator") != Some("\r\n") {
        dialect.terminator = character(args, of, TERMINATOR, problems).flatten();
    }
    dialect
}

/// The lines at the beginning that are not read, and the numbers of other rows that are not.
fn skipped(args: &FormatArgs<'_>, problems: &mut Diagnostics) -> (u64, BTreeSet<u64>) {
    let Some(node) = args.load.record().node("skiprows") else { return Default::default() };
    let number = |node: &Node| match node.value {
        Value::Int(number) => u64::try_from(number).ok(),
        _ => None,
    };
    let numbers = node.as_list().map(|list| list.iter().map(number).collect::<Option<BTreeSet<u64>>>());
    match (number(node), numbers, &node.value) {
        (Some(lines), ..) => (lines, BTreeSet::new()),
        (_, Some(Some(rows)), _) => (0, rows),
        (.., Value::Null | Value::Unresolved) => Default::default(),
        _ => {
            problems
                .push(args.wrong(node, "`skiprows` must be a number of lines, or a list of numbers of rows from 0"));
            Default::default()
        }
    }
}

fn columns(args: &FormatArgs<'_>, node: Option<&Node>, problems: &mut Diagnostics) -> Option<Vec<Selected>> {
    let node = node?;
    let list = node.as_list().unwrap_or(std::slice::from_ref(node));
    if matches!(node.value, Value::Null) {
        return None;
    }
    let mut out = Vec::new();
    for item in list {
        match &item.value {
            Value::Text(name) => out.push(Selected::Name(name.clone())),
            Value::Int(position) if *position >= 0 => {
                out.push(Selected::Position(usize::try_from(*position).unwrap_or(usize::MAX)));
            }
            _ => problems.push(args.wrong(item, "`usecols` must be names of columns, or positions from 0")),
        }
    }
    Some(out)
}
