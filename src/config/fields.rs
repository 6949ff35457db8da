//! Tables of fields: one table says what a mapping may hold, and drives decoding, the schema for editors and the docs.
//!
//! A dataset type, a function or a provider declares a `&'static [Field]`; [`Record::read`] checks a mapping against
//! it and reports every problem at once; [`schema`] writes the same table as JSON Schema.

use serde_json::Value as Json;

use super::tree::Node;
use crate::diagnostic::{Diagnostics, Span};

/// One key of a mapping.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// Other spellings that mean the same (`filepath` for `path`).
    pub aliases: &'static [&'static str],
    /// What its value may be.
    pub kind: Kind,
    /// True when it must be there.
    pub required: bool,
    /// The default as shown in docs and schema (a YAML scalar); empty for none.
    pub default: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text.
    Text,
    /// A text under a secret's name.
    Secret,
    /// `true` or `false`.
    Bool,
    /// A whole number in a range, both ends included.
    Integer(i64, i64),
    /// A number in a range, both ends included.
    Number(f64, f64),
    /// Seconds as a number, or `500ms`, `10m`, `1h`.
    Duration,
    /// Bytes as a number, or `512MiB`, `2GB`.
    Bytes,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// The word, or what the kind says: `auto` or a number.
    OrWord(&'static str, &'static Kind),
    /// A list of one kind. A single value is read as a list of one.
    List(&'static Kind),
    /// A mapping with these keys.
    Record(&'static [Field]),
    /// A mapping with any keys, all values of one kind.
    Map(&'static Kind),
    /// Anything, checked by whoever reads it.
    Any,
}

impl Field {
    /// A key that may be left out.
    pub const fn optional(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self { name, aliases: &[], kind, required: false, default, doc }
    }

    /// A key that must be there.
    pub const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, aliases: &[], kind, required: true, default: "", doc }
    }

    /// The same key under other spellings as well.
    #[must_use]
    pub const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}
