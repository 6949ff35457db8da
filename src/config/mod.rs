//! Configuration: from the YAML of a project to specs that every other module reads.
//!
//! Owns parsing, layers, interpolation and decoding. Must not know dataset types, functions or the graph.
//!
//! The way of a text: [`yaml`] makes a tree with places of it, [`files`] and [`layers`] merge trees, [`interpolate`]
//! leaves no `${` in them, [`catalog`] and [`pipelines`] make specs of them, [`load()`] does it all.

mod catalog;
mod fields;
mod files;
mod grammar;
mod include;
mod interpolate;
mod layers;
mod load;
mod patterns;
mod pipelines;
mod place;
mod python;
mod quantity;
mod record;
mod regular;
mod runtime;
mod scalar;
mod schema;
mod spec;
mod tree;
mod yaml;
mod yaml_errors;

pub use catalog::DATASET_FIELDS;
pub use fields::{Field, Kind, schema};
pub use files::find_project;
pub use include::INCLUDE_FIELDS;
pub use load::{LoadOptions, load};
pub use pipelines::{NODE_FIELDS, PIPELINE_FIELDS};
pub use quantity::{InvalidQuantity, parse_bytes, parse_duration};
pub use record::Record;
pub use regular::{ReadError, read_regular_file};
pub use schema::{TypeFields, catalog_schema, parameters_schema, pipeline_schema};
pub use spec::{
    Binding, Bindings, CatalogSpec, DatasetSpec, NodeSpec, PipelineSpec, Project, ResolvedDataset, Spanned,
};
pub use tree::{Entry, Map, Node, Value};
pub use yaml::parse as parse_yaml;
