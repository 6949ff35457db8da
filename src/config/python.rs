//! Values inside strings, as OmegaConf writes them: Python's `str()`.

use super::tree::{Node, Value};

/// Whether a string contains a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// Nothing secret.
    Public,
    /// A secret.
    Secret,
    /// A secret whose variable is not set.
    Missing(String),
}

impl Secrecy {
    /// The secrecy of two strings together.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Missing(variable), _) | (_, Self::Missing(variable)) => Self::Missing(variable),
            (Self::Secret, _) | (_, Self::Secret) => Self::Secret,
            _ => Self::Public,
        }
    }
}

/// A value as a string, secrets exposed; for values whose secrecy is known.
pub(super) fn to_str(node: &Node) -> String {
    let mut out = String::new();
    push_str(node, &mut out);
    out
}

/// Adds a value as `str()` writes it.
pub(super) fn push_str(node: &Node, out: &mut String) -> Secrecy {
    match &node.value {
        Value::Text(text) => {
            out.push_str(text);
            Secrecy::Public
        }
        Value::Secret(secret) => {
            out.push_str(secret.expose());
            Secrecy::Secret
        }
        _ => push_repr(node, out),
    }
}

/// Adds a value as `repr()` writes it: strings in quotes.
fn push_repr(node: &Node, out: &mut String) -> Secrecy {
    match &node.value {
        // A reference to an unresolved value fails before this.
        Value::Null | Value::Unresolved => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Text(text) => quote(text, out),
        Value::Secret(secret) => {
            quote(secret.expose(), out);
            return Secrecy::Secret;
        }
        Value::MissingSecret { variable } => return Secrecy::Missing(variable.clone()),
        Value::List(list) => {
            let mut secrecy = Secrecy::Public;
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                secrecy = secrecy.and(push_repr(item, out));
            }
            out.push(']');
            return secrecy;
        }
        Value::Map(map) => {
            let mut secrecy = Secrecy::Public;
            out.push('{');
            for (index, (key, entry)) in map.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                quote(key, out);
                out.push_str(": ");
                secrecy = secrecy.and(push_repr(&entry.node, out));
            }
            out.push('}');
            return secrecy;
        }
    }
    Secrecy::Public
}

fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// The shortest digits that read back the same, with an exponent from 1e16 up and below 1e-4.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.into();
    }
    let magnitude = number.abs();
    if number == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{number:?}");
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Map,
        diagnostic::{SourceId, Span},
        model::Secret,
    };

    fn node(value: Value) -> Node {
        Node::new(value, Span { source: SourceId(0), start: 0, end: 0 })
    }

    #[test]
    fn floats_as_python_writes_them() {
        for (number, wanted) in [
            (1.0, "1.0"),
            (1e10, "10000000000.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5, "-2.5"),
            (-0.0, "-0.0"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "nan"),
            (0.1, "0.1"),
        ] {
            assert_eq!(float(number), wanted);
        }
    }

    #[test]
    fn collections_as_python_writes_them() {
        let list = node(Value::List(vec![node(Value::Text("x".into())), node(Value::Null), node(Value::Bool(true))]));
        assert_eq!(to_str(&list), "['x', None, True]");
        let mut map = Map::default();
        map.entries.insert("a".into(), crate::config::Entry { key_span: list.span, node: node(Value::Int(1)) });
        map.entries.insert("b".into(), crate::config::Entry { key_span: list.span, node: list });
        assert_eq!(to_str(&node(Value::Map(map))), "{'a': 1, 'b': ['x', None, True]}");
        for (text, wanted) in
            [("it's", "[\"it's\"]"), ("a\"b", "['a\"b']"), ("'\"", "['\\'\"']"), ("a\\\n", "['a\\\\\\n']")]
        {
            assert_eq!(to_str(&node(Value::List(vec![node(Value::Text(text.into()))]))), wanted);
        }
    }

    #[test]
    fn a_secret_inside_makes_the_string_secret() {
        let mut out = String::new();
        let list = node(Value::List(vec![node(Value::Secret(Secret::new("hunter2")))]));
        assert_eq!(push_str(&list, &mut out), Secrecy::Secret);
        let missing = node(Value::MissingSecret { variable: "KEY".into() });
        assert_eq!(push_str(&missing, &mut out).and(Secrecy::Secret), Secrecy::Missing("KEY".into()));
    }
}
