//! Kedro-Viz: the files that `kedro viz run --load-file DIR` reads, which are the responses of its API.
//!
//! Names of files are what Kedro-Viz accepts as parts of an address: letters, digits, `-` and `_` in the middle.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::view::{EdgeKind, EdgeView, GraphView};
use crate::model::Fingerprint;

/// The id of what holds everything.
const ROOT: &str = "__root__";
/// The id of all pipelines together.
const ALL: &str = "all";

/// The files, by their path below the folder. `all` is the view of all pipelines, `pipelines` has one for each of them by its name;
/// `parameter` is the value of a parameter, by its name.
pub fn kedro_viz(
    all: &GraphView,
    pipelines: &[(String, GraphView)],
    parameter: &dyn Fn(&str) -> Json,
) -> BTreeMap<String, Json> {
    let mut listed = vec![json!({"id": ALL, "name": "all pipelines"})];
    listed.extend(pipelines.iter().map(|(name, _)| json!({"id": pipeline_id(name), "name": name})));
    let mut files = BTreeMap::new();
    let main = graph(all, ALL, &listed, parameter);
    files.insert(format!("api/pipelines/{ALL}"), main.clone());
    files.insert("api/main".to_owned(), main);
    for (name, view) in pipelines {
        let id = pipeline_id(name);
        files.insert(format!("api/pipelines/{id}"), graph(view, &id, &listed, parameter));
    }
    for (id, metadata) in metadata(all, parameter) {
        files.insert(format!("api/nodes/{id}"), metadata);
    }
    files.insert("api/run-status".to_owned(), json!({"nodes": {}, "datasets": {}, "pipeline": {}}));
    let version = env!("CARGO_PKG_VERSION");
    files.insert("api/version".to_owned(), json!({"installed": version, "is_outdated": false, "latest": version}));
    files
}

/// The id of a node, dataset or parameter.
fn id(of: &str) -> String {
    Fingerprint::of(of).to_string().chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}

fn pipeline_id(name: &str) -> String {
    let inner = name.trim_matches(['_', '.', '-']);
    let plain = inner.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if plain && inner == name && !name.is_empty() && name != ALL {
        name.to_owned()
    } else {
        id(&format!("pipeline:{name}"))
    }
}

/// `a.b`: `a` and `a.b`.
fn enclosing(namespace: &str) -> Vec<String> {
    let dots = namespace.match_indices('.').map(|(dot, _)| namespace[..dot].to_owned());
    dots.chain([namespace.to_owned()]).collect()
}

/// Which namespaces each thing of a view is in, and what goes into and out of them.
struct Namespaces {
    /// By the id of a node, dataset or parameter, the outermost first.
    of: BTreeMap<String, Vec<String>>,
    inputs: BTreeMap<String, BTreeSet<String>>,
    outputs: BTreeMap<String, BTreeSet<String>>,
}

impl Namespaces {
    fn new(view: &GraphView) -> Self {
        let mut this = Self { of: BTreeMap::new(), inputs: BTreeMap::new(), outputs: BTreeMap::new() };
        for node in &view.nodes {
            this.of.insert(node.id.clone(), node.namespace.as_deref().map(enclosing).unwrap_or_default());
        }
        let mut written: BTreeMap<&str, &str> = BTreeMap::new();
        let mut read: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for EdgeView { from, to, kind, .. } in &view.edges {
            match kind {
                EdgeKind::Input | EdgeKind::Parameter => read.entry(from).or_default().push(to),
                EdgeKind::Output => drop(written.insert(to, from)),
                EdgeKind::After => {}
            }
        }
        let things = view.datasets.iter().map(|one| &one.id).chain(view.parameters.iter().map(|one| &one.id));
        for thing in things {
            let is_in = |node: &&str, namespace: &String| this.of.get(*node).is_some_and(|all| all.contains(namespace));
            let (writer, readers) =
                (written.get(thing.as_str()), read.get(thing.as_str()).cloned().unwrap_or_default());
            let mut inside = Vec::new();
            for namespace in view.namespaces.iter().flat_map(|one| enclosing(one)).collect::<BTreeSet<_>>() {
                let is_written = writer.is_some_and(|node| is_in(node, &namespace));
                let is_read = readers.iter().any(|node| is_in(node, &namespace));
                let only_inside = !readers.is_empty() && readers.iter().all(|node| is_in(node, &namespace));
                match (is_written, is_read) {
                    (true, _) if only_inside => inside.push(namespace),
                    (true, _) => drop(this.outputs.entry(namespace).or_default().insert(thing.clone())),
                    (false, true) => drop(this.inputs.entry(namespace).or_default().insert(thing.clone())),
                    (false, false) => {}
                }
            }
            this.of.insert(thing.clone(), inside);
        }
        this
    }

    fn of(&self, thing: &str) -> &[String] {
        self.of.get(thing).map_or(&[], Vec::as_slice)
    }
}

fn graph(view: &GraphView, selected: &str, listed: &[Json], parameter: &dyn Fn(&str) -> Json) -> Json {
    let namespaces = Namespaces::new(view);
    let pipelines =
        |names: &[String]| names.iter().map(|name| pipeline_id(name)).chain([ALL.to_owned()]).collect::<Vec<_>>();
    let used_in = |thing: &str| {
        let of = |edge: &&EdgeView| edge.from == thing || edge.to == thing;
        let nodes = view.edges.iter().filter(of).map(|edge| if edge.from == thing { &edge.to } else { &edge.from });
        let nodes: BTreeSet<&String> = nodes.collect();
        let used = view.nodes.iter().filter(|node| nodes.contains(&node.id));
        let (mut names, mut tags) = (BTreeSet::new(), BTreeSet::new());
        for node in used {
            names.extend(node.pipelines.iter().cloned());
            tags.extend(node.tags.iter().cloned());
        }
        (pipelines(&names.into_iter().collect::<Vec<_>>()), tags)
    };
    let mut nodes = Vec::new();
    for node in &view.nodes {
        let values: BTreeMap<&str, Json> = node.parameters().map(|name| (name, parameter(name))).collect();
        nodes.push(json!({
            "id": id(&node.id), "name": node.name, "full_name": node.name, "type": "task", "tags": node.tags,
            "pipelines": pipelines(&node.pipelines), "modular_pipelines": namespaces.of(&node.id),
            "parameters": values, "node_extras": null,
        }));
    }
    for dataset in &view.datasets {
        let (pipelines, tags) = used_in(&dataset.id);
        nodes.push(json!({
            "id": id(&dataset.id), "name": dataset.name, "type": "data", "tags": tags, "pipelines": pipelines,
            "modular_pipelines": namespaces.of(&dataset.id), "layer": dataset.layer, "dataset_type": dataset.kind,
            "node_extras": null,
        }));
    }
    for one in &view.parameters {
        let (pipelines, tags) = used_in(&one.id);
        nodes.push(json!({
            "id": id(&one.id), "name": one.name, "type": "parameters", "tags": tags, "pipelines": pipelines,
            "modular_pipelines": namespaces.of(&one.id), "layer": null, "dataset_type": null, "node_extras": null,
        }));
    }
    let mut edges: BTreeSet<(String, String)> = BTreeSet::new();
    for edge in view.edges.iter().filter(|edge| edge.kind != EdgeKind::After) {
        edges.insert((id(&edge.from), id(&edge.to)));
    }
    let mut tree = serde_json::Map::new();
    let all: BTreeSet<String> = view.namespaces.iter().flat_map(|one| enclosing(one)).collect();
    for namespace in &all {
        let (inputs, outputs) = (namespaces.inputs.get(namespace), namespaces.outputs.get(namespace));
        let ids =
            |things: Option<&BTreeSet<String>>| things.into_iter().flatten().map(|thing| id(thing)).collect::<Vec<_>>();
        let (inputs, outputs) = (ids(inputs), ids(outputs));
        edges.extend(inputs.iter().map(|from| (from.clone(), namespace.clone())));
        edges.extend(outputs.iter().map(|to| (namespace.clone(), to.clone())));
        let inside = view.nodes.iter().filter(|node| namespaces.of(&node.id).contains(namespace));
        let (mut names, mut tags) = (BTreeSet::new(), BTreeSet::new());
        for node in inside {
            names.extend(node.pipelines.iter().cloned());
            tags.extend(node.tags.iter().cloned());
        }
        let (_, last) = namespace.rsplit_once('.').unwrap_or(("", namespace));
        let around = enclosing(namespace);
        nodes.push(json!({
            "id": namespace, "name": last, "type": "modularPipeline", "tags": tags,
            "pipelines": pipelines(&names.into_iter().collect::<Vec<_>>()),
            "modular_pipelines": around[..around.len() - 1], "layer": null, "dataset_type": null, "node_extras": null,
        }));
        tree.insert(
            namespace.clone(),
            json!({
                "id": namespace, "name": last, "inputs": inputs, "outputs": outputs,
                "children": children(view, &namespaces, &all, Some(namespace)),
            }),
        );
    }
    let children = children(view, &namespaces, &all, None);
    tree.insert(ROOT.to_owned(), json!({"id": ROOT, "name": ROOT, "inputs": [], "outputs": [], "children": children}));
    let edges: Vec<Json> = edges.iter().map(|(source, target)| json!({"source": source, "target": target})).collect();
    let tags: Vec<Json> = view.tags.iter().map(|tag| json!({"id": tag, "name": tag})).collect();
    json!({
        "nodes": nodes, "edges": edges, "layers": view.layers, "tags": tags, "pipelines": listed,
        "modular_pipelines": tree, "selected_pipeline": selected,
    })
}

/// What is directly in a namespace; in none for `None`.
fn children(view: &GraphView, namespaces: &Namespaces, all: &BTreeSet<String>, of: Option<&String>) -> Vec<Json> {
    let directly = |thing: &str| namespaces.of(thing).iter().max_by_key(|one| one.len()) == of;
    let kinds = (view.nodes.iter().map(|one| (&one.id, "task")))
        .chain(view.datasets.iter().map(|one| (&one.id, "data")))
        .chain(view.parameters.iter().map(|one| (&one.id, "parameters")));
    let own = kinds.filter(|(thing, _)| directly(thing)).map(|(thing, kind)| json!({"id": id(thing), "type": kind}));
    let below = all.iter().filter(|one| one.rsplit_once('.').map(|(outer, _)| outer) == of.map(String::as_str));
    own.chain(below.map(|one| json!({"id": one, "type": "modularPipeline"}))).collect()
}

/// What Kedro-Viz shows of one box.
fn metadata(view: &GraphView, parameter: &dyn Fn(&str) -> Json) -> Vec<(String, Json)> {
    let mut all = Vec::new();
    for node in &view.nodes {
        let values: BTreeMap<&str, Json> = node.parameters().map(|name| (name, parameter(name))).collect();
        let names = |ports: &[super::view::PortView]| ports.iter().map(|port| port.name.clone()).collect::<Vec<_>>();
        all.push((
            id(&node.id),
            json!({
                "code": format!("function: {}", node.function), "filepath": null, "parameters": values,
                "inputs": names(&node.inputs), "outputs": names(&node.outputs),
                "run_command": format!("flow run --to-nodes={}", node.name), "preview": null,
            }),
        ));
    }
    for dataset in &view.datasets {
        let command = (!dataset.free).then(|| format!("flow run --to-outputs={}", dataset.name));
        all.push((
            id(&dataset.id),
            json!({
                "filepath": dataset.location, "type": dataset.kind, "run_command": command,
                "preview": null, "preview_type": null, "stats": null,
            }),
        ));
    }
    for one in &view.parameters {
        let value = parameter(&one.name);
        let name = one.name.strip_prefix("params:").unwrap_or(&one.name);
        let values = if value.is_object() { value } else { json!({name: value}) };
        all.push((id(&one.id), json!({"parameters": values})));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn files(view: &GraphView) -> BTreeMap<String, Json> {
        let pipelines: Vec<_> = view.pipelines.iter().map(|name| (name.clone(), view.clone())).collect();
        kedro_viz(view, &pipelines, &|name| json!(name))
    }

    #[test]
    fn every_end_of_an_edge_is_a_node_with_a_file() {
        for graph in [seed(), odd()] {
            let files = files(&whole(&graph));
            let main = &files["api/main"];
            let ids: BTreeSet<&str> = main["nodes"]
                .as_array()
                .expect("nodes")
                .iter()
                .map(|node| node["id"].as_str().expect("an id"))
                .collect();
            assert!(ids.len() > 3);
            for edge in main["edges"].as_array().expect("edges") {
                for end in ["source", "target"] {
                    assert!(ids.contains(edge[end].as_str().expect("an id")), "{edge}");
                }
            }
            for node in main["nodes"].as_array().expect("nodes").iter().filter(|node| node["type"] != "modularPipeline")
            {
                let id = node["id"].as_str().expect("an id");
                assert!(files.contains_key(&format!("api/nodes/{id}")), "{node}");
                assert!(id.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
            }
            for pipeline in main["pipelines"].as_array().expect("pipelines") {
                assert!(files.contains_key(&format!("api/pipelines/{}", pipeline["id"].as_str().expect("an id"))));
            }
        }
    }

    #[test]
    fn everything_has_one_place_in_the_tree() {
        for graph in [seed(), odd()] {
            let files = files(&whole(&graph));
            let main = &files["api/main"];
            let tree = main["modular_pipelines"].as_object().expect("a tree");
            let mut places: BTreeMap<&str, usize> = BTreeMap::new();
            for place in tree.values() {
                for child in place["children"].as_array().expect("children") {
                    *places.entry(child["id"].as_str().expect("an id")).or_default() += 1;
                }
            }
            for node in main["nodes"].as_array().expect("nodes") {
                assert_eq!(places.get(node["id"].as_str().expect("an id")), Some(&1), "{node}");
            }
        }
    }

    #[test]
    fn ids_of_pipelines_are_accepted_as_parts_of_addresses() {
        assert_eq!(
            (pipeline_id("data-science_2"), pipeline_id("main")),
            ("data-science_2".to_owned(), "main".to_owned())
        );
        for name in ["__default__", "a/b", "..", "a b", "", "all", "ä"] {
            assert_eq!(pipeline_id(name).len(), 16, "{name}");
        }
    }
}
