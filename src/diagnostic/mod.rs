//! Diagnostics: problems in source texts, with location, message and help.
//!
//! Owns source texts, spans, the [`Diagnostic`] value and its rendering as text ([`render`]) and JSON ([`json`]).
//! Must not know which rule raised a problem.

mod codes;
mod mask;
mod render;
mod suggest;

use std::{collections::HashSet, sync::Arc};

pub use codes::{CODES, Code};
pub use mask::mask_assignment;
pub use render::{json, render};
pub use suggest::{closest, did_you_mean};

/// Identifies a source text in [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// A range of bytes in one source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Which text.
    pub source: SourceId,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A source text: a file, or an argument such as `--params a=b`.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name in messages: a path relative to the project, or `--params`.
    pub name: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
    /// True when every value in it is a secret, so that its lines are masked.
    pub secret: bool,
}

/// All texts that were read, in order of reading.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a source text and returns its id.
    pub fn add(&mut self, name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> SourceId {
        self.push(Source { name: name.into(), text: text.into(), secret: false })
    }

    /// Adds a source text of secrets (`credentials.yml`): its lines are masked wherever they are shown.
    pub fn add_secret(&mut self, name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> SourceId {
        self.push(Source { name: name.into(), text: text.into(), secret: true })
    }

    fn push(&mut self, source: Source) -> SourceId {
        self.0.push(source);
        SourceId(u32::try_from(self.0.len() - 1).expect("fewer than four billion files"))
    }

    /// The text behind an id.
    pub fn get(&self, id: SourceId) -> &Source {
        &self.0[id.0 as usize]
    }

    /// All texts, in order of reading.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Source> {
        self.0.iter()
    }

    /// Line and column (both from 1, columns in characters) of a span's start.
    pub fn line_column(&self, span: Span) -> (usize, usize) {
        let text = &self.get(span.source).text;
        let before = &text[..text.floor_char_boundary(span.start.min(text.len()))];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// `catalog.yml:12:9`.
    pub fn location(&self, span: Span) -> String {
        let (line, column) = self.line_column(span);
        format!("{}:{line}:{column}", self.get(span.source).name)
    }
}

/// Severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Work cannot start.
    Error,
    /// Work can start.
    Warning,
}

/// A location that a problem is about, with a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// The text; may be empty.
    pub text: String,
}

/// One problem. The first label is its location; others explain it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use]
pub struct Diagnostic {
    /// `area::kebab-case`, listed in [`CODES`].
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// One lower-case sentence without a full stop.
    pub message: String,
    /// Locations; empty only for problems that have no location in a file.
    pub labels: Vec<Label>,
    /// What to do, one sentence each.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error without a location yet.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), labels: Vec::new(), help: Vec::new() }
    }

    /// A warning without a location yet.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Adds a label. The first one is the location of the problem.
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds a label if there is a location.
    pub fn at_opt(self, span: Option<Span>, text: impl Into<String>) -> Self {
        match span {
            Some(span) => self.at(span, text),
            None => self,
        }
    }

    /// Adds help.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds help if there is some.
    pub fn help_opt(self, text: Option<impl Into<String>>) -> Self {
        match text {
            Some(text) => self.help(text),
            None => self,
        }
    }
}

/// Collects the problems of a phase, so that all are shown at once.
#[derive(Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    seen: HashSet<Diagnostic>,
}

impl Diagnostics {
    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        // A problem found twice is reported once.
        if self.seen.insert(diagnostic.clone()) {
            self.list.push(diagnostic);
        }
    }

    /// Adds many.
    pub fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        diagnostics.into_iter().for_each(|d| self.push(d));
    }

    /// True when there is an error, so that work cannot start.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// What was collected, in order of appearance.
    pub fn as_slice(&self) -> &[Diagnostic] {
        &self.list
    }

    /// What was collected, sorted by file and position; problems without a location come last.
    pub fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|d| (d.labels.is_empty(), d.labels.first().map(|l| l.span)));
        self.list
    }
}
