//! Executes a step over partitions: up to `max_workers` at a time, each committed as soon as it is computed.
//!
//! Partitions are pulled from the list as slots become free; nothing is loaded or spawned ahead. The failure of one
//! partition does not affect the others in flight; a failure that concerns all of them stops the run.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arrow::datatypes::SchemaRef;
use futures::{FutureExt, StreamExt, TryStreamExt, stream, stream::FuturesUnordered};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{
    assess::{PartitionWork, Todo},
    context::RunContext,
    event::{EventKind, PartitionTally},
    locked_columns,
    node_counters::counting,
    outcome::{Failure, StepEnd, StepError},
    workspace::Step,
};
use crate::{
    data::{self, OnError, Partition, PartitionReceipt, RowOutcomes, WriteOptions, Written},
    function::{FunctionError, Job, PartitionOutput, PartitionTask},
    model::{Fingerprint, PartitionKey, RowTally},
    net::work_clock,
};

/// The columns that all partitions of an input must have.
struct SchemaReference {
    first: Partition,
    columns: SchemaRef,
}

impl SchemaReference {
    /// The columns of the first partition; `None` if it cannot be read, which is reported when it is computed.
    async fn of(run: &RunContext, step: &Step, first: Partition) -> Option<Self> {
        let rows = step.partitions_input().as_partition_source()?.load_partition(&run.stores, &first).await.ok()?;
        Some(Self { first, columns: rows.schema() })
    }
}

/// The keys of an event about partitions that are up to date: lines of the ledger stay short.
const KEYS_PER_EVENT: usize = 500;

/// The keys of the partitions that are up to date, in order.
fn skipped_keys(work: &PartitionWork) -> Vec<&PartitionKey> {
    if work.done == 0 {
        return Vec::new();
    }
    let todo: HashSet<&PartitionKey> = work.todo.iter().map(|todo| &todo.partition.key).collect();
    work.keys.keys().filter(|key| !todo.contains(key)).collect()
}

/// A partition that is committed but not yet reported.
struct Committed {
    partition: String,
    rows_in: u64,
    written: Written,
    seconds: f64,
    outcomes: Rows,
}

/// What became of the rows of a partition.
#[derive(Default)]
struct Rows {
    tally: RowTally,
    /// The error of the last one that failed.
    last_error: Option<Arc<str>>,
}

/// How a partition ended.
enum End {
    Done(Rows),
    /// Another attempt of this shard has committed it.
    Found(String, PartitionReceipt),
    Failed(Failure),
    /// Not started, or cancelled by a stop request.
    NotDone,
}

/// Computes and commits the partitions of `work`, removes those that the input no longer has, and checks the error rate.
pub(super) async fn execute(
    run: &Arc<RunContext>,
    step: &Arc<Step>,
    mut work: PartitionWork,
) -> Result<StepEnd, StepError> {
    let Job::Partitions(job) = &step.job else { unreachable!("only partition jobs have partition work") };
    let begin = Instant::now();
    let node = step.name.clone();
    let total = work.done + work.todo.len();
    run.events.send(EventKind::NodeStarted {
        node: node.clone(),
        function: step.function.clone(),
        reason: work.reason.clone(),
        partitions: Some(total),
        skipped: work.done,
    });
    for keys in skipped_keys(&work).chunks(KEYS_PER_EVENT) {
        let partitions = keys.iter().map(ToString::to_string).collect();
        run.events.send(EventKind::PartitionsSkipped { node: node.clone(), partitions });
    }
    let counters = run.node(&node);
    if run.backwards {
        work.todo.reverse();
    }
    let mut options = step.write_options();
    options.max_workers = job.workers(&run.functions, options.max_workers);
    let opened = async {
        let (job, mut context) = (job.clone(), run.functions.clone());
        context.service.usage = counters.usage.clone();
        // Opening loads a model or a cache index, which must not block an async thread.
        let task = tokio::task::spawn_blocking(move || job.open(&context)).await.expect("`open` does not panic")?;
        let reference = match work.first {
            Some(first) if total > 1 => SchemaReference::of(run, step, first).await,
            _ => None,
        };
        if let Some(known) = task.known_columns().filter(|_| total > work.todo.len()) {
            let is_done = |partition: &Partition| {
                partition.receipt.is_some_and(|receipt| work.keys.get(&partition.key) == Some(&receipt.fingerprint))
            };
            locked_columns::add(run, step.output(), known, is_done).await?;
        }
        Ok::<_, StepError>((task, reference))
    };
    let (task, reference) = tokio::select! {
        biased;
        () = run.stopping() => {
            run.count_partitions(PartitionTally { skipped: work.done, ..PartitionTally::default() });
            return Ok(StepEnd::Stopped);
        }
        opened = opened => opened?,
    };
    let keep_going = run.options.keep_going || options.on_error == OnError::Continue;
    let finished = AtomicUsize::new(work.done);
    let stop = run.halt.child_token();
    let mut tally = PartitionTally { done: 0, skipped: work.done, failed: 0 };
    let mut rows = RowTally::default();
    let mut failure: Option<Failure> = None;
    let mut last_error: Option<Arc<str>> = None;
    {
        let start = |todo: Todo| {
            let (run, step, task, stop) = (run.clone(), step.clone(), task.clone(), stop.clone());
            let reference = reference.as_ref();
            let span = tracing::info_span!("partition", partition = %todo.partition.key, error = tracing::field::Empty);
            let work = async move {
                if stop.is_cancelled() || run.shutdown.drain.is_cancelled() {
                    return Err(End::NotDone);
                }
                let end = tokio::select! {
                    biased;
                    () = run.shutdown.abort.cancelled() => return Err(End::NotDone),
                    end = std::panic::AssertUnwindSafe(compute_and_commit(&run, &step, &*task, (&todo, reference), options)).catch_unwind() => end,
                };
                end.unwrap_or_else(|panic| {
                    let error = format!("a bug in flow: {}", data::panic_text(&*panic));
                    run.partition_failed(step.name.clone(), todo.partition.key.to_string(), error, 0.0);
                    Err(End::Failed(Failure::BUG))
                })
            };
            work.instrument(span)
        };
        let mut ends = stream::iter(work.todo).map(start).buffer_unordered(options.max_workers.max(1));
        // A committed partition frees its slot for the next one, and is reported once it is synced to disk.
        let mut syncing = FuturesUnordered::new();
        let mut unbatched = None;
        loop {
            let end = tokio::select! {
                biased;
                Some(end) = syncing.next() => end,
                computed = ends.next(), if unbatched.is_none() => match computed {
                    Some(Ok(committed)) => {
                        syncing.push(report_when_synced(run, step, committed, &finished, total));
                        continue;
                    }
                    Some(Err(end)) => end,
                    None => {
                        unbatched = Some(run.stores.sync_unbatched());
                        continue;
                    }
                },
                else => break,
            };
            match end {
                End::Done(of_partition) => {
                    tally.done += 1;
                    rows.add(of_partition.tally);
                    last_error = of_partition.last_error.or(last_error);
                }
                End::Found(partition, receipt) => {
                    tally.skipped += 1;
                    let partitions = vec![partition];
                    run.events.send(EventKind::PartitionsSkipped { node: node.clone(), partitions });
                    work.rows.add_receipt(&receipt);
                    finished.fetch_add(1, Ordering::Relaxed);
                }
                End::Failed(of_partition) => {
                    tally.failed += 1;
                    failure = Some(failure.map_or(of_partition, |earlier| earlier.and(of_partition)));
                    if of_partition.halts || !keep_going {
                        stop.cancel();
                    }
                    if of_partition.halts {
                        run.halt.cancel();
                    }
                }
                End::NotDone => {}
            }
        }
    }
    // Paid responses are flushed to disk before the end of the step is reported.
    let flushed = task.flush().await;
    run.count_partitions(tally);
    run.count_rows(RowTally { error: work.rows.errors(), ..Default::default() });
    flushed?;
    if let Some(failure) = failure {
        let error = match failure.halts {
            true => "stopped; the partitions that finished are kept".to_owned(),
            false => format!("{} of {total} partitions failed; {} are done", tally.failed, tally.done + tally.skipped),
        };
        run.node_failed(node, error);
        return Ok(StepEnd::Failed(failure));
    }
    if tally.done + tally.skipped < total {
        return Ok(StepEnd::Stopped);
    }
    if run.options.shard.is_none() {
        let removed = step.output().partition_sink()?.retain_partitions(&run.stores, &work.keys).await?;
        if removed > 0 {
            tracing::debug!(node, removed, "removed partitions that the input no longer has");
        }
    }
    if let Some(error) = missing_partitions(run, step, &work.keys).await? {
        run.node_failed(node, error);
        return Ok(StepEnd::Failed(Failure::OWN));
    }
    let mut judged = work.rows;
    judged.add(rows);
    if let Some(error) = judged.exceed(&node, run.scope().max_row_error_rate(&**job), last_error.as_deref()) {
        run.node_failed(node, error);
        return Ok(StepEnd::Failed(Failure::OWN));
    }
    step.job.succeeded(&run.functions);
    let rows_out = rows.ok + rows.cached + rows.empty + rows.error;
    let version = work.keys.iter().fold(Fingerprint::builder("partitions"), |version, (key, fingerprint)| {
        version.text(&key.to_string()).fingerprint(*fingerprint)
    });
    run.node_finished(node, rows_out, tally, (begin, version.finish()));
    Ok(StepEnd::Done { rows_with_errors: judged.errors(), skipped: false })
}

/// Reports partitions that another process removed, replaced or truncated during the run. The final listing decides, not what
/// was committed.
async fn missing_partitions(
    run: &RunContext,
    step: &Step,
    expected: &BTreeMap<PartitionKey, Fingerprint>,
) -> Result<Option<String>, StepError> {
    let output = step.output();
    let found = output.written_partitions()?.partitions(&run.stores).await?;
    let ours = found.iter().filter(|partition| match partition.receipt {
        Some(receipt) => expected.get(&partition.key) == Some(&receipt.fingerprint),
        None => false,
    });
    let ours: HashSet<&PartitionKey> = ours.map(|partition| &partition.key).collect();
    let mut missing: Vec<&PartitionKey> = Vec::new();
    for (key, fingerprint) in expected.iter().filter(|(key, _)| !ours.contains(key)) {
        // Where another attempt of the same shard has just committed it as well, there are two files for a moment.
        let found = match run.options.shard {
            Some(_) => output.partition_sink()?.receipts_at(&run.stores, key).await?,
            None => Vec::new(),
        };
        if found.iter().all(|receipt| receipt.fingerprint != *fingerprint) {
            missing.push(key);
        }
    }
    let Some(first) = missing.iter().min() else { return Ok(None) };
    Ok(Some(format!(
        "{} of {} partitions of `{}` were removed, replaced or truncated by another process during the run, the first `{first}`; \
         run again to compute them",
        missing.len(),
        expected.len(),
        output.info().name,
    )))
}

/// Computes and commits one partition, and reports its failure.
async fn compute_and_commit(
    run: &RunContext,
    step: &Step,
    task: &dyn PartitionTask,
    (todo, reference): (&Todo, Option<&SchemaReference>),
    options: WriteOptions,
) -> Result<Committed, End> {
    let begin = Instant::now();
    if run.options.shard.is_some()
        && let Ok(found) = step.output().partition_sink().map(|sink| sink.receipts_at(&run.stores, &todo.partition.key))
        && let Ok(found) = found.await
        && let [receipt] = found.as_slice()
        && receipt.fingerprint == todo.fingerprint
    {
        return Err(End::Found(todo.partition.key.to_string(), *receipt));
    }
    let mut outcome = write_chunks(run, step, task, (todo, reference), options).await;
    if outcome.as_ref().is_err_and(StepError::is_crash) && !run.shutdown.abort.is_cancelled() {
        outcome = write_chunks(run, step, task, (todo, reference), options).await.map_err(StepError::died_twice);
    }
    let (node, partition) = (step.name.clone(), todo.partition.key.to_string());
    let seconds = begin.elapsed().as_secs_f64();
    match outcome {
        Ok((written, outcomes, rows_in)) => Ok(Committed { partition, rows_in, written, seconds, outcomes }),
        Err(error) if error.is_interruption() => Err(End::NotDone),
        Err(error) => Err(report_failure(run, node, partition, seconds, &error)),
    }
}

fn report_failure(run: &RunContext, node: String, partition: String, attempt_seconds: f64, error: &StepError) -> End {
    run.partition_failed(node, partition, error.to_string(), attempt_seconds);
    End::Failed(error.failure())
}

/// Reports a committed partition once it is synced to disk.
async fn report_when_synced(
    run: &RunContext,
    step: &Step,
    committed: Committed,
    finished: &AtomicUsize,
    total: usize,
) -> End {
    let Committed { partition, rows_in, written: Written { rows, bytes, .. }, seconds, outcomes } = committed;
    let synced = tokio::select! {
        biased;
        () = run.shutdown.abort.cancelled() => return End::NotDone,
        synced = step.output().synced(&run.stores) => synced,
    };
    let node = step.name.clone();
    if let Err(error) = synced {
        return report_failure(run, node, partition, seconds, &error.into());
    }
    run.count_rows(outcomes.tally);
    let counters = run.node(&node);
    counters.read(rows_in);
    counters.wrote(bytes);
    let done = finished.fetch_add(1, Ordering::Relaxed) + 1;
    run.events.send(EventKind::PartitionFinished { node, partition, rows, bytes, seconds, done, total });
    End::Done(outcomes)
}

/// Loads, computes and commits one partition, chunk by chunk.
async fn write_chunks(
    run: &RunContext,
    step: &Step,
    task: &dyn PartitionTask,
    (todo, reference): (&Todo, Option<&SchemaReference>),
    options: WriteOptions,
) -> Result<(Written, Rows, u64), StepError> {
    let key = &todo.partition.key;
    let read = Arc::new(AtomicU64::new(0));
    let started = async {
        let input = step.partitions_input().partition_source()?;
        let rows = input.load_partition(&run.stores, &todo.partition).await?;
        if let Some(reference) = reference {
            let found = (&todo.partition, &*rows.schema());
            input.same_columns(&run.stores, found, (&reference.first, &reference.columns))?;
        }
        let rows = counting(rows, &read);
        Ok(task.run(key, rows, &run.functions.memory.shared_by(options.max_workers)).await?)
    };
    let PartitionOutput { schema, mut chunks, reservation: _until_committed } =
        with_timeout(options.timeout, started).await?;
    let mut part = step.output().partition_sink()?.write_partition(&run.stores, key, todo.fingerprint, schema)?;
    let mut computed = Rows::default();
    loop {
        // The timeout applies to each chunk, so that a large partition has enough time.
        let advanced = async {
            let Some(chunk) = chunks.try_next().await? else { return Ok(Err(part)) };
            Ok(Ok((part.write(chunk.batch).await?, (chunk.tally, chunk.last_error))))
        };
        match with_timeout(options.timeout, advanced).await? {
            Ok((continued, (tally, last_error))) => {
                part = continued;
                computed.tally.add(tally);
                computed.last_error = last_error.or(computed.last_error);
            }
            Err(whole) => {
                let outcomes = RowOutcomes { errors: computed.tally.error, empty: computed.tally.empty };
                let written = with_timeout(options.timeout, async { Ok(whole.commit(outcomes).await?) }).await?;
                return Ok((written, computed, read.load(Ordering::Relaxed)));
            }
        }
    }
}

async fn with_timeout<T>(limit: Duration, work: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
    work_clock::timeout(limit, work).await.unwrap_or_else(|timed_out| {
        Err(FunctionError::Failed(format!("{timed_out}; `timeout` under `save_args` sets the limit")).into())
    })
}
