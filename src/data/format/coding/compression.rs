//! Compression of whole files: gzip, Zstandard, bzip2.

use std::io::{self, BufRead, Read, Write};

use bzip2::{read::MultiBzDecoder, write::BzEncoder};
use flate2::{read::MultiGzDecoder, write::GzEncoder};

use crate::data::spooled_file::SpooledFile;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data::format) enum Compression {
    Gzip,
    Zstd,
    Bzip2,
}

impl Compression {
    /// The compression behind a word of pandas or Spark; `None` for none.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            "bz2" | "bzip2" => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// What the name of a file says.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let of = [(".gz", Self::Gzip), (".zst", Self::Zstd), (".bz2", Self::Bzip2)];
        of.into_iter().find(|(suffix, _)| name.ends_with(suffix)).map(|(_, found)| found)
    }

    /// As displayed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bz2",
        }
    }

    /// Its content.
    pub(super) fn decoder(self, source: impl BufRead + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(source)),
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(source)?),
            Self::Bzip2 => Box::new(MultiBzDecoder::new(source)),
        })
    }
}

/// A file being written.
pub(super) enum Compressor {
    Plain(SpooledFile),
    Gzip(GzEncoder<SpooledFile>),
    Zstd(zstd::Encoder<'static, SpooledFile>),
    Bzip2(BzEncoder<SpooledFile>),
}

impl Compressor {
    pub(super) fn new(compression: Option<Compression>, sink: SpooledFile) -> io::Result<Self> {
        Ok(match compression {
            None => Self::Plain(sink),
            // Without a time in its header: the same rows are the same bytes.
            Some(Compression::Gzip) => Self::Gzip(GzEncoder::new(sink, flate2::Compression::default())),
            Some(Compression::Zstd) => Self::Zstd(zstd::Encoder::new(sink, zstd::DEFAULT_COMPRESSION_LEVEL)?),
            Some(Compression::Bzip2) => Self::Bzip2(BzEncoder::new(sink, bzip2::Compression::best())),
        })
    }

    pub(super) fn finish(self) -> io::Result<SpooledFile> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Bzip2(encoder) => encoder.finish(),
        }
    }

    fn inner(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(sink) => sink,
            Self::Gzip(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
            Self::Bzip2(encoder) => encoder,
        }
    }
}

impl Write for Compressor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Flushing a compressor ends a block: what is left is written at the end.
        Ok(())
    }
}
