//! The columns `embedding` and `embedding_error`.
//!
//! Must not know where vectors come from.

use std::sync::Arc;

use arrow::{
    array::{FixedSizeListArray, Float32Array, StringArray},
    buffer::NullBuffer,
    datatypes::{DataType, Field},
};

use super::Embedded;
use crate::model::{RowTally, ServiceError};

/// `embedding_error` of a row without text.
pub const EMPTY_TEXT: &str = "empty_text";
/// `embedding_error` of a row whose vector is not usable.
pub const INVALID_VECTOR: &str = "invalid_vector";

/// The columns of rows whose vectors are contiguous in `values`; a row with an error gets a null vector.
pub(super) fn columns(
    values: Vec<f32>,
    dimensions: usize,
    errors: StringArray,
    tally: RowTally,
) -> Result<Embedded, ServiceError> {
    let size = i32::try_from(dimensions).map_err(|_| ServiceError::Refused(format!("{dimensions} dimensions")))?;
    let valid: NullBuffer = errors.iter().map(|error| error.is_none()).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let nulls = (valid.null_count() > 0).then_some(valid);
    FixedSizeListArray::try_new(item, size, Arc::new(Float32Array::from(values)), nulls)
        .map(|vectors| Embedded { vectors, errors, tally })
        .map_err(|error| ServiceError::Failed(crate::model::excerpt(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use arrow::array::Array as _;

    use super::*;
    use crate::net::client::TOO_LONG;

    #[test]
    fn rows_with_an_error_have_no_vector_and_no_rows_are_no_error() {
        let errors = StringArray::from(vec![None, Some(TOO_LONG)]);
        let embedded = columns(vec![1.0, 0.0, 0.0, 0.0], 2, errors, RowTally::default()).expect("two rows");
        assert!(embedded.vectors.is_valid(0) && embedded.vectors.is_null(1));
        let embedded =
            columns(Vec::new(), 7, StringArray::from(Vec::<&str>::new()), RowTally::default()).expect("no rows");
        assert_eq!((embedded.vectors.len(), embedded.vectors.value_length()), (0, 7));
    }
}
