//! Loads a project: files are read, merged, interpolated and decoded.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use super::{
    catalog,
    files::{Layout, Reader, environment, find_project, is_run_by_kedro, layout},
    interpolate::{self, Interpolator, Roots},
    kedro::{self, Ask},
    layers::{self, Duplicates},
    params, pipelines,
    referenced::ReferencedParameters,
    spec::Project,
    tree::{Map, Node, Value},
    tree_path::TreeKind,
};
use crate::diagnostic::{Diagnostic, Diagnostics, Sources, Span};

/// What to load, and from where.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Where the search for the project starts, upward; the current folder when `None`.
    pub project: Option<&'a Path>,
    /// The environment; `local` when `None` and there is one.
    pub env: Option<&'a str>,
    /// `--params`, each string with one or more `key=value`.
    pub params: &'a [String],
    /// Reads an environment variable.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Asks a Kedro project what it is; without it, only its files are read.
    pub ask: Option<&'a Ask<'a>>,
    /// The pipelines that are asked for: of a Kedro project some may contradict others.
    pub pipelines: &'a [String],
}

/// Loads a project. All problems go to `problems`. A project with errors is returned without what was wrong
/// ([`Project::broken`]), so that later checks find the rest; it is `None` only when no project was found. The sources are
/// returned in any case, for rendering problems.
pub fn load(options: &LoadOptions<'_>, problems: &mut Diagnostics) -> (Arc<Sources>, Option<Project>) {
    let mut sources = Sources::default();
    let project = read(options, &mut sources, problems);
    let sources = Arc::new(sources);
    let project = project.map(|project| Project { sources: sources.clone(), ..project });
    (sources, project)
}

/// The merged trees, before interpolation.
struct Layers {
    catalog: Node,
    parameters: Node,
    globals: Node,
    credentials: Node,
    /// True when there is a file of credentials.
    has_credentials: bool,
    runtime: Node,
    pipelines: Vec<(String, Node)>,
    /// The parameters of the files alone.
    written: Node,
    /// Kinds of which a file could not be read.
    unread: Vec<TreeKind>,
    /// What `--params` sets and no file defines.
    unknown: Vec<params::UnknownParameter>,
}

fn read(options: &LoadOptions<'_>, sources: &mut Sources, problems: &mut Diagnostics) -> Option<Project> {
    let start = options.project.unwrap_or(Path::new("."));
    let Some((root, layout)) = find_project(start).and_then(|root| layout(&root).map(|layout| (root, layout))) else {
        let why = match options.project {
            Some(folder) if !folder.exists() => format!("`{}` does not exist", folder.display()),
            Some(folder) => format!("neither `{}` nor a parent folder has a `catalog.yml`", folder.display()),
            None => "neither this folder nor a parent folder has a `catalog.yml`".to_owned(),
        };
        problems.push(
            Diagnostic::error("config::no-project", format!("no project found: {why}"))
                .help("set the project's folder with `-C DIR`, or create one with `flow new DIR`"),
        );
        return None;
    };
    if let Some(ask) = options.ask.filter(|_| is_run_by_kedro(&root, layout)) {
        let assignments = params::read_params(options.params, sources, problems);
        let nowhere = Span { source: sources.add("(nothing)", ""), start: 0, end: 0 };
        let params = params::as_mapping(&assignments, nowhere);
        let request = kedro::Request { root, env: options.env, params, pipelines: options.pipelines, ask };
        return kedro::read(request, sources, problems);
    }
    let env = environment(&root, options.env, problems);
    let assignments = params::read_params(options.params, sources, problems);
    let mut layers = read_layers(&root, layout, env.as_deref(), &assignments, sources, problems);
    let mut referenced = ReferencedParameters::default();
    let trees = [&layers.catalog, &layers.parameters, &layers.globals, &layers.credentials];
    trees.into_iter().chain(layers.pipelines.iter().map(|(_, node)| node)).for_each(|node| referenced.read(node));
    // Most pipelines have no references, and need no copy.
    let (plain, references): (Vec<_>, Vec<_>) =
        std::mem::take(&mut layers.pipelines).into_iter().partition(|(_, node)| interpolate::is_plain(node));
    let roots = Roots { parameters: &layers.parameters, globals: &layers.globals, runtime: &layers.runtime };
    let mut interpolator = Interpolator::new(roots, sources, options.environment, problems).with_unread(&layers.unread);
    let globals = interpolator.entries(TreeKind::Globals, &layers.globals);
    let credentials = interpolator.entries(TreeKind::Credentials, &layers.credentials);
    let parameters = interpolator.entries(TreeKind::Parameters, &layers.parameters);
    let catalog = interpolator.entries(TreeKind::Catalog, &layers.catalog);
    let mut pipelines: Vec<(String, Node, bool)> = plain.into_iter().map(|(name, node)| (name, node, true)).collect();
    for (name, node) in &references {
        let node = interpolator.entries(TreeKind::Pipeline, node);
        let whole = !node.has_unresolved();
        pipelines.push((name.clone(), node, whole));
    }
    let (requested, secret_variables) = interpolator.into_names();
    referenced.extend_runtime(requested);
    pipelines.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let partial = |kind: TreeKind| layers.unread.contains(&kind);
    let unresolved = Node::new(Value::Unresolved, credentials.span);
    let known_credentials = if partial(TreeKind::Credentials) { &unresolved } else { &credentials };
    // Without any file of credentials, as in a fresh clone, names stay names: who opens such a dataset says so.
    let known_credentials = layers.has_credentials.then_some(known_credentials);
    let catalog = catalog::decode(catalog, known_credentials, problems);
    let keys =
        |node: &Node| node.as_map().map(|map| map.entries.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let read =
        |name: &str| catalog.entries.contains_key(name) || catalog.patterns.iter().any(|pattern| pattern.name == name);
    let entries = keys(&layers.catalog).into_iter().filter(|name| !name.starts_with('_') && !read(name));
    let mut broken: BTreeSet<String> = entries.collect();
    unresolved_paths(&parameters, "params:", &mut broken);
    if partial(TreeKind::Catalog) {
        broken.insert("{any}".to_owned());
    }
    if partial(TreeKind::Parameters) {
        broken.insert("params:".to_owned());
    }
    let pipelines = pipelines::decode(&pipelines, partial(TreeKind::Pipeline), problems);
    pipelines.iter().for_each(|pipeline| referenced.read_pipeline(pipeline));
    // A file that could not be read may define any name.
    if layers.unread.is_empty() {
        referenced.check(&layers.unknown, &layers.written, problems);
    }
    Some(Project {
        root,
        env,
        sources: Arc::default(),
        catalog,
        parameters,
        globals: without_private(globals),
        credentials: without_private(credentials),
        pipelines,
        broken,
        secret_variables,
        kedro: None,
    })
}

/// Reads and merges all files.
fn read_layers(
    root: &Path,
    layout: Layout,
    env: Option<&str>,
    assignments: &[params::Assignment],
    sources: &mut Sources,
    problems: &mut Diagnostics,
) -> Layers {
    let base = match layout {
        Layout::Flat => root.to_owned(),
        Layout::Kedro => root.join("conf/base"),
    };
    let over = env.map(|env| root.join("conf").join(env)).filter(|over| *over != base && over.is_dir());
    let mut reader = Reader { root, layout, sources, problems, kind: TreeKind::Catalog, unread: Vec::new() };
    let empty = reader.empty_mapping();
    let mut both = |kind: &str, forbidden: Duplicates, merge: fn(&mut Node, Node)| {
        let mut whole = reader.kind(&base, kind, forbidden);
        if let Some(layer) = over.as_ref().and_then(|over| reader.kind(over, kind, forbidden)) {
            match &mut whole {
                Some(whole) => merge(whole, layer),
                None => whole = Some(layer),
            }
        }
        whole
    };
    let or_empty = |node: Option<Node>| node.unwrap_or_else(|| empty.clone());
    let catalog = or_empty(both("catalog", Duplicates::Names, layers::replace_names));
    let mut parameters = or_empty(both("parameters", Duplicates::Leaves, layers::merge_deep));
    let globals = or_empty(both("globals", Duplicates::Names, layers::merge_deep));
    let credentials = both("credentials", Duplicates::Names, layers::replace_names);
    let (has_credentials, credentials) = (credentials.is_some(), or_empty(credentials));
    let mut pipelines = reader.pipelines(root);
    for (name, layer) in over.iter().flat_map(|over| reader.pipelines(over)).collect::<Vec<_>>() {
        match pipelines.binary_search_by(|(other, _)| other.cmp(&name)) {
            Ok(at) => pipelines[at].1 = layer,
            Err(at) => pipelines.insert(at, (name, layer)),
        }
    }
    let unread = reader.unread;
    let written = parameters.clone();
    let unknown = params::assign(&mut parameters, assignments, problems);
    let runtime = params::as_mapping(assignments, empty.span);
    Layers { catalog, parameters, globals, credentials, has_credentials, runtime, pipelines, written, unread, unknown }
}

/// The paths of values that could not be resolved.
fn unresolved_paths(node: &Node, path: &str, paths: &mut BTreeSet<String>) {
    for (key, entry) in node.as_map().into_iter().flat_map(Map::iter) {
        let path = if path.ends_with(':') { format!("{path}{key}") } else { format!("{path}.{key}") };
        match &entry.node.value {
            Value::Unresolved => drop(paths.insert(path)),
            _ => unresolved_paths(&entry.node, &path, paths),
        }
    }
}

/// Removes names that begin with `_`, which are private to their file.
fn without_private(mut node: Node) -> Node {
    if let Value::Map(map) = &mut node.value {
        map.entries.retain(|key, _| !key.starts_with('_'));
    }
    node
}

#[cfg(test)]
#[path = "load_tests.rs"]
pub(super) mod tests;
