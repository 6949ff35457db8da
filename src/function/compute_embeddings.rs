//! `compute_embeddings`: partitions or a table with `text_to_embed` in, the same rows with `embedding` and `embedding_error` out.
//!
//! Owns the columns of a partition, and how a large one is divided into calls, so that memory does not grow with it. The
//! vectors, the requests and the cache are the provider's.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use futures::{StreamExt as _, stream};

use super::{
    Arguments, ColumnOrigin, Columns, Context, Function, FunctionError, Job, MemoryBudget, OriginKind, PartitionChunk,
    PartitionJob, PartitionOutput, PartitionTask,
    chunks::{self, ChunkReader, Limit, begin, size},
    unkept,
};
use crate::{
    diagnostic::Diagnostics,
    embed::{self, DEFAULT_DIMENSIONS, Embedded, Provider, ProviderSpec},
    model::{Estimate, Fingerprint, PartitionKey, Port, Shape, Signature, excerpt},
};

const TEXT: &str = "text_to_embed";
const VECTOR: &str = "embedding";
const ERROR: &str = "embedding_error";
/// The most texts in one request of any known API; a chunk of a large partition is a multiple of it.
const FULL_REQUEST: usize = 2048;
/// Rows of the largest chunk: enough requests to saturate a fast API.
const MAX_ROWS: usize = 32 * FULL_REQUEST;
/// Rows of a part of a table.
const ROWS_AT_ONCE: usize = 4 * FULL_REQUEST;
/// The fraction of the memory budget that an estimate may use to recognize known texts.
const SEEN_FRACTION: u64 = 4;
/// Texts of up to this many bytes go in one call whatever the memory, so that requests are full.
const MIN_BYTES: usize = 4 << 20;

const SIGNATURE: Signature = Signature {
    inputs: &[
        Port::required("dfs", Shape::Partitions, "rows with a column `text_to_embed`").or_table(),
        Port::required("model", Shape::Value, "which provider and model, and how: see `flow ls providers`"),
    ],
    outputs: &[Port::required(
        "result",
        Shape::Partitions,
        "the same rows with `embedding` and `embedding_error`, without `text_to_embed`",
    )
    .or_table()],
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

    fn version(&self) -> u64 {
        1
    }

    fn signature(&self) -> Signature {
        SIGNATURE
    }

    fn prepare(&self, arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Job> {
        let model = arguments.parameter("model", problems)?;
        let (spec, common) = embed::decode(model, arguments.providers, problems)?;
        unkept::warn(arguments, "model", spec.cache_mode(), problems);
        let job = EmbedJob { spec, max_row_error_rate: common.max_row_error_rate };
        Some(Job::of_rows(Arc::new(job), "dfs", arguments))
    }
}

#[derive(Debug)]
struct EmbedJob {
    spec: Arc<dyn ProviderSpec>,
    max_row_error_rate: f64,
}

impl PartitionJob for EmbedJob {
    fn fingerprint(&self, context: &Context) -> Result<Fingerprint, FunctionError> {
        Ok(self.spec.identity(&context.service)?)
    }

    fn columns(&self, input: &Columns) -> Result<Option<Columns>, FunctionError> {
        if input.schema.column_with_name(TEXT).is_none() {
            return Err(no_text(&input.schema));
        }
        let columns = output_columns(&input.schema, &PartitionKey::new([]))?;
        // How many numbers a vector has may be known only once the model is there.
        let vector = Field::new_list(VECTOR, Field::new_list_field(DataType::Float32, true), true);
        Ok(Some(Columns { schema: with_results(&columns, vector), exact: false }))
    }

    fn origins(&self, port: &str, input: &Columns) -> Vec<ColumnOrigin> {
        let names = input.schema.fields().iter().map(|field| field.name().as_str()).filter(|name| *name != TEXT);
        let same = names.map(|name| ColumnOrigin::new(name, port, [name], OriginKind::Same));
        let computed = [VECTOR, ERROR].map(|name| ColumnOrigin::new(name, port, [TEXT], OriginKind::Computed));
        same.chain(computed).collect()
    }

    fn missing_secrets(&self) -> Vec<String> {
        self.spec.missing_secrets()
    }

    fn answers_folder(&self) -> Option<&Path> {
        self.spec.cache_folder()
    }

    fn max_row_error_rate(&self) -> f64 {
        self.max_row_error_rate
    }

    fn check(&self, context: &Context) -> Result<(), FunctionError> {
        Ok(self.spec.check(&context.service)?)
    }

    fn open(&self, context: &Context) -> Result<Arc<dyn PartitionTask>, FunctionError> {
        Ok(Arc::new(EmbedTask { provider: self.spec.open(&context.service)? }))
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
        memory: &MemoryBudget,
    ) -> Result<PartitionOutput, FunctionError> {
        let columns = output_columns(&input.schema(), key)?;
        let weight = |chunk: &RecordBatch| Ok(self.weight(chunk.num_rows(), size(chunk)));
        let (first, rows, reservation) = begin(input, self.limit(memory), memory, weight).await?;
        let first = self.provider.embed(&texts(&first)?).await.map(|embedded| (first, embedded))?;
        // The length of a vector is known for certain only from a response.
        let vector = Field::new(VECTOR, first.1.vectors.data_type().clone(), true);
        let schema = with_results(&columns, vector);
        let first = joined(&schema, first)?;
        let (provider, out) = (Arc::clone(&self.provider), Arc::clone(&schema));
        let others = stream::try_unfold((rows, provider, out), async |(mut rows, provider, schema)| {
            let Some(batch) = rows.next().await? else { return Ok(None) };
            let embedded = provider.embed(&texts(&batch)?).await?;
            Ok(Some((joined(&schema, (batch, embedded))?, (rows, provider, schema))))
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
            self.provider.estimate(&texts(&batch)?, estimate)?;
        }
        Ok(())
    }

    fn rows_at_once(&self, memory: &MemoryBudget) -> usize {
        self.limit(memory).rows.min(ROWS_AT_ONCE)
    }

    async fn flush(&self) -> Result<(), FunctionError> {
        Ok(self.provider.flush().await?)
    }

    async fn ping(&self) -> Result<(), FunctionError> {
        Ok(self.provider.ping().await?)
    }
}

/// Rows and what was computed for them, side by side.
fn joined(schema: &SchemaRef, (batch, embedded): (RecordBatch, Embedded)) -> Result<PartitionChunk, FunctionError> {
    let failed = (0..embedded.errors.len())
        .rev()
        .find(|row| embedded.errors.is_valid(*row) && embedded.errors.value(*row) != embed::EMPTY_TEXT);
    let last_error = failed.map(|row| embedded.errors.value(row).into());
    let computed: [(&str, ArrayRef); 2] = [(VECTOR, Arc::new(embedded.vectors)), (ERROR, Arc::new(embedded.errors))];
    Ok(PartitionChunk { batch: chunks::joined(schema, &batch, &computed)?, tally: embedded.tally, last_error })
}

impl EmbedTask {
    /// A whole partition if that fits, so that requests are as full as possible; otherwise as many rows as fill a few of
    /// the largest requests.
    fn limit(&self, memory: &MemoryBudget) -> Limit {
        let dimensions = self.provider.dimensions().unwrap_or(DEFAULT_DIMENSIONS).max(1);
        let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        let half = size(memory.share() / 2);
        // Four bytes a number, held twice while vectors are put in the order of the rows.
        let row = dimensions * 8;
        let rows = (half / row / FULL_REQUEST * FULL_REQUEST).clamp(FULL_REQUEST, MAX_ROWS);
        // Full requests, unless the whole budget is smaller than one.
        Limit { rows: rows.min(size(memory.total()) / row).max(1), bytes: half.max(MIN_BYTES) }
    }

    /// Bytes that a chunk of `rows` rows takes.
    fn weight(&self, rows: usize, bytes: usize) -> u64 {
        // The texts are held once in the batch and once in a request.
        (rows * self.provider.bytes_per_row() + 2 * bytes) as u64
    }
}

/// The input's columns without the text and the key's columns. An existing column `embedding` would be overwritten
/// silently, so it is refused.
fn output_columns(input: &Schema, key: &PartitionKey) -> Result<Schema, FunctionError> {
    for name in [VECTOR, ERROR] {
        if input.column_with_name(name).is_some() {
            return Err(FunctionError::Failed(format!(
                "the input already has a column `{name}`; rename or drop it before `compute_embeddings`"
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

fn no_text(schema: &Schema) -> FunctionError {
    let names: Vec<_> = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect();
    let names = names.join(", ");
    FunctionError::Failed(format!("the input has no column `{TEXT}`; it has {names}. `bucketize` makes one"))
}

/// The text column as `Utf8`, whatever string type the file has.
fn texts(batch: &RecordBatch) -> Result<StringArray, FunctionError> {
    let Some(column) = batch.column_by_name(TEXT) else {
        return Err(no_text(&batch.schema()));
    };
    if column.data_type() == &DataType::Utf8 {
        return Ok(column.as_string::<i32>().clone());
    }
    if !matches!(
        column.data_type(),
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) | DataType::Null
    ) {
        return Err(FunctionError::Failed(format!(
            "column `{TEXT}` is {}, expected a string type",
            column.data_type()
        )));
    }
    let column = cast(column, &DataType::Utf8)
        .map_err(|e| FunctionError::Failed(format!("column `{TEXT}`: {}", excerpt(&e.to_string()))))?;
    Ok(column.as_string::<i32>().clone())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::{
            Mutex, PoisonError,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use arrow::{
        array::{FixedSizeListArray, Int64Array},
        compute::concat_batches,
        datatypes::Float32Type,
    };
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::TryStreamExt as _;

    use super::*;
    use crate::model::{RowTally, ServiceError};

    /// Returns vectors that identify their text, and records how many texts each call had.
    #[derive(Debug, Default)]
    struct Lengths {
        calls: Mutex<Vec<usize>>,
    }

    const DIMENSIONS: usize = 512;

    #[async_trait]
    impl Provider for Lengths {
        async fn embed(&self, texts: &StringArray) -> Result<Embedded, ServiceError> {
            self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(texts.len());
            let mut seen = HashSet::new();
            let mut tally = RowTally::default();
            let vectors = texts.iter().map(|text| {
                let Some(text) = text else {
                    tally.empty += 1;
                    return None;
                };
                *if seen.insert(text) { &mut tally.ok } else { &mut tally.cached } += 1;
                Some([Some(text.parse::<f32>().unwrap_or(-1.0) + 1.0); DIMENSIONS])
            });
            let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, DIMENSIONS as i32);
            let errors = texts.iter().map(|text| text.is_none().then_some(embed::EMPTY_TEXT)).collect();
            Ok(Embedded { vectors, errors, tally })
        }

        fn dimensions(&self) -> Option<usize> {
            Some(DIMENSIONS)
        }

        fn estimate(&self, texts: &StringArray, estimate: &mut Estimate) -> Result<(), ServiceError> {
            estimate.rows += texts.len() as u64;
            estimate.requests += 1;
            Ok(())
        }
    }

    /// `count` rows in batches of 1,000, each with its number as text, and none in every seventh. Counts what was pulled.
    fn rows(count: usize, pulled: &Arc<AtomicUsize>) -> SendableRecordBatchStream {
        let batch = |numbers: std::ops::Range<usize>| {
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers.clone().map(|n| n as i64)));
            let texts: ArrayRef =
                Arc::new(StringArray::from_iter(numbers.map(|n| (n % 7 != 0).then(|| n.to_string()))));
            RecordBatch::try_from_iter_with_nullable([("id", ids, false), (TEXT, texts, true)]).expect("two columns")
        };
        let schema = batch(0..0).schema();
        let pulled = Arc::clone(pulled);
        let batches = (0..count).step_by(1000).map(move |first| {
            let last = (first + 1000).min(count);
            pulled.fetch_add(last - first, Ordering::Relaxed);
            Ok(batch(first..last))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(batches)))
    }

    fn key() -> PartitionKey {
        PartitionKey::integer("bucket", 1)
    }

    /// All rows of a partition, their tally, the texts of each call, and the most rows that were held at once.
    async fn run(count: usize, memory: u64) -> (RecordBatch, RowTally, Vec<usize>, usize) {
        let provider = Arc::new(Lengths::default());
        let task = EmbedTask { provider: provider.clone() };
        let pulled = Arc::new(AtomicUsize::new(0));
        let output = task.run(&key(), rows(count, &pulled), &MemoryBudget::of_limit(memory)).await.expect("begins");
        let PartitionOutput { schema, mut chunks, reservation: _reservation } = output;
        let (mut batches, mut tally, mut given, mut most) = (Vec::new(), RowTally::default(), 0, 0);
        while let Some(chunk) = chunks.try_next().await.expect("a chunk") {
            most = most.max(pulled.load(Ordering::Relaxed) - given);
            given += chunk.batch.num_rows();
            tally.add(chunk.tally);
            batches.push(chunk.batch);
        }
        let calls = std::mem::take(&mut *provider.calls.lock().unwrap_or_else(PoisonError::into_inner));
        (concat_batches(&schema, &batches).expect("one schema"), tally, calls, most)
    }

    #[tokio::test]
    async fn a_partition_larger_than_its_memory_is_computed_in_chunks_with_the_same_result() {
        let count = 100_500;
        let (whole, tally, calls, _) = run(count, 1 << 41).await;
        assert_eq!((whole.num_rows(), calls), (count, vec![MAX_ROWS, count - MAX_ROWS]));
        // Vectors of 512 numbers, held twice: 4 KiB a row, so that 16 MiB hold 4,096 rows.
        let (parts, tally_of_parts, calls, most) = run(count, 64 << 20).await;
        assert!(parts == whole && tally_of_parts == tally, "{tally:?}, {tally_of_parts:?}");
        assert_eq!((calls[0], calls.len()), (2 * FULL_REQUEST, count.div_ceil(2 * FULL_REQUEST)));
        // The rest of a batch waits for the next chunk.
        assert!(most < 2 * FULL_REQUEST + 1000, "{most} rows were held");
        // Requests are full even where that is more than a worker's share.
        let (parts, _, calls, _) = run(5000, 17 << 20).await;
        assert_eq!((parts.num_rows(), calls), (5000, vec![2048, 2048, 904]));
    }

    #[tokio::test]
    async fn wide_vectors_in_little_memory_go_in_partly_filled_requests() {
        // Vectors of 512 numbers, held twice: 4 KiB a row, so that half of 4 MiB holds 512 rows.
        let (parts, tally, calls, _) = run(1500, 4 << 20).await;
        assert_eq!((parts.num_rows(), calls), (1500, vec![512, 512, 476]));
        assert_eq!(parts, run(1500, 1 << 41).await.0);
        assert_eq!(tally.ok, run(1500, 1 << 41).await.1.ok);
        let (parts, _, calls, _) = run(3, 0).await;
        assert_eq!((parts.num_rows(), calls), (3, vec![1, 1, 1]));
    }

    #[tokio::test]
    async fn a_partition_waits_for_its_memory_and_holds_it_until_it_is_committed() {
        let task = EmbedTask { provider: Arc::new(Lengths::default()) };
        // Vectors of 2 KiB, and two chunks of 768 rows at once: enough for one such partition, and not for two.
        let memory = MemoryBudget::of_limit(6 << 20).shared_by(2);
        let key = key();
        let begin = |pulled| task.run(&key, rows(1500, pulled), &memory);
        let (of_first, pulled) = (Arc::default(), Arc::default());
        let mut first = begin(&of_first).await.expect("begins");
        while first.chunks.try_next().await.expect("a chunk").is_some() {}
        let mut second = Box::pin(begin(&pulled));
        assert!(futures::poll!(&mut second).is_pending(), "the first one is not committed");
        drop(first);
        let second = second.await.expect("begins");
        let all = second.chunks.map_ok(|chunk| chunk.batch.num_rows()).try_collect::<Vec<_>>().await;
        assert_eq!(all.expect("chunks"), [768, 732]);
    }

    #[tokio::test]
    async fn partitions_that_wait_for_memory_read_within_a_budget_of_their_own() {
        let task = EmbedTask { provider: Arc::new(Lengths::default()) };
        let memory = MemoryBudget::of_limit(6 << 20).shared_by(50);
        let (key, all, pulled) = (key(), memory.reserve(u64::MAX).await, Arc::default());
        let mut waiting: Vec<_> = (0..50).map(|_| Box::pin(task.run(&key, rows(1000, &pulled), &memory))).collect();
        for partition in &mut waiting {
            assert!(futures::poll!(partition).is_pending(), "there is no memory left");
        }
        // A chunk of 768 rows is about 20 KB, and 384 KiB are for such rows.
        let read = pulled.load(Ordering::Relaxed) / 1000;
        assert!((1..=25).contains(&read), "{read} of 50 partitions were read");
        drop(all);
        for partition in waiting {
            let chunks = partition.await.expect("begins").chunks;
            let rows = chunks.map_ok(|chunk| chunk.batch.num_rows()).try_fold(0, async |a, b| Ok(a + b)).await;
            assert_eq!(rows.expect("rows"), 1000);
        }
    }

    #[tokio::test]
    async fn a_small_partition_goes_in_one_call_and_an_empty_one_has_columns_too() {
        let (rows, _, calls, _) = run(5000, 128 << 20).await;
        assert_eq!((rows.num_rows(), calls), (5000, vec![5000]));
        let (rows, tally, calls, _) = run(0, 128 << 20).await;
        assert_eq!((rows.num_rows(), rows.num_columns(), tally, calls), (0, 3, RowTally::default(), vec![0]));
    }

    #[tokio::test]
    async fn an_estimate_divides_a_partition_as_a_run_does() {
        let task = EmbedTask { provider: Arc::new(Lengths::default()) };
        let mut estimate = Estimate::default();
        task.estimate(rows(100_500, &Arc::default()), &MemoryBudget::of_limit(64 << 20), &mut estimate)
            .await
            .expect("reads");
        assert_eq!((estimate.rows, estimate.requests), (100_500, 25));
    }

    #[test]
    fn long_texts_make_short_chunks() {
        let text = "x".repeat(10_000);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![text.as_str(); 100]));
        let batch = RecordBatch::try_from_iter([(TEXT, texts)]).expect("a column");
        assert!((1_000_000..1_100_000).contains(&size(&batch)));
        assert!((100_000..110_000).contains(&size(&batch.slice(20, 10))), "a slice counts its own rows");
        let input = RecordBatchStreamAdapter::new(batch.schema(), stream::iter([Ok(batch)]));
        let mut rows = ChunkReader::new(Box::pin(input), Limit { rows: 1000, bytes: 250_000 });
        let sizes = futures::executor::block_on(async {
            let mut sizes = Vec::new();
            while let Some(batch) = rows.next().await.expect("rows") {
                sizes.push(batch.num_rows());
            }
            sizes
        });
        assert_eq!(sizes, [25, 25, 25, 25]);
    }
}
