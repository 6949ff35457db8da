//! Messages for YAML syntax errors: the location of the cause, what is wrong there, and how to fix it.

use granit_parser::{ErrorKind, ScanError};

use crate::{
    config::tree::MAX_DEPTH,
    diagnostic::{Diagnostic, SourceId, Span, did_you_mean},
};

/// Collections are nested too deep.
pub(super) fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::error("yaml::too-deep", format!("lists and mappings are nested more than {MAX_DEPTH} deep"))
        .at(Span { end: span.start + 1, ..span }, "the limit is reached here")
}

/// A scanner's or parser's error. `open` is the innermost bracket that was still open.
pub(super) fn syntax_error(error: &ScanError, source: SourceId, text: &str, open: Option<Span>) -> Diagnostic {
    let offset = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
    let location = ErrorLocation { source, text, offset: text.floor_char_boundary(offset) };
    match error.kind() {
        ErrorKind::RecursionLimitExceeded => return too_deep(location.point()),
        ErrorKind::UnknownAnchor => return location.unknown_anchor(),
        _ => {}
    }
    if let Some(tab) = location.indenting_tab() {
        return Diagnostic::error("yaml::syntax", "a tab is used for indentation, where YAML allows only spaces")
            .at(tab, "a tab")
            .help("indent with spaces");
    }
    let mut problem = match error.kind() {
        ErrorKind::UnknownQuotedScalarEscape | ErrorKind::InvalidQuotedScalarHexEscape => {
            Diagnostic::error("yaml::syntax", "unknown escape sequence in a double-quoted string")
                .at(location.bad_escape(), "")
                .help("write `\\\\` for a backslash, or use single quotes, where it is literal")
        }
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
            Diagnostic::error("yaml::syntax", "unterminated quoted string").at(location.point(), "")
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
            Diagnostic::error("yaml::syntax", "unexpected second `:` in a value, or wrong indentation")
                .at(location.point(), "")
                .help("put a value that contains `: ` in quotes, and indent the keys of one mapping alike")
        }
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation | ErrorKind::SimpleKeyExpected => {
            Diagnostic::error("yaml::syntax", "expected a `key: value` line here")
                .at(location.point(), "")
                .help("indent the keys of one mapping alike, each followed by `:` and a space")
        }
        ErrorKind::UnexpectedCharacter { character } => {
            let character = character.escape_default();
            Diagnostic::error("yaml::syntax", format!("`{character}` cannot begin a value"))
                .at(location.point(), "")
                .help("put the value in quotes")
        }
        ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping
        | ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator => {
            Diagnostic::error("yaml::syntax", "expected `,` or a closing bracket in a list or mapping")
                .at(location.point(), "")
        }
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            Diagnostic::error("yaml::syntax", format!("`{open}` is closed by `{close}`")).at(location.point(), "")
        }
        ErrorKind::MultipleDocumentsUnsupported | ErrorKind::ExpectedDocumentStart => {
            Diagnostic::error("yaml::syntax", "unexpected content after the end of the document")
                .at(location.point(), "")
        }
        other => Diagnostic::error("yaml::syntax", reordered(&other.to_string())).at(location.point(), ""),
    };
    if let Some(open) = open.filter(|open| open.start != location.offset) {
        problem = problem.at(open, "this bracket is still open");
    }
    if location.near_an_interpolation() {
        problem = problem.help("put a value with `${…}` in quotes: \"${…}\"");
    }
    problem
}

/// A message of the parser, what is wrong first.
fn reordered(message: &str) -> String {
    let message = message.trim_end_matches('.').replace("<", "").replace(">", "");
    match message.split_once(", ") {
        Some((lead, rest)) if lead.starts_with("while ") => format!("{rest}, {lead}"),
        _ => message,
    }
}

struct ErrorLocation<'t> {
    source: SourceId,
    text: &'t str,
    offset: usize,
}

impl ErrorLocation<'_> {
    fn span(&self, start: usize, end: usize) -> Span {
        Span { source: self.source, start, end }
    }

    fn point(&self) -> Span {
        let next = self.text[self.offset..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        self.span(self.offset, self.offset + next)
    }

    /// The line of an offset, with its start.
    fn line_at(&self, offset: usize) -> (usize, &str) {
        let start = self.text[..offset].rfind('\n').map_or(0, |i| i + 1);
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |i| offset + i);
        (start, &self.text[start..end])
    }

    /// A tab in the indentation of the line of the error or of a neighbour.
    fn indenting_tab(&self) -> Option<Span> {
        let (start, line) = self.line_at(self.offset);
        let mut candidates = vec![(start, line)];
        if start + line.len() < self.text.len() {
            candidates.push(self.line_at(start + line.len() + 1));
        }
        if start > 0 {
            candidates.push(self.line_at(start - 1));
        }
        candidates.into_iter().find_map(|(start, line)| {
            let blanks = &line[..line.len() - line.trim_start().len()];
            let tab = blanks.find('\t').filter(|_| blanks.len() < line.len())?;
            Some(self.span(start + tab, start + tab + 1))
        })
    }

    /// The invalid escape; the error itself points at the opening quote.
    fn bad_escape(&self) -> Span {
        let rest = &self.text[self.offset..];
        let mut characters = rest.char_indices();
        while let Some((index, c)) = characters.next() {
            if c != '\\' {
                continue;
            }
            let Some((_, escape)) = characters.next() else { break };
            let digits = match escape {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ if "0abt\tnvfre \"/\\N_LP\n\r".contains(escape) => 0,
                _ => usize::MAX,
            };
            let hex = rest[index + 1 + escape.len_utf8()..].bytes().take_while(u8::is_ascii_hexdigit).count();
            if hex < digits {
                return self.span(self.offset + index, self.offset + index + 1 + escape.len_utf8());
            }
        }
        self.point()
    }

    fn near_an_interpolation(&self) -> bool {
        let (start, line) = self.line_at(self.offset);
        let before = if start > 0 { self.line_at(start - 1).1 } else { "" };
        [line, before].iter().any(|line| line.match_indices("${").any(|(at, _)| !line[..at].contains(['"', '\''])))
    }

    fn unknown_anchor(&self) -> Diagnostic {
        let name: String =
            self.text[self.offset..].trim_start_matches('*').chars().take_while(|c| !is_anchor_end(*c)).collect();
        let known = self.text.match_indices('&').filter_map(|(at, _)| {
            let name: String = self.text[at + 1..].chars().take_while(|c| !is_anchor_end(*c)).collect();
            (!name.is_empty() && self.text[..at].ends_with([' ', '\n', '[', '{', ','])).then_some(name)
        });
        let known: Vec<String> = known.take(1000).collect();
        let elsewhere = known.contains(&name).then_some("move the anchor in front of its first alias");
        Diagnostic::error("yaml::unknown-anchor", format!("no anchor `&{name}` before this alias"))
            .at(self.span(self.offset, (self.offset + 1 + name.len()).min(self.text.len())), "")
            .help_opt(did_you_mean(&name, &known))
            .help_opt(elsewhere)
            .help("define the anchor in this file, or put a string that begins with `*` in quotes")
    }
}

fn is_anchor_end(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}' | ':')
}
