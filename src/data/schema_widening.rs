//! The columns of several files whose types were inferred from samples, each type wide enough for all of them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use super::schema_difference::by_name;

/// The columns of `first`, with types that hold those of `next` too. A column that only one of them has is left as it is, and
/// a type that no other holds as well: both are reported where the file is read.
pub(super) fn widened(first: &Schema, next: &Schema) -> SchemaRef {
    let there = by_name(next);
    let fields = first.fields().iter().map(|field| match there.get(field.name().as_str()) {
        Some(other) => field_of(field, both(field.data_type(), other.data_type())),
        None => Arc::clone(field),
    });
    Arc::new(Schema::new(fields.collect::<Fields>()))
}

fn field_of(field: &FieldRef, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(field.name(), data_type, true))
}

fn both(a: &DataType, b: &DataType) -> DataType {
    use DataType as T;
    match (a, b) {
        _ if a == b => a.clone(),
        (T::Null, other) | (other, T::Null) => other.clone(),
        (T::Int64 | T::UInt64, T::Float64) | (T::Float64, T::Int64 | T::UInt64) => T::Float64,
        (T::Date32, T::Timestamp(unit, None)) | (T::Timestamp(unit, None), T::Date32) => T::Timestamp(*unit, None),
        (T::Timestamp(_, zone), T::Timestamp(_, other)) if zone == other => {
            T::Timestamp(TimeUnit::Nanosecond, zone.clone())
        }
        (T::List(item), T::List(other)) => T::List(field_of(item, both(item.data_type(), other.data_type()))),
        (T::Struct(fields), T::Struct(others)) => {
            let known = |name: &str| others.iter().find(|other| other.name() == name);
            let merged = fields.iter().map(|field| match known(field.name()) {
                Some(other) => field_of(field, both(field.data_type(), other.data_type())),
                None => Arc::clone(field),
            });
            let more = others.iter().filter(|other| fields.iter().all(|field| field.name() != other.name()));
            T::Struct(merged.chain(more.cloned()).collect())
        }
        (T::List(_) | T::Struct(_), _) | (_, T::List(_) | T::Struct(_)) => a.clone(),
        _ => T::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wider_type_holds_both() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
        for (a, b, expected) in [
            (DataType::Int64, DataType::Float64, DataType::Float64),
            (DataType::Int64, DataType::UInt64, DataType::Utf8),
            (DataType::Null, DataType::Int64, DataType::Int64),
            (DataType::Boolean, DataType::Int64, DataType::Utf8),
            (DataType::Date32, micros.clone(), micros),
            (list(DataType::Int64), list(DataType::Float64), list(DataType::Float64)),
            (list(DataType::Int64), DataType::Int64, list(DataType::Int64)),
        ] {
            assert_eq!(both(&a, &b), expected, "{a} and {b}");
        }
    }
}
