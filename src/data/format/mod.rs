//! File formats: bytes to record batches and back, each in a file of its own.
//!
//! Adding one: a file here (and its `mod` line) with a static that implements [`FormatType`], and a line in
//! [`DATASETS`](super::DATASETS). Nothing else knows a format by name.

pub(super) mod arrow;
mod coding;
mod contract;
pub(super) mod csv;
mod exact;
mod file;
pub(super) mod json;
mod numbers;
pub(super) mod parquet;
mod sql_types;
pub(super) mod text;
mod text_only;
mod types;

pub(super) use self::{
    contract::{ColumnTypes, Encoder, FileFormat, FormatType, WriterFactory},
    file::{BATCH_ROWS, Input},
    sql_types::{parse as parse_sql_type, unknown as unknown_sql_type},
};
