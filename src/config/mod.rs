//! Configuration: from the YAML of a project to specs that every other module reads.
//!
//! Owns parsing, layers, interpolation and decoding. Must not know dataset types, functions or the graph.
//!
//! Data flow: [`yaml`] parses a file into a tree with spans, [`files`] and [`layers`] merge trees, [`params`] applies
//! `--params`, [`interpolate`] resolves `${…}`, [`catalog`] and [`pipelines`] decode specs; [`load()`] does all of it.

mod catalog;
mod fields;
mod files;
#[cfg(test)]
mod fuzz_tests;
mod grammar;
mod include;
mod interpolate;
mod kedro;
mod layers;
mod load;
mod params;
mod patterns;
mod pipelines;
mod python;
mod quantity;
mod record;
mod referenced;
mod regular;
mod resources;
mod scalar;
mod schema;
mod spark;
mod spec;
mod tree;
mod tree_path;
mod yaml;

pub use catalog::DATASET_FIELDS;
pub use fields::{Field, Kind, schema};
pub use files::find_project;
pub use include::INCLUDE_FIELDS;
pub use kedro::{Ask, AskError, KEDRO_FUNCTION};
pub use load::{LoadOptions, load};
pub use pipelines::{NODE_FIELDS, PIPELINE_FIELDS};
pub use quantity::{InvalidQuantity, parse_age, parse_bytes, parse_duration, parse_kept_bytes};
pub use record::Record;
pub use regular::{ReadError, open_regular_file, read_regular_file};
pub use resources::{LEAST_MEMORY, RESOURCE_FIELDS, Resources};
pub use schema::{FileSchema, MappingSchema, TypeSchema, catalog_schema, parameters_schema, pipeline_schema};
pub use spark::SPARK_FIELDS;
pub use spec::{
    Binding, Bindings, CatalogSpec, DatasetSpec, KedroProject, NodeSpec, PipelineSpec, Project, ResolvedDataset,
    Spanned,
};
pub use tree::{Entry, Map, Node, Value};
pub use yaml::{parse as parse_yaml, to_yaml};
