//! Values of any type as strings, none of them lost.

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    compute::cast,
    datatypes::DataType,
};
use datafusion::error::{DataFusionError, Result as DfResult};

/// The column's values as strings; nulls stay nulls.
///
/// # Errors
/// For bytes that are not text in UTF-8, which Arrow would turn into nulls.
pub(super) fn strings(name: &str, column: &ArrayRef) -> DfResult<ArrayRef> {
    let strings = cast(column, &DataType::Utf8)?;
    let lost = (0..column.len()).find(|&row| column.is_valid(row) && strings.is_null(row));
    match lost {
        // A dictionary may hold nulls that its keys do not show.
        Some(row) if column.logical_nulls().is_none_or(|nulls| nulls.is_valid(row)) => {
            let message = format!(
                "column `{name}` is {}, and its value {} is not text in UTF-8; cast the column in a `sql` node before, or \
                 leave it out of the features",
                column.data_type(),
                beginning(&column.slice(row, 1))?
            );
            Err(DataFusionError::Execution(message))
        }
        _ => Ok(strings),
    }
}

/// The first bytes of the one value in `column`, in hexadecimal: rows have been sorted, so their numbers would say nothing.
fn beginning(column: &ArrayRef) -> DfResult<String> {
    const SHOWN: usize = 16;
    let bytes = cast(column, &DataType::LargeBinary)?;
    let value = bytes.as_binary::<i64>().value(0);
    let shown: String = value.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("0x{shown}{}", if value.len() > SHOWN { "…" } else { "" }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, StringArray};

    use super::*;

    #[test]
    fn bytes_are_text_or_an_error() {
        let column =
            |second: &[u8]| -> ArrayRef { Arc::new(BinaryArray::from_opt_vec(vec![None, Some(second), Some(b"abc")])) };
        let expected: ArrayRef = Arc::new(StringArray::from(vec![None, Some("\u{e9}"), Some("abc")]));
        assert_eq!(&strings("name", &column("\u{e9}".as_bytes())).expect("text"), &expected);
        let error = strings("name", &column(b"\xff\xfehello")).expect_err("no text").to_string();
        assert!(
            error.contains("column `name` is Binary, and its value 0xfffe68656c6c6f is not text in UTF-8"),
            "{error}"
        );
    }
}
