//! Plain scalars: their values in the core schema of YAML 1.2, and where YAML 1.1 differs.

use super::tree::Value;

/// The value of a plain (unquoted) scalar. Integers beyond 64 bits stay strings, because a rounded number would be
/// another one; see [`ambiguity`].
pub(super) fn core(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        _ => number(text).unwrap_or_else(|| Value::Text(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Some(Value::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
    }
    if !digits.as_bytes().first().is_some_and(|b| b.is_ascii_digit() || *b == b'.') {
        return None;
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Value::Int);
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        // `from_str_radix` would take a sign of its own.
        if let Some(rest) = text.strip_prefix(prefix).filter(|rest| !rest.starts_with(['+', '-'])) {
            return i64::from_str_radix(rest, radix).ok().map(Value::Int);
        }
    }
    is_float(digits).then(|| text.parse().ok().map(Value::Float))?
}

/// `1.5`, `.5`, `1.`, `1e3`; what [`f64`] reads beyond that (`infinity`, `1e`) is a string in YAML.
fn is_float(digits: &str) -> bool {
    let (mantissa, exponent) = digits.split_once(['e', 'E']).map_or((digits, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let exponent = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['-', '+']).unwrap_or(e);
        !e.is_empty() && all_digits(e)
    });
    exponent && all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty())
}

/// How an older reader (YAML 1.1, as in PyYAML and so Kedro) would take a plain scalar, where that differs from
/// [`core`]: "the boolean `true`". `None` where both agree.
pub(super) fn ambiguity(text: &str) -> Option<String> {
    let first = text.bytes().next()?;
    if !(first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.' | b'y' | b'Y' | b'n' | b'N' | b'o' | b'O')) {
        return None;
    }
    match text {
        "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Some("the boolean `true`".into()),
        "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Some("the boolean `false`".into()),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let only = |text: &str, allowed: fn(u8) -> bool| !text.is_empty() && text.bytes().all(|b| allowed(b) || b == b'_');
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if digits.len() > 1 && digits.starts_with('0') && only(digits, |b| b.is_ascii_digit()) {
        let octal = only(digits, |b| (b'0'..=b'7').contains(&b));
        return Some(if octal { "an octal number" } else { "a string" }.into());
    }
    if let Some(rest) = digits.strip_prefix("0o") {
        return only(rest, |b| (b'0'..=b'7').contains(&b)).then(|| "a string".into());
    }
    if digits.strip_prefix("0b").is_some_and(|rest| only(rest, |b| matches!(b, b'0' | b'1'))) {
        return Some("a binary number".into());
    }
    if let Some(rest) = digits.strip_prefix("0x") {
        let differs = digits.len() != text.len() || rest.contains('_');
        return (differs && only(rest, |b| b.is_ascii_hexdigit())).then(|| "a hexadecimal number".into());
    }
    if digits.contains(':') {
        let mut parts = digits.split(':');
        let whole = parts.next().is_some_and(|p| only(p, |b| b.is_ascii_digit()));
        let rest: Vec<&str> = parts.collect();
        let sixties = rest.iter().enumerate().all(|(i, part)| {
            let part = if i + 1 == rest.len() { part.split('.').next().unwrap_or(part) } else { part };
            (1..=2).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_digit())
                && part.parse().is_ok_and(|n: u8| n < 60)
        });
        return (whole && sixties).then(|| "a number in base 60".into());
    }
    if digits.contains('_') {
        let plain = digits.replace('_', "");
        return matches!(core(&plain), Value::Int(_) | Value::Float(_)).then(|| format!("the number {plain}"));
    }
    (only(digits, |b| b.is_ascii_digit()) && text.parse::<i64>().is_err()).then(|| "an integer".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_schema_of_yaml_1_2() {
        for (text, wanted) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("True", Value::Bool(true)),
            ("FALSE", Value::Bool(false)),
            ("-12", Value::Int(-12)),
            ("+12", Value::Int(12)),
            ("010", Value::Int(10)),
            ("0o17", Value::Int(15)),
            ("0x1F", Value::Int(31)),
            ("1e3", Value::Float(1000.0)),
            ("1.", Value::Float(1.0)),
            ("-.5", Value::Float(-0.5)),
            ("-.inf", Value::Float(f64::NEG_INFINITY)),
            ("9223372036854775807", Value::Int(i64::MAX)),
        ] {
            assert_eq!(core(text), wanted, "{text}");
        }
        for text in [
            "yes",
            "nULL",
            "inf",
            "nan",
            "1e",
            ".",
            "-",
            "+",
            "1_000",
            "1:30",
            "2024-01-01",
            "0x",
            "0x-1",
            "1.2.3",
            "e3",
            "9223372036854775808",
            "infinity",
            "0b1",
            "-0x1F",
        ] {
            assert_eq!(core(text), Value::Text(text.into()), "{text}");
        }
        assert!(matches!(core(".NaN"), Value::Float(f) if f.is_nan()));
    }

    #[test]
    fn words_that_yaml_1_1_reads_otherwise_are_known() {
        for (text, part) in [
            ("yes", "`true`"),
            ("Off", "`false`"),
            ("010", "octal"),
            ("-010", "octal"),
            ("089", "string"),
            ("0o17", "string"),
            ("0b101", "binary"),
            ("1:30", "base 60"),
            ("12:30:45", "base 60"),
            ("1:30.5", "base 60"),
            ("1_000", "1000"),
            ("9223372036854775808", "integer"),
            ("-0x1F", "hexadecimal"),
        ] {
            let found = ambiguity(text).expect(text);
            assert!(found.contains(part), "{text}: {found}");
        }
        for text in [
            "y",
            "n",
            "true",
            "0",
            "10",
            "1.5",
            "1e3",
            "0x1F",
            "12:99",
            "10.0.0.1:80",
            "2024-01-01",
            "node",
            "offset",
            "-",
            "a:b",
            "",
            "00:1x",
        ] {
            assert_eq!(ambiguity(text), None, "{text}");
        }
    }
}
