//! `load_args` and `save_args` of an entry, held against the tables of those who read them.
//!
//! Kedro hands both on to a library. What a table declares is checked and obeyed; what no table declares gets a warning, so
//! that no option is accepted and ignored.

use crate::{
    config::{DatasetSpec, Entry, Field, Map, Node, Record, Value},
    diagnostic::{Diagnostic, Diagnostics, did_you_mean},
};

/// Options that Kedro's libraries take and that change nothing about what is read or written here.
const HARMLESS: &[&str] = &[
    "engine",
    "index",
    "mode",
    "memory_map",
    "low_memory",
    "use_pyarrow",
    "rechunk",
    "inferSchema",
    "encoding",
    "index_col",
];

/// `load_args` or `save_args` of an entry, as far as a table declares them.
pub(super) struct DeclaredArgs {
    what: String,
    node: Node,
    tables: Vec<&'static [Field]>,
}

impl DeclaredArgs {
    /// Takes what `tables` declare from under `key`, and warns of everything else.
    pub(super) fn of(spec: &DatasetSpec, key: &str, tables: Vec<&'static [Field]>, problems: &mut Diagnostics) -> Self {
        let declared = || tables.iter().flat_map(|table| table.iter());
        let names = || declared().flat_map(|field| std::iter::once(field.name).chain(field.aliases.iter().copied()));
        let given = spec.options.get(key);
        let mut map = Map::default();
        for (name, entry) in given.and_then(Node::as_map).into_iter().flat_map(Map::iter) {
            if names().any(|known| known == name) {
                map.entries.insert(name.to_owned(), in_lower_case(name, entry));
            } else if !HARMLESS.contains(&name) {
                problems.push(unread(spec, key, name, entry).help_opt(did_you_mean(name, names())));
            }
        }
        let span = given.map_or(spec.options.span, |node| node.span);
        let what = format!("`{key}` of dataset `{}`", spec.name);
        Self { what, node: Node::new(Value::Map(map), span), tables }
    }

    /// Their values, checked.
    pub(super) fn read(&self, problems: &mut Diagnostics) -> Args<'_> {
        let record = Record::read_tables(&self.node, &self.what, &self.tables, problems);
        Args { node: &self.node, record: record.expect("declared arguments are a mapping") }
    }
}

/// `compression: GZIP` is `gzip` to pandas and pyarrow.
fn in_lower_case(name: &str, entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    if let ("compression", Value::Text(text)) = (name, &mut entry.node.value) {
        text.make_ascii_lowercase();
    }
    entry
}

fn unread(spec: &DatasetSpec, key: &str, name: &str, entry: &Entry) -> Diagnostic {
    let message = format!("dataset `{}`: `{key}.{name}` has no meaning for flow and is not read", spec.name);
    Diagnostic::warning("data::ignored-option", message).at(entry.key_span, "")
}

/// The checked values of `load_args` or of `save_args`.
pub(super) struct Args<'a> {
    node: &'a Node,
    record: Record<'a>,
}

impl<'a> Args<'a> {
    /// The values by name; `None` for one that is absent, `null`, or was reported as wrong.
    pub(super) fn record(&self) -> &Record<'a> {
        &self.record
    }

    /// True where `null` is written under this name, which is not one of several spellings.
    pub(super) fn is_null(&self, name: &str) -> bool {
        self.node.get(name).is_some_and(|node| node.value == Value::Null)
    }
}

/// What a file format is decoded from.
pub(super) struct FormatArgs<'a> {
    /// The dataset's name, for messages.
    pub(super) dataset: &'a str,
    /// `load_args`, by the format's own table.
    pub(super) load: &'a Args<'a>,
    /// `save_args`, by the format's own table and perhaps others.
    pub(super) save: &'a Args<'a>,
}

impl<'a> FormatArgs<'a> {
    /// Whichever of the two gives a value under this name: `load_args` first, since what is written is read back.
    pub(super) fn either(&self, name: &str) -> Option<(&'a Node, &'a Record<'a>)> {
        let find = |args: &'a Args<'a>| Some((args.record.node(name)?, &args.record));
        find(self.load).or_else(|| find(self.save))
    }

    /// A value that is wrong in a way that its table cannot say.
    pub(super) fn wrong(&self, node: &Node, message: &str) -> Diagnostic {
        bad_option(self.dataset, node, message)
    }
}

/// A problem with one option of a dataset.
pub(super) fn bad_option(dataset: &str, node: &Node, message: &str) -> Diagnostic {
    Diagnostic::error("data::bad-option", format!("dataset `{dataset}`: {message}")).at(node.span, "")
}
