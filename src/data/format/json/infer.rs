//! The columns of JSON lines, from a sample of them: every type is wide enough for each value of the sample.
//!
//! Integers widen to floats while floats hold them exactly, and everything without a structure widens to text. A list or an
//! object beside anything else has no common type.

use std::{fmt, io::Read, sync::Arc};

use arrow::datatypes::{DataType, Field, Fields, Schema};
use indexmap::IndexMap;
use serde::{
    Deserialize,
    de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor},
};

use crate::data::format::numbers::Numbers;

/// The columns of the first `rows` objects. The `Err` is a message with the line.
pub(super) fn columns(reader: impl Read, rows: usize) -> Result<Schema, String> {
    let mut found = IndexMap::new();
    let mut lines = serde_json::Deserializer::from_reader(reader).into_iter::<Guess>();
    for row in 1..=rows {
        let Some(line) = lines.next() else { break };
        match line.map_err(|error| format!("{error}; expected one JSON object per line"))? {
            Guess::Object(fields) => merge_fields(&mut found, fields).map_err(|conflict| {
                let Conflict { column, a, b } = *conflict;
                format!("row {row}: column `{column}` holds {b}, and {a} in an earlier row; no type holds both")
            })?,
            other => return Err(format!("row {row} is {other}; expected one JSON object per line")),
        }
    }
    Ok(Schema::new(fields(found)))
}

/// What a type has to hold.
#[derive(Debug, Clone, PartialEq)]
enum Guess {
    Null,
    Bool,
    Number(Numbers),
    Text,
    List(Box<Self>),
    Object(IndexMap<String, Self>),
}

/// Two values that no type holds both.
#[derive(Debug)]
struct Conflict {
    column: String,
    a: Guess,
    b: Guess,
}

impl Conflict {
    fn of_list(&self) -> String {
        let Self { column: _, a, b } = self;
        format!("a list holds {a} and {b}; no type holds both")
    }
}

impl fmt::Display for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number(_) => "a number",
            Self::Text => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        })
    }
}

impl Guess {
    /// The guess that covers both.
    fn or(self, other: Self) -> Result<Self, Box<Conflict>> {
        Ok(match (self, other) {
            (Self::Null, other) | (other, Self::Null) => other,
            (Self::Number(a), Self::Number(b)) => Self::Number(a.or(b)),
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.or(*b)?)),
            (Self::Object(mut a), Self::Object(b)) => {
                merge_fields(&mut a, b)?;
                Self::Object(a)
            }
            (a, b) if a == b => a,
            (a @ (Self::List(_) | Self::Object(_)), b) | (a, b @ (Self::List(_) | Self::Object(_))) => {
                return Err(Box::new(Conflict { column: String::new(), a, b }));
            }
            _ => Self::Text,
        })
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Null => DataType::Null,
            Self::Bool => DataType::Boolean,
            Self::Number(numbers) => numbers.data_type(),
            Self::Text => DataType::Utf8,
            Self::List(item) => DataType::List(Arc::new(Field::new("item", item.data_type(), true))),
            Self::Object(inner) => DataType::Struct(fields(inner)),
        }
    }
}

fn merge_fields(found: &mut IndexMap<String, Guess>, row: IndexMap<String, Guess>) -> Result<(), Box<Conflict>> {
    for (name, guess) in row {
        let known = found.entry(name.clone()).or_insert(Guess::Null);
        let merged = std::mem::replace(known, Guess::Null).or(guess);
        *known = merged.map_err(|mut conflict| {
            let inner = std::mem::take(&mut conflict.column);
            conflict.column = if inner.is_empty() { name } else { format!("{name}.{inner}") };
            conflict
        })?;
    }
    Ok(())
}

fn fields(guesses: IndexMap<String, Guess>) -> Fields {
    guesses.into_iter().map(|(name, guess)| Field::new(name, guess.data_type(), true)).collect()
}

impl<'de> Deserialize<'de> for Guess {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GuessVisitor)
    }
}

struct GuessVisitor;

impl<'de> Visitor<'de> for GuessVisitor {
    type Value = Guess;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Guess, E> {
        Ok(Guess::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Guess, E> {
        Ok(Guess::Bool)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Guess, E> {
        Ok(Guess::Number(Numbers::integer(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Guess, E> {
        Ok(Guess::Number(Numbers::integer(value.into())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Guess, E> {
        Ok(Guess::Number(Numbers::float()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Guess, E> {
        Ok(Guess::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Guess, A::Error> {
        let mut item = Guess::Null;
        while let Some(next) = items.next_element()? {
            item = item.or(next).map_err(|conflict| A::Error::custom(conflict.of_list()))?;
        }
        Ok(Guess::List(Box::new(item)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Guess, A::Error> {
        let mut fields = IndexMap::new();
        while let Some((name, value)) = entries.next_entry::<String, Guess>()? {
            fields.insert(name, value);
        }
        Ok(Guess::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_of(values: &str) -> Result<String, String> {
        let lines: String = values.split(' ').map(|value| format!("{{\"c\": {value}}}\n")).collect();
        Ok(columns(lines.as_bytes(), 100)?.field(0).data_type().to_string())
    }

    #[test]
    fn a_type_holds_every_value_of_the_sample() {
        for (values, expected) in [
            ("1 2", "Int64"),
            ("1 1.5", "Float64"),
            ("1.5 1", "Float64"),
            ("null 1", "Int64"),
            ("18446744073709551615 1", "UInt64"),
            ("18446744073709551615 -1", "Utf8"),
            ("9007199254740993 0.5", "Utf8"),
            ("9007199254740992 0.5", "Float64"),
            ("1 \"a\"", "Utf8"),
            ("true 1", "Utf8"),
            ("true false", "Boolean"),
        ] {
            assert_eq!(type_of(values).as_deref(), Ok(expected), "{values}");
        }
    }

    #[test]
    fn a_list_beside_a_number_is_an_error_with_row_and_column() {
        let lines = "{\"a\": 1, \"b\": {\"c\": [1]}, \"d\": 2}\n{\"b\": {\"c\": 4}}\n";
        let error = columns(lines.as_bytes(), 100).expect_err("no common type");
        assert_eq!(error, "row 2: column `b.c` holds a number, and a list in an earlier row; no type holds both");
    }

    #[test]
    fn a_line_that_is_no_object_is_an_error() {
        let error = columns(&b"{\"a\": 1}\n[1]\n"[..], 100).expect_err("a list");
        assert_eq!(error, "row 2 is a list; expected one JSON object per line");
    }
}
