//! `load_args` and `save_args` of an entry, held against the tables of those who read them, each in its direction.
//!
//! What a table declares is checked and obeyed. What none declares is an error where the type is `flow`'s own. Where it is
//! Kedro's, which hands both on to a library, it is a warning, unless it changes nothing here.

use super::library::Library;
use crate::{
    config::{DatasetSpec, Entry, Field, Map, Node, Record, Value},
    diagnostic::{Diagnostic, Diagnostics, did_you_mean},
};

/// The options under one key of an entry.
#[derive(Debug, Clone, Default)]
pub(super) struct ArgsTables {
    /// Those that are read, in tables that count together.
    pub(super) read: Vec<&'static [Field]>,
    /// Those of other libraries that change nothing here, as long as they have a value that their table takes.
    pub(super) inert: &'static [Field],
}

impl ArgsTables {
    fn names(&self) -> impl Iterator<Item = &'static str> + Clone + '_ {
        let fields = self.read.iter().flat_map(|table| table.iter());
        fields.flat_map(|field| std::iter::once(field.name).chain(field.aliases.iter().copied()))
    }

    fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
}

/// Both keys of an entry.
pub(super) struct DeclaredArgs {
    pub(super) load: DeclaredArgsOf,
    pub(super) save: DeclaredArgsOf,
}

/// `load_args` or `save_args` of an entry, as far as a table declares them.
pub(super) struct DeclaredArgsOf {
    what: String,
    node: Node,
    tables: Vec<&'static [Field]>,
}

const LOAD: &str = "load_args";
const SAVE: &str = "save_args";

impl DeclaredArgs {
    /// Takes what the tables declare, and reports everything else.
    pub(super) fn of(
        spec: &DatasetSpec,
        library: Library,
        load: ArgsTables,
        save: ArgsTables,
        problems: &mut Diagnostics,
    ) -> Self {
        Self {
            load: DeclaredArgsOf::of(spec, library, (LOAD, &load), (SAVE, &save), problems),
            save: DeclaredArgsOf::of(spec, library, (SAVE, &save), (LOAD, &load), problems),
        }
    }
}

impl DeclaredArgsOf {
    fn of(
        spec: &DatasetSpec,
        library: Library,
        (key, tables): (&str, &ArgsTables),
        (other_key, other): (&str, &ArgsTables),
        problems: &mut Diagnostics,
    ) -> Self {
        let given = spec.options.get(key);
        let what = format!("`{key}` of dataset `{}`", spec.name);
        let mut map = Map::default();
        for (name, entry) in given.and_then(Node::as_map).into_iter().flat_map(Map::iter) {
            if tables.has(name) {
                map.entries.insert(name.to_owned(), in_lower_case(name, entry));
                continue;
            }
            if name.starts_with("x-") || library.is_foreign() && is_inert(name, entry, tables.inert) {
                continue;
            }
            let help = if other.has(name) {
                Some(format!("`{name}` is an option of `{other_key}`"))
            } else {
                did_you_mean(name, tables.names())
            };
            problems.push(unread(library, &what, name, entry, help, tables.names()));
        }
        let span = given.map_or(spec.options.span, |node| node.span);
        Self { what, node: Node::new(Value::Map(map), span), tables: tables.read.clone() }
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
    if let ("compression" | "codec", Value::Text(text)) = (name, &mut entry.node.value) {
        text.make_ascii_lowercase();
    }
    entry
}

/// True for an option that changes nothing with this value.
fn is_inert(name: &str, entry: &Entry, inert: &'static [Field]) -> bool {
    let Some(field) = inert.iter().find(|field| field.name == name) else { return false };
    let mut map = Map::default();
    map.entries.insert(name.to_owned(), entry.clone());
    let node = Node::new(Value::Map(map), entry.key_span);
    Record::read(&node, "", std::slice::from_ref(field), &mut Diagnostics::default())
        .is_some_and(|record| record.is_sound())
}

/// An option that no table declares.
pub(super) fn unread<'n>(
    library: Library,
    what: &str,
    name: &str,
    entry: &Entry,
    help: Option<String>,
    known: impl Iterator<Item = &'n str>,
) -> Diagnostic {
    if library.is_foreign() {
        let message = format!("{what}: `{name}` is not read, so the result may differ from that of {}", library.name());
        return Diagnostic::warning("data::ignored-option", message).at(entry.key_span, "").help_opt(help);
    }
    let help = help.unwrap_or_else(|| {
        let known = known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        if known.is_empty() {
            "remove it: there are no options here".to_owned()
        } else {
            format!("known keys: {known}")
        }
    });
    Diagnostic::error("config::unknown-key", format!("{what} has an unknown key `{name}`"))
        .at(entry.key_span, "")
        .help(help)
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

    /// The mapping.
    pub(super) fn node(&self) -> &'a Node {
        self.node
    }

    /// True where `null` is written under a name, or one of several spellings of it.
    pub(super) fn is_null(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.node.get(name).is_some_and(|node| node.value == Value::Null))
    }
}

/// What a file format is decoded from.
pub(super) struct FormatArgs<'a> {
    /// The dataset's name, for messages.
    pub(super) dataset: &'a str,
    /// In whose words the options are, which decides what counts where one is not given.
    pub(super) library: Library,
    /// `load_args`, by the format's own table.
    pub(super) load: &'a Args<'a>,
    /// `save_args`, by the format's own table and perhaps others.
    pub(super) save: &'a Args<'a>,
    /// `schema`: the types of columns in the words of SQL.
    pub(super) schema: Option<&'a Node>,
    /// The word under `file_format`.
    pub(super) file_format: Option<&'a str>,
    /// How the name of a file ends that is written; `None` where the format names it.
    pub(super) file_name: Option<&'a str>,
}

impl FormatArgs<'_> {
    /// A value that is wrong in a way that its table cannot say.
    pub(super) fn wrong(&self, node: &Node, message: &str) -> Diagnostic {
        bad_option(self.dataset, node, message)
    }
}

/// A problem with one option of a dataset.
pub(super) fn bad_option(dataset: &str, node: &Node, message: &str) -> Diagnostic {
    Diagnostic::error("data::bad-option", format!("dataset `{dataset}`: {message}")).at(node.span, "")
}
