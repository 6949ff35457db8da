//! Columns of vectors, written without a copy.
//!
//! The general way to a list column makes an index and a level for every number: ten bytes beside each of its four. In a
//! vector without gaps every index is the one before and one more, and every row's levels are the last row's; so the
//! numbers go to the page in a stretch, with levels made once. What is written is the same, save that no least and
//! greatest number is looked for. Must not know files of other columns.

use std::io::Write;

use ::parquet::{data_type::FloatType, errors::ParquetError, file::writer::SerializedRowGroupWriter};
use arrow::{
    array::{Array, ArrayRef, AsArray, FixedSizeListArray},
    datatypes::{DataType, Float32Type},
};

/// Numbers handed over at once, about: they and their levels fit a core's cache.
const STRETCH: usize = 1 << 14;

/// The column's arrays when they are vectors without a missing number; rows may be null.
pub(super) fn of<'a>(arrays: impl Iterator<Item = &'a ArrayRef>) -> Option<Vec<&'a FixedSizeListArray>> {
    arrays
        .map(|array| {
            let vectors = array.as_fixed_size_list_opt()?;
            let whole = vectors.values().null_count() == 0 && vectors.value_length() > 0;
            (vectors.value_type() == DataType::Float32 && whole).then_some(vectors)
        })
        .collect()
}

/// Writes them as the next column of a row group.
pub(super) fn write<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    arrays: &[&FixedSizeListArray],
) -> Result<(), ParquetError> {
    let mut column =
        group.next_column()?.ok_or_else(|| ParquetError::General("the row group has too few columns".to_owned()))?;
    let width = arrays.first().map_or(1, |vectors| vectors.value_length()) as usize;
    let rows = (STRETCH / width).max(1);
    let writer = column.typed::<FloatType>();
    let there = vec![writer.get_descriptor().max_def_level(); rows * width];
    let mut starts = vec![1; rows * width];
    starts.iter_mut().step_by(width).for_each(|level| *level = 0);
    let missing = vec![0; rows];
    for vectors in arrays {
        let numbers = vectors.values().as_primitive::<Float32Type>().values();
        let mut next = 0;
        let valid = match vectors.nulls() {
            None => vec![(0, vectors.len())],
            Some(nulls) => nulls.valid_slices().collect(),
        };
        for (from, to) in valid.into_iter().chain([(vectors.len(), vectors.len())]) {
            for gap in stretches(next, from, rows) {
                writer.write_batch(&[], Some(&missing[..gap.len()]), Some(&missing[..gap.len()]))?;
            }
            for some in stretches(from, to, rows) {
                let levels = some.len() * width;
                let numbers = &numbers[some.start * width..some.end * width];
                writer.write_batch(numbers, Some(&there[..levels]), Some(&starts[..levels]))?;
            }
            next = to;
        }
    }
    column.close()
}

/// `from..to` in parts of at most `most`.
fn stretches(from: usize, to: usize, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (from..to).step_by(most).map(move |start| start..(start + most).min(to))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{Float32Array, Int32Array, RecordBatch},
        buffer::NullBuffer,
        compute::concat_batches,
        datatypes::{Field, Schema},
    };

    use super::*;
    use crate::data::{
        format::{
            FileFormat as _, Input, WriterFactory as _,
            parquet::{Parquet, options::ParquetOptions, writer::ParquetWriter},
        },
        spooled_file::SpooledFile,
    };

    /// Vectors of `width` different numbers, one a row for which `there` says yes.
    fn vectors(rows: usize, width: usize, there: impl Fn(usize) -> bool) -> ArrayRef {
        let numbers = Float32Array::from_iter_values((0..rows * width).map(|n| n as f32));
        let nulls = NullBuffer::from_iter((0..rows).map(there));
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        Arc::new(FixedSizeListArray::new(item, width as i32, Arc::new(numbers), Some(nulls)))
    }

    fn batch(vectors: ArrayRef) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int32Array::from_iter_values(0..vectors.len() as i32));
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let list = DataType::FixedSizeList(item, vectors.as_fixed_size_list().value_length());
        let fields = [("before", DataType::Int32), ("vector", list), ("after", DataType::Int32)];
        let fields: Vec<_> = fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![ids.clone(), vectors, ids]).expect("three columns")
    }

    /// Writes a file and reads it back.
    fn written(batches: &[RecordBatch]) -> RecordBatch {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file.parquet");
        let factory = ParquetWriter::new(&ParquetOptions::default(), &batches[0].schema()).expect("a schema");
        let spool =
            factory.whole(batches, SpooledFile::new(folder.path().to_path_buf()).holding(1 << 16)).expect("a file");
        spool.place_at(&path).expect("room");
        let reading =
            Parquet(ParquetOptions::default()).open(&Input::Path(path), "file", None).expect("a parquet file");
        let schema = reading.schema;
        let batches = reading.batches.collect::<Result<Vec<_>, _>>().expect("rows");
        concat_batches(&schema, &batches).expect("one schema")
    }

    fn is_kept(batches: &[RecordBatch]) {
        let expected = concat_batches(&batches[0].schema(), batches).expect("one schema");
        assert_eq!(written(batches), expected);
    }

    #[test]
    fn vectors_come_back_as_they_were_whatever_rows_are_missing() {
        for width in [1, 3, 1536, STRETCH + 1] {
            let rows = if width < 10 { 3000 } else { 40 };
            let patterns: [&dyn Fn(usize) -> bool; 5] =
                [&|_| true, &|n| n > 0, &|n| n + 1 < rows, &|n| n % 3 != 1, &|_| false];
            for there in patterns {
                let whole = batch(vectors(rows, width, there));
                is_kept(std::slice::from_ref(&whole));
                is_kept(&[whole.slice(0, 7), whole.slice(7, rows - 7)]);
                is_kept(&[whole.slice(5, rows - 9)]);
            }
        }
    }

    #[test]
    fn a_missing_number_goes_the_general_way() {
        let numbers = [Some(vec![Some(1.0), None]), None, Some(vec![Some(2.0), Some(3.0)])];
        let array: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(numbers, 2));
        assert!(of([&array].into_iter()).is_none());
        is_kept(&[batch(array), batch(vectors(5, 2, |_| true))]);
        assert_eq!(
            of([&vectors(2, 2, |_| true), &vectors(3, 2, |n| n > 1)].into_iter()).map(|both| both.len()),
            Some(2)
        );
    }

    #[test]
    fn large_files_hold_the_same() {
        let whole = batch(vectors(5000, 300, |n| n % 11 != 0));
        is_kept(&[whole.slice(0, 1000), whole.slice(1000, 4000)]);
    }
}
