//! Formats numbers with their words, and durations, for display.

use std::time::Duration;

use crate::model::count;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_a_plural() {
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
}
