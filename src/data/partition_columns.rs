//! The columns that are in the paths of partitions and not in their files: their types, and how rows get them.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
};

use super::error::DataError;
use crate::model::{PartitionKey, PartitionValue};

/// The entries of a field's metadata that are a part of its type.
const EXTENSION: [&str; 2] = ["ARROW:extension:name", "ARROW:extension:metadata"];

/// The partition columns of a dataset, typed: `Int64` where every value is an integer, else `Utf8`.
pub(super) fn partition_fields<'a>(keys: impl Iterator<Item = &'a PartitionKey>) -> Vec<FieldRef> {
    let mut columns: Vec<(String, bool)> = Vec::new();
    for key in keys {
        for (i, (column, value)) in key.columns().enumerate() {
            if columns.len() == i {
                columns.push((column.to_owned(), true));
            }
            columns[i].1 &= matches!(value, PartitionValue::Integer(_));
        }
    }
    let field = |(name, integer): (String, bool)| {
        Field::new(name, if integer { DataType::Int64 } else { DataType::Utf8 }, false)
    };
    columns.into_iter().map(field).map(Arc::new).collect()
}

/// The partition columns of `rows` rows.
pub(super) fn key_columns(
    fields: &[FieldRef],
    key: Option<&PartitionKey>,
    rows: usize,
) -> impl Iterator<Item = ArrayRef> {
    fields.iter().map(move |field| -> ArrayRef {
        let value = key.and_then(|key| key.get(field.name()));
        match (field.data_type(), value) {
            (DataType::Int64, Some(PartitionValue::Integer(number))) => Arc::new(Int64Array::from_value(*number, rows)),
            (_, value) => {
                let text = value.map(ToString::to_string).unwrap_or_default();
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)))
            }
        }
    })
}

/// A batch with the columns of its partition's key behind its own.
pub(super) fn with_key(batch: &RecordBatch, key: &PartitionKey, fields: &[FieldRef]) -> Result<RecordBatch, DataError> {
    let rows = batch.num_rows();
    let schema = batch.schema();
    let own = |field: &&FieldRef| !fields.iter().any(|p| p.name() == field.name());
    let kept: Vec<FieldRef> = schema.fields().iter().filter(own).chain(fields).cloned().collect();
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .filter(|(field, _)| own(field))
        .map(|(_, column)| Arc::clone(column));
    let columns = columns.chain(key_columns(fields, Some(key), rows)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(kept)), columns, &options).map_err(DataError::from)
}

/// A schema without the columns that the paths give, and without metadata but the names of extension types, as of UUIDs.
pub(super) fn without(schema: &Schema, partition_fields: &[FieldRef]) -> SchemaRef {
    let fields = schema.fields().iter().filter(|field| !partition_fields.iter().any(|p| p.name() == field.name()));
    // A file written by others may say that a column is never null while its neighbour's is.
    let plain = |field: &FieldRef| {
        let extension = field.metadata().iter().filter(|(key, _)| EXTENSION.contains(&key.as_str()));
        let extension = extension.map(|(key, value)| (key.clone(), value.clone())).collect();
        Field::new(field.name(), field.data_type().clone(), true).with_metadata(extension)
    };
    Arc::new(Schema::new(fields.map(plain).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_an_integer_unless_any_key_is_a_text() {
        for (paths, expected) in [(["a=1", "a=9"], DataType::Int64), (["a=1", "a=x"], DataType::Utf8)] {
            let keys = paths.map(|path| PartitionKey::parse(path).expect(path));
            assert_eq!(partition_fields(keys.iter())[0].data_type(), &expected, "{paths:?}");
        }
    }
}
