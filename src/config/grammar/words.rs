//! The types of unquoted words: `null`, booleans and numbers, as OmegaConf reads them.

use crate::config::Value;

/// The typed value of an unquoted word; `None` for a string.
pub(super) fn typed_word(word: &str) -> Option<Value> {
    if word.eq_ignore_ascii_case("null") {
        return Some(Value::Null);
    }
    if word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false") {
        return Some(Value::Bool(word.eq_ignore_ascii_case("true")));
    }
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let negative = word.starts_with('-');
    if unsigned.eq_ignore_ascii_case("inf") {
        return Some(Value::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
    }
    if unsigned.eq_ignore_ascii_case("nan") {
        return Some(Value::Float(f64::NAN));
    }
    if is_whole(unsigned) {
        return word.replace('_', "").parse().ok().map(Value::Int);
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            (is_whole(whole) || whole.is_empty()) && (is_digits(fraction) || (fraction.is_empty() && !whole.is_empty()))
        }
        None => is_whole(mantissa) && exponent.is_some(),
    };
    let exponent_fits = exponent.is_none_or(|e| is_digits(e.strip_prefix(['+', '-']).unwrap_or(e)));
    (mantissa_fits && exponent_fits).then(|| word.replace('_', "").parse().ok().map(Value::Float))?
}

/// `0`, or digits without a leading zero, single `_` between them.
fn is_whole(text: &str) -> bool {
    text == "0" || (is_digits(text) && !text.starts_with('0'))
}

/// Digits with single `_` between them.
fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.split('_').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()))
}
