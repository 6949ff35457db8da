//! Every code that a diagnostic can carry, with what `flow check` and the docs say about it.

/// One kind of problem.
#[derive(Debug, Clone, Copy)]
pub struct Code {
    /// `area::kebab-case`, never changed once released.
    pub code: &'static str,
    /// What it means and what to do about it, a few sentences.
    pub explain: &'static str,
}

const fn code(code: &'static str, explain: &'static str) -> Code {
    Code { code, explain }
}

/// All codes, sorted. A room that raises a new one adds its line here.
pub static CODES: &[Code] = &[
    code(
        "config::duplicate-alias",
        "A mapping gives the same thing twice, under two spellings of one key (`path` and `filepath`). Keep one of them.",
    ),
    code("config::missing-key", "A mapping lacks a key that it must have. Add it."),
    code(
        "config::out-of-range",
        "A number is smaller or larger than what makes sense for its key. The message names the range.",
    ),
    code(
        "config::secret-in-text",
        "A secret stands under a key whose value is shown in logs, lists or drawings. Give it under a key that is made \
         for secrets, or in `credentials.yml`.",
    ),
    code(
        "config::unknown-key",
        "A mapping has a key that nobody reads, most often a typo. Mend or remove it. Keys that begin with `x-` are \
         free for notes and anchors.",
    ),
    code("config::unknown-word", "A value is none of the words that its key accepts. The message lists them."),
    code("config::wrong-type", "A value has another type than its key needs: a text where a number belongs, say."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_unique_and_well_spelt() {
        for pair in CODES.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} stands before {}", pair[0].code, pair[1].code);
        }
        for Code { code, explain } in CODES {
            let (area, name) = code.split_once("::").expect(code);
            for part in [area, name] {
                let kebab = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                assert!(kebab && !part.is_empty(), "{code}");
            }
            assert!(explain.ends_with('.') && explain.starts_with(char::is_uppercase), "{code}: {explain}");
        }
    }
}
