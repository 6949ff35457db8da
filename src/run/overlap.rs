//! Reports datasets with equal or nested locations of which at least one is written.
//!
//! Reads the configuration, not the datasets built from it, so that an invalid option elsewhere in a catalog entry does
//! not hide an overlap.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use crate::{
    config::Project,
    data::{Address, Claim, Glob, Location, SIBLING_SUFFIXES, overlaps},
    diagnostic::{Diagnostic, Diagnostics, Severity, Span},
    model::DatasetRef,
};

/// A dataset of the catalog with a location.
struct Located {
    name: DatasetRef,
    /// The location as configured, without credentials.
    shown: String,
    /// The source location of the path.
    span: Span,
    address: Address,
    /// The pattern of its files, where its path has a `*`.
    glob: Option<Glob>,
    /// The name of the node that writes any of its views.
    writer: Option<String>,
    /// True when a node reads or writes it.
    used: bool,
}

/// Reports overlapping locations. `resolve` returns the real path of a local path.
pub(super) fn check(project: &Project, resolve: &dyn Fn(&Path) -> PathBuf, problems: &mut Diagnostics) {
    let located = located(project, resolve);
    let mut owners: HashMap<&str, usize> = HashMap::new();
    let claims: Vec<Claim> = located
        .iter()
        .map(|dataset| {
            let next = owners.len();
            let owner = *owners.entry(dataset.name.base()).or_insert(next);
            Claim { address: dataset.address.clone(), owner, written: dataset.writer.is_some() }
        })
        .collect();
    let pairs = overlaps(&claims);
    problems.extend(pairs.into_iter().map(|(inner, outer)| overlap(&located[inner], &located[outer])));
    check_globs(&located, problems);
    check_siblings(&located, &project.root, resolve, problems);
    check_project_files(&located, project, resolve, problems);
}

fn located(project: &Project, resolve: &dyn Fn(&Path) -> PathBuf) -> Vec<Located> {
    let mut writers: HashMap<String, &str> = HashMap::new();
    let mut names: BTreeSet<&str> = project.catalog.entries.keys().map(String::as_str).collect();
    let mut used: BTreeSet<String> = BTreeSet::new();
    let base = |name: &str| name.parse::<DatasetRef>().ok().map(|name| name.base().to_owned());
    for node in project.pipelines.iter().flat_map(|pipeline| &pipeline.nodes) {
        for binding in node.inputs.list.iter().chain(&node.outputs.list) {
            names.insert(&binding.dataset.value);
            used.extend(base(&binding.dataset.value));
        }
        for binding in &node.outputs.list {
            writers.extend(base(&binding.dataset.value).map(|base| (base, node.name.value.as_str())));
        }
    }
    let one = |name: &str| {
        let resolved = project.catalog.resolve(name)?;
        let options = &resolved.spec.options;
        let path = options.get("path").or_else(|| options.get("filepath"))?;
        let credentials = options.get("credentials").filter(|node| node.as_map().is_some());
        let location = Location::parse(path.as_text()?, credentials).ok()?;
        let name: DatasetRef = name.parse().ok()?;
        Some(Located {
            shown: location.shown().to_owned(),
            span: path.span,
            address: Address::of(&location, &project.root, resolve),
            glob: location.glob().cloned(),
            writer: writers.get(name.base()).map(|&node| node.to_owned()),
            used: used.contains(name.base()),
            name,
        })
    };
    names.into_iter().filter_map(one).collect()
}

fn overlap(inner: &Located, outer: &Located) -> Diagnostic {
    let (one, other) = (&inner.name, &outer.name);
    let written = match (&inner.writer, &outer.writer) {
        (Some(node), _) => format!("node `{node}` writes `{one}`"),
        (None, Some(node)) => format!("node `{node}` writes `{other}`"),
        (None, None) => unreachable!("overlaps are reported only if one of the two is written"),
    };
    let message = if inner.address == outer.address {
        format!("`{one}` and `{other}` have the same location, and {written}")
    } else {
        format!("`{one}` is inside `{other}`, and {written}")
    };
    let mut problem = Diagnostic::error("catalog::overlapping-locations", message)
        .at(inner.span, format!("`{one}`: {}", inner.shown))
        .at(outer.span, format!("`{other}`: {}", outer.shown))
        .help(
            "give each a location of its own; if both are the same data, make them views of one dataset (`name@view`)",
        );
    // A dataset that no node reads or writes does not affect a run.
    if !(inner.used && outer.used) {
        problem.severity = Severity::Warning;
    }
    problem
}

/// Reports patterns that match what a node writes to another dataset.
fn check_globs(located: &[Located], problems: &mut Diagnostics) {
    for dataset in located {
        let Some(glob) = &dataset.glob else { continue };
        let Some(folder) = dataset.address.ancestors().nth(glob.names().len()) else { continue };
        for written in located.iter().filter(|other| other.writer.is_some() && folder.holds(&other.address)) {
            let below = &written.address.names()[folder.names().len()..];
            if written.name.base() != dataset.name.base() && glob.reaches(below) {
                problems.push(overlap(written, dataset));
            }
        }
    }
}

/// Reports datasets in locations that `flow` reserves: next to each written dataset, and in `.flow`.
fn check_siblings(located: &[Located], root: &Path, resolve: &dyn Fn(&Path) -> PathBuf, problems: &mut Diagnostics) {
    let mut reserved: HashMap<Address, String> = HashMap::new();
    let state_dir = root.join(".flow");
    reserved.insert(Address::local(&resolve(&state_dir)), "its ledgers and caches".to_owned());
    for dataset in located.iter().filter(|dataset| dataset.writer.is_some()) {
        for suffix in SIBLING_SUFFIXES {
            let sibling = dataset.address.sibling(|name| format!(".{name}{suffix}"));
            reserved.extend(sibling.map(|sibling| (sibling, format!("internal files of `{}`", dataset.name))));
        }
    }
    for dataset in located {
        if !dataset.address.names().iter().any(|name| name.starts_with('.') && name.contains(".flow")) {
            continue;
        }
        let Some(what) = dataset.address.ancestors().find_map(|address| reserved.get(&address)) else { continue };
        let message = format!("`{}` is at a location that flow reserves for {what}", dataset.name);
        problems.push(
            Diagnostic::error("catalog::overlapping-locations", message)
                .at(dataset.span, dataset.shown.clone())
                .help("give it another name or folder"),
        );
    }
}

/// Reports written datasets whose location is or contains a file of the project.
fn check_project_files(
    located: &[Located],
    project: &Project,
    resolve: &dyn Fn(&Path) -> PathBuf,
    problems: &mut Diagnostics,
) {
    let mut files: BTreeMap<Address, &str> = BTreeMap::new();
    for source in project.sources.iter() {
        let path = project.root.join(&*source.name);
        // Skip sources that are not files (`--params`).
        if source.name.contains('.') {
            for address in Address::local(&resolve(&path)).ancestors() {
                files.entry(address).or_insert(&source.name);
            }
        }
    }
    for dataset in located {
        let (Some(node), Some(file)) = (&dataset.writer, files.get(&dataset.address)) else { continue };
        let message = format!("node `{node}` writes `{}` over the project's own files: `{file}`", dataset.name);
        problems.push(
            Diagnostic::error("catalog::overlapping-locations", message)
                .at(dataset.span, dataset.shown.clone())
                .help("give it a folder of its own, such as `data/`"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{LoadOptions, load},
        data::normalized,
    };

    /// The problems of a project with one pipeline: severities and messages.
    fn problems(catalog: &str, nodes: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, text).expect("written");
        };
        write("catalog.yml", catalog);
        write("pipelines/p.yml", &format!("nodes:\n{nodes}"));
        let environment = |_: &str| None;
        let options = LoadOptions {
            project: Some(folder.path()),
            env: None,
            params: &[],
            environment: &environment,
            ask: None,
            pipelines: &[],
        };
        let mut problems = Diagnostics::default();
        let project = load(&options, &mut problems).1.expect("a project");
        assert!(!problems.has_errors(), "{problems:?}");
        let mut found = Diagnostics::default();
        check(&project, &normalized, &mut found);
        found.as_slice().iter().map(|problem| format!("{:?}: {}", problem.severity, problem.message)).collect()
    }

    fn node(name: &str, input: &str, output: &str) -> String {
        format!("  - {{name: {name}, function: f, inputs: [{input}], outputs: [{output}]}}\n")
    }

    #[test]
    fn equal_and_nested_locations_are_reported_if_one_is_written() {
        let one = node("n", "a", "b");
        for (catalog, wanted) in [
            ("a: {type: csv, path: d/a.csv}\nb: {type: csv, path: d/b.csv}\n", None),
            (
                "a: {type: csv, path: d/x.csv}\nb: {type: csv, path: ./d//x.csv}\n",
                Some("Error: `b` and `a` have the same location, and node `n` writes `b`"),
            ),
            (
                "a: {type: csv, path: d/in/x.csv}\nb: {type: parquet, path: d}\n",
                Some("Error: `a` is inside `b`, and node `n` writes `b`"),
            ),
            (
                "a: {type: csv, path: d}\nb: {type: csv, path: d/x.csv}\n",
                Some("Error: `b` is inside `a`, and node `n` writes `b`"),
            ),
            (
                "a: {type: csv, path: s3a://k/x}\n\"{any}\": {type: csv, path: 's3://k/x/'}\n",
                Some("Error: `b` and `a` have the same location, and node `n` writes `b`"),
            ),
            (
                "a: {type: pickle.PickleDataset, filepath: d/x}\nb: {type: csv, path: d/x}\n",
                Some("Error: `b` and `a` have the same location, and node `n` writes `b`"),
            ),
            ("a: {type: csv, path: d/*.csv}\nb: {type: csv, path: d/b.parquet}\n", None),
            (
                "a: {type: csv, path: d/*.csv}\nb: {type: csv, path: d/b.csv}\n",
                Some("Error: `b` is inside `a`, and node `n` writes `b`"),
            ),
            (
                "a: {type: csv, path: a.csv}\nb: {type: csv, path: d/x}\nc: {type: csv, path: d/x/c}\n",
                Some("Warning: `c` is inside `b`, and node `n` writes `b`"),
            ),
            (
                "a: {type: csv, path: d/.b.flow-staging/x}\nb: {type: csv, path: d/b}\n",
                Some("Error: `a` is at a location that flow reserves for internal files of `b`"),
            ),
            (
                "a: {type: csv, path: a.csv}\nb: {type: csv, path: .flow/b.csv}\n",
                Some("Error: `b` is at a location that flow reserves for its ledgers and caches"),
            ),
            (
                "a: {type: csv, path: a.csv}\nb: {type: yaml, path: pipelines/p.yml}\n",
                Some("Error: node `n` writes `b` over the project's own files: `pipelines/p.yml`"),
            ),
            (
                "a: {type: csv, path: ../a.csv}\nb: {type: parquet, path: .}\n",
                Some("Error: node `n` writes `b` over the project's own files: `catalog.yml`"),
            ),
        ] {
            let found = problems(catalog, &one);
            assert_eq!(found, wanted.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{catalog}");
        }
    }

    #[test]
    fn views_of_one_dataset_and_unwritten_datasets_may_share_a_location() {
        let catalog = "a@x: {type: csv, path: d/a}\na@y: {type: csv, path: d/a/}\nb: {type: csv, path: b}\nc: {type: csv, path: d/c}\n\
                       c2: {type: csv, path: d/c}\n";
        let nodes = node("n", "b, c, c2", "a@x") + &node("m", "a@y, c", "");
        assert_eq!(problems(catalog, &nodes), Vec::<String>::new());
    }
}
