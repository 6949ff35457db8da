//! Where a reference is written: the string that holds it, and which part of the string.

use super::super::{grammar::Interpolation, tree_path::TreePath};
use crate::diagnostic::{Sources, Span};

/// A part of a string in a tree.
#[derive(Clone, Copy)]
pub(super) struct Origin<'p, 'a> {
    /// The string.
    pub(super) path: &'p TreePath<'a>,
    /// Its text, as YAML decoded it.
    pub(super) text: &'p str,
    /// The part, in bytes of the text.
    start: usize,
    end: usize,
}

impl<'p, 'a> Origin<'p, 'a> {
    /// A whole string.
    pub(super) fn new(path: &'p TreePath<'a>, text: &'p str) -> Self {
        Self { path, text, start: 0, end: text.len() }
    }

    /// Another part of the same string.
    pub(super) fn part(self, start: usize, end: usize) -> Self {
        Self { start, end, ..self }
    }

    /// An interpolation in the same string.
    pub(super) fn interpolation(self, interpolation: &Interpolation) -> Self {
        self.part(interpolation.start, interpolation.end)
    }

    /// Where the whole string is written.
    pub(super) fn string_span(self) -> Span {
        self.path.node().span
    }

    /// Where the part is written. Escapes and folded lines make the text and what is written differ, so that the n-th
    /// `${` of one is looked up as the n-th of the other.
    pub(super) fn span(self, sources: &Sources) -> Span {
        let (text, span) = (self.text, self.string_span());
        let written = sources.get(span.source).text.get(span.start..span.end).unwrap_or_default();
        let start = text.floor_char_boundary(self.start.min(text.len()));
        let end = text.floor_char_boundary(self.end.clamp(start, text.len()));
        let opening = text.get(..(start + 2).min(text.len())).and_then(|head| head.rfind("${")).unwrap_or(0);
        let before = text[..opening].matches("${").count();
        let Some((at, _)) = written.match_indices("${").nth(before) else { return span };
        let begin = if written[at..].starts_with(&text[opening..start]) { at + start - opening } else { at };
        let same = written[begin..].starts_with(&text[start..end]);
        let length = if same { end - start } else { 2.min(written.len() - begin) };
        Span { source: span.source, start: span.start + begin, end: span.start + begin + length }
    }
}
