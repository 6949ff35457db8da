//! The type of a CSV column from a sample of its values: wide enough for each of them, and text where no other is.

use arrow::datatypes::{DataType, TimeUnit};

use crate::data::format::{
    exact::{TimeParts, has_fraction},
    numbers::Numbers,
};

/// What was seen of a column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Guess {
    bools: bool,
    numbers: Option<Numbers>,
    dates: bool,
    /// Times without an offset.
    local_times: bool,
    /// Times with an offset.
    instants: bool,
    /// The most decimal places of a time's seconds.
    digits: usize,
    text: bool,
}

impl Guess {
    /// Takes a value into account. One that is missing fits every type.
    pub(super) fn update(&mut self, value: &str) {
        if value.is_empty() || self.text {
            return;
        }
        if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") {
            self.bools = true;
        } else if let Some(numbers) = number(value) {
            self.numbers = Some(self.numbers.unwrap_or_default().or(numbers));
        } else if is_shaped(value, "0000-00-00") {
            self.dates = true;
        } else if is_time(value) {
            let parts = TimeParts::of(value);
            self.local_times |= !parts.zoned;
            self.instants |= parts.zoned;
            self.digits = self.digits.max(parts.digits);
        } else {
            self.text = true;
        }
    }

    /// The type. A column without a value is text, the one type that holds whatever comes.
    pub(super) fn data_type(&self) -> DataType {
        let unit = || match self.digits {
            0..=6 => Some(TimeUnit::Microsecond),
            7..=9 => Some(TimeUnit::Nanosecond),
            _ => None,
        };
        match *self {
            Self { text: true, .. } => DataType::Utf8,
            Self { bools: true, numbers: None, dates: false, local_times: false, instants: false, .. } => {
                DataType::Boolean
            }
            Self {
                bools: false, numbers: Some(numbers), dates: false, local_times: false, instants: false, ..
            } => numbers.data_type(),
            Self { bools: false, numbers: None, dates: true, local_times: false, instants: false, .. } => {
                DataType::Date32
            }
            Self { bools: false, numbers: None, local_times: true, instants: false, .. } => {
                unit().map_or(DataType::Utf8, |unit| DataType::Timestamp(unit, None))
            }
            Self { bools: false, numbers: None, dates: false, local_times: false, instants: true, .. } => {
                unit().map_or(DataType::Utf8, |unit| DataType::Timestamp(unit, Some("UTC".into())))
            }
            _ => DataType::Utf8,
        }
    }
}

fn number(value: &str) -> Option<Numbers> {
    if matches!(value, "NaN" | "nan" | "inf" | "-inf") {
        return Some(Numbers::float());
    }
    let digits = value.strip_prefix('-').unwrap_or(value);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than 128 bits hold: no number type does.
        return value.parse().ok().map(Numbers::integer);
    }
    let numeric = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    let plain = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') && digits.bytes().all(numeric);
    let float = value.parse::<f64>().ok().filter(|float| plain && float.is_finite())?;
    // A fraction that no float has there: the digits are those of a decimal number.
    let beyond = float.abs() > (1_u64 << 53) as f64 && has_fraction(digits);
    Some(if beyond { Numbers::decimal() } else { Numbers::float() })
}

/// True when each character of `value` is the one of `shape`, or any digit where that is `0`.
fn is_shaped(value: &str, shape: &str) -> bool {
    value.len() == shape.len()
        && value.bytes().zip(shape.bytes()).all(|(byte, like)| {
            if like == b'0' { byte.is_ascii_digit() } else { byte == like || (like == b'T' && byte == b' ') }
        })
}

/// True for a date and a time of day, perhaps with a fraction and an offset.
fn is_time(value: &str) -> bool {
    let Some((start, rest)) = value.split_at_checked(19) else { return false };
    is_shaped(start, "0000-00-00T00:00:00")
        && (rest.is_empty() || !rest.starts_with(|c: char| c.is_ascii_digit()))
        && arrow::compute::kernels::cast_utils::string_to_datetime(&chrono::Utc, value).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_holds_every_value_of_the_sample() {
        for (values, expected) in [
            ("", "Utf8"),
            ("1||-2", "Int64"),
            ("1|1.5", "Float64"),
            ("1|1e3|nan", "Float64"),
            ("18446744073709551615", "UInt64"),
            ("18446744073709551615|-1", "Utf8"),
            ("18446744073709551616", "Utf8"),
            ("9007199254740993|0.5", "Utf8"),
            ("12345678901234567890.25", "Utf8"),
            ("12345678901234567890.0|1.5", "Float64"),
            ("1|x", "Utf8"),
            ("true|FALSE", "Boolean"),
            ("true|1", "Utf8"),
            ("2020-01-02", "Date32"),
            ("2020-01-02|2020-01-02T03:04:05", "Timestamp(µs)"),
            ("2020-01-02T03:04:05|2020-01-02 03:04:05.1234567", "Timestamp(ns)"),
            ("2020-01-02T03:04:05.0123456789", "Utf8"),
            ("2020-01-02T03:04:05Z|2020-01-02T03:04:05+02:00", "Timestamp(µs, \"UTC\")"),
            ("2020-01-02T03:04:05Z|2020-01-02T03:04:05", "Utf8"),
            ("2020-99-02T03:04:05", "Utf8"),
            ("1.2.3", "Utf8"),
            ("+1", "Utf8"),
        ] {
            let mut guess = Guess::default();
            values.split('|').for_each(|value| guess.update(value));
            assert_eq!(guess.data_type().to_string(), expected, "{values}");
        }
    }
}
