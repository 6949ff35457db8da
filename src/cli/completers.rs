//! What a shell completes from the project's files: names of nodes, datasets, pipelines, tags, namespaces and environments, and the keys of
//! parameters.
//!
//! Reads files and nothing else. A project with problems completes what could be read of it.

use std::{collections::BTreeMap, ffi::OsStr};

use clap_complete::engine::CompletionCandidate;

use super::app::environment;
use crate::{
    config::{self, Field, Kind, LoadOptions, Map, Node, NodeSpec, Project},
    diagnostic::Diagnostics,
    embed::{COMMON, DEFAULT_PROVIDER, PROVIDERS},
    function::FUNCTIONS,
    model::base_name,
};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Names of nodes.
    Nodes,
    /// Names of nodes, and `tag:x`.
    NodesAndTags,
    /// Names of datasets, with their views.
    Datasets,
    /// Names of pipelines.
    Pipelines,
    /// Tags.
    Tags,
    /// Namespaces.
    Namespaces,
    /// Folders under `conf/`.
    Environments,
    /// `key=` of parameters, and `+key=` of those that a node's function knows and the files do not have.
    Parameters,
}

/// The candidates for what was typed of a value. Of a list with commas, the last item is completed.
pub(super) fn candidates(of: Names, current: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(current), Some(project)) = (current.to_str(), project()) else { return Vec::new() };
    let begin = current.rfind(',').map_or(0, |comma| comma + 1);
    let (before, last) = current.split_at(begin);
    let found = names(of, &project).into_iter().filter(|(name, _)| name.starts_with(last));
    found.map(|(name, help)| CompletionCandidate::new(format!("{before}{name}")).help(help.map(Into::into))).collect()
}

/// The project that the command line is about.
fn project() -> Option<Project> {
    // The shell passes the words of the line after `--`.
    let words: Vec<String> =
        std::env::args_os().skip_while(|word| word != "--").map(|word| word.to_string_lossy().into_owned()).collect();
    let flag = |short: &str, long: &str| {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == short || word == long {
                return words.next().cloned();
            }
            if let Some(value) = word.strip_prefix(long).and_then(|rest| rest.strip_prefix('=')) {
                return Some(value.to_owned());
            }
        }
        None
    };
    let folder = flag("-C", "--project").or_else(|| environment("FLOW_PROJECT"));
    let env = flag("-e", "--env").or_else(|| environment("FLOW_ENV"));
    let options = LoadOptions {
        ask: None,
        pipelines: &[],
        project: folder.as_deref().map(std::path::Path::new),
        env: env.as_deref(),
        params: &[],
        environment: &environment,
    };
    config::load(&options, &mut Diagnostics::default()).1
}

/// All names, sorted, with a line about some.
fn names(of: Names, project: &Project) -> BTreeMap<String, Option<String>> {
    let nodes = || project.pipelines.iter().flat_map(|pipeline| &pipeline.nodes);
    let node = |node: &NodeSpec| (node.name.value.clone(), Some(node.function.value.clone()));
    let tags = |prefix: &str| {
        let tags = nodes().flat_map(|node| &node.tags);
        tags.map(|tag| (format!("{prefix}{tag}"), None)).collect::<BTreeMap<_, _>>()
    };
    match of {
        Names::Nodes => nodes().map(node).collect(),
        Names::NodesAndTags => nodes().map(node).chain(tags("tag:")).collect(),
        Names::Datasets => {
            let entries = project.catalog.entries.values();
            let written = entries.map(|entry| (entry.name.clone(), Some(entry.kind.value.clone())));
            // Of datasets of patterns, those that nodes name.
            let named = nodes().flat_map(|node| node.inputs.list.iter().chain(&node.outputs.list));
            let named = named.map(|binding| &binding.dataset.value).filter(|name| !is_parameter(name));
            named.map(|name| (name.clone(), None)).chain(written).collect()
        }
        Names::Pipelines => project.pipelines.iter().map(|one| (one.name.clone(), one.description.clone())).collect(),
        Names::Tags => tags(""),
        Names::Namespaces => nodes().filter_map(|node| Some((node.namespace.clone()?, None))).collect(),
        Names::Environments => environments(project),
        Names::Parameters => parameters(project),
    }
}

fn is_parameter(name: &str) -> bool {
    base_name(name) == "parameters" || name.starts_with("params:")
}

fn environments(project: &Project) -> BTreeMap<String, Option<String>> {
    let folders = std::fs::read_dir(project.root.join("conf")).into_iter().flatten().flatten();
    let folders = folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, None)))
        .filter(|(name, _)| name != "base")
        .collect()
}

fn parameters(project: &Project) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    written(&project.parameters, "", &mut found);
    for node in project.pipelines.iter().flat_map(|pipeline| &pipeline.nodes) {
        let Some(function) = FUNCTIONS.iter().find(|function| function.is_called(&node.function.value)) else {
            continue;
        };
        let inputs = function.signature().inputs;
        for (at, binding) in node.inputs.list.iter().enumerate() {
            let port = binding.port.as_ref().map(|port| port.value.as_str()).or(inputs.get(at).map(|port| port.name));
            let (Some(port), Some(path)) = (port, binding.dataset.value.strip_prefix("params:")) else { continue };
            let Some(mapping) = project.parameters.at_path(path).and_then(Node::as_map) else { continue };
            let mappings = function.mappings();
            match mappings.iter().find(|(name, _)| *name == port) {
                Some((_, fields)) => missing(fields, mapping, path, &mut found),
                None if function.name() == "compute_embeddings" && port == "model" => {
                    let provider = mapping.get("provider").and_then(Node::as_text).unwrap_or(DEFAULT_PROVIDER);
                    missing(COMMON, mapping, path, &mut found);
                    for provider in PROVIDERS.iter().filter(|one| one.name() == provider) {
                        missing(provider.fields(), mapping, path, &mut found);
                    }
                }
                None => {}
            }
        }
    }
    found
}

/// `key=` of all parameters that files have.
fn written(node: &Node, prefix: &str, found: &mut BTreeMap<String, Option<String>>) {
    for (key, entry) in node.as_map().into_iter().flat_map(Map::iter) {
        let path = format!("{prefix}{key}");
        match entry.node.as_map().filter(|map| !map.entries.is_empty()) {
            Some(_) => written(&entry.node, &format!("{path}."), found),
            None => drop(found.insert(format!("{path}="), None)),
        }
    }
}

/// `+key=` of the keys that a mapping could have and does not.
fn missing(fields: &[Field], mapping: &Map, path: &str, found: &mut BTreeMap<String, Option<String>>) {
    for field in fields {
        let names = || std::iter::once(&field.name).chain(field.aliases);
        let below = format!("{path}.{}", field.name);
        match (names().find_map(|name| mapping.get(name)), field.kind) {
            (Some(there), Kind::Record(fields)) => {
                if let Some(mapping) = there.as_map() {
                    missing(fields, mapping, &below, found);
                }
            }
            (Some(_), _) => {}
            (None, Kind::Record(fields)) => missing(fields, &Map::default(), &below, found),
            (None, _) => drop(found.insert(format!("+{below}="), Some(field.doc.to_owned()))),
        }
    }
}
