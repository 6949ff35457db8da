//! The rows of a partition, in chunks of bounded size, and what was computed for a chunk beside its rows.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, RecordBatch},
    compute::concat_batches,
    datatypes::SchemaRef,
};
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt as _;

use super::{MemoryBudget, error::FunctionError, memory_budget::Reservation};
use crate::model::excerpt;

/// How much of a partition is computed at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// A chunk's rows with what was computed for them, in the columns of `schema`: a name in `computed` or in `batch`.
///
/// # Errors
/// When a computed column is not of the type or the length that `schema` and `batch` say.
pub(super) fn joined(
    schema: &SchemaRef,
    batch: &RecordBatch,
    computed: &[(&str, ArrayRef)],
) -> Result<RecordBatch, FunctionError> {
    let given = batch.schema_ref().fields().iter().map(|field| field.name().as_str()).zip(batch.columns());
    let known: HashMap<&str, &ArrayRef> = given.chain(computed.iter().map(|(name, column)| (*name, column))).collect();
    let column = |name: &str| Arc::clone(known.get(name).expect("an output column is computed, or an input column"));
    let columns = schema.fields().iter().map(|field| column(field.name())).collect();
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|error| FunctionError::Failed(excerpt(&error.to_string())))
}

/// The first chunk of a partition, which may be empty, those after it, and the memory in which all are computed. `weight` gives the
/// bytes that a chunk and its results take.
pub(super) async fn begin(
    input: SendableRecordBatchStream,
    limit: Limit,
    memory: &MemoryBudget,
    weight: impl FnOnce(&RecordBatch) -> Result<u64, FunctionError>,
) -> Result<(RecordBatch, ChunkReader, Reservation), FunctionError> {
    let mut rows = ChunkReader::new(input, limit);
    let mut read = memory.reserve_read(limit.bytes as u64).await;
    let first = rows.next().await?.unwrap_or_else(|| RecordBatch::new_empty(rows.schema()));
    read.shrink_to(size(&first) as u64);
    // Of a larger partition, a chunk is being encoded while the next one is computed.
    let chunks = if rows.at_end().await? { 1 } else { 2 };
    let reservation = memory.reserve(chunks * weight(&first)?).await;
    drop(read);
    Ok((first, rows, reservation))
}

/// The rows of a partition, a chunk at a time.
pub(super) struct ChunkReader {
    input: SendableRecordBatchStream,
    limit: Limit,
    /// The rest of a batch, for the next chunk.
    rest: Option<RecordBatch>,
}

impl ChunkReader {
    pub(super) fn new(input: SendableRecordBatchStream, limit: Limit) -> Self {
        Self { input, limit, rest: None }
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.input.schema()
    }

    /// True when there are no rows left.
    pub(super) async fn at_end(&mut self) -> Result<bool, FunctionError> {
        while self.rest.as_ref().is_none_or(|rest| rest.num_rows() == 0) {
            match self.input.try_next().await? {
                Some(batch) => self.rest = Some(batch),
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// As many rows as the limit allows, and one at least; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, FunctionError> {
        let (mut taken, mut left) = (Vec::new(), self.limit);
        while left.rows > 0 && left.bytes > 0 {
            let batch = match self.rest.take() {
                Some(rest) => rest,
                None => match self.input.try_next().await? {
                    Some(batch) => batch,
                    None => break,
                },
            };
            let rows = batch.num_rows();
            let per_row = size(&batch).div_ceil(rows.max(1)).max(1);
            let fits = left.rows.min(left.bytes.div_ceil(per_row)).min(rows);
            left = Limit { rows: left.rows - fits, bytes: left.bytes.saturating_sub(fits * per_row) };
            if fits < rows {
                self.rest = Some(batch.slice(fits, rows - fits));
            }
            if fits > 0 {
                taken.push(batch.slice(0, fits));
            }
        }
        if taken.is_empty() {
            return Ok(None);
        }
        concat_batches(&self.schema(), &taken).map(Some).map_err(|e| FunctionError::Failed(excerpt(&e.to_string())))
    }
}

/// Bytes of the rows alone, also if the batch is a slice of a larger one.
pub(super) fn size(batch: &RecordBatch) -> usize {
    let column =
        |array: &ArrayRef| array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
    batch.columns().iter().map(column).sum()
}
