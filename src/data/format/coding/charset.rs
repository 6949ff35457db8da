//! Encodings of text under Python's names. Exact: what an encoding does not have is an error, in both directions.

use encoding_rs::{Decoder, DecoderResult, Encoder, EncoderResult};

/// An encoding of text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::data::format) enum Charset {
    /// A byte order mark is taken off.
    #[default]
    Utf8,
    /// A byte order mark is written.
    Utf8Signed,
    Ascii,
    /// ISO 8859-1: each byte is the character of that number. The web's `latin1` is another.
    Latin1,
    /// The byte order mark says which, else little-endian.
    Utf16,
    Utf16Le,
    Utf16Be,
    /// Any other. Where two names share a table on the web and differ in the control characters from 0x80 on, these
    /// are refused.
    Other(&'static encoding_rs::Encoding),
}

impl Charset {
    /// The encoding of a name; `None` for one that is not known.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        let plain: String = name.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).collect();
        Some(match plain.as_str() {
            "utf8" | "u8" | "cp65001" => Self::Utf8,
            "utf8sig" => Self::Utf8Signed,
            "ascii" | "usascii" | "646" => Self::Ascii,
            "latin1" | "iso88591" | "l1" | "8859" | "cp819" | "latin" => Self::Latin1,
            "utf16" | "u16" => Self::Utf16,
            "utf16le" => Self::Utf16Le,
            "utf16be" => Self::Utf16Be,
            _ => {
                let label = match plain.as_str() {
                    "cp932" | "ms932" | "mskanji" => "shift_jis".to_owned(),
                    "cp936" | "ms936" => "gbk".to_owned(),
                    "cp949" | "ms949" => "euc-kr".to_owned(),
                    "cp950" => "big5".to_owned(),
                    "macroman" => "macintosh".to_owned(),
                    "eucjp" | "eucjis2004" => "euc-jp".to_owned(),
                    "euckr" => "euc-kr".to_owned(),
                    "koi8r" | "koi8u" => format!("{}-{}", &plain[..4], &plain[4..]),
                    _ => match plain.strip_prefix("iso8859").or_else(|| plain.strip_prefix("latin")) {
                        Some(number) if plain.starts_with("iso8859") => format!("iso-8859-{number}"),
                        _ => name,
                    },
                };
                let found = encoding_rs::Encoding::for_label_no_replacement(label.as_bytes())?;
                match found.name() {
                    "UTF-8" => Self::Utf8,
                    "UTF-16LE" => Self::Utf16Le,
                    "UTF-16BE" => Self::Utf16Be,
                    "x-user-defined" => return None,
                    _ => Self::Other(found),
                }
            }
        })
    }

    /// As displayed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Utf8Signed => "utf-8-sig",
            Self::Ascii => "ascii",
            Self::Latin1 => "latin-1",
            Self::Utf16 => "utf-16",
            Self::Utf16Le => "utf-16-le",
            Self::Utf16Be => "utf-16-be",
            Self::Other(encoding) => encoding.name(),
        }
    }

    /// True when text that is written in `other` is read in full by this one.
    pub(super) fn reads(self, other: Self) -> bool {
        self == other
            || matches!((self, other), (Self::Utf8 | Self::Utf8Signed, Self::Utf8 | Self::Utf8Signed | Self::Ascii))
    }

    /// Whether text is read as its bytes.
    pub(super) fn is_utf8(self) -> bool {
        matches!(self, Self::Utf8 | Self::Utf8Signed)
    }

    /// What a file begins with.
    pub(super) fn mark(self) -> &'static [u8] {
        match self {
            Self::Utf8Signed => b"\xef\xbb\xbf",
            Self::Utf16 => b"\xff\xfe",
            _ => b"",
        }
    }

    /// A decoder of a file that begins with `start`, after whose byte order mark it begins.
    pub(super) fn decoder(self, start: &[u8]) -> CharsetDecoder {
        let of = |encoding: &'static encoding_rs::Encoding| {
            CharsetDecoder::Other(encoding.new_decoder_without_bom_handling(), encoding)
        };
        match self {
            Self::Ascii => CharsetDecoder::Bytes { limit: 0x80 },
            Self::Latin1 => CharsetDecoder::Bytes { limit: 0x100 },
            Self::Utf16 if start.starts_with(b"\xfe\xff") => of(encoding_rs::UTF_16BE),
            Self::Utf16Be => of(encoding_rs::UTF_16BE),
            Self::Utf16 | Self::Utf16Le => of(encoding_rs::UTF_16LE),
            Self::Utf8 | Self::Utf8Signed => of(encoding_rs::UTF_8),
            Self::Other(encoding) => of(encoding),
        }
    }

    /// The bytes of the byte order mark in front of a file that begins with `start`.
    pub(super) fn mark_in(self, start: &[u8]) -> usize {
        let marks: &[&[u8]] = match self {
            Self::Utf8 | Self::Utf8Signed => &[b"\xef\xbb\xbf"],
            Self::Utf16 => &[b"\xff\xfe", b"\xfe\xff"],
            Self::Utf16Le => &[b"\xff\xfe"],
            Self::Utf16Be => &[b"\xfe\xff"],
            _ => &[],
        };
        marks.iter().find(|mark| start.starts_with(mark)).map_or(0, |mark| mark.len())
    }

    /// Adds `text` in this encoding to `out`.
    ///
    /// # Errors
    /// The first character that it does not have.
    pub(super) fn encode(self, text: &str, out: &mut Vec<u8>) -> Result<(), char> {
        match self {
            Self::Utf8 | Self::Utf8Signed => out.extend_from_slice(text.as_bytes()),
            Self::Ascii | Self::Latin1 => {
                let limit = if self == Self::Ascii { 0x80 } else { 0x100 };
                for character in text.chars() {
                    match u8::try_from(u32::from(character)) {
                        Ok(byte) if u32::from(byte) < limit => out.push(byte),
                        _ => return Err(character),
                    }
                }
            }
            Self::Utf16 | Self::Utf16Le => text.encode_utf16().for_each(|unit| out.extend(unit.to_le_bytes())),
            Self::Utf16Be => text.encode_utf16().for_each(|unit| out.extend(unit.to_be_bytes())),
            Self::Other(encoding) => {
                if let Some(control) = text.chars().find(|c| ('\u{80}'..='\u{9f}').contains(c)) {
                    return Err(control);
                }
                encode(encoding.new_encoder(), text, out)?;
            }
        }
        Ok(())
    }
}

fn encode(mut encoder: Encoder, mut text: &str, out: &mut Vec<u8>) -> Result<(), char> {
    loop {
        let need = encoder.max_buffer_length_from_utf8_without_replacement(text.len()).unwrap_or(text.len() * 4 + 16);
        out.reserve(need);
        let (result, read) = encoder.encode_from_utf8_to_vec_without_replacement(text, out, true);
        match result {
            EncoderResult::InputEmpty => return Ok(()),
            EncoderResult::OutputFull => text = &text[read..],
            EncoderResult::Unmappable(character) => return Err(character),
        }
    }
}

/// Decodes piece by piece.
pub(super) enum CharsetDecoder {
    /// Each byte is a character, up to a limit.
    Bytes {
        limit: u32,
    },
    Other(Decoder, &'static encoding_rs::Encoding),
}

impl CharsetDecoder {
    /// Decodes what it can of `bytes` to the end of `out`; `last` when no more will come. Gives the bytes that it took.
    ///
    /// # Errors
    /// When they are not of the encoding; what came before is in `out`.
    pub(super) fn decode(&mut self, bytes: &[u8], last: bool, out: &mut String) -> Result<usize, ()> {
        match self {
            Self::Bytes { limit } => {
                for &byte in bytes {
                    if u32::from(byte) >= *limit {
                        return Err(());
                    }
                    out.push(char::from(byte));
                }
                Ok(bytes.len())
            }
            Self::Other(decoder, encoding) => {
                let before = out.len();
                let mut read = 0;
                let sound = loop {
                    let rest = &bytes[read..];
                    let need = decoder.max_utf8_buffer_length_without_replacement(rest.len());
                    out.reserve(need.unwrap_or(rest.len() * 3 + 16));
                    let (result, taken) = decoder.decode_to_string_without_replacement(rest, out, last);
                    read += taken;
                    match result {
                        DecoderResult::InputEmpty => break true,
                        DecoderResult::OutputFull => {}
                        DecoderResult::Malformed(..) => break false,
                    }
                };
                // The web's tables fill the gaps of an encoding with control characters, and mean `windows-1254` by
                // `iso-8859-9`.
                let filled =
                    encoding.is_single_byte() && out[before..].chars().any(|c| ('\u{80}'..='\u{9f}').contains(&c));
                if sound && !filled { Ok(read) } else { Err(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(name: &str, bytes: &[u8]) -> Option<String> {
        let charset = Charset::parse(name)?;
        let mut decoder = charset.decoder(bytes);
        let mut out = String::new();
        decoder.decode(&bytes[charset.mark_in(bytes)..], true, &mut out).ok()?;
        Some(out)
    }

    #[test]
    fn python_s_names_are_python_s_encodings() {
        for (name, bytes, text) in [
            ("latin-1", &b"\x80\xe9"[..], "\u{80}é"),
            ("ISO-8859-1", b"\x80\xe9", "\u{80}é"),
            ("latin_1", b"\xff", "ÿ"),
            ("cp1252", b"\x80\xe9", "€é"),
            ("windows-1252", b"\x80", "€"),
            ("iso8859-15", b"\xa4", "€"),
            ("iso8859_15", b"\xa4", "€"),
            ("utf-16", b"\xff\xfea\0", "a"),
            ("utf-16", b"\xfe\xff\0a", "a"),
            ("utf_16_le", b"a\0\x3d\xd8\x00\xde", "a😀"),
            ("utf-16-be", b"\0a", "a"),
            ("shift_jis", b"\x82\xa0", "あ"),
            ("cp932", b"\x82\xa0", "あ"),
            ("gbk", b"\xc4\xe3", "你"),
            ("koi8_r", b"\xc1", "а"),
            ("utf-8-sig", b"\xef\xbb\xbfx", "x"),
        ] {
            assert_eq!(decoded(name, bytes).as_deref(), Some(text), "{name}");
            let charset = Charset::parse(name).expect("known");
            let mut back = Vec::new();
            if !text.contains('\u{80}') || charset == Charset::Latin1 {
                charset.encode(text, &mut back).expect("has all characters");
                assert_eq!(
                    Charset::parse(name)
                        .map(|c| c.decoder(&[]))
                        .map(|mut decoder| {
                            let mut out = String::new();
                            if charset == Charset::Utf16 && bytes.starts_with(b"\xfe") {
                                return text.to_owned();
                            }
                            decoder.decode(&back, true, &mut out).expect("its own bytes");
                            out
                        })
                        .as_deref(),
                    Some(text),
                    "{name}"
                );
            }
        }
        assert_eq!(Charset::parse("klingon"), None);
    }

    #[test]
    fn what_an_encoding_does_not_have_is_an_error() {
        for (name, bytes) in [
            ("ascii", &b"\xe9"[..]),
            ("cp1252", b"\x81"),
            ("iso-8859-9", b"\x81"),
            ("utf-16", b"\xff\xfe\x00\xd8a\0"),
            ("utf-16", b"\xff\xfea"),
            ("shift_jis", b"\x82"),
            ("euc-jp", b"\xff"),
        ] {
            assert_eq!(decoded(name, bytes), None, "{name} {bytes:?}");
        }
        let refused = |name: &str, text: &str| Charset::parse(name).expect("known").encode(text, &mut Vec::new());
        assert_eq!(refused("latin-1", "a€"), Err('€'));
        assert_eq!(refused("ascii", "é"), Err('é'));
        assert_eq!(refused("cp1252", "a→"), Err('→'));
        assert_eq!(refused("cp1252", "\u{81}"), Err('\u{81}'));
        assert_eq!(refused("utf-16", "😀"), Ok(()));
    }
}
