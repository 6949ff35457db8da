//! Columns of text into columns of the types that they should have: each value exactly, or an error with its row.
//!
//! Formats without types of their own (CSV, JSON) are decoded to text first, and cast here. Nothing is rounded, truncated
//! or shifted to make it fit, with one exception that every reader shares: a decimal fraction becomes the nearest float.

use std::{fmt, sync::Arc};

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, BooleanArray, FixedSizeListArray, ListArray, PrimitiveArray, RecordBatch,
        RecordBatchOptions, StringArray, StructArray,
    },
    compute::{
        cast,
        kernels::cast_utils::{Parser as _, string_to_datetime},
    },
    datatypes::{
        ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, FieldRef, Fields, Float32Type, Float64Type,
        Int8Type, Int16Type, Int32Type, Int64Type, Schema, SchemaRef, Time64MicrosecondType, TimeUnit,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
        UInt16Type, UInt32Type, UInt64Type,
    },
};
use chrono::Utc;

use crate::data::error::DataError;

/// A value that its column's type does not hold exactly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inexact {
    /// The row in the batch, from 0.
    pub(super) row: usize,
    /// The column, with the fields inside it: `a.b`.
    pub(super) column: String,
    /// The value as written.
    pub(super) value: String,
    /// What it should be.
    pub(super) expected: DataType,
}

impl fmt::Display for Inexact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row: _, column, value, expected } = self;
        write!(f, "column `{column}` holds '{value}', expected {expected}")?;
        if column.contains('.') {
            return Ok(());
        }
        let is_narrow = expected.is_integer() || *expected == DataType::Float32;
        let wider = if is_narrow && float(value).is_some() { "float64" } else { "str" };
        write!(f, "; declare a type that holds it: `load_args: {{dtype: {{{column}: {wider}}}}}`, or under `schema`")
    }
}

/// The same columns, with text in place of every type that is parsed here.
pub(super) fn text_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(text_fields(schema.fields())))
}

fn text_fields(fields: &Fields) -> Fields {
    fields.iter().map(text_field).collect()
}

fn text_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), text_type(field.data_type()), true))
}

fn text_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Null => DataType::Null,
        DataType::Struct(fields) => DataType::Struct(text_fields(fields)),
        DataType::List(item) => DataType::List(text_field(item)),
        DataType::FixedSizeList(item, width) => DataType::FixedSizeList(text_field(item), *width),
        _ => DataType::Utf8,
    }
}

/// A batch of [`text_schema`] with the types of `schema`.
///
/// # Errors
/// The first value of a column that its type does not hold, the inner error; the outer one is Arrow's.
pub(super) fn typed(batch: &RecordBatch, schema: &SchemaRef) -> Result<Result<RecordBatch, Inexact>, DataError> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        match array(column, field.data_type()) {
            Ok(typed) => columns.push(typed),
            Err(Failure { row, path, value, expected }) => {
                let path = std::iter::once(field.name().clone()).chain(path.into_iter().rev());
                let column = path.collect::<Vec<_>>().join(".");
                return Ok(Err(Inexact { row, column, value, expected }));
            }
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?))
}

/// A value that does not fit, with the path from the value outwards.
struct Failure {
    row: usize,
    path: Vec<String>,
    value: String,
    expected: DataType,
}

fn array(text: &ArrayRef, to: &DataType) -> Result<ArrayRef, Failure> {
    match to {
        _ if text.data_type() == to => Ok(Arc::clone(text)),
        DataType::Struct(fields) => {
            let structs = text.as_struct();
            let columns = structs.columns().iter().zip(fields).map(|(column, field)| {
                array(column, field.data_type()).map_err(|mut failure| {
                    failure.path.push(field.name().clone());
                    failure
                })
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::new(fields.clone(), columns, structs.nulls().cloned())))
        }
        DataType::List(item) => {
            let lists = text.as_list::<i32>();
            let row = |at: usize| lists.value_offsets().partition_point(|&offset| offset as usize <= at) - 1;
            let values = array(lists.values(), item.data_type())
                .map_err(|failure| Failure { row: row(failure.row), ..failure })?;
            Ok(Arc::new(ListArray::new(Arc::clone(item), lists.offsets().clone(), values, lists.nulls().cloned())))
        }
        DataType::FixedSizeList(item, width) => {
            let lists = text.as_fixed_size_list();
            let values = array(lists.values(), item.data_type())
                .map_err(|failure| Failure { row: failure.row / (*width).max(1) as usize, ..failure })?;
            Ok(Arc::new(FixedSizeListArray::new(Arc::clone(item), *width, values, lists.nulls().cloned())))
        }
        _ => leaf(text.as_string(), to),
    }
}

fn leaf(text: &StringArray, to: &DataType) -> Result<ArrayRef, Failure> {
    use DataType as T;
    Ok(match to {
        T::Boolean => {
            let values = text.iter().map(|value| value.map(boolean));
            let parsed: Vec<Option<Option<bool>>> = values.collect();
            if let Some(row) = parsed.iter().position(|value| *value == Some(None)) {
                return Err(failure(text, row, to));
            }
            Arc::new(parsed.into_iter().map(Option::flatten).collect::<BooleanArray>())
        }
        T::Int8 => primitive::<Int8Type>(text, to, |text| text.parse().ok())?,
        T::Int16 => primitive::<Int16Type>(text, to, |text| text.parse().ok())?,
        T::Int32 => primitive::<Int32Type>(text, to, |text| text.parse().ok())?,
        T::Int64 => primitive::<Int64Type>(text, to, |text| text.parse().ok())?,
        T::UInt8 => primitive::<UInt8Type>(text, to, |text| text.parse().ok())?,
        T::UInt16 => primitive::<UInt16Type>(text, to, |text| text.parse().ok())?,
        T::UInt32 => primitive::<UInt32Type>(text, to, |text| text.parse().ok())?,
        T::UInt64 => primitive::<UInt64Type>(text, to, |text| text.parse().ok())?,
        T::Float32 => primitive::<Float32Type>(text, to, single)?,
        T::Float64 => primitive::<Float64Type>(text, to, float)?,
        T::Date32 => primitive::<Date32Type>(text, to, |text| (text.len() <= 10).then(|| Date32Type::parse(text))?)?,
        T::Timestamp(unit, zone) => {
            let zoned = zone.is_some();
            // The instants are in UTC; the zone only says how they are displayed.
            match unit {
                TimeUnit::Second => {
                    Arc::new(timestamps::<TimestampSecondType>(text, to, zoned, 0)?.with_timezone_opt(zone.clone()))
                }
                TimeUnit::Millisecond => Arc::new(
                    timestamps::<TimestampMillisecondType>(text, to, zoned, 3)?.with_timezone_opt(zone.clone()),
                ),
                TimeUnit::Microsecond => Arc::new(
                    timestamps::<TimestampMicrosecondType>(text, to, zoned, 6)?.with_timezone_opt(zone.clone()),
                ),
                TimeUnit::Nanosecond => {
                    Arc::new(timestamps::<TimestampNanosecondType>(text, to, zoned, 9)?.with_timezone_opt(zone.clone()))
                }
            }
        }
        T::Decimal128(precision, scale) => {
            let (digits, places) = (usize::from(*precision), usize::try_from(*scale).unwrap_or_default());
            let parsed = parsed::<Decimal128Type>(text, to, |text| decimal(text, digits, places))?;
            Arc::new(parsed.with_precision_and_scale(*precision, *scale).map_err(|_| failure(text, 0, to))?)
        }
        T::Time64(TimeUnit::Microsecond) => primitive::<Time64MicrosecondType>(text, to, clock)?,
        _ => cast(text, to).map_err(|_| failure(text, 0, to))?,
    })
}

/// A number with at most so many digits and decimal places, in units of the last place; zeros at the end do not count.
fn decimal(text: &str, digits: usize, places: usize) -> Option<i128> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (-1, unsigned),
        None => (1, text),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if fraction.len() > places || whole.len() + places > digits {
        return None;
    }
    // In front of it a zero, for there may be no digit.
    format!("0{whole}{fraction:0<places$}").parse::<i128>().ok().map(|units| sign * units)
}

/// A time of day in microseconds.
fn clock(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let time = chrono::NaiveTime::parse_from_str(clock, "%H:%M:%S").ok()?;
    // A leap second is no time of day.
    let seconds =
        (chrono::Timelike::nanosecond(&time) == 0).then(|| chrono::Timelike::num_seconds_from_midnight(&time))?;
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    Some(i64::from(seconds) * 1_000_000 + fraction)
}

fn primitive<P: ArrowPrimitiveType>(
    text: &StringArray,
    to: &DataType,
    parse: impl Fn(&str) -> Option<P::Native>,
) -> Result<ArrayRef, Failure> {
    Ok(Arc::new(parsed::<P>(text, to, parse)?))
}

fn parsed<P: ArrowPrimitiveType>(
    text: &StringArray,
    to: &DataType,
    parse: impl Fn(&str) -> Option<P::Native>,
) -> Result<PrimitiveArray<P>, Failure> {
    let mut values = PrimitiveArray::<P>::builder(text.len());
    for (row, value) in text.iter().enumerate() {
        match value {
            None => values.append_null(),
            Some(value) => values.append_value(parse(value).ok_or_else(|| failure(text, row, to))?),
        }
    }
    Ok(values.finish())
}

fn failure(text: &StringArray, row: usize, expected: &DataType) -> Failure {
    Failure { row, path: Vec::new(), value: text.value(row).to_owned(), expected: expected.clone() }
}

fn boolean(text: &str) -> Option<bool> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("true") { Some(true) } else { is("false").then_some(false) }
}

/// The float nearest to a number; `None` for integers that it would change and numbers beyond its range.
fn float(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    if !value.is_finite() && starts_as_number(text) {
        return None;
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    // Up to 15 digits every integer is a float.
    if digits.len() > 15 && is_integer(digits) {
        let integer: i128 = text.parse().ok()?;
        return (value as i128 == integer).then_some(value);
    }
    // Its digits are those of a decimal number: no larger float has a fraction.
    if value.abs() > EXACT_IN_FLOAT && has_fraction(digits) {
        return None;
    }
    Some(value)
}

/// As [`float`], for floats of 32 bits.
fn single(text: &str) -> Option<f32> {
    let value = float(text)?;
    let single = value as f32;
    if !single.is_finite() && starts_as_number(text) {
        return None;
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let changed = is_integer(digits) && f64::from(single) != value;
    (!changed && (value.abs() <= EXACT_IN_SINGLE || !has_fraction(digits))).then_some(single)
}

fn is_integer(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// No larger float has a fraction.
const EXACT_IN_FLOAT: f64 = (1_u64 << 53) as f64;
const EXACT_IN_SINGLE: f64 = (1_u32 << 24) as f64;

/// True for digits with a fraction that is not zero, and without an exponent.
pub(super) fn has_fraction(digits: &str) -> bool {
    digits.split_once('.').is_some_and(|(whole, fraction)| {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        digits(whole) && digits(fraction) && fraction.bytes().any(|byte| byte != b'0')
    })
}

fn starts_as_number(text: &str) -> bool {
    text.trim_start_matches(['-', '+']).starts_with(|first: char| first.is_ascii_digit() || first == '.')
}

/// Instants in the unit of `P`, which has `digits` decimal places of a second.
fn timestamps<P: ArrowPrimitiveType<Native = i64>>(
    text: &StringArray,
    to: &DataType,
    zoned: bool,
    digits: usize,
) -> Result<PrimitiveArray<P>, Failure> {
    parsed::<P>(text, to, |text| {
        let parts = TimeParts::of(text);
        if parts.zoned != zoned || parts.digits > digits {
            return None;
        }
        let instant = string_to_datetime(&Utc, text).ok()?;
        match digits {
            0 => Some(instant.timestamp()),
            3 => Some(instant.timestamp_millis()),
            6 => Some(instant.timestamp_micros()),
            _ => instant.timestamp_nanos_opt(),
        }
    })
}

/// What decides which type holds a written time exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeParts {
    /// Whether it has an offset or a time zone.
    pub(super) zoned: bool,
    /// The decimal places of its seconds, without zeros at the end.
    pub(super) digits: usize,
}

impl TimeParts {
    /// Of a text that is a date and a time.
    pub(super) fn of(text: &str) -> Self {
        let time = text.get(11..).unwrap_or_default();
        let clock = time.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.').unwrap_or(time.len());
        let fraction = time[..clock].split_once('.').map_or("", |(_, fraction)| fraction);
        Self { zoned: !time[clock..].trim().is_empty(), digits: fraction.trim_end_matches('0').len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast_text(value: &str, to: &DataType) -> Option<String> {
        let text: ArrayRef = Arc::new(StringArray::from(vec![None, Some(value)]));
        let array = array(&text, to).ok()?;
        assert!(array.is_null(0), "a null stays a null");
        let formatter = arrow::util::display::ArrayFormatter::try_new(&array, &Default::default()).expect("a type");
        Some(formatter.value(1).to_string())
    }

    #[test]
    fn a_value_is_exact_or_refused() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let table: &[(&str, &DataType, Option<&str>)] = &[
            ("1", &DataType::Int64, Some("1")),
            ("1.5", &DataType::Int64, None),
            ("1e3", &DataType::Int64, None),
            ("9223372036854775808", &DataType::Int64, None),
            ("9223372036854775808", &DataType::UInt64, Some("9223372036854775808")),
            ("-1", &DataType::UInt64, None),
            ("300", &DataType::UInt8, None),
            ("0.1", &DataType::Float64, Some("0.1")),
            ("9007199254740992", &DataType::Float64, Some("9007199254740992.0")),
            ("9007199254740993", &DataType::Float64, None),
            ("1e999", &DataType::Float64, None),
            ("9007199254740993.5", &DataType::Float64, None),
            ("9007199254740991.5", &DataType::Float64, Some("9007199254740992.0")),
            ("1234567890123456789012.0", &DataType::Float64, Some("1.2345678901234568e21")),
            ("+9007199254740993", &DataType::Float64, None),
            ("1e39", &DataType::Float32, None),
            ("0.1", &DataType::Float32, Some("0.1")),
            ("16777216", &DataType::Float32, Some("16777216.0")),
            ("16777217", &DataType::Float32, None),
            ("16777217.5", &DataType::Float32, None),
            ("inf", &DataType::Float32, Some("inf")),
            ("inf", &DataType::Float64, Some("inf")),
            ("TRUE", &DataType::Boolean, Some("true")),
            ("yes", &DataType::Boolean, None),
            ("2020-01-02", &DataType::Date32, Some("2020-01-02")),
            ("2020-01-02T03:04:05", &DataType::Date32, None),
            ("2020-01-02T03:04:05", &micros, Some("2020-01-02T03:04:05")),
            ("2020-01-02 03:04:05.123456", &micros, Some("2020-01-02T03:04:05.123456")),
            ("2020-01-02 03:04:05.1234567", &micros, None),
            ("2020-01-02 03:04:05.123456700", &nanos, Some("2020-01-02T03:04:05.123456700")),
            ("9999-01-02 03:04:05", &micros, Some("9999-01-02T03:04:05")),
            ("9999-01-02 03:04:05", &nanos, None),
            ("2020-01-02T03:04:05+02:00", &micros, None),
            ("2020-01-02T03:04:05+02:00", &utc, Some("2020-01-02T01:04:05Z")),
            ("2020-01-02T03:04:05", &utc, None),
            ("12.50", &DataType::Decimal128(4, 2), Some("12.50")),
            ("-0.5", &DataType::Decimal128(4, 2), Some("-0.50")),
            (".5", &DataType::Decimal128(4, 2), Some("0.50")),
            ("7", &DataType::Decimal128(4, 2), Some("7.00")),
            ("0.1230", &DataType::Decimal128(4, 3), Some("0.123")),
            ("0.125", &DataType::Decimal128(4, 2), None),
            ("100", &DataType::Decimal128(4, 2), None),
            ("1e2", &DataType::Decimal128(4, 2), None),
            (".", &DataType::Decimal128(4, 2), None),
            ("--1", &DataType::Decimal128(4, 2), None),
            (
                "99999999999999999999999999999999999999",
                &DataType::Decimal128(38, 0),
                Some("99999999999999999999999999999999999999"),
            ),
            ("03:04:05.25", &DataType::Time64(TimeUnit::Microsecond), Some("03:04:05.250")),
            ("03:04:05.1234567", &DataType::Time64(TimeUnit::Microsecond), None),
            ("25:00:00", &DataType::Time64(TimeUnit::Microsecond), None),
            ("23:59:60", &DataType::Time64(TimeUnit::Microsecond), None),
        ];
        for (value, to, expected) in table {
            assert_eq!(cast_text(value, to).as_deref(), *expected, "{value} as {to}");
        }
    }

    #[test]
    fn a_value_inside_a_list_of_objects_is_reported_with_the_row_of_the_list() {
        let integer = |name: &str| Arc::new(Field::new(name, DataType::Int64, true));
        let objects = DataType::Struct(vec![integer("n")].into());
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new(
            "items",
            DataType::List(Arc::new(Field::new("item", objects, true))),
            true,
        )]));
        let json = r#"{"items": [{"n": 1}, {"n": 2}]} {"items": []} {"items": null} {"items": [{"n": 3}, {"n": 4.5}]}"#;
        let reader = arrow::json::ReaderBuilder::new(text_schema(&schema)).with_coerce_primitive(true);
        let batch = reader.build(json.as_bytes()).expect("a reader").next().expect("a batch").expect("rows");
        let error = typed(&batch, &schema).expect("a batch").expect_err("4.5 is no integer");
        let expected =
            Inexact { row: 3, column: "items.n".to_owned(), value: "4.5".to_owned(), expected: DataType::Int64 };
        assert_eq!(error, expected);
    }
}
