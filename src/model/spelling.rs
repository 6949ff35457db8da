//! The spellings of a secret: how servers, libraries and shells write one without quoting it.
//!
//! A text is read as [`Unit`]s: escapes of JSON and Rust, percent-encoding and HTML entities are decoded, case is folded and
//! blanks are left out, so that one comparison covers every mixture of them. Base64 and hexadecimal are forms of the secret.

/// A byte of a decoded text, and the range of the text that it was written with: whole characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    /// The byte, in lower case.
    pub byte: u8,
    /// Where its spelling begins.
    pub start: usize,
    /// Where its spelling ends.
    pub end: usize,
}

/// A decoded text, without blanks and in lower case.
pub(super) fn decoded(text: &str) -> Vec<Unit> {
    let mut units = Vec::with_capacity(text.len());
    for (start, c) in text.char_indices() {
        if !c.is_whitespace() && !is_invisible(c) {
            push(&mut units, c, start, start + c.len_utf8());
        }
    }
    // A text without marks of an encoding is its own decoding.
    if text.contains('\\') {
        units = with_decoded(&units, b'\\', escape);
    }
    if text.contains(['%', '\\']) {
        units = with_decoded(&units, b'%', percent);
    }
    if text.contains(['&', '%', '\\']) {
        units = with_decoded(&units, b'&', entity);
    }
    units.retain(|unit| !unit.byte.is_ascii_whitespace() && !unit.byte.is_ascii_control());
    for unit in &mut units {
        unit.byte = unit.byte.to_ascii_lowercase();
    }
    units
}

/// What a secret becomes in [`decoded`] texts: as it is, decoded, with `+` for blanks, in hexadecimal, and in both alphabets
/// of base64 at each of the three alignments, without the characters that depend on what is around it.
pub(super) fn forms(secret: &str) -> Vec<Vec<u8>> {
    let bytes = |text: &str| decoded(text).into_iter().map(|unit| unit.byte).collect::<Vec<u8>>();
    let raw: Vec<u8> =
        secret.bytes().filter(|b| !b.is_ascii_whitespace()).map(|byte| byte.to_ascii_lowercase()).collect();
    let mut forms = vec![raw, bytes(secret), bytes(&secret.replace(' ', "+"))];
    // `\B` is no escape, and `\b` is one.
    forms.extend([secret.to_lowercase(), secret.to_uppercase()].iter().map(|secret| bytes(secret)));
    forms.push(secret.bytes().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect());
    for before in 0..3 {
        let mut aligned = vec![0; before];
        aligned.extend_from_slice(secret.as_bytes());
        let whole = (before * 8).div_ceil(6)..aligned.len() * 8 / 6;
        for alphabet in [base64_simd::STANDARD_NO_PAD, base64_simd::URL_SAFE_NO_PAD] {
            let encoded = alphabet.encode_to_string(&aligned);
            forms.push(encoded.as_bytes()[whole.clone()].to_ascii_lowercase());
        }
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// Characters that are not seen: soft hyphens, joiners, marks of direction and byte order.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{feff}')
}

fn push(units: &mut Vec<Unit>, c: char, start: usize, end: usize) {
    let mut buffer = [0; 4];
    units.extend(c.encode_utf8(&mut buffer).bytes().map(|byte| Unit { byte, start, end }));
}

/// The units with what `decode` understands after each `mark` decoded: it gets what follows the mark, and returns how many
/// of these units belong to the spelling and the character.
fn with_decoded(units: &[Unit], mark: u8, decode: impl Fn(&[Unit]) -> Option<(usize, Decoded)>) -> Vec<Unit> {
    let mut out = Vec::with_capacity(units.len());
    let mut at = 0;
    while let Some(unit) = units.get(at) {
        match (unit.byte == mark).then(|| decode(&units[at + 1..])).flatten() {
            Some((length, decoded)) => {
                let (start, end) = (unit.start, units[at + length].end);
                match decoded {
                    Decoded::Byte(byte) => out.push(Unit { byte, start, end }),
                    Decoded::Char(c) => push(&mut out, c, start, end),
                }
                at += 1 + length;
            }
            None => {
                out.push(*unit);
                at += 1;
            }
        }
    }
    out
}

enum Decoded {
    Byte(u8),
    Char(char),
}

/// After a backslash: `n`, `u0041`, `u{41}`, `x41`, or the character itself.
fn escape(after: &[Unit]) -> Option<(usize, Decoded)> {
    let first = after.first()?.byte;
    Some(match first {
        b'n' | b'r' | b't' | b'f' | b'b' => (1, Decoded::Byte(b' ')),
        b'x' => (3, Decoded::Char(hexadecimal(after.get(1..3)?)?)),
        b'u' if after.get(1)?.byte == b'{' => {
            let length = after.iter().take(10).position(|unit| unit.byte == b'}')?;
            (length + 1, Decoded::Char(hexadecimal(&after[2..length])?))
        }
        b'u' => (5, Decoded::Char(hexadecimal(after.get(1..5)?)?)),
        byte if byte.is_ascii_punctuation() => (1, Decoded::Byte(byte)),
        _ => return None,
    })
}

/// After a percent sign: `41`.
fn percent(after: &[Unit]) -> Option<(usize, Decoded)> {
    let code = u8::try_from(u32::from(hexadecimal(after.get(..2)?)?)).ok()?;
    Some((2, Decoded::Byte(code)))
}

/// After an ampersand: `amp;`, `#65;`, `#x41;`.
fn entity(after: &[Unit]) -> Option<(usize, Decoded)> {
    const NAMES: &[(&str, u8)] = &[
        ("amp", b'&'),
        ("apos", b'\''),
        ("ast", b'*'),
        ("bsol", b'\\'),
        ("colon", b':'),
        ("comma", b','),
        ("commat", b'@'),
        ("dollar", b'$'),
        ("equals", b'='),
        ("excl", b'!'),
        ("grave", b'`'),
        ("gt", b'>'),
        ("hat", b'^'),
        ("hyphen", b'-'),
        ("lbrace", b'{'),
        ("lbrack", b'['),
        ("lcub", b'{'),
        ("lowbar", b'_'),
        ("lpar", b'('),
        ("lsqb", b'['),
        ("lt", b'<'),
        ("nbsp", b' '),
        ("num", b'#'),
        ("percnt", b'%'),
        ("period", b'.'),
        ("plus", b'+'),
        ("quest", b'?'),
        ("quot", b'"'),
        ("rbrace", b'}'),
        ("rbrack", b']'),
        ("rcub", b'}'),
        ("rpar", b')'),
        ("rsqb", b']'),
        ("semi", b';'),
        ("sol", b'/'),
        ("tilde", b'~'),
        ("verbar", b'|'),
        ("vert", b'|'),
    ];
    let length = after.iter().take(12).position(|unit| unit.byte == b';')?;
    let name: Vec<u8> = after[..length].iter().map(|unit| unit.byte.to_ascii_lowercase()).collect();
    let decoded = match name.as_slice() {
        [b'#', b'x', ..] => Decoded::Char(hexadecimal(&after[2..length])?),
        [b'#', digits @ ..] => Decoded::Char(char::from_u32(str::from_utf8(digits).ok()?.parse().ok()?)?),
        name => Decoded::Byte(NAMES.iter().find(|(known, _)| known.as_bytes() == name)?.1),
    };
    Some((length + 1, decoded))
}

/// The character with a code in hexadecimal digits.
fn hexadecimal(digits: &[Unit]) -> Option<char> {
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let code = digits.iter().try_fold(0_u32, |code, unit| Some((code << 4) | char::from(unit.byte).to_digit(16)?))?;
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_is_decoded_with_its_range() {
        for (text, wanted) in [
            ("Plain", "plain"),
            ("a b\tc\nd", "abcd"),
            (r#"a\n\u0042\x43\"\\"#, "abc\"\\"),
            (r"\u{1F600}x", "\u{1f600}x"),
            ("a%2Fb%2", "a/b%2"),
            ("&lt;a&amp;&#98;&#x63;&unknown;&", "<a&bc&unknown;&"),
            (r"\u0025\u0034\u0031", "a"),
            ("s\u{ad}o\u{200b}ft", "soft"),
            (r"\", r"\"),
            (r"\u12", r"\u12"),
        ] {
            let units = decoded(text);
            assert_eq!(
                String::from_utf8(units.iter().map(|unit| unit.byte).collect()).as_deref(),
                Ok(wanted),
                "{text}"
            );
            for unit in units {
                assert!(text.is_char_boundary(unit.start) && text.is_char_boundary(unit.end) && unit.start < unit.end);
            }
        }
    }

    #[test]
    fn base64_forms_are_within_the_encoding_of_any_surroundings() {
        for around in ["", "a", "ab", "abc", "user:"] {
            let encoded =
                base64_simd::STANDARD.encode_to_string(format!("{around}S3cr3t-value{around}")).to_lowercase();
            let found = forms("S3cr3t-value").iter().any(|form| encoded.contains(str::from_utf8(form).unwrap_or("-")));
            assert!(found, "{around}: {encoded}");
        }
    }
}
