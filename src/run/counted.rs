//! How many rows a node reads of its inputs: tables that count what is scanned of them.
//!
//! A scan of files counts by itself, and stays as it is for the sake of the optimizer; others are counted as they pass.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::{Session, TableProvider},
    common::{Constraints, Statistics, tree_node::TreeNodeRecursion},
    config::ConfigOptions,
    datasource::{TableType, physical_plan::FileScanConfig, source::DataSourceExec},
    error::Result as DfResult,
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{Expr, TableProviderFilterPushDown},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
        execution_plan::ReplaceChildrenOptions, metrics::MetricsSet, statistics::StatisticsArgs,
        stream::RecordBatchStreamAdapter,
    },
};
use futures::StreamExt as _;

/// What is read of all inputs of a node.
#[derive(Debug, Default)]
pub(super) struct RowsRead(Vec<Arc<Mutex<Vec<Scan>>>>);

impl RowsRead {
    /// The same table, whose rows are counted as they are read.
    pub(super) fn of(&mut self, table: Arc<dyn TableProvider>) -> Arc<dyn TableProvider> {
        let scans = Arc::default();
        self.0.push(Arc::clone(&scans));
        Arc::new(CountedTable { table, scans })
    }

    /// The number of rows so far. An input that was scanned twice counts once. `None` where one was not read.
    pub(super) fn rows(&self) -> Option<u64> {
        let of = |scans: &Arc<Mutex<Vec<Scan>>>| {
            scans.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Scan::rows).max()
        };
        if self.0.is_empty() { None } else { self.0.iter().map(of).sum() }
    }
}

/// One scan of a table.
#[derive(Debug)]
enum Scan {
    /// Its own metrics have the number.
    Metrics(Arc<dyn ExecutionPlan>),
    Counted(Arc<Count>),
}

#[derive(Debug, Default)]
struct Count {
    rows: AtomicU64,
    begun: AtomicBool,
}

impl Scan {
    /// `None` for one that has not begun.
    fn rows(&self) -> Option<u64> {
        match self {
            Self::Metrics(plan) => plan.metrics()?.output_rows().and_then(|rows| u64::try_from(rows).ok()),
            Self::Counted(count) => count.begun.load(Ordering::Acquire).then(|| count.rows.load(Ordering::Relaxed)),
        }
    }
}

struct CountedTable {
    table: Arc<dyn TableProvider>,
    scans: Arc<Mutex<Vec<Scan>>>,
}

impl fmt::Debug for CountedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

#[async_trait]
impl TableProvider for CountedTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.table.constraints()
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        self.table.supports_filters_pushdown(filters)
    }

    fn statistics(&self) -> Option<Statistics> {
        self.table.statistics()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let plan = self.table.scan(state, projection, filters, limit).await?;
        let of_files = plan.downcast_ref::<DataSourceExec>().is_some_and(|scan| {
            let source: &dyn std::any::Any = &**scan.data_source();
            source.is::<FileScanConfig>()
        });
        let (plan, scan) = if of_files {
            (Arc::clone(&plan), Scan::Metrics(plan))
        } else {
            let count = Arc::<Count>::default();
            let counted: Arc<dyn ExecutionPlan> = Arc::new(CountedScan { plan, count: Arc::clone(&count) });
            (counted, Scan::Counted(count))
        };
        self.scans.lock().unwrap_or_else(PoisonError::into_inner).push(scan);
        Ok(plan)
    }
}

/// A scan whose rows are counted.
struct CountedScan {
    plan: Arc<dyn ExecutionPlan>,
    count: Arc<Count>,
}

impl CountedScan {
    fn with(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { plan, count: Arc::clone(&self.count) })
    }
}

impl fmt::Debug for CountedScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}

impl DisplayAs for CountedScan {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt_as(kind, f)
    }
}

impl ExecutionPlan for CountedScan {
    fn name(&self) -> &str {
        self.plan.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.plan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        self.plan.apply_expressions(visit)
    }

    fn repartitioned(&self, count: usize, config: &ConfigOptions) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        Ok(self.plan.repartitioned(count, config)?.map(|plan| self.with(plan)))
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        arguments: &StatisticsArgs,
    ) -> DfResult<Arc<Statistics>> {
        self.plan.statistics_from_inputs(inputs, arguments)
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        self.plan.with_fetch(limit).map(|plan| self.with(plan))
    }

    fn fetch(&self) -> Option<usize> {
        self.plan.fetch()
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.plan.metrics()
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let rows = self.plan.execute(partition, context)?;
        let (schema, count) = (rows.schema(), Arc::clone(&self.count));
        count.begun.store(true, Ordering::Release);
        let counted = rows.inspect(move |batch| {
            if let Ok(batch) = batch {
                count.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::{
        arrow::{
            array::{Int64Array, RecordBatch},
            datatypes::{DataType, Field, Schema},
        },
        datasource::MemTable,
        prelude::{ParquetReadOptions, SessionContext},
    };

    use super::*;

    fn rows(count: i64) -> (SchemaRef, RecordBatch) {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let column = Arc::new(Int64Array::from_iter_values(0..count));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).expect("a batch");
        (schema, batch)
    }

    async fn read(tables: Vec<(&str, Arc<dyn TableProvider>)>, query: &str) -> (Option<u64>, Option<u64>) {
        let session = SessionContext::new();
        let mut read = RowsRead::default();
        for (name, table) in tables {
            session.register_table(name, read.of(table)).expect("new");
        }
        let before = read.rows();
        session.sql(query).await.expect("planned").collect().await.expect("computed");
        (before, read.rows())
    }

    #[tokio::test]
    async fn rows_of_all_inputs_are_counted_once() {
        let table = |count| {
            let (schema, batch) = rows(count);
            let table: Arc<dyn TableProvider> =
                Arc::new(MemTable::try_new(schema, vec![vec![batch]]).expect("a table"));
            table
        };
        for (query, expected) in [
            ("select * from t where a < 3", Some(10)),
            ("select * from t x join t y on x.a = y.a", Some(10)),
            ("select sum(a) from t", Some(10)),
            ("select 1", None),
        ] {
            assert_eq!(read(vec![("t", table(10))], query).await, (None, expected), "{query}");
        }
        let both = "select * from t join u on t.a = u.a";
        assert_eq!(read(vec![("t", table(10)), ("u", table(7))], both).await, (None, Some(17)));
        let one = "select * from t";
        assert_eq!(read(vec![("t", table(10)), ("u", table(7))], one).await, (None, None), "one was not read");
        assert_eq!(read(Vec::new(), "select 1").await, (None, None));
    }

    #[tokio::test]
    async fn rows_of_files_are_those_that_their_scan_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.parquet").display().to_string();
        let session = SessionContext::new();
        let frame = session.read_batch(rows(5000).1).expect("a frame");
        frame.write_parquet(&path, Default::default(), None).await.expect("written");
        session.register_parquet("files", &path, ParquetReadOptions::default()).await.expect("registered");
        let files = session.table_provider("files").await.expect("registered");
        let query = "select sum(a) from t where a % 2 = 0";
        assert_eq!(read(vec![("t", files)], query).await, (None, Some(5000)));
    }
}
