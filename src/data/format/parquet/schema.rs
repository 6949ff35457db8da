//! The columns of parquet files in Arrow's types.

use ::parquet::{
    arrow::parquet_to_arrow_schema, errors::ParquetError, file::metadata::FileMetaData, schema::types::SchemaDescriptor,
};
use arrow::{
    array::RecordBatch,
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use datafusion::datasource::file_format::parquet::Int96Coercer;

/// The columns of a file.
pub(super) fn columns(file: &FileMetaData) -> Result<Schema, ParquetError> {
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
    Ok(with_int96(file.schema_descr(), &schema).unwrap_or(schema))
}

/// The same columns with times of 96 bits in microseconds, as Spark writes them; `None` for columns without such times.
/// Nanoseconds, Arrow's default, reach only from 1677 to 2262.
pub(super) fn with_int96(parquet: &SchemaDescriptor, arrow: &Schema) -> Option<Schema> {
    Int96Coercer::new(parquet, arrow, &TimeUnit::Microsecond).coerce()
}

/// The columns with which a table is stored: parquet has no seconds, which other readers would take for plain integers.
pub(super) fn stored(schema: &SchemaRef) -> SchemaRef {
    let fields = stored_fields(schema.fields());
    if fields == *schema.fields() {
        schema.clone()
    } else {
        Schema::new_with_metadata(fields, schema.metadata().clone()).into()
    }
}

fn stored_fields(fields: &Fields) -> Fields {
    fields.iter().map(stored_field).collect()
}

fn stored_field(field: &FieldRef) -> FieldRef {
    let stored = stored_type(field.data_type());
    if stored == *field.data_type() { field.clone() } else { Field::clone(field).with_data_type(stored).into() }
}

fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(TimeUnit::Second, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        DataType::Date64 => DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Time32(TimeUnit::Second) => DataType::Time32(TimeUnit::Millisecond),
        DataType::List(item) => DataType::List(stored_field(item)),
        DataType::Struct(fields) => DataType::Struct(stored_fields(fields)),
        other => other.clone(),
    }
}

/// A batch with the columns of [`stored`].
///
/// # Errors
/// For a time that milliseconds do not reach.
pub(super) fn in_stored(batch: &RecordBatch, stored: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == stored {
        return Ok(batch.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(stored.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            return Ok(column.clone());
        }
        cast_with_options(column, field.data_type(), &options)
    });
    RecordBatch::try_new(stored.clone(), columns.collect::<Result<Vec<_>, _>>()?)
}
