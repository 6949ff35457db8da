//! Functions: what to compute, registered under a name.
//!
//! Owns the [`Function`] contract and the [`FUNCTIONS`] table. Must not know where data is stored, how many partitions
//! run at once, or how a run is displayed.
//!
//! Adding a function: one file with a unit struct that implements [`Function`], one line in [`FUNCTIONS`].

mod bucketize;
mod call_api;
mod chunks;
mod code_log;
mod command;
mod compute_embeddings;
mod contract;
mod error;
mod in_order;
mod kedro;
mod memory_budget;
mod placeholder;
mod python;
mod spark;
mod sql;

pub use contract::{
    Arguments, ColumnOrigin, Columns, Context, DatasetArgument, Engine, Function, Job, NodeInput, NodeOutput,
    OriginKind, OutputPartition, OutputPartitions, Outputs, OutputsJob, PartitionChunk, PartitionJob, PartitionOutput,
    PartitionTask, TableJob, Tables,
};
pub use error::FunctionError;
use in_order::in_order;
pub use memory_budget::{MemoryBudget, Reservation};

/// Every function that ships, in the order of `flow ls functions`.
pub static FUNCTIONS: &[&dyn Function] = &[
    &bucketize::Bucketize,
    &call_api::CallApi,
    &compute_embeddings::ComputeEmbeddings,
    &sql::Sql,
    &python::Python,
    &kedro::Kedro,
    &command::Command,
    &placeholder::Placeholder,
];
