//! How a table goes to a worker: as frames of some megabyte, however its batches are cut.
//!
//! The buffers of a batch are written to the pipe as they are, without a copy in this process. A piece is small enough for a
//! core's cache, and the memory that it takes in the worker is used again for the next one; batches of millions of rows cost
//! several times as much.

use arrow::{
    array::{Array as _, ArrayRef, RecordBatch},
    buffer::Buffer,
    ipc::writer::StreamEncoder,
};
use bytes::Bytes;
use datafusion::{error::DataFusionError, execution::SendableRecordBatchStream};
use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::{columns, protocol::Frame};

/// Bytes of a table that are sent at once.
const FRAME: usize = 1 << 20;

/// Sends a table as it is read, as plain columns where the function takes rows. A process that is gone is noticed elsewhere.
pub(super) async fn send_table(
    outgoing: &mpsc::Sender<Frame>,
    stream: u16,
    mut rows: SendableRecordBatchStream,
    plain: bool,
    port: &str,
) -> Result<(), DataFusionError> {
    if plain {
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let written = tokio::task::spawn_blocking(move || columns::write(&batch)).await;
            let block = written
                .map_err(|error| DataFusionError::External(error.into()))?
                .map_err(|error| DataFusionError::External(format!("input `{port}`: {error}").into()))?;
            if outgoing.send(Frame::Data(stream, Bytes::from(block))).await.is_err() {
                return Ok(());
            }
        }
    } else {
        let mut encoder = StreamEncoder::try_new(&rows.schema())?;
        let (mut parts, mut size) = (Vec::new(), 0);
        while let Some(batch) = rows.next().await {
            for piece in pieces(&batch?) {
                let encoded = encoder.encode(&piece)?;
                size += encoded.iter().map(Buffer::len).sum::<usize>();
                parts.extend(encoded);
                if size < FRAME {
                    continue;
                }
                size = 0;
                if outgoing.send(Frame::Parts(stream, std::mem::take(&mut parts))).await.is_err() {
                    return Ok(());
                }
            }
        }
        parts.extend(encoder.finish()?);
        let _ = outgoing.send(Frame::Parts(stream, parts)).await;
    }
    let _ = outgoing.send(Frame::End(stream)).await;
    Ok(())
}

/// The batch in pieces of at most [`FRAME`] bytes, or of one row each where rows are larger; one piece of an empty batch.
fn pieces(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> + '_ {
    let bytes: usize = batch.columns().iter().map(size).sum();
    let rows = batch.num_rows();
    let fit = (rows as u128 * FRAME as u128 / (bytes.max(1) as u128)) as usize;
    // Bits of nulls and booleans begin at a byte, so that they are copied as bytes.
    let step = if fit >= 64 { fit / 64 * 64 } else { fit.max(1) };
    (0..rows.max(1)).step_by(step).map(move |start| batch.slice(start, step.min(rows - start)))
}

/// Bytes of the values alone, also of a slice of a larger column.
fn size(column: &ArrayRef) -> usize {
    column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{BooleanArray, Int64Array, StringArray},
        compute::concat_batches,
    };

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    }

    #[test]
    fn pieces_hold_every_row_once_and_fit_into_a_frame() {
        let rows = 300_001;
        let numbers = Int64Array::from_iter((0..rows).map(|n| (n % 3 > 0).then_some(n)));
        let flags = BooleanArray::from_iter((0..rows).map(|n| Some(n % 2 == 0)));
        let words = StringArray::from_iter_values((0..rows).map(|n| n.to_string()));
        let whole = batch(vec![("n", Arc::new(numbers)), ("flag", Arc::new(flags)), ("word", Arc::new(words))]);
        let found: Vec<_> = pieces(&whole).collect();
        assert!(found.len() > 3, "{} pieces", found.len());
        assert!(found.iter().all(|piece| piece.columns().iter().map(size).sum::<usize>() <= FRAME + FRAME / 8));
        assert_eq!(concat_batches(&whole.schema(), &found).expect("one schema"), whole);
        let rest = whole.slice(299_000, 1_001);
        assert_eq!(
            pieces(&rest).collect::<Vec<_>>(),
            std::slice::from_ref(&rest),
            "a slice is as large as its own rows"
        );
    }

    #[test]
    fn rows_larger_than_a_frame_go_one_by_one_and_an_empty_batch_is_one_piece() {
        let long = "x".repeat(FRAME + 1);
        let whole = batch(vec![("text", Arc::new(StringArray::from(vec![long.as_str(), "", long.as_str()])))]);
        assert_eq!(pieces(&whole).map(|piece| piece.num_rows()).collect::<Vec<_>>(), [1, 1, 1]);
        let empty = whole.slice(0, 0);
        assert_eq!(pieces(&empty).collect::<Vec<_>>(), std::slice::from_ref(&empty));
    }
}
