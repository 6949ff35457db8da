//! Parquet files as a table that DataFusion scans itself.
//!
//! The files are named one by one, so what Spark leaves around and our receipts beside the dataset never matter.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use arrow::{
    array::{AsArray as _, Int64Array, RecordBatch},
    compute::{filter, filter_record_batch},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{
        Column, DFSchema, ScalarValue,
        cast::as_boolean_array,
        tree_node::{Transformed, TreeNode as _},
    },
    config::TableParquetOptions,
    datasource::{
        TableType,
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::Result as DfResult,
    logical_expr::{Expr, TableProviderFilterPushDown},
    physical_plan::ExecutionPlan,
};
use object_store::ObjectMeta;

use super::{
    guarded::{FileNames, GuardedSource},
    readers::NamedReaders,
};
use crate::{
    data::file_set::{DataFile, FileSet},
    model::{PartitionKey, PartitionValue},
};

/// Parquet files as a table.
#[derive(Debug)]
pub(in crate::data) struct ParquetTable {
    files: FileSet,
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
        let (place, partition_fields) = (self.files.place(), self.files.partition_fields());
        let kept = self.prune(state, filters)?;
        let (url, _) = place.object("")?;
        // A session need not know the catalog's stores beforehand.
        if let Some((store, _)) = place.remote() {
            state.runtime_env().register_object_store(url.as_ref(), Arc::clone(store));
        }
        let store = state.runtime_env().object_store(&url)?;
        let mut names = HashMap::with_capacity(kept.len());
        let mut parts = VecDeque::with_capacity(kept.len());
        for file in kept {
            let (_, location) = place.object(&file.path)?;
            names.insert(location.clone(), Arc::clone(&file.path));
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
        let readers = NamedReaders::new(store, self.files.clone(), names.clone());
        let table_schema = TableSchema::builder(Arc::clone(self.files.file_schema()))
            .with_table_partition_cols(partition_fields.to_vec())
            .build();
        let mut options = state.config_options().execution.parquet.clone();
        // As `schema::with_int96` does for the columns.
        options.coerce_int96 = Some("us".to_owned());
        let source = ParquetSource::new(table_schema)
            .with_table_parquet_options(TableParquetOptions { global: options, ..Default::default() })
            .with_parquet_file_reader_factory(Arc::new(readers));
        let source = GuardedSource::new(Arc::new(source), FileNames::new(self.files.clone(), names));
        let groups = grouped(parts, state.config().target_partitions());
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

impl ParquetTable {
    /// A table over these files.
    pub(super) fn new(files: FileSet) -> Self {
        Self { schema: files.schema(), files }
    }

    /// Its files.
    pub(in crate::data) fn files(&self) -> &FileSet {
        &self.files
    }

    /// The files whose partition values can match the filters.
    fn prune(&self, state: &dyn Session, filters: &[Expr]) -> DfResult<Vec<&DataFile>> {
        let fields = self.files.partition_fields();
        let all: Vec<&DataFile> = self.files.files().iter().collect();
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
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect::<DfResult<_>>()?)?;
        let df_schema = DFSchema::try_from(schema)?;
        let mut kept = Int64Array::from_iter_values(0..i64::try_from(all.len()).unwrap_or(i64::MAX));
        let mut batch = batch;
        for expression in usable {
            let expression = state.create_physical_expr(strip_qualifiers(expression)?, &df_schema)?;
            let mask = expression.evaluate(&batch)?.into_array(batch.num_rows())?;
            let mask = as_boolean_array(&mask)?;
            kept = filter(&kept, mask)?.as_primitive::<Int64Type>().clone();
            batch = filter_record_batch(&batch, mask)?;
        }
        Ok(kept.values().iter().filter_map(|i| usize::try_from(*i).ok()).map(|i| all[i]).collect())
    }
}

fn strip_qualifiers(expression: &Expr) -> DfResult<Expr> {
    let stripped = expression.clone().transform(|node| {
        Ok(match node {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
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
fn grouped(mut parts: VecDeque<PartitionedFile>, groups: usize) -> Vec<FileGroup> {
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
