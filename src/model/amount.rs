//! Numbers and money as people read them.

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
