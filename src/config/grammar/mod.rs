//! The grammar of `${…}`: OmegaConf's, parsed by hand into parts.
//!
//! Owns syntax alone: what a name refers to is not known here. Offsets count bytes of the string as YAML decoded it.

mod parser;
mod syntax;
mod words;

pub(super) use parser::{parse_element, parse_text};
pub(super) use syntax::{Element, Interpolation, Part, Reference, SyntaxError, has_interpolation};

#[cfg(test)]
mod tests;
