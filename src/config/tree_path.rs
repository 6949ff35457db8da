//! A path in a tree: the nodes from the root to one of them, their dotted name, and whether a secret's name is on it.

use super::tree::{Node, Value};
use crate::{
    diagnostic::SourceId,
    model::{HEADERS, is_secret_mapping_name, is_secret_name},
};

/// Dots of a path that are tried as the end of a key.
pub(super) const MAX_CUTS: usize = 150;

/// Below these, keys are names that were chosen for columns, ports or properties; they say nothing about the values.
const NAMES_BELOW: [&str; 7] = ["$defs", "columns", "dtype", "inputs", "outputs", "properties", "schema"];

/// True where the keys below `key` are names of columns, ports or properties, and not of settings.
pub(super) fn names_below(key: &str) -> bool {
    NAMES_BELOW.contains(&key)
}

/// Which files a tree was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TreeKind {
    /// `catalog.yml`.
    Catalog,
    /// `parameters.yml`.
    Parameters,
    /// `globals.yml`.
    Globals,
    /// `credentials.yml`.
    Credentials,
    /// `--params` alone.
    Runtime,
    /// A file under `pipelines/`.
    Pipeline,
}

impl TreeKind {
    /// As named in messages.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Catalog => "the catalog",
            Self::Parameters => "the parameters",
            Self::Globals => "the globals",
            Self::Credentials => "the credentials",
            Self::Runtime => "`--params`",
            Self::Pipeline => "the pipeline file",
        }
    }

    /// In front of a name when it is shown.
    fn prefix(self) -> &'static str {
        match self {
            Self::Catalog | Self::Pipeline => "",
            Self::Parameters => "params:",
            Self::Globals => "globals:",
            Self::Credentials => "credentials:",
            Self::Runtime => "runtime_params:",
        }
    }
}

/// Identifies a node among all trees: its tree, and at each step its index in the collection around it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TreeNodeId {
    kind: TreeKind,
    /// The file of the root, which distinguishes pipeline files.
    source: SourceId,
    indices: Box<[usize]>,
}

/// A node with the nodes above it.
#[derive(Debug, Clone)]
pub(super) struct TreePath<'a> {
    kind: TreeKind,
    steps: Vec<Step<'a>>,
    /// The dotted name of the last step; a prefix of it is the name of each step before.
    name: String,
}

#[derive(Debug, Clone, Copy)]
struct Step<'a> {
    node: &'a Node,
    /// Index in the collection around it; 0 for the root.
    index: usize,
    name_end: usize,
    secrecy: KeySecrecy,
}

/// What the keys on the way to a node say about its value.
#[derive(Debug, Clone, Copy, Default)]
struct KeySecrecy {
    /// It is a secret.
    secret: bool,
    /// It is one by its name or under `headers`, and not only because all credentials count as one.
    by_name: bool,
    /// It is one because of `headers` and nothing else.
    header: bool,
    /// If it is a mapping, all in it is secret.
    as_mapping: bool,
}

impl<'a> TreePath<'a> {
    /// The root of a tree.
    pub(super) fn root(kind: TreeKind, node: &'a Node) -> Self {
        let secrecy = KeySecrecy { secret: kind == TreeKind::Credentials, ..KeySecrecy::default() };
        Self { kind, steps: vec![Step { node, index: 0, name_end: 0, secrecy }], name: String::new() }
    }

    /// Which tree it is in.
    pub(super) fn kind(&self) -> TreeKind {
        self.kind
    }

    /// The node at its end.
    pub(super) fn node(&self) -> &'a Node {
        self.last().node
    }

    /// The identity of the node at its end.
    pub(super) fn id(&self) -> TreeNodeId {
        TreeNodeId {
            kind: self.kind,
            source: self.steps.first().map_or(SourceId(0), |root| root.node.span.source),
            indices: self.steps.iter().skip(1).map(|step| step.index).collect(),
        }
    }

    /// True under a key named like a secret, in the credentials, and in `headers:` and `credentials:` given in place.
    pub(super) fn is_secret(&self) -> bool {
        self.last().secrecy.secret
    }

    /// True under a key named like a secret and in `headers:`. Of the credentials, a host name is none.
    pub(super) fn is_secret_by_name(&self) -> bool {
        self.last().secrecy.by_name
    }

    /// True for what is a secret, or would be as a mapping, because of `headers` and nothing else.
    pub(super) fn is_header(&self) -> bool {
        self.last().secrecy.header
    }

    /// True for the keys `headers` and `credentials`: if the value turns out to be a mapping, all in it is secret.
    pub(super) fn is_secret_as_mapping(&self) -> bool {
        self.last().secrecy.as_mapping
    }

    /// The dotted name, for messages.
    pub(super) fn name(&self) -> String {
        format!("{}{}", self.kind.prefix(), self.name)
    }

    fn last(&self) -> Step<'a> {
        *self.steps.last().expect("a path has at least its root")
    }

    /// Goes down to a value of the mapping.
    pub(super) fn enter(&mut self, index: usize, key: &str, node: &'a Node) {
        let (above, chosen) = (self.last().secrecy, self.names_below());
        let named = !chosen && is_secret_name(key);
        let as_mapping = !chosen && is_secret_mapping_name(key);
        let in_place = as_mapping && node.as_map().is_some();
        let secrecy = KeySecrecy {
            secret: above.secret || named || in_place,
            by_name: above.by_name || named || in_place && key == HEADERS,
            header: !named && (above.header || !above.secret && as_mapping && key == HEADERS),
            as_mapping,
        };
        self.push(index, key, node, secrecy);
    }

    /// True where keys are names that were chosen: of datasets, ports, columns or properties.
    fn names_below(&self) -> bool {
        let key = match &self.steps[..] {
            [_] => return self.kind == TreeKind::Catalog,
            [.., above, last] => self.name[above.name_end..last.name_end].trim_start_matches('.'),
            [] => return false,
        };
        names_below(key) || self.kind == TreeKind::Pipeline && key == "parameters"
    }

    /// Goes down to an item of the list.
    pub(super) fn enter_item(&mut self, index: usize, node: &'a Node) {
        let secrecy = KeySecrecy { as_mapping: false, ..self.last().secrecy };
        self.push(index, &index.to_string(), node, secrecy);
    }

    fn push(&mut self, index: usize, key: &str, node: &'a Node, secrecy: KeySecrecy) {
        if !self.name.is_empty() {
            self.name.push('.');
        }
        self.name.push_str(key);
        self.steps.push(Step { node, index, name_end: self.name.len(), secrecy });
    }

    /// Goes up to the collection around.
    pub(super) fn leave(&mut self) {
        self.steps.pop();
        let end = self.steps.last().map_or(0, |step| step.name_end);
        self.name.truncate(end);
    }

    /// Where a relative reference starts: no dot is the root, one dot is the collection around, and so on. `None` when
    /// the dots lead out of the tree.
    pub(super) fn ancestor(&self, dots: usize) -> Option<Self> {
        let keep = if dots == 0 { 1 } else { self.steps.len().checked_sub(dots).filter(|keep| *keep > 0)? };
        let steps = self.steps[..keep].to_vec();
        let name = self.name[..steps.last().map_or(0, |step| step.name_end)].to_owned();
        Some(Self { kind: self.kind, steps, name })
    }
}

/// Reads an index; negative ones count from the end.
pub(super) fn array_index(segment: &str, length: usize) -> Option<usize> {
    match segment.strip_prefix('-') {
        Some(back) => length.checked_sub(back.parse().ok()?).filter(|index| *index < length),
        None => segment.parse().ok().filter(|index| *index < length),
    }
}

/// Offsets at which a path can be cut into a key and the rest: its end, then its dots from the last to the first.
pub(super) fn cuts(path: &str) -> impl Iterator<Item = usize> {
    std::iter::once(path.len()).chain(path.rmatch_indices('.').map(|(dot, _)| dot))
}

/// [`Node::at_path`], with indices of lists.
pub(super) fn value_at<'n>(node: &'n Node, path: &str) -> Option<&'n Node> {
    if path.is_empty() {
        return Some(node);
    }
    match &node.value {
        Value::Map(map) => cuts(path)
            .take(MAX_CUTS)
            .find_map(|cut| value_at(map.get(&path[..cut])?, path.get(cut + 1..).unwrap_or_default())),
        Value::List(list) => {
            let (segment, rest) = path.split_once('.').unwrap_or((path, ""));
            value_at(list.get(array_index(segment, list.len())?)?, rest)
        }
        _ => None,
    }
}

/// True for the same path, and for one that continues after it.
pub(super) fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
