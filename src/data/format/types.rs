//! Names of column types as users write them: those of pandas, polars and SQL.

use arrow::datatypes::{DataType, TimeUnit};

/// The type behind a name; `None` for a name that is not known.
pub(crate) fn parse_type(name: &str) -> Option<DataType> {
    let name = name.trim().to_ascii_lowercase();
    Some(match name.as_str() {
        "str" | "string" | "object" | "utf8" | "text" | "varchar" | "category" | "categorical" => DataType::Utf8,
        "int" | "int64" | "integer" | "bigint" | "long" => DataType::Int64,
        "int32" => DataType::Int32,
        "int16" => DataType::Int16,
        "int8" => DataType::Int8,
        "uint64" => DataType::UInt64,
        "uint32" => DataType::UInt32,
        "uint16" => DataType::UInt16,
        "uint8" => DataType::UInt8,
        "float" | "float64" | "double" | "number" => DataType::Float64,
        "float32" => DataType::Float32,
        "bool" | "boolean" => DataType::Boolean,
        "date" | "date32" => DataType::Date32,
        "datetime" | "timestamp" | "datetime64" | "datetime64[ns]" => DataType::Timestamp(TimeUnit::Nanosecond, None),
        "datetime64[us]" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "datetime64[ms]" => DataType::Timestamp(TimeUnit::Millisecond, None),
        _ => return None,
    })
}
