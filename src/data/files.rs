//! The files of a dataset as one table or as streams: the schema they share, partition columns from their paths.
//!
//! Parquet tables are scanned by DataFusion's own source, with the files named one by one, so what Spark leaves
//! around and our receipts beside the dataset never matter. Every other format is read by [`super::format`].

use std::{collections::VecDeque, fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray},
    compute::{cast, filter},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider, streaming::StreamingTable},
    common::{DFSchema, ScalarValue, cast::as_boolean_array},
    datasource::{
        TableType,
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
            parquet::DefaultParquetFileReaderFactory,
        },
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::{DataFusionError, Result as DfResult},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{Expr, TableProviderFilterPushDown},
    physical_plan::{
        ExecutionPlan, metrics::ExecutionPlanMetricsSet, stream::RecordBatchStreamAdapter, streaming::PartitionStream,
    },
};
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use parquet::{
    arrow::{
        arrow_reader::ArrowReaderOptions,
        async_reader::{AsyncFileReader, MetadataFetch},
        parquet_to_arrow_schema,
    },
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};
use tokio::sync::mpsc;

use super::{
    error::DataError,
    format::{Format, Input},
    listing::{Listing, check_whole, partition_fields},
    store_path::StorePath,
    tasks::{blocking, ended},
};
use crate::model::{PartitionKey, PartitionValue};

/// Remote files up to this size are held in memory while they are read; larger ones go through a temporary file.
const IN_MEMORY: u64 = 64 << 20;
/// Partition files up to this size are read in one go.
const READ_ONCE: u64 = 16 << 20;
/// Batches that a reader may be ahead of its consumer.
const AHEAD: usize = 2;

/// One file of a table.
#[derive(Debug, Clone)]
pub(super) struct DataFile {
    /// Relative to the dataset.
    pub(super) path: String,
    /// In bytes.
    pub(super) size: u64,
    /// The partition it belongs to.
    pub(super) key: Option<PartitionKey>,
}

/// The files of a dataset and the schema they share.
#[derive(Debug, Clone)]
pub(super) struct Files {
    place: StorePath,
    format: Format,
    files: Arc<[DataFile]>,
    /// The first file, where it was read already.
    first: Option<Input>,
    /// Columns in the files, without partition columns.
    file_schema: SchemaRef,
    /// Columns in the paths.
    partition_fields: Vec<FieldRef>,
}

impl Files {
    /// The files of a listing. The first file sets the schema; one that differs is reported when it is read.
    pub(super) async fn of_listing(
        place: &StorePath,
        format: &Format,
        listing: &Listing,
    ) -> Result<Option<Self>, DataError> {
        let files: Vec<DataFile> = match listing.partitions(place.shown(), "")? {
            Some(partitions) => {
                let files = partitions.into_iter().flat_map(|partition| {
                    let key = partition.key;
                    partition.files.into_iter().map(move |file| DataFile {
                        path: file.path,
                        size: file.size,
                        key: Some(key.clone()),
                    })
                });
                files.collect()
            }
            None => {
                listing.entries().iter().map(|e| DataFile { path: e.path.clone(), size: e.size, key: None }).collect()
            }
        };
        Self::of_files(place, format, files).await
    }

    /// These files; `None` when there are none.
    pub(super) async fn of_files(
        place: &StorePath,
        format: &Format,
        files: Vec<DataFile>,
    ) -> Result<Option<Self>, DataError> {
        check_all(place, &files)?;
        let Some(first) = files.first() else { return Ok(None) };
        let schema = schema_of(place, format, first).await?;
        Ok(Some(Self::with_schema(place, format, files, &schema)))
    }

    /// The files of one partition, which will all be read: the first is read once, for its schema and its rows.
    pub(super) async fn of_partition(
        place: &StorePath,
        format: &Format,
        files: Vec<DataFile>,
    ) -> Result<Option<Self>, DataError> {
        check_all(place, &files)?;
        let Some(first) = files.first() else { return Ok(None) };
        if first.size > READ_ONCE {
            return Self::of_files(place, format, files).await;
        }
        let (input, _kept) = fetch(place, first).await?;
        let (reader, shown) = (format.clone(), place.show(&first.path));
        let (schema, bytes) = blocking(move || {
            let bytes = match input {
                Input::Bytes(bytes) => bytes,
                Input::Path(path) => {
                    std::fs::read(path).map_err(|source| DataError::Io { path: shown.clone(), source })?.into()
                }
            };
            let schema = reader.schema(&Input::Bytes(bytes.clone()), &shown)?;
            Ok::<_, DataError>((schema, bytes))
        })
        .await?;
        let mut files = Self::with_schema(place, format, files, &schema);
        files.first = Some(Input::Bytes(bytes));
        Ok(Some(files))
    }

    fn with_schema(place: &StorePath, format: &Format, files: Vec<DataFile>, schema: &Schema) -> Self {
        let partition_fields = partition_fields(files.iter().filter_map(|file| file.key.as_ref()));
        let file_schema = without(schema, &partition_fields);
        let (place, format) = (place.clone(), format.clone());
        Self { place, format, files: files.into(), first: None, file_schema, partition_fields }
    }

    /// All columns: those of the files, then those of the paths.
    pub(super) fn schema(&self) -> SchemaRef {
        let fields = self.file_schema.fields().iter().chain(&self.partition_fields).cloned();
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The files one after the other, on a blocking thread that stays [`AHEAD`] batches ahead.
    pub(super) fn stream(&self) -> SendableRecordBatchStream {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let this = self.clone();
        let schema = self.schema();
        let task = tokio::spawn(async move {
            for (i, file) in this.files.iter().enumerate() {
                let known = this.first.clone().filter(|_| i == 0);
                if let Err(error) = this.read(file, known, &sender).await {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
                if sender.is_closed() {
                    return;
                }
            }
        });
        // Ends the reading task with the stream, and passes on its panics.
        let guard = AbortOnDrop(task.abort_handle());
        let batches =
            futures::stream::unfold((receiver, guard, Some(task)), |(mut receiver, guard, task)| async move {
                if let Some(item) = receiver.recv().await {
                    return Some((item.map_err(DataFusionError::from), (receiver, guard, task)));
                }
                ended(task?.await).await;
                None
            });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }

    async fn read(
        &self,
        file: &DataFile,
        known: Option<Input>,
        sender: &mpsc::Sender<Result<RecordBatch, DataError>>,
    ) -> Result<(), DataError> {
        let (input, _kept) = match known {
            Some(input) => (input, None),
            None => fetch(&self.place, file).await?,
        };
        let (this, file, sender) = (self.clone(), file.clone(), sender.clone());
        blocking(move || {
            let shown = this.place.show(&file.path);
            let whole = this.whole_file_schema();
            let reading = this.format.open(&input, &shown, whole.as_ref())?;
            this.check(&reading.schema, &shown)?;
            let output = this.schema();
            for batch in reading.batches {
                let batch = this.promote(&batch?, &file, &output)?;
                if sender.blocking_send(Ok(batch)).is_err() {
                    break;
                }
            }
            Ok(())
        })
        .await
    }

    /// What formats without types in their files are told to expect.
    fn whole_file_schema(&self) -> Option<SchemaRef> {
        Some(Arc::clone(&self.file_schema))
    }

    fn check(&self, found: &Schema, shown: &str) -> Result<(), DataError> {
        match difference(&self.file_schema, &without(found, &self.partition_fields)) {
            None => Ok(()),
            Some(difference) => {
                let first = self.files.first().map(|file| self.place.show(&file.path)).unwrap_or_default();
                Err(DataError::Drift { file: shown.to_owned(), first, difference })
            }
        }
    }

    /// Puts a file's columns in the order of the dataset and adds its partition columns.
    fn promote(&self, batch: &RecordBatch, file: &DataFile, output: &SchemaRef) -> Result<RecordBatch, DataError> {
        let rows = batch.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(output.fields().len());
        for field in self.file_schema.fields() {
            let column = batch.column_by_name(field.name()).ok_or_else(|| DataError::Corrupt {
                file: self.place.show(&file.path),
                format: self.format.name(),
                message: format!("column `{}` is gone", field.name()),
            })?;
            columns.push(if column.data_type() == field.data_type() {
                Arc::clone(column)
            } else {
                cast(column, field.data_type()).map_err(failed)?
            });
        }
        columns.extend(key_columns(&self.partition_fields, file.key.as_ref(), rows));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(output), columns, &options).map_err(failed)
    }

    /// The whole as a table.
    pub(super) fn provider(self) -> Result<Arc<dyn TableProvider>, DataError> {
        if matches!(self.format, Format::Parquet(_)) {
            return Ok(Arc::new(ParquetTable { schema: self.schema(), files: self }));
        }
        let schema = self.schema();
        let stream: Arc<dyn PartitionStream> = Arc::new(FileStream(self, Arc::clone(&schema)));
        Ok(Arc::new(StreamingTable::try_new(schema, vec![stream])?))
    }
}

/// Refuses files that were cut short.
fn check_all(place: &StorePath, files: &[DataFile]) -> Result<(), DataError> {
    files.iter().try_for_each(|file| check_whole(|| place.show(&file.path), &file.path, file.size))
}

fn failed(error: arrow::error::ArrowError) -> DataError {
    DataError::Rows(error.into())
}

/// The partition columns of `rows` rows.
fn key_columns(fields: &[FieldRef], key: Option<&PartitionKey>, rows: usize) -> impl Iterator<Item = ArrayRef> {
    fields.iter().map(move |field| -> ArrayRef {
        let value = key.and_then(|key| key.get(field.name()));
        match (field.data_type(), value) {
            (DataType::Int64, Some(PartitionValue::Integer(number))) => Arc::new(Int64Array::from_value(*number, rows)),
            (_, value) => {
                let text = value.map(ToString::to_string).unwrap_or_default();
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)))
            }
        }
    })
}

/// A batch with the columns of its partition's key behind its own.
pub(super) fn with_key(batch: &RecordBatch, key: &PartitionKey, fields: &[FieldRef]) -> Result<RecordBatch, DataError> {
    let rows = batch.num_rows();
    let schema = batch.schema();
    let own = |field: &&FieldRef| !fields.iter().any(|p| p.name() == field.name());
    let kept: Vec<FieldRef> = schema.fields().iter().filter(own).chain(fields).cloned().collect();
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .filter(|(field, _)| own(field))
        .map(|(_, column)| Arc::clone(column));
    let columns = columns.chain(key_columns(fields, Some(key), rows)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(kept)), columns, &options).map_err(failed)
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A file where a blocking reader can get at it. The second value keeps a temporary file alive.
async fn fetch(place: &StorePath, file: &DataFile) -> Result<(Input, Option<tempfile::TempPath>), DataError> {
    let at = place.child(&file.path);
    if let Some(path) = at.local() {
        return Ok((Input::Path(path.to_path_buf()), None));
    }
    let gone = || DataError::Store {
        location: at.shown().to_owned(),
        message: "it is gone".to_owned(),
        not_found: true,
        transient: false,
    };
    if file.size <= IN_MEMORY {
        return Ok((Input::Bytes(at.read().await?.ok_or_else(gone)?), None));
    }
    let Some((store, path)) = at.remote() else { return Err(gone()) };
    let got = store.get(path).await.map_err(|error| at.store_error("", &error))?;
    let mut chunks = got.into_stream();
    let mut spool = tempfile::NamedTempFile::new().map_err(|error| DataError::io(std::env::temp_dir(), error))?;
    while let Some(chunk) = chunks.try_next().await.map_err(|error| at.store_error("", &error))? {
        spool = blocking(move || {
            std::io::Write::write_all(&mut spool, &chunk).map_err(|error| DataError::io(spool.path(), error))?;
            Ok::<_, DataError>(spool)
        })
        .await?;
    }
    let path = spool.into_temp_path();
    Ok((Input::Path(path.to_path_buf()), Some(path)))
}

async fn schema_of(place: &StorePath, format: &Format, file: &DataFile) -> Result<SchemaRef, DataError> {
    if let (Format::Parquet(_), Some((store, path))) = (format, place.child(&file.path).remote()) {
        // Only the footer is asked for.
        let footer = Footer { store, path };
        let corrupt =
            |error: ParquetError| DataError::corrupt(&place.show(&file.path), "parquet", super::error::chain(&error));
        let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(1 << 16));
        let metadata = reader.load_and_finish(footer, file.size).await.map_err(corrupt)?;
        let metadata = metadata.file_metadata();
        let schema =
            parquet_to_arrow_schema(metadata.schema_descr(), metadata.key_value_metadata()).map_err(corrupt)?;
        return Ok(Arc::new(schema));
    }
    let (input, kept) = fetch(place, file).await?;
    let (format, shown) = (format.clone(), place.show(&file.path));
    blocking(move || {
        let schema = format.schema(&input, &shown);
        drop(kept);
        schema
    })
    .await
}

/// The end of a parquet file on a store.
struct Footer<'a> {
    store: &'a Arc<dyn ObjectStore>,
    path: &'a object_store::path::Path,
}

impl MetadataFetch for Footer<'_> {
    fn fetch(&mut self, range: std::ops::Range<u64>) -> BoxFuture<'_, Result<bytes::Bytes, ParquetError>> {
        async move { self.store.get_range(self.path, range).await.map_err(|error| ParquetError::External(Box::new(error))) }.boxed()
    }
}

/// A schema without the columns that the paths give, and without metadata.
pub(super) fn without(schema: &Schema, partition_fields: &[FieldRef]) -> SchemaRef {
    let fields = schema.fields().iter().filter(|field| !partition_fields.iter().any(|p| p.name() == field.name()));
    // A file written by others may say that a column is never null while its neighbour's is.
    Arc::new(Schema::new(
        fields.map(|field| Field::new(field.name(), field.data_type().clone(), true)).collect::<Vec<_>>(),
    ))
}

/// How a file's columns differ from the dataset's, in words; `None` when they hold the same.
pub(super) fn difference(expected: &Schema, found: &Schema) -> Option<String> {
    for field in expected.fields() {
        let Ok(other) = found.field_with_name(field.name()) else {
            return Some(format!("it lacks column `{}`", field.name()));
        };
        if !same_type(field.data_type(), other.data_type()) {
            return Some(format!("its column `{}` is {}, not {}", field.name(), other.data_type(), field.data_type()));
        }
    }
    let extra = found.fields().iter().find(|field| expected.field_with_name(field.name()).is_err())?;
    Some(format!("it has another column, `{}`", extra.name()))
}

fn same_type(a: &DataType, b: &DataType) -> bool {
    use DataType as T;
    let text = |t: &T| matches!(t, T::Utf8 | T::LargeUtf8 | T::Utf8View);
    let bytes = |t: &T| matches!(t, T::Binary | T::LargeBinary | T::BinaryView);
    match (a, b) {
        (T::Dictionary(_, value), other) | (other, T::Dictionary(_, value)) => same_type(value, other),
        // The name of a list's items and what may be null is up to the writer.
        (T::List(a) | T::LargeList(a), T::List(b) | T::LargeList(b)) => same_type(a.data_type(), b.data_type()),
        (T::FixedSizeList(a, n), T::FixedSizeList(b, m)) => n == m && same_type(a.data_type(), b.data_type()),
        (T::Struct(a), T::Struct(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && same_type(a.data_type(), b.data_type()))
        }
        _ => a == b || (text(a) && text(b)) || (bytes(a) && bytes(b)),
    }
}

/// All files of a format that DataFusion does not scan itself.
#[derive(Debug)]
struct FileStream(Files, SchemaRef);

impl PartitionStream for FileStream {
    fn schema(&self) -> &SchemaRef {
        &self.1
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        self.0.stream()
    }
}

/// Parquet files as a table.
#[derive(Debug)]
struct ParquetTable {
    files: Files,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for ParquetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        // Partitions and row groups that cannot match are left out; the rows are still filtered above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let Files { place, files, file_schema, partition_fields, .. } = &self.files;
        let kept = self.prune(state, filters)?;
        let (url, _) = place.object("")?;
        // A session need not know the catalog's stores beforehand.
        if let Some((store, _)) = place.remote() {
            state.runtime_env().register_object_store(url.as_ref(), Arc::clone(store));
        }
        let store = state.runtime_env().object_store(&url)?;
        let mut names = Vec::with_capacity(kept.len());
        let mut parts = VecDeque::with_capacity(kept.len());
        for file in kept {
            let (_, location) = place.object(&file.path)?;
            names.push((location.clone(), file.path.clone()));
            let meta = ObjectMeta {
                location,
                last_modified: chrono::DateTime::UNIX_EPOCH,
                size: file.size,
                e_tag: None,
                version: None,
            };
            let mut part = PartitionedFile::from(meta);
            part.partition_values = partition_fields.iter().map(|field| scalar(field, file.key.as_ref())).collect();
            parts.push_back(part);
        }
        let readers = NamedReaders {
            inner: DefaultParquetFileReaderFactory::new(store),
            files: self.files.clone(),
            names: Arc::new(names.into_iter().collect()),
        };
        let table_schema =
            TableSchema::builder(Arc::clone(file_schema)).with_table_partition_cols(partition_fields.clone()).build();
        let options = state.config_options().execution.parquet.clone();
        let source = ParquetSource::new(table_schema)
            .with_table_parquet_options(datafusion::config::TableParquetOptions {
                global: options,
                ..Default::default()
            })
            .with_parquet_file_reader_factory(Arc::new(readers));
        let groups = grouped(parts, state.config().target_partitions(), files.len());
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

impl ParquetTable {
    /// The files whose partition values can match the filters.
    fn prune(&self, state: &dyn Session, filters: &[Expr]) -> DfResult<Vec<&DataFile>> {
        let fields = &self.files.partition_fields;
        let all: Vec<&DataFile> = self.files.files.iter().collect();
        let known = |name: &str| fields.iter().any(|field| field.name() == name);
        let usable: Vec<&Expr> = filters
            .iter()
            .filter(|filter| {
                let columns = filter.column_refs();
                !filter.is_volatile() && !columns.is_empty() && columns.iter().all(|column| known(column.name()))
            })
            .collect();
        if usable.is_empty() || fields.is_empty() {
            return Ok(all);
        }
        let columns = fields.iter().map(|field| {
            let values = all.iter().map(|file| scalar(field, file.key.as_ref()));
            ScalarValue::iter_to_array(values)
        });
        let schema = Arc::new(Schema::new(fields.clone()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect::<DfResult<_>>()?)?;
        let df_schema = DFSchema::try_from(schema)?;
        let mut kept = Int64Array::from_iter_values(0..i64::try_from(all.len()).unwrap_or(i64::MAX));
        let mut batch = batch;
        for expression in usable {
            let expression = state.create_physical_expr(strip_qualifiers(expression)?, &df_schema)?;
            let mask = expression.evaluate(&batch)?.into_array(batch.num_rows())?;
            let mask = as_boolean_array(&mask)?;
            kept = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&filter(&kept, mask)?).clone();
            batch = arrow::compute::filter_record_batch(&batch, mask)?;
        }
        Ok(kept.values().iter().filter_map(|i| usize::try_from(*i).ok()).map(|i| all[i]).collect())
    }
}

fn strip_qualifiers(expression: &Expr) -> DfResult<Expr> {
    use datafusion::common::tree_node::{Transformed, TreeNode as _};
    let stripped = expression.clone().transform(|node| {
        Ok(match node {
            Expr::Column(column) => {
                Transformed::yes(Expr::Column(datafusion::common::Column::new_unqualified(column.name)))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(stripped.data)
}

fn scalar(field: &Field, key: Option<&PartitionKey>) -> ScalarValue {
    match (field.data_type(), key.and_then(|key| key.get(field.name()))) {
        (DataType::Int64, Some(PartitionValue::Integer(number))) => ScalarValue::Int64(Some(*number)),
        (_, Some(value)) => ScalarValue::Utf8(Some(value.to_string())),
        (_, None) => ScalarValue::Utf8(None),
    }
}

/// Spreads files over as many groups as may run at once, neighbours together.
fn grouped(mut parts: VecDeque<PartitionedFile>, groups: usize, _all: usize) -> Vec<FileGroup> {
    let groups = groups.clamp(1, parts.len().max(1));
    let each = parts.len().div_ceil(groups).max(1);
    let mut out = Vec::with_capacity(groups);
    while !parts.is_empty() {
        let rest = parts.split_off(each.min(parts.len()));
        out.push(FileGroup::new(parts.into()));
        parts = rest;
    }
    if out.is_empty() { vec![FileGroup::new(Vec::new())] } else { out }
}

/// Readers that name their file in every error and refuse one whose schema drifted.
#[derive(Debug)]
struct NamedReaders {
    inner: DefaultParquetFileReaderFactory,
    files: Files,
    names: Arc<std::collections::HashMap<object_store::path::Path, String>>,
}

impl ParquetFileReaderFactory for NamedReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DfResult<Box<dyn AsyncFileReader + Send>> {
        let relative = self.names.get(&file.object_meta.location).cloned().unwrap_or_default();
        let inner = self.inner.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(Box::new(NamedReader { inner, files: self.files.clone(), relative }))
    }
}

struct NamedReader {
    inner: Box<dyn AsyncFileReader + Send>,
    files: Files,
    relative: String,
}

impl NamedReader {
    fn named(shown: &str, error: &ParquetError) -> ParquetError {
        let message = super::error::chain(error);
        ParquetError::External(Box::new(DataError::corrupt(shown, "parquet", message)))
    }
}

impl fmt::Debug for NamedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedReader").field("file", &self.relative).finish_non_exhaustive()
    }
}

impl AsyncFileReader for NamedReader {
    fn get_bytes(&mut self, range: std::ops::Range<u64>) -> BoxFuture<'_, Result<bytes::Bytes, ParquetError>> {
        let shown = self.files.place.show(&self.relative);
        async move { self.inner.get_bytes(range).await.map_err(|error| Self::named(&shown, &error)) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<std::ops::Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<bytes::Bytes>, ParquetError>> {
        let shown = self.files.place.show(&self.relative);
        async move { self.inner.get_byte_ranges(ranges).await.map_err(|error| Self::named(&shown, &error)) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let shown = self.files.place.show(&self.relative);
        async move {
            let metadata = self.inner.get_metadata(options).await.map_err(|error| Self::named(&shown, &error))?;
            let file = metadata.file_metadata();
            let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())
                .map_err(|error| Self::named(&shown, &error))?;
            self.files.check(&schema, &shown).map_err(|error| ParquetError::External(Box::new(error)))?;
            Ok(metadata)
        }
        .boxed()
    }
}
