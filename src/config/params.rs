//! `--params`: assignments that are parsed and applied to the parameters.

use super::{
    layers::merge_entry,
    tree::{Entry, Map, Node, Value},
    tree_path::{array_index, cuts, is_below, value_at},
    yaml,
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, SourceId, Sources, Span},
    model::{Secret, keys_within},
};

/// Parts of one name: each becomes a level of a tree.
const MAX_PATH_PARTS: usize = 100;

/// One `a.b=value` of `--params`.
#[derive(Debug)]
pub(super) struct Assignment {
    mode: AssignmentMode,
    path: String,
    key_span: Span,
    value: Node,
}

/// What an assignment may do, in Hydra's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AssignmentMode {
    /// `a=1`: sets a parameter that exists.
    Set,
    /// `+a=1`: adds one that does not exist.
    Add,
    /// `++a=1`: either.
    SetOrAdd,
}

/// A parameter that `--params` sets and no file defines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownParameter {
    /// The whole path.
    pub(super) path: String,
    /// Where it was given.
    pub(super) span: Span,
}

/// Reads what was given to `--params`: each string may hold several assignments, separated by commas outside brackets and
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
    let (mode, key) = match (key.strip_prefix("++"), key.strip_prefix('+')) {
        (Some(key), _) => (AssignmentMode::SetOrAdd, key),
        (None, Some(key)) => (AssignmentMode::Add, key),
        (None, None) => (AssignmentMode::Set, key),
    };
    if key.is_empty() || key.split('.').any(str::is_empty) {
        problems.push(
            Diagnostic::error("config::params", "an item of `--params` has an empty name or an empty part in its name")
                .at(whole, "")
                .help("write `a.b.c=value`"),
        );
        return None;
    }
    if key.split('.').count() > MAX_PATH_PARTS {
        problems.push(
            Diagnostic::error("config::params", format!("a name in `--params` has more than {MAX_PATH_PARTS} parts"))
                .at(Span { end: key_span.start + 1, ..key_span }, "begins here"),
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
    conceal_keys(&mut value);
    Some(Assignment { mode, path: key.to_owned(), key_span, value })
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

/// Makes values that look like live keys secrets, whatever their name: they are not shown, and in no ledger.
fn conceal_keys(node: &mut Node) {
    match &mut node.value {
        Value::Text(text) if !keys_within(text).is_empty() => node.value = Value::Secret(Secret::new(text.as_str())),
        Value::List(list) => list.iter_mut().for_each(conceal_keys),
        Value::Map(map) => map.entries.values_mut().for_each(|entry| conceal_keys(&mut entry.node)),
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

/// Applies assignments to parameters: each sets one leaf, or merges a mapping into one. A key that itself holds dots is
/// found as in [`Node::at_path`]. Returns the parameters that did not exist; they are set all the same, since a file may
/// refer to them.
pub(super) fn assign(
    parameters: &mut Node,
    assignments: &[Assignment],
    problems: &mut Diagnostics,
) -> Vec<UnknownParameter> {
    let mut unknown: Vec<UnknownParameter> = Vec::new();
    for assignment in assignments {
        let present = value_at(parameters, &assignment.path);
        let mut missing = Vec::new();
        match (assignment.mode, present) {
            (AssignmentMode::Set, present) => missing_paths(present, &assignment.path, &assignment.value, &mut missing),
            (AssignmentMode::Add, Some(present))
                if !(present.as_map().is_some() && assignment.value.as_map().is_some()) =>
            {
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
            (AssignmentMode::Add | AssignmentMode::SetOrAdd, _) => {}
        }
        if let Err(problem) = assign_one(parameters, &assignment.path, assignment) {
            problems.push(*problem);
            continue;
        }
        missing.retain(|path| !unknown.iter().any(|unknown| is_below(path, &unknown.path)));
        unknown.extend(missing.into_iter().map(|path| UnknownParameter { path, span: assignment.key_span }));
    }
    unknown
}

/// The paths that a value would add. A mapping is merged, so that each of its keys has a path of its own.
fn missing_paths(present: Option<&Node>, path: &str, value: &Node, missing: &mut Vec<String>) {
    match (present, present.and_then(Node::as_map), value.as_map()) {
        (None, ..) => missing.push(path.to_owned()),
        (_, Some(there), Some(given)) => {
            for (key, entry) in given.iter() {
                missing_paths(there.get(key), &format!("{path}.{key}"), &entry.node, missing);
            }
        }
        _ => {}
    }
}

/// The assignments alone, as one mapping.
pub(super) fn as_mapping(assignments: &[Assignment], nowhere: Span) -> Node {
    let mut root = Node::new(Value::Map(Map::default()), nowhere);
    // Problems were reported when the parameters themselves were assigned.
    assign(&mut root, assignments, &mut Diagnostics::default());
    root
}

/// Sets one value.
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
        merge_entry(entry, Entry { key_span: assignment.key_span, node: assignment.value.clone() });
        return Ok(());
    }
    assign_one(&mut entry.node, rest, assignment)
}

/// The key of the mapping that a path begins with, and the rest. The key under which the whole path exists comes
/// first, then the longest that exists, then the path's first part.
fn known_prefix<'p>(map: &Map, path: &'p str) -> (&'p str, &'p str) {
    let rest = |cut: usize| path.get(cut + 1..).unwrap_or_default();
    let whole = cuts(path).find(|cut| map.get(&path[..*cut]).is_some_and(|node| node.at_path(rest(*cut)).is_some()));
    let part = || cuts(path).find(|cut| map.entries.contains_key(&path[..*cut]));
    let cut = whole.or_else(part).or_else(|| path.find('.')).unwrap_or(path.len());
    (&path[..cut], rest(cut))
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
    fn bad_params_are_refused_with_their_location() {
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
