//! Sorts batches in memory: an entry a row is moved about, with sixteen bytes of the first column; where those are
//! equal the next sixteen decide, and only for rows with equal first columns the others. Rows are copied once, at the
//! end.

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use super::{
    chunk::gather,
    key::{Keys, PREFIX, prefix, rest_converter},
    run::BATCH_ROWS,
};
use crate::data::DataError;

/// The rows of all batches, of which there is at least one, in order and in batches of [`BATCH_ROWS`].
pub(super) fn sort(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>, DataError> {
    let part =
        Part { schema: batches[0].schema(), batches, keys: batches.iter().map(Keys::of).collect::<Result<_, _>>()? };
    let entries = part.ordered()?;
    entries.chunks(BATCH_ROWS).map(|rows| part.gather(rows)).collect()
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
        let number = prefix(key, depth);
        self.high = (number >> 64) as u64;
        self.low = number as u64;
    }

    fn prefix(&self) -> (u64, u64) {
        (self.high, self.low)
    }
}

struct Part<'a> {
    schema: SchemaRef,
    batches: &'a [RecordBatch],
    keys: Vec<Keys>,
}

impl Part<'_> {
    fn ordered(&self) -> Result<Vec<Entry>, DataError> {
        let mut entries = Vec::with_capacity(self.batches.iter().map(RecordBatch::num_rows).sum());
        let mut nulls = Vec::new();
        for (batch, (rows, keys)) in self.batches.iter().zip(&self.keys).enumerate() {
            let batch = u32::try_from(batch).expect("a part has fewer than four billion batches");
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
        self.order(&mut entries)?;
        self.break_ties(&mut nulls)?;
        entries.append(&mut nulls);
        Ok(entries)
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        self.keys[entry.batch as usize].get(entry.row as usize).unwrap_or_default()
    }

    fn gather(&self, entries: &[Entry]) -> Result<RecordBatch, DataError> {
        let rows: Vec<(usize, usize)> =
            entries.iter().map(|entry| (entry.batch as usize, entry.row as usize)).collect();
        gather(&self.schema, self.batches, &rows).map_err(DataError::from)
    }

    /// Orders entries whose prefixes were loaded from the start of their keys.
    fn order(&self, entries: &mut [Entry]) -> Result<(), DataError> {
        // Stretches with equal keys so far, and how far that is. A list and no recursion: keys may be long.
        let mut open = vec![(0..entries.len(), 0)];
        while let Some((stretch, depth)) = open.pop() {
            let first = stretch.start;
            let stretch = &mut entries[stretch];
            if depth > 0 {
                for entry in stretch.iter_mut() {
                    let key = self.key(entry);
                    entry.load(key, depth);
                }
            }
            let depth = depth + PREFIX;
            stretch.sort_unstable_by_key(Entry::prefix);
            let mut start = 0;
            for equal in stretch.chunk_by_mut(|a, b| a.prefix() == b.prefix()) {
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
        let Some(converter) = rest_converter(&self.schema)? else { return Ok(()) };
        let together = self.gather(entries)?;
        let rows = converter.convert_columns(&together.columns()[1..])?;
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_unstable_by(|a, b| rows.row(*a).cmp(&rows.row(*b)));
        let before = entries.to_vec();
        for (entry, from) in entries.iter_mut().zip(order) {
            *entry = before[from];
        }
        Ok(())
    }
}
