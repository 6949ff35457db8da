//! The columns that all partitions of an output have: those of the first, to which the others are cast without loss.
//!
//! A partition of nulls has columns of no type: they do not decide, and get the type of the others.

use std::sync::{Mutex, PoisonError};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, Schema, SchemaRef},
    util::display::FormatOptions,
};

#[derive(Debug, Default)]
pub(super) struct SchemaLock(Mutex<Option<Locked>>);

#[derive(Debug)]
struct Locked {
    /// The columns in their order, with the partition that decided each.
    columns: Vec<(Field, String)>,
}

impl SchemaLock {
    /// The columns that a partition is written with; an error names the column, both types and both partitions.
    pub(super) fn lock(&self, partition: &str, schema: &Schema) -> Result<SchemaRef, String> {
        let mut locked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = locked.as_mut() else {
            let columns = schema.fields().iter().map(|field| (field.as_ref().clone(), partition.to_owned())).collect();
            *locked = Some(Locked { columns });
            return Ok(std::sync::Arc::new(schema.clone()));
        };
        const HELP: &str = "help: give the same columns of the same types for every partition";
        for (field, first) in &mut known.columns {
            let name = field.name();
            let Ok(found) = schema.field_with_name(name) else {
                return Err(format!("its result lacks the column `{name}`, which partition {first} has\n{HELP}"));
            };
            let (wanted, found) = (field.data_type(), found.data_type());
            if *wanted == DataType::Null && *found != DataType::Null {
                *field = Field::new(name, found.clone(), true);
                partition.clone_into(first);
            } else if wanted != found && !may_fit(found, wanted) {
                return Err(format!(
                    "column `{name}` of its result is {found}, and {wanted} in partition {first}\n{HELP}"
                ));
            }
        }
        let extra =
            schema.fields().iter().find(|field| known.columns.iter().all(|(one, _)| one.name() != field.name()));
        if let (Some(extra), Some((_, first))) = (extra, known.columns.first()) {
            return Err(format!("its result has the column `{}`, which partition {first} lacks\n{HELP}", extra.name()));
        }
        Ok(std::sync::Arc::new(Schema::new(known.columns.iter().map(|(field, _)| field.clone()).collect::<Vec<_>>())))
    }
}

/// True for types of which some values are the same.
fn may_fit(found: &DataType, wanted: &DataType) -> bool {
    *found == DataType::Null
        || found.is_numeric() && wanted.is_numeric()
        || matches!((found, wanted), (DataType::Timestamp(_, one), DataType::Timestamp(_, other)) if one == other)
}

/// Rows in the columns of a schema. A value that would change is an error.
pub(super) fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = batch.column_by_name(field.name()).ok_or_else(|| format!("no column `{}`", field.name()))?;
        columns.push(exactly(column, field)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|error| error.to_string())
}

fn exactly(column: &ArrayRef, field: &Field) -> Result<ArrayRef, String> {
    let wanted = field.data_type();
    if column.data_type() == wanted {
        return Ok(column.clone());
    }
    if *column.data_type() == DataType::Null {
        return Ok(new_null_array(wanted, column.len()));
    }
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    let lossless = || {
        let there = cast_with_options(column, wanted, &options).ok()?;
        let back = cast_with_options(&there, column.data_type(), &options).ok()?;
        (back.as_ref() == column.as_ref()).then_some(there)
    };
    lossless().ok_or_else(|| {
        format!(
            "column `{}` of its result is {} with values that are no {wanted}, which it is in another partition\nhelp: give the \
             same columns of the same types for every partition",
            field.name(),
            column.data_type()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, NullArray, StringArray};

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .expect("a batch")
    }

    fn locked(first: ArrayRef, second: ArrayRef) -> Result<ArrayRef, String> {
        let lock = SchemaLock::default();
        lock.lock("bucket=0", &batch(vec![("x", first)]).schema())?;
        let second = batch(vec![("x", second)]);
        Ok(fit(&second, &lock.lock("bucket=1", &second.schema())?)?.column(0).clone())
    }

    #[test]
    fn nulls_and_exact_numbers_take_the_type_of_the_first_partition() {
        let ints = || Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef;
        let floats = |values: Vec<Option<f64>>| Arc::new(Float64Array::from(values)) as ArrayRef;
        assert_eq!(locked(ints(), Arc::new(NullArray::new(2))).expect("nulls").data_type(), &DataType::Int64);
        assert_eq!(&locked(ints(), floats(vec![Some(1.0), None])).expect("whole numbers"), &ints());
        assert_eq!(locked(Arc::new(NullArray::new(2)), ints()).expect("the first type").data_type(), &DataType::Int64);
        let error = locked(ints(), floats(vec![Some(1.5)])).expect_err("a fraction");
        assert!(error.contains("column `x`") && error.contains("Float64") && error.contains("Int64"), "{error}");
    }

    #[test]
    fn other_columns_and_types_are_errors_that_name_both_partitions_columns() {
        let ints = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        let error = locked(ints(), Arc::new(StringArray::from(vec!["a"]))).expect_err("a string");
        assert!(error.contains("column `x` of its result is Utf8, and Int64 in partition bucket=0"), "{error}");
        let lock = SchemaLock::default();
        lock.lock("bucket=0", &batch(vec![("x", ints())]).schema()).expect("the first");
        let other = |columns| lock.lock("bucket=1", &batch(columns).schema()).expect_err("other columns");
        assert!(other(vec![("y", ints())]).contains("lacks the column `x`, which partition bucket=0 has"));
        assert!(
            other(vec![("x", ints()), ("y", ints())]).contains("has the column `y`, which partition bucket=0 lacks")
        );
    }
}
