//! Text in UTF-8 as the bytes of a file: encoded and compressed as it is written.

use std::io::{self, Write};

use super::{Encoding, compression::Compressor};
use crate::data::{error::DataError, spooled_file::SpooledFile};

/// A file of text being written.
pub(in crate::data::format) struct TextWriter {
    encoding: Encoding,
    inner: Compressor,
    /// The beginning of a character that was written in two pieces.
    partial: Vec<u8>,
    encoded: Vec<u8>,
}

impl TextWriter {
    /// Begins a file.
    pub(in crate::data::format) fn new(encoding: Encoding, sink: SpooledFile) -> Result<Self, DataError> {
        let begun = Compressor::new(encoding.compression, sink).and_then(|mut inner| {
            inner.write_all(encoding.charset.mark())?;
            Ok(inner)
        });
        let inner = begun.map_err(|source| failed(encoding, source))?;
        Ok(Self { encoding, inner, partial: Vec::new(), encoded: Vec::new() })
    }

    /// Ends it.
    pub(in crate::data::format) fn finish(self) -> Result<SpooledFile, DataError> {
        let encoding = self.encoding;
        self.inner.finish().map_err(|source| failed(encoding, source))
    }
}

fn failed(encoding: Encoding, source: io::Error) -> DataError {
    DataError::Io { path: format!("a file in {}", encoding.charset.name()), source }
}

impl Write for TextWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.encoding.charset.is_utf8() {
            return self.inner.write(bytes);
        }
        self.partial.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.partial) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = std::str::from_utf8(&self.partial[..whole]).unwrap_or_default();
        self.encoded.clear();
        self.encoding.charset.encode(text, &mut self.encoded).map_err(|character| {
            let message = format!(
                "{} has no character {character:?} (U+{:04X}); write the file in UTF-8",
                self.encoding.charset.name(),
                u32::from(character)
            );
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?;
        self.partial.drain(..whole);
        self.inner.write_all(&self.encoded)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
