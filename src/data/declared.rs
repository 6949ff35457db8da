//! What an entry declares of its columns under `schema:`, and casts that change no value.
//!
//! What is written to a dataset has the declared types, each value exactly, or is refused. Files that say their types themselves have
//! to have them when they are read; others get them from their format.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, Schema, SchemaRef},
    util::display::{ArrayFormatter, FormatOptions},
};
use async_trait::async_trait;
use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::StreamExt as _;

use super::{
    args::bad_option,
    capability::{PartitionWriter, Written},
    error::DataError,
    format::{ColumnTypes, FormatType, parse_sql_type, unknown_sql_type},
    row_outcomes::RowOutcomes,
    schema_difference::{by_name, same_type},
};
use crate::{
    config::{Map, Node, Value},
    diagnostic::Diagnostics,
    model::PartitionKey,
};

/// Types by column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeclaredColumns(Vec<(String, DataType)>);

/// An entry of `schema:` that names no type.
type WrongColumn<'n> = (&'n str, &'n Node);

impl DeclaredColumns {
    /// Reads `schema:`; also returns what names no type.
    fn parse(schema: &Node) -> (Self, Vec<WrongColumn<'_>>) {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for (column, entry) in schema.as_map().into_iter().flat_map(Map::iter) {
            if column.starts_with("x-") || matches!(entry.node.value, Value::Unresolved) {
                continue;
            }
            match entry.node.as_text().and_then(parse_sql_type) {
                Some(data_type) => found.push((column.to_owned(), data_type)),
                None => wrong.push((column, &entry.node)),
            }
        }
        (Self(found), wrong)
    }

    /// The columns, in the order of the entry.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &DataType)> {
        self.0.iter().map(|(name, data_type)| (name.as_str(), data_type))
    }

    /// True if nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The type of a column.
    pub fn get(&self, column: &str) -> Option<&DataType> {
        self.0.iter().find(|(name, _)| name == column).map(|(_, data_type)| data_type)
    }

    /// The columns as those of a table.
    pub fn schema(&self) -> SchemaRef {
        let fields = self.iter().map(|(name, data_type)| Field::new(name, data_type.clone(), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Without the columns that are in the path of a partition.
    fn without_key(&self, key: &PartitionKey) -> Self {
        let own = self.0.iter().filter(|(name, _)| key.file().is_some() || key.get(name).is_none());
        Self(own.cloned().collect())
    }

    /// Columns with the declared types.
    fn applied(&self, dataset: &str, schema: &Schema) -> Result<SchemaRef, DataError> {
        if schema.fields().is_empty() {
            // A list without rows: nothing else says what its columns are.
            return Ok(self.schema());
        }
        let there = by_name(schema);
        if let Some((column, _)) = self.0.iter().find(|(column, _)| !there.contains_key(column.as_str())) {
            let has: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let message = format!(
                "declares column `{column}` under `schema`, and what is written to it has {}\nhelp: give it the column, or remove it from \
                 `schema`",
                has.join(", ")
            );
            return Err(DataError::unsupported(dataset, message));
        }
        let fields = schema.fields().iter().map(|field| match self.get(field.name()) {
            Some(declared) => Field::new(field.name(), declared.clone(), true),
            None => field.as_ref().clone(),
        });
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    /// Rows as they are written.
    pub(super) fn fitted(
        &self,
        dataset: &str,
        rows: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream, DataError> {
        if self.is_empty() {
            return Ok(rows);
        }
        let schema = self.applied(dataset, &rows.schema())?;
        let (dataset, target) = (dataset.to_owned(), schema.clone());
        let fitted = rows.map(move |batch| {
            fit(&dataset, &batch?, &target).map_err(|error| DataFusionError::External(Box::new(error)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, fitted)))
    }

    /// How a partition with these columns is written: its schema, and what `begin` makes of it.
    pub(super) fn fitted_partition(
        &self,
        (dataset, key): (&str, &PartitionKey),
        schema: SchemaRef,
        begin: impl FnOnce(SchemaRef) -> Box<dyn PartitionWriter>,
    ) -> Result<Box<dyn PartitionWriter>, DataError> {
        if self.is_empty() {
            return Ok(begin(schema));
        }
        let schema = self.without_key(key).applied(dataset, &schema)?;
        Ok(Box::new(FittedPartition { dataset: dataset.to_owned(), inner: begin(schema.clone()), schema }))
    }

    /// Refuses data whose files say other types.
    pub(super) fn check(&self, dataset: &str, schema: &Schema) -> Result<(), DataError> {
        let there = by_name(schema);
        for (column, declared) in self.iter() {
            let message = match there.get(column) {
                Some(found) if same_type(found.data_type(), declared) => continue,
                Some(found) => format!(
                    "declares {declared} for column `{column}` under `schema`, and its files hold {}\nhelp: correct `schema`, or convert the \
                     files",
                    found.data_type()
                ),
                None => format!(
                    "declares column `{column}` under `schema`, which its files do not have\nhelp: correct `schema`"
                ),
            };
            return Err(DataError::unsupported(dataset, message));
        }
        Ok(())
    }
}

struct FittedPartition {
    dataset: String,
    schema: SchemaRef,
    inner: Box<dyn PartitionWriter>,
}

#[async_trait]
impl PartitionWriter for FittedPartition {
    async fn write(self: Box<Self>, batch: RecordBatch) -> Result<Box<dyn PartitionWriter>, DataError> {
        let Self { dataset, schema, inner } = *self;
        let inner = inner.write(fit(&dataset, &batch, &schema)?).await?;
        Ok(Box::new(Self { dataset, schema, inner }))
    }

    async fn commit(self: Box<Self>, outcomes: RowOutcomes) -> Result<Written, DataError> {
        self.inner.commit(outcomes).await
    }
}

fn fit(dataset: &str, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, DataError> {
    if batch.num_columns() == 0 && batch.num_rows() == 0 {
        return Ok(RecordBatch::new_empty(schema.clone()));
    }
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        columns.push(cast_exactly(column, field.data_type()).map_err(|inexact| {
            let message = format!(
                "declares {} for column `{}` under `schema`, and what is written to it {inexact}\nhelp: convert the column, or declare \
                 another type",
                field.data_type(),
                field.name()
            );
            DataError::unsupported(dataset, message)
        })?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// What is declared under `schema`, and whether the files say their types themselves; a format whose files do not reads it too.
pub(super) fn declared(
    dataset: &str,
    node: Option<&Node>,
    format: &dyn FormatType,
    problems: &mut Diagnostics,
) -> (DeclaredColumns, bool) {
    let typed = format.column_types() == ColumnTypes::Written;
    let Some(node) = node else { return (DeclaredColumns::default(), typed) };
    if format.column_types() == ColumnTypes::Fixed {
        let message = format!("`schema` is for tables, and `{}` is none", format.type_info().name);
        problems.push(bad_option(dataset, node, &message));
    }
    let (declared, wrong) = DeclaredColumns::parse(node);
    // A format that reads them reports them itself.
    for (column, node) in wrong.into_iter().filter(|_| typed) {
        problems.push(bad_option(dataset, node, &unknown_sql_type(column)));
    }
    (declared, typed)
}

/// A column as another type; the error says what does not fit: `is Float64: 1.5 is no Int64`.
///
/// # Errors
/// When a value would change.
pub fn cast_exactly(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, String> {
    let found = column.data_type();
    if found == wanted {
        return Ok(column.clone());
    }
    if *found == DataType::Null {
        return Ok(new_null_array(wanted, column.len()));
    }
    // A time without a zone is no moment, and the other way round.
    let zoned = |data_type: &DataType| matches!(data_type, DataType::Timestamp(_, Some(_)));
    let times = matches!((found, wanted), (DataType::Timestamp(..), DataType::Timestamp(..)));
    let options = CastOptions { safe: true, format_options: FormatOptions::default() };
    let there = cast_with_options(column, wanted, &options).ok().filter(|_| !times || zoned(found) == zoned(wanted));
    let back = there.as_ref().and_then(|there| cast_with_options(there, found, &options).ok());
    let (Some(there), Some(back)) = (there, back) else { return Err(format!("is {found}")) };
    if back.as_ref() == column.as_ref() {
        return Ok(there);
    }
    let row = (0..column.len()).find(|row| back.slice(*row, 1).as_ref() != column.slice(*row, 1).as_ref());
    let shown = row.and_then(|row| {
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options.format_options).ok()?;
        Some(formatter.value(row).to_string())
    });
    Err(match shown {
        Some(value) => format!("is {found}: {value} is no {wanted}"),
        None => format!("is {found}"),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        AsArray as _, Float64Array, Int64Array, NullArray, StringArray, StringViewArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn casts_change_no_value() {
        let ints = Arc::new(Int64Array::from(vec![Some(1), None, Some(300)])) as ArrayRef;
        let floats = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(300.0)])) as ArrayRef;
        let halves = Arc::new(Float64Array::from(vec![Some(1.0), Some(2.5)])) as ArrayRef;
        let texts = Arc::new(StringArray::from(vec!["1", "02"])) as ArrayRef;
        let views = Arc::new(StringViewArray::from(vec!["a", "b"])) as ArrayRef;
        let times = Arc::new(TimestampMicrosecondArray::from(vec![1_000_001])) as ArrayRef;
        for (column, wanted, expected) in [
            (&floats, DataType::Int64, None),
            (&ints, DataType::Float64, None),
            (&ints, DataType::Int32, None),
            (&ints, DataType::Int8, Some("is Int64: 300 is no Int8")),
            (&halves, DataType::Int64, Some("is Float64: 2.5 is no Int64")),
            (&halves, DataType::Float32, None),
            (&texts, DataType::Int64, Some("is Utf8: 02 is no Int64")),
            (&views, DataType::Utf8, None),
            (&times, DataType::Timestamp(TimeUnit::Nanosecond, None), None),
            (
                &times,
                DataType::Timestamp(TimeUnit::Second, None),
                Some("is Timestamp(µs): 1970-01-01T00:00:01.000001 is no Timestamp(s)"),
            ),
            (&times, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), Some("is Timestamp(µs)")),
            (&ints, DataType::Boolean, Some("is Int64: 300 is no Boolean")),
        ] {
            let cast = cast_exactly(column, &wanted);
            assert_eq!(cast.as_ref().err().map(String::as_str), expected, "{wanted}");
            assert!(cast.map_or(true, |cast| *cast.data_type() == wanted && cast.null_count() == column.null_count()));
        }
        let nulls = cast_exactly(&(Arc::new(NullArray::new(2)) as ArrayRef), &DataType::Utf8).expect("nulls");
        assert_eq!(nulls.as_string::<i32>().null_count(), 2);
    }
}
