//! `dtype`: the type of the numbers of a vector, as the server makes them.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Float32Array, Int8Array, UInt8Array},
    datatypes::DataType,
};

use crate::config::{Field, Kind};

/// The key, for the field tables of providers.
pub(super) const FIELD: Field = Field::optional(
    "dtype",
    Kind::Choice(&["float32", "int8", "binary"]),
    "float32",
    "The type of numbers that the server makes: `int8`, or `binary`, eight dimensions in a byte.",
);

/// The type of the numbers of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dtype {
    /// Numbers.
    #[default]
    Float32,
    /// Integers from -128 to 127.
    Int8,
    /// Bytes of eight bits, one for each dimension.
    Binary,
}

impl Dtype {
    /// The type of this word.
    pub fn from_word(word: Option<&str>) -> Self {
        match word {
            Some("int8") => Self::Int8,
            Some("binary") => Self::Binary,
            _ => Self::Float32,
        }
    }

    /// As servers call it; `None` for numbers. The bits of a byte have no sign.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Float32 => None,
            Self::Int8 => Some("int8"),
            Self::Binary => Some("ubinary"),
        }
    }

    /// The numbers in a vector with so many dimensions.
    pub fn length(self, dimensions: usize) -> usize {
        if self == Self::Binary { dimensions.div_ceil(8) } else { dimensions }
    }

    /// The type of a column's numbers.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Float32 => DataType::Float32,
            Self::Int8 => DataType::Int8,
            Self::Binary => DataType::UInt8,
        }
    }

    /// Whether a number of the server's is one of these.
    pub fn holds(self, number: f32) -> bool {
        let range = match self {
            Self::Float32 => return true,
            Self::Int8 => -128.0..=127.0,
            Self::Binary => 0.0..=255.0,
        };
        number.fract() == 0.0 && range.contains(&number)
    }

    /// The numbers as the column's array; each is one of these.
    pub fn array(self, numbers: Float32Array) -> ArrayRef {
        let values = || numbers.values().iter().copied();
        match self {
            Self::Float32 => Arc::new(numbers),
            Self::Int8 => Arc::new(Int8Array::from_iter_values(values().map(|number| number as i8))),
            Self::Binary => Arc::new(UInt8Array::from_iter_values(values().map(|number| number as u8))),
        }
    }
}
