//! Times of 96 bits, which count nanoseconds from any day: they are read in microseconds, and refused where that is not
//! exact.

use std::{fs::File, sync::Arc};

use ::parquet::{
    basic::Type,
    column::reader::ColumnReaderImpl,
    data_type::{Int96, Int96Type},
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        reader::{ChunkReader, Length, SerializedPageReader},
    },
    schema::types::ColumnDescPtr,
};
use bytes::{Buf as _, Bytes};

/// Values looked at together.
const AT_ONCE: usize = 4096;
const EPOCH: i128 = 2_440_588;
const MICROSECONDS_OF_DAY: i128 = 86_400_000_000;

/// A column of such times in a row group.
pub(super) struct Times {
    column: ColumnDescPtr,
    chunk: ColumnChunkMetaData,
    rows: usize,
    /// Rows of the file in front of the row group.
    before: usize,
}

/// The columns of such times in a file.
pub(super) fn times(footer: &ParquetMetaData) -> Result<Vec<Times>, ParquetError> {
    let columns = footer.file_metadata().schema_descr().columns().iter().enumerate();
    let columns: Vec<_> = columns.filter(|(_, column)| column.physical_type() == Type::INT96).collect();
    let (mut out, mut before) = (Vec::new(), 0);
    for group in footer.row_groups() {
        let rows = usize::try_from(group.num_rows())?;
        out.extend(columns.iter().map(|(at, column)| Times {
            column: Arc::clone(column),
            chunk: group.column(*at).clone(),
            rows,
            before,
        }));
        before += rows;
    }
    Ok(out)
}

impl Times {
    /// Where its pages are: the first byte and their number.
    pub(super) fn bytes(&self) -> (u64, u64) {
        self.chunk.byte_range()
    }

    /// Its pages.
    pub(super) fn chunk(&self) -> &ColumnChunkMetaData {
        &self.chunk
    }

    /// Refuses a time that microseconds do not hold.
    ///
    /// # Errors
    /// For the first one, with its row and column.
    pub(super) fn check<R: ChunkReader + 'static>(&self, source: R) -> Result<(), ParquetError> {
        let pages = SerializedPageReader::new(Arc::new(source), &self.chunk, self.rows, None)?;
        let mut reader = ColumnReaderImpl::<Int96Type>::new(Arc::clone(&self.column), Box::new(pages));
        let there = self.column.max_def_level();
        let mut row = self.before;
        loop {
            let (mut values, mut levels, mut starts) = (Vec::new(), Vec::new(), Vec::new());
            let (read, ..) = reader.read_records(AT_ONCE, Some(&mut levels), Some(&mut starts), &mut values)?;
            if read == 0 {
                return Ok(());
            }
            if let Some(inexact) = values.iter().position(|time| !is_exact(time)) {
                // Which level is the value's, and how many rows begin up to there.
                let mut seen = levels.iter().enumerate().filter(|(_, level)| **level == there).map(|(at, _)| at);
                let at = if levels.is_empty() { Some(inexact) } else { seen.nth(inexact) };
                let begun = match (at, starts.as_slice()) {
                    (Some(at), [_, ..]) => starts.iter().take(at + 1).filter(|start| **start == 0).count(),
                    (at, _) => at.unwrap_or(0) + 1,
                };
                return Err(self.inexact(row + begun, &values[inexact]));
            }
            row += read;
        }
    }

    fn inexact(&self, row: usize, time: &Int96) -> ParquetError {
        let (day, nanoseconds) = parts(time);
        let name = self.column.path().string();
        let days = day - EPOCH;
        ParquetError::General(format!(
            "row {row}: column `{name}` holds a time of 96 bits that microseconds do not hold: {nanoseconds} nanoseconds after day \
             {days} from 1970-01-01; write the column as timestamps of 64 bits"
        ))
    }
}

/// The Julian day and the nanoseconds of that day.
fn parts(time: &Int96) -> (i128, i128) {
    let words = time.data();
    let nanoseconds = (u64::from(words[1]) << 32 | u64::from(words[0])).cast_signed();
    (i128::from(words[2].cast_signed()), i128::from(nanoseconds))
}

fn is_exact(time: &Int96) -> bool {
    let (day, nanoseconds) = parts(time);
    let microseconds = (day - EPOCH) * MICROSECONDS_OF_DAY + nanoseconds / 1000;
    nanoseconds % 1000 == 0 && i64::try_from(microseconds).is_ok()
}

/// Bytes of a file from `start` on, as if all of the file were there.
pub(super) struct Part {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
}

impl Length for Part {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Part {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let rest = self.len().saturating_sub(start);
        Ok(self.get_bytes(start, usize::try_from(rest)?)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let from = start.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        let range = from.and_then(|from| Some(from..from.checked_add(length)?));
        match range {
            Some(range) if range.end <= self.bytes.len() => Ok(self.bytes.slice(range)),
            _ => Err(ParquetError::EOF("a page lies outside of its column".to_owned())),
        }
    }
}

/// A file that several readers share.
#[derive(Clone)]
pub(super) struct SharedFile(pub(super) Arc<File>);

impl Length for SharedFile {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for SharedFile {
    type T = <File as ChunkReader>::T;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.get_bytes(start, length)
    }
}
