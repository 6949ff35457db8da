//! Whether two files of one dataset hold the same columns, whatever their writers say of what may be null.

use std::collections::HashMap;

use arrow::datatypes::{DataType, FieldRef, Schema};

/// The columns of a table by name: looking through a schema for each of its columns takes the square of their number.
pub(super) fn by_name(schema: &Schema) -> HashMap<&str, &FieldRef> {
    schema.fields().iter().map(|field| (field.name().as_str(), field)).collect()
}

/// How a file's columns differ from the dataset's, in words; `None` when they hold the same.
pub(super) fn difference(expected: &Schema, found: &Schema) -> Option<String> {
    let (known, there) = (by_name(expected), by_name(found));
    for field in expected.fields() {
        let Some(other) = there.get(field.name().as_str()) else {
            return Some(format!("it lacks column `{}`", field.name()));
        };
        if !same_type(field.data_type(), other.data_type()) {
            return Some(format!("its column `{}` is {}, not {}", field.name(), other.data_type(), field.data_type()));
        }
    }
    let extra = found.fields().iter().find(|field| !known.contains_key(field.name().as_str()))?;
    Some(format!("it has another column, `{}`", extra.name()))
}

/// True for types that hold the same values.
pub fn same_type(a: &DataType, b: &DataType) -> bool {
    use DataType as T;
    let text = |t: &T| matches!(t, T::Utf8 | T::LargeUtf8 | T::Utf8View);
    let bytes = |t: &T| matches!(t, T::Binary | T::LargeBinary | T::BinaryView);
    match (a, b) {
        (T::Dictionary(_, value), other) | (other, T::Dictionary(_, value)) => same_type(value, other),
        // The name of a list's items and what may be null is up to the writer.
        (T::List(a) | T::LargeList(a), T::List(b) | T::LargeList(b)) => same_type(a.data_type(), b.data_type()),
        (T::FixedSizeList(a, n), T::FixedSizeList(b, m)) => n == m && same_type(a.data_type(), b.data_type()),
        (T::Struct(a), T::Struct(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && same_type(a.data_type(), b.data_type()))
        }
        _ => a == b || (text(a) && text(b)) || (bytes(a) && bytes(b)),
    }
}
