//! A run: rows in order, in memory or on disk, that are read from front to back once.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek as _},
    sync::Arc,
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

use super::key::Keys;
use crate::data::DataError;

/// Rows in a batch of a run; while runs are merged, one batch of each run on disk is in memory.
pub(super) const BATCH_ROWS: usize = 256;
/// Bytes that are read at once, of each run that is being merged, and written at once.
const READ_BUFFER: usize = 1 << 14;
const WRITE_BUFFER: usize = 1 << 16;
/// Batches of a run on disk that are in memory while it is merged: one is read from the file, one is merged, and one
/// waits to be copied.
const IN_MERGE: usize = 3;

/// See the module.
pub(super) struct Run {
    schema: SchemaRef,
    /// The first and the last key that is not null.
    ends: Option<[Vec<u8>; 2]>,
    rows: Rows,
}

enum Rows {
    Memory(Vec<RecordBatch>),
    Disk(Section),
}

impl Run {
    /// Of batches in order, of which there is at least one.
    pub(super) fn in_memory(batches: Vec<RecordBatch>) -> Result<Self, DataError> {
        let mut ends = None;
        batches.iter().try_for_each(|batch| widen(&mut ends, batch))?;
        Ok(Self { schema: batches[0].schema(), ends, rows: Rows::Memory(batches) })
    }

    /// Writes batches in order, of which there is at least one, to disk. Blocking.
    pub(super) fn spilled(batches: Vec<RecordBatch>, file: &SpillFile) -> Result<Self, DataError> {
        let mut spill = Spill::new(&batches[0].schema(), file)?;
        batches.iter().try_for_each(|batch| spill.write(batch))?;
        spill.finish()
    }

    /// Moves it to disk, if it is not there. Blocking.
    pub(super) fn spill<'a>(
        &mut self,
        file: impl FnOnce() -> Result<&'a SpillFile, DataError>,
    ) -> Result<(), DataError> {
        if let Rows::Memory(batches) = &mut self.rows {
            *self = Self::spilled(std::mem::take(batches), file()?)?;
        }
        Ok(())
    }

    /// What it takes while it is merged, in bytes.
    pub(super) fn merge_bytes(&self) -> usize {
        match &self.rows {
            Rows::Memory(batches) => batches.iter().map(RecordBatch::get_array_memory_size).sum(),
            Rows::Disk(section) => READ_BUFFER + IN_MERGE * section.widest,
        }
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
            Rows::Disk(section) => {
                let reader = StreamReader::try_new(BufReader::with_capacity(READ_BUFFER, section), None)?;
                Box::new(reader.map(|batch| batch.map_err(DataError::from)))
            }
        })
    }
}

/// A file for many runs, one behind the other: a process may have few files open. It has no name, so that a dead
/// process leaves nothing.
#[derive(Clone)]
pub(super) struct SpillFile(Arc<File>);

impl SpillFile {
    pub(super) fn new() -> Result<Self, DataError> {
        Ok(Self(Arc::new(tempfile::tempfile().map_err(spill_failed)?)))
    }

    fn end(&self) -> Result<u64, DataError> {
        (&*self.0).stream_position().map_err(spill_failed)
    }
}

/// A run on disk that is being written, the only one in its file at the time.
pub(super) struct Spill {
    schema: SchemaRef,
    ends: Option<[Vec<u8>; 2]>,
    widest: usize,
    file: SpillFile,
    start: u64,
    writer: StreamWriter<BufWriter<Arc<File>>>,
}

impl Spill {
    pub(super) fn new(schema: &SchemaRef, file: &SpillFile) -> Result<Self, DataError> {
        let start = file.end()?;
        let buffer = BufWriter::with_capacity(WRITE_BUFFER, Arc::clone(&file.0));
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let writer = StreamWriter::try_new_with_options(buffer, schema, options)?;
        Ok(Self { schema: schema.clone(), ends: None, widest: 0, file: file.clone(), start, writer })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        widen(&mut self.ends, batch)?;
        self.widest = self.widest.max(batch.get_array_memory_size());
        self.writer.write(batch).map_err(DataError::from)
    }

    pub(super) fn finish(mut self) -> Result<Run, DataError> {
        self.writer.finish()?;
        let buffer = self.writer.into_inner()?;
        buffer.into_inner().map_err(|error| spill_failed(error.into_error()))?;
        let section = Section { at: self.start, end: self.file.end()?, widest: self.widest, file: self.file };
        Ok(Run { schema: self.schema, ends: self.ends, rows: Rows::Disk(section) })
    }
}

/// A part of a file, read from front to back; others read other parts at the same time.
struct Section {
    file: SpillFile,
    at: u64,
    end: u64,
    /// The bytes of its largest batch in memory.
    widest: usize,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = read_at(&self.file.0, &mut buffer[..left], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, at)
}

/// Takes the keys of the next batch in: nulls come last, so the first row has the least key.
fn widen(ends: &mut Option<[Vec<u8>; 2]>, batch: &RecordBatch) -> Result<(), DataError> {
    let rows = batch.num_rows();
    for row in [Some(0), (0..rows).rev().find(|row| batch.column(0).is_valid(*row))].into_iter().flatten() {
        let keys = Keys::of(&batch.slice(row, 1))?;
        let Some(key) = keys.get(0) else { continue };
        match ends {
            Some([_, last]) => *last = key.to_vec(),
            None => *ends = Some([key.to_vec(), key.to_vec()]),
        }
    }
    Ok(())
}

fn spill_failed(error: io::Error) -> DataError {
    DataError::io(tempfile::env::temp_dir(), error)
}
