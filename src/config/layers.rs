//! Layers: files of one folder beside each other, an environment over the base, `--params` over everything.
//!
//! All of this happens before interpolation, so that `${…}` sees the merged whole.

use indexmap::IndexMap;

use super::{
    place::{array_index, is_below, value_at},
    tree::{Entry, Map, Node, Value},
    yaml,
};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceId, Sources, Span};

/// How equal names in two files of one folder are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// The same top-level name twice is an error, but for `_templates`.
    Names,
    /// The same leaf twice is an error; mappings may be spread over files.
    Leaves,
}

/// Puts a further file of the same folder beside what was read before.
pub(super) fn add_beside(whole: &mut Node, file: Node, how: Beside, problems: &mut Diagnostics) {
    let (Value::Map(whole), Value::Map(file)) = (&mut whole.value, file.value) else { return };
    for (key, entry) in file.entries {
        match whole.entries.get_mut(&key) {
            None => {
                whole.entries.insert(key, entry);
            }
            Some(present) if key.starts_with('_') => over_entry(present, entry),
            Some(present) => {
                let both_maps = present.node.as_map().is_some() && entry.node.as_map().is_some();
                if how == Beside::Leaves && both_maps {
                    add_beside(&mut present.node, entry.node, how, problems);
                } else {
                    problems.push(
                        Diagnostic::error(
                            "config::duplicate-name",
                            format!("duplicate name `{key}` in two files of one folder"),
                        )
                        .at(entry.key_span, "duplicate")
                        .at(present.key_span, "first here")
                        .help("keep one of them, or move one to an environment such as `conf/local`"),
                    );
                }
            }
        }
    }
}

/// Lays an environment's names over the base's: each replaces the base's whole.
pub(super) fn over_names(base: &mut Node, layer: Node) {
    if let (Value::Map(base), Value::Map(layer)) = (&mut base.value, layer.value) {
        base.entries.extend(layer.entries);
    }
}

/// Lays a layer over a base, mapping by mapping; anything else replaces what was there.
pub(super) fn over_deep(base: &mut Node, layer: Node) {
    match (&mut base.value, layer.value) {
        (Value::Map(base), Value::Map(layer)) => {
            for (key, entry) in layer.entries {
                match base.entries.get_mut(&key) {
                    Some(present) => over_entry(present, entry),
                    None => {
                        base.entries.insert(key, entry);
                    }
                }
            }
        }
        (_, value) => *base = Node::new(value, layer.span),
    }
}

fn over_entry(present: &mut Entry, entry: Entry) {
    if !(present.node.as_map().is_some() && entry.node.as_map().is_some()) {
        present.key_span = entry.key_span;
    }
    over_deep(&mut present.node, entry.node);
}

/// One `a.b=value` of `--params`.
#[derive(Debug)]
pub(super) struct Assignment {
    how: How,
    path: String,
    key_span: Span,
    value: Node,
}

/// What an assignment may do, in Hydra's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// `a=1`: sets a parameter that there is.
    Set,
    /// `+a=1`: adds one that there is not.
    Add,
    /// `++a=1`: either.
    SetOrAdd,
}

/// A name that `--params` sets and that the parameters lack.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    /// The whole path.
    pub(super) path: String,
    /// Where it was typed.
    pub(super) span: Span,
}

/// Reads what was given to `--params`: each text may hold several assignments, parted by commas outside brackets and
/// quotes. Values are YAML.
pub(super) fn read_params(texts: &[String], sources: &mut Sources, problems: &mut Diagnostics) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    for text in texts {
        let source = sources.add("--params", text.as_str());
        for (start, item) in split_items(text) {
            if !item.trim().is_empty() {
                assignments.extend(read_assignment(source, start, item, problems));
            }
        }
    }
    assignments
}

fn read_assignment(source: SourceId, start: usize, item: &str, problems: &mut Diagnostics) -> Option<Assignment> {
    let trimmed = item.trim();
    let begin = start + item.len() - item.trim_start().len();
    let whole = Span { source, start: begin, end: begin + trimmed.len() };
    let Some((key, value)) = trimmed.split_once('=') else {
        problems.push(
            Diagnostic::error("config::params", "an item of `--params` has no `=`")
                .at(whole, "")
                .help("write `key=value`; a value with commas goes in quotes or brackets: `key=\"a, b\"`"),
        );
        return None;
    };
    let key_span = Span { end: begin + key.len(), ..whole };
    let key = key.trim();
    let (how, key) = match (key.strip_prefix("++"), key.strip_prefix('+')) {
        (Some(key), _) => (How::SetOrAdd, key),
        (None, Some(key)) => (How::Add, key),
        (None, None) => (How::Set, key),
    };
    if key.is_empty() || key.split('.').any(str::is_empty) {
        problems.push(
            Diagnostic::error("config::params", "an item of `--params` has an empty name or an empty part in its name")
                .at(whole, "")
                .help("write `a.b.c=value`"),
        );
        return None;
    }
    let offset = whole.end - value.len();
    let mut own = Diagnostics::default();
    let node = yaml::parse(source, value, &mut own);
    for diagnostic in own.into_sorted() {
        let mut diagnostic = diagnostic;
        diagnostic.labels.iter_mut().for_each(|label| label.span = shift(label.span, offset));
        problems.push(diagnostic);
    }
    let mut value = node?;
    shift_all(&mut value, offset);
    Some(Assignment { how, path: key.to_owned(), key_span, value })
}

fn shift(span: Span, by: usize) -> Span {
    Span { start: span.start + by, end: span.end + by, ..span }
}

fn shift_all(node: &mut Node, by: usize) {
    node.span = shift(node.span, by);
    match &mut node.value {
        Value::List(list) => list.iter_mut().for_each(|item| shift_all(item, by)),
        Value::Map(map) => map.entries.values_mut().for_each(|entry| {
            entry.key_span = shift(entry.key_span, by);
            shift_all(&mut entry.node, by);
        }),
        _ => {}
    }
}

/// Splits at commas outside brackets and quotes; each part with its offset. A quote counts where a value can begin, so
/// that the one in `it's` does not.
fn split_items(text: &str) -> Vec<(usize, &str)> {
    let mut items = Vec::new();
    let (mut start, mut depth, mut quote, mut previous) = (0, 0usize, None, '=');
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match (quote, c) {
            (Some('"'), '\\') => {
                characters.next();
            }
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') if "=[{,:".contains(previous) => quote = Some(c),
            (None, '[' | '{' | '(') => depth += 1,
            (None, ']' | '}' | ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                items.push((start, &text[start..at]));
                start = at + 1;
            }
            _ => {}
        }
        if !c.is_whitespace() {
            previous = c;
        }
    }
    items.push((start, &text[start..]));
    items
}

/// Lays assignments over parameters: each changes one leaf, or merges a mapping into one. A key that itself holds dots
/// is found as in [`Node::at_path`]. Gives the names that were not there; they are set all the same, for somebody else may
/// know them.
pub(super) fn assign(parameters: &mut Node, assignments: &[Assignment], problems: &mut Diagnostics) -> Vec<Unknown> {
    let mut unknown: Vec<Unknown> = Vec::new();
    for assignment in assignments {
        let present = value_at(parameters, &assignment.path);
        let mut lacking = Vec::new();
        match (assignment.how, present) {
            (How::Set, present) => lack(present, &assignment.path, &assignment.value, &mut lacking),
            (How::Add, Some(present)) if !(present.as_map().is_some() && assignment.value.as_map().is_some()) => {
                problems.push(
                    Diagnostic::error(
                        "config::params",
                        format!("`+{0}` adds `{0}`, which exists already", assignment.path),
                    )
                    .at(assignment.key_span, "")
                    .at(present.span, "its value")
                    .help(format!("write `{}=…` to change it", assignment.path)),
                );
                continue;
            }
            (How::Add | How::SetOrAdd, _) => {}
        }
        if let Err(problem) = assign_one(parameters, &assignment.path, assignment) {
            problems.push(*problem);
            continue;
        }
        lacking.retain(|path| !unknown.iter().any(|unknown| is_below(path, &unknown.path)));
        unknown.extend(lacking.into_iter().map(|path| Unknown { path, span: assignment.key_span }));
    }
    unknown
}

/// The paths under which a value would put something that is not there yet. A mapping is merged into one, so each of its
/// keys is one.
fn lack(present: Option<&Node>, path: &str, value: &Node, lacking: &mut Vec<String>) {
    match (present, present.and_then(Node::as_map), value.as_map()) {
        (None, ..) => lacking.push(path.to_owned()),
        (_, Some(there), Some(given)) => {
            for (key, entry) in given.iter() {
                lack(there.get(key), &format!("{path}.{key}"), &entry.node, lacking);
            }
        }
        _ => {}
    }
}

/// The assignments alone, as one mapping.
pub(super) fn alone(assignments: &[Assignment], nowhere: Span) -> Node {
    let mut root = Node::new(Value::Map(Map::default()), nowhere);
    // Problems were reported when the parameters themselves were assigned.
    assign(&mut root, assignments, &mut Diagnostics::default());
    root
}

fn assign_one(node: &mut Node, path: &str, assignment: &Assignment) -> Result<(), Box<Diagnostic>> {
    if let Value::List(list) = &mut node.value {
        let (segment, rest) = path.split_once('.').unwrap_or((path, ""));
        let length = list.len();
        let Some(item) = array_index(segment, length).and_then(|index| list.get_mut(index)) else {
            return Err(Box::new(
                Diagnostic::error(
                    "config::params",
                    format!("`{}`: index `{segment}` is out of range for a list of {length}", assignment.path),
                )
                .at(assignment.key_span, "")
                .at(node.span, "the list")
                .help("set the whole list: `key=[a, b]`"),
            ));
        };
        if rest.is_empty() {
            *item = assignment.value.clone();
            return Ok(());
        }
        return assign_one(item, rest, assignment);
    }
    if node.as_map().is_none() {
        *node = Node::new(Value::Map(Map::default()), assignment.value.span);
    }
    let Value::Map(map) = &mut node.value else { return Ok(()) };
    let (key, rest) = known_prefix(map, path);
    let entry = map.entries.entry(key.to_owned()).or_insert_with(|| Entry {
        key_span: assignment.key_span,
        node: Node::new(Value::Null, assignment.value.span),
    });
    if rest.is_empty() {
        over_entry(entry, Entry { key_span: assignment.key_span, node: assignment.value.clone() });
        return Ok(());
    }
    assign_one(&mut entry.node, rest, assignment)
}

/// The key of the mapping that a path begins with, and the rest. The key under which the whole path exists comes
/// first, then the longest that is there, then the path's first part.
fn known_prefix<'p>(map: &Map, path: &'p str) -> (&'p str, &'p str) {
    let cuts = || std::iter::once(path.len()).chain(path.rmatch_indices('.').map(|(dot, _)| dot));
    let rest = |cut: usize| path.get(cut + 1..).unwrap_or_default();
    let whole = cuts().find(|cut| map.get(&path[..*cut]).is_some_and(|node| node.at_path(rest(*cut)).is_some()));
    let part = || cuts().find(|cut| map.entries.contains_key(&path[..*cut]));
    let cut = whole.or_else(part).or_else(|| path.find('.')).unwrap_or(path.len());
    (&path[..cut], rest(cut))
}

/// An empty mapping, for a file that is not there.
pub(super) fn nothing(span: Span) -> Node {
    Node::new(Value::Map(Map { entries: IndexMap::new() }), span)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn read(text: &str) -> Node {
        yaml::parse(SourceId(0), text, &mut Diagnostics::default()).expect(text)
    }

    fn with_params(parameters: &str, params: &[&str]) -> (Json, Vec<Diagnostic>) {
        let mut problems = Diagnostics::default();
        let mut sources = Sources::default();
        sources.add("parameters.yml", parameters);
        let texts: Vec<String> = params.iter().map(|text| (*text).to_owned()).collect();
        let assignments = read_params(&texts, &mut sources, &mut problems);
        let mut node = read(parameters);
        assign(&mut node, &assignments, &mut problems);
        (node.to_json(), problems.into_sorted())
    }

    #[test]
    fn layers_merge_deep_or_by_name() {
        let base = "a: {x: 1, y: {z: 2}}\nb: [1]\nc: {k: 1}\n";
        let layer = "a: {y: {w: 3}}\nb: [2]\nc: null\nd: 4\n";
        let mut deep = read(base);
        over_deep(&mut deep, read(layer));
        assert_eq!(deep.to_json(), json!({"a": {"x": 1, "y": {"z": 2, "w": 3}}, "b": [2], "c": null, "d": 4}));
        let mut names = read(base);
        over_names(&mut names, read(layer));
        assert_eq!(names.to_json(), json!({"a": {"y": {"w": 3}}, "b": [2], "c": null, "d": 4}));
        let mut kept = read("a: {x: 1}");
        over_deep(&mut kept, read("a: {}"));
        assert_eq!(kept.to_json(), json!({"a": {"x": 1}}));
    }

    #[test]
    fn files_beside_each_other_share_no_names_and_no_leaves() {
        for (how, one, two, wanted, errors) in [
            (Beside::Names, "a: 1", "b: 2", json!({"a": 1, "b": 2}), 0),
            (Beside::Names, "a: {x: 1}", "a: {y: 2}", json!({"a": {"x": 1}}), 1),
            (Beside::Names, "_t: {x: 1}", "_t: {y: 2}", json!({"_t": {"x": 1, "y": 2}}), 0),
            (Beside::Leaves, "a: {x: 1}", "a: {y: 2}", json!({"a": {"x": 1, "y": 2}}), 0),
            (Beside::Leaves, "a: {x: {k: 1}}", "a: {x: {k: 2}}", json!({"a": {"x": {"k": 1}}}), 1),
            (Beside::Leaves, "a: {x: 1}", "a: 2", json!({"a": {"x": 1}}), 1),
        ] {
            let mut problems = Diagnostics::default();
            let mut whole = read(one);
            add_beside(&mut whole, read(two), how, &mut problems);
            assert_eq!(whole.to_json(), wanted);
            assert_eq!(problems.as_slice().len(), errors, "{one} {two}");
        }
    }

    #[test]
    fn params_set_leaves_and_leave_siblings_alone() {
        let base = "a: {b: {x: 1, y: 2}}\nembeddings.node: {batch_size: 500, model: {name: m}}\nl: [1, 2]\n";
        for (params, path, wanted) in [
            (&["a.b.x=9"][..], "a", json!({"b": {"x": 9, "y": 2}})),
            (
                &["embeddings.node.batch_size=100"],
                "embeddings.node",
                json!({"batch_size": 100, "model": {"name": "m"}}),
            ),
            (
                &["embeddings.node.model.dimensions=3"],
                "embeddings.node",
                json!({"batch_size": 500, "model": {"name": "m", "dimensions": 3}}),
            ),
            (
                &["embeddings.node.model={name: n}"],
                "embeddings.node",
                json!({"batch_size": 500, "model": {"name": "n"}}),
            ),
            (&["l.0=7"], "l", json!([7, 2])),
            (&["l=[3, 4],c=5"], "l", json!([3, 4])),
            (&["c.d.e=5"], "c", json!({"d": {"e": 5}})),
            (&["c=1", "c=2"], "c", json!(2)),
            (&["c=2,c.b=1"], "c", json!({"b": 1})),
            (&["c="], "c", json!(null)),
            (&["c='1'"], "c", json!("1")),
            (&["c=x #note"], "c", json!("x")),
            (&["c=\"a, b\" , d=1"], "c", json!("a, b")),
            (&["c=it's,d=1"], "c", json!("it's")),
            (&["c=a=b"], "c", json!("a=b")),
            (&["c={x: [1, 2], y: 'p,q'}"], "c", json!({"x": [1, 2], "y": "p,q"})),
            (&["c=${a.b.x}"], "c", json!("${a.b.x}")),
            (&["c=1,"], "c", json!(1)),
        ] {
            let (found, problems) = with_params(base, params);
            assert!(problems.is_empty(), "{params:?}: {problems:?}");
            assert_eq!(found[path], wanted, "{params:?}");
            assert_eq!(found.get("embeddings"), None, "{params:?}");
        }
    }

    #[test]
    fn bad_params_are_refused_with_their_place() {
        for (param, start, part) in [
            ("a", 0, "no `=`"),
            ("a=1, b", 5, "no `=`"),
            ("=1", 0, "an empty name"),
            ("a..b=1", 0, "an empty name"),
            ("l.5=1", 0, "a list of 1"),
            ("a=1,b=[1", 6, "closing bracket"),
            ("a=yes", 2, "YAML 1.1"),
        ] {
            let (_, problems) = with_params("l: [1]", &[param]);
            assert_eq!(problems.len(), 1, "{param}: {problems:?}");
            assert!(problems[0].message.contains(part), "{param}: {problems:?}");
            assert_eq!(problems[0].labels[0].span.start, start, "{param}: {problems:?}");
        }
    }
}
