//! The types of SQL: what `schema:` of a dataset says of its columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::sql::sqlparser::{
    ast::{ArrayElemTypeDef, DataType as Sql, ExactNumberInfo, TimezoneInfo},
    dialect::GenericDialect,
    parser::Parser,
    tokenizer::Token,
};

/// The names that a message offers.
const EXAMPLES: &str =
    "BOOLEAN, BIGINT, INTEGER, DOUBLE, REAL, DECIMAL(10, 2), VARCHAR, DATE, TIME, TIMESTAMP, TIMESTAMP WITH TIME ZONE";
/// Digits of a decimal number.
const DIGITS: u8 = 38;

/// The type of a name, in capital letters or not; `None` for one that is not known here.
pub(in crate::data) fn parse(name: &str) -> Option<DataType> {
    let mut parser = Parser::new(&GenericDialect {}).with_recursion_limit(16).try_with_sql(name).ok()?;
    let parsed = parser.parse_data_type().ok()?;
    if parser.peek_token().token != Token::EOF {
        return None;
    }
    arrow_type(&parsed)
}

/// The message about a column whose type is not known here.
pub(in crate::data) fn unknown(column: &str) -> String {
    format!("`schema`: the type of column `{column}` is not known; use a type of SQL: {EXAMPLES}")
}

fn arrow_type(sql: &Sql) -> Option<DataType> {
    Some(match sql {
        Sql::Boolean | Sql::Bool => DataType::Boolean,
        Sql::TinyInt(_) => DataType::Int8,
        Sql::SmallInt(_) | Sql::Int2(_) => DataType::Int16,
        Sql::Int(_) | Sql::Integer(_) | Sql::Int4(_) => DataType::Int32,
        Sql::BigInt(_) | Sql::Int8(_) => DataType::Int64,
        Sql::TinyIntUnsigned(_) | Sql::UTinyInt => DataType::UInt8,
        Sql::SmallIntUnsigned(_) | Sql::Int2Unsigned(_) | Sql::USmallInt => DataType::UInt16,
        Sql::IntUnsigned(_) | Sql::IntegerUnsigned(_) | Sql::Int4Unsigned(_) => DataType::UInt32,
        Sql::BigIntUnsigned(_) | Sql::Int8Unsigned(_) | Sql::UBigInt => DataType::UInt64,
        Sql::Real | Sql::Float4 | Sql::Float(ExactNumberInfo::None) => DataType::Float32,
        Sql::Double(ExactNumberInfo::None) | Sql::DoublePrecision | Sql::Float8 => DataType::Float64,
        Sql::Decimal(digits) | Sql::Numeric(digits) | Sql::Dec(digits) => decimal(digits)?,
        Sql::Varchar(None) | Sql::Text | Sql::String(None) | Sql::CharVarying(None) | Sql::CharacterVarying(None) => {
            DataType::Utf8
        }
        Sql::Date => DataType::Date32,
        Sql::Time(None | Some(6), TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Time64(TimeUnit::Microsecond)
        }
        Sql::Timestamp(digits, zone) => {
            let zoned = matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone);
            DataType::Timestamp(unit(*digits)?, zoned.then(|| "UTC".into()))
        }
        Sql::Datetime(digits) => DataType::Timestamp(unit(*digits)?, None),
        Sql::Array(ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::Parenthesis(item)) => list(item, None)?,
        Sql::Array(ArrayElemTypeDef::SquareBracket(item, length)) => list(item, *length)?,
        Sql::Struct(fields, _) => {
            let fields = fields.iter().map(|field| {
                Some(Field::new(field.field_name.as_ref()?.value.clone(), arrow_type(&field.field_type)?, true))
            });
            DataType::Struct(fields.collect::<Option<Fields>>()?)
        }
        _ => return None,
    })
}

fn unit(digits: Option<u64>) -> Option<TimeUnit> {
    match digits {
        Some(0..=3) => Some(TimeUnit::Millisecond),
        // From 290,000 years before to as many after, which nanoseconds do not reach.
        None | Some(4..=6) => Some(TimeUnit::Microsecond),
        Some(7..=9) => Some(TimeUnit::Nanosecond),
        Some(_) => None,
    }
}

fn decimal(digits: &ExactNumberInfo) -> Option<DataType> {
    let (precision, scale) = match *digits {
        ExactNumberInfo::None => return None,
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let precision = u8::try_from(precision).ok().filter(|digits| (1..=DIGITS).contains(digits))?;
    let scale = u8::try_from(scale).ok().filter(|scale| *scale <= precision)?;
    Some(DataType::Decimal128(precision, i8::try_from(scale).ok()?))
}

fn list(item: &Sql, length: Option<u64>) -> Option<DataType> {
    let item = Arc::new(Field::new("item", arrow_type(item)?, true));
    Some(match length {
        None => DataType::List(item),
        Some(length) => DataType::FixedSizeList(item, i32::try_from(length).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sql_are_types() {
        for (name, expected) in [
            ("BIGINT", "Int64"),
            ("int", "Int32"),
            ("INTEGER", "Int32"),
            ("smallint", "Int16"),
            ("tinyint", "Int8"),
            ("BIGINT UNSIGNED", "UInt64"),
            ("DOUBLE", "Float64"),
            ("double precision", "Float64"),
            ("REAL", "Float32"),
            ("FLOAT", "Float32"),
            ("DECIMAL(10, 2)", "Decimal128(10, 2)"),
            ("numeric(5)", "Decimal128(5, 0)"),
            ("VARCHAR", "Utf8"),
            ("TEXT", "Utf8"),
            ("string", "Utf8"),
            ("BOOLEAN", "Boolean"),
            ("DATE", "Date32"),
            ("TIME", "Time64(µs)"),
            ("TIMESTAMP", "Timestamp(µs)"),
            ("TIMESTAMP(9)", "Timestamp(ns)"),
            ("TIMESTAMP(0)", "Timestamp(ms)"),
            ("timestamp with time zone", "Timestamp(µs, \"UTC\")"),
            ("TIMESTAMPTZ", "Timestamp(µs, \"UTC\")"),
            ("BIGINT[]", "List(Int64)"),
            ("ARRAY<DOUBLE>", "List(Float64)"),
            ("REAL[3]", "FixedSizeList(3 x Float32)"),
            ("STRUCT<a BIGINT, b VARCHAR>", "Struct(\"a\": Int64, \"b\": Utf8)"),
        ] {
            assert_eq!(parse(name).map(|found| found.to_string()).as_deref(), Some(expected), "{name}");
        }
        for name in
            ["", "strng", "BIGINT x", "DECIMAL", "DECIMAL(50, 2)", "DECIMAL(2, 3)", "VARCHAR(5)", "BLOB", "JSON"]
        {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
