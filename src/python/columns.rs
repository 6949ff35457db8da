//! Rows as plain columns, for functions that take and give dictionaries: values of Python's own types, without a package.
//!
//! A block is a JSON header (its length in eight bytes before it) that describes the columns, and their buffers in the same
//! order, little-endian. What rows cannot hold exactly is an error that names the column.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, LargeListArray, NullArray,
        RecordBatch, RecordBatchOptions, StructArray, TimestampMicrosecondArray, UInt64Array, new_null_array,
    },
    buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    compute::{CastOptions, cast, cast_with_options, take},
    datatypes::{
        DataType, Date32Type, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
    },
    util::display::FormatOptions,
};
use serde::{Deserialize, Serialize};

/// One column, with those inside it.
#[derive(Debug, Serialize, Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    kind: Kind,
    length: usize,
    nulls: bool,
    #[serde(default)]
    children: Vec<Column>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Null,
    Bool,
    Int,
    Float,
    String,
    Binary,
    Date,
    /// A time without a zone.
    Time,
    /// An instant.
    Utc,
    List,
    Struct,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    rows: usize,
    columns: Vec<Column>,
}

/// The block of a batch.
pub(super) fn write(batch: &RecordBatch) -> Result<Vec<u8>, String> {
    let mut buffers = Vec::new();
    let columns = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| write_column(field.name(), array, &mut buffers))
        .collect::<Result<_, _>>()?;
    let header = serde_json::to_vec(&Header { rows: batch.num_rows(), columns }).expect("plain data becomes JSON");
    let mut block = (header.len() as u64).to_le_bytes().to_vec();
    block.extend(header);
    block.append(&mut buffers);
    Ok(block)
}

fn write_column(name: &str, array: &ArrayRef, out: &mut Vec<u8>) -> Result<Column, String> {
    let (kind, wanted) = kind_of(array.data_type()).ok_or_else(|| {
        format!(
            "column `{name}` is {}, which rows cannot hold\nhelp: take a pandas or Polars DataFrame or a pyarrow.Table",
            array.data_type()
        )
    })?;
    let array = exactly(array, &wanted).map_err(|error| format!("column `{name}`: {error}"))?;
    let nulls = kind != Kind::Null && array.null_count() > 0;
    if nulls {
        out.extend((0..array.len()).map(|row| u8::from(array.is_valid(row))));
    }
    let mut children = Vec::new();
    let numbers = |values: &mut dyn Iterator<Item = i64>, out: &mut Vec<u8>| {
        values.for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    };
    match kind {
        Kind::Null => {}
        Kind::Bool => out.extend(array.as_boolean().iter().map(|value| u8::from(value.unwrap_or_default()))),
        Kind::Int => numbers(&mut array.as_primitive::<Int64Type>().values().iter().copied(), out),
        Kind::Float => array
            .as_primitive::<Float64Type>()
            .values()
            .iter()
            .for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        Kind::Date => {
            numbers(&mut array.as_primitive::<Date32Type>().values().iter().map(|days| i64::from(*days)), out);
        }
        Kind::Time | Kind::Utc => {
            numbers(&mut array.as_primitive::<TimestampMicrosecondType>().values().iter().copied(), out);
        }
        Kind::String | Kind::Binary => {
            let value = |row: usize| -> &[u8] {
                if array.is_null(row) {
                    b""
                } else if kind == Kind::String {
                    array.as_string::<i64>().value(row).as_bytes()
                } else {
                    array.as_binary::<i64>().value(row)
                }
            };
            let mut end = 0_i64;
            for row in 0..array.len() {
                end += value(row).len() as i64;
                out.extend_from_slice(&end.to_le_bytes());
            }
            (0..array.len()).for_each(|row| out.extend_from_slice(value(row)));
        }
        Kind::List => {
            let list = array.as_list::<i64>();
            let mut rows = Vec::new();
            for row in 0..list.len() {
                if list.is_valid(row) {
                    let offsets = list.value_offsets();
                    rows.extend((offsets[row]..offsets[row + 1]).map(|item| item as u64));
                }
                out.extend_from_slice(&(rows.len() as i64).to_le_bytes());
            }
            let items = take(list.values(), &UInt64Array::from(rows), None).map_err(|error| error.to_string())?;
            children.push(write_column("item", &items, out).map_err(|error| format!("in column `{name}`: {error}"))?);
        }
        Kind::Struct => {
            let fields = array.as_struct();
            for (field, child) in fields.fields().iter().zip(fields.columns()) {
                children.push(write_column(field.name(), child, out)?);
            }
        }
    }
    Ok(Column { name: name.to_owned(), kind, length: array.len(), nulls, children })
}

/// How a type is sent, and the type that it is cast to before.
fn kind_of(kind: &DataType) -> Option<(Kind, DataType)> {
    Some(match kind {
        DataType::Null => (Kind::Null, DataType::Null),
        DataType::Boolean => (Kind::Bool, DataType::Boolean),
        _ if kind.is_integer() => (Kind::Int, DataType::Int64),
        _ if kind.is_floating() => (Kind::Float, DataType::Float64),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => (Kind::String, DataType::LargeUtf8),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            (Kind::Binary, DataType::LargeBinary)
        }
        DataType::Date32 => (Kind::Date, DataType::Date32),
        DataType::Timestamp(_, zone) => (
            if zone.is_some() { Kind::Utc } else { Kind::Time },
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        ),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            kind_of(item.data_type())?;
            (Kind::List, DataType::LargeList(item.clone()))
        }
        DataType::Struct(fields) => {
            fields.iter().try_for_each(|field| kind_of(field.data_type()).map(drop))?;
            (Kind::Struct, kind.clone())
        }
        DataType::Dictionary(_, values) => kind_of(values)?,
        _ => return None,
    })
}

/// A cast that loses nothing.
fn exactly(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, String> {
    if array.data_type() == wanted {
        return Ok(array.clone());
    }
    if let (DataType::Timestamp(TimeUnit::Nanosecond, _), DataType::Timestamp(..)) = (array.data_type(), wanted) {
        let nanos = array.as_primitive::<arrow::datatypes::TimestampNanosecondType>();
        if nanos.iter().flatten().any(|nanos| nanos % 1000 != 0) {
            return Err("a time has nanoseconds, which Python's `datetime` cannot hold".to_owned());
        }
    }
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    cast_with_options(array, wanted, &options).map_err(|error| error.to_string())
}

/// The batch of a block, with the columns of the first one where there was one before.
pub(super) fn read(block: &[u8], known: Option<&SchemaRef>) -> Result<RecordBatch, String> {
    let mut take = Take { rest: block };
    let length = u64::from_le_bytes(take.bytes(8)?.try_into().expect("eight bytes"));
    let length = usize::try_from(length).map_err(|error| error.to_string())?;
    let header: Header = serde_json::from_slice(take.bytes(length)?).map_err(|error| error.to_string())?;
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for column in &header.columns {
        columns.push((column.name.clone(), read_column(column, &mut take)?));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(header.rows));
    let Some(known) = known else {
        let fields = columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        return RecordBatch::try_new_with_options(schema, arrays, &options).map_err(|error| error.to_string());
    };
    let mut arrays = Vec::with_capacity(known.fields().len());
    if let Some((name, _)) = columns.iter().find(|(name, _)| known.field_with_name(name).is_err()) {
        return Err(format!(
            "column `{name}` is in a later row and not in the first {FIRST} rows\nhelp: give it in every row"
        ));
    }
    for field in known.fields() {
        let found = columns.iter().find(|(name, _)| name == field.name()).map(|(_, array)| array);
        arrays.push(match found {
            None => new_null_array(field.data_type(), header.rows),
            Some(array) => widened(array, field)?,
        });
    }
    RecordBatch::try_new_with_options(known.clone(), arrays, &options).map_err(|error| error.to_string())
}

/// Rows of a block of an iterator.
const FIRST: &str = "8,192";

/// A column of a later block in the type of the first.
fn widened(array: &ArrayRef, field: &Field) -> Result<ArrayRef, String> {
    let (found, wanted) = (array.data_type(), field.data_type());
    let exact = match (found, wanted) {
        _ if found == wanted => return Ok(array.clone()),
        (DataType::Null, _) => true,
        (DataType::Int64, DataType::Float64) => {
            array.as_primitive::<Int64Type>().iter().flatten().all(|number| number.unsigned_abs() <= 1 << 53)
        }
        _ => false,
    };
    if !exact {
        return Err(format!(
            "column `{}` is {wanted} in the first {FIRST} rows and {found} later\nhelp: give values of one type, or tables",
            field.name()
        ));
    }
    cast(array, wanted).map_err(|error| error.to_string())
}

struct Take<'a> {
    rest: &'a [u8],
}

impl<'a> Take<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("a block of rows is too short")?;
        self.rest = rest;
        Ok(taken)
    }

    fn numbers(&mut self, count: usize) -> Result<Vec<i64>, String> {
        let bytes = self.bytes(count.checked_mul(8).ok_or("a block of rows is too long")?)?;
        Ok(bytes.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().expect("eight bytes"))).collect())
    }

    /// Offsets of values, whose ends are given.
    fn offsets(&mut self, count: usize) -> Result<OffsetBuffer<i64>, String> {
        let mut offsets = vec![0];
        offsets.extend(self.numbers(count)?);
        if offsets.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err("a block of rows is damaged".to_owned());
        }
        Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
    }
}

fn read_column(column: &Column, take: &mut Take<'_>) -> Result<ArrayRef, String> {
    let count = column.length;
    let nulls = if column.nulls {
        let valid = take.bytes(count)?;
        Some(NullBuffer::new(BooleanBuffer::collect_bool(count, |row| valid[row] != 0)))
    } else {
        None
    };
    Ok(match column.kind {
        Kind::Null => Arc::new(NullArray::new(count)),
        Kind::Bool => {
            let bytes = take.bytes(count)?;
            Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(count, |row| bytes[row] != 0), nulls))
        }
        Kind::Int => Arc::new(Int64Array::new(take.numbers(count)?.into(), nulls)),
        Kind::Float => {
            let numbers: Vec<f64> =
                take.numbers(count)?.into_iter().map(|bits| f64::from_bits(bits.cast_unsigned())).collect();
            Arc::new(Float64Array::new(numbers.into(), nulls))
        }
        Kind::Date => {
            let days: Result<Vec<i32>, _> = take.numbers(count)?.into_iter().map(i32::try_from).collect();
            Arc::new(Date32Array::new(days.map_err(|error| error.to_string())?.into(), nulls))
        }
        Kind::Time => Arc::new(TimestampMicrosecondArray::new(take.numbers(count)?.into(), nulls)),
        Kind::Utc => Arc::new(TimestampMicrosecondArray::new(take.numbers(count)?.into(), nulls).with_timezone("UTC")),
        Kind::String | Kind::Binary => {
            let offsets = take.offsets(count)?;
            let end = usize::try_from(*offsets.last().expect("one more than values")).map_err(|e| e.to_string())?;
            let data = Buffer::from(take.bytes(end)?);
            let binary = arrow::array::LargeBinaryArray::try_new(offsets, data, nulls).map_err(|e| e.to_string())?;
            let wanted = if column.kind == Kind::String { DataType::LargeUtf8 } else { DataType::LargeBinary };
            exactly(&(Arc::new(binary) as ArrayRef), &wanted)?
        }
        Kind::List => {
            let offsets = take.offsets(count)?;
            let items = read_column(column.children.first().ok_or("a list without items")?, take)?;
            let field = Arc::new(Field::new("item", items.data_type().clone(), true));
            Arc::new(LargeListArray::try_new(field, offsets, items, nulls).map_err(|error| error.to_string())?)
        }
        Kind::Struct => {
            let mut fields = Vec::new();
            let mut arrays = Vec::new();
            for child in &column.children {
                let array = read_column(child, take)?;
                fields.push(Field::new(&child.name, array.data_type().clone(), true));
                arrays.push(array);
            }
            let array = if arrays.is_empty() {
                StructArray::new_empty_fields(count, nulls)
            } else {
                StructArray::try_new(fields.into(), arrays, nulls).map_err(|error| error.to_string())?
            };
            Arc::new(array)
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{FixedSizeListArray, Float32Array, StringArray, TimestampNanosecondArray};
    use arrow::datatypes::Float32Type;

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .expect("a batch")
    }

    #[test]
    fn rows_come_back_as_they_were_sent() {
        let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            [Some([Some(1.5), Some(-0.0)]), None, Some([None, Some(f32::INFINITY)])],
            2,
        );
        let sent = batch(vec![
            ("n", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
            ("f", Arc::new(Float32Array::from(vec![f32::NAN, 0.1, -1e30]))),
            ("s", Arc::new(StringArray::from(vec![Some("ä"), None, Some("")]))),
            ("b", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("d", Arc::new(Date32Array::from(vec![0, -1, 20_000]))),
            ("t", Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3]).with_timezone("UTC"))),
            ("v", Arc::new(vectors)),
            ("z", Arc::new(NullArray::new(3))),
        ]);
        let read = read(&write(&sent).expect("sent"), None).expect("read");
        for (column, sent) in read.columns().iter().zip(sent.columns()) {
            let sent = match sent.data_type() {
                DataType::Float32 => cast(sent, &DataType::Float64).expect("wider"),
                DataType::FixedSizeList(..) => {
                    let item = Field::new("item", DataType::Float64, true);
                    cast(sent, &DataType::LargeList(Arc::new(item))).expect("a list")
                }
                DataType::Utf8 => cast(sent, &DataType::LargeUtf8).expect("wider"),
                _ => sent.clone(),
            };
            let shown = |array: &ArrayRef| format!("{array:?}");
            assert_eq!(shown(column), shown(&sent));
        }
    }

    #[test]
    fn what_rows_cannot_hold_is_an_error_with_the_column() {
        let decimals = cast(&Int64Array::from(vec![1]), &DataType::Decimal128(10, 2)).expect("a decimal");
        let times = TimestampNanosecondArray::from(vec![1]);
        for (column, expected) in [
            (decimals, "column `x` is Decimal128(10, 2), which rows cannot hold"),
            (Arc::new(times) as ArrayRef, "column `x`: a time has nanoseconds"),
            (Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRef, "column `x`: "),
        ] {
            let error = write(&batch(vec![("x", column)])).expect_err("refused");
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn later_blocks_have_the_columns_of_the_first() {
        let first = batch(vec![("x", Arc::new(Float64Array::from(vec![0.5])) as ArrayRef)]);
        let block = |columns| write(&batch(columns)).expect("sent");
        let again = |block: Vec<u8>| read(&block, Some(&first.schema()));
        let whole = again(block(vec![("x", Arc::new(Int64Array::from(vec![2])))])).expect("an exact number");
        assert_eq!(whole.column(0).as_primitive::<Float64Type>().value(0), 2.0);
        assert!(again(block(vec![("x", Arc::new(NullArray::new(1)))])).is_ok());
        assert!(
            again(block(vec![("y", Arc::new(NullArray::new(1)))])).is_err_and(|error| error.contains("column `y`"))
        );
        assert!(again(block(vec![("x", Arc::new(StringArray::from(vec!["a"])))])).is_err_and(|e| e.contains("later")));
        assert!(read(b"short", None).is_err());
    }
}
