//! A project as written: the catalog, the parameters and the pipelines, every part with its location.
//!
//! Owns the `…Spec` types. Must not know which dataset types or functions exist.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use indexmap::IndexMap;

use super::{
    resources::Resources,
    tree::{Node, Value},
    tree_path::is_below,
};
use crate::{
    diagnostic::{Sources, Span},
    model::{HEADERS, Secret, connection_secrets, is_open_header, is_secret_name, url_secrets},
};

/// A value and its location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its location.
    pub span: Span,
}

/// Everything that was read, merged and interpolated.
#[derive(Debug, Clone)]
pub struct Project {
    /// The folder that holds `catalog.yml` (or `conf/base`).
    pub root: PathBuf,
    /// The environment whose overlay was merged.
    pub env: Option<String>,
    /// The texts that spans point into.
    pub sources: Arc<Sources>,
    /// The catalog.
    pub catalog: CatalogSpec,
    /// `parameters.yml` and `--params`, merged: a mapping.
    pub parameters: Node,
    /// `globals.yml`: a mapping.
    pub globals: Node,
    /// `credentials.yml`: a mapping; every leaf is a secret.
    pub credentials: Node,
    /// One per file under `pipelines/`, sorted by name, `include:` expanded.
    pub pipelines: Vec<PipelineSpec>,
    /// Names of the catalog and of the parameters (`params:a.b`) that exist but could not be read, which was reported:
    /// a lookup that misses one of them is not reported again. A file that could not be read may hold any name: a
    /// pattern that matches all represents it, and `params:`.
    pub broken: BTreeSet<String>,
    /// Variables of the environment whose values are secrets by the key that they are written under, whatever their own
    /// name: `${oc.env:TEAM}` in `headers`.
    pub secret_variables: BTreeSet<String>,
    /// What is known of a Kedro project that was loaded by its own code.
    pub kedro: Option<KedroProject>,
}

/// A Kedro project that is run as it is.
#[derive(Debug, Clone, Default)]
pub struct KedroProject {
    /// Its hooks, which are not run.
    pub hooks: Vec<String>,
    /// Pipelines that contradict the ones that were loaded.
    pub left_out: Vec<String>,
}

impl Project {
    /// Every secret of the files and of `--params`, for masking messages, with those in URLs. Of the credentials, where
    /// every leaf counts as one, those that are secret by their name: a host name is not one.
    pub fn secrets(&self) -> Vec<Secret> {
        let mut secrets = Vec::new();
        let entries = self.catalog.entries.values().chain(&self.catalog.patterns);
        entries.for_each(|spec| collect_secrets(&spec.options, false, &mut secrets));
        collect_secrets(&self.parameters, true, &mut secrets);
        collect_secrets(&self.globals, true, &mut secrets);
        collect_secrets(&self.credentials, false, &mut secrets);
        secrets
    }

    /// True when the parameter at a path was written but could not be read.
    pub fn is_broken_parameter(&self, path: &str) -> bool {
        // `params:` alone is for a file that could not be read.
        let under = |name: &str| name.is_empty() || is_below(path, name);
        self.broken.iter().filter_map(|name| name.strip_prefix("params:")).any(under)
    }
}

fn secrets_within(text: &str) -> Vec<Secret> {
    [url_secrets(text), connection_secrets(text)].concat()
}

fn collect_secrets(node: &Node, all: bool, secrets: &mut Vec<Secret>) {
    match &node.value {
        Value::Secret(secret) if all => secrets.push(secret.clone()),
        Value::Secret(secret) => secrets.extend(secrets_within(secret.expose())),
        Value::Text(text) => secrets.extend(secrets_within(text)),
        Value::List(list) => list.iter().for_each(|item| collect_secrets(item, all, secrets)),
        Value::Map(map) => map.iter().for_each(|(key, entry)| match entry.node.as_map() {
            Some(headers) if key == HEADERS => headers.iter().for_each(|(name, header)| {
                collect_secrets(&header.node, !is_open_header(name), secrets);
            }),
            _ => collect_secrets(&entry.node, all || is_secret_name(key) || key == "key", secrets),
        }),
        _ => {}
    }
}

/// The catalog: named entries, and patterns that make entries from names.
#[derive(Debug, Clone, Default)]
pub struct CatalogSpec {
    /// Explicit entries by full name (`base@view`).
    pub entries: IndexMap<String, DatasetSpec>,
    /// Patterns, in the order in which they are tried (Kedro's ranking).
    pub patterns: Vec<DatasetSpec>,
}

/// One entry as written, after interpolation and with credentials filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetSpec {
    /// The full name; for a pattern, the pattern.
    pub name: String,
    /// The location of the name.
    pub name_span: Span,
    /// `type:` as written.
    pub kind: Spanned<String>,
    /// The whole entry (a mapping), `type` included.
    pub options: Node,
}

/// The entry for a name.
#[derive(Debug, Clone)]
pub struct ResolvedDataset {
    /// The entry, placeholders replaced.
    pub spec: DatasetSpec,
    /// The pattern it came from; `None` for an explicit entry.
    pub pattern: Option<String>,
}

/// One file under `pipelines/`.
#[derive(Debug, Clone)]
pub struct PipelineSpec {
    /// The file's name without `.yml`; nested folders give `folder.name`.
    pub name: String,
    /// `description:`.
    pub description: Option<String>,
    /// The nodes, included ones too, in the order written.
    pub nodes: Vec<NodeSpec>,
}

/// One use of a function.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// The name, with its namespace in front.
    pub name: Spanned<String>,
    /// The pipeline that holds it.
    pub pipeline: String,
    /// `function:`; empty when it was left out, which was reported.
    pub function: Spanned<String>,
    /// `inputs:`.
    pub inputs: Bindings,
    /// `outputs:`.
    pub outputs: Bindings,
    /// `tags:`.
    pub tags: Vec<String>,
    /// `after:`, names with the namespace in front where that names a node.
    pub after: Vec<Spanned<String>>,
    /// `confirms:`, datasets with the namespace in front.
    pub confirms: Vec<Spanned<String>>,
    /// `namespace:`, outer ones in front.
    pub namespace: Option<String>,
    /// `resources:`.
    pub resources: Option<Resources>,
    /// Keys that only some functions take, as `workers:`.
    pub options: IndexMap<String, Node>,
    /// The location of the node.
    pub span: Span,
}

/// Which dataset fills which port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bindings {
    /// In the order written.
    pub list: Vec<Binding>,
    /// True when something else was given that could not be read, which was reported.
    pub incomplete: bool,
}

/// One dataset at one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The port by name, or `None` where a list or a single name fills ports in order.
    pub port: Option<Spanned<String>>,
    /// The dataset or parameter as written (`base@view`, `params:a.b`), namespace applied.
    pub dataset: Spanned<String>,
}
