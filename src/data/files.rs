//! The files of a dataset as streams of rows and as one table: the first file sets the columns (a sample of
//! files their types, where the format has none), partition columns come from the paths.
//!
//! A format that can scan its files itself does so; all others are streamed here, file after file.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    compute::cast,
    datatypes::SchemaRef,
};
use datafusion::{
    catalog::{TableProvider, streaming::StreamingTable},
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{stream::RecordBatchStreamAdapter, streaming::PartitionStream},
};
use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{
    error::DataError,
    file_set::{DataFile, FileSet},
    format::{FileFormat, Input},
    partition_columns::key_columns,
    schema_widening::widened,
    store_path::StorePath,
    tasks::{blocking, ended},
};

/// Remote files up to this size are held in memory while they are read; larger ones go through a temporary file.
const IN_MEMORY: u64 = 64 << 20;
/// Partition files up to this size are read in one go.
const READ_ONCE: u64 = 16 << 20;
/// Types are inferred from this many files, as long as they have this many bytes in all.
const SAMPLED_FILES: usize = 32;
const SAMPLED_BYTES: u64 = 64 << 20;
/// Batches that a reader may be ahead of its consumer.
const AHEAD: usize = 2;

/// The files of a dataset and how they are read.
#[derive(Debug, Clone)]
pub(super) struct Files {
    format: Arc<dyn FileFormat>,
    set: FileSet,
    /// The first file, where it was read already.
    first: Option<Input>,
}

impl Files {
    /// These files; `None` when there are none. The first sets the columns; one that differs is reported when it is read.
    pub(super) async fn of(
        place: &StorePath,
        format: &Arc<dyn FileFormat>,
        files: Vec<DataFile>,
    ) -> Result<Option<Self>, DataError> {
        DataFile::check_all(place, &files)?;
        let Some(first) = files.first() else { return Ok(None) };
        let mut schema = schema_of(place, format, first).await?;
        if format.infers_types() {
            let mut sampled = first.size;
            for file in files.iter().take(SAMPLED_FILES).skip(1) {
                sampled = sampled.saturating_add(file.size);
                if sampled > SAMPLED_BYTES {
                    break;
                }
                schema = widened(&schema, &*schema_of(place, format, file).await?);
            }
        }
        let set = FileSet::new(place, files, &schema, (format.name(), format.selected()))?;
        Ok(Some(Self { format: Arc::clone(format), set, first: None }))
    }

    /// The files of one partition, which will all be read: the first is read once, for its columns and its rows, unless others
    /// may need wider types.
    pub(super) async fn of_partition(
        place: &StorePath,
        format: &Arc<dyn FileFormat>,
        files: Vec<DataFile>,
    ) -> Result<Option<Self>, DataError> {
        DataFile::check_all(place, &files)?;
        let Some(first) = files.first() else { return Ok(None) };
        if first.size > READ_ONCE || files.len() > 1 && format.infers_types() {
            return Self::of(place, format, files).await;
        }
        let (input, _kept) = fetch(place, first).await?;
        let (reader, shown) = (Arc::clone(format), place.show(&first.path));
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
        let set = FileSet::new(place, files, &schema, (format.name(), format.selected()))?;
        Ok(Some(Self { format: Arc::clone(format), set, first: Some(Input::Bytes(bytes)) }))
    }

    /// The files one after the other, on a blocking thread that stays [`AHEAD`] batches ahead.
    pub(super) fn stream(&self) -> SendableRecordBatchStream {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let this = self.clone();
        let schema = self.set.schema();
        // Ends with the stream, which passes on its panics.
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            for (i, file) in this.set.files().iter().enumerate() {
                let known = this.first.clone().filter(|_| i == 0);
                if let Err(error) = this.read(file, known, &sender).await {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
                if sender.is_closed() {
                    return;
                }
            }
        }));
        let batches = futures::stream::unfold((receiver, Some(task)), |(mut receiver, task)| async move {
            if let Some(item) = receiver.recv().await {
                return Some((item.map_err(DataFusionError::from), (receiver, task)));
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
            None => fetch(self.set.place(), file).await?,
        };
        let (this, file, sender) = (self.clone(), file.clone(), sender.clone());
        blocking(move || {
            let shown = this.set.show(&file.path);
            let reading = this.format.open(&input, &shown, Some(this.set.file_schema()))?;
            this.set.check(&reading.schema, &shown)?;
            let output = this.set.schema();
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

    /// Puts a file's columns in the order of the dataset and adds its partition columns.
    fn promote(&self, batch: &RecordBatch, file: &DataFile, output: &SchemaRef) -> Result<RecordBatch, DataError> {
        let rows = batch.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(output.fields().len());
        let there: HashMap<&str, &ArrayRef> =
            batch.schema_ref().fields().iter().map(|field| field.name().as_str()).zip(batch.columns()).collect();
        for field in self.set.file_schema().fields() {
            let column = *there.get(field.name().as_str()).ok_or_else(|| DataError::Corrupt {
                file: self.set.show(&file.path),
                format: self.format.name(),
                message: format!("column `{}` is gone", field.name()),
            })?;
            columns.push(if column.data_type() == field.data_type() {
                Arc::clone(column)
            } else {
                cast(column, field.data_type())?
            });
        }
        columns.extend(key_columns(self.set.partition_fields(), file.key.as_ref(), rows));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(output), columns, &options)?)
    }

    /// The whole as a table.
    pub(super) fn provider(self) -> Result<Arc<dyn TableProvider>, DataError> {
        if let Some(table) = self.format.table(&self.set) {
            return Ok(table);
        }
        let schema = self.set.schema();
        let stream: Arc<dyn PartitionStream> = Arc::new(FileStream(self, Arc::clone(&schema)));
        Ok(Arc::new(StreamingTable::try_new(schema, vec![stream])?))
    }
}

/// All files of a format that does not scan them itself.
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
    let got = store.get(path).await.map_err(|error| at.store_error(&error))?;
    let mut chunks = got.into_stream();
    let mut spool = tempfile::NamedTempFile::new().map_err(|error| DataError::io(tempfile::env::temp_dir(), error))?;
    while let Some(chunk) = chunks.try_next().await.map_err(|error| at.store_error(&error))? {
        spool = blocking(move || {
            std::io::Write::write_all(&mut spool, &chunk).map_err(|error| DataError::io(spool.path(), error))?;
            Ok::<_, DataError>(spool)
        })
        .await?;
    }
    let path = spool.into_temp_path();
    Ok((Input::Path(path.to_path_buf()), Some(path)))
}

async fn schema_of(place: &StorePath, format: &Arc<dyn FileFormat>, file: &DataFile) -> Result<SchemaRef, DataError> {
    if let Some(schema) = format.schema_of_part(&place.child(&file.path), file.size).await? {
        return Ok(schema);
    }
    let (input, kept) = fetch(place, file).await?;
    let (format, shown) = (Arc::clone(format), place.show(&file.path));
    blocking(move || {
        let schema = format.schema(&input, &shown);
        drop(kept);
        schema
    })
    .await
}
