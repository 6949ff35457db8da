//! "Did you mean": the nearest of the names that exist.

/// Characters of a name up to which the nearest one is looked for: the time grows with the square of its length.
const LONGEST: usize = 200;

/// The candidate that was most likely meant by `name`: one that differs only in case, else the nearest by
/// Damerau-Levenshtein distance, as long as that is at most 3 and at most a third of the name's length.
/// Equal distances go to the candidate that comes first.
pub fn closest(name: &str, candidates: impl IntoIterator<Item = impl AsRef<str>>) -> Option<String> {
    let length = name.chars().count();
    let limit = 3.min(1.max(length / 3));
    let mut best: Option<(usize, String)> = None;
    for candidate in candidates {
        let candidate = candidate.as_ref();
        if candidate == name {
            continue;
        }
        if candidate.to_lowercase() == name.to_lowercase() {
            return Some(candidate.to_owned());
        }
        // The distance is never less than the difference in length, which is much cheaper to know.
        if length > LONGEST || candidate.chars().count().abs_diff(length) > limit {
            continue;
        }
        let distance = strsim::damerau_levenshtein(name, candidate);
        if distance <= limit && best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, candidate.to_owned()));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// [`closest`] as a sentence for [`help_opt`](super::Diagnostic::help_opt): "did you mean `x`?".
pub fn did_you_mean(name: &str, candidates: impl IntoIterator<Item = impl AsRef<str>>) -> Option<String> {
    closest(name, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_within_reach_is_suggested() {
        for (name, candidates, wanted) in [
            ("filepaht", &["type", "filepath"][..], Some("filepath")),
            ("Type", &["typo", "type"], Some("type")),
            ("ab", &["ac", "b"], Some("ac")),
            ("x", &["abc"], None),
            ("cat", &["category"], None),
            ("overwirte", &["overwrite"], Some("overwrite")),
            ("same", &["same"], None),
            ("größe", &["Größe"], Some("Größe")),
            ("", &["a"], Some("a")),
        ] {
            assert_eq!(closest(name, candidates).as_deref(), wanted, "{name}");
        }
    }

    #[test]
    fn very_long_names_are_compared_in_no_time() {
        let (name, candidate) = ("a".repeat(1 << 20), "a".repeat((1 << 20) - 1));
        assert_eq!(closest(&name, [candidate]), None);
        assert_eq!(closest(&name, [name.to_uppercase()]), Some(name.to_uppercase()));
    }

    #[test]
    fn the_sentence_ends_as_a_question() {
        assert_eq!(did_you_mean("modle", ["model"]).as_deref(), Some("did you mean `model`?"));
        assert_eq!(did_you_mean("modle", [""; 0]), None);
    }
}
