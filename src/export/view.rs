//! A neutral description of a selection: plain, sorted data for all formats.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::{
    graph::{DatasetVertex, Graph, Link, NodeId, NodeVertex},
    model::Shape,
};

/// The nodes of a selection with everything they use. Serialises as the JSON format; its keys are stable.
#[derive(Debug, Clone, Serialize)]
pub struct GraphView {
    /// The version of the JSON form.
    pub version: u8,
    /// Nodes of the selection, in execution order.
    pub nodes: Vec<NodeView>,
    /// Datasets that these nodes read or write, by name.
    pub datasets: Vec<DatasetView>,
    /// Parameters that these nodes read, by path.
    pub parameters: Vec<ParameterView>,
    /// The edges between them, sorted by their ends.
    pub edges: Vec<EdgeView>,
    /// Layers of the datasets in the direction of data; empty when that order has a cycle.
    pub layers: Vec<String>,
    /// Tags of the nodes, sorted.
    pub tags: Vec<String>,
    /// Namespaces of the nodes, outer ones too, sorted.
    pub namespaces: Vec<String>,
    /// Pipelines of the nodes, sorted.
    pub pipelines: Vec<String>,
}

/// A node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeView {
    /// `node:<name>`, what edges refer to.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its function.
    pub function: String,
    /// The pipelines that hold it.
    pub pipelines: Vec<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// What it reads, parameters too, in the order written.
    pub inputs: Vec<PortView>,
    /// What it writes, in the order written.
    pub outputs: Vec<PortView>,
    /// Nodes of the selection under its `after:`.
    pub after: Vec<String>,
}

/// A dataset or parameter at a port.
#[derive(Debug, Clone, Serialize)]
pub struct PortView {
    /// The port's name.
    pub port: String,
    /// The exact name, view included, or `params:a.b`.
    pub name: String,
    /// `table`, `partitions` or `value`.
    pub shape: &'static str,
}

/// A dataset with all its views.
#[derive(Debug, Clone, Serialize)]
pub struct DatasetView {
    /// `data:<name>`, what edges refer to.
    pub id: String,
    /// Its name without a view.
    pub name: String,
    /// The type of its first view.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its location; `null` for memory.
    pub location: Option<String>,
    /// Its layer.
    pub layer: Option<String>,
    /// True when no node of the selection writes it.
    pub free: bool,
    /// False when it does not outlive a run.
    pub persistent: bool,
    /// The views that nodes name, sorted.
    pub views: Vec<TranscodedView>,
}

/// One way to load or save a dataset.
#[derive(Debug, Clone, Serialize)]
pub struct TranscodedView {
    /// The full name.
    pub name: String,
    /// The part after the `@`.
    pub view: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `table`, `partitions` or `value`.
    pub shape: &'static str,
}

/// A parameter.
#[derive(Debug, Clone, Serialize)]
pub struct ParameterView {
    /// `param:<path>`, what edges refer to; the path of `parameters` is empty.
    pub id: String,
    /// `params:a.b` or `parameters`.
    pub name: String,
}

/// An edge, in the direction of data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct EdgeView {
    /// The id of its start.
    pub from: String,
    /// The id of its end.
    pub to: String,
    /// Its kind.
    pub kind: EdgeKind,
    /// The node's port; `null` for `after`.
    pub port: Option<String>,
    /// The view that the node names, if it names one.
    pub view: Option<String>,
}

/// The kind of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EdgeKind {
    /// A node reads a dataset.
    Input,
    /// A node writes a dataset.
    Output,
    /// A node reads a parameter.
    Parameter,
    /// A node comes after another one.
    After,
}

impl GraphView {
    /// The name of the only pipeline, else the program's.
    pub fn title(&self) -> &str {
        match self.pipelines.as_slice() {
            [one] => one,
            _ => "flow",
        }
    }

    /// The locations of the datasets that each node writes, by the node's name.
    pub fn locations(&self) -> HashMap<String, String> {
        let datasets: HashMap<&str, &DatasetView> = self.datasets.iter().map(|one| (one.id.as_str(), one)).collect();
        let written = self.edges.iter().filter(|edge| edge.kind == EdgeKind::Output);
        written
            .filter_map(|edge| {
                let node = edge.from.strip_prefix("node:")?;
                Some((node.to_owned(), datasets.get(edge.to.as_str())?.location.clone()?))
            })
            .collect()
    }

    /// The view of the nodes of these pipelines, separated by commas; of all nodes if the graph has none of these pipelines any more.
    pub fn of_pipelines(graph: &Graph, pipelines: &str) -> Self {
        let names: Vec<&str> = pipelines.split(',').map(str::trim).collect();
        let of = |all: bool| {
            let nodes = graph.nodes().iter();
            let some = nodes.filter(|node| all || node.pipelines.iter().any(|one| names.contains(&one.as_str())));
            some.map(|node| node.id).collect()
        };
        let some: Vec<NodeId> = of(false);
        Self::new(graph, if some.is_empty() { of(true) } else { some })
    }

    /// The view of these nodes and everything they use.
    pub fn new(graph: &Graph, selected: impl IntoIterator<Item = NodeId>) -> Self {
        let selected: BTreeSet<NodeId> = selected.into_iter().collect();
        let nodes: Vec<&NodeVertex> = selected.iter().map(|id| &graph[*id]).collect();
        let links = || nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs));
        let bases: BTreeSet<&str> =
            links().filter(|link| link.parameter().is_none()).map(|link| link.dataset.base()).collect();
        let datasets: Vec<&DatasetVertex> = bases.into_iter().filter_map(|base| graph.dataset(base)).collect();
        let parameters: BTreeSet<(&str, String)> =
            links().filter_map(|link| Some((link.parameter()?, link.dataset.to_string()))).collect();
        let mut edges: Vec<EdgeView> = nodes.iter().flat_map(|node| edges(graph, node, &selected)).collect();
        edges.sort_unstable();
        edges.dedup();
        let sorted = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect();
        Self {
            version: 1,
            layers: layers(&nodes, &datasets),
            tags: sorted(nodes.iter().flat_map(|node| node.tags.iter().map(String::as_str)).collect()),
            namespaces: sorted(nodes.iter().filter_map(|node| node.namespace.as_deref()).flat_map(and_outer).collect()),
            pipelines: sorted(nodes.iter().flat_map(|node| node.pipelines.iter().map(String::as_str)).collect()),
            nodes: nodes.iter().map(|node| node_view(graph, node, &selected)).collect(),
            datasets: datasets.iter().map(|dataset| dataset_view(dataset, &selected)).collect(),
            parameters: parameters
                .into_iter()
                .map(|(path, name)| ParameterView { id: parameter_id(path), name })
                .collect(),
            edges,
        }
    }
}

impl DatasetView {
    /// The views that have a name, for labels: `@partitioned`, `@table`.
    pub fn view_names(&self) -> Vec<String> {
        self.views.iter().filter_map(|view| view.view.as_ref()).map(|view| format!("@{view}")).collect()
    }

    /// True when one of its views has partitions: it is a hive folder.
    pub fn partitioned(&self) -> bool {
        self.views.iter().any(|view| view.shape == shape(Shape::Partitions))
    }
}

impl NodeView {
    /// Names of the parameters it reads.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(|input| input.name.as_str()).filter(|name| is_parameter(name))
    }
}

fn is_parameter(name: &str) -> bool {
    name.starts_with("params:") || name == "parameters"
}

fn node_id(name: &str) -> String {
    format!("node:{name}")
}

fn dataset_id(base: &str) -> String {
    format!("data:{base}")
}

fn parameter_id(path: &str) -> String {
    format!("param:{path}")
}

fn shape(shape: Shape) -> &'static str {
    match shape {
        Shape::Table => "table",
        Shape::Partitions => "partitions",
        Shape::Value => "value",
    }
}

/// `a.b.c` and the namespaces around it: `a`, `a.b`.
fn and_outer(namespace: &str) -> impl Iterator<Item = &str> {
    namespace.match_indices('.').map(|(dot, _)| &namespace[..dot]).chain([namespace])
}

fn node_view(graph: &Graph, node: &NodeVertex, selected: &BTreeSet<NodeId>) -> NodeView {
    let port =
        |link: &Link| PortView { port: link.port.clone(), name: link.dataset.to_string(), shape: shape(link.shape) };
    let tags: BTreeSet<_> = node.tags.iter().cloned().collect();
    NodeView {
        id: node_id(&node.name),
        name: node.name.clone(),
        function: node.function.clone(),
        pipelines: node.pipelines.clone(),
        namespace: node.namespace.clone(),
        tags: tags.into_iter().collect(),
        inputs: node.inputs.iter().map(port).collect(),
        outputs: node.outputs.iter().map(port).collect(),
        after: node.after.iter().filter(|id| selected.contains(id)).map(|id| graph[*id].name.clone()).collect(),
    }
}

fn dataset_view(dataset: &DatasetVertex, selected: &BTreeSet<NodeId>) -> DatasetView {
    let first = dataset.views.first().expect("a dataset of the graph is named by some node");
    DatasetView {
        id: dataset_id(&dataset.base),
        name: dataset.base.clone(),
        kind: first.metadata.type_name.clone(),
        location: dataset.views.iter().find_map(|view| view.metadata.location.clone()),
        layer: dataset.layer().map(str::to_owned),
        free: dataset.producer.is_none_or(|id| !selected.contains(&id)),
        persistent: dataset.persistent(),
        views: dataset
            .views
            .iter()
            .map(|view| TranscodedView {
                name: view.name.to_string(),
                view: view.name.view().map(str::to_owned),
                kind: view.metadata.type_name.clone(),
                shape: view.metadata.shape.map_or("unknown", shape),
            })
            .collect(),
    }
}

fn edges(graph: &Graph, node: &NodeVertex, selected: &BTreeSet<NodeId>) -> Vec<EdgeView> {
    let id = node_id(&node.name);
    let view = |link: &Link| link.dataset.view().map(str::to_owned);
    let inputs = node.inputs.iter().map(|link| {
        let (from, kind) = match link.parameter() {
            Some(path) => (parameter_id(path), EdgeKind::Parameter),
            None => (dataset_id(link.dataset.base()), EdgeKind::Input),
        };
        EdgeView { from, to: id.clone(), kind, port: Some(link.port.clone()), view: view(link) }
    });
    let outputs = node.outputs.iter().map(|link| EdgeView {
        from: id.clone(),
        to: dataset_id(link.dataset.base()),
        kind: EdgeKind::Output,
        port: Some(link.port.clone()),
        view: view(link),
    });
    let after = node.after.iter().filter(|other| selected.contains(other)).map(|other| EdgeView {
        from: node_id(&graph[*other].name),
        to: id.clone(),
        kind: EdgeKind::After,
        port: None,
        view: None,
    });
    inputs.chain(outputs).chain(after).collect()
}

/// Sorts layers in the direction of data, ties by name. Layers that form a cycle have no order.
fn layers(nodes: &[&NodeVertex], datasets: &[&DatasetVertex]) -> Vec<String> {
    let own: BTreeMap<&str, &str> = datasets.iter().filter_map(|d| Some((d.base.as_str(), d.layer()?))).collect();
    let all: BTreeSet<&str> = own.values().copied().collect();
    // A dataset without a layer passes on the nearest layers before it.
    let mut nearest: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut before: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for node in nodes {
        let mut sources: BTreeSet<&str> = BTreeSet::new();
        for link in node.datasets_in() {
            match own.get(link.dataset.base()) {
                Some(layer) => drop(sources.insert(layer)),
                None => sources.extend(nearest.get(link.dataset.base()).into_iter().flatten()),
            }
        }
        for link in &node.outputs {
            match own.get(link.dataset.base()) {
                Some(layer) => before.entry(layer).or_default().extend(sources.iter().filter(|l| *l != layer)),
                None => nearest.entry(link.dataset.base()).or_default().extend(&sources),
            }
        }
    }
    let mut ordered: Vec<&str> = Vec::new();
    while ordered.len() < all.len() {
        let next = all.iter().find(|layer| {
            !ordered.contains(layer)
                && before.get(*layer).is_none_or(|before| before.iter().all(|layer| ordered.contains(layer)))
        });
        match next {
            Some(layer) => ordered.push(layer),
            None => return Vec::new(),
        }
    }
    ordered.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};
    use crate::graph::testing::Sketch;

    #[test]
    fn views_are_one_vertex_and_edges_keep_port_and_view() {
        let view = whole(&seed());
        let names: Vec<_> = view.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
        assert_eq!(names, ["bucketized", "embeddings", "nodes"]);
        let bucketized = &view.datasets[0];
        assert_eq!(bucketized.view_names(), ["@partitioned", "@table"]);
        assert!(bucketized.partitioned() && !bucketized.free && view.datasets[2].free);
        let read = view.edges.iter().find(|edge| edge.from == "data:bucketized").expect("read");
        assert_eq!((read.port.as_deref(), read.view.as_deref()), (Some("dfs"), Some("partitioned")));
    }

    #[test]
    fn a_selection_shows_what_its_nodes_touch_and_what_others_write_is_free() {
        let graph = seed();
        let embed = graph.node("add_embeddings").expect("there").id;
        let view = GraphView::new(&graph, [embed]);
        assert_eq!(view.nodes.len(), 1);
        let free: Vec<_> = view.datasets.iter().map(|dataset| (dataset.name.as_str(), dataset.free)).collect();
        assert_eq!(free, [("bucketized", true), ("embeddings", false)]);
        assert_eq!(view.parameters.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["params:model"]);
    }

    #[test]
    fn nodes_and_datasets_of_one_name_are_kept_apart() {
        let view = whole(&Sketch::new().node("p", "x", &["x.in"], &["x"]).graph());
        assert_eq!(view.nodes[0].id, "node:x");
        assert_eq!(view.edges.iter().map(|edge| edge.to.as_str()).collect::<Vec<_>>(), ["node:x", "data:x"]);
    }

    #[test]
    fn layers_are_ordered_as_data_passes_them_over_datasets_without_one() {
        let layer =
            |name: &'static str| move |metadata: &mut crate::graph::DatasetMetadata| metadata.layer = Some(name.into());
        let sketch = Sketch::new()
            .node("p", "a", &["r"], &["between"])
            .node("p", "b", &["between", "q"], &["m"])
            .node("p", "c", &["m"], &["f"])
            .dataset("r", layer("raw"))
            .dataset("q", layer("also raw"))
            .dataset("m", layer("middle"))
            .dataset("f", layer("final"));
        assert_eq!(whole(&sketch.graph()).layers, ["also raw", "raw", "middle", "final"]);
        let cycle = sketch.node("p", "d", &["f"], &["z"]).dataset("z", layer("raw"));
        assert_eq!(whole(&cycle.graph()).layers, [""; 0]);
    }
}
