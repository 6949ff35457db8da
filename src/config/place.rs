//! A place in a tree with the way that led there: what `..` climbs, and whether a secret's name was passed.

use super::tree::{Node, Value};
use crate::model::is_secret_name;

/// Parts of a path that are tried as one key.
const MAX_CUTS: usize = 150;

/// Which tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
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

impl Area {
    /// As named in messages.
    pub(super) fn file(self) -> &'static str {
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

/// A node with the nodes above it.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    area: Area,
    steps: Vec<Step<'a>>,
    /// The dotted name of the last step; each step knows how much of it is its own.
    name: String,
}

#[derive(Debug, Clone, Copy)]
struct Step<'a> {
    node: &'a Node,
    name_end: usize,
    secret: bool,
}

/// Where a reference leads.
#[derive(Debug)]
pub(super) enum Target<'a> {
    /// A node of a tree, not resolved yet.
    Place(Place<'a>),
    /// A value that stands in no tree.
    Value(Node),
}

impl<'a> Place<'a> {
    /// The root of a tree.
    pub(super) fn root(area: Area, node: &'a Node) -> Self {
        let secret = area == Area::Credentials;
        Self { area, steps: vec![Step { node, name_end: 0, secret }], name: String::new() }
    }

    pub(super) fn area(&self) -> Area {
        self.area
    }

    /// The node.
    pub(super) fn node(&self) -> &'a Node {
        self.last().node
    }

    /// True under a key named like a secret, in the credentials, and in `credentials:` given in place.
    pub(super) fn is_secret(&self) -> bool {
        self.last().secret
    }

    /// The dotted name, for messages.
    pub(super) fn name(&self) -> String {
        format!("{}{}", self.area.prefix(), self.name)
    }

    fn last(&self) -> Step<'a> {
        *self.steps.last().expect("a place has at least its root")
    }

    /// Goes to a value of the mapping.
    pub(super) fn enter(&mut self, key: &str, node: &'a Node) {
        let secret = self.last().secret || is_secret_name(key) || (key == "credentials" && node.as_map().is_some());
        self.push(key, node, secret);
    }

    /// Goes to an item of the list.
    pub(super) fn enter_item(&mut self, index: usize, node: &'a Node) {
        self.push(&index.to_string(), node, self.last().secret);
    }

    fn push(&mut self, key: &str, node: &'a Node, secret: bool) {
        if !self.name.is_empty() {
            self.name.push('.');
        }
        self.name.push_str(key);
        self.steps.push(Step { node, name_end: self.name.len(), secret });
    }

    /// Goes back to the collection around.
    pub(super) fn leave(&mut self) {
        self.steps.pop();
        let end = self.steps.last().map_or(0, |step| step.name_end);
        self.name.truncate(end);
    }

    /// The place that `dots` dots lead to: none is the root, one is the collection around, and so on. `None` when they
    /// climb out of the tree.
    pub(super) fn up(&self, dots: usize) -> Option<Self> {
        let keep = if dots == 0 { 1 } else { self.steps.len().checked_sub(dots).filter(|keep| *keep > 0)? };
        let steps = self.steps[..keep].to_vec();
        let name = self.name[..steps.last().map_or(0, |step| step.name_end)].to_owned();
        Some(Self { area: self.area, steps, name })
    }
}

/// Reads an index; negative ones count from the end.
pub(super) fn array_index(segment: &str, length: usize) -> Option<usize> {
    match segment.strip_prefix('-') {
        Some(back) => length.checked_sub(back.parse().ok()?).filter(|index| *index < length),
        None => segment.parse().ok().filter(|index| *index < length),
    }
}

/// [`Node::at_path`], with indices of lists.
pub(super) fn value_at<'n>(node: &'n Node, path: &str) -> Option<&'n Node> {
    if path.is_empty() {
        return Some(node);
    }
    match &node.value {
        Value::Map(map) => {
            let cuts = std::iter::once(path.len()).chain(path.rmatch_indices('.').map(|(dot, _)| dot));
            cuts.take(MAX_CUTS)
                .find_map(|cut| value_at(map.get(&path[..cut])?, path.get(cut + 1..).unwrap_or_default()))
        }
        Value::List(list) => {
            let (segment, rest) = path.split_once('.').unwrap_or((path, ""));
            value_at(list.get(array_index(segment, list.len())?)?, rest)
        }
        _ => None,
    }
}

/// True for the same path, and for one that goes on after it.
pub(super) fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
