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
    code(
        "yaml::ambiguous-scalar",
        "A word without quotes is read differently by YAML 1.1 (and so by Kedro): `yes`, `on`, `010`, `1:30`. `flow` reads YAML 1.2. Put it in quotes, or write what is meant.",
    ),
    code(
        "yaml::complex-key",
        "A key of a mapping is a list or a mapping. Most often it was meant as a placeholder, as in `{name}_data`, and lacks quotes.",
    ),
    code(
        "yaml::duplicate-key",
        "A key stands twice in one mapping, so that one of the values would be lost. Keep one of them.",
    ),
    code("yaml::merge", "`<<` takes a mapping, or a list of mappings, most often through an alias: `<<: *base`."),
    code("yaml::not-a-mapping", "A file holds a list or a single value where `name: value` lines are expected."),
    code(
        "yaml::recursive-alias",
        "An alias stands inside the very value that its anchor names, which would make it endless.",
    ),
    code("yaml::several-documents", "A file holds several documents, parted by `---`. Only one is read a file."),
    code(
        "yaml::syntax",
        "The text is no YAML. The message names the place and the usual cause; `${…}` inside brackets or with a `: ` in it needs quotes.",
    ),
    code("yaml::tag", "A tag such as `!secret` is not one of YAML's own, or its value does not fit it."),
    code("yaml::too-deep", "Lists and mappings stand deeper inside each other than any real configuration needs."),
    code(
        "yaml::too-many-aliases",
        "Anchors that repeat anchors multiply. This file would grow beyond any use, and is refused.",
    ),
    code(
        "yaml::unknown-anchor",
        "An alias `*name` has no anchor `&name` before it in the same file. Anchors do not cross files.",
    ),
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
