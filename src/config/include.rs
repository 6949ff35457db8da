//! `include:`: the nodes of one pipeline file in another, under a namespace and with renamed datasets, as in Kedro's
//! modular pipelines.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    fields::{Field, Kind},
    record::Record,
    spec::{Bindings, NodeSpec, PipelineSpec, Spanned},
    tree::{Node, Value},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, did_you_mean},
    model::base_name,
};

/// Nodes that includes may add in all; includes of includes multiply.
const MAX_NODES: usize = 100_000;

/// Keys of an item under `include:`.
pub static INCLUDE_FIELDS: &[Field] = &[
    Field::required(
        "pipeline",
        Kind::Text,
        "The file under `pipelines/`, without its ending; folders are separated by dots.",
    ),
    Field::optional("namespace", Kind::Text, "", "Prefix of node names and of all datasets that are not mapped below."),
    Field::optional(
        "inputs",
        Kind::Any,
        "",
        "Free inputs that keep their name (a name or a list) or get another (a mapping).",
    ),
    Field::optional("outputs", Kind::Any, "", "Outputs that keep their name or get another."),
    Field::optional(
        "parameters",
        Kind::Any,
        "",
        "Parameters that keep their name or get another, with or without `params:`.",
    ),
    Field::optional("tags", Kind::List(&Kind::Text), "", "Tags added to all its nodes."),
    Field::optional("prefix_datasets", Kind::Bool, "true", "Whether the namespace is also the prefix of datasets."),
];

/// A file under `pipelines/` before its includes are expanded.
#[derive(Debug)]
pub(super) struct PipelineFile {
    pub(super) spec: PipelineSpec,
    pub(super) includes: Vec<Include>,
    /// False when a problem in it was reported, so that further ones may follow from it.
    pub(super) whole: bool,
}

/// One item under `include:`.
#[derive(Debug)]
pub(super) struct Include {
    pipeline: Spanned<String>,
    namespace: Option<String>,
    inputs: Vec<(Spanned<String>, String)>,
    outputs: Vec<(Spanned<String>, String)>,
    parameters: Vec<(Spanned<String>, String)>,
    tags: Vec<String>,
    prefix_datasets: bool,
}

/// Reads an item: a pipeline's name, or a mapping.
pub(super) fn decode(node: &Node, problems: &mut Diagnostics) -> Option<Include> {
    if let Some(name) = node.as_text() {
        return Some(Include {
            pipeline: Spanned { value: name.to_owned(), span: node.span },
            namespace: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            parameters: Vec::new(),
            tags: Vec::new(),
            prefix_datasets: true,
        });
    }
    let record = Record::read(node, "an item of `include`", INCLUDE_FIELDS, problems)?;
    let mut names = |key: &str| record.node(key).map_or_else(Vec::new, |node| mapping(node, key, problems));
    let (inputs, outputs) = (names("inputs"), names("outputs"));
    let mut parameters = names("parameters");
    for (old, new) in &mut parameters {
        for name in [&mut old.value, new] {
            if !name.starts_with("params:") {
                *name = format!("params:{name}");
            }
        }
    }
    Some(Include {
        pipeline: Spanned { value: record.text("pipeline")?.to_owned(), span: record.span("pipeline") },
        namespace: record.text("namespace").map(str::to_owned),
        inputs,
        outputs,
        parameters,
        tags: record.texts("tags").unwrap_or_default().into_iter().map(str::to_owned).collect(),
        prefix_datasets: record.bool("prefix_datasets").unwrap_or(true),
    })
}

/// The old and the new names. A name or a list keeps names; a mapping renames.
fn mapping(node: &Node, key: &str, problems: &mut Diagnostics) -> Vec<(Spanned<String>, String)> {
    let mut list = Vec::new();
    let mut add = |old: Spanned<String>, new: Option<&str>, node: &Node| match new {
        Some(new) => list.push((old, new.to_owned())),
        None if node.is_unresolved() => {}
        None => problems.push(
            Diagnostic::error(
                "config::wrong-type",
                format!("`{key}` of `include` must hold names, not {}", node.kind()),
            )
            .at(node.span, ""),
        ),
    };
    let same = |node: &Node| Spanned { value: node.as_text().unwrap_or_default().to_owned(), span: node.span };
    match &node.value {
        Value::Null => {}
        Value::List(items) => items.iter().for_each(|item| add(same(item), item.as_text(), item)),
        Value::Map(map) => map.iter().for_each(|(old, entry)| {
            add(Spanned { value: old.to_owned(), span: entry.key_span }, entry.node.as_text(), &entry.node);
        }),
        _ => add(same(node), node.as_text(), node),
    }
    list
}

/// Adds included nodes after a file's own. Order and names of the files stay.
pub(super) fn expand(files: Vec<PipelineFile>, partial: bool, problems: &mut Diagnostics) -> Vec<PipelineSpec> {
    let index: HashMap<String, usize> = files.iter().enumerate().map(|(i, file)| (file.spec.name.clone(), i)).collect();
    let mut state =
        Expansion { files: &files, index, done: HashMap::new(), open: Vec::new(), made: 0, partial, problems };
    for at in 0..files.len() {
        state.expand(at);
    }
    let mut done = state.done;
    files
        .into_iter()
        .enumerate()
        .map(|(at, file)| PipelineSpec { nodes: done.remove(&at).unwrap_or_default().nodes, ..file.spec })
        .collect()
}

#[derive(Debug, Clone, Default)]
struct Expanded {
    nodes: Vec<NodeSpec>,
    /// False when something is missing from it, which was reported.
    whole: bool,
}

struct Expansion<'a> {
    files: &'a [PipelineFile],
    index: HashMap<String, usize>,
    done: HashMap<usize, Expanded>,
    /// Files that are being expanded, outermost first.
    open: Vec<usize>,
    /// Nodes added so far.
    made: usize,
    /// True when files are missing because they could not be read.
    partial: bool,
    problems: &'a mut Diagnostics,
}

impl Expansion<'_> {
    fn expand(&mut self, at: usize) {
        if self.done.contains_key(&at) {
            return;
        }
        let file = &self.files[at];
        self.open.push(at);
        let mut expanded = Expanded { nodes: file.spec.nodes.clone(), whole: file.whole };
        for include in &file.includes {
            match self.included(include) {
                Some(part) => {
                    expanded.whole &= part.whole;
                    expanded.nodes.extend(part.nodes);
                }
                None => expanded.whole = false,
            }
        }
        self.open.pop();
        self.done.insert(at, expanded);
    }

    fn included(&mut self, include: &Include) -> Option<Expanded> {
        let name = &include.pipeline.value;
        let Some(&at) = self.index.get(name) else {
            if self.partial {
                return None;
            }
            self.problems.push(
                Diagnostic::error("pipeline::unknown-include", format!("there is no pipeline `{name}`"))
                    .at(include.pipeline.span, "")
                    .help_opt(did_you_mean(name, self.index.keys().map(String::as_str).collect::<BTreeSet<_>>()))
                    .help(format!("a pipeline is a file: `pipelines/{}.yml`", name.replace('.', "/"))),
            );
            return None;
        };
        if let Some(first) = self.open.iter().position(|open| *open == at) {
            let names: Vec<_> = self.open[first..].iter().map(|i| format!("`{}`", self.files[*i].spec.name)).collect();
            self.problems.push(
                Diagnostic::error(
                    "pipeline::include-cycle",
                    format!("includes form a cycle: {} → `{name}`", names.join(" → ")),
                )
                .at(include.pipeline.span, ""),
            );
            return None;
        }
        // Each file is expanded once, so this bounds the recursion alone.
        if self.open.len() > 100 {
            self.problems.push(
                Diagnostic::error("pipeline::include-cycle", "includes are nested more than 100 deep")
                    .at(include.pipeline.span, ""),
            );
            return None;
        }
        self.expand(at);
        let part = self.done.get(&at)?;
        self.made += part.nodes.len();
        if self.made > MAX_NODES {
            self.problems.push(
                Diagnostic::error(
                    "pipeline::too-many-nodes",
                    format!("includes add up to more than {MAX_NODES} nodes"),
                )
                .at(include.pipeline.span, "the limit is reached here"),
            );
            return None;
        }
        let part = part.clone();
        Some(self.mapped(include, part))
    }

    /// Applies the namespace and the maps of an include.
    fn mapped(&mut self, include: &Include, mut part: Expanded) -> Expanded {
        let used = UsedNames::of(&part.nodes);
        if part.whole {
            self.check(include, &used);
        }
        let maps: HashMap<&str, &str> = include
            .inputs
            .iter()
            .chain(&include.outputs)
            .chain(&include.parameters)
            .map(|(old, new)| (old.value.as_str(), new.as_str()))
            .collect();
        let names: HashSet<String> = part.nodes.iter().map(|node| node.name.value.clone()).collect();
        for node in &mut part.nodes {
            for binding in node.inputs.list.iter_mut().chain(&mut node.outputs.list) {
                binding.dataset.value = include.rename(&binding.dataset.value, &maps);
            }
            for dataset in &mut node.confirms {
                dataset.value = include.rename(&dataset.value, &maps);
            }
            node.tags.extend(include.tags.iter().filter(|tag| !node.tags.contains(tag)).cloned().collect::<Vec<_>>());
            let Some(namespace) = &include.namespace else { continue };
            for after in node.after.iter_mut().filter(|after| names.contains(&after.value)) {
                after.value = format!("{namespace}.{}", after.value);
            }
            node.name.value = format!("{namespace}.{}", node.name.value);
            node.namespace = Some(match &node.namespace {
                Some(inner) => format!("{namespace}.{inner}"),
                None => namespace.clone(),
            });
        }
        part
    }

    /// Reports names that the included pipeline does not have, or not in that role.
    fn check(&mut self, include: &Include, used: &UsedNames) {
        let free: BTreeSet<&String> = used.consumed.iter().filter(|name| used.has_input(name)).collect();
        let produced: BTreeSet<&String> = used.produced.iter().collect();
        let parameters: BTreeSet<&String> = used.parameters.iter().collect();
        for (maps, key, fitting) in [
            (&include.inputs, "inputs", free),
            (&include.outputs, "outputs", produced),
            (&include.parameters, "parameters", parameters),
        ] {
            for (old, _) in maps.iter().filter(|(old, _)| !fitting.contains(&old.value)) {
                let (name, pipeline) = (old.value.as_str(), &include.pipeline.value);
                let is_parameter = name.starts_with("params:") || name == "parameters";
                let reason = match key {
                    "inputs" | "outputs" if is_parameter => "list parameters under `parameters:`".to_owned(),
                    "inputs" if used.produced.contains(name) => {
                        format!("`{name}` is written inside pipeline `{pipeline}`")
                    }
                    "outputs" if used.consumed.contains(name) => {
                        format!("no node of pipeline `{pipeline}` writes `{name}`")
                    }
                    _ => format!("pipeline `{pipeline}` has no `{name}`"),
                };
                self.problems.push(
                    Diagnostic::error(
                        "pipeline::include-name",
                        format!("`{key}` of this include names `{name}`: {reason}"),
                    )
                    .at(old.span, "")
                    .help_opt(did_you_mean(name, &fitting)),
                );
            }
        }
    }
}

impl Include {
    fn rename(&self, name: &str, maps: &HashMap<&str, &str>) -> String {
        if name == "parameters" {
            return name.to_owned();
        }
        if let Some(new) = maps.get(name) {
            return (*new).to_owned();
        }
        let parameter = name.strip_prefix("params:");
        // A mapping for `x` applies to all views of `x`.
        if let (None, Some((base, view))) = (parameter, name.split_once('@'))
            && let Some(new) = maps.get(base)
        {
            return format!("{new}@{view}");
        }
        match (&self.namespace, parameter) {
            // Parameters follow datasets: both keep their names.
            (Some(_), _) if !self.prefix_datasets => name.to_owned(),
            (Some(namespace), Some(path)) => format!("params:{namespace}.{path}"),
            (Some(namespace), None) => format!("{namespace}.{name}"),
            (None, _) => name.to_owned(),
        }
    }
}

/// The names that nodes read and write: full names, and bases of views.
#[derive(Debug, Default)]
struct UsedNames {
    consumed: HashSet<String>,
    produced: HashSet<String>,
    parameters: HashSet<String>,
}

impl UsedNames {
    fn of(nodes: &[NodeSpec]) -> Self {
        let mut used = Self::default();
        let add = |bindings: &Bindings, names: &mut HashSet<String>, parameters: &mut HashSet<String>| {
            for binding in &bindings.list {
                let name = &binding.dataset.value;
                if name.starts_with("params:") {
                    parameters.insert(name.clone());
                } else if name != "parameters" {
                    names.insert(name.clone());
                    names.extend(name.split_once('@').map(|(base, _)| base.to_owned()));
                }
            }
        };
        for node in nodes {
            add(&node.inputs, &mut used.consumed, &mut used.parameters);
            add(&node.outputs, &mut used.produced, &mut used.parameters);
        }
        used
    }

    /// True for a dataset that is read and not written by these nodes, under any view.
    fn has_input(&self, name: &str) -> bool {
        let base = base_name(name);
        self.consumed.contains(name) && !self.produced.contains(base)
    }
}
