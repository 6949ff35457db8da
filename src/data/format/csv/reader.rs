//! Rows of a CSV file as batches of text, with the line of everything that is wrong.

use std::{
    collections::HashSet,
    io::{Read as _, Seek as _, SeekFrom},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder},
    datatypes::SchemaRef,
};
use csv::{ByteRecord, ErrorKind, Position, Reader, ReaderBuilder};

use super::{
    dialect::{Dialect, NAME},
    infer::Guess,
};
use crate::data::{
    error::DataError,
    format::{
        exact::{text_schema, typed},
        file::{BATCH_ROWS, Input, ReadSeek},
    },
};

/// A batch ends at this many bytes of text, or values, however few rows it has.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_VALUES: usize = 1 << 20;

type Source = std::io::BufReader<Box<dyn ReadSeek>>;

/// A CSV file being read.
pub(super) struct CsvRows {
    reader: Reader<Source>,
    record: ByteRecord,
    /// The names of the columns.
    names: Vec<String>,
    /// The first record, where it is a row and was read for its width.
    first: Option<ByteRecord>,
    /// Where the last record begins.
    last: Option<Position>,
    dialect: Dialect,
    shown: String,
}

impl CsvRows {
    /// Opens a file and reads its header.
    pub(super) fn open(dialect: Dialect, input: &Input, shown: &str) -> Result<Self, DataError> {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .delimiter(dialect.delimiter)
            .quote(dialect.quote)
            .escape(dialect.escape)
            .double_quote(dialect.escape.is_none())
            .buffer_capacity(1 << 17)
            .from_reader(input.open_text(shown)?);
        let mut rows = Self {
            reader,
            record: ByteRecord::new(),
            names: Vec::new(),
            first: None,
            last: None,
            dialect,
            shown: shown.to_owned(),
        };
        let is_row = rows.read()?;
        let first = std::mem::take(&mut rows.record);
        if !dialect.header {
            rows.names = (1..=first.len()).map(|column| format!("column_{column}")).collect();
            rows.first = is_row.then_some(first);
            return Ok(rows);
        }
        for (column, name) in first.iter().enumerate() {
            let name = std::str::from_utf8(name).ok().filter(|name| !name.contains('\0'));
            let message =
                || format!("the name of column {} holds NUL bytes or is not UTF-8; expected text in UTF-8", column + 1);
            rows.names.push(name.ok_or_else(|| rows.corrupt(message()))?.to_owned());
        }
        let mut seen = HashSet::new();
        if let Some(name) = rows.names.iter().find(|name| !seen.insert(name.as_str())) {
            let message = format!("two columns have the name `{name}`; give each a name of its own");
            return Err(rows.corrupt(message));
        }
        Ok(rows)
    }

    /// The names of the columns.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// What the first `rows` rows hold, column by column.
    pub(super) fn sample(mut self, rows: usize) -> Result<Vec<Guess>, DataError> {
        let mut guesses = vec![Guess::default(); self.names.len()];
        for _ in 0..rows {
            if !self.next_row()? {
                break;
            }
            for (column, guess) in guesses.iter_mut().enumerate() {
                guess.update(self.text(column)?);
            }
        }
        Ok(guesses)
    }

    /// All rows, each value cast to its column's type without loss.
    pub(super) fn batches(self, schema: SchemaRef) -> Batches {
        Batches { rows: self, text: text_schema(&schema), schema, lines: Vec::new(), done: false }
    }

    /// Moves to the next row; false at the end of the file.
    fn next_row(&mut self) -> Result<bool, DataError> {
        if let Some(first) = self.first.take() {
            self.record = first;
            return Ok(true);
        }
        self.read()
    }

    fn read(&mut self) -> Result<bool, DataError> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {
                self.last = self.record.position().cloned();
                Ok(true)
            }
            Ok(false) => self.check_end().map(|()| false),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// One value of the row.
    fn text(&self, column: usize) -> Result<&str, DataError> {
        let value = self.record.get(column).unwrap_or_default();
        std::str::from_utf8(value).map_err(|_| {
            let line = self.line();
            let name = &self.names[column];
            self.corrupt(format!("line {line}: column `{name}` is not text in UTF-8"))
        })
    }

    /// The line at which the current record begins.
    fn line(&self) -> u64 {
        let start = self.record.position().map_or(0, Position::line);
        if self.record.as_slice().contains(&b'\n') {
            return start;
        }
        // Blank lines before a record count as its start, so a record of one line is found by its end.
        let end = self.reader.position().line();
        if self.reader.is_done() { end } else { start.max(end.saturating_sub(1)) }
    }

    /// Refuses a file whose last row has a quote that is never closed: that row holds everything after the quote.
    fn check_end(&mut self) -> Result<(), DataError> {
        let Some(last) = self.last.clone() else { return Ok(()) };
        let length = self.reader.position().byte() - last.byte();
        let dialect = self.dialect;
        let open = (|| {
            let source = self.reader.get_mut();
            // Positions count from behind a byte order mark, so from the end.
            let end = source.stream_position()?;
            source.seek(SeekFrom::Start(end - length))?;
            let mut quotes = Quotes { dialect, line: last.line(), state: State::FieldStart };
            let mut buffer = vec![0; 1 << 16];
            loop {
                let read = source.read(&mut buffer)?;
                if read == 0 {
                    return Ok(quotes.open());
                }
                buffer[..read].iter().for_each(|&byte| quotes.next(byte));
            }
        })();
        match open.map_err(|source| DataError::Io { path: self.shown.clone(), source })? {
            Some(line) => {
                Err(self.corrupt(format!("line {line}: a quote is opened and not closed before the end of the file")))
            }
            None => Ok(()),
        }
    }

    fn failed(&self, error: csv::Error) -> DataError {
        match error.into_kind() {
            ErrorKind::Io(source) => DataError::Io { path: self.shown.clone(), source },
            ErrorKind::UnequalLengths { pos: _, expected_len, len } => {
                let line = self.line();
                self.corrupt(format!("line {line}: expected {expected_len} values, found {len}"))
            }
            other => self.corrupt(format!("{other:?}")),
        }
    }

    fn corrupt(&self, message: String) -> DataError {
        DataError::corrupt(&self.shown, NAME, message)
    }
}

/// Batches of rows.
pub(super) struct Batches {
    rows: CsvRows,
    text: SchemaRef,
    schema: SchemaRef,
    /// The lines at which the rows of the current batch begin.
    lines: Vec<u64>,
    done: bool,
}

impl Batches {
    fn read(&mut self) -> Result<Option<RecordBatch>, DataError> {
        let width = self.schema.fields().len();
        // What a builder reserves at first is small: there may be thousands of columns.
        let mut columns: Vec<_> = (0..width).map(|_| StringBuilder::with_capacity(0, 0)).collect();
        let mut bytes = 0;
        self.lines.clear();
        while self.lines.len() < BATCH_ROWS && bytes < BATCH_BYTES && self.lines.len() * width < BATCH_VALUES {
            if !self.rows.next_row()? {
                self.done = true;
                break;
            }
            for (column, builder) in columns.iter_mut().enumerate() {
                match self.rows.text(column)? {
                    "" => builder.append_null(),
                    text => builder.append_value(text),
                }
            }
            bytes += self.rows.record.as_slice().len();
            self.lines.push(self.rows.line());
        }
        if self.lines.is_empty() {
            return Ok(None);
        }
        let columns = columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.lines.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.text), columns, &options)?;
        typed(&batch, &self.schema)?.map(Some).map_err(|inexact| {
            let line = self.lines.get(inexact.row).copied().unwrap_or_default();
            self.rows.corrupt(format!("line {line}: {inexact}"))
        })
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let batch = self.read();
        self.done |= batch.is_err();
        batch.transpose()
    }
}

/// Follows the quotes of a file, byte by byte.
struct Quotes {
    dialect: Dialect,
    line: u64,
    state: State,
}

enum State {
    FieldStart,
    Unquoted,
    /// In quotes that were opened at this line.
    Quoted(u64),
    /// After an escape character in quotes that were opened at this line.
    Escaped(u64),
    /// After a quote in quotes: the end, or the first of two that stand for one.
    AfterQuote(u64),
}

impl Quotes {
    fn next(&mut self, byte: u8) {
        let Dialect { delimiter, quote, escape, header: _ } = self.dialect;
        let ends_field = byte == delimiter || matches!(byte, b'\n' | b'\r');
        self.state = match self.state {
            State::FieldStart if byte == quote => State::Quoted(self.line),
            State::Quoted(line) if Some(byte) == escape => State::Escaped(line),
            State::Quoted(line) if byte == quote => State::AfterQuote(line),
            State::Quoted(line) | State::Escaped(line) => State::Quoted(line),
            State::AfterQuote(line) if byte == quote && escape.is_none() => State::Quoted(line),
            _ if ends_field => State::FieldStart,
            _ => State::Unquoted,
        };
        self.line += u64::from(byte == b'\n');
    }

    /// The line of a quote that is open.
    fn open(&self) -> Option<u64> {
        match self.state {
            State::Quoted(line) | State::Escaped(line) => Some(line),
            _ => None,
        }
    }
}
