//! What the folder of a partition says of its rows.

use arrow::{
    array::{AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Schema},
};

use crate::{function::FunctionError, model::PartitionKey};

/// The columns that are written: those of the key are in the folder's name.
pub(super) fn without_key(schema: &Schema, key: &PartitionKey) -> Schema {
    let fields = schema.fields().iter().filter(|field| key.file().is_some() || key.get(field.name()).is_none());
    Schema::new(fields.cloned().collect::<Vec<_>>())
}

/// Rows of another partition than the one that the function got would be lost.
pub(super) fn check_key(batch: &RecordBatch, key: &PartitionKey) -> Result<(), FunctionError> {
    if key.file().is_some() {
        return Ok(());
    }
    for (column, value) in key.columns() {
        let Some(found) = batch.column_by_name(column) else { continue };
        let texts = cast(found, &DataType::Utf8).map_err(|error| FunctionError::Failed(error.to_string()))?;
        let wanted = value.to_string();
        if let Some(other) = texts.as_string::<i32>().iter().find(|text| text.is_some_and(|text| text != wanted)) {
            return Err(FunctionError::Failed(format!(
                "its result has `{column}` = {}, and the partition is {key}\nhelp: leave the column out, or keep its value",
                other.unwrap_or_default()
            )));
        }
    }
    Ok(())
}
