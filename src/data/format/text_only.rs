//! What formats of text cannot hold: bytes, and in JSON floats that are no numbers.

use arrow::{
    array::{Array, ArrayRef, AsArray as _, RecordBatch},
    datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type},
};

/// True for a type that holds bytes.
pub(super) fn is_binary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => true,
        DataType::Dictionary(_, value) => is_binary(value),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => is_binary(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| is_binary(field.data_type())),
        _ => false,
    }
}

/// Why a column cannot be written.
pub(super) fn has_no(what: &str, field: &Field) -> String {
    format!("has no {what}, and column `{}` is {}: leave it out, or make text of it", field.name(), field.data_type())
}

/// The row and the column of the first float that is infinite or not a number.
pub(super) fn not_finite(batch: &RecordBatch) -> Option<(usize, String)> {
    let schema = batch.schema();
    let columns = batch.columns().iter().zip(schema.fields());
    columns.filter_map(|(column, field)| Some((first(column)?, field.name().clone()))).min_by_key(|(row, _)| *row)
}

fn first(column: &ArrayRef) -> Option<usize> {
    let row_of = |offsets: &mut dyn Iterator<Item = usize>, at: usize| offsets.take_while(|&end| end <= at).count();
    match column.data_type() {
        DataType::Float16 => {
            column.as_primitive::<Float16Type>().iter().position(|n| n.is_some_and(|n| !n.is_finite()))
        }
        DataType::Float32 => {
            column.as_primitive::<Float32Type>().iter().position(|n| n.is_some_and(|n| !n.is_finite()))
        }
        DataType::Float64 => {
            column.as_primitive::<Float64Type>().iter().position(|n| n.is_some_and(|n| !n.is_finite()))
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            // What a list that is null or was cut off holds is not written; such a file is refused all the same.
            let at = first(lists.values())?;
            Some(row_of(&mut lists.offsets().iter().skip(1).map(|&end| end as usize), at))
        }
        DataType::LargeList(_) => {
            let lists = column.as_list::<i64>();
            let at = first(lists.values())?;
            Some(row_of(&mut lists.offsets().iter().skip(1).map(|&end| end as usize), at))
        }
        DataType::FixedSizeList(_, size) => {
            let lists = column.as_fixed_size_list();
            first(lists.values()).map(|at| at / usize::try_from(*size).unwrap_or(1).max(1))
        }
        DataType::Struct(_) => column.as_struct().columns().iter().filter_map(first).min(),
        DataType::Map(..) => {
            let maps = column.as_map();
            let at = maps.entries().columns().iter().filter_map(first).min()?;
            Some(row_of(&mut maps.offsets().iter().skip(1).map(|&end| end as usize), at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Float64Array, ListArray};

    use super::*;

    #[test]
    fn a_float_that_is_no_number_is_found_with_its_row() {
        let finite: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(1e308)]));
        let last: ArrayRef = Arc::new(Float32Array::from(vec![0.0, 1.0, f32::NEG_INFINITY]));
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([
            Some(vec![Some(1.0), Some(2.0)]),
            Some(vec![Some(f64::NAN)]),
            None,
        ]));
        for (columns, expected) in [
            (vec![("a", finite.clone())], None),
            (vec![("a", finite.clone()), ("b", last.clone())], Some((2, "b".to_owned()))),
            (vec![("b", last), ("l", list)], Some((1, "l".to_owned()))),
        ] {
            assert_eq!(not_finite(&RecordBatch::try_from_iter(columns).expect("a table")), expected);
        }
    }
}
