//! Readers for DataFusion's scan that name their file in every error and refuse one whose columns differ.

use std::{collections::HashMap, fmt, ops::Range, sync::Arc};

use ::parquet::{
    arrow::{arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
    errors::ParquetError,
    file::metadata::ParquetMetaData,
};
use bytes::Bytes;
use datafusion::{
    datasource::{
        listing::PartitionedFile,
        physical_plan::{ParquetFileReaderFactory, parquet::DefaultParquetFileReaderFactory},
    },
    error::Result as DfResult,
    physical_plan::metrics::ExecutionPlanMetricsSet,
};
use futures::{FutureExt as _, future::BoxFuture};
use object_store::{ObjectStore, path::Path};

use super::{
    inexact::{Part, suspects},
    options::NAME,
    pages,
    schema::{columns, restored},
};
use crate::data::{file_set::FileSet, format::file::corrupt};

/// Readers that name their file in every error and refuse one whose schema drifted.
#[derive(Debug)]
pub(super) struct NamedReaders {
    inner: DefaultParquetFileReaderFactory,
    files: FileSet,
    /// The files' paths in their dataset, by their paths in the store.
    names: HashMap<Path, Arc<str>>,
}

impl NamedReaders {
    /// Readers of these files in their store.
    pub(super) fn new(store: Arc<dyn ObjectStore>, files: FileSet, names: HashMap<Path, Arc<str>>) -> Self {
        Self { inner: DefaultParquetFileReaderFactory::new(store), files, names }
    }
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
        Ok(Box::new(NamedReader { inner, files: self.files.clone(), relative, footer: None }))
    }
}

struct NamedReader {
    inner: Box<dyn AsyncFileReader + Send>,
    files: FileSet,
    relative: Arc<str>,
    /// Once it is read.
    footer: Option<Arc<ParquetMetaData>>,
}

impl NamedReader {
    /// Refuses pages that claim more than they can hold.
    fn check_pages(&self, range: &Range<u64>, bytes: &[u8]) -> Result<(), ParquetError> {
        let chunks = self.footer.iter().flat_map(|footer| footer.row_groups()).flat_map(|group| group.columns());
        let mut chunks = chunks.filter(|chunk| {
            let (start, length) = chunk.byte_range();
            (start..start.saturating_add(length)).contains(&range.start)
        });
        chunks.try_for_each(|chunk| pages::check_part(chunk, bytes))
    }
}

/// The same error with the file's name.
fn named(shown: &str, error: &ParquetError) -> ParquetError {
    ParquetError::External(Box::new(corrupt(shown, NAME, error)))
}

impl fmt::Debug for NamedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedReader").field("file", &self.relative).finish_non_exhaustive()
    }
}

impl AsyncFileReader for NamedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        let shown = self.files.show(&self.relative);
        async move {
            let bytes = self.inner.get_bytes(range.clone()).await;
            let checked = bytes.and_then(|bytes| self.check_pages(&range, &bytes).map(|()| bytes));
            checked.map_err(|error| named(&shown, &error))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        let shown = self.files.show(&self.relative);
        async move {
            let parts = self.inner.get_byte_ranges(ranges.clone()).await.and_then(|parts| {
                ranges.iter().zip(&parts).try_for_each(|(range, bytes)| self.check_pages(range, bytes))?;
                Ok(parts)
            });
            parts.map_err(|error| named(&shown, &error))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let shown = self.files.show(&self.relative);
        async move {
            let metadata = self.inner.get_metadata(options).await.map_err(|error| named(&shown, &error))?;
            let metadata = restored(metadata);
            for suspect in suspects(&metadata).map_err(|error| named(&shown, &error))? {
                let (start, length) = suspect.bytes();
                let part = self.inner.get_bytes(start..start.saturating_add(length)).await;
                let checked = part.and_then(|bytes| {
                    pages::check_part(suspect.chunk(), &bytes)?;
                    suspect.check(Part { start, bytes })
                });
                checked.map_err(|error| named(&shown, &error))?;
            }
            let schema = columns(metadata.file_metadata()).map_err(|error| named(&shown, &error))?;
            self.files.check(&schema, &shown).map_err(|error| ParquetError::External(Box::new(error)))?;
            self.footer = Some(Arc::clone(&metadata));
            Ok(metadata)
        }
        .boxed()
    }
}
