//! `bucketize`: one table in, the same rows out in numbered buckets with the text that is to be embedded.
//!
//! Rows are sorted, spilled to disk where they exceed the memory, and numbered as they stream by: memory is bounded
//! whatever the size of the table. The order is total, so the same rows give the same buckets in every run.

mod text;

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::TableProvider,
    common::Column,
    error::DataFusionError,
    execution::{SendableRecordBatchStream, memory_pool::MemoryLimit},
    logical_expr::Expr,
    physical_plan::stream::RecordBatchStreamAdapter,
    prelude::SessionContext,
};
use futures::TryStreamExt as _;
use indexmap::IndexMap;

use self::text::TextBuilder;
use super::{
    Arguments, ColumnOrigin, Columns, Context, Function, FunctionError, Job, OriginKind, TableJob, Tables,
    row_template,
    spark::{self, Spark, Work},
};
use crate::{
    config::{Node, Value},
    data::{self, DataError, Freed, SortedChunk},
    diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean},
    model::{Fingerprint, Port, Shape, Signature},
};

const TEXT: &str = "text_to_embed";
const BUCKET: &str = "bucket";
/// Rows in a batch of the result, about.
const CHUNK_ROWS: usize = 2048;

const SIGNATURE: Signature = Signature {
    inputs: &[
        Port::required("df", Shape::Table, "the table"),
        Port::required("input_features", Shape::Value, "the columns that are concatenated into the text, in order"),
        Port::required("bucket_size", Shape::Value, "rows per bucket"),
        Port::required("max_input_len", Shape::Value, "characters of the text that are kept"),
        Port::optional("id", Shape::Value, "the column to order by; `id` if not given"),
        Port::optional("text_template", Shape::Value, "a template over the row, instead of plain concatenation"),
    ],
    outputs: &[Port::required("result", Shape::Table, "id, the features, `text_to_embed`, `bucket`")],
    more_inputs: None,
    anything: false,
};

/// See the module.
pub(super) struct Bucketize;

impl Function for Bucketize {
    fn name(&self) -> &'static str {
        "bucketize"
    }

    fn doc(&self) -> &'static str {
        "Orders a table by id, divides it into buckets of equal size, and builds the text to embed"
    }

    fn version(&self) -> u64 {
        1
    }

    fn signature(&self) -> Signature {
        SIGNATURE
    }

    fn options(&self) -> &'static [&'static str] {
        spark::OPTIONS
    }

    fn prepare(&self, arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Job> {
        let before = problems.as_slice().len();
        let spec = BucketizeSpec::read(arguments, problems);
        let spark = Spark::of(arguments, problems);
        let (node, span) = (arguments.node.to_owned(), arguments.span);
        (problems.as_slice().len() == before).then_some(Job::Table(Arc::new(BucketizeJob {
            node,
            spec: spec?,
            span,
            spark,
        })))
    }
}

/// The parameters of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketizeSpec {
    /// The columns that are concatenated into the text, in order.
    pub input_features: Vec<String>,
    /// Rows per bucket; at least 1.
    pub bucket_size: u64,
    /// Characters of the text that are kept.
    pub max_input_len: usize,
    /// The column to order by.
    pub id: String,
    /// A template over the row, instead of plain concatenation.
    pub text_template: Option<String>,
}

impl BucketizeSpec {
    /// True when a table has the columns that are written.
    fn columns_are_in(&self, input: &Schema) -> bool {
        let mut names = std::iter::once(&self.id).chain(&self.input_features);
        names.all(|name| input.field_with_name(name).is_ok())
    }

    fn read(arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Self> {
        let wrong = |port: &str, node: &Node, wanted: &str| {
            let message = format!("`{port}` of node `{}` must be {wanted}, not {}", arguments.node, node.shown());
            Diagnostic::error("config::wrong-type", message).at(node.span, "")
        };
        let mut number = |port: &str| {
            let node = arguments.parameter(port, problems)?;
            match &node.value {
                Value::Int(number) if *number > 0 => u64::try_from(*number).ok(),
                _ => {
                    problems.push(wrong(port, node, "an integer of at least 1"));
                    None
                }
            }
        };
        let (bucket_size, max_input_len) = (number("bucket_size"), number("max_input_len"));
        let input_features = match arguments.parameter("input_features", problems) {
            Some(node) => {
                let texts: Option<Vec<String>> = match (&node.value, node.as_list()) {
                    (Value::Text(text), _) => Some(vec![text.clone()]),
                    (_, Some(list)) => list.iter().map(|item| item.as_text().map(str::to_owned)).collect(),
                    _ => None,
                };
                if texts.as_ref().is_none_or(Vec::is_empty) {
                    let items = node.as_list().unwrap_or_default();
                    let found = items.iter().find(|item| item.as_text().is_none()).unwrap_or(node);
                    problems.push(wrong("input_features", found, "a list of columns"));
                }
                texts
            }
            None => None,
        };
        let mut text = |port: &str| {
            let node = arguments.value(port).filter(|node| node.value != Value::Null)?;
            if node.as_text().is_none_or(str::is_empty) {
                problems.push(wrong(port, node, "a non-empty string"));
            }
            node.as_text().map(str::to_owned)
        };
        let (id, text_template) = (text("id").unwrap_or_else(|| "id".to_owned()), text("text_template"));
        if let (Some(template), Some(node)) = (&text_template, arguments.value("text_template"))
            && let Err(error) = row_template::check(template)
        {
            let message = format!("`text_template` of node `{}`: {error}", arguments.node);
            problems.push(Diagnostic::error("bucketize::bad-template", message).at(node.span, ""));
        }
        let max_input_len = usize::try_from(max_input_len?).unwrap_or(usize::MAX);
        Some(Self { input_features: input_features?, bucket_size: bucket_size?, max_input_len, id, text_template })
    }
}

#[derive(Debug)]
struct BucketizeJob {
    node: String,
    spec: BucketizeSpec,
    span: Span,
    /// The engine, unless it is this process.
    spark: Option<Spark>,
}

#[async_trait]
impl TableJob for BucketizeJob {
    async fn load(&self, context: &Context) -> Result<(), FunctionError> {
        match &self.spark {
            Some(spark) => spark.load(&self.node, context).await,
            None => Ok(()),
        }
    }

    fn needs_python(&self) -> bool {
        self.spark.is_some()
    }

    fn is_local(&self) -> bool {
        self.spark.is_none()
    }

    fn fingerprint(&self) -> Fingerprint {
        let BucketizeSpec { input_features, bucket_size, max_input_len, id, text_template } = &self.spec;
        let mut builder = Fingerprint::builder("bucketize").number(*bucket_size).number(*max_input_len as u64);
        builder.push(id.as_bytes());
        builder.push(text_template.as_deref().unwrap_or_default().as_bytes());
        input_features.iter().for_each(|feature| builder.push(feature.as_bytes()));
        builder.finish()
    }

    async fn origins(&self, _: &IndexMap<String, Option<Columns>>, _: &SessionContext) -> Vec<ColumnOrigin> {
        let BucketizeSpec { input_features, id, text_template, .. } = &self.spec;
        let same = |name: &String| ColumnOrigin::new(name, "df", [name.as_str()], OriginKind::Same);
        let mut origins: Vec<ColumnOrigin> =
            std::iter::once(id).chain(input_features.iter().filter(|one| *one != id)).map(same).collect();
        // A template may read any column.
        if text_template.is_none() {
            let features = input_features.iter().map(String::as_str);
            origins.push(ColumnOrigin::new("text_to_embed", "df", features, OriginKind::Computed));
        }
        origins.push(ColumnOrigin::new("bucket", "df", [id.as_str()], OriginKind::Ordered));
        origins
    }

    async fn columns(
        &self,
        inputs: &IndexMap<String, Option<Columns>>,
        _session: &SessionContext,
    ) -> Result<Option<Columns>, Diagnostic> {
        let Some(Some(input)) = inputs.get("df") else { return Ok(None) };
        match BucketLayout::new(&input.schema, &self.spec) {
            Ok(layout) => Ok(Some(Columns { schema: layout.output, exact: input.exact })),
            // Whether a column has a string form depends on its type.
            Err(_) if !input.exact && self.spec.columns_are_in(&input.schema) => Ok(None),
            Err(error) => {
                let message = format!("node `{}`: {error}", self.node);
                Err(Diagnostic::error("bucketize::bad-column", message).at(self.span, "in this node"))
            }
        }
    }

    async fn run(&self, mut inputs: Tables, context: &Context) -> Result<SendableRecordBatchStream, FunctionError> {
        let table = inputs.shift_remove("df").ok_or_else(|| FunctionError::Failed("`df` is not given".to_owned()))?;
        if let Some(spark) = &self.spark {
            let layout = Arc::new(BucketLayout::new(&table.schema(), &self.spec)?);
            let (inputs, work) = (Tables::from([("df".to_owned(), table)]), Work::Sort(&layout.needed));
            return Ok(numbered(spark.run(&self.node, work, inputs, context).await?, &layout));
        }
        let memory = context.memory.clone();
        let freed: Freed = Arc::new(move |bytes| memory.freed(bytes as u64));
        bucketize(table, &self.spec, &context.session, freed).await
    }
}

/// Sorts, numbers and buckets a table; see [`BucketizeSpec`]. The rows come sorted by bucket.
///
/// # Errors
/// When a column is missing or has no string form, before any row.
pub async fn bucketize(
    table: Arc<dyn TableProvider>,
    spec: &BucketizeSpec,
    session: &SessionContext,
    freed: Freed,
) -> Result<SendableRecordBatchStream, FunctionError> {
    let layout = Arc::new(BucketLayout::new(&table.schema(), spec)?);
    let columns: Vec<Expr> = layout.needed.iter().map(|name| Expr::Column(Column::new_unqualified(name))).collect();
    let streams = session.read_table(table)?.select(columns)?.execute_stream_partitioned().await?;
    let schema = Arc::clone(&layout.output);
    let chunks = data::sort(streams, sort_budget(session), layout.chunk_rows(), freed);
    // Gathering rows and building texts is most of the work; it is done for a few chunks at once.
    let rows = chunks
        .map_ok(move |chunk| layout.clone().finish(chunk))
        .try_buffered(session.state().config().target_partitions());
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.map_err(DataFusionError::from))))
}

/// Numbers sorted rows, and adds their texts and buckets.
fn numbered(rows: SendableRecordBatchStream, layout: &Arc<BucketLayout>) -> SendableRecordBatchStream {
    let schema = Arc::clone(&layout.output);
    let (layout, mut next) = (Arc::clone(layout), 0);
    let rows = spark::conform(rows, Arc::clone(&layout.input)).and_then(move |batch| {
        let (layout, first_row) = (Arc::clone(&layout), next);
        next += batch.num_rows() as u64;
        let finished = data::blocking(move || layout.complete(&batch, first_row));
        async move { finished.await.map_err(DataFusionError::from) }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Bytes that the sort may hold before it spills.
fn sort_budget(session: &SessionContext) -> usize {
    match session.runtime_env().memory_pool.memory_limit() {
        MemoryLimit::Finite(bytes) => bytes,
        _ => 256 << 20,
    }
}

/// The columns that are read and written, and how rows become buckets.
struct BucketLayout {
    /// Columns of the input, in sort order: the id, the features, other columns of the template.
    needed: Vec<String>,
    /// How many of them are written.
    kept: usize,
    /// The needed columns, as they are read.
    input: SchemaRef,
    output: SchemaRef,
    text: TextBuilder,
    bucket_size: u64,
}

impl BucketLayout {
    fn new(input: &Schema, spec: &BucketizeSpec) -> Result<Self, FunctionError> {
        let mut needed = vec![spec.id.clone()];
        for feature in &spec.input_features {
            if !needed.contains(feature) {
                needed.push(feature.clone());
            }
        }
        let kept = needed.len();
        if let Some(template) = &spec.text_template {
            for name in row_template::variables(template) {
                if !needed.contains(&name) {
                    needed.push(name);
                }
            }
        }
        for name in &needed {
            if input.field_with_name(name).is_err() {
                return Err(missing_column(name, input));
            }
        }
        if let Some(name) = needed[..kept].iter().find(|name| [TEXT, BUCKET].contains(&name.as_str())) {
            return Err(FunctionError::Failed(format!(
                "the column `{name}` is written by `bucketize` and cannot be one of its features; rename it"
            )));
        }
        let fields: Vec<Arc<Field>> =
            needed.iter().filter_map(|name| input.field_with_name(name).ok().cloned().map(Arc::new)).collect();
        let text = TextBuilder::new(&fields, &spec.input_features, spec.text_template.as_deref(), spec.max_input_len)?;
        let mut output = fields[..kept].to_vec();
        output.push(Arc::new(Field::new(TEXT, DataType::Utf8, false)));
        output.push(Arc::new(Field::new(BUCKET, DataType::Int64, false)));
        let (input, output) = (Arc::new(Schema::new(fields)), Arc::new(Schema::new(output)));
        Ok(Self { needed, kept, input, output, text, bucket_size: spec.bucket_size })
    }
}

impl BucketLayout {
    /// Rows of a batch: whole buckets, unless one is larger than a batch.
    fn chunk_rows(&self) -> usize {
        let bucket = usize::try_from(self.bucket_size).unwrap_or(usize::MAX);
        if bucket > CHUNK_ROWS { CHUNK_ROWS } else { CHUNK_ROWS / bucket * bucket }
    }

    /// Gathers the rows of a chunk, and adds their texts and buckets.
    async fn finish(self: Arc<Self>, chunk: SortedChunk) -> Result<RecordBatch, DataError> {
        data::blocking(move || {
            let batch = chunk.gather(&self.input)?;
            self.complete(&batch, chunk.first_row)
        })
        .await
    }

    /// Adds the texts and buckets of sorted rows, the first of which has this number. Blocking.
    fn complete(&self, batch: &RecordBatch, first_row: u64) -> Result<RecordBatch, DataError> {
        let text = self.text.build(batch)?;
        let bucket = |row: u64| i64::try_from(row / self.bucket_size).unwrap_or(i64::MAX);
        let rows = batch.num_rows() as u64;
        let buckets = Int64Array::from_iter_values((first_row..first_row + rows).map(bucket));
        let mut columns: Vec<ArrayRef> = batch.columns()[..self.kept].to_vec();
        columns.push(text);
        columns.push(Arc::new(buckets));
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns).map_err(DataFusionError::from)?)
    }
}

fn missing_column(name: &str, input: &Schema) -> FunctionError {
    let names: Vec<&str> = input.fields().iter().map(|field| field.name().as_str()).collect();
    let hint = did_you_mean(name, names.iter().copied()).map(|hint| format!("; {hint}")).unwrap_or_default();
    FunctionError::Failed(format!("the table has no column `{name}`{hint} (its columns are {})", names.join(", ")))
}

#[cfg(test)]
mod tests;
