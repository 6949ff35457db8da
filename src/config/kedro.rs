//! A Kedro project as it is: what its own code says about it ([`LoadOptions::ask`](super::LoadOptions)) becomes a [`Project`].
//!
//! Owns which folders are such projects, and where in their files each name is. Must not know how the project is asked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    catalog,
    files::{SUFFIXES, kedro_files},
    regular::read_regular_file,
    spec::{Binding, Bindings, CatalogSpec, DatasetSpec, KedroProject, NodeSpec, PipelineSpec, Project, Spanned},
    tree::{Entry, Map, Node, Value},
    tree_path::names_below,
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, SourceId, Sources, Span},
    model::{Secret, base_name, is_secret_mapping_name, is_secret_name},
};

/// Kedro's name of the pipeline that runs when none is named.
const DEFAULT: &str = "__default__";
/// What a node's function begins with.
pub const KEDRO_FUNCTION: &str = "kedro:";

/// Why a project could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskError {
    /// There is no Python, or Kedro is not installed in it.
    Unavailable(String),
    /// The project's own code or configuration is wrong.
    Wrong(String),
}

/// Asks the project in a folder: its environment, and `--params` as one mapping.
pub type Ask<'a> = dyn Fn(&Path, Option<&str>, &Json) -> Result<Json, AskError> + 'a;

#[derive(Debug, Deserialize)]
struct Answer {
    env: Option<String>,
    python: String,
    catalog: Json,
    parameters: Json,
    credentials: Json,
    pipelines: Vec<AnsweredPipeline>,
    hooks: Vec<String>,
    conf: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct AnsweredPipeline {
    name: String,
    nodes: Vec<AnsweredNode>,
}

#[derive(Debug, Clone, Deserialize)]
struct AnsweredNode {
    name: String,
    function: String,
    file: String,
    line: usize,
    inputs: Vec<String>,
    outputs: Vec<String>,
    arguments: Json,
    results: Json,
    tags: Vec<String>,
    namespace: Option<String>,
    code: Json,
}

/// What is to be loaded, and how.
pub(super) struct Request<'a> {
    pub root: PathBuf,
    pub env: Option<&'a str>,
    /// Values of `--params`, as one mapping.
    pub params: Node,
    /// The pipelines that are asked for; all where there are none.
    pub pipelines: &'a [String],
    pub ask: &'a Ask<'a>,
}

/// Loads the project. `None` on errors.
pub(super) fn read(request: Request<'_>, sources: &mut Sources, problems: &mut Diagnostics) -> Option<Project> {
    let Request { root, env, params, pipelines, ask } = request;
    let answer = match ask(&root, env, &params.to_json()) {
        Ok(answer) => answer,
        Err(error) => {
            let (code, text) = match error {
                AskError::Unavailable(text) => ("kedro::unavailable", text),
                AskError::Wrong(text) => ("kedro::project", text),
            };
            let mut lines = text.split("\nhelp: ");
            let message = format!("the Kedro project cannot be loaded: {}", lines.next().unwrap_or_default());
            problems.push(lines.fold(Diagnostic::error(code, message), Diagnostic::help));
            return None;
        }
    };
    let answer: Answer = match serde_json::from_value(answer) {
        Ok(answer) => answer,
        Err(error) => {
            let message = format!("the Kedro project cannot be loaded: {error}");
            problems.push(Diagnostic::error("kedro::project", message));
            return None;
        }
    };
    let folder = root.clone();
    let mut places = Places::new(&folder, sources);
    for folder in &answer.conf {
        places.read(&root.join(folder));
    }
    let catalog = places.tree(&answer.catalog, "catalog");
    let parameters = places.tree(&answer.parameters, "parameters");
    let credentials = secrets(&answer.credentials, places.nowhere);
    let known = answer.credentials.as_object().is_some_and(|map| !map.is_empty()).then_some(&credentials);
    let mut catalog = catalog::decode(catalog, known, problems);
    let (taken, left_out) = combine(&answer.pipelines, pipelines);
    for pipeline in taken.iter().flat_map(|pipeline| &pipeline.nodes) {
        for name in pipeline.inputs.iter().chain(&pipeline.outputs) {
            let parameter = name == "parameters" || name.starts_with("params:");
            if !parameter && catalog.resolve(name).is_none() {
                catalog.entries.insert(name.clone(), in_memory(name, places.nowhere));
            }
        }
    }
    views_of_memory(&mut catalog);
    let specs = taken.iter().map(|pipeline| PipelineSpec {
        name: pipeline.name.clone(),
        description: None,
        nodes: pipeline.nodes.iter().map(|node| places.node(&pipeline.name, node, &answer.python)).collect(),
    });
    let mut specs: Vec<_> = specs.collect();
    specs.sort_by(|one, other| one.name.cmp(&other.name));
    Some(Project {
        root,
        env: answer.env,
        sources: Arc::default(),
        catalog,
        parameters,
        globals: Node::new(Value::Map(Map::default()), places.nowhere),
        credentials,
        pipelines: specs,
        broken: BTreeSet::new(),
        // The project's own code read them.
        secret_variables: BTreeSet::new(),
        kedro: Some(KedroProject { hooks: answer.hooks, left_out }),
    })
}

/// The pipelines that go together: those asked for (or the default one) first, then all others that do not contradict them, as
/// pipelines for training and for use that write the same dataset do. Also the names of those that were left out.
fn combine(all: &[AnsweredPipeline], asked: &[String]) -> (Vec<AnsweredPipeline>, Vec<String>) {
    let wanted = |pipeline: &AnsweredPipeline| match asked {
        [] => pipeline.name == DEFAULT,
        asked => asked.contains(&pipeline.name),
    };
    let (first, mut rest): (Vec<_>, Vec<_>) = all.iter().partition(|pipeline| wanted(pipeline));
    if !asked.is_empty() && asked.iter().all(|name| all.iter().any(|pipeline| pipeline.name == *name)) {
        // Nothing else is meant.
        rest.clear();
    }
    let mut nodes: HashMap<&str, &AnsweredNode> = HashMap::new();
    let mut writers: HashMap<&str, &str> = HashMap::new();
    let (mut taken, mut left_out) = (Vec::new(), Vec::new());
    for (at, pipeline) in first.iter().chain(&rest).enumerate() {
        let contradicts = pipeline.nodes.iter().any(|node| {
            let other = nodes.get(node.name.as_str());
            let another = |other: &&AnsweredNode| other.inputs != node.inputs || other.outputs != node.outputs;
            let written = |name: &String| writers.get(base_name(name)).is_some_and(|writer| *writer != node.name);
            other.is_some_and(another) || node.outputs.iter().any(written)
        });
        if contradicts && at >= first.len() {
            left_out.push(pipeline.name.clone());
            continue;
        }
        for node in &pipeline.nodes {
            nodes.entry(&node.name).or_insert(node);
            writers.extend(node.outputs.iter().map(|name| (base_name(name), node.name.as_str())));
        }
        taken.push(AnsweredPipeline { name: pipeline.name.clone(), nodes: pipeline.nodes.clone() });
    }
    // A default pipeline that is all others together needs no name of its own.
    let names = |of: &dyn Fn(&AnsweredPipeline) -> bool| -> BTreeSet<String> {
        taken.iter().filter(|pipeline| of(pipeline)).flat_map(|p| &p.nodes).map(|node| node.name.clone()).collect()
    };
    let others = names(&|pipeline| pipeline.name != DEFAULT);
    if !others.is_empty() && others == names(&|pipeline| pipeline.name == DEFAULT) {
        taken.retain(|pipeline| pipeline.name != DEFAULT);
    }
    taken.retain(|pipeline| !pipeline.nodes.is_empty());
    (taken, left_out)
}

fn in_memory(name: &str, span: Span) -> DatasetSpec {
    let kind = "MemoryDataset";
    let mut map = Map::default();
    let node = Node::new(Value::Text(kind.to_owned()), span);
    map.entries.insert("type".to_owned(), Entry { key_span: span, node });
    let options = Node::new(Value::Map(map), span);
    let kind = Spanned { value: kind.to_owned(), span };
    DatasetSpec { name: name.to_owned(), name_span: span, kind, options }
}

/// Removes a dataset in memory whose base has views in the catalog: Kedro has no such dataset, so it is a name that is wrong.
fn views_of_memory(catalog: &mut CatalogSpec) {
    let bases: BTreeSet<String> = catalog
        .entries
        .values()
        .filter(|spec| spec.name.contains('@') && spec.kind.value != "MemoryDataset")
        .map(|spec| base_name(&spec.name).to_owned())
        .collect();
    catalog.entries.retain(|name, spec| {
        name.contains('@') || spec.kind.value != "MemoryDataset" || !bases.contains(name.as_str())
    });
}

/// A value whose every leaf is a secret.
fn secrets(value: &Json, span: Span) -> Node {
    let value = match value {
        Json::Object(map) => Value::Map(Map {
            entries: map
                .iter()
                .map(|(key, value)| (key.clone(), Entry { key_span: span, node: secrets(value, span) }))
                .collect(),
        }),
        Json::Array(list) => Value::List(list.iter().map(|item| secrets(item, span)).collect()),
        Json::String(text) => Value::Secret(Secret::new(text.clone())),
        other => plain(other),
    };
    Node::new(value, span)
}

fn plain(value: &Json) -> Value {
    match value {
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number
            .as_i64()
            .map_or_else(|| number.as_f64().map_or_else(|| Value::Text(number.to_string()), Value::Float), Value::Int),
        Json::String(text) => Value::Text(text.clone()),
        _ => Value::Null,
    }
}

/// True for a key whose value is a secret: by its name, or since it is a mapping of secrets.
fn is_secret(key: &str, value: &Json) -> bool {
    is_secret_name(key) || is_secret_mapping_name(key) && value.is_object()
}

/// A value as the project's own code resolved it. Strings under the names of secrets are secrets.
/// `chosen`: the keys of this mapping are names of columns and the like.
fn resolved(value: &Json, span: Span, secret: bool, chosen: bool) -> Node {
    let value = match value {
        Json::Object(map) => Value::Map(Map {
            entries: map
                .iter()
                .map(|(key, value)| {
                    let secret = secret || is_secret(key, value) && !chosen;
                    (key.clone(), Entry { key_span: span, node: resolved(value, span, secret, names_below(key)) })
                })
                .collect(),
        }),
        Json::Array(list) => Value::List(list.iter().map(|item| resolved(item, span, secret, false)).collect()),
        Json::String(text) if secret => Value::Secret(Secret::new(text.clone())),
        other => plain(other),
    };
    Node::new(value, span)
}

/// Where the names of the project are written.
struct Places<'a> {
    root: &'a Path,
    sources: &'a mut Sources,
    /// By kind of file and name.
    known: HashMap<(&'static str, String), Span>,
    python: BTreeMap<String, Option<SourceId>>,
    /// Of what no file was found for.
    nowhere: Span,
}

impl<'a> Places<'a> {
    fn new(root: &'a Path, sources: &'a mut Sources) -> Self {
        let nowhere = Span { source: sources.add("(the Kedro project)", ""), start: 0, end: 0 };
        Self { root, sources, known: HashMap::new(), python: BTreeMap::new(), nowhere }
    }

    fn add(&mut self, path: &Path) -> Option<SourceId> {
        let text = String::from_utf8(read_regular_file(path).ok()?).ok()?;
        let name = path.strip_prefix(self.root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        Some(self.sources.add(name, text))
    }

    /// Notes the keys of all files of a folder of the configuration; those of a later folder replace them.
    fn read(&mut self, folder: &Path) {
        for (kind, path) in kedro_files(folder) {
            let Some(source) = self.add(&path) else { continue };
            let text = self.sources.get(source).text.clone();
            let mut start = 0;
            for line in text.split_inclusive('\n') {
                let key = line.split(':').next().unwrap_or_default();
                if line.len() > key.len() && !key.starts_with([' ', '#', '-', '\t', '}']) {
                    let name = key.trim_end().trim_matches(['"', '\'']).to_owned();
                    let span = Span { source, start, end: start + key.trim_end().len() };
                    self.known.insert((kind, name), span);
                }
                start += line.len();
            }
        }
    }

    /// A mapping of names; the values of each have the place of the name.
    fn tree(&self, value: &Json, kind: &'static str) -> Node {
        let mut map = Map::default();
        for (name, value) in value.as_object().into_iter().flatten() {
            let span = self.known.get(&(kind, name.clone())).copied().unwrap_or(self.nowhere);
            let secret = kind != "catalog" && is_secret(name, value);
            let node = resolved(value, span, secret, names_below(name));
            map.entries.insert(name.clone(), Entry { key_span: span, node });
        }
        Node::new(Value::Map(map), self.nowhere)
    }

    /// The line of a file that is written in Python.
    fn line(&mut self, file: &str, line: usize) -> Span {
        let source = match self.python.get(file) {
            Some(source) => *source,
            None => {
                let path = self.root.join(file);
                let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
                let found = if SUFFIXES.contains(&suffix) { None } else { self.add(&path) };
                self.python.insert(file.to_owned(), found);
                found
            }
        };
        let Some(source) = source else { return self.nowhere };
        let text = &self.sources.get(source).text;
        let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let length = text[start..].lines().next().unwrap_or_default().len();
        Span { source, start, end: start + length }
    }

    fn node(&mut self, pipeline: &str, node: &AnsweredNode, python: &str) -> NodeSpec {
        let span = self.line(&node.file, node.line);
        let spanned = |value: &str| Spanned { value: value.to_owned(), span };
        let bindings = |names: &[String]| Bindings {
            list: names.iter().map(|name| Binding { port: None, dataset: spanned(name) }).collect(),
            incomplete: false,
        };
        let definition = serde_json::json!({
            "pipeline": pipeline, "function": node.function, "python": python, "code": node.code, "file": node.file,
            "line": node.line, "arguments": node.arguments, "results": node.results,
        });
        let options = IndexMap::from([("kedro".to_owned(), resolved(&definition, span, false, false))]);
        NodeSpec {
            name: spanned(&node.name),
            pipeline: pipeline.to_owned(),
            function: spanned(&format!("{KEDRO_FUNCTION}{}", node.name)),
            inputs: bindings(&node.inputs),
            outputs: bindings(&node.outputs),
            tags: node.tags.clone(),
            after: Vec::new(),
            // Kedro's own catalog moves the checkpoint.
            confirms: Vec::new(),
            namespace: node.namespace.clone(),
            resources: None,
            options,
            span,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(name: &str, nodes: &[(&str, &str, &str)]) -> AnsweredPipeline {
        let node = |(name, input, output): &(&str, &str, &str)| AnsweredNode {
            name: (*name).to_owned(),
            function: "f".to_owned(),
            file: "f.py".to_owned(),
            line: 1,
            inputs: vec![(*input).to_owned()],
            outputs: vec![(*output).to_owned()],
            arguments: Json::Null,
            results: Json::Null,
            tags: Vec::new(),
            namespace: None,
            code: Json::Null,
        };
        AnsweredPipeline { name: name.to_owned(), nodes: nodes.iter().map(node).collect() }
    }

    fn combined(all: &[AnsweredPipeline], asked: &[&str]) -> (Vec<String>, Vec<String>) {
        let asked: Vec<String> = asked.iter().map(|name| (*name).to_owned()).collect();
        let (taken, left_out) = combine(all, &asked);
        (taken.into_iter().map(|pipeline| pipeline.name).collect(), left_out)
    }

    #[test]
    fn pipelines_that_write_the_same_dataset_are_taken_apart_and_the_one_that_is_asked_for_wins() {
        let all = [
            pipeline("__default__", &[("clean", "raw", "rows"), ("train", "rows", "model")]),
            pipeline("clean", &[("clean", "raw", "rows")]),
            pipeline("train", &[("train", "rows", "model")]),
            pipeline("load", &[("fetch", "url", "model")]),
        ];
        assert_eq!(combined(&all, &[]), (vec!["clean".into(), "train".into()], vec!["load".into()]));
        let (taken, left_out) = combined(&all, &["load"]);
        assert_eq!((taken, left_out), (vec!["load".to_owned()], Vec::new()));
    }

    #[test]
    fn a_default_pipeline_that_is_not_all_of_them_keeps_its_name() {
        let all = [
            pipeline("__default__", &[("clean", "raw", "rows")]),
            pipeline("clean", &[("clean", "raw", "rows")]),
            pipeline("report", &[("report", "rows", "page")]),
        ];
        assert_eq!(combined(&all, &[]).0, ["__default__", "clean", "report"]);
    }

    #[test]
    fn values_under_the_names_of_secrets_are_secrets() {
        let span = Span { source: SourceId(0), start: 0, end: 0 };
        let node = resolved(&serde_json::json!({"api": {"api_key": "k", "url": "u"}, "n": 1.5}), span, false, false);
        assert_eq!(node.to_json(), serde_json::json!({"api": {"api_key": "***", "url": "u"}, "n": 1.5}));
        let request = serde_json::json!({"headers": {"X-Tenant": "h9"}, "columns": {"headers": {"path": "$.h"}}});
        let shown = serde_json::json!({"headers": {"X-Tenant": "***"}, "columns": {"headers": {"path": "$.h"}}});
        assert_eq!(resolved(&request, span, false, false).to_json(), shown);
    }
}
