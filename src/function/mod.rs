//! Functions: what to compute, registered under a name.
//!
//! Owns the [`Function`] contract and the [`FUNCTIONS`] table. Must not know where data is stored, how many partitions
//! run at once, or how a run is displayed.
//!
//! Adding a function: one file with a unit struct that implements [`Function`], one line in [`FUNCTIONS`].

mod added_columns;
mod answer_client;
mod bucketize;
mod call_api;
mod chunks;
mod code_log;
mod column_origin;
mod column_type;
mod command;
mod compute_embeddings;
mod context;
mod contract;
mod engine;
mod error;
mod generate;
mod in_order;
mod kedro;
mod memory_budget;
mod output_partitions;
mod outputs_job;
mod placeholder;
mod problems;
mod python;
mod row_template;
mod rows;
mod service_headers;
mod spark;
mod sql;
mod strings;
mod unkept;

pub use column_origin::{ColumnOrigin, Columns, OriginKind};
pub use context::Context;
pub use contract::{
    Arguments, DatasetArgument, Function, Job, PartitionChunk, PartitionJob, PartitionOutput, PartitionTask, TableJob,
    Tables,
};
pub use engine::Engine;
pub use error::FunctionError;
pub use in_order::in_order;
pub use memory_budget::{MemoryBudget, Reservation};
pub use output_partitions::{KnownColumns, OutputPartition, OutputPartitions};
pub use outputs_job::{NodeInput, NodeOutput, Outputs, OutputsJob};
pub use rows::{compute_rows, estimate_rows};

/// Every function that ships, in the order of `flow ls functions`.
pub static FUNCTIONS: &[&dyn Function] = &[
    &bucketize::Bucketize,
    &call_api::CallApi,
    &compute_embeddings::ComputeEmbeddings,
    &generate::Generate,
    &sql::Sql,
    &python::Python,
    &kedro::Kedro,
    &command::Command,
    &placeholder::Placeholder,
];
