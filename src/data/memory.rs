//! `memory`: data that lives as long as the run.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::TableProvider, datasource::MemTable, execution::SendableRecordBatchStream,
    physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::TryStreamExt as _;

use super::{
    DataError, Dataset, DatasetInfo, DatasetState, DatasetType, Document, Partition, PartitionFile, PartitionReceipt,
    PartitionSink, PartitionSource, PartitionWriter, RowOutcomes, Stores, TableSink, TableSource, TypeInfo,
    WriteOptions, WriteRequest, Written,
    args::{ArgsTables, DeclaredArgs},
    digest::ContentDigest,
    library::Library,
    memory_store::{HeldObject, HeldPartition, MemoryContent, MemoryStore},
    options::{MAX_WORKERS, ON_ERROR, OVERWRITE, SAVE_ARGS, TIMEOUT, WRITE_FIELDS, layer, write_options},
    partition_columns::{partition_fields, with_key},
};
use crate::{
    config::{DatasetSpec, Field, Kind, Record},
    diagnostic::Diagnostics,
    model::{Fingerprint, PartitionKey, Shape, base_name},
};

/// The type `memory`.
pub(super) static MEMORY: MemoryType = MemoryType;

/// See [`MEMORY`].
pub(super) struct MemoryType;

impl DatasetType for MemoryType {
    fn type_info(&self) -> TypeInfo {
        TypeInfo {
            name: "memory",
            aliases: &["MemoryDataset", "io.MemoryDataset", "kedro.io.MemoryDataset", "CachedMemoryDataset"],
            doc: "data that lives as long as the run; the next run computes it again",
        }
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            Field::optional("shape", Kind::Choice(&["table", "partitions", "value"]), "table", "what it holds"),
            OVERWRITE,
            MAX_WORKERS,
            TIMEOUT,
            ON_ERROR,
            SAVE_ARGS,
            Field::optional("copy_mode", Kind::Text, "", "read and not needed: what is held never changes"),
        ];
        FIELDS
    }

    fn save_args(&self) -> Vec<&'static [Field]> {
        vec![WRITE_FIELDS]
    }

    fn decode(
        &self,
        spec: &DatasetSpec,
        entry: &Record<'_>,
        _types: &[&'static dyn DatasetType],
        problems: &mut Diagnostics,
    ) -> Option<Arc<dyn Dataset>> {
        let shape = match entry.word("shape") {
            Some("partitions") => Shape::Partitions,
            Some("value") => Shape::Value,
            _ => Shape::Table,
        };
        let save = ArgsTables { read: self.save_args(), inert: &[] };
        let library = Library::of(&spec.kind.value);
        let args = DeclaredArgs::of(spec, library, ArgsTables::default(), save, problems);
        let options = write_options(spec, &args.save.read(problems), entry, problems);
        let info = DatasetInfo {
            name: spec.name.clone(),
            type_name: "memory".to_owned(),
            shape,
            location: None,
            persistent: false,
            supported: true,
            layer: layer(spec),
        };
        Some(Arc::new(MemoryDataset { info, options }))
    }
}

#[derive(Debug)]
struct MemoryDataset {
    info: DatasetInfo,
    options: WriteOptions,
}

impl MemoryDataset {
    fn get(&self, stores: &Stores) -> Option<MemoryContent> {
        stores.memory().locked(|all| all.get(base_name(&self.info.name)).cloned())
    }

    fn put(&self, stores: &Stores, content: MemoryContent) {
        stores.memory().locked(|all| all.insert(base_name(&self.info.name).to_owned(), content));
    }

    fn missing(&self) -> DataError {
        DataError::Missing { dataset: self.info.name.clone(), location: "memory".to_owned() }
    }

    /// Another view of it was written in another way.
    fn holds_another(&self, wanted: &str) -> DataError {
        DataError::unsupported(
            &self.info.name,
            format!("does not hold {wanted}: another view wrote something else to it"),
        )
    }
}

#[async_trait]
impl Dataset for MemoryDataset {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn keeps_columns(&self) -> bool {
        true
    }

    async fn state(&self, stores: &Stores) -> Result<DatasetState, DataError> {
        Ok(match self.get(stores) {
            None => DatasetState::default(),
            Some(MemoryContent::Table { digest, receipt, .. }) => {
                DatasetState { digest: Some(digest), receipt: Some(receipt), ..DatasetState::default() }
            }
            Some(MemoryContent::Value { value, receipt }) => DatasetState {
                digest: Some(Fingerprint::of(value.to_string())),
                receipt: Some(receipt),
                ..DatasetState::default()
            },
            Some(MemoryContent::Held { receipt, .. }) => {
                DatasetState { digest: Some(receipt), receipt: Some(receipt), ..DatasetState::default() }
            }
            Some(MemoryContent::Partitions(partitions)) => {
                let mut builder = Fingerprint::builder("partitions");
                for (key, held) in &partitions {
                    builder.push(key.path().as_bytes());
                    builder.push(held.fingerprint.as_bytes());
                }
                DatasetState { digest: (!partitions.is_empty()).then(|| builder.finish()), ..DatasetState::default() }
            }
        })
    }

    fn as_table_source(&self) -> Option<&dyn TableSource> {
        (self.info.shape != Shape::Value).then_some(self)
    }

    fn as_table_sink(&self) -> Option<&dyn TableSink> {
        (self.info.shape == Shape::Table).then_some(self)
    }

    fn as_partition_source(&self) -> Option<&dyn PartitionSource> {
        (self.info.shape == Shape::Partitions).then_some(self)
    }

    fn as_partition_sink(&self) -> Option<&dyn PartitionSink> {
        (self.info.shape == Shape::Partitions).then_some(self)
    }

    fn as_document(&self) -> Option<&dyn Document> {
        (self.info.shape == Shape::Value).then_some(self)
    }
}

#[async_trait]
impl TableSource for MemoryDataset {
    async fn table(&self, stores: &Stores) -> Result<Arc<dyn TableProvider>, DataError> {
        match self.get(stores) {
            Some(MemoryContent::Table { schema, batches, .. }) => {
                Ok(Arc::new(MemTable::try_new(schema, vec![batches])?))
            }
            Some(MemoryContent::Partitions(partitions)) => {
                let fields = partition_fields(partitions.keys());
                let mut schema = None;
                let mut batches = Vec::new();
                for (key, held) in &partitions {
                    let empty = RecordBatch::new_empty(Arc::clone(&held.schema));
                    for batch in std::iter::once(&empty).chain(&held.batches) {
                        let batch = with_key(batch, key, &fields)?;
                        schema.get_or_insert_with(|| batch.schema());
                        batches.push(batch);
                    }
                }
                Ok(Arc::new(MemTable::try_new(schema.ok_or_else(|| self.missing())?, vec![batches])?))
            }
            Some(_) => Err(self.holds_another("a table")),
            None => Err(self.missing()),
        }
    }
}

#[async_trait]
impl TableSink for MemoryDataset {
    fn partition_columns(&self) -> Vec<String> {
        Vec::new()
    }

    fn keeps_types(&self) -> bool {
        true
    }

    async fn write_table(&self, stores: &Stores, request: WriteRequest<'_>) -> Result<Written, DataError> {
        let WriteRequest { mut table, receipt, progress, .. } = request;
        let schema = table.schema();
        let mut digest = ContentDigest::new(&schema);
        let mut batches = Vec::new();
        let mut written = Written { partitions: 1, ..Written::default() };
        while let Some(batch) = table.try_next().await? {
            digest.update(&batch)?;
            written.rows += batch.num_rows() as u64;
            written.bytes += batch.get_array_memory_size() as u64;
            progress(batch.num_rows() as u64);
            batches.push(batch);
        }
        self.put(stores, MemoryContent::Table { schema, batches, digest: digest.finish(), receipt });
        Ok(written)
    }

    async fn preview_table(
        &self,
        _stores: &Stores,
        _table: SendableRecordBatchStream,
    ) -> Result<Vec<Partition>, DataError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl PartitionSource for MemoryDataset {
    async fn partitions(&self, stores: &Stores) -> Result<Vec<Partition>, DataError> {
        let partitions = match self.get(stores) {
            None => return Ok(Vec::new()),
            Some(MemoryContent::Partitions(partitions)) => partitions,
            Some(_) => return Err(self.holds_another("partitions")),
        };
        let listed = partitions.into_iter().map(|(key, held)| {
            let size = held.batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>() as u64;
            let path = format!("{}/{}", key.path(), held.fingerprint).into();
            let rows = Some(held.batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64);
            let (fingerprint, outcomes) = (held.fingerprint, held.outcomes);
            let receipt = Some(PartitionReceipt { fingerprint, rows, outcomes });
            Partition { key, digest: fingerprint, files: vec![PartitionFile { path, size, whole: true }], receipt }
        });
        Ok(listed.collect())
    }

    async fn load_partition(
        &self,
        stores: &Stores,
        partition: &Partition,
    ) -> Result<SendableRecordBatchStream, DataError> {
        let held = stores.memory().locked(|all| match all.get(base_name(&self.info.name)) {
            Some(MemoryContent::Partitions(partitions)) => partitions.get(&partition.key).cloned(),
            _ => None,
        });
        let held = held.ok_or_else(|| self.missing())?;
        let fields = partition_fields(std::iter::once(&partition.key));
        let promoted = held.batches.into_iter().map(move |batch| with_key(&batch, &partition.key, &fields));
        let batches = promoted.collect::<Result<Vec<_>, DataError>>()?;
        let schema = match batches.first() {
            Some(batch) => batch.schema(),
            None => {
                let empty = RecordBatch::new_empty(held.schema);
                with_key(&empty, &partition.key, &partition_fields(std::iter::once(&partition.key)))?.schema()
            }
        };
        let stream = futures::stream::iter(batches.into_iter().map(Ok));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}

#[async_trait]
impl PartitionSink for MemoryDataset {
    fn write_options(&self) -> WriteOptions {
        self.options
    }

    fn write_partition(
        &self,
        stores: &Stores,
        key: &PartitionKey,
        fingerprint: Fingerprint,
        schema: SchemaRef,
    ) -> Result<Box<dyn PartitionWriter>, DataError> {
        Ok(Box::new(PendingPartition {
            memory: stores.memory().clone(),
            base: base_name(&self.info.name).to_owned(),
            key: key.clone(),
            held: HeldPartition { schema, batches: Vec::new(), fingerprint, outcomes: RowOutcomes::default() },
        }))
    }

    async fn retain_partitions(
        &self,
        stores: &Stores,
        keep: &BTreeMap<PartitionKey, Fingerprint>,
    ) -> Result<usize, DataError> {
        if !self.options.overwrite {
            return Ok(0);
        }
        Ok(stores.memory().locked(|all| match all.get_mut(base_name(&self.info.name)) {
            Some(MemoryContent::Partitions(partitions)) => {
                let before = partitions.len();
                partitions.retain(|key, _| keep.contains_key(key));
                before - partitions.len()
            }
            _ => 0,
        }))
    }
}

#[async_trait]
impl Document for MemoryDataset {
    async fn value(&self, stores: &Stores) -> Result<serde_json::Value, DataError> {
        match self.get(stores) {
            Some(MemoryContent::Value { value, .. }) => Ok(value),
            Some(_) => Err(self.holds_another("a value")),
            None => Err(self.missing()),
        }
    }

    fn held(&self, stores: &Stores) -> Option<HeldObject> {
        match self.get(stores) {
            Some(MemoryContent::Held { object, .. }) => Some(object),
            _ => None,
        }
    }

    fn hold(&self, stores: &Stores, object: HeldObject, receipt: Fingerprint) -> Result<(), DataError> {
        self.put(stores, MemoryContent::Held { object, receipt });
        Ok(())
    }

    async fn write_value(
        &self,
        stores: &Stores,
        value: &serde_json::Value,
        receipt: Fingerprint,
    ) -> Result<Written, DataError> {
        self.put(stores, MemoryContent::Value { value: value.clone(), receipt });
        Ok(Written { partitions: 1, ..Written::default() })
    }
}

/// A partition that is not committed yet.
struct PendingPartition {
    memory: MemoryStore,
    base: String,
    key: PartitionKey,
    held: HeldPartition,
}

#[async_trait]
impl PartitionWriter for PendingPartition {
    async fn write(mut self: Box<Self>, batch: RecordBatch) -> Result<Box<dyn PartitionWriter>, DataError> {
        self.held.batches.push(batch);
        Ok(self)
    }

    async fn commit(self: Box<Self>, outcomes: RowOutcomes) -> Result<Written, DataError> {
        let Self { memory, base, key, held } = *self;
        let held = HeldPartition { outcomes, ..held };
        let rows = held.batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
        let bytes = held.batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>() as u64;
        memory.locked(|all| {
            let content = all.entry(base).or_insert_with(|| MemoryContent::Partitions(BTreeMap::new()));
            match content {
                MemoryContent::Partitions(partitions) => {
                    partitions.insert(key, held);
                }
                other => *other = MemoryContent::Partitions(BTreeMap::from([(key, held)])),
            }
        });
        Ok(Written { rows, bytes, partitions: 1, unchanged: 0 })
    }
}
