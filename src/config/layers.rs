//! Merging: the files of one folder, and an environment over the base.
//!
//! This happens before interpolation, so that `${…}` sees the merged whole.

use indexmap::IndexMap;

use super::tree::{Entry, Map, Node, Value};
use crate::diagnostic::{Diagnostic, Diagnostics, Span};

/// Which equal names in two files of one folder are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duplicates {
    /// Names at the top level, but for those that begin with `_`.
    Names,
    /// Leaves: mappings may be spread over files.
    Leaves,
}

/// Adds a further file of the same folder to those read before.
pub(super) fn merge_file(whole: &mut Node, file: Node, forbidden: Duplicates, problems: &mut Diagnostics) {
    let (Value::Map(whole), Value::Map(file)) = (&mut whole.value, file.value) else { return };
    for (key, entry) in file.entries {
        match whole.entries.get_mut(&key) {
            None => {
                whole.entries.insert(key, entry);
            }
            Some(present) if key.starts_with('_') => merge_entry(present, entry),
            Some(present) => {
                let both_maps = present.node.as_map().is_some() && entry.node.as_map().is_some();
                if forbidden == Duplicates::Leaves && both_maps {
                    merge_file(&mut present.node, entry.node, forbidden, problems);
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

/// Merges an environment into the base by name: each value replaces the base's.
pub(super) fn replace_names(base: &mut Node, layer: Node) {
    if let (Value::Map(base), Value::Map(layer)) = (&mut base.value, layer.value) {
        base.entries.extend(layer.entries);
    }
}

/// Merges a layer into a base, mapping by mapping; any other value replaces the base's.
pub(super) fn merge_deep(base: &mut Node, layer: Node) {
    match (&mut base.value, layer.value) {
        (Value::Map(base), Value::Map(layer)) => {
            for (key, entry) in layer.entries {
                match base.entries.get_mut(&key) {
                    Some(present) => merge_entry(present, entry),
                    None => {
                        base.entries.insert(key, entry);
                    }
                }
            }
        }
        (_, value) => *base = Node::new(value, layer.span),
    }
}

/// Merges an entry into the one under the same key.
pub(super) fn merge_entry(present: &mut Entry, entry: Entry) {
    if !(present.node.as_map().is_some() && entry.node.as_map().is_some()) {
        present.key_span = entry.key_span;
    }
    merge_deep(&mut present.node, entry.node);
}

/// An empty mapping, for a file that does not exist.
pub(super) fn empty_mapping(span: Span) -> Node {
    Node::new(Value::Map(Map { entries: IndexMap::new() }), span)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{config::yaml, diagnostic::SourceId};

    fn read(text: &str) -> Node {
        yaml::parse(SourceId(0), text, &mut Diagnostics::default()).expect(text)
    }

    #[test]
    fn layers_merge_deep_or_by_name() {
        let base = "a: {x: 1, y: {z: 2}}\nb: [1]\nc: {k: 1}\n";
        let layer = "a: {y: {w: 3}}\nb: [2]\nc: null\nd: 4\n";
        let mut deep = read(base);
        merge_deep(&mut deep, read(layer));
        assert_eq!(deep.to_json(), json!({"a": {"x": 1, "y": {"z": 2, "w": 3}}, "b": [2], "c": null, "d": 4}));
        let mut names = read(base);
        replace_names(&mut names, read(layer));
        assert_eq!(names.to_json(), json!({"a": {"y": {"w": 3}}, "b": [2], "c": null, "d": 4}));
        let mut kept = read("a: {x: 1}");
        merge_deep(&mut kept, read("a: {}"));
        assert_eq!(kept.to_json(), json!({"a": {"x": 1}}));
    }

    #[test]
    fn files_of_one_folder_share_no_names_and_no_leaves() {
        for (how, one, two, wanted, errors) in [
            (Duplicates::Names, "a: 1", "b: 2", json!({"a": 1, "b": 2}), 0),
            (Duplicates::Names, "a: {x: 1}", "a: {y: 2}", json!({"a": {"x": 1}}), 1),
            (Duplicates::Names, "_t: {x: 1}", "_t: {y: 2}", json!({"_t": {"x": 1, "y": 2}}), 0),
            (Duplicates::Leaves, "a: {x: 1}", "a: {y: 2}", json!({"a": {"x": 1, "y": 2}}), 0),
            (Duplicates::Leaves, "a: {x: {k: 1}}", "a: {x: {k: 2}}", json!({"a": {"x": {"k": 1}}}), 1),
            (Duplicates::Leaves, "a: {x: 1}", "a: 2", json!({"a": {"x": 1}}), 1),
        ] {
            let mut problems = Diagnostics::default();
            let mut whole = read(one);
            merge_file(&mut whole, read(two), how, &mut problems);
            assert_eq!(whole.to_json(), wanted);
            assert_eq!(problems.as_slice().len(), errors, "{one} {two}");
        }
    }
}
