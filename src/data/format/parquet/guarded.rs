//! DataFusion's scan of parquet files, with the file's name in every error and errors in place of panics.
//!
//! The scan works on several files at once and decodes what others have fetched, so only what belongs to one file knows
//! which it is: each step of a file is wrapped here.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arrow::array::RecordBatch;
use datafusion::{
    common::{config::ConfigOptions, tree_node::TreeNodeRecursion},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileOpener, FileScanConfig, FileSource},
        table_schema::TableSchema,
    },
    error::{DataFusionError, Result as DfResult},
    physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, projection::ProjectionExprs},
    physical_plan::{
        DisplayFormatType, SortOrderPushdownResult, filter_pushdown::FilterPushdownPropagation,
        metrics::ExecutionPlanMetricsSet,
    },
};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::{Stream, StreamExt as _, stream::BoxStream};
use object_store::{ObjectStore, path::Path};

use super::options::NAME;
use crate::data::{
    error::{DataError, chain},
    file_set::FileSet,
    panics::caught,
};

/// The files' names for errors.
#[derive(Debug)]
pub(super) struct FileNames {
    files: FileSet,
    /// The files' paths in their dataset, by their paths in the store.
    paths: HashMap<Path, Arc<str>>,
}

impl FileNames {
    /// The names of `files`, whose paths in their dataset are `paths` by those in the store.
    pub(super) fn new(files: FileSet, paths: HashMap<Path, Arc<str>>) -> Self {
        Self { files, paths }
    }

    fn shown(&self, file: &PartitionedFile) -> Arc<str> {
        let path = self.paths.get(&file.object_meta.location).map_or("", |path| path);
        self.files.show(path).into()
    }
}

/// The source of a scan.
#[derive(Clone)]
pub(super) struct GuardedSource {
    inner: Arc<dyn FileSource>,
    names: Arc<FileNames>,
}

impl GuardedSource {
    /// Guards a source of these files.
    pub(super) fn new(inner: Arc<dyn FileSource>, names: FileNames) -> Self {
        Self { inner, names: Arc::new(names) }
    }

    fn with(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, names: Arc::clone(&self.names) })
    }
}

impl FileSource for GuardedSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> DfResult<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> DfResult<Box<dyn Morselizer>> {
        let inner = self.inner.create_morselizer(store, config, partition)?;
        Ok(Box::new(GuardedMorselizer { inner, names: Arc::clone(&self.names) }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.with(self.inner.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_extra(format, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let FilterPushdownPropagation { filters, updated_node } = self.inner.try_pushdown_filters(filters, config)?;
        Ok(FilterPushdownPropagation { filters, updated_node: updated_node.map(|inner| self.with(inner)) })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> DfResult<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_sort(order, properties)?.map(|inner| self.with(inner)))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> DfResult<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.with(inner)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }
}

#[derive(Debug)]
struct GuardedMorselizer {
    inner: Box<dyn Morselizer>,
    names: Arc<FileNames>,
}

impl Morselizer for GuardedMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> DfResult<Box<dyn MorselPlanner>> {
        let shown = self.names.shown(&file);
        let inner = guarded(&shown, || self.inner.plan_file(file))?;
        Ok(Box::new(GuardedPlanner { inner, shown }))
    }
}

#[derive(Debug)]
struct GuardedPlanner {
    inner: Box<dyn MorselPlanner>,
    shown: Arc<str>,
}

impl MorselPlanner for GuardedPlanner {
    fn plan(self: Box<Self>) -> DfResult<Option<MorselPlan>> {
        let Self { inner, shown } = *self;
        let Some(mut plan) = guarded(&shown, || inner.plan())? else { return Ok(None) };
        let planner = |inner: Box<dyn MorselPlanner>, shown: &Arc<str>| -> Box<dyn MorselPlanner> {
            Box::new(GuardedPlanner { inner, shown: Arc::clone(shown) })
        };
        let morsel = |inner| -> Box<dyn Morsel> { Box::new(GuardedMorsel { inner, shown: Arc::clone(&shown) }) };
        let mut out = MorselPlan::new()
            .with_morsels(plan.take_morsels().into_iter().map(morsel).collect())
            .with_planners(plan.take_ready_planners().into_iter().map(|inner| planner(inner, &shown)).collect());
        if let Some(pending) = plan.take_pending_planner() {
            let mut pending = pending.into_future();
            out.set_pending_planner(async move {
                let next = std::future::poll_fn(|context| match caught(|| pending.as_mut().poll(context)) {
                    Ok(poll) => poll,
                    Err(panic) => Poll::Ready(Err(panicked(&shown, panic))),
                });
                let inner = next.await.map_err(|error| named(&shown, error))?;
                Ok(planner(inner, &shown))
            });
        }
        Ok(Some(out))
    }
}

#[derive(Debug)]
struct GuardedMorsel {
    inner: Box<dyn Morsel>,
    shown: Arc<str>,
}

impl Morsel for GuardedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, DfResult<RecordBatch>> {
        let Self { inner, shown } = *self;
        match caught(|| inner.into_stream()) {
            Ok(inner) => GuardedStream { inner: Some(inner), shown }.boxed(),
            Err(panic) => futures::stream::once(std::future::ready(Err(panicked(&shown, panic)))).boxed(),
        }
    }
}

/// Rows of a file. It ends at the first error.
struct GuardedStream {
    inner: Option<BoxStream<'static, DfResult<RecordBatch>>>,
    shown: Arc<str>,
}

impl Stream for GuardedStream {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let error = match caught(|| inner.poll_next_unpin(context)) {
            Ok(Poll::Ready(Some(Err(error)))) => named(&self.shown, error),
            Ok(other) => return other,
            Err(panic) => panicked(&self.shown, panic),
        };
        self.inner = None;
        Poll::Ready(Some(Err(error)))
    }
}

/// Runs a step of a file.
fn guarded<T>(shown: &str, step: impl FnOnce() -> DfResult<T>) -> DfResult<T> {
    match caught(step) {
        Ok(result) => result.map_err(|error| named(shown, error)),
        Err(panic) => Err(panicked(shown, panic)),
    }
}

fn panicked(shown: &str, panic: String) -> DataFusionError {
    DataError::corrupt(shown, NAME, panic).into()
}

/// The same error with the file's name, unless it has one, or is not about the file.
fn named(shown: &str, error: DataFusionError) -> DataFusionError {
    match error.find_root() {
        DataFusionError::ParquetError(_) | DataFusionError::ArrowError(..) if !is_ours(&error) => {
            DataError::corrupt(shown, NAME, chain(error.find_root())).into()
        }
        _ => error,
    }
}

/// True where a reader of ours has raised the error, which then names the file.
fn is_ours(error: &DataFusionError) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source()).any(|cause| cause.is::<DataError>())
}
