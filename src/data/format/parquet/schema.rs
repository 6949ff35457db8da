//! The columns of parquet files in Arrow's types.

use std::sync::Arc;

use ::parquet::{
    arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema, parquet_to_arrow_schema},
    errors::ParquetError,
    file::metadata::{FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder},
    schema::types::SchemaDescriptor,
};
use arrow::{
    array::RecordBatch,
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use datafusion::datasource::file_format::parquet::Int96Coercer;

/// The key of a footer under which a file of ours has its columns, where other readers are to see others; the value is
/// that of `ARROW:schema`.
const OWN_COLUMNS: &str = "flow:schema";
/// How the writer's name of our files begins.
pub(super) const WRITER: &str = "flow ";

/// What a footer says about Arrow's columns: those of the schema, and for other readers those of [`readable`].
pub(super) fn footer_entries(schema: &Schema) -> Vec<KeyValue> {
    let entry = |key: &str, schema: &Schema| KeyValue::new(key.to_owned(), encode_arrow_schema(schema));
    let fields = readable(schema.fields(), false);
    if fields == *schema.fields() {
        return vec![entry(ARROW_SCHEMA_META_KEY, schema)];
    }
    let others = Schema::new_with_metadata(fields, schema.metadata().clone());
    vec![entry(ARROW_SCHEMA_META_KEY, &others), entry(OWN_COLUMNS, schema)]
}

/// The fields as lists where vectors of a fixed size may be null: pyarrow before 26, and so pandas, cannot read these
/// from parquet. That depends on the columns alone and not on the rows, since Polars reads no folder whose files differ.
/// `absent`: a row may lack the fields' parent, which counts as a null.
fn readable(fields: &Fields, absent: bool) -> Fields {
    fields.iter().map(|field| readable_field(field, absent)).collect()
}

fn readable_field(field: &FieldRef, absent: bool) -> FieldRef {
    let absent = absent || field.is_nullable();
    let data_type = match field.data_type() {
        DataType::FixedSizeList(item, _) if absent => DataType::List(readable_field(item, false)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(readable_field(item, false), *size),
        DataType::List(item) => DataType::List(readable_field(item, false)),
        DataType::LargeList(item) => DataType::LargeList(readable_field(item, false)),
        DataType::Map(entries, sorted) => DataType::Map(readable_field(entries, false), *sorted),
        DataType::Struct(fields) => DataType::Struct(readable(fields, absent)),
        _ => return field.clone(),
    };
    if data_type == *field.data_type() {
        field.clone()
    } else {
        Arc::new(Field::clone(field).with_data_type(data_type))
    }
}

/// The footer with the columns that a file of ours was given, where it has others for other readers, and with the number of
/// rows that its row groups have, whatever it says itself.
pub(super) fn restored(footer: Arc<ParquetMetaData>) -> Arc<ParquetMetaData> {
    let file = footer.file_metadata();
    let rows = footer.row_groups().iter().fold(0_i64, |rows, group| rows.saturating_add(group.num_rows()));
    let own = own_entries(file);
    if own.is_none() && rows == file.num_rows() {
        return footer;
    }
    let file = FileMetaData::new(
        file.version(),
        rows,
        file.created_by().map(str::to_owned),
        own.or_else(|| file.key_value_metadata().cloned()),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let footer = Arc::unwrap_or_clone(footer).into_builder();
    Arc::new(with_file_metadata(footer, file).build())
}

fn with_file_metadata(mut footer: ParquetMetaDataBuilder, file: FileMetaData) -> ParquetMetaDataBuilder {
    ParquetMetaDataBuilder::new(file)
        .set_row_groups(footer.take_row_groups())
        .set_column_index(footer.take_column_index())
        .set_offset_index(footer.take_offset_index())
}

/// The entries of such a footer. Those that another writer has copied from a file of ours do not count.
fn own_entries(file: &FileMetaData) -> Option<Vec<KeyValue>> {
    let entries = file.key_value_metadata()?;
    let own = entries.iter().find(|entry| entry.key == OWN_COLUMNS)?;
    if !file.created_by()?.starts_with(WRITER) {
        return None;
    }
    let others = entries.iter().filter(|entry| ![ARROW_SCHEMA_META_KEY, OWN_COLUMNS].contains(&entry.key.as_str()));
    let arrow = KeyValue { key: ARROW_SCHEMA_META_KEY.to_owned(), value: own.value.clone() };
    Some(others.cloned().chain([arrow]).collect())
}

/// The columns of a file.
pub(super) fn columns(file: &FileMetaData) -> Result<Schema, ParquetError> {
    let own = own_entries(file);
    let schema = parquet_to_arrow_schema(file.schema_descr(), own.as_ref().or(file.key_value_metadata()))?;
    Ok(with_int96(file.schema_descr(), &schema).unwrap_or(schema))
}

/// The same columns with times of 96 bits in microseconds, as Spark writes them; `None` for columns without such times.
/// Nanoseconds, Arrow's default, reach only from 1677 to 2262.
pub(super) fn with_int96(parquet: &SchemaDescriptor, arrow: &Schema) -> Option<Schema> {
    Int96Coercer::new(parquet, arrow, &TimeUnit::Microsecond).coerce()
}

/// The columns with which a table is stored: parquet has no seconds, which other readers would take for plain integers, and
/// what the library cannot write has a type that it can.
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
        // The library's writer panics at dictionaries of views.
        DataType::Dictionary(key, value) if **value == DataType::Utf8View => {
            DataType::Dictionary(key.clone(), Box::new(DataType::Utf8))
        }
        DataType::Dictionary(key, value) if **value == DataType::BinaryView => {
            DataType::Dictionary(key.clone(), Box::new(DataType::Binary))
        }
        DataType::List(item) => DataType::List(stored_field(item)),
        DataType::LargeList(item) => DataType::LargeList(stored_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(stored_field(item), *size),
        DataType::Map(entries, sorted) => DataType::Map(stored_field(entries), *sorted),
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
