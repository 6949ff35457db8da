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
pub use yaml::parse as parse_yaml;
