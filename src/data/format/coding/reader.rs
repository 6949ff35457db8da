//! A file as text in UTF-8: decompressed and decoded as it is read.

use std::io::{self, BufRead, BufReader, Read};

use super::{
    Decoding,
    charset::{Charset, CharsetDecoder},
    compression::Compression,
};
use crate::data::{error::DataError, format::file::Input};

const BUFFER: usize = 1 << 17;

/// Text in UTF-8 (or what claims to be: its reader checks that).
pub(in crate::data::format) type TextReader = BufReader<Box<dyn Read + Send>>;

/// An error while text is read: of the file's content, or of the disk.
pub(in crate::data::format) fn text_error(shown: &str, format: &'static str, error: io::Error) -> DataError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            DataError::corrupt(shown, format, error.to_string())
        }
        _ => DataError::Io { path: shown.to_owned(), source: error },
    }
}

impl Input {
    /// Opens a file of text, after its byte order mark if it has one. `shown` names it in errors, and its end says how it is
    /// compressed where `decoding` does not.
    pub(in crate::data::format) fn open_text(
        &self,
        shown: &str,
        format: &'static str,
        decoding: Decoding,
    ) -> Result<TextReader, DataError> {
        let failed = |error| text_error(shown, format, error);
        let file = self.open(shown)?;
        let compression = decoding.compression.unwrap_or_else(|| Compression::of_name(file_name(shown)));
        let decompressed: Box<dyn Read + Send> = match compression {
            None => Box::new(file),
            Some(compression) => {
                let inner = compression.decoder(file).map_err(failed)?;
                Box::new(Decompressed { inner, name: compression.name() })
            }
        };
        let mut bytes = BufReader::with_capacity(BUFFER, decompressed);
        let start = bytes.fill_buf().map_err(failed)?;
        if let Some(message) = other_kind(start, decoding.charset, compression) {
            return Err(DataError::corrupt(shown, format, message));
        }
        let mark = decoding.charset.mark_in(start);
        let decoder = decoding.charset.decoder(start);
        bytes.consume(mark);
        if decoding.charset.is_utf8() {
            return Ok(bytes);
        }
        let decoded = Decoded {
            bytes,
            decoder,
            name: decoding.charset.name(),
            text: String::new(),
            at: 0,
            line: 1,
            failed: false,
            ended: false,
        };
        Ok(BufReader::with_capacity(BUFFER, Box::new(decoded)))
    }
}

/// The last part of a path or of a URL without its query.
fn file_name(shown: &str) -> &str {
    let path = if shown.starts_with("http") { shown.split(['?', '#']).next().unwrap_or(shown) } else { shown };
    path.rsplit('/').next().unwrap_or(path)
}

/// A file that begins like one of another kind, in words, with the option that reads it.
fn other_kind(start: &[u8], charset: Charset, compression: Option<Compression>) -> Option<String> {
    let is = |magic: &[u8]| start.starts_with(magic);
    if compression.is_none() {
        let found = [(&b"\x1f\x8b"[..], "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh91AY&SY", "bz2")];
        if let Some((_, name)) = found.into_iter().find(|(magic, _)| is(magic)) {
            return Some(format!("it is compressed; read it with `load_args: {{compression: {name}}}`"));
        }
        if is(b"PK\x03\x04") || is(b"\xfd7zXZ\0") {
            return Some("it is compressed as zip or xz, which is not supported; use gzip, zstd or bz2".to_owned());
        }
    }
    if charset.is_utf8() && (is(b"\xff\xfe") || is(b"\xfe\xff")) {
        return Some("it is not in UTF-8; read it with `load_args: {encoding: utf-16}`".to_owned());
    }
    None
}

/// The content of a compressed file; errors say so.
struct Decompressed {
    inner: Box<dyn Read + Send>,
    name: &'static str,
}

impl Read for Decompressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| match error.kind() {
            // Decoders say `Other` of what is damaged.
            io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::Other => {
                let message = format!("it is truncated, or not compressed with {}: {error}", self.name);
                io::Error::new(io::ErrorKind::InvalidData, message)
            }
            _ => error,
        })
    }
}

/// Text of another encoding as UTF-8.
struct Decoded {
    bytes: BufReader<Box<dyn Read + Send>>,
    decoder: CharsetDecoder,
    name: &'static str,
    /// Decoded and not yet given out from `at` on.
    text: String,
    at: usize,
    /// The line at which `text` ends.
    line: usize,
    failed: bool,
    ended: bool,
}

impl Decoded {
    fn fill(&mut self) -> io::Result<()> {
        self.text.clear();
        self.at = 0;
        let bytes = self.bytes.fill_buf()?;
        self.ended = bytes.is_empty();
        match self.decoder.decode(bytes, self.ended, &mut self.text) {
            Ok(read) => self.bytes.consume(read),
            Err(()) => self.failed = true,
        }
        self.line += self.text.bytes().filter(|&byte| byte == b'\n').count();
        Ok(())
    }
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.text.len() {
            if self.failed {
                let message = format!("line {}: it holds bytes that are not text in {}", self.line, self.name);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            if self.ended {
                return Ok(0);
            }
            self.fill()?;
        }
        let rest = &self.text.as_bytes()[self.at..];
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.at += taken;
        Ok(taken)
    }
}
