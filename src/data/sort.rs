//! A sort for one job: streams of any size in, their rows in one total order out, in bounded memory.
//!
//! Why not the table engine's own: it takes two to four times its memory limit and an eighth of the speed for a table
//! whose first column alone almost decides the order. Here a part of the rows, small enough for the processor's caches,
//! is sorted while the next is read ([`part`]), and copied into its order at once, so that all that follows reads
//! memory from front to back. Parts that do not fit the budget go to disk ([`run`]); in the end all are merged
//! ([`merge`]).
//!
//! Order: by all columns from left to right, ascending, nulls last; texts by their bytes.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, TryStreamExt as _};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

pub use self::chunk::{Freed, SortedChunk};
use self::{
    merge::Merge,
    run::{Run, SpillFile},
};
use super::{
    DataError,
    tasks::{blocking, ended},
};

mod chunk;
mod key;
mod merge;
mod part;
mod run;

/// Rows of a part at most.
const PART_ROWS: usize = 1 << 16;
/// Bytes of a part at most, whatever the budget: one array holds two gigabytes of text.
const PART_BYTES: usize = 64 << 20;
/// Of the budget, a part is at most this share, and what stays in memory in sorted parts that: while parts are made,
/// each stream holds one that is read, one that is sorted, and its sorted copy.
const PART_SHARE: usize = 16;
const HELD_SHARE: usize = 4;
/// Chunks that the merge may be ahead of its consumer.
const AHEAD: usize = 2;
/// Sorts streams that have one schema, in about `budget` bytes, and gives chunks of `chunk_rows` rows in order.
pub fn sort(
    streams: Vec<SendableRecordBatchStream>,
    budget: usize,
    chunk_rows: usize,
    freed: Freed,
) -> impl Stream<Item = Result<SortedChunk, DataError>> + Send + 'static {
    futures::stream::once(async move {
        let runs = collect(streams, budget, &freed).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let merging = tokio::task::spawn_blocking(move || {
            let send = |chunk| sender.blocking_send(Ok(chunk)).is_ok();
            if let Err(error) = Merge::new(runs, freed).and_then(|mut merge| merge.run(chunk_rows.max(1), send)) {
                // This fails when the receiver is gone.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok::<_, DataError>(futures::stream::unfold((receiver, Some(merging)), |(mut receiver, merging)| async move {
            if let Some(chunk) = receiver.recv().await {
                return Some((chunk, (receiver, merging)));
            }
            ended(merging?.await).await;
            None
        }))
    })
    .try_flatten()
}

/// Reads all streams at once into sorted runs.
async fn collect(streams: Vec<SendableRecordBatchStream>, budget: usize, freed: &Freed) -> Result<Vec<Run>, DataError> {
    let most = budget / HELD_SHARE;
    let held = Arc::new(SortMemory { bytes: AtomicUsize::new(0), most, freed: Arc::clone(freed) });
    let part_bytes = (budget / PART_SHARE).min(PART_BYTES);
    let mut tasks: JoinSet<Result<Vec<Run>, DataError>> = JoinSet::new();
    for stream in streams {
        tasks.spawn(runs(stream, part_bytes, Arc::clone(&held)));
    }
    let mut runs = Vec::new();
    while let Some(done) = tasks.join_next().await {
        runs.extend(ended(done).await?);
    }
    blocking(move || make_room(&mut runs, most).map(|()| runs)).await
}

/// Puts runs on disk until merging all takes no more than `most` bytes: many that are there already take some, too.
/// Blocking.
fn make_room(runs: &mut [Run], most: usize) -> Result<(), DataError> {
    let disk = OnceLock::new();
    let mut taken: usize = runs.iter().map(Run::merge_bytes).sum();
    for run in runs {
        if taken <= most {
            break;
        }
        taken -= run.merge_bytes();
        run.spill(|| spill_file(&disk))?;
        taken += run.merge_bytes();
    }
    Ok(())
}

/// The sorted runs of one stream. A part is sorted while the next is read, and no more than one: reading waits.
async fn runs(
    mut stream: SendableRecordBatchStream,
    part_bytes: usize,
    held: Arc<SortMemory>,
) -> Result<Vec<Run>, DataError> {
    let mut runs = Vec::new();
    let disk = Arc::new(OnceLock::new());
    let mut sorting: Option<Sorting> = None;
    let mut open = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    loop {
        let batch = stream.try_next().await?;
        let is_last = batch.is_none();
        if let Some(batch) = batch.filter(|batch| batch.num_rows() > 0) {
            rows += batch.num_rows();
            bytes += batch.get_array_memory_size();
            open.push(batch);
        }
        if !open.is_empty() && (is_last || rows >= PART_ROWS || bytes >= part_bytes) {
            if let Some(before) = sorting.take() {
                runs.push(before.run(&held).await?);
            }
            let (part, held, disk) = (std::mem::take(&mut open), Arc::clone(&held), Arc::clone(&disk));
            let task = tokio::task::spawn_blocking(move || {
                let sorted = part::sort(&part)?;
                drop(part);
                let bytes = sorted.iter().map(RecordBatch::get_array_memory_size).sum();
                let run =
                    if held.takes(bytes) { Run::in_memory(sorted) } else { Run::spilled(sorted, spill_file(&disk)?) };
                // What sorting took beside the part.
                (held.freed)(bytes);
                run
            });
            sorting = Some(Sorting { task, part_bytes: bytes });
            (rows, bytes) = (0, 0);
        }
        if is_last {
            break;
        }
    }
    if let Some(last) = sorting {
        runs.push(last.run(&held).await?);
    }
    Ok(runs)
}

/// A part that is being sorted.
struct Sorting {
    task: JoinHandle<Result<Run, DataError>>,
    part_bytes: usize,
}

impl Sorting {
    async fn run(self, held: &SortMemory) -> Result<Run, DataError> {
        let run = ended(self.task.await).await?;
        // The allocator keeps freed memory for the thread that took it, and a thread like this one read the part.
        (held.freed)(self.part_bytes);
        Ok(run)
    }
}

/// The file of a stream, made when it is first needed. Its parts are sorted one after the other.
fn spill_file(slot: &OnceLock<SpillFile>) -> Result<&SpillFile, DataError> {
    match slot.get() {
        Some(file) => Ok(file),
        None => {
            let file = SpillFile::new()?;
            Ok(slot.get_or_init(|| file))
        }
    }
}

/// The memory for sorted parts, in bytes.
struct SortMemory {
    bytes: AtomicUsize,
    most: usize,
    freed: Freed,
}

impl SortMemory {
    /// Reserves `bytes`, if they are available.
    fn takes(&self, bytes: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.most);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

#[cfg(test)]
mod tests;
