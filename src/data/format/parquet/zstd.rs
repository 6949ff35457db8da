//! Small files in zstd, by compressors that are reused.
//!
//! The library makes a compressor and a decompressor for every column of every file. Each is a hundred kilobytes to set
//! up, and queries the processor's features, which is slow on a virtual machine: for a few hundred rows that takes
//! half as long as the compression itself. So the library writes plain pages, and they are compressed here, page by page. What is
//! read is the same. Must not know what the columns hold.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ::parquet::{
    basic::{Compression, ZstdLevel},
    column::{
        page::{CompressedPage, Page, PageReader as _, PageWriter as _},
        writer::ColumnCloseResult,
    },
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, RowGroupMetaData},
        serialized_reader::SerializedPageReader,
        writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite},
    },
};
use bytes::Bytes;
use zstd::bulk::Compressor;

/// Compressors of one level, as many as ever worked at once.
pub(super) struct Compressors {
    level: ZstdLevel,
    idle: Mutex<Vec<Compressor<'static>>>,
}

impl Compressors {
    pub(super) fn new(level: ZstdLevel) -> Self {
        Self { level, idle: Mutex::default() }
    }

    /// Copies a row group, whose pages are uncompressed in `plain`, to one that is being written.
    pub(super) fn append<W: Write + Send>(
        &self,
        into: &mut SerializedRowGroupWriter<'_, W>,
        plain: &Bytes,
        group: &RowGroupMetaData,
    ) -> Result<(), ParquetError> {
        let rows = usize::try_from(group.num_rows()).unwrap_or_default();
        let mut compressor = self.take()?;
        for column in group.columns() {
            let (pages, close) = self.column(&mut compressor, plain, column, rows)?;
            into.append_column(&pages, close)?;
        }
        self.idle().push(compressor);
        Ok(())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Compressor<'static>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> io::Result<Compressor<'static>> {
        let idle = self.idle().pop();
        idle.map_or_else(|| Compressor::new(self.level.compression_level()), Ok)
    }

    /// The compressed pages of a column, and their metadata.
    fn column(
        &self,
        compressor: &mut Compressor<'_>,
        plain: &Bytes,
        column: &ColumnChunkMetaData,
        rows: usize,
    ) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        let mut reader = SerializedPageReader::new(Arc::new(plain.clone()), column, rows, None)?;
        let mut sink = TrackedWrite::new(Vec::new());
        let mut writer = SerializedPageWriter::new(&mut sink);
        let (mut plain_size, mut size) = (0, 0);
        while let Some(page) = reader.get_next_page()? {
            let before = page.buffer().len();
            let written = writer.write_page(CompressedPage::new(compressed(compressor, page)?, before))?;
            plain_size += written.uncompressed_size as i64;
            size += written.compressed_size as i64;
        }
        let pages = sink.into_inner()?;
        let metadata = column
            .clone()
            .into_builder()
            .set_compression(Compression::ZSTD(self.level))
            .set_total_uncompressed_size(plain_size)
            .set_total_compressed_size(size)
            .set_data_page_offset(0)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: pages.len() as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok((pages.into(), close))
    }
}

impl fmt::Debug for Compressors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compressors({:?})", self.level)
    }
}

/// The page with its buffer compressed.
fn compressed(compressor: &mut Compressor<'_>, page: Page) -> Result<Page, ParquetError> {
    match page {
        Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics } => {
            let buf = compressor.compress(&buf)?.into();
            Ok(Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics })
        }
        // Small files have no dictionaries, and pages of the first version.
        other => Err(ParquetError::NYI(format!("{:?} in a small file", other.page_type()))),
    }
}

#[cfg(test)]
mod tests {
    use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
    use arrow::{
        array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray},
        compute::concat_batches,
        datatypes::Int32Type,
    };

    use crate::data::{
        format::{
            FileFormat as _, Input, WriterFactory as _,
            parquet::{Parquet, options::ParquetOptions, writer::ParquetWriter},
        },
        spooled_file::SpooledFile,
    };

    use super::*;

    /// Rows with gaps in a column of each kind: numbers, texts that repeat, and lists.
    fn rows(from: i64, to: i64) -> RecordBatch {
        let some = |n: i64| (n % 5 != 3).then_some(n);
        let numbers: ArrayRef = Arc::new((from..to).map(some).collect::<Int64Array>());
        let texts = (from..to).map(|n| some(n).map(|n| format!("the same words again {}", n % 7)));
        let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
        let lists = (from..to).map(|n| some(n).map(|n| vec![Some(n as i32); (n % 3) as usize]));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
        RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("text", texts, true), ("list", lists, true)])
            .expect("three columns")
    }

    /// One file after the other by one factory, so that compressors are used again.
    fn files(compression: &str, tables: &[Vec<RecordBatch>]) -> Vec<Bytes> {
        let folder = tempfile::tempdir().expect("a folder");
        let options =
            ParquetOptions { compression: Some(ParquetOptions::compression(compression)), ..Default::default() };
        let factory = ParquetWriter::new(&options, &rows(0, 0).schema()).expect("a schema");
        let file = |batches: &Vec<RecordBatch>| {
            let path = folder.path().join("file.parquet");
            let spool = factory.whole(batches, SpooledFile::new(folder.path().to_path_buf())).expect("a file");
            spool.place_at(&path).expect("room");
            std::fs::read(path).expect("readable").into()
        };
        tables.iter().map(file).collect()
    }

    #[test]
    fn small_files_in_zstd_hold_the_same_and_say_the_same_of_it() {
        let tables = [vec![rows(0, 500)], vec![], vec![rows(7, 8), rows(8, 8), rows(8, 3000)], vec![rows(3, 4)]];
        for (batches, (zstd, plain)) in
            tables.iter().zip(files("zstd", &tables).into_iter().zip(files("none", &tables)))
        {
            let reading = Parquet(ParquetOptions::default())
                .open(&Input::Bytes(zstd.clone()), "file", None)
                .expect("a parquet file");
            let schema = reading.schema;
            let read = reading.batches.collect::<Result<Vec<_>, _>>().expect("rows");
            let all = |batches: &[RecordBatch]| concat_batches(&schema, batches).expect("one schema");
            assert_eq!(all(&read), all(batches));
            let groups =
                |bytes| SerializedFileReader::new(bytes).expect("a parquet file").metadata().row_groups().to_vec();
            let (zstd_groups, plain_groups) = (groups(zstd.clone()), groups(plain.clone()));
            assert_eq!(zstd_groups.len(), plain_groups.len());
            for (zstd, plain) in zstd_groups.iter().zip(&plain_groups) {
                assert_eq!(zstd.num_rows(), plain.num_rows());
                for (zstd, plain) in zstd.columns().iter().zip(plain.columns()) {
                    assert!(matches!(zstd.compression(), Compression::ZSTD(_)), "{zstd:?}");
                    assert_eq!(zstd.statistics(), plain.statistics());
                    assert_eq!(zstd.num_values(), plain.num_values());
                }
            }
            if batches.iter().map(RecordBatch::num_rows).sum::<usize>() > 100 {
                assert!(2 * zstd.len() < plain.len(), "{} and {} bytes", zstd.len(), plain.len());
            }
        }
    }
}
