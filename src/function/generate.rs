//! `generate`: partitions or a table in, the same rows with what a language model says about each of them out.
//!
//! Owns the columns of a partition, and which prompts its rows have. How a prompt becomes a request and a response an answer is
//! in [`api`], [`format`] and [`protocol`]; when and how often requests are sent is decided by `net`.

mod answer;
mod api;
mod client;
mod counting;
mod format;
mod image;
mod prompts;
mod protocol;
mod rows;
mod settings;
mod validate;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use futures::{StreamExt as _, stream};

use self::{
    image::Image,
    prompts::{Prompt, Prompts},
    protocol::LanguageModel,
    rows::{Row, assemble},
    settings::GenerateSettings,
};
use super::{
    Arguments, Columns, Context, Function, FunctionError, Job, MemoryBudget, PartitionChunk, PartitionJob,
    PartitionOutput, PartitionTask,
    added_columns::{no_column, with_columns},
    answer_client::{AnswerClient, blocking},
    chunks::{ChunkReader, Limit, begin, size},
    row_template::{self, RowTemplate},
    strings::strings,
    unkept,
};
use crate::{
    cache::Store,
    config::Field as Key,
    diagnostic::Diagnostics,
    model::{Estimate, Fingerprint, OutputTokens, PartitionKey, Port, Shape, Signature, is_blank},
    net::{
        EndpointRegistry,
        prices::{Price, Tokens},
    },
};

/// Rows of a chunk at most: enough requests at once for any server.
const MAX_ROWS: usize = 4 << 10;
/// Rows of a part of a table.
const ROWS_AT_ONCE: usize = 1024;
/// Rows of a chunk at most if an image may be sent with each.
const MAX_ROWS_WITH_IMAGES: usize = 32;
/// Bytes of a prompt and its answer in memory, about, besides the row.
const ANSWER_BYTES: usize = 8 << 10;
/// The share of the memory budget that an estimate may use to recognize known prompts.
const SEEN_FRACTION: u64 = 4;
/// Chunks of up to this many bytes are sent at once whatever the memory.
const MIN_BYTES: usize = 4 << 20;

const SIGNATURE: Signature = Signature {
    inputs: &[
        Port::required("dfs", Shape::Partitions, "rows with the columns that `prompt` names").or_table(),
        Port::required("model", Shape::Value, "which model, and what it is asked: see docs/generate.md"),
    ],
    outputs: &[Port::required(
        "result",
        Shape::Partitions,
        "the same rows with a column for each property of `response_format`, or `output`, and `generate_error`",
    )
    .or_table()],
    more_inputs: None,
    anything: false,
};

/// See the module.
pub(super) struct Generate;

impl Function for Generate {
    fn name(&self) -> &'static str {
        "generate"
    }

    fn doc(&self) -> &'static str {
        "Asks a language model about every row, and adds typed columns of its answers"
    }

    fn version(&self) -> u64 {
        2
    }

    fn signature(&self) -> Signature {
        SIGNATURE
    }

    fn mappings(&self) -> Vec<(&'static str, &'static [Key])> {
        vec![("model", settings::FIELDS)]
    }

    fn prepare(&self, arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Job> {
        let model = arguments.parameter("model", problems)?;
        let settings = Arc::new(GenerateSettings::read(model, problems)?);
        unkept::warn(arguments, "model", settings.cache.mode, problems);
        Some(Job::of_rows(Arc::new(GenerateJob { settings }), "dfs", arguments))
    }
}

#[derive(Debug)]
struct GenerateJob {
    settings: Arc<GenerateSettings>,
}

#[async_trait]
impl PartitionJob for GenerateJob {
    fn fingerprint(&self, context: &Context) -> Result<Fingerprint, FunctionError> {
        let settings = &*self.settings;
        let url = settings.url(&context.service.environment)?;
        let mut builder = Fingerprint::builder("generate rows")
            .fingerprint(settings.identity(&url))
            .text(&settings.prompt)
            .number(settings.repeat.into())
            .text(settings.image.as_ref().map_or("", |image| &image.column))
            .text(&format!("{:?}", settings.on_invalid));
        for (name, extra) in &settings.extra {
            builder = builder.text(name).text(&format!("{extra:?}"));
        }
        Ok(builder.text(&settings.error_column).finish())
    }

    fn columns(&self, input: &Columns) -> Result<Option<Columns>, FunctionError> {
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
        if settings.missing_secrets.is_empty() {
            let url = settings.url(&context.service.environment)?;
            let key = settings.key(&url, &context.service.environment)?;
            client::headers(settings, &url, key.as_ref())?;
        }
        Store::check(&context.service.root.join(&settings.cache.path), settings.cache.mode)
            .map_err(|error| FunctionError::Refused(error.to_string()))
    }

    fn open(&self, context: &Context) -> Result<Arc<dyn PartitionTask>, FunctionError> {
        let client = client::open(&self.settings, &context.service, &EndpointRegistry::process())?;
        let (settings, root) = (Arc::clone(&self.settings), context.service.root.clone());
        Ok(Arc::new(GenerateTask { client, price: client::price(&settings), settings, root }))
    }
}

#[derive(Debug, Clone)]
struct GenerateTask {
    client: AnswerClient<LanguageModel>,
    settings: Arc<GenerateSettings>,
    price: Option<Price>,
    /// Where paths of images begin.
    root: PathBuf,
}

#[async_trait]
impl PartitionTask for GenerateTask {
    async fn run(
        &self,
        key: &PartitionKey,
        input: SendableRecordBatchStream,
        memory: &MemoryBudget,
    ) -> Result<PartitionOutput, FunctionError> {
        let schema = output_schema(&self.settings, &input.schema(), key)?;
        let weight = |chunk: &RecordBatch| {
            Ok((chunk.num_rows() * ANSWER_BYTES + 3 * size(chunk)) as u64 + self.image_bytes(chunk)?)
        };
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
            let task = self.clone();
            let (prompts, rows) = blocking(move || task.plan(&batch)).await?;
            self.add_to(estimate, &prompts, &rows)?;
        }
        Ok(())
    }

    fn rows_at_once(&self, memory: &MemoryBudget) -> usize {
        self.limit(memory).rows.min(ROWS_AT_ONCE)
    }

    async fn flush(&self) -> Result<(), FunctionError> {
        Ok(self.client.flush().await?)
    }

    async fn ping(&self) -> Result<(), FunctionError> {
        Ok(self.client.ping().await?)
    }
}

impl GenerateTask {
    fn limit(&self, memory: &MemoryBudget) -> Limit {
        let half = usize::try_from(memory.share() / 2).unwrap_or(usize::MAX);
        let most = if self.settings.image.is_some() { MAX_ROWS_WITH_IMAGES } else { MAX_ROWS };
        Limit { rows: (half / ANSWER_BYTES).clamp(1, most), bytes: half.max(MIN_BYTES) }
    }

    /// Bytes of the files of some rows, as they are and in a request.
    fn image_bytes(&self, batch: &RecordBatch) -> Result<u64, FunctionError> {
        let Some(image) = &self.settings.image else { return Ok(0) };
        let column = text_column(batch, &image.column)?;
        let names = column.as_string::<i32>();
        let size = |name: &str| std::fs::metadata(self.root.join(name)).map_or(0, |file| file.len());
        Ok(names.iter().flatten().map(|name| size(name) * 3).sum())
    }

    /// Finds the distinct prompts of some rows.
    fn plan(&self, batch: &RecordBatch) -> Result<(Prompts, Vec<Row>), FunctionError> {
        let settings = &*self.settings;
        let template =
            RowTemplate::new("prompt", &settings.prompt, batch.schema_ref()).map_err(FunctionError::Failed)?;
        let mut texts = Vec::with_capacity(batch.num_rows());
        template.render(batch, |text| texts.push(text))?;
        let images = settings.image.as_ref().map(|image| text_column(batch, &image.column)).transpose()?;
        let images = images.as_ref().map(|column| column.as_string::<i32>());
        let (mut prompts, mut rows) = (Prompts::default(), Vec::with_capacity(batch.num_rows()));
        let mut known: HashMap<String, u32> = HashMap::new();
        for (row, text) in texts.into_iter().enumerate() {
            if is_blank(&text) {
                rows.push(Row::Empty("empty_prompt"));
                continue;
            }
            let image = match images {
                None => None,
                Some(names) if names.is_null(row) || is_blank(names.value(row)) => {
                    rows.push(Row::Empty("empty_image"));
                    continue;
                }
                Some(names) => match Image::load(names.value(row), &self.root) {
                    Ok(image) => Some(image),
                    Err(why) => {
                        rows.push(Row::Failed(why.into()));
                        continue;
                    }
                },
            };
            let mut prompt = Prompt { text, image, repetition: 0 };
            let next = u32::try_from(prompts.count()).unwrap_or(u32::MAX);
            let first = *known.entry(prompt.identity()).or_insert(next);
            if first == next {
                for repetition in 0..settings.repeat {
                    prompt.repetition = repetition;
                    let digest = self.client.digest(&prompt.identity());
                    prompts.push(prompt.clone(), digest);
                }
            }
            rows.push(Row::Asked(first));
        }
        Ok((prompts, rows))
    }

    /// Some rows and the columns of their answers.
    async fn compute(&self, schema: &SchemaRef, batch: RecordBatch) -> Result<PartitionChunk, FunctionError> {
        let task = self.clone();
        let (batch, prompts, rows) = blocking(move || {
            let (prompts, rows) = task.plan(&batch)?;
            Ok::<_, FunctionError>((batch, prompts, rows))
        })
        .await?;
        let answers = self.client.ask(prompts).await?;
        let (settings, schema) = (Arc::clone(&self.settings), Arc::clone(schema));
        blocking(move || assemble(&settings, &schema, &batch, &rows, &answers)).await
    }

    /// Adds what some rows would cost.
    fn add_to(&self, estimate: &mut Estimate, prompts: &Prompts, rows: &[Row]) -> Result<(), FunctionError> {
        let mut counts = vec![0; prompts.count()];
        for row in rows {
            if let Row::Asked(first) = row {
                counts[*first as usize] += 1;
            }
        }
        estimate.rows += rows.len() as u64;
        let before = estimate.requests;
        let sent = self.client.estimate(prompts, &counts, estimate)?;
        let counting = self.client.core.protocol.counting();
        let input = sent.units.iter().map(|unit| counting.count(prompts.at(*unit))).sum();
        let (input, requests) = (sent.scaled(input), estimate.requests - before);
        let most = self.settings.max_tokens.map(|most| most.saturating_mul(requests));
        estimate.tokens += input;
        let output = estimate.output_tokens.get_or_insert(OutputTokens { least: 0, most: Some(0) });
        output.least += requests;
        output.most = output.most.zip(most).map(|(sum, most)| sum.saturating_add(most));
        if let Some(price) = self.price {
            let cost = |output| price.nano_usd_of(requests, Tokens { input, output });
            *estimate.cost_nano_usd.get_or_insert(0) += cost(requests);
            if let Some(most) = most {
                *estimate.most_nano_usd.get_or_insert(0) += cost(most);
            }
        }
        Ok(())
    }
}

/// The input's columns without those of the partition's key, and the new ones. The columns that the prompt names have to be
/// there.
fn output_schema(settings: &GenerateSettings, input: &Schema, key: &PartitionKey) -> Result<SchemaRef, FunctionError> {
    let named = settings.image.iter().map(|image| image.column.clone());
    if let Some(missing) = row_template::variables(&settings.prompt)
        .into_iter()
        .chain(named)
        .find(|name| input.column_with_name(name).is_none())
    {
        return Err(no_column(input, &missing));
    }
    let new = settings.columns().into_iter().map(|(name, kind)| Field::new(name, kind.data_type(), true));
    let new = new.chain([Field::new(&settings.error_column, DataType::Utf8, true)]);
    with_columns(new.collect(), input, key, "rename it, or the property of `response_format`")
}

/// A column as strings.
fn text_column(batch: &RecordBatch, name: &str) -> Result<arrow::array::ArrayRef, FunctionError> {
    let column = batch.column_by_name(name).ok_or_else(|| no_column(&batch.schema(), name))?;
    Ok(strings(name, column)?)
}
