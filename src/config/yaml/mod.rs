//! YAML to the spanned tree: anchors, `<<` merges, duplicate keys, and limits that hold against hostile files.
//!
//! The events come from `granit-parser`; what a tree is, and what is refused, is decided here. YAML is 1.2 core; a
//! scalar that YAML 1.1 reads otherwise is kept, with a warning.

mod builder;
mod errors;
mod parse;
mod write;

pub use parse::parse;
pub(super) use parse::parse_file;
pub use write::to_yaml;

#[cfg(test)]
mod tests;
