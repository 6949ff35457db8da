//! Conversions of values on their way from where they are written to where they are used.

use super::super::{
    grammar, python,
    tree::{Entry, Map, Node, Value},
    tree_path::{TreeKind, TreePath},
};
use crate::{
    diagnostic::Span,
    model::{Secret, is_secret_name},
};

/// True for a tree that interpolation would not change: it holds no `${…}` and no secret.
pub(in crate::config) fn is_plain(node: &Node) -> bool {
    match &node.value {
        Value::Text(text) => !grammar::has_interpolation(text),
        Value::List(list) => list.iter().all(is_plain),
        Value::Map(map) => map.iter().all(|(key, entry)| {
            let secret = is_secret_name(key) || key == "credentials";
            !secret && is_plain(&entry.node)
        }),
        _ => true,
    }
}

/// Makes a value under a secret's name a secret.
pub(super) fn conceal(node: Node, path: &TreePath<'_>) -> Node {
    if path.is_secret() { into_secret(node, path.kind() == TreeKind::Credentials) } else { node }
}

/// Makes every string and number in a value a secret, and every boolean if `booleans`.
pub(super) fn into_secret(node: Node, booleans: bool) -> Node {
    let value = match node.value {
        Value::Text(text) => Value::Secret(Secret::new(text)),
        Value::Int(_) | Value::Float(_) => Value::Secret(Secret::new(python::to_str(&node))),
        Value::Bool(yes) if booleans => Value::Secret(Secret::new(yes.to_string())),
        Value::List(list) => Value::List(list.into_iter().map(|node| into_secret(node, booleans)).collect()),
        Value::Map(mut map) => {
            for entry in map.entries.values_mut() {
                entry.node = into_secret(take(&mut entry.node), booleans);
            }
            Value::Map(map)
        }
        value => value,
    };
    Node::new(value, node.span)
}

/// `a[0][b]` as `a.0.b`.
pub(super) fn dotted(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '[' if out.is_empty() || out.ends_with('.') => {}
            '[' => out.push('.'),
            ']' => {}
            c => out.push(c),
        }
    }
    out
}

/// What OmegaConf makes of a string that is no collection: a mapping with the string as its only key.
pub(super) fn as_mapping(node: Node, text: &str) -> Node {
    let mut map = Map::default();
    match node.value {
        Value::Map(_) | Value::List(_) => return node,
        Value::Null => {}
        _ => {
            let empty = Node::new(Value::Null, node.span);
            map.entries.insert(text.to_owned(), Entry { key_span: node.span, node: empty });
        }
    }
    Node::new(Value::Map(map), node.span)
}

/// Gives a value, and all inside it, another location.
pub(super) fn relocated(mut node: Node, span: Span) -> Node {
    node.span = span;
    match &mut node.value {
        Value::List(list) => list.iter_mut().for_each(|item| *item = relocated(take(item), span)),
        Value::Map(map) => map.entries.values_mut().for_each(|entry| {
            entry.key_span = span;
            entry.node = relocated(take(&mut entry.node), span);
        }),
        _ => {}
    }
    node
}

fn take(node: &mut Node) -> Node {
    let empty = Node::new(Value::Null, node.span);
    std::mem::replace(node, empty)
}
