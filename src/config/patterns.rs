//! Dataset names with `{placeholders}`: which names they match, in which order they are tried, and what an entry
//! becomes.

use std::{cmp::Reverse, collections::HashMap, collections::HashSet};

use super::{
    scalar,
    tree::{Node, Value},
};
use crate::model::Secret;

/// Different placeholders of a pattern in which one occurs twice.
const MAX_DISTINCT: usize = 3;
/// Literals and placeholders of one pattern.
const MAX_PARTS: usize = 64;

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<PatternPart>,
    /// True when a placeholder occurs twice: then both must have the same value.
    repeats: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PatternPart {
    Literal(String),
    Placeholder {
        name: String,
        /// `{n:d}`: digits only.
        digits: bool,
    },
}

/// Why a name is not a pattern: a message, lower-case.
pub(super) type InvalidPattern = String;

/// True for a name that is a pattern.
pub(super) fn is_pattern(name: &str) -> bool {
    name.contains('{')
}

impl Pattern {
    /// Reads a name.
    pub(super) fn parse(name: &str) -> Result<Self, InvalidPattern> {
        let mut parts = Vec::new();
        let mut rest = name;
        while let Some(open) = rest.find('{') {
            if rest[..open].contains('}') {
                return Err("a `}` has no `{` before it".into());
            }
            if open > 0 {
                parts.push(PatternPart::Literal(rest[..open].to_owned()));
            }
            let close = rest[open..].find('}').ok_or("a `{` has no `}`")? + open;
            let inner = &rest[open + 1..close];
            let (placeholder, digits) = match inner.split_once(':') {
                Some((placeholder, "d")) => (placeholder, true),
                Some((_, format)) => {
                    return Err(format!("unknown format `{format}`: only `{{name:d}}` (digits) is supported"));
                }
                None => (inner, false),
            };
            if !is_identifier(placeholder) {
                return Err(format!(
                    "`{{{inner}}}` is not a placeholder: expected a name of letters, digits and `_` between the braces"
                ));
            }
            parts.push(PatternPart::Placeholder { name: placeholder.to_owned(), digits });
            rest = &rest[close + 1..];
        }
        if rest.contains('}') {
            return Err("a `}` has no `{` before it".into());
        }
        if !rest.is_empty() {
            parts.push(PatternPart::Literal(rest.to_owned()));
        }
        if parts.len() > MAX_PARTS {
            return Err(format!("a pattern has at most {MAX_PARTS} parts"));
        }
        let mut seen = HashSet::new();
        let repeats = parts
            .iter()
            .filter(|part| matches!(part, PatternPart::Placeholder { name, .. } if !seen.insert(name.as_str())))
            .count()
            > 0;
        // Where one value depends on another, all combinations are tried.
        if repeats && seen.len() > MAX_DISTINCT {
            return Err(format!(
                "a pattern in which a placeholder occurs twice has at most {MAX_DISTINCT} different placeholders"
            ));
        }
        Ok(Self { parts, repeats })
    }

    /// The names of the placeholders.
    pub(super) fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            PatternPart::Placeholder { name, .. } => Some(name.as_str()),
            PatternPart::Literal(_) => None,
        })
    }

    /// True when it matches any name at all.
    pub(super) fn is_catch_all(&self) -> bool {
        self.literals() == 0
    }

    fn literals(&self) -> usize {
        let literal = |part: &PatternPart| if let PatternPart::Literal(text) = part { text.chars().count() } else { 0 };
        self.parts.iter().map(literal).sum()
    }

    /// Sorts patterns into the order in which they are tried: more literal characters first, then more placeholders,
    /// then alphabetically.
    pub(super) fn rank<'n>(&self, name: &'n str) -> (Reverse<usize>, Reverse<usize>, &'n str) {
        (Reverse(self.literals()), Reverse(self.placeholders().count()), name)
    }

    /// The values of the placeholders in a name; `None` when it does not match. A placeholder takes at least one
    /// character, and as few as it can.
    pub(super) fn matches<'n>(&self, name: &'n str) -> Option<HashMap<&str, &'n str>> {
        // Most names fail at the first or last literal.
        if let Some(PatternPart::Literal(first)) = self.parts.first() {
            name.strip_prefix(first.as_str())?;
        }
        if let Some(PatternPart::Literal(last)) = self.parts.last() {
            name.strip_suffix(last.as_str())?;
        }
        let mut search = Search { pattern: self, name, found: HashMap::new(), failed: HashSet::new() };
        search.from(0, 0).then_some(search.found)
    }
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

struct Search<'p, 'n> {
    pattern: &'p Pattern,
    name: &'n str,
    found: HashMap<&'p str, &'n str>,
    /// Parts and offsets from which there is no match.
    failed: HashSet<(usize, usize)>,
}

impl Search<'_, '_> {
    fn from(&mut self, part: usize, at: usize) -> bool {
        if self.failed.contains(&(part, at)) {
            return false;
        }
        let rest = &self.name[at..];
        let matched = match self.pattern.parts.get(part) {
            None => rest.is_empty(),
            Some(PatternPart::Literal(text)) => rest.starts_with(text.as_str()) && self.from(part + 1, at + text.len()),
            Some(PatternPart::Placeholder { name, digits }) => {
                if let Some(value) = self.found.get(name.as_str()).copied() {
                    rest.starts_with(value) && self.from(part + 1, at + value.len())
                } else {
                    let mut ends = rest.char_indices().map(|(i, c)| (i + c.len_utf8(), c));
                    ends.by_ref().take_while(|(_, c)| !digits || c.is_ascii_digit()).any(|(end, _)| {
                        self.found.insert(name.as_str(), &self.name[at..at + end]);
                        let matched = self.from(part + 1, at + end);
                        if !matched {
                            self.found.remove(name.as_str());
                        }
                        matched
                    })
                }
            }
        };
        if !matched && !self.pattern.repeats {
            self.failed.insert((part, at));
        }
        matched
    }
}

/// The placeholders in a string, each with its range; `{{` and `}}` are braces.
fn placeholders_in(text: &str) -> Vec<(usize, usize, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find('{').map(|i| at + i) {
        if text[open + 1..].starts_with('{') {
            at = open + 2;
            continue;
        }
        let Some(close) = text[open..].find('}').map(|i| open + i) else { break };
        if is_identifier(&text[open + 1..close]) {
            found.push((open, close + 1, &text[open + 1..close]));
            at = close + 1;
        } else {
            at = open + 1;
        }
    }
    found
}

/// Placeholders in an entry that the pattern's name does not have, with the node that holds them.
pub(super) fn unknown_placeholders<'n>(node: &'n Node, pattern: &Pattern) -> Vec<(&'n Node, &'n str)> {
    let mut found = Vec::new();
    each_text(node, &mut |node, text| {
        let known = |name: &str| pattern.placeholders().any(|placeholder| placeholder == name);
        found
            .extend(placeholders_in(text).into_iter().filter(|(.., name)| !known(name)).map(|(.., name)| (node, name)));
    });
    found
}

fn each_text<'n>(node: &'n Node, visit: &mut impl FnMut(&'n Node, &'n str)) {
    match &node.value {
        Value::Text(text) => visit(node, text),
        Value::Secret(secret) => visit(node, secret.expose()),
        Value::List(list) => list.iter().for_each(|item| each_text(item, visit)),
        Value::Map(map) => map.iter().for_each(|(_, entry)| each_text(&entry.node, visit)),
        _ => {}
    }
}

/// Replaces placeholders by values. A string that is one placeholder and nothing else becomes a number or a
/// boolean where its value reads as one and prints back the same.
pub(super) fn fill(node: &mut Node, values: &HashMap<&str, &str>) {
    match &mut node.value {
        Value::Text(text) => {
            if let [(0, end, name)] = placeholders_in(text).as_slice()
                && *end == text.len()
                && let Some(value) = values.get(name)
            {
                node.value = typed(value);
                return;
            }
            *text = filled(text, values);
        }
        Value::Secret(secret) => *secret = Secret::new(filled(secret.expose(), values)),
        Value::List(list) => list.iter_mut().for_each(|item| fill(item, values)),
        Value::Map(map) => map.entries.values_mut().for_each(|entry| fill(&mut entry.node, values)),
        _ => {}
    }
}

fn typed(value: &str) -> Value {
    let typed = scalar::core(value);
    let same = match &typed {
        Value::Int(number) => number.to_string() == value,
        Value::Bool(yes) => yes.to_string() == value,
        _ => false,
    };
    if same { typed } else { Value::Text(value.to_owned()) }
}

/// A string with placeholders replaced by values.
pub(super) fn filled(text: &str, values: &HashMap<&str, &str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (start, end, name) in placeholders_in(text) {
        out.push_str(&unescaped(&text[at..start]));
        out.push_str(values.get(name).unwrap_or(&&text[start..end]));
        at = end;
    }
    out.push_str(&unescaped(&text[at..]));
    out
}

fn unescaped(text: &str) -> String {
    text.replace("{{", "{").replace("}}", "}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(pattern: &str, name: &str) -> Option<Vec<(String, String)>> {
        let pattern = Pattern::parse(pattern).expect(pattern);
        let mut values: Vec<_> =
            pattern.matches(name)?.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        values.sort();
        Some(values)
    }

    #[test]
    fn placeholders_take_as_little_as_they_can() {
        for (pattern, name, wanted) in [
            ("{a}.{b}", "x.y.z", Some(&[("a", "x"), ("b", "y.z")][..])),
            ("{a}_{b}", "x_y_z", Some(&[("a", "x"), ("b", "y_z")])),
            ("{a}_data", "big_data_data", Some(&[("a", "big_data")])),
            ("{a}{b}", "xyz", Some(&[("a", "x"), ("b", "yz")])),
            ("{a}_{a}", "x_x", Some(&[("a", "x")])),
            ("{a}_{a}", "x_y", None),
            ("{a}_{a}", "x_y_x_y", Some(&[("a", "x_y")])),
            ("f_{n:d}", "f_12", Some(&[("n", "12")])),
            ("f_{n:d}", "f_1x", None),
            ("{a}_data", "_data", None),
            ("{a}_data", "x_Data", None),
            ("{a}@table", "x@table", Some(&[("a", "x")])),
            ("a.c_{x}", "abc_1", None),
            ("{x}", "anything at all", Some(&[("x", "anything at all")])),
            ("{größe}", "ä", Some(&[("größe", "ä")])),
            ("{a}.b.{c}.b", "x.b.y.b.z.b", Some(&[("a", "x"), ("c", "y.b.z")])),
        ] {
            let wanted = wanted.map(|list| list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
            assert_eq!(matched(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn ranking_is_by_literals_then_placeholders_then_alphabet() {
        let mut names = ["in-{x}", "{x}#csv", "out-{x}", "{name}_data", "{name}-{folder}#csv", "{any}"];
        names.sort_by_key(|name| Pattern::parse(name).expect(name).rank(name));
        assert_eq!(names, ["{name}-{folder}#csv", "{name}_data", "out-{x}", "{x}#csv", "in-{x}", "{any}"]);
        assert!(Pattern::parse("{a}{b}").expect("a pattern").is_catch_all());
        assert!(!Pattern::parse("{a}.").expect("a pattern").is_catch_all());
    }

    #[test]
    fn broken_patterns_say_why() {
        for (name, part) in [
            ("{a", "no `}`"),
            ("a}", "no `{`"),
            ("a}{b}", "no `{`"),
            ("{}", "not a placeholder"),
            ("{a b}", "not a placeholder"),
            ("{a:x}", "unknown format `x`"),
            ("{a}{b}{c}{d}{a}", "at most 3 different"),
        ] {
            let error = Pattern::parse(name).expect_err(name);
            assert!(error.contains(part), "{name}: {error}");
        }
    }

    #[test]
    fn texts_are_filled_and_whole_ones_typed() {
        let values = HashMap::from([("n", "20"), ("s", "x"), ("b", "true"), ("z", "007")]);
        for (text, wanted) in [
            ("a/{s}/{n}.csv", Value::Text("a/x/20.csv".into())),
            ("{n}", Value::Int(20)),
            ("{b}", Value::Bool(true)),
            ("{z}", Value::Text("007".into())),
            ("{{n}} {n}", Value::Text("{n} 20".into())),
            ("{unknown}{ {", Value::Text("{unknown}{ {".into())),
            ("{s}{s}", Value::Text("xx".into())),
        ] {
            let span = crate::diagnostic::Span { source: crate::diagnostic::SourceId(0), start: 0, end: 0 };
            let mut node = Node::new(Value::Text(text.into()), span);
            fill(&mut node, &values);
            assert_eq!(node.value, wanted, "{text}");
        }
    }

    #[test]
    fn hostile_patterns_end() {
        let pattern: String = (0..30).map(|i| format!("{{p{i}}}a")).collect();
        assert_eq!(matched(&pattern, &format!("{}b", "a".repeat(300))), None);
        // Every combination of two values is tried before there is none.
        assert_eq!(matched("{x}{y}b{x}{y}", &"a".repeat(150)), None);
    }

    #[test]
    fn a_pattern_that_repeats_a_placeholder_does_not_give_up_on_a_long_name() {
        let (x, y) = ("a".repeat(400), "ab".repeat(100));
        let found = matched("{x}.{y}.{x}", &format!("{x}.{y}.{x}"));
        assert_eq!(found, Some(vec![("x".to_owned(), x), ("y".to_owned(), y)]));
        let many = "ab".repeat(120);
        assert!(matched("{x}{y}{x}c", &format!("{many}{many}c")).is_some());
    }
}
