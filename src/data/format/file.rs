//! A file to be read, and the rows that come out.

use std::{
    fs::File,
    io::{BufReader, Cursor, Read, Seek},
    path::PathBuf,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use bytes::Bytes;

use crate::data::error::{DataError, chain};

/// Rows in a batch that a reader gives.
pub(in crate::data) const BATCH_ROWS: usize = 8192;
/// Cells in a batch that a reader gives: readers of text reserve memory for all of them before the first row.
const BATCH_CELLS: usize = 1 << 20;

/// A batch of text ends at this many bytes, however few rows it has.
pub(in crate::data) const BATCH_BYTES: usize = 8 << 20;
/// A row of text that is longer is an error: something in it was opened and is never closed, or it is no row.
pub(in crate::data) const ROW_BYTES: usize = 64 << 20;

/// That `what` is longer than [`ROW_BYTES`].
pub(in crate::data) fn too_long(what: &str) -> String {
    format!("{what} of more than {} MiB", ROW_BYTES >> 20)
}

/// Rows in a batch of a table with this many columns.
pub(in crate::data) fn batch_rows(columns: usize) -> usize {
    (BATCH_CELLS / columns.max(1)).clamp(1, BATCH_ROWS)
}

/// A file to be read.
#[derive(Debug, Clone)]
pub(in crate::data) enum Input {
    /// On the local disk.
    Path(PathBuf),
    /// In memory.
    Bytes(Bytes),
}

/// Anything that can be read and rewound.
pub(in crate::data) trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// Batches as they are read.
pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, DataError>> + Send>;

/// A file being read.
pub(in crate::data) struct Reading {
    /// The file's columns.
    pub(in crate::data) schema: SchemaRef,
    /// Its rows.
    pub(in crate::data) batches: Batches,
}

impl Input {
    /// Opens it for reading. `shown` names it in errors.
    pub(super) fn open(&self, shown: &str) -> Result<BufReader<Box<dyn ReadSeek>>, DataError> {
        let reader: Box<dyn ReadSeek> = match self {
            Self::Path(path) => {
                Box::new(File::open(path).map_err(|source| DataError::Io { path: shown.to_owned(), source })?)
            }
            Self::Bytes(bytes) => Box::new(Cursor::new(bytes.clone())),
        };
        Ok(BufReader::with_capacity(1 << 17, reader))
    }
}

/// An error while reading `shown` as `format`.
pub(super) fn corrupt(shown: &str, format: &'static str, error: &dyn std::error::Error) -> DataError {
    DataError::corrupt(shown, format, chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_a_wide_table_has_fewer_rows() {
        for (columns, rows) in [(0, BATCH_ROWS), (2, BATCH_ROWS), (5000, 209), (40_000, 26), (10_000_000, 1)] {
            assert_eq!(batch_rows(columns), rows);
        }
    }
}
