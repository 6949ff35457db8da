//! The syntax tree of a string with `${…}`.

use crate::config::Value;

/// A piece of a text.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) enum Part {
    /// As it stands, escapes removed.
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
    /// What stands between.
    pub(in crate::config) kind: Reference,
}

/// What an interpolation asks for.
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
    /// In quotes: always a text.
    Quoted(Vec<Part>),
    /// `[…]`.
    List(Vec<Element>),
    /// `{…}`.
    Dict(Vec<(String, Element)>),
}

/// Why a text is not in the grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct SyntaxError {
    /// Offset of the character at fault.
    pub(in crate::config) at: usize,
    /// What is wrong, lower-case.
    pub(in crate::config) message: String,
    /// A way out.
    pub(in crate::config) help: Option<&'static str>,
}

/// True when a text needs [`parse_text`]; others are what they are.
pub(in crate::config) fn has_interpolation(text: &str) -> bool {
    text.contains("${")
}
