//! The rows of a table as the work of a job for partitions: cut into parts, several computed at once, put together in order.
//!
//! Owns how large a part is. The table is read as a stream: what is held are the parts in work.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    catalog::TableProvider, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};

use super::{
    MemoryBudget, PartitionChunk, PartitionTask, Reservation,
    chunks::{ChunkReader, Limit},
    context::Context,
    error::FunctionError,
    in_order,
};
use crate::model::{Estimate, PartitionKey};

/// Parts that are computed at once, so that the last requests of one do not keep those of the next waiting.
const PARTS: usize = 4;
/// Parts of up to this many bytes are computed whatever the memory, so that requests are full.
const MIN_BYTES: usize = 4 << 20;

/// A computed part, with its memory.
type Part = (SchemaRef, Vec<PartitionChunk>, Reservation);

/// The rows of a table in its order, with what is computed for them. Nothing is computed before it is pulled, but some parts ahead.
///
/// # Errors
/// When the table cannot be read, or its first part cannot be computed.
pub async fn compute_rows(
    task: &Arc<dyn PartitionTask>,
    table: Arc<dyn TableProvider>,
    context: &Context,
) -> Result<(SchemaRef, BoxStream<'static, Result<PartitionChunk, FunctionError>>), FunctionError> {
    let rows = in_order(&context.session, table).await?;
    compute_stream(task, rows, &context.memory).await
}

async fn compute_stream(
    task: &Arc<dyn PartitionTask>,
    rows: SendableRecordBatchStream,
    budget: &MemoryBudget,
) -> Result<(SchemaRef, BoxStream<'static, Result<PartitionChunk, FunctionError>>), FunctionError> {
    let memory = budget.shared_by(PARTS);
    let empty = RecordBatch::new_empty(rows.schema());
    let parts = parts(rows, &**task, &memory);
    let work = Arc::clone(task);
    // Parts reserve their memory in the order in which they begin, and a part holds it until the rows before it were taken: the first
    // one never waits for a later one.
    let mut computed = parts
        .map(move |part| {
            let (task, memory) = (Arc::clone(&work), memory.clone());
            async move { compute(&*task, part?, &memory).await }
        })
        .buffered(PARTS)
        .boxed();
    let first = match computed.try_next().await? {
        Some(first) => first,
        None => compute(&**task, empty, budget).await?,
    };
    let schema = Arc::clone(&first.0);
    let expected = Arc::clone(&schema);
    let all = stream::once(async { Ok(first) }).chain(computed).map(move |part| {
        let (found, chunks, reservation) = part?;
        if found != expected {
            return Err(FunctionError::Failed(format!(
                "later rows have other columns than the first ones: {found}, before {expected}"
            )));
        }
        Ok(stream::unfold((chunks.into_iter(), reservation), async |(mut chunks, reservation)| {
            Some((Ok(chunks.next()?), (chunks, reservation)))
        }))
    });
    Ok((schema, all.try_flatten().boxed()))
}

/// Adds up what [`compute_rows`] would cost for these rows.
///
/// # Errors
/// When they cannot be read.
pub async fn estimate_rows(
    task: &dyn PartitionTask,
    rows: SendableRecordBatchStream,
    memory: &MemoryBudget,
    estimate: &mut Estimate,
) -> Result<(), FunctionError> {
    let memory = memory.shared_by(PARTS);
    let mut parts = parts(rows, task, &memory);
    while let Some(part) = parts.try_next().await? {
        task.estimate(stream_of(part), &memory, estimate).await?;
    }
    Ok(())
}

async fn compute(task: &dyn PartitionTask, part: RecordBatch, memory: &MemoryBudget) -> Result<Part, FunctionError> {
    let output = task.run(&PartitionKey::new([]), stream_of(part), memory).await?;
    let chunks = output.chunks.try_collect().await?;
    Ok((output.schema, chunks, output.reservation))
}

/// The rows in parts.
fn parts(
    rows: SendableRecordBatchStream,
    task: &dyn PartitionTask,
    memory: &MemoryBudget,
) -> BoxStream<'static, Result<RecordBatch, FunctionError>> {
    let half = usize::try_from(memory.share() / 2).unwrap_or(usize::MAX);
    let limit = Limit { rows: task.rows_at_once(memory).max(1), bytes: half.max(MIN_BYTES) };
    let reader = ChunkReader::new(rows, limit);
    stream::try_unfold(reader, async |mut reader| Ok(reader.next().await?.map(|part| (part, reader)))).boxed()
}

fn stream_of(part: RecordBatch) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(part.schema(), stream::iter([Ok(part)])))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    };

    use arrow::{
        array::{AsArray, Int64Array},
        datatypes::Int64Type,
    };
    use async_trait::async_trait;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::{function::PartitionOutput, model::RowTally};

    /// Gives back its rows. Every second part ends when the part after it has begun.
    #[derive(Debug, Default)]
    struct Echo {
        begun: AtomicUsize,
        ended: Mutex<Vec<usize>>,
        /// Rows that were read and not taken yet, and the most of them at once.
        held: AtomicUsize,
        most: AtomicUsize,
        fails: bool,
    }

    #[async_trait]
    impl PartitionTask for Echo {
        async fn run(
            &self,
            _: &PartitionKey,
            mut input: SendableRecordBatchStream,
            memory: &MemoryBudget,
        ) -> Result<PartitionOutput, FunctionError> {
            let schema = input.schema();
            let reservation = memory.reserve(1 << 20).await;
            let part = self.begun.fetch_add(1, Ordering::Relaxed);
            let mut chunks = Vec::new();
            while let Some(batch) = input.try_next().await? {
                let held = self.held.fetch_add(batch.num_rows(), Ordering::Relaxed) + batch.num_rows();
                self.most.fetch_max(held, Ordering::Relaxed);
                let tally = RowTally { ok: batch.num_rows() as u64, ..RowTally::default() };
                chunks.push(Ok(PartitionChunk { batch, tally, last_error: None }));
            }
            // There may be no part after it.
            for _ in 0..if part.is_multiple_of(2) { 100 } else { 0 } {
                if self.begun.load(Ordering::Relaxed) > part + 1 {
                    break;
                }
                tokio::task::yield_now().await;
            }
            if self.fails && part == 3 {
                return Err(FunctionError::Failed("the third one".to_owned()));
            }
            self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(part);
            Ok(PartitionOutput { schema, chunks: stream::iter(chunks).boxed(), reservation })
        }

        async fn estimate(
            &self,
            mut input: SendableRecordBatchStream,
            _: &MemoryBudget,
            estimate: &mut Estimate,
        ) -> Result<(), FunctionError> {
            while let Some(batch) = input.try_next().await? {
                estimate.rows += batch.num_rows() as u64;
            }
            estimate.requests += 1;
            Ok(())
        }

        fn rows_at_once(&self, _: &MemoryBudget) -> usize {
            100
        }
    }

    fn numbers(rows: usize) -> (SendableRecordBatchStream, SchemaRef) {
        let batch = move |from: usize| {
            let column = Int64Array::from_iter_values((from..(from + 250).min(rows)).map(|n| n as i64));
            RecordBatch::try_from_iter([("n", Arc::new(column) as _)]).expect("a column")
        };
        let schema = batch(rows).schema();
        let all = stream::iter((0..rows).step_by(250)).map(move |from| Ok(batch(from)));
        (Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), all)), schema)
    }

    fn table(rows: usize) -> Arc<dyn TableProvider> {
        let (stream, schema) = numbers(rows);
        let batches = futures::executor::block_on(stream.try_collect::<Vec<_>>()).expect("batches");
        Arc::new(datafusion::datasource::MemTable::try_new(schema, vec![batches]).expect("a table"))
    }

    #[tokio::test]
    async fn rows_come_in_the_order_of_the_table_and_few_are_held() {
        for rows in [0, 1, 99, 100, 101, 5000] {
            for memory in [MemoryBudget::of_limit(4 << 20), MemoryBudget::of_limit(1 << 30)] {
                let echo = Arc::new(Echo::default());
                let task: Arc<dyn PartitionTask> = echo.clone();
                let session = SessionContext::new();
                let input = in_order(&session, table(rows)).await.expect("rows");
                let (_, mut chunks) = compute_stream(&task, input, &memory).await.expect("begun");
                let mut found = Vec::new();
                while let Some(chunk) = chunks.try_next().await.expect("a chunk") {
                    echo.held.fetch_sub(chunk.batch.num_rows(), Ordering::Relaxed);
                    found.extend(chunk.batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
                }
                assert_eq!(found, (0..rows as i64).collect::<Vec<_>>());
                assert!(echo.most.load(Ordering::Relaxed) <= (PARTS + 1) * 100, "{:?}", echo.most);
                // All memory is free again.
                let all = tokio::time::timeout(std::time::Duration::from_secs(5), memory.reserve(memory.total())).await;
                assert!(all.is_ok());
            }
        }
    }

    #[tokio::test]
    async fn a_part_that_fails_ends_the_rows_after_those_before_it() {
        let task: Arc<dyn PartitionTask> = Arc::new(Echo { fails: true, ..Echo::default() });
        let (stream, _) = numbers(5000);
        let (_, chunks) = compute_stream(&task, stream, &MemoryBudget::of_limit(1 << 30)).await.expect("begun");
        let found: Vec<_> = chunks.map(|chunk| chunk.map(|chunk| chunk.batch.num_rows())).take(4).collect().await;
        assert!(matches!(found.as_slice(), [Ok(100), Ok(100), Ok(100), Err(FunctionError::Failed(_))]), "{found:?}");
    }

    #[tokio::test]
    async fn an_estimate_counts_the_parts_that_are_computed() {
        let (stream, _) = numbers(1050);
        let mut estimate = Estimate::default();
        estimate_rows(&Echo::default(), stream, &MemoryBudget::of_limit(1 << 30), &mut estimate)
            .await
            .expect("counted");
        assert_eq!((estimate.rows, estimate.requests), (1050, 11));
    }
}
