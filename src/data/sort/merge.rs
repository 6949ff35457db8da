//! Merges runs: the rows of all of them in one order, as references that others copy together.

use std::{cell::OnceCell, cmp::Ordering, sync::Arc};

use arrow::{
    array::RecordBatch,
    row::{RowConverter, Rows},
};

use super::{
    chunk::{Freed, SortedChunk},
    key::{Keys, prefix, rest_converter},
    run::{BATCH_ROWS, Run, Spill, SpillFile},
};
use crate::data::DataError;

/// Runs that are merged at once.
const FAN_IN: usize = 512;

/// See the module. Blocking in all it does.
pub(super) struct Merge {
    cursors: Vec<Cursor>,
    /// Cursors with rows left, as a heap: the least on top.
    heap: Vec<Head>,
    converter: Option<RowConverter>,
    /// Bytes that all keys begin with.
    common: usize,
    freed: Freed,
}

/// A cursor in the heap, with what decides most comparisons: sixteen bytes of its current key, from where keys begin
/// to differ, or the greatest number for null.
#[derive(Clone, Copy)]
struct Head {
    prefix: u128,
    cursor: usize,
}

/// The current position of the merge in a run.
struct Cursor {
    batches: Box<dyn Iterator<Item = Result<RecordBatch, DataError>>>,
    batch: RecordBatch,
    keys: Keys,
    row: usize,
    /// The other columns of the batch as comparable bytes, made when first needed.
    rest: OnceCell<Rows>,
    /// Where the batch is in the chunk that is being filled, with that chunk's number.
    slot: (u64, usize),
}

impl Cursor {
    /// `None` for a run without rows.
    fn new(run: Run) -> Result<Option<Self>, DataError> {
        let mut batches = run.batches()?;
        let Some(batch) = batches.next().transpose()? else { return Ok(None) };
        let keys = Keys::of(&batch)?;
        Ok(Some(Self { batches, batch, keys, row: 0, rest: OnceCell::new(), slot: (u64::MAX, 0) }))
    }

    fn key(&self) -> Option<&[u8]> {
        self.keys.get(self.row)
    }

    fn prefix(&self, common: usize) -> u128 {
        self.key().map_or(u128::MAX, |key| prefix(key, common))
    }

    /// Goes to the next row. False at the end.
    fn advance(&mut self, freed: &Freed) -> Result<bool, DataError> {
        self.row += 1;
        if self.row < self.batch.num_rows() {
            return Ok(true);
        }
        let Some(batch) = self.batches.next().transpose()? else { return Ok(false) };
        freed(self.batch.get_array_memory_size());
        self.keys = Keys::of(&batch)?;
        self.batch = batch;
        self.row = 0;
        self.rest = OnceCell::new();
        self.slot = (u64::MAX, 0);
        Ok(true)
    }
}

impl Merge {
    pub(super) fn new(mut runs: Vec<Run>, freed: Freed) -> Result<Self, DataError> {
        while runs.len() > FAN_IN {
            // So many runs would need a batch of each in memory: some become one.
            let some = runs.drain(..FAN_IN / 2).collect();
            runs.push(merged(some, &freed)?);
        }
        let converter = runs.first().map(|run| rest_converter(run.schema())).transpose()?.flatten();
        let common = common_prefix(&runs);
        let cursors = runs.into_iter().map(Cursor::new).filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
        let head = |(cursor, place): (usize, &Cursor)| Head { prefix: place.prefix(common), cursor };
        let heap = cursors.iter().enumerate().map(head).collect();
        let mut merge = Self { cursors, heap, converter, common, freed };
        for i in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(i)?;
        }
        Ok(merge)
    }

    /// Sends all rows in order, `size` at a time, until `send` returns false.
    pub(super) fn run(&mut self, size: usize, mut send: impl FnMut(SortedChunk) -> bool) -> Result<(), DataError> {
        let mut first_row = 0;
        let mut number = 0;
        while !self.heap.is_empty() {
            let mut chunk = SortedChunk { first_row, batches: Vec::new(), rows: Vec::with_capacity(size) };
            while chunk.rows.len() < size
                && let Some(top) = self.heap.first_mut()
            {
                let cursor = &mut self.cursors[top.cursor];
                if cursor.slot.0 != number {
                    cursor.slot = (number, chunk.batches.len());
                    chunk.batches.push(cursor.batch.clone());
                }
                chunk.rows.push((cursor.slot.1, cursor.row));
                if cursor.advance(&self.freed)? {
                    top.prefix = cursor.prefix(self.common);
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

    fn compare(&self, a: Head, b: Head) -> Result<Ordering, DataError> {
        if a.prefix != b.prefix {
            return Ok(a.prefix.cmp(&b.prefix));
        }
        let (a, b) = (&self.cursors[a.cursor], &self.cursors[b.cursor]);
        let by_key = match (a.key(), b.key()) {
            (Some(a), Some(b)) => a.cmp(b),
            // Nulls last.
            (a, b) => a.is_none().cmp(&b.is_none()),
        };
        match (&self.converter, by_key) {
            (Some(converter), Ordering::Equal) => {
                Ok(rest(converter, a)?.row(a.row).cmp(&rest(converter, b)?.row(b.row)))
            }
            (_, order) => Ok(order),
        }
    }
}

fn rest<'a>(converter: &RowConverter, cursor: &'a Cursor) -> Result<&'a Rows, DataError> {
    if let Some(rows) = cursor.rest.get() {
        return Ok(rows);
    }
    let rows = converter.convert_columns(&cursor.batch.columns()[1..])?;
    Ok(cursor.rest.get_or_init(|| rows))
}

/// Some runs as one on disk.
fn merged(runs: Vec<Run>, freed: &Freed) -> Result<Run, DataError> {
    let schema = runs.first().map(Run::schema).expect("at least one run is merged").clone();
    let mut spill = Spill::new(&schema, &SpillFile::new()?)?;
    let mut result = Ok(());
    Merge::new(runs, Arc::clone(freed))?.run(BATCH_ROWS, |chunk| {
        result = chunk.gather(&schema).and_then(|batch| spill.write(&batch));
        result.is_ok()
    })?;
    result?;
    spill.finish()
}

/// The length of the prefix that the keys of all runs share, from the first and last key of each.
fn common_prefix(runs: &[Run]) -> usize {
    let mut keys = runs.iter().filter_map(Run::ends).flatten();
    let Some(first) = keys.next() else { return 0 };
    keys.fold(first.len(), |common, key| first.iter().zip(key).take(common).take_while(|(a, b)| a == b).count())
}
