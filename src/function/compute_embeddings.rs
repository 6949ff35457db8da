//! `compute_embeddings`: partitions with `text_to_embed` in, the same rows with `embedding` and `embedding_error` out.
//!
//! Owns the columns of a partition. Which vectors, how many requests, what a cache knows: that is the provider's.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray},
    compute::{cast, concat_batches},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;

use super::{Arguments, Context, Function, FunctionError, Job, PartitionJob, PartitionOutput, PartitionTask};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    embed::{self, Estimate, Provider, ProviderSpec},
    model::{Fingerprint, PartitionKey, Port, Shape, Signature},
};

/// Bumped when the same input and parameters would give another result.
const VERSION: u64 = 1;
const TEXT: &str = "text_to_embed";
const VECTOR: &str = "embedding";
const ERROR: &str = "embedding_error";

const SIGNATURE: Signature = Signature {
    inputs: &[
        Port::required("dfs", Shape::Partitions, "partitions with a column `text_to_embed`"),
        Port::required("model", Shape::Value, "which provider and model, and how: see `flow ls providers`"),
    ],
    outputs: &[Port::required(
        "result",
        Shape::Partitions,
        "the same rows with `embedding` and `embedding_error`, without `text_to_embed`",
    )],
    more_inputs: None,
    anything: false,
};

/// See the module.
pub(super) struct ComputeEmbeddings;

impl Function for ComputeEmbeddings {
    fn name(&self) -> &'static str {
        "compute_embeddings"
    }

    fn doc(&self) -> &'static str {
        "Embeds the `text_to_embed` of every partition with the provider that `model` names"
    }

    fn signature(&self) -> Signature {
        SIGNATURE
    }

    fn prepare(&self, arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Job> {
        let Some(model) = arguments.value("model") else {
            problems.push(
                Diagnostic::error("node::value-from-data", "`model` must come from the parameters")
                    .at(arguments.span, "in this node")
                    .help("write `model: params:…`, so that the model is known before the run starts"),
            );
            return None;
        };
        let (spec, common) = embed::decode(model, arguments.providers, problems)?;
        Some(Job::Partitions(Arc::new(EmbedJob { spec, max_row_error_rate: common.max_row_error_rate })))
    }
}

#[derive(Debug)]
struct EmbedJob {
    spec: Arc<dyn ProviderSpec>,
    max_row_error_rate: f64,
}

impl PartitionJob for EmbedJob {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::builder("compute_embeddings").number(VERSION).fingerprint(self.spec.identity()).finish()
    }

    fn missing_secrets(&self) -> Vec<String> {
        self.spec.missing_secrets()
    }

    fn max_row_error_rate(&self) -> f64 {
        self.max_row_error_rate
    }

    fn open(&self, context: &Context) -> Result<Arc<dyn PartitionTask>, FunctionError> {
        Ok(Arc::new(EmbedTask { provider: self.spec.open(&context.provider)? }))
    }
}

#[derive(Debug)]
struct EmbedTask {
    provider: Arc<dyn Provider>,
}

#[async_trait]
impl PartitionTask for EmbedTask {
    async fn run(
        &self,
        key: &PartitionKey,
        input: SendableRecordBatchStream,
    ) -> Result<PartitionOutput, FunctionError> {
        let schema = output_columns(&input.schema(), key)?;
        let in_schema = input.schema();
        let batches: Vec<RecordBatch> = input.try_collect().await?;
        // One call for the whole partition, so that a request is as full as the partition allows.
        let batch = concat_batches(&in_schema, &batches).map_err(|e| FunctionError::Failed(e.to_string()))?;
        drop(batches);
        let embedded = self.provider.embed(&texts(&batch)?).await?;
        let vector = Field::new(VECTOR, embedded.vectors.data_type().clone(), true);
        let schema = with_results(&schema, vector);
        let columns: Vec<ArrayRef> = schema
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                VECTOR => Arc::new(embedded.vectors.clone()) as ArrayRef,
                ERROR => Arc::new(embedded.errors.clone()) as ArrayRef,
                name => batch.column_by_name(name).expect("an output column is an input column").clone(),
            })
            .collect();
        let out = RecordBatch::try_new(schema.clone(), columns).map_err(|e| FunctionError::Failed(e.to_string()))?;
        Ok(PartitionOutput { schema, batches: vec![out], tally: embedded.tally })
    }

    async fn estimate(
        &self,
        mut input: SendableRecordBatchStream,
        estimate: &mut Estimate,
    ) -> Result<(), FunctionError> {
        let schema = input.schema();
        let mut batches = Vec::new();
        while let Some(batch) = input.try_next().await? {
            batches.push(batch);
        }
        let batch = concat_batches(&schema, &batches).map_err(|e| FunctionError::Failed(e.to_string()))?;
        Ok(self.provider.estimate(&texts(&batch)?, estimate)?)
    }

    fn flush(&self) -> Result<(), FunctionError> {
        Ok(self.provider.flush()?)
    }

    async fn ping(&self) -> Result<(), FunctionError> {
        Ok(self.provider.ping().await?)
    }
}

/// The input's columns without the text and the key's columns. An `embedding` that is there already would be
/// overwritten in silence, so it is refused.
fn output_columns(input: &Schema, key: &PartitionKey) -> Result<Schema, FunctionError> {
    for taken in [VECTOR, ERROR] {
        if input.column_with_name(taken).is_some() {
            return Err(FunctionError::Failed(format!(
                "the input already has a column `{taken}`; rename or drop it before `compute_embeddings`"
            )));
        }
    }
    let fields: Vec<_> = input
        .fields()
        .iter()
        .filter(|field| field.name() != TEXT && key.get(field.name()).is_none())
        .cloned()
        .collect();
    Ok(Schema::new(fields))
}

fn with_results(columns: &Schema, vector: Field) -> SchemaRef {
    let mut fields = columns.fields().to_vec();
    fields.push(Arc::new(vector));
    fields.push(Arc::new(Field::new(ERROR, DataType::Utf8, true)));
    Arc::new(Schema::new(fields))
}

/// The text column as `Utf8`, whatever kind of text the file holds.
fn texts(batch: &RecordBatch) -> Result<StringArray, FunctionError> {
    let Some(column) = batch.column_by_name(TEXT) else {
        let schema = batch.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect();
        return Err(FunctionError::Failed(format!(
            "the input has no column `{TEXT}`; it has {}. `bucketize` makes one",
            names.join(", ")
        )));
    };
    if column.data_type() == &DataType::Utf8 {
        return Ok(column.as_string::<i32>().clone());
    }
    if !matches!(
        column.data_type(),
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) | DataType::Null
    ) {
        return Err(FunctionError::Failed(format!("column `{TEXT}` is {}, expected text", column.data_type())));
    }
    let column = cast(column, &DataType::Utf8).map_err(|e| FunctionError::Failed(format!("column `{TEXT}`: {e}")))?;
    Ok(column.as_string::<i32>().clone())
}
