//! Configuration: from the YAML of a project to specs that every other room reads.
//!
//! Owns parsing, layers, interpolation and decoding. Must not know dataset types, functions or the graph.

mod fields;
mod grammar;
mod interpolate;
mod place;
mod python;
mod quantity;
mod record;
mod scalar;
mod spec;
mod tree;
mod yaml;
mod yaml_errors;

pub use fields::{Field, Kind, schema};
pub use quantity::{InvalidQuantity, parse_bytes, parse_duration};
pub use record::Record;
pub use spec::{
    Binding, Bindings, CatalogSpec, DatasetSpec, NodeSpec, PipelineSpec, Project, ResolvedDataset, Spanned,
};
pub use tree::{Entry, Map, Node, Value};

/// Reads one YAML text into a tree, for datasets that are YAML documents.
pub fn parse_yaml(
    sources: &crate::diagnostic::Sources,
    source: crate::diagnostic::SourceId,
    problems: &mut crate::diagnostic::Diagnostics,
) -> Option<Node> {
    yaml::parse(source, &sources.get(source).text, problems)
}
