//! Cuts a stream that is sorted by its partition columns into partitions: one is open at a time.
//!
//! A partition may span many batches and a batch may hold many partitions. What was closed must not come again, and
//! a row without a key is refused: readers disagree about what such a row means.

use std::{collections::HashSet, ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions},
    compute::{cast, partition},
    datatypes::{DataType, Int64Type, Schema, SchemaRef},
    util::display::{ArrayFormatter, FormatOptions},
};

use super::error::DataError;
use crate::model::{NULL_PARTITION, PartitionKey, PartitionValue};

/// Rows of one partition, in order; there may be more in the next batch.
pub(super) struct Slice {
    /// Which partition.
    pub(super) key: PartitionKey,
    /// Its rows, without the partition columns.
    pub(super) batch: RecordBatch,
    /// True when these are its first rows.
    pub(super) first: bool,
}

/// Finds the keys of rows.
pub(super) struct PartitionSplitter {
    dataset: String,
    columns: Vec<(Arc<str>, usize)>,
    kept: Vec<usize>,
    schema: SchemaRef,
    open: Option<PartitionKey>,
    closed: HashSet<String>,
    rows: u64,
}

impl PartitionSplitter {
    /// Cuts by these columns.
    ///
    /// # Errors
    /// When a column is missing, or none would be left beside them.
    pub(super) fn new(dataset: &str, schema: &Schema, by: &[String]) -> Result<Self, DataError> {
        let mut columns = Vec::new();
        for name in by {
            let index = schema.index_of(name).map_err(|_| {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let help = crate::diagnostic::did_you_mean(name, names.iter().copied())
                    .unwrap_or_else(|| format!("its columns are {}", names.join(", ")));
                DataError::unsupported(
                    dataset,
                    format!("is partitioned by `{name}`, which the table written to it lacks; {help}"),
                )
            })?;
            columns.push((Arc::from(name.as_str()), index));
        }
        let kept: Vec<usize> =
            (0..schema.fields().len()).filter(|i| columns.iter().all(|(_, column)| column != i)).collect();
        if kept.is_empty() {
            return Err(DataError::unsupported(
                dataset,
                "is partitioned by every column of the table written to it; leave at least one",
            ));
        }
        let fields: Vec<_> = kept.iter().map(|i| Arc::clone(&schema.fields()[*i])).collect();
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { dataset: dataset.to_owned(), columns, kept, schema, open: None, closed: HashSet::new(), rows: 0 })
    }

    /// The columns that go into the files.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The partitions of a batch, in order.
    pub(super) fn cut(&mut self, batch: &RecordBatch) -> Result<Vec<Slice>, DataError> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let keys: Vec<ArrayRef> = self.columns.iter().map(|(_, i)| Arc::clone(batch.column(*i))).collect();
        for ((name, _), array) in self.columns.iter().zip(&keys) {
            if let Some(row) = first_null(array) {
                return Err(DataError::NullKey {
                    dataset: self.dataset.clone(),
                    column: name.to_string(),
                    row: self.rows + row as u64 + 1,
                });
            }
        }
        let columns = self.kept.iter().map(|i| Arc::clone(batch.column(*i))).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let data = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let mut slices = Vec::new();
        for Range { start, end } in partition(&keys)?.ranges() {
            let key = self.key(&keys, start)?;
            let first = self.open.as_ref() != Some(&key);
            if first {
                let path = key.path();
                if self.closed.contains(&path) {
                    return Err(DataError::Unsorted {
                        dataset: self.dataset.clone(),
                        key: key.to_string(),
                        row: self.rows + start as u64 + 1,
                    });
                }
                self.closed.insert(path);
                self.open = Some(key.clone());
            }
            slices.push(Slice { key, batch: data.slice(start, end - start), first });
        }
        self.rows += batch.num_rows() as u64;
        Ok(slices)
    }

    fn key(&self, keys: &[ArrayRef], row: usize) -> Result<PartitionKey, DataError> {
        let columns = self
            .columns
            .iter()
            .zip(keys)
            .map(|((name, _), array)| Ok((Arc::clone(name), self.value(name, array, row)?)));
        Ok(PartitionKey::new(columns.collect::<Result<Vec<_>, DataError>>()?))
    }

    fn value(&self, column: &str, array: &ArrayRef, row: usize) -> Result<PartitionValue, DataError> {
        use DataType as T;
        let text = match array.data_type() {
            T::Int64 => return Ok(PartitionValue::Integer(array.as_primitive::<Int64Type>().value(row))),
            kind if kind.is_integer() && *kind != T::UInt64 => {
                let number = cast(&array.slice(row, 1), &T::Int64)?;
                return Ok(PartitionValue::Integer(number.as_primitive::<Int64Type>().value(0)));
            }
            T::Utf8 => array.as_string::<i32>().value(row).to_owned(),
            T::Utf8View => array.as_string_view().value(row).to_owned(),
            kind if kind.is_nested()
                || kind.is_floating()
                || matches!(kind, T::Binary | T::LargeBinary | T::BinaryView) =>
            {
                let message =
                    format!("cannot be partitioned by `{column}`, which is {kind}; expected an integer or a string");
                return Err(DataError::unsupported(&self.dataset, message));
            }
            _ => ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).to_string(),
        };
        if text == NULL_PARTITION {
            let message = format!(
                "cannot hold a partition whose `{column}` is the text {NULL_PARTITION}: readers take it for a missing value"
            );
            return Err(DataError::unsupported(&self.dataset, message));
        }
        Ok(PartitionValue::from_text(&text))
    }
}

fn first_null(array: &ArrayRef) -> Option<usize> {
    // A dictionary may hold its null among the values.
    let nulls = array.logical_nulls()?;
    (nulls.null_count() > 0).then(|| (0..array.len()).find(|row| nulls.is_null(*row)))?
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn batch(keys: &[Option<i64>]) -> RecordBatch {
        let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..keys.len() as i64));
        RecordBatch::try_from_iter_with_nullable([("v", values, true), ("k", keys, true)]).expect("two columns")
    }

    fn splitter() -> PartitionSplitter {
        PartitionSplitter::new("d", &batch(&[]).schema(), &["k".to_owned()]).expect("k is there")
    }

    #[test]
    fn a_partition_may_span_batches_and_a_batch_partitions() {
        let mut splitter = splitter();
        let mut seen = Vec::new();
        for part in [&[Some(1), Some(1), Some(2)][..], &[], &[Some(2)], &[Some(10)]] {
            for slice in splitter.cut(&batch(part)).expect("sorted") {
                assert_eq!(slice.batch.num_columns(), 1);
                seen.push((slice.key.to_string(), slice.batch.num_rows(), slice.first));
            }
        }
        let shown = [("k=1", 2, true), ("k=2", 1, true), ("k=2", 1, false), ("k=10", 1, true)];
        assert_eq!(seen, shown.map(|(key, rows, first)| (key.to_owned(), rows, first)));
    }

    #[test]
    fn unsorted_and_null_keys_are_named_with_their_row() {
        let mut sorted = splitter();
        sorted.cut(&batch(&[Some(1), Some(2)])).expect("sorted so far");
        let error = sorted.cut(&batch(&[Some(2), Some(1)])).err().expect("1 was closed").to_string();
        assert!(error.contains("`k=1`") && error.contains("row 4"), "{error}");

        let error = splitter().cut(&batch(&[Some(1), None])).err().expect("null").to_string();
        assert!(error.contains("`k`") && error.contains("row 2"), "{error}");
    }

    #[test]
    fn columns_are_checked_before_anything_is_written() {
        let schema = batch(&[]).schema();
        let error = PartitionSplitter::new("d", &schema, &["kk".to_owned()]).err().expect("no such column").to_string();
        assert!(error.contains("did you mean `k`"), "{error}");
        assert!(PartitionSplitter::new("d", &schema, &["k".to_owned(), "v".to_owned()]).is_err());
    }

    #[test]
    fn texts_become_keys_that_read_back() {
        let keys: ArrayRef = Arc::new(StringArray::from(vec!["007", "12", "a/b c%é"]));
        let batch = RecordBatch::try_from_iter([("k", Arc::clone(&keys)), ("v", keys)]).expect("two columns");
        let mut splitter = PartitionSplitter::new("d", &batch.schema(), &["k".to_owned()]).expect("k is there");
        for slice in splitter.cut(&batch).expect("distinct") {
            assert_eq!(PartitionKey::parse(&slice.key.path()).expect("reads back"), slice.key);
        }
    }
}
