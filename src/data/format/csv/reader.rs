//! Rows of a CSV file as batches of text, with the line of everything that is wrong.

use std::{
    collections::HashSet,
    io::{self, BufRead as _, Read},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder},
    datatypes::SchemaRef,
};
use csv::{ByteRecord, ErrorKind, Position, Reader, ReaderBuilder};

use super::{
    canonical::{CANONICAL, Canonical, LeftOut},
    dialect::{Dialect, NAME},
    infer::Guess,
    options::{CsvRead, Selected},
};
use crate::data::{
    error::DataError,
    format::{
        coding::text_error,
        exact::{text_schema, typed},
        file::{BATCH_BYTES, BATCH_ROWS, Input, ROW_BYTES, too_long},
    },
};

/// A batch ends at this many values, however few rows it has.
const BATCH_VALUES: usize = 1 << 20;

/// So many bytes in front of the reader's place are held.
const TAIL: usize = 1 << 16;

/// Text that is being read, and the last of what was.
struct Source {
    text: Text,
    tail: Vec<u8>,
    /// So many bytes may still be read for the current record.
    left: usize,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let read = self.text.read(buffer)?;
        self.left = self.left.saturating_sub(read);
        let new = &buffer[read.saturating_sub(TAIL)..read];
        let keep = TAIL - new.len();
        self.tail.drain(..self.tail.len().saturating_sub(keep));
        self.tail.extend_from_slice(new);
        Ok(read)
    }
}

type Text = Box<dyn Read + Send>;

/// Opens a file behind the lines that are skipped. It is in the dialect of the reader of records.
fn open(options: &CsvRead, input: &Input, shown: &str) -> Result<Text, DataError> {
    let mut text = input.open_text(shown, NAME, options.decoding)?;
    for _ in 0..options.skip {
        if text.skip_until(b'\n').map_err(|error| text_error(shown, NAME, error))? == 0 {
            break;
        }
    }
    if is_usual(options) {
        Ok(Box::new(text))
    } else {
        Ok(Box::new(Canonical::new(text, options.dialect, options.left_out.clone())))
    }
}

fn is_usual(options: &CsvRead) -> bool {
    options.left_out == LeftOut::default() && !options.dialect.is_unusual()
}

/// A CSV file being read.
pub(super) struct CsvRows {
    reader: Reader<Source>,
    record: ByteRecord,
    /// The names of the columns that are read.
    names: Vec<String>,
    /// Where they are in a row.
    positions: Vec<usize>,
    /// How many values a row has.
    width: usize,
    /// The first record, where it is a row and was read for its width.
    first: Option<ByteRecord>,
    /// Where the last record begins.
    last: Option<Position>,
    /// That of `reader`.
    dialect: Dialect,
    options: CsvRead,
    input: Input,
    shown: String,
    /// Rows that may still be read.
    left: usize,
}

impl CsvRows {
    /// Opens a file and reads its header.
    pub(super) fn open(options: &CsvRead, input: &Input, shown: &str) -> Result<Self, DataError> {
        let dialect = if is_usual(options) { options.dialect } else { CANONICAL };
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .delimiter(dialect.delimiter)
            .quoting(dialect.quote.is_some())
            .quote(dialect.quote.unwrap_or(b'"'))
            .buffer_capacity(1 << 17)
            .from_reader(Source { text: open(options, input, shown)?, tail: Vec::new(), left: ROW_BYTES });
        let mut rows = Self {
            reader,
            record: ByteRecord::new(),
            names: Vec::new(),
            positions: Vec::new(),
            width: 0,
            first: None,
            last: None,
            dialect,
            options: options.clone(),
            input: input.clone(),
            shown: shown.to_owned(),
            left: options.rows,
        };
        let is_row = rows.read()?;
        let first = std::mem::take(&mut rows.record);
        rows.width = first.len();
        let mut names = Vec::with_capacity(first.len());
        if options.dialect.header {
            for (column, name) in first.iter().enumerate() {
                let name = std::str::from_utf8(name).ok().filter(|name| !name.contains('\0'));
                let message = || {
                    format!("the name of column {} holds NUL bytes or is not UTF-8; expected text in UTF-8", column + 1)
                };
                names.push(name.ok_or_else(|| rows.corrupt(message()))?.to_owned());
            }
        } else {
            let (prefix, from) = options.numbered;
            names.extend((from..from + first.len()).map(|column| format!("{prefix}{column}")));
            rows.first = is_row.then_some(first);
        }
        if let Some(given) = &options.names {
            if is_row && given.len() != rows.width {
                let message = format!("`load_args` has {} `names`, and a row has {} values", given.len(), rows.width);
                return Err(rows.corrupt(message));
            }
            names.clone_from(given);
        }
        let mut seen = HashSet::new();
        if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
            let message = format!("two columns have the name `{name}`; give each a name of its own");
            return Err(rows.corrupt(message));
        }
        rows.select(names)?;
        Ok(rows)
    }

    /// Keeps the columns that are asked for, in the order of the file.
    fn select(&mut self, names: Vec<String>) -> Result<(), DataError> {
        let Some(selected) = &self.options.columns else {
            self.positions = (0..names.len()).collect();
            self.names = names;
            return Ok(());
        };
        let mut positions = Vec::with_capacity(selected.len());
        for column in selected {
            let found = match column {
                Selected::Name(name) => names.iter().position(|known| known == name),
                Selected::Position(position) => Some(*position).filter(|position| *position < names.len()),
            };
            let Some(position) = found else {
                let wanted = match column {
                    Selected::Name(name) => name.clone(),
                    Selected::Position(position) => position.to_string(),
                };
                let message =
                    format!("it has no column `{wanted}`, which `usecols` asks for; it has {}", names.join(", "));
                return Err(self.corrupt(message));
            };
            positions.push(position);
        }
        positions.sort_unstable();
        positions.dedup();
        self.names = positions.iter().map(|&position| names[position].clone()).collect();
        self.positions = positions;
        Ok(())
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
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        if let Some(first) = self.first.take() {
            self.record = first;
            return Ok(true);
        }
        self.read()
    }

    fn read(&mut self) -> Result<bool, DataError> {
        self.reader.get_mut().left = ROW_BYTES;
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {
                self.last = self.record.position().cloned();
                Ok(true)
            }
            Ok(false) => self.check_end().map(|()| false),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// One value of the row; the empty one for null.
    fn text(&self, column: usize) -> Result<&str, DataError> {
        let value = self.record.get(self.positions[column]).unwrap_or_default();
        let text = std::str::from_utf8(value).map_err(|_| {
            let line = self.line();
            let name = &self.names[column];
            self.corrupt(format!(
                "line {line}: column `{name}` is not text in UTF-8; say `load_args: {{encoding: …}}` if it is in another encoding"
            ))
        })?;
        Ok(if self.options.nulls.iter().any(|null| null == text) { "" } else { text })
    }

    /// The line at which the current record begins.
    fn line(&self) -> u64 {
        self.options.skip + self.line_behind_skipped()
    }

    fn line_behind_skipped(&self) -> u64 {
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
        let mut quotes = Quotes { dialect: self.dialect, line: last.line(), state: State::FieldStart };
        let length = self.reader.position().byte() - last.byte();
        let tail = &self.reader.get_ref().tail;
        match usize::try_from(length).ok().and_then(|length| tail.len().checked_sub(length)) {
            Some(start) => tail[start..].iter().for_each(|&byte| quotes.next(byte)),
            None => {
                let failed = |error| text_error(&self.shown, NAME, error);
                let mut text = open(&self.options, &self.input, &self.shown)?;
                io::copy(&mut text.by_ref().take(last.byte()), &mut io::sink()).map_err(failed)?;
                let mut buffer = vec![0; TAIL];
                loop {
                    let read = text.read(&mut buffer).map_err(failed)?;
                    if read == 0 {
                        break;
                    }
                    buffer[..read].iter().for_each(|&byte| quotes.next(byte));
                }
            }
        }
        match quotes.open() {
            Some(line) => {
                let line = line + self.options.skip;
                Err(self.corrupt(format!("line {line}: a quote is opened and not closed before the end of the file")))
            }
            None => Ok(()),
        }
    }

    fn failed(&self, error: csv::Error) -> DataError {
        match error.into_kind() {
            ErrorKind::Io(_) if self.reader.get_ref().left == 0 => {
                let (line, row) = (self.line(), too_long("a row"));
                self.corrupt(format!("line {line}: {row}: is a quote opened in it and never closed?"))
            }
            ErrorKind::Io(error) => text_error(&self.shown, NAME, error),
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
    /// After a quote in quotes: the end, or the first of two that stand for one.
    AfterQuote(u64),
}

impl Quotes {
    fn next(&mut self, byte: u8) {
        let Dialect { delimiter, quote, .. } = self.dialect;
        let ends_field = byte == delimiter || matches!(byte, b'\n' | b'\r');
        self.state = match self.state {
            State::FieldStart if Some(byte) == quote => State::Quoted(self.line),
            State::Quoted(line) if Some(byte) == quote => State::AfterQuote(line),
            State::Quoted(line) => State::Quoted(line),
            State::AfterQuote(line) if Some(byte) == quote => State::Quoted(line),
            _ if ends_field => State::FieldStart,
            _ => State::Unquoted,
        };
        self.line += u64::from(byte == b'\n');
    }

    /// The line of a quote that is open.
    fn open(&self) -> Option<u64> {
        match self.state {
            State::Quoted(line) => Some(line),
            _ => None,
        }
    }
}
