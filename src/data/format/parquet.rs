//! Parquet.
//!
//! A table is scanned by DataFusion's own source, which skips columns, row groups and partitions; a single file is read and
//! written here.

mod options;
mod readers;
mod table;
mod vectors;
mod writer;
mod zstd;

use std::{fs::File, sync::Arc};

use ::parquet::{
    arrow::{
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        async_reader::MetadataFetch,
        parquet_to_arrow_schema,
    },
    errors::ParquetError,
    file::{metadata::ParquetMetaDataReader, reader::ChunkReader},
};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::TableProvider;
use futures::{FutureExt as _, future::BoxFuture};
use object_store::{ObjectStore, ObjectStoreExt as _};

use self::{options::ParquetOptions, table::ParquetTable, writer::ParquetWriter};
use super::{
    contract::{FileFormat, FormatType, WriterFactory},
    file::{BATCH_ROWS, Input, Reading, corrupt},
};
use crate::{
    config::Field,
    data::{TypeInfo, args::FormatArgs, error::DataError, file_set::FileSet, store_path::StorePath},
    diagnostic::Diagnostics,
};

const NAME: &str = "parquet";
/// Files up to this size are read in one go.
const WHOLE_FILE: u64 = 16 << 20;
/// So much of a file's end is asked for at first: mostly all of its footer.
const FOOTER: usize = 1 << 16;

/// The format `parquet`.
pub(in crate::data) static PARQUET: ParquetType = ParquetType;

/// See [`PARQUET`].
pub(in crate::data) struct ParquetType;

impl FormatType for ParquetType {
    fn type_info(&self) -> TypeInfo {
        TypeInfo {
            name: NAME,
            aliases: &[
                "pandas.ParquetDataset",
                "spark.SparkDataset",
                "spark.SparkDatasetV2",
                "matrix_gcp_datasets.gcp.LazySparkDataset",
                "matrix_gcp_datasets.LazySparkDataset",
                "polars.LazyPolarsDataset",
                "polars.EagerPolarsDataset",
                "polars.ParquetDataset",
                "dask.ParquetDataset",
                "pandas.GenericDataset",
            ],
            doc: "a parquet file, a folder of them, or hive partitions (`save_args: {partition_by: […]}`)",
        }
    }

    fn save_args(&self) -> &'static [Field] {
        options::SAVE_ARGS
    }

    fn decode(&self, args: &FormatArgs<'_>, _problems: &mut Diagnostics) -> Arc<dyn FileFormat> {
        Arc::new(Parquet(ParquetOptions::of(args.save)))
    }
}

#[derive(Debug)]
struct Parquet(ParquetOptions);

#[async_trait]
impl FileFormat for Parquet {
    fn name(&self) -> &'static str {
        NAME
    }

    fn suffix(&self) -> &'static str {
        ".parquet"
    }

    fn written_as(&self) -> String {
        let ParquetOptions { compression, group_rows } = &self.0;
        format!("{NAME} {compression:?} {group_rows}")
    }

    fn keeps_types(&self) -> bool {
        true
    }

    fn open(&self, input: &Input, shown: &str, _expected: Option<&SchemaRef>) -> Result<Reading, DataError> {
        let io = |source| DataError::Io { path: shown.to_owned(), source };
        match input {
            Input::Bytes(bytes) => read(bytes.clone(), shown),
            Input::Path(path) => {
                let file = File::open(path).map_err(io)?;
                if file.metadata().map_err(io)?.len() <= WHOLE_FILE {
                    let bytes = std::fs::read(path).map_err(io)?;
                    read(Bytes::from(bytes), shown)
                } else {
                    read(file, shown)
                }
            }
        }
    }

    async fn schema_of_part(&self, file: &StorePath, size: u64) -> Result<Option<SchemaRef>, DataError> {
        let Some((store, path)) = file.remote() else { return Ok(None) };
        let failed = |error: ParquetError| corrupt(file.shown(), NAME, &error);
        let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER));
        let metadata = reader.load_and_finish(Footer { store, path }, size).await.map_err(failed)?;
        let metadata = metadata.file_metadata();
        let schema = parquet_to_arrow_schema(metadata.schema_descr(), metadata.key_value_metadata()).map_err(failed)?;
        Ok(Some(Arc::new(schema)))
    }

    fn table(&self, files: &FileSet) -> Option<Arc<dyn TableProvider>> {
        Some(Arc::new(ParquetTable::new(files.clone())))
    }

    fn writer(&self, schema: &SchemaRef) -> Result<Arc<dyn WriterFactory>, DataError> {
        Ok(Arc::new(ParquetWriter::new(&self.0, schema)?))
    }
}

fn read<R: ChunkReader + 'static>(source: R, shown: &str) -> Result<Reading, DataError> {
    let failed = |error: ParquetError| corrupt(shown, NAME, &error);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(source, ArrowReaderOptions::new()).map_err(failed)?;
    let schema = builder.schema().clone();
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(failed)?;
    let shown = shown.to_owned();
    let batches = reader.map(move |batch| batch.map_err(|error| corrupt(&shown, NAME, &error)));
    Ok(Reading { schema, batches: Box::new(batches) })
}

/// The end of a parquet file on a store.
struct Footer<'a> {
    store: &'a Arc<dyn ObjectStore>,
    path: &'a object_store::path::Path,
}

impl MetadataFetch for Footer<'_> {
    fn fetch(&mut self, range: std::ops::Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let bytes = self.store.get_range(self.path, range).await;
            bytes.map_err(|error| ParquetError::External(Box::new(error)))
        }
        .boxed()
    }
}
