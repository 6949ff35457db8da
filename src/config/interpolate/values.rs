//! Conversions of values on their way from where they are written to where they are used.

use super::super::{
    grammar, python,
    tree::{Entry, Map, Node, Value},
    tree_path::{TreeKind, TreePath},
};
use crate::{
    diagnostic::Span,
    model::{Secret, is_secret_mapping_name, is_secret_name},
};

/// True for a tree that interpolation would not change: it holds no `${…}` and no secret.
pub(in crate::config) fn is_plain(node: &Node) -> bool {
    match &node.value {
        Value::Text(text) => !grammar::has_interpolation(text),
        Value::List(list) => list.iter().all(is_plain),
        Value::Map(map) => map.iter().all(|(key, entry)| {
            let secret = is_secret_name(key) || is_secret_mapping_name(key);
            !secret && is_plain(&entry.node)
        }),
        _ => true,
    }
}

/// Makes a value under a secret's name a secret, and what a reference put under `headers` or `credentials`.
pub(super) fn conceal(node: Node, path: &TreePath<'_>) -> Node {
    let is_secret = path.is_secret() || path.is_secret_as_mapping() && node.as_map().is_some();
    if !is_secret {
        return node;
    }
    let concealed = match path.kind() {
        TreeKind::Credentials => Concealed::Scalars,
        _ if path.is_header() => Concealed::Texts,
        _ => Concealed::TextsAndNumbers,
    };
    into_secret(node, concealed)
}

/// What of a secret value is hidden. What is hidden is a text from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concealed {
    /// A parameter of a user's function may be called `headers`, too: its numbers stay numbers.
    Texts,
    TextsAndNumbers,
    /// Booleans as well.
    Scalars,
}

/// Makes what is in a value a secret.
pub(super) fn into_secret(node: Node, concealed: Concealed) -> Node {
    let value = match node.value {
        Value::Text(text) => Value::Secret(Secret::new(text)),
        Value::Int(_) | Value::Float(_) if concealed != Concealed::Texts => {
            Value::Secret(Secret::new(python::to_str(&node)))
        }
        Value::Bool(yes) if concealed == Concealed::Scalars => Value::Secret(Secret::new(yes.to_string())),
        Value::List(list) => Value::List(list.into_iter().map(|node| into_secret(node, concealed)).collect()),
        Value::Map(mut map) => {
            for entry in map.entries.values_mut() {
                entry.node = into_secret(take(&mut entry.node), concealed);
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
