//! Durations and sizes: `500ms`, `1h30m`, `512MiB`, `2GB`.

use std::time::Duration;

/// A string that is not a duration or not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuantity {
    /// Not a duration.
    #[error(
        "invalid duration `{0}`: expected seconds, or a number with `ms`, `s`, `m`, `h` or `d`, as in `500ms` or `1h30m`"
    )]
    Duration(String),
    /// Not a size.
    #[error(
        "invalid size `{0}`: expected bytes, or a number with `kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`, as in `512MiB`"
    )]
    Bytes(String),
    /// Not the size of what is kept.
    #[error("invalid size `{0}`: expected a number with its unit (`MB`, `GB`, `MiB`, `GiB`), as in `10GB`")]
    KeptBytes(String),
    /// Not an age.
    #[error("invalid age `{0}`: expected a number with its unit (`m`, `h` or `d`), as in `30d` or `12h`")]
    Age(String),
}

/// Parses a duration: `10` and `0.5` are seconds, `500ms`, `10s`, `10m`, `1h`, `2d`, and sums such as `1h30m`.
///
/// # Errors
/// When the string is none of these, is negative, or is longer than a thousand years.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidQuantity> {
    let error = || InvalidQuantity::Duration(text.to_owned());
    let mut rest = text.trim();
    if let Some(seconds) = plain_number(rest) {
        return seconds_to_duration(seconds).ok_or_else(error);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, unit, after) = split_unit(rest).ok_or_else(error)?;
        seconds += number
            * match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return Err(error()),
            };
        rest = after.trim_start();
    }
    if text.trim().is_empty() { Err(error()) } else { seconds_to_duration(seconds).ok_or_else(error) }
}

/// Parses the size of what is kept of more: with its unit, as `10GB`. Who leaves the unit out hardly means bytes.
///
/// # Errors
/// When the string is something else.
pub fn parse_kept_bytes(text: &str) -> Result<u64, InvalidQuantity> {
    let size = if plain_number(text.trim()).is_some() { None } else { parse_bytes(text).ok() };
    size.ok_or_else(|| InvalidQuantity::KeptBytes(text.to_owned()))
}

/// Parses the age of what is removed: a duration with its unit, as `30d`. Who leaves the unit out mostly means days.
///
/// # Errors
/// When the string is something else.
pub fn parse_age(text: &str) -> Result<Duration, InvalidQuantity> {
    let age = if plain_number(text.trim()).is_some() { None } else { parse_duration(text).ok() };
    age.ok_or_else(|| InvalidQuantity::Age(text.to_owned()))
}

/// Seconds as a duration, if they are not negative, not `nan` and not beyond a thousand years.
pub(super) fn seconds_to_duration(seconds: f64) -> Option<Duration> {
    const THOUSAND_YEARS: f64 = 3.2e10;
    (0.0..=THOUSAND_YEARS).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// Parses a size in bytes: `1024`, `512MiB`, `2GB`, `1.5 GiB`, `1Gi`. `kB` is 1000 bytes, `KiB` and `Ki` are 1024; case does not matter.
///
/// # Errors
/// When the string is none of these, is negative, or does not fit 63 bits.
pub fn parse_bytes(text: &str) -> Result<u64, InvalidQuantity> {
    let error = || InvalidQuantity::Bytes(text.to_owned());
    let trimmed = text.trim();
    if trimmed.bytes().all(|b| b.is_ascii_digit()) {
        return trimmed.parse::<i64>().ok().and_then(|n| u64::try_from(n).ok()).ok_or_else(error);
    }
    let (number, unit, after) = split_unit(trimmed).ok_or_else(error)?;
    let unit = unit.to_ascii_lowercase();
    let (base, prefix) = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('i')) {
        Some(prefix) => (1024f64, prefix),
        None => (1000f64, unit.strip_suffix('b').unwrap_or(&unit)),
    };
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|p| *p == prefix).ok_or_else(error)?;
    if (prefix.is_empty() && base > 1000.0) || !after.is_empty() {
        return Err(error());
    }
    let bytes = number * base.powi(i32::try_from(power).map_err(|_| error())?);
    // Below 2^63 the conversion is exact enough: sizes are not counted byte by byte.
    if bytes < 9.2e18 { Ok(bytes.round() as u64) } else { Err(error()) }
}

fn plain_number(text: &str) -> Option<f64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (digits && !text.is_empty()).then(|| text.parse().ok())?
}

/// `1.5 GiB rest` → (1.5, `GiB`, ` rest`).
fn split_unit(text: &str) -> Option<(f64, &str, &str)> {
    let number_end = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let number = plain_number(&text[..number_end])?;
    let rest = text[number_end..].trim_start();
    let unit_end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    Some((number, &rest[..unit_end], &rest[unit_end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, milliseconds) in [
            ("10", 10_000),
            ("0.5", 500),
            ("500ms", 500),
            ("10s", 10_000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("2d", 172_800_000),
            (" 1.5 s ", 1500),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1", "1x", "1h30", "1..2s", "inf", "nan", "1e9", "99999999999999d", "10 minutes"] {
            assert_eq!(parse_duration(text), Err(InvalidQuantity::Duration(text.into())), "{text}");
        }
    }

    #[test]
    fn ten_without_a_unit_is_no_size_to_keep() {
        assert_eq!(parse_kept_bytes("10GB"), Ok(10_000_000_000));
        for text in ["10", " 10 ", "0", "", "-1GB", "10 of them"] {
            assert_eq!(parse_kept_bytes(text), Err(InvalidQuantity::KeptBytes(text.into())), "{text}");
        }
    }

    #[test]
    fn thirty_without_a_unit_is_no_age() {
        assert_eq!(parse_age("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(parse_age("1d12h"), Ok(Duration::from_secs(36 * 3600)));
        for text in ["30", " 30 ", "0.5", "0", "", "-1d", "30 days"] {
            assert_eq!(parse_age(text), Err(InvalidQuantity::Age(text.into())), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1024", 1024),
            ("512MiB", 512 << 20),
            ("2GB", 2_000_000_000),
            ("1.5 GiB", 3 << 29),
            ("1Gi", 1 << 30),
            ("10k", 10_000),
            ("7 B", 7),
            ("2gib", 2 << 30),
            ("0", 0),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "B", "-1", "1 XB", "1GBB", "1GB2", "99999999999 TB", "1ib", "99999999999999999999"] {
            assert_eq!(parse_bytes(text), Err(InvalidQuantity::Bytes(text.into())), "{text}");
        }
    }
}
