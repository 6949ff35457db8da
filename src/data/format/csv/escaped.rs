//! CSV whose quotes are doubled, as CSV with an escape character: what is written for readers that expect one.

use std::io::{self, Write};

use super::dialect::{Dialect, Escape};
use crate::data::format::coding::TextWriter;

/// Passes CSV on to `inner`, with an escape character where the dialect has one.
pub(super) struct Escaped {
    inner: TextWriter,
    dialect: Dialect,
    state: State,
    out: Vec<u8>,
}

#[derive(Clone, Copy)]
enum State {
    Outside,
    Quoted,
    /// After a quote in quotes: their end, or the first of two.
    AfterQuote,
}

impl Escaped {
    pub(super) fn new(inner: TextWriter, dialect: Dialect) -> Self {
        Self { inner, dialect, state: State::Outside, out: Vec::new() }
    }

    pub(super) fn into_inner(self) -> TextWriter {
        self.inner
    }
}

/// What stands for `bytes` in `dialect`, added to `out`.
fn escaped(bytes: &[u8], dialect: Dialect, mut state: State, out: &mut Vec<u8>) -> State {
    let Some((quote, escape)) = dialect.quote.zip(dialect.escape) else {
        out.extend_from_slice(bytes);
        return state;
    };
    for &byte in bytes {
        let is_quote = byte == quote;
        match state {
            State::AfterQuote if is_quote => {
                out.push(if dialect.double_quote { quote } else { escape.byte() });
                out.push(quote);
                state = State::Quoted;
                continue;
            }
            State::AfterQuote => {
                out.push(quote);
                state = State::Outside;
            }
            State::Outside | State::Quoted => {}
        }
        match state {
            State::Quoted if is_quote => state = State::AfterQuote,
            _ => {
                // Outside of quotes there is one only in front of a value.
                if is_quote {
                    state = State::Quoted;
                }
                let meant = matches!(state, State::Quoted) || matches!(escape, Escape::Anywhere(_));
                if byte == escape.byte() && meant {
                    out.push(byte);
                }
                out.push(byte);
            }
        }
    }
    state
}

impl Write for Escaped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.dialect.escape.is_none() {
            return self.inner.write(bytes);
        }
        self.out.clear();
        self.state = escaped(bytes, self.dialect, self.state, &mut self.out);
        self.inner.write_all(&self.out)?;
        Ok(bytes.len())
    }

    /// A quote whose meaning the next byte decides is not yet passed on: a record ends behind it.
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_their_library() {
        // As pandas 3.1 and Spark 4.0 write them, but that pandas leaves out quotes that it does not need.
        let pandas = Dialect { escape: Some(Escape::Anywhere(b'\\')), ..Dialect::default() };
        let spark = Dialect { escape: Some(Escape::InQuotes(b'\\')), double_quote: false, ..Dialect::default() };
        for (dialect, text, expected) in [
            (pandas, "\"x\"\"y\",x\\y\n", "\"x\"\"y\",x\\\\y\n"),
            (Dialect { double_quote: false, ..pandas }, "\"x\"\"y\",\"\"\n", "\"x\\\"y\",\"\"\n"),
            (spark, "\"say \"\"hi\"\"\",back\\slash\n", "\"say \\\"hi\\\"\",back\\slash\n"),
            (spark, "\"ends, \\\"\n", "\"ends, \\\\\"\n"),
            (spark, "\"\"\"\"\n", "\"\\\"\"\n"),
            (spark, "\"\\\"\"x\"\n", "\"\\\\\\\"x\"\n"),
        ] {
            for size in [1, 3, 100] {
                let (mut out, mut state) = (Vec::new(), State::Outside);
                for part in text.as_bytes().chunks(size) {
                    state = escaped(part, dialect, state, &mut out);
                }
                assert_eq!(String::from_utf8(out).expect("UTF-8"), expected, "{text}");
            }
        }
    }
}
