//! Spark as the engine of a table: PySpark in a Python process does the work, and what it wrote is read in its order.
//!
//! Owns which Spark a node names, how its inputs get there, and the folder in which the result waits. The result is published as every
//! table is, by the dataset that it is written to.

use std::{path::PathBuf, sync::Arc};

use arrow::{
    array::RecordBatch,
    compute::cast,
    datatypes::{Schema, SchemaRef},
};
use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::TryStreamExt as _;
use serde_json::{Map, Value as Json, json};

use super::{
    context::Context,
    contract::{Arguments, Tables},
    engine::Engine,
    error::FunctionError,
    in_order::in_order,
};
use crate::{
    config::{Node, Record, SPARK_FIELDS, Value},
    data::{self, DataError},
    diagnostic::{Diagnostic, Diagnostics},
    python::{CallInput, CallOutput, CallRequest, InputData, OutputForm},
};

/// Keys of a node whose table Spark may compute.
pub(super) const OPTIONS: &[&str] = &["engine", "spark"];
/// The program that calls PySpark.
const PROGRAM: &str = include_str!("../python/spark.py");

/// The Spark of a node. Without an address, PySpark finds one as it always does.
#[derive(Clone, PartialEq, Default)]
pub(super) struct Spark {
    remote: Option<String>,
    master: Option<String>,
    config: Map<String, Json>,
}

impl std::fmt::Debug for Spark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Settings may hold secrets.
        f.debug_struct("Spark").finish_non_exhaustive()
    }
}

/// What Spark is to do with the inputs.
pub(super) enum Work<'a> {
    /// Run a query over them.
    Query(&'a str),
    /// Sort the only one by these columns, and keep no others.
    Sort(&'a [String]),
}

impl Spark {
    /// The Spark that computes the table of a node; `None` where `flow` computes it.
    pub(super) fn of(arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Self> {
        let engine = match arguments.options.get("engine").and_then(|node| node.as_text()) {
            Some("spark") => Engine::Spark,
            Some(_) => Engine::Local,
            None => arguments.engine,
        };
        let spark = arguments.options.get("spark").map(|node| Self::read(node, arguments.node, problems));
        (engine == Engine::Spark).then(|| spark.unwrap_or_default())
    }

    fn read(node: &Node, of: &str, problems: &mut Diagnostics) -> Self {
        // What is wrong with it was reported when the pipeline was read.
        let Some(record) = Record::read(node, "", SPARK_FIELDS, &mut Diagnostics::default()) else {
            return Self::default();
        };
        let text = |key: &str| match &record.node(key)?.value {
            Value::Secret(secret) => Some(secret.expose().to_owned()),
            _ => record.text(key).map(str::to_owned),
        };
        let (remote, master) = (text("remote"), text("master"));
        if remote.is_some() && master.is_some() {
            let message = format!("`spark` of node `{of}` has `remote` and `master`");
            problems.push(Diagnostic::error("spark::bad-settings", message).at(node.span, "").help("keep one of them"));
        }
        let config = record.map("config").into_iter().flat_map(|map| map.iter()).map(|(name, entry)| {
            let value = match &entry.node.value {
                Value::Secret(secret) => secret.expose().to_owned(),
                _ => match entry.node.to_json() {
                    Json::String(text) => text,
                    other => other.to_string(),
                },
            };
            (name.to_owned(), Json::String(value))
        });
        Self { remote, master, config: config.collect() }
    }

    /// Checks that PySpark can be imported.
    pub(super) async fn load(&self, node: &str, context: &Context) -> Result<(), FunctionError> {
        call(node, "check", None, context).await
    }

    /// Does the work. The rows come in the order in which Spark wrote them; what it wrote is removed with the stream.
    pub(super) async fn run(
        &self,
        node: &str,
        work: Work<'_>,
        inputs: Tables,
        context: &Context,
    ) -> Result<SendableRecordBatchStream, FunctionError> {
        let folder = tempfile::Builder::new()
            .prefix("spark-")
            .tempdir()
            .map_err(|error| FunctionError::Refused(format!("cannot create a temporary folder: {error}")))?;
        let (out, own) = (folder.path().join("out"), folder.path().to_owned());
        let mut tables = Vec::new();
        for (number, (name, table)) in inputs.into_iter().enumerate() {
            let files = match data::local_parquet(&*table) {
                Some(files) => files,
                None => {
                    // Spark would read another format in its own way: it gets the rows as `flow` reads them.
                    let path = own.join(format!("input-{number}.parquet"));
                    data::write_parquet_file(path.clone(), in_order(&context.session, table).await?).await?;
                    data::LocalFiles { base: None, files: vec![path], partitions: Vec::new() }
                }
            };
            let partitions: Vec<Json> = files
                .partitions
                .iter()
                .map(|(name, integer)| json!([name, if *integer { "bigint" } else { "string" }]))
                .collect();
            tables.push(json!({"name": name, "base": files.base, "files": files.files, "partitions": partitions}));
        }
        let (query, columns) = match work {
            Work::Query(query) => (Some(query), None),
            Work::Sort(columns) => (None, Some(columns)),
        };
        let spark = json!({"remote": self.remote, "master": self.master, "config": self.config});
        let work = json!({"spark": spark, "tables": tables, "query": query, "columns": columns, "out": out});
        call(node, "run", Some(work), context).await?;
        let files = data::blocking(move || parts(&out)).await?;
        let Some(first) = files.first().cloned() else {
            return Err(FunctionError::Failed("Spark wrote no files".to_owned()));
        };
        let schema = data::parquet_columns(first).await?;
        Ok(data::read_in_order(schema, files, folder))
    }
}

/// The files that Spark wrote, in the order of its tasks.
fn parts(folder: &std::path::Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |source: std::io::Error| DataError::Io { path: folder.display().to_string(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("part-") && name.ends_with(".parquet") {
            files.push((name, entry.path()));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// Calls a function of the program.
async fn call(node: &str, function: &str, argument: Option<Json>, context: &Context) -> Result<(), FunctionError> {
    let input = argument.map(|value| CallInput {
        port: "work".to_owned(),
        positional: true,
        kind: "value".to_owned(),
        data: InputData::Value(value),
    });
    let request = CallRequest {
        function: function.to_owned(),
        program: Some(PROGRAM),
        node: node.to_owned(),
        inputs: input.into_iter().collect(),
        outputs: vec![CallOutput { port: None, form: OutputForm::Value }],
        threads: 1,
        limit: None,
        max_calls: None,
    };
    let call = context.python.call(request).await?;
    while call.next().await?.is_some() {}
    Ok(())
}

/// Gives rows these columns: those of the same names, in these types.
pub(super) fn conform(rows: SendableRecordBatchStream, schema: SchemaRef) -> SendableRecordBatchStream {
    let wanted = Arc::clone(&schema);
    let rows = rows.and_then(move |batch| {
        let batch = as_schema(&batch, &wanted);
        async move { batch }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

fn as_schema(batch: &RecordBatch, schema: &Arc<Schema>) -> datafusion::error::Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let column = batch
            .column_by_name(field.name())
            .ok_or_else(|| DataFusionError::Execution(format!("Spark gave no column `{}`", field.name())))?;
        Ok(if column.data_type() == field.data_type() { Arc::clone(column) } else { cast(column, field.data_type())? })
    });
    let columns = columns.collect::<datafusion::error::Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
