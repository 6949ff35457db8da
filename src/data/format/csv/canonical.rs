//! CSV of any dialect as CSV of one: values between commas, quotes doubled, a line a record.
//!
//! What the reader of records cannot be told is understood here: escape characters, comments, lines that are left out, and
//! other ends of lines. Lines keep their numbers: one that is not read becomes an empty one.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, Read},
    sync::Arc,
};

use super::dialect::{Comment, Dialect, Escape};
use crate::data::format::file::{ROW_BYTES, too_long};

/// So much is made ready at once.
const CHUNK: usize = 1 << 16;

/// The dialect of what comes out.
pub(super) const CANONICAL: Dialect =
    Dialect { delimiter: b',', quote: Some(b'"'), escape: None, double_quote: true, terminator: None, header: true };

/// Which records are left out, and what comments are.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LeftOut {
    /// The numbers of records, from 0.
    pub(super) records: Arc<BTreeSet<u64>>,
    pub(super) comment: Option<Comment>,
}

/// CSV being turned into [`CANONICAL`].
pub(super) struct Canonical<R> {
    source: R,
    dialect: Dialect,
    left_out: LeftOut,
    /// Made ready, and not yet given out from `at` on.
    out: Vec<u8>,
    at: usize,
    field: Vec<u8>,
    quoted: bool,
    state: State,
    line: u64,
    record: u64,
    /// After a carriage return that ended a record.
    after_return: bool,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    RecordStart,
    FieldStart,
    Unquoted,
    /// After an escape character outside of quotes.
    Escaped,
    /// In quotes that were opened at this line.
    Quoted(u64),
    /// After an escape character in such quotes.
    QuotedEscaped(u64),
    /// After a quote in quotes: the end, or the first of two that stand for one.
    AfterQuote(u64),
    /// To the end of the line.
    Comment,
    /// In a record that is left out, the same three.
    SkippedStart,
    Skipped,
    SkippedQuoted(u64),
}

impl<R: BufRead> Canonical<R> {
    /// Reads `source`, which begins at line `line`.
    pub(super) fn new(source: R, dialect: Dialect, left_out: LeftOut) -> Self {
        Self {
            source,
            dialect,
            left_out,
            out: Vec::with_capacity(CHUNK + CHUNK / 4),
            at: 0,
            field: Vec::new(),
            quoted: false,
            state: State::RecordStart,
            line: 1,
            record: 0,
            after_return: false,
            ended: false,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.out.clear();
        self.at = 0;
        while self.out.len() < CHUNK && !self.ended {
            let bytes = self.source.fill_buf()?;
            let read = bytes.len().min(CHUNK);
            if read == 0 {
                self.ended = true;
                self.end()?;
                break;
            }
            // The source is borrowed while its bytes are.
            let chunk = bytes[..read].to_vec();
            self.source.consume(read);
            for byte in chunk {
                self.next(byte)?;
            }
            if self.field.len() > ROW_BYTES {
                let line = match self.state {
                    State::Quoted(line) | State::QuotedEscaped(line) => line,
                    _ => self.line,
                };
                let message = format!("line {line}: {}: is a quote opened and never closed?", too_long("a value"));
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        Ok(())
    }

    fn next(&mut self, byte: u8) -> io::Result<()> {
        if std::mem::take(&mut self.after_return) && byte == b'\n' {
            return Ok(());
        }
        let Dialect { delimiter, quote, escape, double_quote, .. } = self.dialect;
        let is_quote = Some(byte) == quote;
        let is_escape = escape.is_some_and(|escape| escape.byte() == byte);
        let ends_record = match self.dialect.terminator {
            Some(terminator) => byte == terminator,
            None => matches!(byte, b'\n' | b'\r'),
        };
        let is_comment = |place: fn(Comment) -> Option<u8>| self.left_out.comment.and_then(place) == Some(byte);
        match self.state {
            State::RecordStart if self.left_out.records.contains(&self.record) => {
                self.state = State::SkippedStart;
                return self.next(byte);
            }
            State::RecordStart if is_comment(Comment::of_line) => self.state = State::Comment,
            State::RecordStart if ends_record => self.end_record(byte),
            State::RecordStart | State::FieldStart if is_quote => {
                self.quoted = true;
                self.state = State::Quoted(self.line);
            }
            State::RecordStart | State::FieldStart | State::Unquoted => {
                if byte == delimiter {
                    self.end_field();
                    self.out.push(CANONICAL.delimiter);
                    self.state = State::FieldStart;
                } else if ends_record {
                    self.end_field();
                    self.end_record(byte);
                } else if is_comment(Comment::anywhere) {
                    self.end_field();
                    self.state = State::Comment;
                } else if is_escape && escape.is_some_and(Escape::is_anywhere) {
                    self.state = State::Escaped;
                } else {
                    self.field.push(byte);
                    self.state = State::Unquoted;
                }
            }
            State::Escaped => {
                self.keep(byte);
                self.state = State::Unquoted;
            }
            State::Quoted(line) if is_escape => self.state = State::QuotedEscaped(line),
            State::Quoted(line) if is_quote => self.state = State::AfterQuote(line),
            State::Quoted(_) => self.keep(byte),
            State::QuotedEscaped(line) => {
                if let Some(Escape::InQuotes(escape)) = escape
                    && !is_quote
                    && byte != escape
                {
                    self.field.push(escape);
                }
                self.keep(byte);
                self.state = State::Quoted(line);
            }
            State::AfterQuote(line) if is_quote && double_quote => {
                self.field.push(byte);
                self.state = State::Quoted(line);
            }
            State::AfterQuote(_) if byte == delimiter || ends_record => {
                self.state = State::Unquoted;
                return self.next(byte);
            }
            State::AfterQuote(line) => {
                if matches!(escape, Some(Escape::InQuotes(_))) {
                    let message = format!(
                        "line {line}: a value goes on behind its closing quote; Spark writes a quote inside of a value as `\\\"`: \
                         if quotes are doubled here, say `load_args: {{escape: '\"'}}`"
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                self.keep(byte);
                self.state = State::Unquoted;
            }
            State::Comment if ends_record => self.end_record(byte),
            State::Comment => {}
            State::SkippedStart if is_quote => self.state = State::SkippedQuoted(self.line),
            State::SkippedStart | State::Skipped if ends_record => self.end_record(byte),
            State::SkippedStart | State::Skipped if byte == delimiter => self.state = State::SkippedStart,
            State::SkippedStart | State::Skipped => self.state = State::Skipped,
            State::SkippedQuoted(_) if is_quote => self.state = State::Skipped,
            State::SkippedQuoted(_) => {
                if byte == b'\n' {
                    self.line += 1;
                    self.out.push(b'\n');
                }
            }
        }
        Ok(())
    }

    /// A byte of a value.
    fn keep(&mut self, byte: u8) {
        self.line += u64::from(byte == b'\n');
        self.field.push(byte);
    }

    fn end_field(&mut self) {
        let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
        if std::mem::take(&mut self.quoted) || self.field.iter().any(special) {
            self.out.push(b'"');
            for &byte in &self.field {
                if byte == b'"' {
                    self.out.push(b'"');
                }
                self.out.push(byte);
            }
            self.out.push(b'"');
        } else {
            self.out.extend_from_slice(&self.field);
        }
        self.field.clear();
    }

    fn end_record(&mut self, byte: u8) {
        self.out.push(b'\n');
        self.after_return = byte == b'\r' && self.dialect.terminator.is_none();
        self.line += 1;
        self.record += 1;
        self.state = State::RecordStart;
    }

    fn end(&mut self) -> io::Result<()> {
        let open = |line: u64, what: &str| {
            let message = format!("line {line}: {what} before the end of the file");
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        };
        match self.state {
            State::Quoted(line) | State::QuotedEscaped(line) | State::SkippedQuoted(line) => {
                return open(line, "a quote is opened and not closed");
            }
            State::Escaped => return open(self.line, "nothing follows an escape character"),
            State::FieldStart | State::Unquoted | State::AfterQuote(_) => {
                self.end_field();
                self.out.push(b'\n');
            }
            State::RecordStart | State::Comment | State::SkippedStart | State::Skipped => {}
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Canonical<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.out.len() {
            if self.ended {
                return Ok(0);
            }
            self.fill()?;
        }
        let rest = &self.out[self.at..];
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANDAS: Dialect = Dialect { escape: Some(Escape::Anywhere(b'\\')), ..CANONICAL };
    const SPARK: Dialect = Dialect { escape: Some(Escape::InQuotes(b'\\')), double_quote: false, ..CANONICAL };

    fn canonical(text: &str, dialect: Dialect, left_out: &LeftOut) -> Result<String, String> {
        let mut out = Vec::new();
        // A few bytes at a time.
        let source = io::BufReader::with_capacity(3, text.as_bytes());
        let mut reader = Canonical::new(source, dialect, left_out.clone());
        reader.read_to_end(&mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn escapes_are_those_of_their_library() {
        // As pandas 3.1 and Spark 4.0 read them.
        for (dialect, text, expected) in [
            (PANDAS, "\"x\\\"y\",1", "\"x\"\"y\",1\n"),
            (PANDAS, "\"x\"\"y\",1\r\n", "\"x\"\"y\",1\n"),
            (PANDAS, "x\\,y,1\n", "\"x,y\",1\n"),
            (PANDAS, "x\\\\y,1\n", "x\\y,1\n"),
            (PANDAS, "\"x\\ny\",x\\ny\n", "\"xny\",xny\n"),
            (Dialect { double_quote: false, ..CANONICAL }, "\"x\"\"y\",1\n", "\"x\"\"y\"\"\",1\n"),
            (SPARK, "\"a\\\"b\",1\n", "\"a\"\"b\",1\n"),
            (SPARK, "\"a\\nb\",a\\\"b\n", "\"a\\nb\",\"a\\\"\"b\"\n"),
            (SPARK, "\"a\\\\\",a\\\\b\n", "\"a\\\",a\\\\b\n"),
            (SPARK, "\"\",\"\n\"\n", "\"\",\"\n\"\n"),
            (Dialect { terminator: Some(b';'), ..CANONICAL }, "a,b;1,\"2\n\";", "a,b\n1,\"2\n\"\n"),
            (Dialect { delimiter: b'|', quote: Some(b'\''), ..CANONICAL }, "'a|''b'|\"\r", "\"a|'b\",\"\"\"\"\n"),
            (Dialect { quote: None, escape: Some(Escape::Anywhere(b'\\')), ..CANONICAL }, "a\\,\"b", "\"a,\"\"b\"\n"),
        ] {
            assert_eq!(canonical(text, dialect, &LeftOut::default()).as_deref(), Ok(expected), "{text}");
        }
        for (dialect, text, expected) in [
            (SPARK, "a\n\"a\"\"b\"\n", "line 2: a value goes on behind its closing quote"),
            (SPARK, "a\n\n\"a\\\"\n", "line 3: a quote is opened and not closed"),
            (PANDAS, "a\nb\\", "line 2: nothing follows an escape character"),
        ] {
            let error = canonical(text, dialect, &LeftOut::default()).expect_err(text);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_value_without_an_end_is_an_error_before_it_fills_the_memory() {
        let endless = io::BufReader::new(b"a,b\n1,\"".chain(io::repeat(b'x')));
        let error = io::copy(&mut Canonical::new(endless, PANDAS, LeftOut::default()), &mut io::sink());
        let error = error.expect_err("no end").to_string();
        assert!(error.starts_with("line 2: a value of more than 64 MiB"), "{error}");
    }

    #[test]
    fn what_is_left_out_keeps_the_numbers_of_lines() {
        let out = |text, records: &[u64], comment| {
            let records = Arc::new(records.iter().copied().collect());
            canonical(text, CANONICAL, &LeftOut { records, comment }).expect("CSV")
        };
        let (anywhere, lines) = (Some(Comment::Anywhere(b'#')), Some(Comment::Line(b'#')));
        for (text, records, comment, expected) in [
            ("#c\na,b\n1,2#x\n\"3#\",4\n#z\n5,6\n", &[][..], anywhere, "\na,b\n1,2\n\"3#\",4\n\n5,6\n"),
            ("\"x\"#y,2\n", &[], anywhere, "\"x#y\",2\n"),
            ("#c\na#b,1\n #d\n", &[], lines, "\na#b,1\n #d\n"),
            ("a,b\n1,2\n3,4\n", &[1], None, "a,b\n\n3,4\n"),
            ("a\n\"1\n2\"\n3\n4\n", &[2], None, "a\n\"1\n2\"\n\n4\n"),
            ("a\n\"1\nq\"\n3\n", &[1], None, "a\n\n\n3\n"),
            ("x\"y\na\n", &[0], None, "\na\n"),
        ] {
            assert_eq!(out(text, records, comment), expected, "{text}");
        }
    }
}
