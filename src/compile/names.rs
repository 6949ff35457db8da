//! Names of tasks that every engine accepts: small letters, digits and `-`, not too long, each given once.

use std::collections::HashSet;

/// Characters of a name, so that endings and the numbers of pods still fit into the 63 of a label.
const LONGEST: usize = 46;

/// Gives each name once.
#[derive(Debug, Default)]
pub(super) struct Names {
    given: HashSet<String>,
}

impl Names {
    /// A name like `text` which is free with each of these endings; those names are then taken.
    pub fn take(&mut self, text: &str, endings: &[&str]) -> String {
        let base = plain(text);
        let mut name = base.clone();
        let mut number = 2;
        while endings.iter().any(|ending| self.given.contains(&format!("{name}{ending}"))) {
            name = format!("{base}-{number}");
            number += 1;
        }
        self.given.extend(endings.iter().map(|ending| format!("{name}{ending}")));
        name
    }
}

/// A text as a name: `add_node_embeddings` is `add-node-embeddings`.
pub(super) fn plain(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => name.push(c),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    name.truncate(LONGEST);
    let name = name.trim_end_matches('-');
    // Argo takes a name that begins with a digit for an expression.
    match name.chars().next() {
        None => "node".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("n-{name}"),
        Some(_) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_given_once() {
        for (text, name) in [
            ("add_node_embeddings", "add-node-embeddings"),
            ("ns.Größe__x", "ns-gr-e-x"),
            ("7zip", "n-7zip"),
            ("ß", "node"),
            ("--", "node"),
        ] {
            assert_eq!(plain(text), name);
        }
        assert_eq!(plain(&"long_".repeat(40)).len(), LONGEST - 1 + usize::from(!LONGEST.is_multiple_of(5)));
        let mut names = Names::default();
        assert_eq!(names.take("a_b", &[""]), "a-b");
        assert_eq!(names.take("a.b", &[""]), "a-b-2");
        assert_eq!(names.take("a-b", &["-shards", "-gather"]), "a-b");
        assert_eq!(names.take("a_b_gather", &[""]), "a-b-gather-2");
        assert_eq!(names.take("A-B", &["-shards", "-gather"]), "a-b-2");
    }
}
