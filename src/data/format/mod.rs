//! File formats: bytes to record batches and back, each in a file of its own.
//!
//! Adding one: a file here with a `pub static` that implements [`FormatType`], and a line in
//! [`DATASETS`](super::DATASETS). Nothing else knows a format by name.

mod arrow;
mod contract;
mod csv;
mod file;
mod json;
mod parquet;
mod text;
mod types;

pub(super) use self::{
    arrow::ARROW,
    contract::{Encoder, FileFormat, FormatType, WriterFactory},
    csv::CSV,
    file::{BATCH_ROWS, Input},
    json::JSON,
    parquet::PARQUET,
    text::TEXT,
};
