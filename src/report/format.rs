//! Formats numbers, durations and money for display.

use std::time::Duration;

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `2 rows`, `1,234 rows`.
pub fn plural(number: u64, word: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {word}{s}", count(number))
}

/// A time in seconds, as a ledger tells it: damaged, it may hold any number.
pub fn from_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

/// `45 ms`, `1.3 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    // Rounded first, so that `60 s` is never displayed.
    let whole = seconds.round() as u64;
    let two = |big: u64, unit: &str, small: u64, rest: &str| {
        if small == 0 { format!("{big} {unit}") } else { format!("{big} {unit} {small} {rest}") }
    };
    match whole {
        _ if seconds < 0.9995 => format!("{} ms", (seconds * 1000.0).round()),
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3_600 => two(whole / 60, "min", whole % 60, "s"),
        3_600..86_400 => two(whole / 3_600, "h", whole % 3_600 / 60, "min"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
    }
}

/// `$1,234.56`, `$0.42`; small amounts with two significant digits: `$0.0042`.
pub fn money(usd: f64) -> String {
    if usd <= 0.0 {
        return "$0".to_owned();
    }
    if usd >= 0.1 {
        let cents = (usd * 100.0).round() as u64;
        return format!("${}.{:02}", count(cents / 100), cents % 100);
    }
    let places = (1.0 - usd.log10().floor()).clamp(2.0, 9.0) as usize;
    format!("${usd:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        for (number, wanted) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")]
        {
            assert_eq!(count(number), wanted);
        }
        assert_eq!([plural(1, "row"), plural(0, "row"), plural(1_200, "row")], ["1 row", "0 rows", "1,200 rows"]);
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, wanted) in [
            (0.0, "0 ms"),
            (0.045, "45 ms"),
            (0.9996, "1.0 s"),
            (1.26, "1.3 s"),
            (9.96, "10 s"),
            (59.4, "59 s"),
            (59.6, "1 min"),
            (200.0, "3 min 20 s"),
            (3_600.0, "1 h"),
            (7_500.0, "2 h 5 min"),
            (86_400.0 * 3.0 + 4.0 * 3_600.0, "3 d 4 h"),
        ] {
            assert_eq!(duration(from_seconds(seconds)), wanted, "{seconds}");
        }
        for damaged in [f64::NAN, f64::INFINITY, 1e300, -1e300] {
            assert!(!duration(from_seconds(damaged)).is_empty(), "{damaged}");
        }
    }

    #[test]
    fn small_amounts_are_not_rounded_to_zero() {
        for (usd, wanted) in [
            (0.0, "$0"),
            (-1.0, "$0"),
            (0.42, "$0.42"),
            (0.099, "$0.099"),
            (0.0042, "$0.0042"),
            (0.000_000_02, "$0.000000020"),
            (12.0, "$12.00"),
            (1234.567, "$1,234.57"),
        ] {
            assert_eq!(money(usd), wanted, "{usd}");
        }
    }
}
