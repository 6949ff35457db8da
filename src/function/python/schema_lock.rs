//! The columns that all partitions of an output have: those of the first, to which the others are cast without loss.
//!
//! A partition of nulls has columns of no type: they do not decide, and get the type of the others.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema, SchemaRef},
};

use super::key::without_key;
use crate::{
    data::{DeclaredColumns, cast_exactly, same_type},
    function::KnownColumns,
    model::PartitionKey,
};

#[derive(Debug, Default)]
pub(super) struct SchemaLock {
    declared: DeclaredColumns,
    locked: Mutex<Option<Locked>>,
}

#[derive(Debug)]
struct Locked {
    /// The columns in their order, with the partition that decided each.
    columns: Vec<(Field, String)>,
}

impl SchemaLock {
    /// Columns of which these have a type from the start.
    pub(super) fn new(declared: DeclaredColumns) -> Self {
        Self { declared, locked: Mutex::default() }
    }

    /// The columns that a partition is written with, of those that a function gave; an error names the column, both types
    /// and both partitions.
    pub(super) fn lock(&self, key: &PartitionKey, schema: &Schema) -> Result<SchemaRef, String> {
        let (partition, schema) = (key.to_string(), without_key(schema, key));
        let declared = |field: &Arc<Field>| match self.declared.get(field.name()) {
            Some(data_type) => Field::new(field.name(), data_type.clone(), true),
            None => field.as_ref().clone(),
        };
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        if schema.fields().is_empty() {
            return self.without_rows(locked.as_ref(), key);
        }
        let Some(known) = locked.as_mut() else {
            let columns: Vec<Field> = schema.fields().iter().map(declared).collect();
            *locked = Some(Locked { columns: columns.iter().map(|one| (one.clone(), partition.clone())).collect() });
            return Ok(Arc::new(Schema::new(columns)));
        };
        const HELP: &str = "help: give the same columns of the same types for every partition, or declare them under `schema` of the output";
        for (field, first) in &mut known.columns {
            let name = field.name();
            let Ok(found) = schema.field_with_name(name) else {
                return Err(format!("its result lacks the column `{name}`, which partition {first} has\n{HELP}"));
            };
            let (wanted, found) = (field.data_type(), found.data_type());
            if *wanted == DataType::Null && *found != DataType::Null {
                *field = Field::new(name, found.clone(), true);
                first.clone_from(&partition);
            } else if wanted != found && self.declared.get(name).is_none() && !may_fit(found, wanted) {
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
        Ok(known.schema())
    }

    /// The columns of a partition that has no rows and therefore, given as a list of them, no columns.
    fn without_rows(&self, locked: Option<&Locked>, key: &PartitionKey) -> Result<SchemaRef, String> {
        if let Some(known) = locked {
            return Ok(known.schema());
        }
        if self.declared.is_empty() {
            return Err("its result has no columns; a list without rows has none\nhelp: give an empty table that has columns, or declare them \
                        under `schema` of the output"
                .to_owned());
        }
        Ok(Arc::new(without_key(&self.declared.schema(), key)))
    }
}

impl Locked {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|(field, _)| field.clone()).collect::<Vec<_>>()))
    }
}

impl KnownColumns for SchemaLock {
    fn add(&self, partition: &PartitionKey, schema: &Schema) -> bool {
        // What does not fit is an error of the next partition that is computed.
        match self.lock(partition, schema) {
            Ok(schema) => schema.fields().iter().all(|field| *field.data_type() != DataType::Null),
            Err(_) => true,
        }
    }
}

/// True for types of which some values are the same.
fn may_fit(found: &DataType, wanted: &DataType) -> bool {
    *found == DataType::Null
        || same_type(found, wanted)
        || found.is_numeric() && wanted.is_numeric()
        || matches!((found, wanted), (DataType::Timestamp(_, one), DataType::Timestamp(_, other)) if one == other)
}

/// Rows in the columns of a schema. A value that would change is an error.
pub(super) fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
    if batch.num_columns() == 0 && batch.num_rows() == 0 {
        return Ok(RecordBatch::new_empty(schema.clone()));
    }
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = batch.column_by_name(field.name()).ok_or_else(|| format!("no column `{}`", field.name()))?;
        columns.push(exactly(column, field)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|error| error.to_string())
}

fn exactly(column: &ArrayRef, field: &Field) -> Result<ArrayRef, String> {
    cast_exactly(column, field.data_type()).map_err(|inexact| {
        format!(
            "column `{}` of its result {inexact}, which it is in other partitions\nhelp: give the same columns of the same types for every \
             partition, or declare them under `schema` of the output",
            field.name()
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

    fn key(folder: &str) -> PartitionKey {
        PartitionKey::parse(folder).expect("a hive folder")
    }

    fn locked(first: ArrayRef, second: ArrayRef) -> Result<ArrayRef, String> {
        let lock = SchemaLock::default();
        lock.lock(&key("bucket=0"), &batch(vec![("x", first)]).schema())?;
        let second = batch(vec![("x", second)]);
        Ok(fit(&second, &lock.lock(&key("bucket=1"), &second.schema())?)?.column(0).clone())
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
    fn a_partition_without_rows_has_the_columns_of_the_others_or_those_that_are_declared() {
        let empty = Schema::empty();
        let lock = SchemaLock::default();
        let error = lock.lock(&key("bucket=0"), &empty).expect_err("nothing is known");
        assert!(error.contains("its result has no columns"), "{error}");
        let first = batch(vec![("x", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
        lock.lock(&key("bucket=1"), &first.schema()).expect("the first");
        let known = lock.lock(&key("bucket=2"), &empty).expect("columns of the others");
        assert_eq!(known, first.schema());
        assert_eq!(fit(&RecordBatch::new_empty(Arc::new(empty)), &known).expect("no rows").schema(), first.schema());
    }

    #[test]
    fn other_columns_and_types_are_errors_that_name_both_partitions_columns() {
        let ints = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        let error = locked(ints(), Arc::new(StringArray::from(vec!["a"]))).expect_err("a string");
        assert!(error.contains("column `x` of its result is Utf8, and Int64 in partition bucket=0"), "{error}");
        let lock = SchemaLock::default();
        lock.lock(&key("bucket=0"), &batch(vec![("x", ints())]).schema()).expect("the first");
        let other = |columns| lock.lock(&key("bucket=1"), &batch(columns).schema()).expect_err("other columns");
        assert!(other(vec![("y", ints())]).contains("lacks the column `x`, which partition bucket=0 has"));
        assert!(
            other(vec![("x", ints()), ("y", ints())]).contains("has the column `y`, which partition bucket=0 lacks")
        );
    }
}
