//! The columns of a result that are added to those of the input.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use super::error::FunctionError;
use crate::model::PartitionKey;

/// The input's columns without those of the partition's key, and the new ones.
///
/// # Errors
/// When the input has a column of the same name, which would be overwritten silently; `help` says what to do.
pub(super) fn with_columns(
    new: Vec<Field>,
    input: &Schema,
    key: &PartitionKey,
    help: &str,
) -> Result<SchemaRef, FunctionError> {
    if let Some(there) = new.iter().find(|field| input.column_with_name(field.name()).is_some()) {
        return Err(FunctionError::Failed(format!("the input already has a column `{}`; {help}", there.name())));
    }
    let kept = input.fields().iter().filter(|field| key.get(field.name()).is_none()).map(|field| (**field).clone());
    Ok(Arc::new(Schema::new(kept.chain(new).collect::<Vec<_>>())))
}

/// The error of a column that is needed and missing.
pub(super) fn no_column(schema: &Schema, name: &str) -> FunctionError {
    let names: Vec<_> = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect();
    FunctionError::Failed(format!("the input has no column `{name}`; it has {}", names.join(", ")))
}
