//! Sorted rows on their way out, and what all parts of the sort share.

use std::sync::Arc;

use arrow::{
    array::{Array, RecordBatch, RecordBatchOptions},
    compute::{SortOptions, interleave},
    datatypes::SchemaRef,
    error::ArrowError,
};

use crate::data::DataError;

/// The order of all columns.
pub(super) const NULLS_LAST: SortOptions = SortOptions { descending: false, nulls_first: false };

/// Rows in their final order, not yet copied into one batch.
#[derive(Debug)]
pub struct SortedChunk {
    /// The number of the first row, from 0, in the order of the whole.
    pub first_row: u64,
    pub(super) batches: Vec<RecordBatch>,
    pub(super) rows: Vec<(usize, usize)>,
}

impl SortedChunk {
    /// Copies the rows together. Blocking and expensive: chunks can be gathered in parallel.
    ///
    /// # Errors
    /// When the columns do not fit `schema`, or hold more than one array can.
    pub fn gather(&self, schema: &SchemaRef) -> Result<RecordBatch, DataError> {
        gather(schema, &self.batches, &self.rows).map_err(DataError::from)
    }
}

/// Called with the number of bytes just returned to the allocator, which may keep them for a while.
pub type Freed = Arc<dyn Fn(usize) + Send + Sync>;

/// Copies rows, each given by its batch and its place there, into one batch.
pub(super) fn gather(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    rows: &[(usize, usize)],
) -> Result<RecordBatch, ArrowError> {
    let column = |i: usize| {
        let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(i).as_ref()).collect();
        interleave(&arrays, rows)
    };
    let columns = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}
