//! Local Parquet files that another program reads or wrote: which files a table has, and files in a given order.

use std::{any::Any, fs::File, path::PathBuf, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    catalog::TableProvider, error::DataFusionError, execution::SendableRecordBatchStream,
    physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::{StreamExt as _, stream};
use parquet::arrow::{
    ArrowWriter,
    arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
};

use super::{error::DataError, format::parquet::ParquetTable, tasks::blocking};

/// The files of a table, as another program can read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFiles {
    /// The folder below which directories name partitions; `None` for a file or files without partitions.
    pub base: Option<PathBuf>,
    /// The files, each with its whole path.
    pub files: Vec<PathBuf>,
    /// The columns in the names of directories, with `true` for integers.
    pub partitions: Vec<(String, bool)>,
}

/// The files of a table, if they are Parquet files on the local disk.
pub fn local_parquet(table: &dyn TableProvider) -> Option<LocalFiles> {
    let table: &dyn Any = table;
    let files = table.downcast_ref::<ParquetTable>()?.files();
    let base = std::path::absolute(files.place().local()?).ok()?;
    let partitions: Vec<(String, bool)> = files
        .partition_fields()
        .iter()
        .map(|field| (field.name().clone(), field.data_type() == &arrow::datatypes::DataType::Int64))
        .collect();
    let path = |relative: &str| if relative.is_empty() { base.clone() } else { base.join(relative) };
    Some(LocalFiles {
        files: files.files().iter().map(|file| path(&file.path)).collect(),
        base: (!partitions.is_empty()).then_some(base.clone()),
        partitions,
    })
}

/// Writes rows to one new file.
///
/// # Errors
/// When the rows are not available, or the disk cannot take them.
pub async fn write_parquet_file(path: PathBuf, mut rows: SendableRecordBatchStream) -> Result<(), DataError> {
    let schema = rows.schema();
    let mut writer = blocking(move || {
        let file =
            File::create_new(&path).map_err(|source| DataError::Io { path: path.display().to_string(), source })?;
        Ok::<_, DataError>(ArrowWriter::try_new(file, schema, None).map_err(DataFusionError::from)?)
    })
    .await?;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        writer = blocking(move || {
            writer.write(&batch).map_err(DataFusionError::from)?;
            Ok::<_, DataError>(writer)
        })
        .await?;
    }
    blocking(move || Ok(writer.close().map(drop).map_err(DataFusionError::from)?)).await
}

/// The columns of a Parquet file.
///
/// # Errors
/// When it cannot be read.
pub async fn parquet_columns(path: PathBuf) -> Result<SchemaRef, DataError> {
    blocking(move || Ok(open(&path)?.schema().clone())).await
}

/// The rows of some files with these columns, one file after the other. `keep` lives as long as the rows are read.
pub fn read_in_order<T: Send + 'static>(schema: SchemaRef, files: Vec<PathBuf>, keep: T) -> SendableRecordBatchStream {
    let state = (files.into_iter(), None::<ParquetRecordBatchReader>, keep);
    let rows = stream::try_unfold(state, async |(mut files, mut reader, keep)| {
        loop {
            let mut open_reader = match reader {
                Some(reader) => reader,
                None => {
                    let Some(path) = files.next() else { return Ok(None) };
                    let opened = blocking(move || Ok(open(&path)?.build().map_err(DataFusionError::from)?)).await;
                    opened.map_err(into_datafusion)?
                }
            };
            let read = blocking(move || {
                let batch = open_reader.next().transpose().map_err(DataFusionError::from)?;
                Ok((batch, open_reader))
            });
            let (batch, rest): (Option<RecordBatch>, _) = read.await.map_err(into_datafusion)?;
            if let Some(batch) = batch {
                return Ok(Some((batch, (files, Some(rest), keep))));
            }
            reader = None;
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows))
}

fn into_datafusion(error: DataError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn open(path: &PathBuf) -> Result<ParquetRecordBatchReaderBuilder<File>, DataError> {
    let file = File::open(path).map_err(|source| DataError::Io { path: path.display().to_string(), source })?;
    Ok(ParquetRecordBatchReaderBuilder::try_new(file).map_err(DataFusionError::from)?)
}
