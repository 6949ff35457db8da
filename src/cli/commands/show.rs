//! `flow show`: the first rows, the columns or the partitions of a dataset.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray},
    datatypes::{DataType, Field, Schema},
    json::{ArrayWriter, WriterBuilder},
    util::{
        display::{ArrayFormatter, FormatOptions},
        pretty::pretty_format_batches,
    },
};
use serde_json::{Value as Json, json};

use crate::{
    cli::{
        Exit,
        app::{App, Limits, Outcome, print, print_raw},
    },
    data::{DataError, Dataset, Stores},
    function::Context,
    model::{Shape, visible_json_text, visible_line},
};

/// The rows where the command line does not say.
const HEAD: usize = 10;
/// Longer cells are truncated in the table; JSON has them whole.
const CELL: usize = 60;

pub(in crate::cli) fn show(app: &App, name: &str, head: Option<usize>, schema: bool, partitions: bool) -> Outcome {
    let workspace = app.workspace()?;
    let dataset = workspace.dataset(name).map_err(|problem| {
        app.report(&[problem], &workspace.project.sources);
        Exit::Wrong
    })?;
    let limits = Limits::default();
    let (stores, context) = app.context(&workspace.project, limits)?;
    let environment = |error: DataError| app.fail(Exit::Environment, error.to_string());
    app.block_on(limits.jobs, async {
        if partitions {
            return list(app, &*dataset, &stores).await;
        }
        if dataset.info().shape == Shape::Value {
            if schema || head.is_some() {
                let message = format!("`{name}` is a value and has no rows\nhelp: remove `--head` or `--schema`");
                return Err(app.fail(Exit::Wrong, message));
            }
            let document = dataset.document().map_err(environment)?;
            let value = document.value(&stores).await.map_err(environment)?;
            return Ok(app.document(&value));
        }
        // Partitions are shown as one table.
        let source = dataset.table_source().map_err(environment)?;
        let table = source.table(&stores).await.map_err(environment)?;
        if schema {
            return Ok(columns(app, &table.schema()));
        }
        let batches =
            rows(&context, table, head.unwrap_or(HEAD)).await.map_err(|error| app.fail(Exit::Environment, error))?;
        if app.json() {
            return as_json(app, &batches);
        }
        let shown: Vec<RecordBatch> = batches
            .iter()
            .map(short)
            .collect::<Result<_, _>>()
            .map_err(|error| app.fail(Exit::Bug, error.to_string()))?;
        let text = pretty_format_batches(&shown).map_err(|error| app.fail(Exit::Bug, error.to_string()))?;
        Ok(print(&format!("{text}\n")))
    })?
}

async fn rows(
    context: &Context,
    table: Arc<dyn datafusion::catalog::TableProvider>,
    head: usize,
) -> Result<Vec<RecordBatch>, String> {
    let frame = context.session.read_table(table).and_then(|frame| frame.limit(0, Some(head)));
    match frame {
        Ok(frame) => frame.collect().await.map_err(|error| crate::data::explain(&error)),
        Err(error) => Err(crate::data::explain(&error)),
    }
}

fn as_json(app: &App, batches: &[RecordBatch]) -> Outcome {
    let mut writer: ArrayWriter<_> = WriterBuilder::new().with_explicit_nulls(true).build(Vec::new());
    let wrong = |error: arrow::error::ArrowError| app.fail(Exit::Bug, error.to_string());
    writer.write_batches(&batches.iter().collect::<Vec<_>>()).map_err(wrong)?;
    writer.finish().map_err(wrong)?;
    let text = String::from_utf8(writer.into_inner()).map_err(|error| app.fail(Exit::Bug, error.to_string()))?;
    Ok(print_raw(&if text.is_empty() { "[]\n".to_owned() } else { visible_json_text(&text).into_owned() + "\n" }))
}

fn columns(app: &App, schema: &Schema) -> Exit {
    let list: Vec<Json> = schema
        .fields()
        .iter()
        .map(|field| json!({"name": field.name(), "type": field.data_type().to_string(), "nullable": field.is_nullable()}))
        .collect();
    if app.json() {
        return app.document(&list);
    }
    let name = |field: &Arc<Field>| visible_line(field.name()).into_owned();
    let width = schema.fields().iter().map(|field| name(field).chars().count()).max().unwrap_or_default();
    let line = |field: &Arc<Field>| {
        let null = if field.is_nullable() { "" } else { " not null" };
        format!("{:width$}  {}{null}\n", name(field), visible_line(&field.data_type().to_string()))
    };
    print(&schema.fields().iter().map(line).collect::<String>())
}

async fn list(app: &App, dataset: &dyn Dataset, stores: &Stores) -> Outcome {
    let environment = |error: DataError| app.fail(Exit::Environment, error.to_string());
    let source = dataset.partition_source().map_err(environment)?;
    let partitions = source.partitions(stores).await.map_err(environment)?;
    if app.json() {
        let list: Vec<Json> = partitions
            .iter()
            .map(|partition| {
                let bytes: u64 = partition.files.iter().map(|file| file.size).sum();
                let files: Vec<_> = partition.files.iter().map(|file| &*file.path).collect();
                json!({"partition": partition.key.to_string(), "bytes": bytes, "files": files})
            })
            .collect();
        return Ok(app.document(&list));
    }
    let line = |partition: &crate::data::Partition| {
        let bytes: u64 = partition.files.iter().map(|file| file.size).sum();
        format!("{}  {bytes} bytes\n", partition.key)
    };
    Ok(print(&partitions.iter().map(line).collect::<String>()))
}

/// Formats cells, with long ones truncated.
fn short(batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let options = FormatOptions::default();
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let formatter = ArrayFormatter::try_new(column, &options)?;
        let cells = (0..batch.num_rows()).map(|row| {
            let text = formatter.value(row).to_string();
            if text.chars().count() > CELL { text.chars().take(CELL - 1).chain(['…']).collect() } else { text }
        });
        columns.push(Arc::new(StringArray::from_iter_values(cells)));
        fields.push(Field::new(field.name(), DataType::Utf8, true));
    }
    // Rows may have no columns.
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}
