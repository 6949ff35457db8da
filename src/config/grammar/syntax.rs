//! The syntax tree of a string with `${…}`.

use crate::config::Value;

/// A part of a string.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) enum Part {
    /// Literal text, with escapes removed.
    Text(String),
    /// `${…}`.
    Interpolation(Interpolation),
}

/// One `${…}`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) struct Interpolation {
    /// Offset of the `$`.
    pub(in crate::config) start: usize,
    /// One past the `}`.
    pub(in crate::config) end: usize,
    /// What is between the braces.
    pub(in crate::config) kind: Reference,
}

/// What an interpolation refers to.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) enum Reference {
    /// `${a.b}`, `${..a}`, `${a[0]}`: the parts of a path, `[0]` written as `.0`; nested interpolations give parts of it.
    Path(Vec<Part>),
    /// `${name:arguments}`.
    Resolver {
        /// The name; a part alone when computed.
        name: Box<Part>,
        /// The arguments.
        arguments: Vec<Element>,
    },
}

/// A value in the arguments of a resolver.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) enum Element {
    /// A word with its type: `null`, `1`, `a b`.
    Scalar(Value),
    /// Texts and interpolations; an interpolation alone keeps its type.
    Mixed(Vec<Part>),
    /// In quotes: always a string.
    Quoted(Vec<Part>),
    /// `[…]`.
    List(Vec<Element>),
    /// `{…}`.
    Dict(Vec<(String, Element)>),
}

/// Why a string is not in the grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct SyntaxError {
    /// Offset of the character at fault.
    pub(in crate::config) at: usize,
    /// What is wrong, lower-case.
    pub(in crate::config) message: String,
    /// How to fix it.
    pub(in crate::config) help: Option<&'static str>,
}

/// True when a string needs [`parse_text`](super::parse_text).
pub(in crate::config) fn has_interpolation(text: &str) -> bool {
    text.contains("${")
}
