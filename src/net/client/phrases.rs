//! Numbers in messages of servers, found by the phrase beside them.
//!
//! Never by their position: messages also contain model names (`text-embedding-3-small`), statuses and other limits.

/// The number right after a phrase.
pub(super) fn number_after(text: &str, phrase: &str) -> Option<u64> {
    first_number(text.split_once(phrase)?.1).map(|(number, _)| number)
}

/// The number right before a phrase.
pub(super) fn number_before(text: &str, phrase: &str) -> Option<u64> {
    last_number(text.split_once(phrase)?.0)
}

/// The number at the start of a text, `8192` or `8,192`, and what follows it.
pub(super) fn first_number(text: &str) -> Option<(u64, &str)> {
    let grouped = |at: usize| {
        let digits = text.as_bytes().get(at + 1..at + 4);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
            && !text.as_bytes().get(at + 4).is_some_and(u8::is_ascii_digit)
    };
    let end = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || *at > 0 && *c == ',' && grouped(*at)))
        .map_or(text.len(), |(at, _)| at);
    let number = text[..end].replace(',', "").parse().ok()?;
    Some((number, &text[end..]))
}

/// The number at the end of a text.
pub(super) fn last_number(text: &str) -> Option<u64> {
    let start = text
        .char_indices()
        .rev()
        .find(|(_, c)| !c.is_ascii_digit() && *c != ',')
        .map_or(0, |(at, c)| at + c.len_utf8());
    first_number(&text[start..]).map(|(number, _)| number)
}
