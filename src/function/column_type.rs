//! The types of columns that are made of JSON, and the exact conversion of values.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, StringArray, StructArray},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Fields},
};
use serde_json::Value as Json;

/// Types inside each other.
const MAX_DEPTH: usize = 50;

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// A string; numbers and booleans as they are written.
    String,
    /// An integer.
    Int64,
    /// A number.
    Float64,
    /// `true` or `false`.
    Bool,
    /// Any value, as JSON text.
    Json,
    /// A list.
    List(Box<ColumnType>),
    /// An object with these keys.
    Struct(Vec<(String, ColumnType)>),
}

impl ColumnType {
    /// Parses a type as it is written.
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_within(text, MAX_DEPTH)
    }

    fn parse_within(text: &str, depth: usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        let text = text.trim();
        Some(match text {
            "string" => Self::String,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "bool" => Self::Bool,
            "json" => Self::Json,
            _ => {
                let inside = |name: &str| text.strip_prefix(name)?.trim_start().strip_prefix('<')?.strip_suffix('>');
                if let Some(inner) = inside("list") {
                    Self::List(Box::new(Self::parse_within(inner, depth)?))
                } else {
                    let fields = split_at_commas(inside("struct")?);
                    let field = |field: &str| {
                        let (name, kind) = field.split_once(':')?;
                        Some((name.trim().to_owned(), Self::parse_within(kind, depth)?))
                            .filter(|(name, _)| !name.is_empty())
                    };
                    Self::Struct(fields.into_iter().map(field).collect::<Option<_>>()?)
                }
            }
        })
    }

    /// The Arrow type.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::String | Self::Json => DataType::Utf8,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::List(inner) => DataType::List(Arc::new(Field::new_list_field(inner.data_type(), true))),
            Self::Struct(fields) => DataType::Struct(arrow_fields(fields)),
        }
    }

    /// Checks that a value is exactly representable.
    ///
    /// # Errors
    /// With what was expected, and what it is.
    pub fn check(&self, value: &Json) -> Result<(), String> {
        let expected = |what: &str| Err(format!("expected {what}, found {}", shown(value)));
        match (self, value) {
            (_, Json::Null) | (Self::Json, _) | (Self::Bool, Json::Bool(_)) => Ok(()),
            (Self::String, Json::String(_) | Json::Number(_) | Json::Bool(_)) => Ok(()),
            (Self::Int64, Json::Number(number)) if exact_integer(number).is_some() => Ok(()),
            (Self::Float64, Json::Number(number)) if exact_float(number).is_some() => Ok(()),
            (Self::List(inner), Json::Array(list)) => list.iter().try_for_each(|item| inner.check(item)),
            (Self::Struct(fields), Json::Object(object)) => fields.iter().try_for_each(|(name, kind)| {
                object.get(name).map_or(Ok(()), |value| kind.check(value)).map_err(|why| format!("`{name}`: {why}"))
            }),
            (Self::String, _) => expected("a string"),
            (Self::Int64, _) => expected("an integer of 64 bits"),
            (Self::Float64, _) => expected("a number"),
            (Self::Bool, _) => expected("true or false"),
            (Self::List(_), _) => expected("a list"),
            (Self::Struct(_), _) => expected("an object"),
        }
    }

    /// The array of values that were checked.
    pub fn array(&self, values: &[Option<&Json>]) -> ArrayRef {
        match self {
            Self::String => Arc::new(
                values
                    .iter()
                    .map(|value| match value {
                        None | Some(Json::Null) => None,
                        Some(Json::String(text)) => Some(text.clone()),
                        Some(other) => Some(other.to_string()),
                    })
                    .collect::<StringArray>(),
            ),
            Self::Json => {
                let text = |value: &Option<&Json>| value.filter(|value| !value.is_null()).map(Json::to_string);
                Arc::new(values.iter().map(text).collect::<StringArray>())
            }
            Self::Int64 => {
                let number = |value: &Option<&Json>| exact_integer(value.and_then(Json::as_number)?);
                Arc::new(values.iter().map(number).collect::<Int64Array>())
            }
            Self::Float64 => {
                let number = |value: &Option<&Json>| exact_float(value.and_then(Json::as_number)?);
                Arc::new(values.iter().map(number).collect::<Float64Array>())
            }
            Self::Bool => Arc::new(values.iter().map(|value| value.and_then(Json::as_bool)).collect::<BooleanArray>()),
            Self::List(inner) => {
                let lists: Vec<Option<&Vec<Json>>> =
                    values.iter().map(|value| value.and_then(Json::as_array)).collect();
                let items: Vec<Option<&Json>> = lists.iter().flatten().flat_map(|list| list.iter().map(Some)).collect();
                let lengths = lists.iter().map(|list| list.map_or(0, Vec::len));
                Arc::new(ListArray::new(
                    Arc::new(Field::new_list_field(inner.data_type(), true)),
                    OffsetBuffer::from_lengths(lengths),
                    inner.array(&items),
                    Some(lists.iter().map(Option::is_some).collect::<NullBuffer>()),
                ))
            }
            Self::Struct(fields) => {
                let objects: Vec<_> = values.iter().map(|value| value.and_then(Json::as_object)).collect();
                let child = |(name, kind): &(String, Self)| {
                    let values: Vec<_> = objects.iter().map(|object| object.and_then(|o| o.get(name))).collect();
                    kind.array(&values)
                };
                let valid = objects.iter().map(Option::is_some).collect::<NullBuffer>();
                let children: Vec<ArrayRef> = fields.iter().map(child).collect();
                match children.is_empty() {
                    true => Arc::new(StructArray::new_empty_fields(values.len(), Some(valid))),
                    false => Arc::new(StructArray::new(arrow_fields(fields), children, Some(valid))),
                }
            }
        }
    }
}

/// A number as an integer, also if it is written with a fraction of zero: `1.0`.
fn exact_integer(number: &serde_json::Number) -> Option<i64> {
    /// Beyond, a float stands for several integers.
    const LARGEST: f64 = 9_007_199_254_740_992.0;
    let whole = |float: &f64| float.fract() == 0.0 && float.abs() < LARGEST;
    number.as_i64().or_else(|| number.as_f64().filter(|_| number.is_f64()).filter(whole).map(|float| float as i64))
}

/// A number as a float, if that does not change an integer.
fn exact_float(number: &serde_json::Number) -> Option<f64> {
    let float = number.as_f64().filter(|float| float.is_finite())?;
    let exact = match (number.as_i64(), number.as_u64()) {
        (Some(integer), _) => float as i128 == i128::from(integer),
        (_, Some(integer)) => float as i128 == i128::from(integer),
        _ => true,
    };
    exact.then_some(float)
}

fn arrow_fields(fields: &[(String, ColumnType)]) -> Fields {
    fields.iter().map(|(name, kind)| Field::new(name, kind.data_type(), true)).collect()
}

fn split_at_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A value in a message: its kind and, if short, itself.
fn shown(value: &Json) -> String {
    let kind = match value {
        Json::Null => return "null".into(),
        Json::Bool(_) => "the boolean",
        Json::Number(_) => "the number",
        Json::String(_) => return "a string".into(),
        Json::Array(_) => return "a list".into(),
        Json::Object(_) => return "an object".into(),
    };
    format!("{kind} {value}")
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use serde_json::json;

    use super::*;

    #[test]
    fn types_are_parsed_as_they_are_written() {
        use ColumnType::{Int64, Json as Any, List, String as Text, Struct};
        for (text, expected) in [
            ("string", Some(Text.clone())),
            ("list<int64>", Some(List(Box::new(Int64)))),
            (
                "list< struct<a: int64, b:list<json>> >",
                Some(List(Box::new(Struct(vec![("a".into(), Int64), ("b".into(), List(Box::new(Any)))])))),
            ),
            ("int", None),
            ("list<>", None),
            ("struct<a>", None),
            ("list<int64", None),
        ] {
            assert_eq!(ColumnType::parse(text), expected, "{text}");
        }
        let nested = |depth: usize| format!("{}int64{}", "list<".repeat(depth), ">".repeat(depth));
        assert!(ColumnType::parse(&nested(MAX_DEPTH - 1)).is_some());
        assert_eq!(ColumnType::parse(&nested(200_000)), None);
    }

    #[test]
    fn a_value_is_exact_or_an_error() {
        for (kind, value, right) in [
            ("int64", json!(1), true),
            ("int64", json!(1.0), true),
            ("int64", json!(1.5), false),
            ("int64", json!(1e300), false),
            ("int64", json!("1"), false),
            ("int64", json!(9_223_372_036_854_775_808_u64), false),
            ("float64", json!(1), true),
            ("float64", json!(9_007_199_254_740_993_u64), false),
            ("string", json!(1.50), true),
            ("string", json!({"a": 1}), false),
            ("bool", json!(0), false),
            ("list<string>", json!(["a", null]), true),
            ("list<int64>", json!([1, "a"]), false),
            ("struct<a: int64>", json!({"a": "x"}), false),
            ("json", json!({"a": "x"}), true),
        ] {
            let kind = ColumnType::parse(kind).expect("a type");
            assert_eq!(kind.check(&value).is_ok(), right, "{kind:?} {value}");
        }
    }

    #[test]
    fn nested_values_become_nested_arrays() {
        let kind = ColumnType::parse("list<struct<a: int64, b: string>>").expect("a type");
        let values = [json!([{"a": 1, "b": "x"}, {"a": null}]), json!(null), json!([])];
        let array = kind.array(&[Some(&values[0]), Some(&values[1]), None, Some(&values[2])]);
        assert_eq!(array.data_type(), &kind.data_type());
        let list = array.as_list::<i32>();
        assert_eq!((0..4).map(|n| list.is_valid(n)).collect::<Vec<_>>(), [true, false, false, true]);
        let first = list.value(0);
        let first = first.as_struct();
        assert_eq!(
            first.column(0).as_primitive::<arrow::datatypes::Int64Type>().iter().collect::<Vec<_>>(),
            [Some(1), None]
        );
        assert_eq!(list.value(3).len(), 0);
    }
}
