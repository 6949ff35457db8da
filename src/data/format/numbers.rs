//! The type that holds numbers of which a sample was seen.

use arrow::datatypes::DataType;

/// Integers up to this size are floats without loss.
const EXACT_IN_FLOAT: u128 = 1 << 53;

/// Which numbers were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Numbers {
    floats: bool,
    negative: bool,
    /// Integers above the signed ones of 64 bits.
    above_signed: bool,
    /// Integers of more than 64 bits.
    above_unsigned: bool,
    /// Integers that floats do not hold exactly.
    beyond_float: bool,
}

impl Numbers {
    /// A number with a fraction or an exponent.
    pub(super) fn float() -> Self {
        Self { floats: true, ..Self::default() }
    }

    /// A number with a fraction that floats do not hold.
    pub(super) fn decimal() -> Self {
        Self { floats: true, beyond_float: true, ..Self::default() }
    }

    /// An integer.
    pub(super) fn integer(value: i128) -> Self {
        let size = value.unsigned_abs();
        Self {
            floats: false,
            negative: value < 0,
            above_signed: i64::try_from(value).is_err(),
            above_unsigned: i64::try_from(value).is_err() && u64::try_from(value).is_err(),
            beyond_float: size > EXACT_IN_FLOAT,
        }
    }

    /// Those of both.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            floats: self.floats || other.floats,
            negative: self.negative || other.negative,
            above_signed: self.above_signed || other.above_signed,
            above_unsigned: self.above_unsigned || other.above_unsigned,
            beyond_float: self.beyond_float || other.beyond_float,
        }
    }

    /// The narrowest of the types of 64 bits that holds each of them exactly; text where none does.
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self { above_unsigned: true, .. } | Self { floats: true, beyond_float: true, .. } => DataType::Utf8,
            Self { above_signed: true, negative: true, .. } => DataType::Utf8,
            Self { floats: true, .. } => DataType::Float64,
            Self { above_signed: true, .. } => DataType::UInt64,
            _ => DataType::Int64,
        }
    }
}
