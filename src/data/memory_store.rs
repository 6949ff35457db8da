//! What `memory` datasets hold while a run lasts.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use super::RowOutcomes;
use crate::model::{Fingerprint, PartitionKey, base_name};

/// What memory datasets hold, by base name: all views of a base are the same data.
#[derive(Debug, Default, Clone)]
pub(super) struct MemoryStore(Arc<Mutex<HashMap<String, MemoryContent>>>);

/// What one dataset holds.
#[derive(Debug, Clone)]
pub(super) enum MemoryContent {
    Table { schema: SchemaRef, batches: Vec<RecordBatch>, digest: Fingerprint, receipt: Fingerprint },
    Partitions(BTreeMap<PartitionKey, HeldPartition>),
    Value { value: serde_json::Value, receipt: Fingerprint },
    Held { object: HeldObject, receipt: Fingerprint },
}

/// An object that a program of another language holds; it may let go of it when this is dropped.
#[derive(Clone)]
pub struct HeldObject(pub Arc<dyn Any + Send + Sync>);

impl fmt::Debug for HeldObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldObject").finish_non_exhaustive()
    }
}

/// One partition that is held.
#[derive(Debug, Clone)]
pub(super) struct HeldPartition {
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
    pub(super) fingerprint: Fingerprint,
    pub(super) outcomes: RowOutcomes,
}

impl MemoryStore {
    /// Drops a dataset after its last reader.
    pub(super) fn forget(&self, name: &str) {
        self.locked(|all| all.remove(base_name(name)));
    }

    /// Works on everything that is held.
    pub(super) fn locked<T>(&self, work: impl FnOnce(&mut HashMap<String, MemoryContent>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
