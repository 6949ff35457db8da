//! How text becomes the bytes of a file and back: its encoding, and its compression.
//!
//! Both directions are streams. What cannot be decoded, or encoded, is an error; nothing is replaced.

mod charset;
mod compression;
mod reader;
mod writer;

use self::{charset::Charset, compression::Compression};
pub(super) use self::{reader::text_error, writer::TextWriter};
use crate::{
    config::{Field, Kind, Node, Value},
    data::args::{Args, FormatArgs},
    diagnostic::Diagnostics,
};

/// What is read under `load_args`, and written under `save_args`.
pub(super) const ENCODING: Field = Field::optional(
    "encoding",
    Kind::Text,
    "utf-8",
    "the encoding, by Python's name: `utf-8-sig`, `utf-16`, `latin-1`, `cp1252`, `shift_jis`, …",
)
.or(&["charset"]);
const COMPRESSION_WORDS: Kind = Kind::Choice(&["infer", "gzip", "zstd", "bz2", "none", "bzip2", "uncompressed"]);
/// See [`ENCODING`].
pub(super) const LOAD_COMPRESSION: Field = Field::optional(
    "compression",
    COMPRESSION_WORDS,
    "infer",
    "how files are compressed; `infer`: by the end of a file's name, `.gz`, `.zst` or `.bz2`",
);
/// See [`ENCODING`].
pub(super) const SAVE_COMPRESSION: Field = Field::optional(
    "compression",
    COMPRESSION_WORDS,
    "infer",
    "how files are compressed; `infer`: by the end of `path` or `filename_suffix`, `.gz`, `.zst` or `.bz2`",
)
.or(&["codec"]);

/// How the files of a format become text.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Decoding {
    /// `None` for what a file's name says.
    compression: Option<Option<Compression>>,
    charset: Charset,
}

/// How text becomes the files of a format.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Encoding {
    compression: Option<Compression>,
    charset: Charset,
}

impl Decoding {
    /// Reads [`ENCODING`] and [`LOAD_COMPRESSION`].
    pub(super) fn of(args: &FormatArgs<'_>, problems: &mut Diagnostics) -> Self {
        let charset = charset(args, args.load, problems);
        Self { compression: compression(args.load), charset }
    }

    /// What is read otherwise than it is written.
    pub(super) fn differences(&self, encoding: &Encoding, out: &mut Vec<String>) {
        if self.charset.name() != encoding.charset.name() && !self.charset.reads(encoding.charset) {
            out.push(difference("encoding", encoding.charset.name(), self.charset.name()));
        }
        if let Some(reads) = self.compression.filter(|reads| *reads != encoding.compression) {
            let name = |compression: Option<Compression>| compression.map_or("none", Compression::name);
            out.push(difference("compression", name(encoding.compression), name(reads)));
        }
    }
}

impl Encoding {
    /// Reads [`ENCODING`] and [`SAVE_COMPRESSION`].
    pub(super) fn of(args: &FormatArgs<'_>, problems: &mut Diagnostics) -> Self {
        let charset = charset(args, args.save, problems);
        let of_name = || args.file_name.and_then(Compression::of_name);
        Self { compression: compression(args.save).unwrap_or_else(of_name), charset }
    }

    /// How names of files end that are compressed so: `base` is the end without compression.
    pub(super) fn suffix(&self, plain: &'static str, all: [&'static str; 3]) -> &'static str {
        match self.compression {
            None => plain,
            Some(Compression::Gzip) => all[0],
            Some(Compression::Zstd) => all[1],
            Some(Compression::Bzip2) => all[2],
        }
    }

    /// Everything that decides what the bytes look like; empty for plain UTF-8.
    pub(super) fn written_as(&self) -> String {
        if *self == Self::default() {
            String::new()
        } else {
            format!(" {:?} {}", self.compression, self.charset.name())
        }
    }
}

/// One option that differs between the two directions.
pub(super) fn difference(option: &str, written: &str, read: &str) -> String {
    format!("`{option}` is `{written}` for writing and `{read}` for reading")
}

fn charset(args: &FormatArgs<'_>, of: &Args<'_>, problems: &mut Diagnostics) -> Charset {
    let Some((name, node)) = of.record().text("encoding").zip(of.record().node("encoding")) else {
        return Charset::default();
    };
    Charset::parse(name).unwrap_or_else(|| {
        let message = format!("`encoding: {name}` is not supported; expected `utf-8`, `utf-16`, `latin-1`, `cp1252`, `shift_jis` or another of the WHATWG's encodings");
        problems.push(args.wrong(node, &message));
        Charset::default()
    })
}

/// The outer `None` for `infer`.
fn compression(args: &Args<'_>) -> Option<Option<Compression>> {
    match args.record().word("compression") {
        Some("infer") => None,
        Some(word) => Some(Compression::parse(word)),
        None if args.is_null(&["compression", "codec"]) => Some(None),
        None => None,
    }
}

/// An option that is one ASCII character, or none where it is `null` or empty. `None` where it is not given.
pub(super) fn character(
    args: &FormatArgs<'_>,
    of: &Args<'_>,
    names: &[&'static str],
    problems: &mut Diagnostics,
) -> Option<Option<u8>> {
    let name = names[0];
    if of.is_null(names) {
        return Some(None);
    }
    let node: &Node = of.record().node(name)?;
    match of.record().text(name).map(|text| if text == "\\t" { "\t" } else { text }) {
        Some("") => Some(None),
        Some(text) if text.len() == 1 => Some(text.bytes().next()),
        _ => {
            if !matches!(node.value, Value::Unresolved) {
                problems.push(args.wrong(node, &format!("`{name}` must be one ASCII character")));
            }
            None
        }
    }
}
