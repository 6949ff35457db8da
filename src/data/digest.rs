//! A digest of rows: the same rows give the same digest, however they are cut into batches and whichever way their
//! texts are stored. It names what is written, so an upstream re-run that changes nothing changes no name.
//!
//! It is taken from the values and not from the encoded file: another compression or a newer writer is no change.

use arrow::{
    array::{Array, AsArray, FixedSizeListArray, GenericByteArray, RecordBatch},
    datatypes::{ArrowPrimitiveType, ByteArrayType, DataType, Fields, SchemaRef},
    downcast_primitive_array,
    row::{RowConverter, SortField},
};
use blake3::Hasher;

use super::error::DataError;
use crate::model::Fingerprint;

/// Takes in batches of one schema.
pub(super) struct ContentDigest {
    names: Hasher,
    columns: Vec<Column>,
    rows: u64,
}

/// Values and their lengths are hashed apart, so that whole buffers can be taken in at once.
struct Column {
    values: Hasher,
    lengths: Option<Hasher>,
    /// Numbers of the rows that are null.
    nulls: Option<Hasher>,
    /// What a list of fixed length holds; vectors are by far the most bytes there are.
    items: Option<Box<Column>>,
    converter: Option<RowConverter>,
}

impl ContentDigest {
    /// A digest of no rows yet.
    pub(super) fn new(schema: &SchemaRef) -> Self {
        let mut names = Hasher::new();
        feed_fields(&mut names, schema.fields());
        let columns = schema.fields().iter().map(|field| Column::new(field.data_type())).collect();
        Self { names, columns, rows: 0 }
    }

    /// Takes in more rows.
    pub(super) fn update(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            column.update(array.as_ref(), self.rows)?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// The digest of all rows so far.
    pub(super) fn finish(&self) -> Fingerprint {
        let mut hasher = self.names.clone();
        hasher.update(&self.rows.to_le_bytes());
        self.columns.iter().for_each(|column| column.finish(&mut hasher));
        let mut out = [0; 16];
        out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Fingerprint::from(out)
    }
}

/// Names and types, where types that hold the same values count as the same.
fn feed_fields(hasher: &mut Hasher, fields: &Fields) {
    for field in fields {
        hasher.update(&(field.name().len() as u64).to_le_bytes());
        hasher.update(field.name().as_bytes());
        let kind = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytes".to_owned(),
            other => other.to_string(),
        };
        hasher.update(&(kind.len() as u64).to_le_bytes());
        hasher.update(kind.as_bytes());
    }
}

impl Column {
    fn new(data_type: &DataType) -> Self {
        let items = match data_type {
            DataType::FixedSizeList(field, _) => Some(Box::new(Self::new(field.data_type()))),
            _ => None,
        };
        Self { values: Hasher::new(), lengths: None, nulls: None, items, converter: None }
    }

    fn finish(&self, hasher: &mut Hasher) {
        for part in [Some(&self.values), self.lengths.as_ref(), self.nulls.as_ref()] {
            match part {
                Some(part) => hasher.update(part.finalize().as_bytes()),
                None => hasher.update(&[0; 32]),
            };
        }
        if let Some(items) = &self.items {
            items.finish(hasher);
        }
    }

    fn update(&mut self, array: &dyn Array, first_row: u64) -> Result<(), DataError> {
        if array.null_count() > 0 {
            let nulls = self.nulls.get_or_insert_with(Hasher::new);
            for row in (0..array.len()).filter(|row| array.is_null(*row)) {
                nulls.update(&(first_row + row as u64).to_le_bytes());
            }
        }
        downcast_primitive_array!(
            array => self.primitive(array),
            DataType::Utf8 => self.bytes(array.as_string::<i32>()),
            DataType::LargeUtf8 => self.bytes(array.as_string::<i64>()),
            DataType::Binary => self.bytes(array.as_binary::<i32>()),
            DataType::LargeBinary => self.bytes(array.as_binary::<i64>()),
            DataType::FixedSizeList(_, _) => return self.vectors(array.as_fixed_size_list(), first_row),
            DataType::Utf8View => self.views(array, |i| array.as_string_view().value(i).as_bytes()),
            DataType::BinaryView => self.views(array, |i| array.as_binary_view().value(i)),
            DataType::Boolean => {
                let values = array.as_boolean();
                let bytes: Vec<u8> = (0..values.len()).map(|i| u8::from(values.is_valid(i) && values.value(i))).collect();
                self.values.update(&bytes);
            },
            _ => return self.other(array),
        );
        Ok(())
    }

    fn primitive<T: ArrowPrimitiveType>(&mut self, array: &arrow::array::PrimitiveArray<T>) {
        if array.null_count() == 0 {
            self.values.update(array.values().inner().as_slice());
            return;
        }
        let width = size_of::<T::Native>();
        let zero = vec![0; width];
        let bytes = array.values().inner().as_slice();
        for (i, value) in bytes.chunks_exact(width).enumerate() {
            // The value buffer under a null is not part of the content.
            self.values.update(if array.is_null(i) { &zero } else { value });
        }
    }

    fn bytes<T: ByteArrayType>(&mut self, array: &GenericByteArray<T>) {
        if array.null_count() > 0 {
            return self.views(array, |i| {
                let value: &[u8] = array.value(i).as_ref();
                value
            });
        }
        let offsets = array.value_offsets();
        let first = arrow::datatypes::ArrowNativeType::as_usize(offsets[0]);
        let last = arrow::datatypes::ArrowNativeType::as_usize(offsets[offsets.len() - 1]);
        self.values.update(&array.value_data()[first..last]);
        let mut lengths = Vec::with_capacity(array.len() * 8);
        for pair in offsets.windows(2) {
            let length = arrow::datatypes::ArrowNativeType::as_usize(pair[1] - pair[0]) as u64;
            lengths.extend_from_slice(&length.to_le_bytes());
        }
        self.lengths.get_or_insert_with(Hasher::new).update(&lengths);
    }

    fn views<'a>(&mut self, array: &'a dyn Array, value: impl Fn(usize) -> &'a [u8]) {
        let mut all = Vec::new();
        let mut lengths = Vec::with_capacity(array.len() * 8);
        for i in 0..array.len() {
            let value = if array.is_null(i) { &[] } else { value(i) };
            all.extend_from_slice(value);
            lengths.extend_from_slice(&(value.len() as u64).to_le_bytes());
        }
        self.values.update(&all);
        self.lengths.get_or_insert_with(Hasher::new).update(&lengths);
    }

    /// Lists of one length: all their items one after the other, but for those under a null.
    fn vectors(&mut self, array: &FixedSizeListArray, first_row: u64) -> Result<(), DataError> {
        let items = self.items.get_or_insert_with(|| Box::new(Self::new(&array.value_type())));
        let width = usize::try_from(array.value_length()).unwrap_or(0);
        let mut take = |from: usize, to: usize| {
            let values = array.values().slice(from * width, (to - from) * width);
            items.update(&values, (first_row + from as u64) * width as u64)
        };
        match array.nulls() {
            None => take(0, array.len()),
            Some(nulls) => nulls.valid_slices().try_for_each(|(from, to)| take(from, to)),
        }
    }

    /// Lists, structs, dictionaries: in the comparable form of arrow's row format.
    fn other(&mut self, array: &dyn Array) -> Result<(), DataError> {
        if *array.data_type() == DataType::Null {
            return Ok(());
        }
        let converter = match &mut self.converter {
            Some(converter) => converter,
            empty => empty.insert(RowConverter::new(vec![SortField::new(array.data_type().clone())])?),
        };
        let rows = converter.convert_columns(&[array.slice(0, array.len())])?;
        for row in &rows {
            self.values.update(&(row.as_ref().len() as u64).to_le_bytes());
            self.values.update(row.as_ref());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, Float32Array, Int64Array, LargeStringArray, ListArray, StringArray, StringViewArray},
        datatypes::Int32Type,
    };

    use super::*;

    fn digest(batches: &[RecordBatch]) -> Fingerprint {
        let mut digest = ContentDigest::new(&batches[0].schema());
        for batch in batches {
            digest.update(batch).expect("any batch");
        }
        digest.finish()
    }

    fn batch(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([("a", column, true)]).expect("one column")
    }

    fn columns() -> Vec<ArrayRef> {
        vec![
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)])),
            Arc::new(Float32Array::from(vec![1.0, f32::NAN, 3.0, -0.0])),
            Arc::new(StringArray::from(vec![Some("a"), Some(""), None, Some("bcd")])),
            Arc::new(StringArray::from(vec!["a", "", "xyz", "bcd"])),
            Arc::new(arrow::array::BooleanArray::from(vec![Some(true), None, Some(false), Some(true)])),
            Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
                [Some(vec![Some(1), None]), None, Some(vec![Some(3), Some(4)]), Some(vec![None, Some(1)])],
                2,
            )),
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
                Some(vec![Some(1), None]),
                None,
                Some(vec![]),
                Some(vec![Some(7)]),
            ])),
        ]
    }

    #[test]
    fn cutting_into_batches_does_not_matter() {
        for column in columns() {
            let whole = batch(Arc::clone(&column));
            let expected = digest(std::slice::from_ref(&whole));
            for cut in 0..=4 {
                let parts = [whole.slice(0, cut), whole.slice(cut, 4 - cut)];
                assert_eq!(digest(&parts), expected, "{:?} cut at {cut}", column.data_type());
            }
        }
    }

    #[test]
    fn every_change_of_a_value_matters() {
        for column in columns() {
            let whole = batch(Arc::clone(&column));
            let swapped = [whole.slice(2, 2), whole.slice(0, 2)];
            assert_ne!(digest(std::slice::from_ref(&whole)), digest(&swapped), "{:?}", column.data_type());
            assert_ne!(digest(&[whole.slice(0, 3)]), digest(&[whole]), "{:?}", column.data_type());
        }
        let text = |values: Vec<Option<&str>>| digest(&[batch(Arc::new(StringArray::from(values)))]);
        assert_ne!(text(vec![Some("ab"), Some("c")]), text(vec![Some("a"), Some("bc")]));
        assert_ne!(text(vec![Some("")]), text(vec![None]));
    }

    #[test]
    fn what_lies_under_a_null_does_not_matter() {
        let vectors = |hidden: f32| {
            let values = Float32Array::from(vec![1.0, 2.0, hidden, hidden, 5.0, 6.0]);
            let field = Arc::new(arrow::datatypes::Field::new("item", DataType::Float32, true));
            let nulls = Some(vec![true, false, true].into());
            digest(&[batch(Arc::new(FixedSizeListArray::new(field, 2, Arc::new(values), nulls)))])
        };
        assert_eq!(vectors(0.0), vectors(7.0));
    }

    #[test]
    fn the_way_texts_are_stored_does_not_matter() {
        let values = vec![Some("a"), None, Some("a longer text than fits a view")];
        let plain = digest(&[batch(Arc::new(StringArray::from(values.clone())))]);
        assert_eq!(digest(&[batch(Arc::new(LargeStringArray::from(values.clone())))]), plain);
        assert_eq!(digest(&[batch(Arc::new(StringViewArray::from(values)))]), plain);
    }
}
