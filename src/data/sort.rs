//! A sort for one job: streams of any size in, their rows in one total order out, in bounded memory.
//!
//! Why not the table engine's own: it takes two to four times its memory limit and an eighth of the speed for a table
//! whose first column alone almost decides the order. Here rows are never copied to be sorted: an entry of 24 bytes
//! a row, with sixteen bytes of the first column, is; where those are equal the next sixteen bytes decide, and only
//! for rows with equal first columns the others. What does not fit the budget is spilled as sorted runs.
//!
//! Order: by all columns from left to right, ascending, nulls last; texts by their bytes.

use std::{
    cmp::Ordering,
    fs::File,
    io::{BufReader, BufWriter, Seek as _},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering as Atomic},
    },
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions},
    compute::{SortOptions, concat_batches, interleave},
    datatypes::{DataType, SchemaRef},
    error::ArrowError,
    ipc::{
        CompressionType,
        reader::StreamReader,
        writer::{IpcWriteOptions, StreamWriter},
    },
    row::{RowConverter, Rows, SortField},
};
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, TryStreamExt as _};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

use super::{DataError, storage::blocking};

/// Bytes of the first column in an entry.
const PREFIX: usize = 16;
/// Rows that are sorted in one go, while more are read.
const PART_ROWS: usize = 1 << 17;
/// The same in bytes: one array holds two gigabytes of text at most.
const PART_BYTES: usize = 64 << 20;
/// Rows in a batch of a spilled run; one batch of each run is in memory while runs are merged.
const SPILL_ROWS: usize = 4096;
/// Runs that are merged at once.
const FAN_IN: usize = 128;
/// Chunks that the merge may be ahead of its consumer.
const AHEAD: usize = 2;
const NULLS_LAST: SortOptions = SortOptions { descending: false, nulls_first: false };

/// Rows in their final order, not yet copied out of where they lie.
#[derive(Debug)]
pub struct Chunk {
    /// The number of the first row, from 0, in the order of the whole.
    pub first_row: u64,
    batches: Vec<RecordBatch>,
    rows: Vec<(usize, usize)>,
}

impl Chunk {
    /// Copies the rows together. Blocking, and the dear part: chunks can be gathered in parallel.
    ///
    /// # Errors
    /// When the columns do not fit `schema`, or hold more than one array can.
    pub fn gather(&self, schema: &SchemaRef) -> Result<RecordBatch, DataError> {
        gather(schema, &self.batches.iter().collect::<Vec<_>>(), &self.rows).map_err(failed)
    }
}

/// Sorts streams that have one schema, in about `budget` bytes, and gives chunks of `chunk_rows` rows in order.
pub fn sort(
    streams: Vec<SendableRecordBatchStream>,
    budget: usize,
    chunk_rows: usize,
) -> impl Stream<Item = Result<Chunk, DataError>> + Send + 'static {
    futures::stream::once(async move {
        let runs = collect(streams, budget).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let merging = tokio::task::spawn_blocking(move || {
            let send = |chunk| sender.blocking_send(Ok(chunk)).is_ok();
            if let Err(error) = Merge::new(runs).and_then(|mut merge| merge.run(chunk_rows.max(1), send)) {
                // Nobody listens any more when this fails.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok::<_, DataError>(futures::stream::unfold((receiver, Some(merging)), |(mut receiver, merging)| async move {
            if let Some(chunk) = receiver.recv().await {
                return Some((chunk, (receiver, merging)));
            }
            if let Err(error) = merging?.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
            None
        }))
    })
    .try_flatten()
}

fn failed(error: ArrowError) -> DataError {
    DataError::Rows(error.into())
}

fn spill_failed(error: std::io::Error) -> DataError {
    DataError::io(std::env::temp_dir(), error)
}

/// Reads all streams at once. Rows are sorted in parts while more are read; parts beyond the budget go to disk.
async fn collect(streams: Vec<SendableRecordBatchStream>, budget: usize) -> Result<Vec<Run>, DataError> {
    let held = Arc::new(AtomicUsize::new(0));
    // A stream that holds little need not spill for another that holds much.
    let least = budget / (2 * streams.len().max(1));
    let mut tasks: JoinSet<Result<Vec<Run>, DataError>> = JoinSet::new();
    for mut stream in streams {
        let held = Arc::clone(&held);
        tasks.spawn(async move {
            let mut runs = Vec::new();
            let mut parts = Parts::default();
            while let Some(batch) = stream.try_next().await? {
                if batch.num_rows() == 0 {
                    continue;
                }
                let size = batch.get_array_memory_size() + batch.num_rows() * size_of::<Entry>();
                parts.add(batch, size);
                if held.fetch_add(size, Atomic::Relaxed) + size > budget && parts.bytes > least {
                    held.fetch_sub(parts.bytes, Atomic::Relaxed);
                    let full = parts.take().await?;
                    runs.push(blocking(move || spill(full)).await?);
                }
            }
            runs.extend(parts.take().await?);
            Ok(runs)
        });
    }
    let mut runs = Vec::new();
    while let Some(done) = tasks.join_next().await {
        runs.extend(joined(done).await?);
    }
    Ok(runs)
}

async fn joined<T>(done: Result<Result<T, DataError>, tokio::task::JoinError>) -> Result<T, DataError> {
    match done {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is shutting down cancels blocking work, and then nobody waits here.
            Err(_) => futures::future::pending().await,
        },
    }
}

/// What one stream holds in memory: parts that are sorted or being sorted, and rows that are not yet a part.
#[derive(Default)]
struct Parts {
    batches: Vec<RecordBatch>,
    rows: usize,
    /// Of the rows that are not yet a part.
    open_bytes: usize,
    /// Of all.
    bytes: usize,
    sorting: Vec<JoinHandle<Result<Sorted, DataError>>>,
}

impl Parts {
    fn add(&mut self, batch: RecordBatch, size: usize) {
        self.rows += batch.num_rows();
        self.bytes += size;
        self.open_bytes += size;
        self.batches.push(batch);
        if self.rows >= PART_ROWS || self.open_bytes >= PART_BYTES {
            self.sort();
        }
    }

    fn sort(&mut self) {
        (self.rows, self.open_bytes) = (0, 0);
        let batches = std::mem::take(&mut self.batches);
        if !batches.is_empty() {
            self.sorting.push(tokio::task::spawn_blocking(move || Sorted::new(batches)));
        }
    }

    /// All that is held, sorted.
    async fn take(&mut self) -> Result<Vec<Run>, DataError> {
        self.sort();
        self.bytes = 0;
        let mut runs = Vec::with_capacity(self.sorting.len());
        for part in self.sorting.drain(..) {
            runs.push(Run::Memory(joined(part.await).await?));
        }
        Ok(runs)
    }
}

/// Merges runs to one on disk. Blocking.
fn spill(runs: Vec<Run>) -> Result<Run, DataError> {
    let schema = Arc::clone(runs.first().map(Run::schema).expect("only what holds rows is spilled"));
    let mut spill = Spill::new(&schema)?;
    let mut result = Ok(());
    Merge::new(runs)?.run(SPILL_ROWS, |chunk| {
        result = chunk.gather(&schema).and_then(|batch| spill.write(&batch));
        result.is_ok()
    })?;
    result?;
    spill.finish()
}

fn gather(schema: &SchemaRef, batches: &[&RecordBatch], rows: &[(usize, usize)]) -> Result<RecordBatch, ArrowError> {
    let column = |i: usize| {
        let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(i).as_ref()).collect();
        interleave(&arrays, rows)
    };
    let columns = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// The first column as bytes that sort like its values.
enum Keys {
    Text(arrow::array::StringArray),
    Encoded(Rows, ArrayRef),
}

impl Keys {
    fn of(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let column = batch.column(0);
        if *column.data_type() == DataType::Utf8 {
            return Ok(Self::Text(column.as_string::<i32>().clone()));
        }
        let converter = RowConverter::new(vec![SortField::new_with_options(column.data_type().clone(), NULLS_LAST)])?;
        Ok(Self::Encoded(converter.convert_columns(&[Arc::clone(column)])?, Arc::clone(column)))
    }

    /// `None` for null.
    fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Text(texts) => texts.is_valid(row).then(|| texts.value(row).as_bytes()),
            Self::Encoded(rows, column) => column.is_valid(row).then(|| rows.row(row).data()),
        }
    }
}

/// A row, and sixteen bytes of its key.
#[derive(Clone, Copy)]
struct Entry {
    high: u64,
    low: u64,
    batch: u32,
    row: u32,
}

impl Entry {
    fn load(&mut self, key: &[u8], depth: usize) {
        let mut bytes = [0; PREFIX];
        let rest = key.get(depth..).unwrap_or_default();
        let length = rest.len().min(PREFIX);
        bytes[..length].copy_from_slice(&rest[..length]);
        let number = u128::from_be_bytes(bytes);
        self.high = (number >> 64) as u64;
        self.low = number as u64;
    }

    fn prefix(&self) -> (u64, u64) {
        (self.high, self.low)
    }
}

/// Batches in memory and the order of their rows.
struct Sorted {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    keys: Vec<Keys>,
    entries: Vec<Entry>,
}

impl Sorted {
    fn new(batches: Vec<RecordBatch>) -> Result<Self, DataError> {
        let schema = batches[0].schema();
        // Readers give buffers with room to grow; put together they take what they need and no more.
        let batches = vec![concat_batches(&schema, &batches).map_err(failed)?];
        let keys = batches.iter().map(Keys::of).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let mut entries = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
        let mut nulls = Vec::new();
        for (batch, (rows, keys)) in batches.iter().zip(&keys).enumerate() {
            let batch = u32::try_from(batch).expect("a run has fewer than four billion batches");
            for row in 0..rows.num_rows() {
                let mut entry = Entry { high: 0, low: 0, batch, row: u32::try_from(row).expect("a batch is small") };
                match keys.get(row) {
                    Some(key) => {
                        entry.load(key, 0);
                        entries.push(entry);
                    }
                    None => nulls.push(entry),
                }
            }
        }
        let mut sorted = Self { schema, batches, keys, entries: Vec::new() };
        sorted.order(&mut entries)?;
        sorted.break_ties(&mut nulls)?;
        entries.append(&mut nulls);
        sorted.entries = entries;
        Ok(sorted)
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        self.keys[entry.batch as usize].get(entry.row as usize).unwrap_or_default()
    }

    /// Orders entries whose prefixes were loaded from the start of their keys.
    fn order(&self, entries: &mut [Entry]) -> Result<(), DataError> {
        // Parts with equal keys so far, and how far that is. A list and no recursion: keys may be long.
        let mut open = vec![(0..entries.len(), 0)];
        while let Some((part, depth)) = open.pop() {
            let first = part.start;
            let part = &mut entries[part];
            if depth > 0 {
                for entry in part.iter_mut() {
                    let key = self.key(entry);
                    entry.load(key, depth);
                }
            }
            let depth = depth + PREFIX;
            part.sort_unstable_by_key(Entry::prefix);
            let mut start = 0;
            for equal in part.chunk_by_mut(|a, b| a.prefix() == b.prefix()) {
                let place = first + start;
                start += equal.len();
                if equal.len() < 2 {
                    continue;
                }
                // Zeros behind a short key look like a key that ends in zeros: the shorter comes first.
                let length = |entry: &Entry| self.key(entry).len().min(depth);
                equal.sort_unstable_by_key(length);
                let mut start = place;
                for equal in equal.chunk_by_mut(|a, b| length(a) == length(b)) {
                    let place = start;
                    start += equal.len();
                    // Keys that end here are equal; longer ones are as far as was looked.
                    if equal.iter().any(|entry| self.key(entry).len() > depth) {
                        open.push((place..start, depth));
                    } else {
                        self.break_ties(equal)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Orders rows with equal keys by their other columns.
    fn break_ties(&self, entries: &mut [Entry]) -> Result<(), DataError> {
        if entries.len() < 2 {
            return Ok(());
        }
        let Some(converter) = rest_converter(&self.schema).map_err(failed)? else { return Ok(()) };
        let rows: Vec<(usize, usize)> =
            entries.iter().map(|entry| (entry.batch as usize, entry.row as usize)).collect();
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let together = gather(&self.schema, &batches, &rows).map_err(failed)?;
        let rows = converter.convert_columns(&together.columns()[1..]).map_err(failed)?;
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_unstable_by(|a, b| rows.row(*a).cmp(&rows.row(*b)));
        let before = entries.to_vec();
        for (entry, from) in entries.iter_mut().zip(order) {
            *entry = before[from];
        }
        Ok(())
    }
}

/// Compares rows by all columns but the first; `None` when there are no others.
fn rest_converter(schema: &SchemaRef) -> Result<Option<RowConverter>, ArrowError> {
    let fields = schema.fields().iter().skip(1);
    let fields: Vec<SortField> =
        fields.map(|field| SortField::new_with_options(field.data_type().clone(), NULLS_LAST)).collect();
    if fields.is_empty() { Ok(None) } else { RowConverter::new(fields).map(Some) }
}

/// A sorted part of the whole.
enum Run {
    Memory(Sorted),
    Spilled(Spilled),
}

/// A run on disk.
struct Spilled {
    schema: SchemaRef,
    file: File,
    /// The last key that is not null.
    last: Option<Vec<u8>>,
}

impl Run {
    fn schema(&self) -> &SchemaRef {
        match self {
            Self::Memory(sorted) => &sorted.schema,
            Self::Spilled(spilled) => &spilled.schema,
        }
    }
}

/// A run that is being written, to a file without a name, so that a dead process leaves nothing.
struct Spill {
    schema: SchemaRef,
    writer: StreamWriter<BufWriter<File>>,
    last: Option<Vec<u8>>,
}

impl Spill {
    fn new(schema: &SchemaRef) -> Result<Self, DataError> {
        let file = BufWriter::with_capacity(1 << 18, tempfile::tempfile().map_err(spill_failed)?);
        let options =
            IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).map_err(failed)?;
        let writer = StreamWriter::try_new_with_options(file, schema, options).map_err(failed)?;
        Ok(Self { schema: Arc::clone(schema), writer, last: None })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        let keys = Keys::of(batch).map_err(failed)?;
        if let Some(last) = (0..batch.num_rows()).rev().find_map(|row| keys.get(row)) {
            self.last = Some(last.to_vec());
        }
        self.writer.write(batch).map_err(failed)
    }

    fn finish(mut self) -> Result<Run, DataError> {
        self.writer.finish().map_err(failed)?;
        let buffer = self.writer.into_inner().map_err(failed)?;
        let mut file = buffer.into_inner().map_err(|error| spill_failed(error.into_error()))?;
        file.rewind().map_err(spill_failed)?;
        Ok(Run::Spilled(Spilled { schema: self.schema, file, last: self.last }))
    }
}

/// The place in a run that the merge has come to.
struct Cursor {
    source: Source,
    /// The batch of the current row; counts up over a spilled run.
    batch: usize,
    row: usize,
    /// Sixteen bytes of the current key, from where keys begin to differ; most often they decide.
    prefix: (u64, u64),
    /// Other columns as comparable bytes, made for a batch when first needed.
    rest: Vec<OnceLock<Rows>>,
    /// Where batches are in the chunk that is being filled, with that chunk's number.
    slots: Vec<(u64, usize)>,
}

enum Source {
    Memory { sorted: Sorted, next: usize },
    Spilled { reader: Box<StreamReader<BufReader<File>>>, loaded: RecordBatch, keys: Keys, last: Option<Vec<u8>> },
}

impl Cursor {
    /// `None` for a run without rows.
    fn new(run: Run) -> Result<Option<Self>, DataError> {
        match run {
            Run::Memory(sorted) => {
                let Some(first) = sorted.entries.first().copied() else { return Ok(None) };
                let count = sorted.batches.len();
                let source = Source::Memory { sorted, next: 1 };
                Ok(Some(Self::start(source, first.batch as usize, first.row as usize, count)))
            }
            Run::Spilled(Spilled { file, last, .. }) => {
                let reader = BufReader::with_capacity(1 << 17, file);
                let mut reader = Box::new(StreamReader::try_new(reader, None).map_err(failed)?);
                let Some(loaded) = reader.next().transpose().map_err(failed)? else { return Ok(None) };
                let keys = Keys::of(&loaded).map_err(failed)?;
                Ok(Some(Self::start(Source::Spilled { reader, loaded, keys, last }, 0, 0, 1)))
            }
        }
    }

    fn start(source: Source, batch: usize, row: usize, count: usize) -> Self {
        let rest = (0..count).map(|_| OnceLock::new()).collect();
        Self { source, batch, row, prefix: (0, 0), rest, slots: vec![(u64::MAX, 0); count] }
    }

    /// Where the state of the current batch is kept: a spilled run has one batch at a time.
    fn index(&self) -> usize {
        match self.source {
            Source::Memory { .. } => self.batch,
            Source::Spilled { .. } => 0,
        }
    }

    fn current(&self) -> &RecordBatch {
        match &self.source {
            Source::Memory { sorted, .. } => &sorted.batches[self.batch],
            Source::Spilled { loaded, .. } => loaded,
        }
    }

    fn key(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Memory { sorted, .. } => sorted.keys[self.batch].get(self.row),
            Source::Spilled { keys, .. } => keys.get(self.row),
        }
    }

    /// The first and, where it is known, the last key.
    fn ends(&self) -> [Option<&[u8]>; 2] {
        match &self.source {
            Source::Memory { sorted, .. } => {
                let last = sorted.entries.iter().rev().find_map(|e| sorted.keys[e.batch as usize].get(e.row as usize));
                [self.key(), last]
            }
            Source::Spilled { last, .. } => [self.key(), last.as_deref()],
        }
    }

    fn load_prefix(&mut self, common: usize) {
        let mut entry = Entry { high: u64::MAX, low: u64::MAX, batch: 0, row: 0 };
        if let Some(key) = self.key() {
            entry.load(key, common);
        }
        self.prefix = entry.prefix();
    }

    /// Goes to the next row. False at the end.
    fn advance(&mut self) -> Result<bool, DataError> {
        match &mut self.source {
            Source::Memory { sorted, next } => {
                let Some(entry) = sorted.entries.get(*next) else { return Ok(false) };
                *next += 1;
                (self.batch, self.row) = (entry.batch as usize, entry.row as usize);
                Ok(true)
            }
            Source::Spilled { reader, loaded, keys, .. } => {
                self.row += 1;
                if self.row < loaded.num_rows() {
                    return Ok(true);
                }
                let Some(batch) = reader.next().transpose().map_err(failed)? else { return Ok(false) };
                *keys = Keys::of(&batch).map_err(failed)?;
                *loaded = batch;
                self.row = 0;
                self.rest[0] = OnceLock::new();
                self.slots[0] = (u64::MAX, 0);
                Ok(true)
            }
        }
    }
}

/// How many bytes the keys of all runs begin with. In a sorted run the first and the last key tell.
fn common_prefix(cursors: &[Cursor]) -> usize {
    let mut keys = cursors.iter().flat_map(Cursor::ends).flatten();
    let Some(first) = keys.next() else { return 0 };
    keys.fold(first.len(), |common, key| first.iter().zip(key).take(common).take_while(|(a, b)| a == b).count())
}

/// Merges sorted runs.
struct Merge {
    cursors: Vec<Cursor>,
    /// Cursors with rows left, as a heap: the least on top.
    heap: Vec<usize>,
    converter: Option<RowConverter>,
    /// Bytes that all keys begin with.
    common: usize,
}

impl Merge {
    fn new(mut runs: Vec<Run>) -> Result<Self, DataError> {
        while runs.len() > FAN_IN {
            // So many runs would need a batch of each in memory: some become one.
            let some = runs.drain(..FAN_IN / 2).collect();
            runs.push(spill(some)?);
        }
        let schema = runs.first().map(Run::schema).cloned();
        let converter = schema.as_ref().map(rest_converter).transpose().map_err(failed)?.flatten();
        let cursors = runs.into_iter().map(Cursor::new).filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
        let common = common_prefix(&cursors);
        let mut merge = Self { heap: (0..cursors.len()).collect(), cursors, converter, common };
        merge.cursors.iter_mut().for_each(|cursor| cursor.load_prefix(common));
        for i in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(i)?;
        }
        Ok(merge)
    }

    /// Gives all rows in order, `size` at a time, until `send` says that nobody wants them.
    fn run(&mut self, size: usize, mut send: impl FnMut(Chunk) -> bool) -> Result<(), DataError> {
        let mut first_row = 0;
        let mut number = 0;
        while !self.heap.is_empty() {
            let mut chunk = Chunk { first_row, batches: Vec::new(), rows: Vec::with_capacity(size) };
            while chunk.rows.len() < size
                && let Some(&top) = self.heap.first()
            {
                let cursor = &mut self.cursors[top];
                let index = cursor.index();
                if cursor.slots[index].0 != number {
                    cursor.slots[index] = (number, chunk.batches.len());
                    chunk.batches.push(cursor.current().clone());
                }
                chunk.rows.push((cursor.slots[index].1, cursor.row));
                if cursor.advance()? {
                    cursor.load_prefix(self.common);
                } else {
                    self.heap.swap_remove(0);
                }
                self.sift_down(0)?;
            }
            first_row += chunk.rows.len() as u64;
            number += 1;
            if !send(chunk) {
                break;
            }
        }
        Ok(())
    }

    fn sift_down(&mut self, mut at: usize) -> Result<(), DataError> {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.compare(self.heap[child], self.heap[least])?.is_lt() {
                    least = child;
                }
            }
            if least == at {
                return Ok(());
            }
            self.heap.swap(at, least);
            at = least;
        }
    }

    fn compare(&self, a: usize, b: usize) -> Result<Ordering, DataError> {
        let (a, b) = (&self.cursors[a], &self.cursors[b]);
        if a.prefix != b.prefix {
            return Ok(a.prefix.cmp(&b.prefix));
        }
        let by_key = match (a.key(), b.key()) {
            (Some(a), Some(b)) => a.cmp(b),
            // Nulls last.
            (a, b) => a.is_none().cmp(&b.is_none()),
        };
        match (&self.converter, by_key) {
            (Some(converter), Ordering::Equal) => {
                Ok(Self::rest(converter, a)?.row(a.row).cmp(&Self::rest(converter, b)?.row(b.row)))
            }
            (_, order) => Ok(order),
        }
    }

    fn rest<'a>(converter: &RowConverter, cursor: &'a Cursor) -> Result<&'a Rows, DataError> {
        let cell = &cursor.rest[cursor.index()];
        if let Some(rows) = cell.get() {
            return Ok(rows);
        }
        let rows = converter.convert_columns(&cursor.current().columns()[1..]).map_err(failed)?;
        Ok(cell.get_or_init(|| rows))
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Int64Array, StringArray},
        compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch},
    };
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use proptest::prelude::*;

    use super::*;

    fn batch(keys: ArrayRef, rest: &[Option<i64>]) -> RecordBatch {
        let rest: ArrayRef = Arc::new(Int64Array::from(rest.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("key", keys, true), ("rest", rest, true)]).expect("two columns")
    }

    fn sorted(parts: &[Vec<RecordBatch>], schema: &SchemaRef, budget: usize, size: usize) -> RecordBatch {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let chunks: Vec<Chunk> = runtime.block_on(async {
            let streams = parts.iter().map(|part| {
                let part: Vec<_> = part.iter().cloned().map(Ok).collect();
                Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), futures::stream::iter(part)))
                    as SendableRecordBatchStream
            });
            sort(streams.collect(), budget, size).try_collect().await.expect("sorts")
        });
        let mut next = 0;
        let batches: Vec<RecordBatch> = chunks
            .iter()
            .map(|chunk| {
                assert_eq!(chunk.first_row, next);
                let batch = chunk.gather(schema).expect("gathers");
                next += batch.num_rows() as u64;
                batch
            })
            .collect();
        assert!(batches.iter().rev().skip(1).all(|batch| batch.num_rows() == size), "all full but the last");
        concat_batches(schema, &batches).expect("one schema")
    }

    fn expected(all: &RecordBatch) -> RecordBatch {
        let columns: Vec<SortColumn> =
            all.columns().iter().map(|c| SortColumn { values: Arc::clone(c), options: Some(NULLS_LAST) }).collect();
        let order = lexsort_to_indices(&columns, None).expect("sortable");
        take_record_batch(all, &order).expect("in range")
    }

    fn check(all: &RecordBatch, cuts: &[usize], budget: usize, size: usize) {
        let mut parts = vec![Vec::new(), Vec::new(), Vec::new()];
        let mut start = 0;
        for (i, cut) in cuts.iter().copied().chain([all.num_rows()]).enumerate() {
            let end = cut.clamp(start, all.num_rows());
            parts[i % 3].push(all.slice(start, end - start));
            start = end;
        }
        assert_eq!(sorted(&parts, &all.schema(), budget, size), expected(all));
    }

    fn key() -> impl Strategy<Value = Option<String>> {
        proptest::option::weighted(
            0.9,
            prop_oneof![
                "[ab]{0,3}",
                "(CHEBI|MONDO):[0-9]{1,3}",
                "a{14,18}b{0,2}",
                "[a\u{0}]{0,20}",
                "x{30,34}[yz]?",
                "\\PC{0,6}",
            ],
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        #[test]
        fn rows_come_in_the_order_of_all_columns(
            rows in proptest::collection::vec((key(), proptest::option::of(-2..3_i64)), 0..120),
            mut cuts in proptest::collection::vec(0..120_usize, 0..9),
            budget in prop_oneof![Just(0_usize), Just(1500), Just(1 << 30)],
            size in 1..40_usize,
        ) {
            cuts.sort_unstable();
            let rest: Vec<_> = rows.iter().map(|row| row.1).collect();
            let texts: ArrayRef = Arc::new(rows.iter().map(|row| row.0.as_deref()).collect::<StringArray>());
            check(&batch(texts, &rest), &cuts, budget, size);
            let numbers: ArrayRef = Arc::new(rows.iter().map(|row| row.0.as_ref().map(|k| k.len() as i64 - 5)).collect::<Int64Array>());
            check(&batch(numbers, &rest), &cuts, budget, size);
        }
    }

    #[test]
    fn more_runs_than_are_merged_at_once_are_sorted_too() {
        let keys: ArrayRef = Arc::new((0..600).map(|i| Some(format!("{:03}", i * 7 % 600))).collect::<StringArray>());
        let rest: Vec<Option<i64>> = (0..600).map(|i| Some(i % 5)).collect();
        let all = batch(keys, &rest);
        let cuts: Vec<usize> = (1..600).collect();
        check(&all, &cuts, 0, 64);
    }

    #[test]
    fn one_column_is_enough() {
        let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b")]));
        let all = RecordBatch::try_from_iter_with_nullable([("key", keys, true)]).expect("one column");
        check(&all, &[1, 2], 0, 2);
    }
}
