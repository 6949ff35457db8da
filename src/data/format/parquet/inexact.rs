//! Values that the decoder would not read exactly, and that are refused: times of 96 bits, which count nanoseconds from any day
//! and are read in microseconds, and decimals of no bytes, which every reader takes for another number.

use std::{fs::File, sync::Arc};

use ::parquet::{
    basic::{ConvertedType, LogicalType, Type},
    column::reader::ColumnReaderImpl,
    data_type::{ByteArrayType, DataType, Int96, Int96Type},
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

/// A column of a row group that may hold such values.
pub(super) struct Suspect {
    column: ColumnDescPtr,
    chunk: ColumnChunkMetaData,
    rows: usize,
    /// Rows of the file in front of the row group.
    before: usize,
}

/// The columns of a file that may hold such values.
pub(super) fn suspects(footer: &ParquetMetaData) -> Result<Vec<Suspect>, ParquetError> {
    let is_decimal = |column: &ColumnDescPtr| {
        matches!(column.logical_type_ref(), Some(LogicalType::Decimal { .. }))
            || column.converted_type() == ConvertedType::DECIMAL
    };
    let columns = footer.file_metadata().schema_descr().columns().iter().enumerate();
    let columns: Vec<_> = columns
        .filter(|(_, column)| match column.physical_type() {
            Type::INT96 => true,
            Type::BYTE_ARRAY => is_decimal(column),
            _ => false,
        })
        .collect();
    let (mut out, mut before) = (Vec::new(), 0);
    for group in footer.row_groups() {
        let rows = usize::try_from(group.num_rows())?;
        out.extend(columns.iter().map(|(at, column)| Suspect {
            column: Arc::clone(column),
            chunk: group.column(*at).clone(),
            rows,
            before,
        }));
        before += rows;
    }
    Ok(out)
}

impl Suspect {
    /// Where its pages are: the first byte and their number.
    pub(super) fn bytes(&self) -> (u64, u64) {
        self.chunk.byte_range()
    }

    /// Its pages.
    pub(super) fn chunk(&self) -> &ColumnChunkMetaData {
        &self.chunk
    }

    /// Refuses a value that would not be read exactly.
    ///
    /// # Errors
    /// For the first one, with its row and column.
    pub(super) fn check<R: ChunkReader + 'static>(&self, source: R) -> Result<(), ParquetError> {
        match self.column.physical_type() {
            Type::INT96 => self.check_each::<Int96Type, _>(source, is_exact, why_inexact),
            _ => self.check_each::<ByteArrayType, _>(
                source,
                |bytes| !bytes.is_empty(),
                |_| "a decimal of no bytes, which has no value; write it again as null or as a number".to_owned(),
            ),
        }
    }

    fn check_each<T: DataType, R: ChunkReader + 'static>(
        &self,
        source: R,
        is_exact: impl Fn(&T::T) -> bool,
        why: impl Fn(&T::T) -> String,
    ) -> Result<(), ParquetError> {
        let pages = SerializedPageReader::new(Arc::new(source), &self.chunk, self.rows, None)?;
        let mut reader = ColumnReaderImpl::<T>::new(Arc::clone(&self.column), Box::new(pages));
        let there = self.column.max_def_level();
        let mut row = self.before;
        loop {
            let (mut values, mut levels, mut starts) = (Vec::new(), Vec::new(), Vec::new());
            let (read, ..) = reader.read_records(AT_ONCE, Some(&mut levels), Some(&mut starts), &mut values)?;
            if read == 0 {
                return Ok(());
            }
            if let Some(inexact) = values.iter().position(|value| !is_exact(value)) {
                // Which level is the value's, and how many rows begin up to there.
                let mut seen = levels.iter().enumerate().filter(|(_, level)| **level == there).map(|(at, _)| at);
                let at = if levels.is_empty() { Some(inexact) } else { seen.nth(inexact) };
                let begun = match (at, starts.as_slice()) {
                    (Some(at), [_, ..]) => starts.iter().take(at + 1).filter(|start| **start == 0).count(),
                    (at, _) => at.unwrap_or(0) + 1,
                };
                let (row, name, why) = (row + begun, self.column.path().string(), why(&values[inexact]));
                return Err(ParquetError::General(format!("row {row}: column `{name}` holds {why}")));
            }
            row += read;
        }
    }
}

fn why_inexact(time: &Int96) -> String {
    let (day, nanoseconds) = parts(time);
    let days = day - EPOCH;
    format!(
        "a time of 96 bits that microseconds do not hold: {nanoseconds} nanoseconds after day {days} from 1970-01-01; write the column \
         as timestamps of 64 bits"
    )
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
