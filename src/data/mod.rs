//! Data: bytes to Arrow and back, on every store.
//!
//! Owns the [`Dataset`] contract, the [`DATASETS`] table, object stores, hive partitions and atomic publishing.
//! Must not know nodes, pipelines, providers or progress bars.
//!
//! Adding a file format: one file in `format/` with a `pub static …` that implements its `FormatType`, one line in
//! [`DATASETS`]. Adding any other dataset type: the same with [`DatasetType`].
//!
//! # How a write is committed
//!
//! - A partition is one object whose name is its receipt (`file_name`): `bucket=12/<32 hex digits>-b8123.parquet`
//!   says how long it is, so that a truncated one is never used; a computed one also says its rows and, if
//!   there are any, those with an error: `…-r500-e2-b8123.parquet`. It is committed by one atomic PUT, or a rename, of
//!   the complete object; then other files of that key go. State is read by listing only.
//! - What others wrote is known by its content (`contents`), on a store by size and etag, and never by its times.
//! - A table written with `partition_by` names each partition by a digest of its rows, so an unchanged partition is
//!   left alone. On the local disk it is staged in `.<name>.flow-staging` beside the dataset (readers take any file
//!   inside for data) and published by renames once it is whole; on an object store each partition is PUT under its
//!   final name. What is stale goes last.
//! - A table has a receipt beside it, `.<name>.flow`, which counts only while the listing is what the write left.
//!   Computed partitions need none: their names say it.
//! - A writer holds a lease ([`Stores::lease`]), `.<name>.flow-lock` beside the dataset. Every change asks it first
//!   (`guard`), and it is given back after the last one has ended.
//! - Every moment at which something new is on the disk or the store is a fault point ([`faults`]), so that a test can
//!   end the process at each.
//! - A write survives the death of the process at any moment; that of the machine once [`Dataset::synced`] has come
//!   back, which many commits share (`syncer`). Nothing is removed and no receipt written for what is not synced yet.

mod accept_partition;
mod address;
mod args;
mod backend;
mod capability;
mod checkpoint;
mod commit;
mod contents;
mod credentials;
mod dataset;
mod dataset_info;
mod dataset_type;
mod declared;
mod digest;
mod document;
mod engine;
mod error;
mod exchange;
mod fault_store;
mod faults;
mod fence;
mod file_dataset;
mod file_name;
mod file_set;
mod file_status;
mod files;
mod format;
mod glob;
mod grouping;
mod guard;
mod incremental;
mod late;
mod lease;
mod lease_holder;
mod library;
mod listing;
mod listing_cache;
mod local_backend;
mod local_lock;
mod location;
mod logged;
mod memory;
mod memory_store;
mod names;
mod objects;
mod of_kedro;
mod options;
mod ownership;
mod panics;
mod partition;
mod partition_columns;
mod partition_receipts;
mod partition_splitter;
mod private;
mod receipt;
mod remote_backend;
mod remote_lock;
mod row_outcomes;
mod schema_difference;
mod schema_widening;
mod sort;
mod space;
mod spooled_file;
mod store_clients;
mod store_error;
mod store_kind;
mod store_path;
mod stores;
mod syncer;
mod tasks;
mod temporary;
mod type_info;
mod types;
mod unsupported;
mod walk;
mod web;
mod write;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod shard_tests;

pub use self::{
    address::{Address, Claim, normalized, overlaps},
    capability::{
        Checkpointed, Document, External, OnError, PartitionSink, PartitionSource, PartitionWriter, TableSink,
        TableSource, WriteOptions, WriteRequest, Written,
    },
    dataset::Dataset,
    dataset_info::{DatasetInfo, DatasetState},
    dataset_type::{DatasetType, FileType},
    declared::{DeclaredColumns, cast_exactly},
    engine::{explain, session},
    error::{DataError, RowsFailed},
    exchange::{LocalFiles, local_parquet, parquet_columns, read_in_order, write_parquet_file},
    faults::kill_at,
    glob::Glob,
    lease::Lease,
    listing_cache::KeepListings,
    location::{InvalidLocation, Location, unsupported_scheme},
    memory_store::HeldObject,
    names::SIBLING_SUFFIXES,
    objects::{Folder, Object, Objects, check_folder},
    of_kedro::decode_of_kedro,
    ownership::Occupants,
    panics::{panic_text, print_only_uncaught_panics},
    partition::{Partition, PartitionFile, PartitionReceipt},
    private::{create_private_file, create_private_folder},
    row_outcomes::{ComputedRows, RowOutcomes},
    schema_difference::same_type,
    sort::{Freed, SortedChunk, sort},
    store_clients::EnvironmentLookup,
    stores::Stores,
    syncer::Unbatched,
    tasks::blocking,
    temporary::TemporaryFolder,
    type_info::TypeInfo,
    types::{DATASETS, decode},
};
