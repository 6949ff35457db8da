//! The graph of a project: nodes, datasets and parameters, and how they are connected.
//!
//! Owns building and checking ([`Graph::build`]), slicing ([`Selection`]), the order of work ([`Schedule`]) and the rules
//! of what has to run. Pure: no I/O, no clock, no async.
//! Must not know: how to open data, what a function does, how anything is shown.

mod bind;
mod build;
mod check;
mod cycle;
mod schedule;
mod select;
#[cfg(test)]
pub(crate) mod testing;
mod vertex;

use std::{
    collections::{BTreeSet, HashMap},
    ops::Index,
};

use indexmap::IndexMap;
use petgraph::{
    Direction,
    graph::{DiGraph, NodeIndex},
    visit::{Dfs, EdgeRef, IntoNeighbors, NodeFiltered, Reversed, Visitable},
};

pub use build::PartialNode;
pub use schedule::{FailurePolicy, Schedule, TaskState};
pub use select::Selection;
pub use vertex::{DatasetVertex, Edge, Link, NodeId, NodeVertex, ParameterVertex, Vertex, View};

use crate::{
    diagnostic::Span,
    model::{Shape, Signature},
};

/// What the graph knows about a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetMetadata {
    /// The shape of the data in this view. `None` for an entry with errors, which were reported: the graph is checked
    /// without it, so that an error in the catalog hides none in a pipeline.
    pub shape: Option<Shape>,
    /// The type's name, for drawings.
    pub type_name: String,
    /// False for data that does not outlive the run (`memory`).
    pub persistent: bool,
    /// False for a known type that cannot be run here; the graph treats it like any other.
    pub supported: bool,
    /// The layer it belongs to, for drawings.
    pub layer: Option<String>,
    /// The path or URL in messages, without credentials; `None` for memory.
    pub location: Option<String>,
    /// The location of its entry in the catalog.
    pub name_span: Option<Span>,
}

/// What the graph looks up in the rest of the project. Results must not change while a graph is built.
pub trait Lookup {
    /// The ports of a function; `None` when there is no such function.
    fn signature(&self, function: &str) -> Option<Signature>;
    /// All functions, for suggestions.
    fn functions(&self) -> Vec<&str>;
    /// A dataset by its full name, view included; explicit entries and patterns alike.
    fn dataset(&self, name: &str) -> Option<DatasetMetadata>;
    /// The full names of all explicit entries.
    fn dataset_names(&self) -> Vec<String>;
    /// True when `params:<path>` has a value.
    fn has_parameter(&self, path: &str) -> bool;
    /// The paths of all parameters, for suggestions.
    fn parameter_names(&self) -> Vec<String>;
}

/// A checked graph. Every dataset and parameter in it exists, every port is bound to what it accepts, and there is no cycle.
#[derive(Debug, Clone)]
pub struct Graph {
    vertices: DiGraph<Vertex, Edge>,
    /// By [`NodeId`].
    nodes: Vec<NodeVertex>,
    /// By [`NodeId`].
    node_vertices: Vec<NodeIndex>,
    names: HashMap<String, NodeId>,
    datasets: IndexMap<String, DatasetVertex>,
    parameters: IndexMap<String, ParameterVertex>,
    pipelines: Vec<String>,
}

impl Graph {
    /// All nodes in execution order: layer by layer, inside a layer by name (byte order).
    pub fn nodes(&self) -> &[NodeVertex] {
        &self.nodes
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&NodeVertex> {
        self.names.get(name).map(|id| &self[*id])
    }

    /// All datasets by base name, sorted.
    pub fn datasets(&self) -> impl ExactSizeIterator<Item = &DatasetVertex> {
        self.datasets.values()
    }

    /// A dataset by its base name (without a view).
    pub fn dataset(&self, base: &str) -> Option<&DatasetVertex> {
        self.datasets.get(base)
    }

    /// All parameters that a node reads, sorted by path.
    pub fn parameters(&self) -> impl ExactSizeIterator<Item = &ParameterVertex> {
        self.parameters.values()
    }

    /// A parameter by its path (`a.b`; empty for the whole).
    pub fn parameter(&self, path: &str) -> Option<&ParameterVertex> {
        self.parameters.get(path)
    }

    /// The names of all pipelines, also of those without nodes, in the order given.
    pub fn pipelines(&self) -> &[String] {
        &self.pipelines
    }

    /// The vertices and edges themselves.
    pub fn vertices(&self) -> &DiGraph<Vertex, Edge> {
        &self.vertices
    }

    /// Datasets that some node reads and none writes: they must exist before a run. Sorted by name.
    pub fn free_inputs(&self) -> impl Iterator<Item = &DatasetVertex> {
        self.datasets().filter(|dataset| dataset.producer.is_none())
    }

    /// The direct dependencies of a node: the nodes that write its inputs, and those under its `after:`.
    pub fn dependencies(&self, id: NodeId) -> BTreeSet<NodeId> {
        self.neighbours(id, Direction::Incoming)
    }

    /// The direct dependents of a node.
    pub fn dependents(&self, id: NodeId) -> BTreeSet<NodeId> {
        self.neighbours(id, Direction::Outgoing)
    }

    /// These nodes and all their direct and indirect dependencies.
    pub fn upstream(&self, of: impl IntoIterator<Item = NodeId>) -> BTreeSet<NodeId> {
        self.reach(of, Direction::Incoming, |_| true)
    }

    /// These nodes and all their direct and indirect dependents.
    pub fn downstream(&self, of: impl IntoIterator<Item = NodeId>) -> BTreeSet<NodeId> {
        self.reach(of, Direction::Outgoing, |_| true)
    }

    fn neighbours(&self, id: NodeId, direction: Direction) -> BTreeSet<NodeId> {
        let mut found = BTreeSet::new();
        for edge in self.vertices.edges_directed(self.node_vertices[id.index()], direction) {
            let next = if direction == Direction::Incoming { edge.source() } else { edge.target() };
            match self.vertices[next] {
                Vertex::Node(node) => drop(found.insert(node)),
                Vertex::Dataset(_) => {
                    found.extend(self.vertices.neighbors_directed(next, direction).filter_map(|vertex| {
                        match self.vertices[vertex] {
                            Vertex::Node(node) => Some(node),
                            Vertex::Dataset(_) | Vertex::Parameter(_) => None,
                        }
                    }))
                }
                Vertex::Parameter(_) => {}
            }
        }
        found
    }

    /// Nodes that are reachable through nodes for which `within` is true, the starts included.
    fn reach(
        &self,
        starts: impl IntoIterator<Item = NodeId>,
        direction: Direction,
        within: impl Fn(NodeId) -> bool,
    ) -> BTreeSet<NodeId> {
        let allowed = NodeFiltered::from_fn(&self.vertices, |vertex| match self.vertices[vertex] {
            Vertex::Node(id) => within(id),
            Vertex::Dataset(_) | Vertex::Parameter(_) => true,
        });
        let starts = starts.into_iter().map(|id| self.node_vertices[id.index()]).collect();
        match direction {
            Direction::Outgoing => self.walk(&allowed, starts),
            Direction::Incoming => self.walk(Reversed(&allowed), starts),
        }
    }

    fn walk<G>(&self, over: G, starts: Vec<NodeIndex>) -> BTreeSet<NodeId>
    where
        G: IntoNeighbors<NodeId = NodeIndex> + Visitable<NodeId = NodeIndex>,
    {
        let mut found = BTreeSet::new();
        let mut search = Dfs::empty(over);
        search.stack = starts;
        while let Some(vertex) = search.next(over) {
            if let Vertex::Node(id) = self.vertices[vertex] {
                found.insert(id);
            }
        }
        found
    }
}

impl Index<NodeId> for Graph {
    type Output = NodeVertex;

    fn index(&self, id: NodeId) -> &NodeVertex {
        &self.nodes[id.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::Sketch, *};

    fn names(graph: &Graph, ids: BTreeSet<NodeId>) -> Vec<&str> {
        ids.into_iter().map(|id| graph[id].name.as_str()).collect()
    }

    /// `raw → clean → {split → part_a, part_b} → report`, and `notify` after `report`.
    fn sample() -> Graph {
        Sketch::new()
            .node("p", "report", &["a", "b"], &["report"])
            .node("p", "clean", &["raw", "params:limit"], &["tidy@table"])
            .node("p", "split", &["tidy@partitioned"], &["a", "b"])
            .node("p", "notify", &[], &[])
            .after("notify", &["report"])
            .node("p", "alone", &["other"], &["elsewhere"])
            .graph()
    }

    #[test]
    fn nodes_are_in_execution_order_and_by_name_inside_a_layer() {
        let graph = sample();
        let order: Vec<_> = graph.nodes().iter().map(|node| (node.layer, node.name.as_str())).collect();
        assert_eq!(order, [(0, "alone"), (0, "clean"), (1, "split"), (2, "report"), (3, "notify")]);
        for (position, node) in graph.nodes().iter().enumerate() {
            assert_eq!(node.id.index(), position);
            assert_eq!(graph.node(&node.name).map(|node| node.id), Some(node.id));
        }
        let bytes =
            ["b", "a", "_x", "B", "9", "10"].iter().fold(Sketch::new(), |s, n| s.node("p", n, &[], &[])).graph();
        let order: Vec<_> = bytes.nodes().iter().map(|node| node.name.as_str()).collect();
        assert_eq!(order, ["10", "9", "B", "_x", "a", "b"]);
    }

    #[test]
    fn views_are_one_vertex_and_links_keep_the_exact_view() {
        let graph = sample();
        let tidy = graph.dataset("tidy").expect("there");
        let views: Vec<_> = tidy.views.iter().map(|view| view.name.to_string()).collect();
        assert_eq!(views, ["tidy@partitioned", "tidy@table"]);
        assert_eq!(tidy.producer.map(|id| graph[id].name.as_str()), Some("clean"));
        assert_eq!(names(&graph, tidy.consumers.iter().copied().collect()), ["split"]);
        let split = graph.node("split").expect("there");
        assert_eq!(split.inputs[0].dataset.to_string(), "tidy@partitioned");
        assert_eq!(split.inputs[0].shape, Shape::Partitions);
    }

    #[test]
    fn reachability_crosses_data_and_after_but_not_parameters() {
        let graph = sample();
        let id = |name: &str| graph.node(name).expect(name).id;
        assert_eq!(names(&graph, graph.upstream([id("report")])), ["clean", "split", "report"]);
        assert_eq!(names(&graph, graph.downstream([id("split")])), ["split", "report", "notify"]);
        assert_eq!(names(&graph, graph.dependencies(id("notify"))), ["report"]);
        assert_eq!(names(&graph, graph.dependents(id("clean"))), ["split"]);
        assert_eq!(names(&graph, graph.downstream([id("alone")])), ["alone"]);
        let free: Vec<_> = graph.free_inputs().map(|dataset| dataset.base.as_str()).collect();
        assert_eq!(free, ["other", "raw"]);
        let limit = graph.parameter("limit").expect("there");
        assert_eq!(names(&graph, limit.consumers.iter().copied().collect()), ["clean"]);
    }
}
