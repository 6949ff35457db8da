//! A mapping checked against its table of [`Field`]s: every problem reported once, then getters that cannot fail.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use super::{
    fields::{Field, Kind},
    quantity::{parse_bytes, parse_duration, seconds_to_duration},
    scalar,
    tree::{Entry, Map, Node, Value},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean},
    model::Secret,
};

/// A checked mapping. A getter gives `None` for a key that is absent, `null`, or was reported as wrong.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    node: &'a Node,
    values: HashMap<&'static str, FieldValue<'a>>,
    sound: bool,
}

/// A key of the table with its value.
#[derive(Debug, Clone)]
struct FieldValue<'a> {
    entry: &'a Entry,
    field: &'static Field,
    /// False when it was reported as wrong.
    sound: bool,
    /// The strings of a value that is, or is read as, a string or a list of strings.
    texts: Vec<Cow<'a, str>>,
}

impl<'a> Record<'a> {
    /// Checks a mapping against a table and reports every wrong type, number out of range, unknown key, key given under two
    /// aliases, and missing key. `what` names the mapping in messages: "dataset `x`". `None` only when
    /// `node` is not a mapping.
    pub fn read(node: &'a Node, what: &str, fields: &'static [Field], problems: &mut Diagnostics) -> Option<Self> {
        Self::read_tables(node, what, &[fields], problems)
    }

    /// [`Record::read`] against several tables that together say which keys there are.
    pub fn read_tables(
        node: &'a Node,
        what: &str,
        tables: &[&'static [Field]],
        problems: &mut Diagnostics,
    ) -> Option<Self> {
        let Some(map) = node.as_map() else {
            if !node.is_unresolved() {
                problems.push(wrong_type(node, what, "a mapping"));
            }
            return None;
        };
        let mut record = Self { node, values: HashMap::new(), sound: true };
        let all = || tables.iter().flat_map(|table| table.iter());
        for (key, entry) in map.iter() {
            let Some(field) = all().find(|f| f.name == key || f.aliases.contains(&key)) else {
                if !key.starts_with("x-") {
                    record.sound = false;
                    let names = all().flat_map(|f| std::iter::once(&f.name).chain(f.aliases));
                    problems.push(unknown_key(key, entry, what, names));
                }
                continue;
            };
            record.take(field, key, entry, what, problems);
        }
        for field in all().filter(|f| f.required) {
            let given = record.values.get(field.name);
            if given
                .is_none_or(|value| value.sound && value.entry.node.value == Value::Null && !accepts_null(&field.kind))
            {
                record.sound = false;
                let span = given.map_or(node.span, |value| value.entry.key_span);
                problems.push(
                    Diagnostic::error("config::missing-key", format!("{what} has no `{}`", field.name))
                        .at(span, "")
                        .help_opt((!field.doc.is_empty()).then(|| format!("`{}`: {}", field.name, field.doc))),
                );
            }
        }
        Some(record)
    }

    fn take(&mut self, field: &'static Field, key: &str, entry: &'a Entry, what: &str, problems: &mut Diagnostics) {
        if let Some(other) = self.values.get(field.name) {
            self.sound = false;
            problems.push(
                Diagnostic::error(
                    "config::duplicate-alias",
                    format!("{what}: `{key}` is an alias of `{}`, which is given as well", field.name),
                )
                .at(entry.key_span, "the same key")
                .at(other.entry.key_span, "first given here")
                .help("keep one of them"),
            );
            return;
        }
        let path = format!("`{key}` of {what}");
        let mut texts = Vec::new();
        let sound = check(&entry.node, &field.kind, &path, &mut texts, problems);
        self.sound &= sound;
        self.values.insert(field.name, FieldValue { entry, field, sound, texts });
    }

    /// True when nothing was reported about this mapping.
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// The value as written.
    pub fn node(&self, name: &str) -> Option<&'a Node> {
        self.value(name).map(|value| &value.entry.node)
    }

    /// A string. An integer or a boolean is read as the string that it prints as.
    pub fn text(&self, name: &str) -> Option<&str> {
        let value = self.value(name)?;
        (!matches!(value.field.kind, Kind::List(_))).then(|| value.texts.first())?.map(AsRef::as_ref)
    }

    /// A secret. A string under [`Kind::Secret`] counts too.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        match &self.node(name)?.value {
            Value::Secret(secret) => Some(secret.clone()),
            Value::Text(text) => Some(Secret::new(text.as_str())),
            _ => None,
        }
    }

    /// The variable that is not set and that this value needs.
    pub fn missing_secret(&self, name: &str) -> Option<&'a str> {
        match &self.node(name)?.value {
            Value::MissingSecret { variable } => Some(variable),
            _ => None,
        }
    }

    /// A boolean.
    pub fn bool(&self, name: &str) -> Option<bool> {
        as_bool(self.node(name)?)
    }

    /// An integer.
    pub fn integer(&self, name: &str) -> Option<i64> {
        as_integer(self.node(name)?)
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<f64> {
        as_number(self.node(name)?)
    }

    /// A duration: seconds, or a string such as `500ms`.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        as_duration(self.node(name)?)
    }

    /// A size in bytes: a number, or a string such as `512MiB`.
    pub fn bytes(&self, name: &str) -> Option<u64> {
        as_bytes(self.node(name)?)
    }

    /// The word of a [`Kind::Choice`], or of a [`Kind::OrWord`] when it is the word that was given.
    pub fn word(&self, name: &str) -> Option<&str> {
        let value = self.value(name)?;
        let text = value.texts.first()?.as_ref();
        match value.field.kind {
            Kind::OrWord(word, inner) => (text == word || matches!(inner, Kind::Choice(_))).then_some(text),
            _ => Some(text),
        }
    }

    /// A list of strings; a single string is a list of one.
    pub fn texts(&self, name: &str) -> Option<Vec<&str>> {
        let value = self.value(name)?;
        let listed = value.entry.node.as_list().is_some_and(<[Node]>::is_empty) || !value.texts.is_empty();
        listed.then(|| value.texts.iter().map(AsRef::as_ref).collect())
    }

    /// A mapping of a [`Kind::Record`].
    pub fn record(&self, name: &str) -> Option<Record<'a>> {
        // A mapping with a problem in it is still of use: its getters leave out what was reported.
        let value = self.values.get(name).filter(|value| value.entry.node.as_map().is_some())?;
        let mut kind = &value.field.kind;
        while let Kind::OrWord(_, inner) = kind {
            kind = inner;
        }
        let Kind::Record(fields) = kind else { return None };
        Record::read(&value.entry.node, "", fields, &mut Diagnostics::default())
    }

    /// A mapping of a [`Kind::Map`].
    pub fn map(&self, name: &str) -> Option<&'a Map> {
        self.node(name)?.as_map()
    }

    /// The span of a value, or of the mapping when the key is absent.
    pub fn span(&self, name: &str) -> Span {
        self.values.get(name).map_or(self.node.span, |value| value.entry.node.span)
    }

    /// The span of the mapping.
    pub fn record_span(&self) -> Span {
        self.node.span
    }

    fn value(&self, name: &str) -> Option<&FieldValue<'a>> {
        self.values
            .get(name)
            .filter(|value| value.sound && (value.entry.node.value != Value::Null || accepts_null(&value.field.kind)))
    }
}

/// Whether `null` is a value of its own here, rather than the same as leaving the key out.
fn accepts_null(kind: &Kind) -> bool {
    matches!(kind, Kind::Any)
}

fn wrong_type(node: &Node, path: &str, wanted: &str) -> Diagnostic {
    wrong(node, path, wanted, node.kind())
}

/// Of something that may be a number or a string: the value is wrong where its kind is not.
fn wrong_quantity(node: &Node, path: &str, wanted: &str) -> Diagnostic {
    wrong(node, path, wanted, &node.shown())
}

fn wrong(node: &Node, path: &str, wanted: &str, found: &str) -> Diagnostic {
    Diagnostic::error("config::wrong-type", format!("{path} must be {wanted}, not {found}")).at(node.span, "")
}

fn unknown_key<'n>(
    key: &str,
    entry: &Entry,
    what: &str,
    names: impl Iterator<Item = &'n &'static str> + Clone,
) -> Diagnostic {
    let known = || names.clone().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let help = did_you_mean(key, names.clone()).unwrap_or_else(|| format!("known keys: {}", known()));
    Diagnostic::error("config::unknown-key", format!("{what} has an unknown key `{key}`"))
        .at(entry.key_span, "")
        .help(help)
}

/// Checks one value. Strings found on the way, in order, go to `texts`.
fn check<'a>(
    node: &'a Node,
    kind: &Kind,
    path: &str,
    texts: &mut Vec<Cow<'a, str>>,
    problems: &mut Diagnostics,
) -> bool {
    if node.is_unresolved() {
        return false;
    }
    if node.value == Value::Null && !accepts_null(kind) {
        return true;
    }
    let mut refuse = |wanted: &str| {
        problems.push(wrong_type(node, path, wanted));
        false
    };
    // The value of a variable that is not set is unknown, and cannot be wrong yet.
    if matches!(node.value, Value::MissingSecret { .. }) && !matches!(kind, Kind::Text | Kind::Choice(_)) {
        return true;
    }
    match kind {
        Kind::Any => true,
        Kind::Text => check_text(node, path, texts, problems),
        Kind::Secret => match node.value {
            Value::Text(_) | Value::Secret(_) => true,
            _ => refuse("a string"),
        },
        Kind::Bool => as_bool(node).is_some() || refuse("`true` or `false`"),
        Kind::Integer(min, max) => match as_integer(node) {
            None if matches!(node.value, Value::Float(_)) => {
                problems.push(wrong_quantity(node, path, "an integer"));
                false
            }
            None => refuse("an integer"),
            Some(number) if (*min..=*max).contains(&number) => true,
            Some(number) => {
                let bound = |n: i64| (n != i64::MIN && n != i64::MAX).then(|| n.to_string());
                problems.push(out_of_range(node, path, &number.to_string(), bound(*min), bound(*max)));
                false
            }
        },
        Kind::Number(min, max) => match as_number(node) {
            None => refuse("a number"),
            Some(number) if (*min..=*max).contains(&number) => true,
            Some(number) => {
                let bound = |n: f64| (n.is_finite() && n.abs() < f64::MAX).then(|| n.to_string());
                problems.push(out_of_range(node, path, &number.to_string(), bound(*min), bound(*max)));
                false
            }
        },
        Kind::Duration if as_duration(node).is_none() => {
            let wanted = "a duration: seconds, or a string such as `500ms`, `10m` or `1h`";
            problems.push(wrong_quantity(node, path, wanted));
            false
        }
        Kind::Bytes if as_bytes(node).is_none() => {
            let wanted = "a size: bytes, or a string such as `512MiB` or `2GB`";
            problems.push(wrong_quantity(node, path, wanted));
            false
        }
        Kind::Duration | Kind::Bytes => true,
        Kind::Choice(words) => check_word(node, words, path, texts, problems),
        Kind::OrWord(word, inner) => {
            if node.as_text() == Some(word) {
                texts.push(Cow::Borrowed(word));
                return true;
            }
            let mut own = Diagnostics::default();
            let sound = check(node, inner, path, texts, &mut own);
            problems.extend(own.as_slice().iter().cloned().map(|d| d.help(format!("or write `{word}`"))));
            sound
        }
        Kind::List(inner) => match node.as_list() {
            None => check(node, inner, path, texts, problems),
            Some(list) => list.iter().enumerate().fold(true, |sound, (index, item)| {
                let path = format!("item {} of {path}", index + 1);
                if item.value == Value::Null && !accepts_null(inner) {
                    problems
                        .push(Diagnostic::error("config::wrong-type", format!("{path} is empty")).at(item.span, ""));
                    return false;
                }
                check(item, inner, &path, texts, problems) && sound
            }),
        },
        Kind::Record(fields) => Record::read(node, path, fields, problems).is_some_and(|record| record.sound),
        Kind::Map(inner) => match node.as_map() {
            None => refuse("a mapping"),
            Some(map) => map.iter().fold(true, |sound, (key, entry)| {
                check(&entry.node, inner, &format!("`{key}` of {path}"), &mut Vec::new(), problems) && sound
            }),
        },
    }
}

fn check_text<'a>(node: &'a Node, path: &str, texts: &mut Vec<Cow<'a, str>>, problems: &mut Diagnostics) -> bool {
    match &node.value {
        Value::Text(text) => texts.push(Cow::Borrowed(text)),
        Value::Int(number) => texts.push(Cow::Owned(number.to_string())),
        Value::Bool(yes) => texts.push(Cow::Owned(yes.to_string())),
        Value::Secret(_) | Value::MissingSecret { .. } => {
            problems.push(
                Diagnostic::error("config::secret-in-text", format!("{path} contains a secret but would be shown"))
                    .at(node.span, "")
                    .help("move the secret to `credentials:`, or to a key that is meant for secrets"),
            );
            return false;
        }
        _ => {
            let float = matches!(node.value, Value::Float(_));
            problems.push(
                wrong_type(node, path, "a string")
                    .help_opt(float.then_some("put it in quotes to keep it as it is written")),
            );
            return false;
        }
    }
    true
}

fn check_word<'a>(
    node: &'a Node,
    words: &[&str],
    path: &str,
    texts: &mut Vec<Cow<'a, str>>,
    problems: &mut Diagnostics,
) -> bool {
    let before = texts.len();
    if !check_text(node, path, texts, problems) {
        return false;
    }
    let Some(word) = texts[before..].first() else { return false };
    if words.contains(&word.as_ref()) {
        return true;
    }
    let list = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    problems.push(
        Diagnostic::error("config::unknown-word", format!("{path} is `{word}`, but must be one of {list}"))
            .at(node.span, "")
            .help_opt(did_you_mean(word, words)),
    );
    texts.truncate(before);
    false
}

fn out_of_range(node: &Node, path: &str, number: &str, min: Option<String>, max: Option<String>) -> Diagnostic {
    let range = match (min, max) {
        (Some(min), Some(max)) => format!("between {min} and {max}"),
        (Some(min), None) => format!("{min} or more"),
        (None, Some(max)) => format!("{max} or less"),
        (None, None) => "a number".to_owned(),
    };
    Diagnostic::error("config::out-of-range", format!("{path} is {number}, but must be {range}")).at(node.span, "")
}

/// The typed value of a string from a `{placeholder}` or a variable, which may be a number or a boolean.
fn typed(node: &Node) -> Cow<'_, Value> {
    match &node.value {
        Value::Text(text) => Cow::Owned(scalar::core(text.trim())),
        value => Cow::Borrowed(value),
    }
}

fn as_bool(node: &Node) -> Option<bool> {
    match *typed(node) {
        Value::Bool(yes) => Some(yes),
        _ => None,
    }
}

fn as_integer(node: &Node) -> Option<i64> {
    match *typed(node) {
        Value::Int(number) => Some(number),
        // `1e6` is a common way to write a million.
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => Some(number as i64),
        _ => None,
    }
}

fn as_number(node: &Node) -> Option<f64> {
    match *typed(node) {
        Value::Int(number) => Some(number as f64),
        Value::Float(number) => Some(number),
        _ => None,
    }
}

fn as_duration(node: &Node) -> Option<Duration> {
    match &node.value {
        Value::Text(text) => parse_duration(text).ok(),
        _ => as_number(node).and_then(seconds_to_duration),
    }
}

fn as_bytes(node: &Node) -> Option<u64> {
    match &node.value {
        Value::Text(text) => parse_bytes(text).ok(),
        _ => as_integer(node).and_then(|n| u64::try_from(n).ok()),
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
