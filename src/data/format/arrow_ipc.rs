//! Arrow IPC: the file format (Feather v2) is written, files and streams are read.

use std::io::{Read as _, Seek as _};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    error::ArrowError,
    ipc::{
        CompressionType,
        reader::{FileReader, StreamReader},
        writer::{FileWriter, IpcWriteOptions},
    },
};

use super::file::{Encoder, Input, Reading, corrupt, unwritable};
use crate::data::{error::DataError, spooled_file::SpooledFile};

const MAGIC: &[u8] = b"ARROW1";

pub(super) fn open(input: &Input, shown: &str) -> Result<Reading, DataError> {
    let failed = |error: ArrowError| corrupt(shown, "arrow", &error);
    let mut reader = input.open(shown)?;
    let mut magic = [0; 6];
    let is_file = reader.read_exact(&mut magic).is_ok() && magic == *MAGIC;
    reader.rewind().map_err(|source| DataError::Io { path: shown.to_owned(), source })?;
    let shown = shown.to_owned();
    let named = move |batch: Result<RecordBatch, ArrowError>| batch.map_err(|error| corrupt(&shown, "arrow", &error));
    if is_file {
        let reader = FileReader::try_new(reader, None).map_err(failed)?;
        Ok(Reading { schema: reader.schema(), batches: Box::new(reader.map(named)) })
    } else {
        let reader = StreamReader::try_new(reader, None).map_err(failed)?;
        Ok(Reading { schema: reader.schema(), batches: Box::new(reader.map(named)) })
    }
}

struct Writing(FileWriter<SpooledFile>);

pub(super) fn encoder(schema: &SchemaRef, sink: SpooledFile) -> Result<Box<dyn Encoder>, DataError> {
    let options =
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).map_err(unwritable)?;
    let writer = FileWriter::try_new_with_options(sink, schema, options).map_err(unwritable)?;
    Ok(Box::new(Writing(writer)))
}

impl Encoder for Writing {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        self.0.write(batch).map_err(unwritable)
    }

    fn finish(self: Box<Self>) -> Result<SpooledFile, DataError> {
        self.0.into_inner().map_err(unwritable)
    }
}
