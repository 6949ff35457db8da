//! Parquet.
//!
//! A table is scanned by DataFusion's own source, which skips columns, row groups and partitions; a single file is read and
//! written here.

mod guarded;
mod inexact;
mod options;
mod pages;
mod readers;
mod schema;
mod table;
mod vectors;
mod writer;
mod zstd;

use std::{fs::File, sync::Arc};

use ::parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        async_reader::MetadataFetch,
    },
    errors::ParquetError,
    file::{metadata::ParquetMetaDataReader, reader::ChunkReader},
};
use arrow::{
    array::RecordBatchReader as _,
    datatypes::{FieldRef, SchemaRef},
};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::TableProvider;
use futures::{FutureExt as _, future::BoxFuture};
use object_store::{ObjectStore, ObjectStoreExt as _};

pub(in crate::data) use self::table::ParquetTable;
use self::{
    inexact::SharedFile,
    options::{NAME, ParquetOptions},
    writer::ParquetWriter,
};
use super::{
    contract::{ColumnTypes, FileFormat, FormatType, WriterFactory},
    file::{Input, Reading, batch_rows, corrupt},
};
use crate::{
    config::Field,
    data::{TypeInfo, args::FormatArgs, error::DataError, file_set::FileSet, panics::caught, store_path::StorePath},
    diagnostic::Diagnostics,
};

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

    fn column_types(&self) -> ColumnTypes {
        ColumnTypes::Written
    }

    fn load_args(&self) -> &'static [Field] {
        options::LOAD_ARGS
    }

    fn save_args(&self) -> &'static [Field] {
        options::SAVE_ARGS
    }

    fn inert_load_args(&self) -> &'static [Field] {
        options::INERT_LOAD_ARGS
    }

    fn inert_save_args(&self) -> &'static [Field] {
        options::INERT_SAVE_ARGS
    }

    fn decode(&self, args: &FormatArgs<'_>, problems: &mut Diagnostics) -> Arc<dyn FileFormat> {
        let columns = args.load.record();
        if let (Some([]), Some(node)) = (columns.texts("columns").as_deref(), columns.node("columns")) {
            problems.push(args.wrong(node, "`columns` names no column"));
        }
        Arc::new(Parquet(ParquetOptions::of(args.load, args.save)))
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
        let ParquetOptions { compression, group_rows, columns: _ } = &self.0;
        // The number counts changes of the writer that older files do not have.
        format!("{NAME} 2 {compression:?} {group_rows}")
    }

    fn keeps_types(&self) -> bool {
        true
    }

    fn selected(&self) -> Option<&[String]> {
        self.0.columns.as_deref()
    }

    fn open(&self, input: &Input, shown: &str, _expected: Option<&SchemaRef>) -> Result<Reading, DataError> {
        open(input, shown, self.selected())
    }

    fn schema(&self, input: &Input, shown: &str) -> Result<SchemaRef, DataError> {
        open(input, shown, None).map(|reading| reading.schema)
    }

    async fn schema_of_part(&self, file: &StorePath, size: u64) -> Result<Option<SchemaRef>, DataError> {
        let Some((store, path)) = file.remote() else { return Ok(None) };
        let failed = |error: ParquetError| corrupt(file.shown(), NAME, &error);
        let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER));
        let metadata = reader.load_and_finish(Footer { store, path }, size).await.map_err(failed)?;
        let columns = caught(|| schema::columns(metadata.file_metadata()));
        let columns = columns.map_err(|panic| DataError::corrupt(file.shown(), NAME, panic))?;
        Ok(Some(Arc::new(columns.map_err(failed)?)))
    }

    fn table(&self, files: &FileSet) -> Option<Arc<dyn TableProvider>> {
        Some(Arc::new(ParquetTable::new(files.clone())))
    }

    fn writer(&self, schema: &SchemaRef) -> Result<Arc<dyn WriterFactory>, DataError> {
        Ok(Arc::new(ParquetWriter::new(&self.0, schema)?))
    }
}

fn open(input: &Input, shown: &str, selected: Option<&[String]>) -> Result<Reading, DataError> {
    let io = |source| DataError::Io { path: shown.to_owned(), source };
    match input {
        Input::Bytes(bytes) => read(bytes.clone(), shown, selected),
        Input::Path(path) => {
            let file = File::open(path).map_err(io)?;
            if file.metadata().map_err(io)?.len() <= WHOLE_FILE {
                let bytes = std::fs::read(path).map_err(io)?;
                read(Bytes::from(bytes), shown, selected)
            } else {
                read(SharedFile(Arc::new(file)), shown, selected)
            }
        }
    }
}

fn read<R: ChunkReader + Clone + 'static>(
    source: R,
    shown: &str,
    selected: Option<&[String]>,
) -> Result<Reading, DataError> {
    let panicked = |panic| DataError::corrupt(shown, NAME, panic);
    let opened = caught(|| {
        let footer = ParquetMetaDataReader::new().parse_and_finish(&source)?;
        pages::check_file(&source, &footer)?;
        inexact::suspects(&footer)?.iter().try_for_each(|suspect| suspect.check(source.clone()))?;
        let found = ArrowReaderMetadata::try_new(schema::restored(Arc::new(footer)), ArrowReaderOptions::new())?;
        let parquet = found.metadata().file_metadata().schema_descr();
        let metadata = match schema::with_int96(parquet, found.schema()) {
            Some(schema) => {
                let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
                ArrowReaderMetadata::try_new(Arc::clone(found.metadata()), options)?
            }
            None => found,
        };
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source, metadata);
        if let Some(selected) = selected {
            let is_selected = |field: &FieldRef| selected.contains(field.name());
            let roots = builder.schema().fields().iter().enumerate().filter(|(_, field)| is_selected(field));
            let roots: Vec<usize> = roots.map(|(root, _)| root).collect();
            let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
            builder = builder.with_projection(mask);
        }
        let rows = batch_rows(builder.schema().fields().len());
        let reader = builder.with_batch_size(rows).build()?;
        Ok((reader.schema(), reader))
    });
    let (schema, reader) = opened.map_err(panicked)?.map_err(|error: ParquetError| corrupt(shown, NAME, &error))?;
    let (shown, mut reader) = (shown.to_owned(), Some(reader));
    // It ends at the first error.
    let batches = std::iter::from_fn(move || {
        let error = match caught(|| reader.as_mut()?.next()) {
            Ok(Some(Err(error))) => corrupt(&shown, NAME, &error),
            Ok(other) => return other.map(|batch| batch.map_err(Into::into)),
            Err(panic) => DataError::corrupt(&shown, NAME, panic),
        };
        reader = None;
        Some(Err(error))
    });
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
