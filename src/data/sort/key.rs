//! What rows are compared by: the first column as bytes, its beginning as a number, the other columns as bytes.

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray},
    datatypes::{DataType, SchemaRef},
    error::ArrowError,
    row::{RowConverter, Rows, SortField},
};

use super::chunk::NULLS_LAST;

/// Bytes of a key that are compared at once.
pub(super) const PREFIX: usize = 16;

/// The first column as bytes that sort like its values.
pub(super) enum Keys {
    Text(StringArray),
    Encoded(Rows, ArrayRef),
}

impl Keys {
    pub(super) fn of(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let column = batch.column(0);
        if *column.data_type() == DataType::Utf8 {
            return Ok(Self::Text(column.as_string::<i32>().clone()));
        }
        let converter = RowConverter::new(vec![SortField::new_with_options(column.data_type().clone(), NULLS_LAST)])?;
        Ok(Self::Encoded(converter.convert_columns(std::slice::from_ref(column))?, column.clone()))
    }

    /// `None` for null.
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Text(texts) => texts.is_valid(row).then(|| texts.value(row).as_bytes()),
            Self::Encoded(rows, column) => column.is_valid(row).then(|| rows.row(row).data()),
        }
    }
}

/// Sixteen bytes of a key from `depth` on, as a number that sorts like them; zeros follow a key that ends before.
pub(super) fn prefix(key: &[u8], depth: usize) -> u128 {
    let rest = key.get(depth..).unwrap_or_default();
    // Two reads that overlap, where a copy of so few bytes, of a length that is not known before, would be a call.
    let (high, low) = match (rest.first_chunk(), rest.last_chunk(), rest.len()) {
        (Some(high), _, PREFIX..) => {
            let low = rest[8..].first_chunk().map_or(0, |low| u64::from_be_bytes(*low));
            (u64::from_be_bytes(*high), low)
        }
        (Some(high), Some(last), length) => {
            let shift = 8 * (PREFIX - length) as u32;
            (u64::from_be_bytes(*high), u64::from_be_bytes(*last).checked_shl(shift).unwrap_or(0))
        }
        _ => {
            let short = rest.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
            (short.checked_shl(8 * (8 - rest.len()) as u32).unwrap_or(0), 0)
        }
    };
    u128::from(high) << 64 | u128::from(low)
}

/// Compares rows by all columns but the first; `None` when there are no others.
pub(super) fn rest_converter(schema: &SchemaRef) -> Result<Option<RowConverter>, ArrowError> {
    let fields = schema.fields().iter().skip(1);
    let fields: Vec<SortField> =
        fields.map(|field| SortField::new_with_options(field.data_type().clone(), NULLS_LAST)).collect();
    if fields.is_empty() { Ok(None) } else { RowConverter::new(fields).map(Some) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_prefix_is_the_next_sixteen_bytes(key in proptest::collection::vec(any::<u8>(), 0..40), depth in 0..42_usize) {
            let mut bytes = [0; PREFIX];
            for (to, from) in bytes.iter_mut().zip(key.iter().skip(depth)) {
                *to = *from;
            }
            prop_assert_eq!(prefix(&key, depth), u128::from_be_bytes(bytes));
        }
    }
}
