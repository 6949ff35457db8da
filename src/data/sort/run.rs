//! A run: rows in order, in memory or on disk, that are read from front to back once.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Seek as _},
};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    ipc::{
        CompressionType,
        reader::StreamReader,
        writer::{IpcWriteOptions, StreamWriter},
    },
};

use super::{DataError, failed, key::Keys};

/// Rows in a batch of a run; while runs are merged, one batch of each that lies on disk is in memory.
pub(super) const BATCH_ROWS: usize = 1024;
/// Bytes that are read or written at once.
const BUFFER: usize = 1 << 16;

/// See the module.
pub(super) struct Run {
    schema: SchemaRef,
    /// The first and the last key that is not null.
    ends: Option<[Vec<u8>; 2]>,
    rows: Rows,
}

enum Rows {
    Memory(Vec<RecordBatch>),
    /// A file without a name, so that a dead process leaves nothing.
    Disk(File),
}

impl Run {
    /// Of batches in order, of which there is at least one.
    pub(super) fn in_memory(batches: Vec<RecordBatch>) -> Result<Self, DataError> {
        let mut ends = None;
        batches.iter().try_for_each(|batch| widen(&mut ends, batch))?;
        Ok(Self { schema: batches[0].schema(), ends, rows: Rows::Memory(batches) })
    }

    /// Writes batches in order, of which there is at least one, to disk. Blocking.
    pub(super) fn spilled(batches: Vec<RecordBatch>) -> Result<Self, DataError> {
        let mut spill = Spill::new(&batches[0].schema())?;
        batches.iter().try_for_each(|batch| spill.write(batch))?;
        spill.finish()
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn ends(&self) -> Option<&[Vec<u8>; 2]> {
        self.ends.as_ref()
    }

    /// The batches in order. Blocking.
    pub(super) fn batches(self) -> Result<Box<dyn Iterator<Item = Result<RecordBatch, DataError>>>, DataError> {
        Ok(match self.rows {
            Rows::Memory(batches) => Box::new(batches.into_iter().map(Ok)),
            Rows::Disk(file) => {
                let reader = StreamReader::try_new(BufReader::with_capacity(BUFFER, file), None).map_err(failed)?;
                Box::new(reader.map(|batch| batch.map_err(failed)))
            }
        })
    }
}

/// A run on disk that is being written.
pub(super) struct Spill {
    schema: SchemaRef,
    ends: Option<[Vec<u8>; 2]>,
    writer: StreamWriter<BufWriter<File>>,
}

impl Spill {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, DataError> {
        let file = BufWriter::with_capacity(BUFFER, tempfile::tempfile().map_err(spill_failed)?);
        let options =
            IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).map_err(failed)?;
        let writer = StreamWriter::try_new_with_options(file, schema, options).map_err(failed)?;
        Ok(Self { schema: schema.clone(), ends: None, writer })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        widen(&mut self.ends, batch)?;
        self.writer.write(batch).map_err(failed)
    }

    pub(super) fn finish(mut self) -> Result<Run, DataError> {
        self.writer.finish().map_err(failed)?;
        let buffer = self.writer.into_inner().map_err(failed)?;
        let mut file = buffer.into_inner().map_err(|error| spill_failed(error.into_error()))?;
        file.rewind().map_err(spill_failed)?;
        Ok(Run { schema: self.schema, ends: self.ends, rows: Rows::Disk(file) })
    }
}

/// Takes the keys of the next batch in: nulls come last, so the first row has the least key.
fn widen(ends: &mut Option<[Vec<u8>; 2]>, batch: &RecordBatch) -> Result<(), DataError> {
    let rows = batch.num_rows();
    for row in [Some(0), (0..rows).rev().find(|row| batch.column(0).is_valid(*row))].into_iter().flatten() {
        let keys = Keys::of(&batch.slice(row, 1)).map_err(failed)?;
        let Some(key) = keys.get(0) else { continue };
        match ends {
            Some([_, last]) => *last = key.to_vec(),
            None => *ends = Some([key.to_vec(), key.to_vec()]),
        }
    }
    Ok(())
}

fn spill_failed(error: std::io::Error) -> DataError {
    DataError::io(std::env::temp_dir(), error)
}
