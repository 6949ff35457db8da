//! Schedules that Argo's cron takes: five fields, or a word.

/// Words for schedules.
const WORDS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
/// The least and the largest number of each field, and names for numbers from the least one on.
const FIELDS: &[(u32, u32, &[&str])] = &[
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    // Sunday is 0, and 7 is refused.
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];
/// Units of durations; those that begin like a shorter one come first.
const UNITS: &[&str] = &["ns", "us", "µs", "ms", "s", "m", "h"];

/// True for five fields of cron, a word such as `@daily`, or `@every 1h30m`.
pub fn is_schedule(text: &str) -> bool {
    if WORDS.contains(&text) || text.strip_prefix("@every ").is_some_and(is_duration) {
        return true;
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    fields.len() == FIELDS.len()
        && fields.iter().zip(FIELDS).all(|(field, bounds)| field.split(',').all(|part| is_part(part, *bounds)))
}

/// True for `*`, `7`, `1-5`, `mon-fri`, each also with a step, as `*/15`.
fn is_part(text: &str, (least, largest, names): (u32, u32, &[&str])) -> bool {
    let number = |text: &str| {
        let named = names.iter().zip(least..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        let number = named.map(|(_, number)| number).or_else(|| digits(text))?;
        (least..=largest).contains(&number).then_some(number)
    };
    let (of, step) = text.split_once('/').map_or((text, None), |(of, step)| (of, Some(step)));
    let stepped = step.is_none_or(|step| digits(step).is_some_and(|step| step > 0));
    let covered = match of.split_once('-') {
        _ if of == "*" || of == "?" => true,
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
        None => number(of).is_some(),
    };
    stepped && covered
}

/// A number without a sign.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// True for a duration as Go writes it: `90s`, `1h30m`. There are no days.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let value: Result<f64, _> = rest[..rest.len() - number.len()].parse();
        let Some(after) = UNITS.iter().find_map(|unit| number.strip_prefix(unit)) else { return false };
        if value.is_err() {
            return false;
        }
        rest = after;
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_those_of_cron() {
        for text in [
            "0 3 * * *",
            "*/15 0-6 1,15 * mon-fri",
            "0 0 ? JAN,dec Sun",
            "5/20 * * * *",
            "@daily",
            "@every 1h30m",
            "@every 90s",
            "0 0 31 12 6",
        ] {
            assert!(is_schedule(text), "{text}");
        }
        for text in [
            "",
            "daily",
            "0 3 * *",
            "60 3 * * *",
            "0 24 * * *",
            "0 3 0 * *",
            "0 3 * 13 *",
            "0 3 * * 7",
            "0 3 * * fri-mon",
            "0 3 * abc *",
            "0 3 * * xyz",
            "30-10 * * * *",
            "+5 * * * *",
            "*/0 * * * *",
            "*/x * * * *",
            "0 3 * * * *",
            "@never",
            "@every 10",
            "@every 2d",
            "@every ",
        ] {
            assert!(!is_schedule(text), "{text}");
        }
    }
}
