//! What is written of the types that libraries give: they differ in which of the string and list types they use.

use std::sync::Arc;

use arrow::{
    array::{NullArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
};

use super::error::PythonError;

/// The columns as they are written.
pub(super) fn plain_schema(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        let kind = plain_type(field.data_type());
        Field::new(field.name(), kind, true)
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// The type that is written: libraries differ in which of the string types they give.
fn plain_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => {
            DataType::List(Arc::new(Field::new("item", plain_type(item.data_type()), true)))
        }
        DataType::FixedSizeList(item, size) => {
            DataType::FixedSizeList(Arc::new(Field::new("item", plain_type(item.data_type()), true)), *size)
        }
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| Arc::new(Field::new(field.name(), plain_type(field.data_type()), true)))
                .collect(),
        ),
        // pandas numbers categories with as few bits as they need, which differs from one partition to the next.
        DataType::Dictionary(_, value) => match plain_type(value) {
            DataType::Null => DataType::Null,
            value => DataType::Dictionary(Box::new(DataType::Int32), Box::new(value)),
        },
        other => other.clone(),
    }
}

/// Rows with such columns.
pub(super) fn plain_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, PythonError> {
    let wrong = |error: arrow::error::ArrowError| PythonError::Raised(format!("its result cannot be read: {error}"));
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| match field.data_type() {
        kind if kind == column.data_type() => Ok(column.clone()),
        DataType::Null => Ok(Arc::new(NullArray::new(column.len())) as _),
        kind => cast(column, kind),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Array as _, ArrayRef, AsArray as _, DictionaryArray, StringArray},
        datatypes::{Int8Type, Int32Type, UInt32Type},
    };

    use super::*;

    fn plain(column: ArrayRef) -> ArrayRef {
        let batch = RecordBatch::try_from_iter([("c", column)]).expect("a batch");
        plain_batch(&batch, &plain_schema(&batch.schema())).expect("plain").column(0).clone()
    }

    #[test]
    fn categories_have_one_type_however_many_there_are() {
        let small: DictionaryArray<Int8Type> = [Some("a"), None, Some("b"), Some("a")].into_iter().collect();
        let large: DictionaryArray<UInt32Type> = [Some("a"), None, Some("b"), Some("a")].into_iter().collect();
        let wanted: DictionaryArray<Int32Type> = [Some("a"), None, Some("b"), Some("a")].into_iter().collect();
        assert_eq!(plain(Arc::new(small)).as_dictionary::<Int32Type>(), &wanted);
        assert_eq!(plain(Arc::new(large)).as_dictionary::<Int32Type>(), &wanted);
        let none: DictionaryArray<Int8Type> = std::iter::repeat_n(None::<&str>, 3).collect();
        assert_eq!(plain(Arc::new(none)).null_count(), 3);
        let unknown = DictionaryArray::<Int8Type>::new(vec![None, None].into(), Arc::new(NullArray::new(0)));
        assert_eq!(plain(Arc::new(unknown)).data_type(), &DataType::Null);
        let words: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        assert_eq!(&plain(words.clone()), &words);
    }
}
