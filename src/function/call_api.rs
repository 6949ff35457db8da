//! `call_api`: partitions or a table in, the same rows with columns of an HTTP API's answers out.
//!
//! Owns the columns of a partition, and which values of it are sent. How a value becomes a request and a response an answer is
//! declared in `api:` ([`settings`], [`template`], [`answers`], [`answer`], [`columns`], [`paginator`]); when and how often requests are
//! sent is decided by `net`.

mod actions;
mod answer;
mod answers;
mod auth;
mod client;
mod columns;
mod paginator;
mod protocol;
mod settings;
mod template;
mod version;

use std::{
    borrow::Cow,
    collections::HashMap,
    path::Path,
    sync::{Arc, OnceLock},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, UInt64Type},
};
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use futures::{StreamExt as _, stream};
use serde_json::Value as Json;

use self::{
    answer::Answer,
    protocol::{Keys, RestApi},
    settings::ApiSettings,
};
use super::{
    Arguments, Columns, Context, Function, FunctionError, Job, MemoryBudget, PartitionChunk, PartitionJob,
    PartitionOutput, PartitionTask,
    added_columns::{no_column, with_columns},
    answer_client::{AnswerClient, Answered, blocking},
    chunks::{ChunkReader, Limit, begin, joined, size},
    unkept,
};
use crate::{
    cache::Store,
    config::Field as Key,
    diagnostic::Diagnostics,
    model::{
        Estimate, Fingerprint, PartitionKey, Port, RowTally, ServiceError, Shape, Signature, excerpt, is_secret_name,
    },
    net::{EndpointRegistry, ServiceContext, client::AnswerSource},
};

/// The error of a row whose key is null.
const EMPTY_KEY: &str = "empty_key";
/// Rows of a chunk at most.
const MAX_ROWS: usize = 64 << 10;
/// Bytes of an answer in memory, about.
const ANSWER_BYTES: usize = 4 << 10;
/// The share of the memory budget that an estimate may use to recognize known values.
const SEEN_FRACTION: u64 = 4;
/// A part of a table is this many requests at least, or rows.
const REQUESTS_AT_ONCE: usize = 16;
const ROWS_AT_ONCE: usize = 1024;
/// Chunks of up to this many bytes are sent at once whatever the memory, so that requests are full.
const MIN_BYTES: usize = 4 << 20;

const SIGNATURE: Signature = Signature {
    inputs: &[
        Port::required("dfs", Shape::Partitions, "rows with the columns of `key`").or_table(),
        Port::required("api", Shape::Value, "which API, and how its answers become columns: see docs/call-api.md"),
    ],
    outputs: &[Port::required(
        "result",
        Shape::Partitions,
        "the same rows with `response.columns` and a column of errors, `api_error`",
    )
    .or_table()],
    more_inputs: None,
    anything: false,
};

/// See the module.
pub(super) struct CallApi;

impl Function for CallApi {
    fn name(&self) -> &'static str {
        "call_api"
    }

    fn doc(&self) -> &'static str {
        "Sends a key of every row to an HTTP API, in batches, and adds columns of its answers"
    }

    fn version(&self) -> u64 {
        1
    }

    fn signature(&self) -> Signature {
        SIGNATURE
    }

    fn mappings(&self) -> Vec<(&'static str, &'static [Key])> {
        vec![("api", settings::FIELDS)]
    }

    fn prepare(&self, arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Job> {
        let api = arguments.parameter("api", problems)?;
        let settings = Arc::new(ApiSettings::read(api, problems)?);
        unkept::warn(arguments, "api", settings.cache.mode, problems);
        Some(Job::of_rows(Arc::new(ApiJob { settings, version: OnceLock::new() }), "dfs", arguments))
    }
}

#[derive(Debug)]
struct ApiJob {
    settings: Arc<ApiSettings>,
    /// The version of the service, once it was asked for.
    version: OnceLock<String>,
}

impl ApiJob {
    /// What answers depend on besides their value.
    fn identity(&self) -> Result<Fingerprint, ServiceError> {
        let settings = &*self.settings;
        let mut builder = Fingerprint::builder("call_api")
            .text(settings.method.as_str())
            .text(&settings.url.identity())
            .number(settings.params.len() as u64);
        for (name, template) in settings.params.iter().filter(|(name, _)| !is_secret_name(name)) {
            builder = builder.text(name).text(&template.identity());
        }
        builder = builder.text(&settings.json.as_ref().map(template::Template::identity).unwrap_or_default());
        for (name, value) in &settings.open_headers {
            builder = builder.text(name).text(value);
        }
        builder = builder
            .text(&settings.key.join("\u{1f}"))
            .text(&settings.matching.identity())
            .text(settings.data.text())
            .text(&settings.actions.identity())
            .text(&settings.paginator.as_ref().map(paginator::Paginator::identity).unwrap_or_default());
        if settings.version.is_some() {
            let unknown = || ServiceError::Failed("the version of the service was not asked for".to_owned());
            builder = builder.text("version").text(self.version.get().ok_or_else(unknown)?);
        }
        Ok(builder.finish())
    }

    fn client(&self, context: &ServiceContext) -> Result<AnswerClient<RestApi>, ServiceError> {
        client::open(&self.settings, self.identity()?, context, &EndpointRegistry::process())
    }
}

#[async_trait]
impl PartitionJob for ApiJob {
    async fn load(&self, _: &Context) -> Result<(), FunctionError> {
        let settings = &*self.settings;
        let Some((url, path)) = &settings.version else { return Ok(()) };
        if self.version.get().is_none() {
            let request = version::VersionRequest {
                url,
                path,
                service: &settings.url.example(),
                headers: client::headers(settings)?,
                timeout: settings.client.timeout,
                secrets: &settings.secrets(),
            };
            let _ = self.version.set(version::ask(&request).await?);
        }
        Ok(())
    }

    fn fingerprint(&self, _: &Context) -> Result<Fingerprint, FunctionError> {
        let settings = &*self.settings;
        let mut builder = Fingerprint::builder("call_api rows").fingerprint(self.identity()?);
        for column in &settings.columns {
            builder = builder.text(&column.identity());
        }
        Ok(builder.text(&settings.error_column).number(settings.missing_is_error.into()).finish())
    }

    fn columns(&self, input: &Columns) -> Result<Option<Columns>, FunctionError> {
        for name in &self.settings.key {
            if input.schema.column_with_name(name).is_none() {
                return Err(no_column(&input.schema, name));
            }
        }
        let schema = output_schema(&self.settings, &input.schema, &PartitionKey::new([]))?;
        Ok(Some(Columns { schema, exact: input.exact }))
    }

    fn missing_secrets(&self) -> Vec<String> {
        self.settings.missing_secrets.clone()
    }

    fn answers_folder(&self) -> Option<&Path> {
        self.settings.cache.stored_in()
    }

    fn max_row_error_rate(&self) -> f64 {
        self.settings.max_row_error_rate
    }

    fn check(&self, context: &Context) -> Result<(), FunctionError> {
        let settings = &*self.settings;
        client::headers(settings)?;
        Store::check(&context.service.root.join(&settings.cache.path), settings.cache.mode)
            .map_err(|error| FunctionError::Refused(error.to_string()))
    }

    fn open(&self, context: &Context) -> Result<Arc<dyn PartitionTask>, FunctionError> {
        let client = self.client(&context.service)?;
        Ok(Arc::new(ApiTask { client, settings: Arc::clone(&self.settings) }))
    }
}

#[derive(Debug, Clone)]
struct ApiTask {
    client: AnswerClient<RestApi>,
    settings: Arc<ApiSettings>,
}

#[async_trait]
impl PartitionTask for ApiTask {
    async fn run(
        &self,
        key: &PartitionKey,
        input: SendableRecordBatchStream,
        memory: &MemoryBudget,
    ) -> Result<PartitionOutput, FunctionError> {
        let schema = output_schema(&self.settings, &input.schema(), key)?;
        let weight = |chunk: &RecordBatch| Ok((chunk.num_rows() * ANSWER_BYTES + 2 * size(chunk)) as u64);
        let (first, rows, reservation) = begin(input, self.limit(memory), memory, weight).await?;
        let first = self.compute(&schema, first).await?;
        let (task, out) = (self.clone(), Arc::clone(&schema));
        let others = stream::try_unfold((rows, task, out), async |(mut rows, task, schema)| {
            let Some(batch) = rows.next().await? else { return Ok(None) };
            Ok(Some((task.compute(&schema, batch).await?, (rows, task, schema))))
        });
        Ok(PartitionOutput { schema, chunks: stream::once(async { Ok(first) }).chain(others).boxed(), reservation })
    }

    async fn estimate(
        &self,
        input: SendableRecordBatchStream,
        memory: &MemoryBudget,
        estimate: &mut Estimate,
    ) -> Result<(), FunctionError> {
        estimate.seen.limit_memory(memory.total() / SEEN_FRACTION);
        let mut rows = ChunkReader::new(input, self.limit(memory));
        while let Some(batch) = rows.next().await? {
            let (batch, plan) = self.planned(batch).await?;
            let mut counts = vec![0; plan.keys.count()];
            plan.key_of_row.iter().flatten().for_each(|key| counts[*key as usize] += 1);
            estimate.rows += batch.num_rows() as u64;
            let requests = estimate.requests;
            self.client.estimate(&plan.keys, &counts, estimate)?;
            *estimate.cost_nano_usd.get_or_insert(0) +=
                self.settings.price.nano_usd_of(estimate.requests - requests, 0u64);
        }
        Ok(())
    }

    fn rows_at_once(&self, memory: &MemoryBudget) -> usize {
        let batch = self.settings.batch_size;
        self.limit(memory).rows.min(batch.saturating_mul(REQUESTS_AT_ONCE.max(ROWS_AT_ONCE / batch)))
    }

    async fn flush(&self) -> Result<(), FunctionError> {
        Ok(self.client.flush().await?)
    }

    async fn ping(&self) -> Result<(), FunctionError> {
        Ok(self.client.ping().await?)
    }
}

/// The distinct values of some rows.
struct CallPlan {
    keys: Keys,
    /// The number of the value of each row; `None` for a row without one.
    key_of_row: Vec<Option<u32>>,
}

impl ApiTask {
    /// As many whole requests as memory allows.
    fn limit(&self, memory: &MemoryBudget) -> Limit {
        let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        let half = size(memory.share() / 2);
        let batch = self.settings.batch_size;
        let rows = (half / ANSWER_BYTES).clamp(1, MAX_ROWS.max(batch));
        Limit { rows: (rows / batch).max(1) * batch, bytes: half.max(MIN_BYTES) }
    }

    /// Finds the distinct values of some rows.
    fn plan(&self, batch: &RecordBatch) -> Result<CallPlan, FunctionError> {
        let columns: Vec<ArrayRef> =
            self.settings.key.iter().map(|name| key_column(batch, name)).collect::<Result<_, _>>()?;
        let mut plan = CallPlan { keys: Keys::new(), key_of_row: Vec::with_capacity(batch.num_rows()) };
        let mut known: HashMap<String, u32> = HashMap::new();
        for row in 0..batch.num_rows() {
            let value: Vec<Json> = columns.iter().map(|column| json_of(column, row)).collect();
            // Without a value, or with an empty string, there is nothing to ask for.
            if value.iter().all(|value| value.is_null() || value.as_str().is_some_and(crate::model::is_blank)) {
                plan.key_of_row.push(None);
                continue;
            }
            let text = serde_json::to_string(&value).expect("plain JSON");
            let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
            let number = *known.entry(text.clone()).or_insert(next);
            if number == next {
                plan.keys.push(value, &text, self.client.digest(&text));
            }
            plan.key_of_row.push(Some(number));
        }
        Ok(plan)
    }

    async fn planned(&self, batch: RecordBatch) -> Result<(RecordBatch, CallPlan), FunctionError> {
        let task = self.clone();
        blocking(move || {
            let plan = task.plan(&batch)?;
            Ok((batch, plan))
        })
        .await
    }

    /// Some rows and the columns of their answers.
    async fn compute(&self, schema: &SchemaRef, batch: RecordBatch) -> Result<PartitionChunk, FunctionError> {
        let (batch, CallPlan { keys, key_of_row }) = self.planned(batch).await?;
        let answers = self.client.ask(keys).await?;
        let (task, schema) = (self.clone(), Arc::clone(schema));
        blocking(move || task.assemble(&schema, &batch, &key_of_row, &answers)).await
    }

    fn assemble(
        &self,
        schema: &SchemaRef,
        batch: &RecordBatch,
        key_of_row: &[Option<u32>],
        answers: &[Answered<Answer>],
    ) -> Result<PartitionChunk, FunctionError> {
        let typed: Vec<Result<Vec<Cow<'_, Json>>, Arc<str>>> =
            answers.iter().map(|(answer, _)| self.typed(answer)).collect();
        let mut tally = RowTally::default();
        let mut values: Vec<Vec<Option<&Json>>> =
            self.settings.columns.iter().map(|_| Vec::with_capacity(key_of_row.len())).collect();
        let mut errors: Vec<Option<Arc<str>>> = Vec::with_capacity(key_of_row.len());
        let mut last_error = None;
        let mut counted = vec![false; answers.len()];
        for key in key_of_row {
            let row = key.map(|key| (key as usize, &typed[key as usize]));
            match row {
                Some((key, Ok(row))) => {
                    values.iter_mut().zip(row).for_each(|(column, value)| column.push(Some(&**value)));
                    errors.push(None);
                    let first = !std::mem::replace(&mut counted[key], true);
                    let paid = first && answers[key].1 == AnswerSource::Request;
                    *if paid { &mut tally.ok } else { &mut tally.cached } += 1;
                }
                Some((_, Err(why))) => {
                    values.iter_mut().for_each(|column| column.push(None));
                    errors.push(Some(Arc::clone(why)));
                    last_error = Some(Arc::clone(why));
                    tally.error += 1;
                }
                None => {
                    values.iter_mut().for_each(|column| column.push(None));
                    errors.push(Some(EMPTY_KEY.into()));
                    tally.empty += 1;
                }
            }
        }
        let errors: StringArray = errors.iter().map(Option::as_deref).collect();
        let answered = self.settings.columns.iter().zip(&values);
        let mut computed: Vec<(&str, ArrayRef)> =
            answered.map(|(column, values)| (column.name.as_str(), column.array(values))).collect();
        computed.push((&self.settings.error_column, Arc::new(errors)));
        let batch = joined(schema, batch, &computed)?;
        Ok(PartitionChunk { batch, tally, last_error })
    }

    /// The values of the columns of an answer, or why there are none.
    fn typed<'a>(&self, answer: &'a Result<Answer, Arc<str>>) -> Result<Vec<Cow<'a, Json>>, Arc<str>> {
        let answer = answer.as_ref().map_err(Arc::clone)?;
        if answer.is_null() && self.settings.missing_is_error {
            return Err("missing: the service has no answer".into());
        }
        let columns = self.settings.columns.iter();
        let values = answer.json().and_then(|json| match json {
            Cow::Borrowed(json) => columns.map(|column| column.value(json)).collect(),
            // Only the values of columns stay.
            Cow::Owned(json) => columns.map(|column| Ok(Cow::Owned(column.value(&json)?.into_owned()))).collect(),
        });
        values.map_err(|why| format!("invalid_answer: {why}").into())
    }
}

fn output_schema(settings: &ApiSettings, input: &Schema, key: &PartitionKey) -> Result<SchemaRef, FunctionError> {
    let new = settings.columns.iter().map(|column| column.field());
    let new = new.chain([Field::new(&settings.error_column, DataType::Utf8, true)]);
    with_columns(new.collect(), input, key, "rename it, or the one under `columns`")
}

/// A column of the key, as one of the types that [`json_of`] reads.
fn key_column(batch: &RecordBatch, name: &str) -> Result<ArrayRef, FunctionError> {
    let column = batch.column_by_name(name).ok_or_else(|| no_column(&batch.schema(), name))?;
    let target = match column.data_type() {
        DataType::Utf8 | DataType::Boolean => return Ok(Arc::clone(column)),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => DataType::Int64,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => DataType::UInt64,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
        kind if kind.is_nested() => {
            return Err(FunctionError::Failed(format!("column `{name}` is {kind}, which cannot be a key")));
        }
        _ => DataType::Utf8,
    };
    cast(column, &target)
        .map_err(|error| FunctionError::Failed(format!("column `{name}`: {}", excerpt(&error.to_string()))))
}

/// A value of a column as JSON.
fn json_of(column: &ArrayRef, row: usize) -> Json {
    if column.is_null(row) {
        return Json::Null;
    }
    match column.data_type() {
        DataType::Boolean => Json::Bool(column.as_boolean().value(row)),
        DataType::Int64 => Json::from(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => Json::from(column.as_primitive::<UInt64Type>().value(row)),
        // A number that JSON does not have is null.
        DataType::Float64 => Json::from(column.as_primitive::<Float64Type>().value(row)),
        _ => Json::from(column.as_string::<i32>().value(row)),
    }
}
