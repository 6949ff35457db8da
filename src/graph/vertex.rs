//! Vertices and edges of the graph.

use std::fmt;

use indexmap::IndexMap;

use super::DatasetMetadata;
use crate::{
    config,
    diagnostic::Span,
    model::{DatasetRef, Shape},
};

/// A node of one graph. Ids are ordered as nodes are executed, so a sorted set of them is in execution order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// The position in the execution order of the whole graph, from 0.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("fewer than four billion nodes"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A vertex of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vertex {
    /// A node.
    Node(NodeId),
    /// A dataset with all its views: a position in [`Graph::datasets`](super::Graph::datasets).
    Dataset(usize),
    /// A parameter: a position in [`Graph::parameters`](super::Graph::parameters).
    Parameter(usize),
}

/// An edge, in the direction of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// A dataset or parameter into a node: a position in [`NodeVertex::inputs`].
    Input(usize),
    /// A node into a dataset: a position in [`NodeVertex::outputs`].
    Output(usize),
    /// A node to one that lists it under `after:`.
    After,
}

/// One use of a function, checked.
#[derive(Debug, Clone)]
pub struct NodeVertex {
    /// Its id in this graph.
    pub id: NodeId,
    /// The name, with its namespace in front.
    pub name: String,
    /// The location of its name.
    pub span: Span,
    /// The pipeline that holds it; the first one, where a file is included by others.
    pub pipeline: String,
    /// All pipelines that hold it.
    pub pipelines: Vec<String>,
    /// The function's name.
    pub function: String,
    /// The location of that.
    pub function_span: Span,
    /// The links at its input ports, in the order written.
    pub inputs: Vec<Link>,
    /// The links at its output ports, in the order written.
    pub outputs: Vec<Link>,
    /// Tags, in the order written.
    pub tags: Vec<String>,
    /// The namespace, outer ones in front.
    pub namespace: Option<String>,
    /// Nodes under its `after:`, in execution order.
    pub after: Vec<NodeId>,
    /// `resources:`, for clusters.
    pub resources: Option<config::Resources>,
    /// Keys that only some functions take, as written.
    pub options: IndexMap<String, config::Node>,
    /// How many nodes must run before it, one after the other: 0 for a node that waits for none.
    pub layer: usize,
}

impl NodeVertex {
    /// The link at an input port.
    pub fn input(&self, port: &str) -> Option<&Link> {
        self.inputs.iter().find(|link| link.port == port)
    }

    /// The link at an output port.
    pub fn output(&self, port: &str) -> Option<&Link> {
        self.outputs.iter().find(|link| link.port == port)
    }

    /// The datasets among its inputs.
    pub fn datasets_in(&self) -> impl Iterator<Item = &Link> {
        self.inputs.iter().filter(|link| link.parameter().is_none())
    }

    /// The parameters among its inputs, with their paths.
    pub fn parameters_in(&self) -> impl Iterator<Item = (&Link, &str)> {
        self.inputs.iter().filter_map(|link| Some((link, link.parameter()?)))
    }
}

/// A dataset or a parameter at a port of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The port's name. Where a function takes anything and the port was not named, its number from 1.
    pub port: String,
    /// The exact name, view included; also `params:a.b` and `parameters`.
    pub dataset: DatasetRef,
    /// The shape of the data.
    pub shape: Shape,
    /// The location of the dataset's name.
    pub span: Span,
}

impl Link {
    /// The path of the parameter (empty for the whole), when it is one.
    pub fn parameter(&self) -> Option<&str> {
        if self.dataset.is_parameter() { self.dataset.parameter_path() } else { None }
    }
}

/// A dataset, all views together.
#[derive(Debug, Clone)]
pub struct DatasetVertex {
    /// The name without a view.
    pub base: String,
    /// The views that nodes name, sorted by name. Without a view name when nodes name the base alone.
    pub views: Vec<View>,
    /// The node that writes it; `None` for a free input.
    pub producer: Option<NodeId>,
    /// The nodes that read it, in execution order.
    pub consumers: Vec<NodeId>,
}

impl DatasetVertex {
    /// False when it does not outlive a run.
    pub fn persistent(&self) -> bool {
        self.views.iter().all(|view| view.metadata.persistent)
    }

    /// The layer, from the first view that has one.
    pub fn layer(&self) -> Option<&str> {
        self.views.iter().find_map(|view| view.metadata.layer.as_deref())
    }
}

/// One way to load or save a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The full name.
    pub name: DatasetRef,
    /// Its metadata.
    pub metadata: DatasetMetadata,
}

/// A parameter that nodes read.
#[derive(Debug, Clone)]
pub struct ParameterVertex {
    /// Its path; empty for the whole of `parameters.yml`.
    pub path: String,
    /// The nodes that read it, in execution order.
    pub consumers: Vec<NodeId>,
}

impl ParameterVertex {
    /// As written in a pipeline: `params:a.b` or `parameters`.
    pub fn name(&self) -> String {
        if self.path.is_empty() { "parameters".to_owned() } else { format!("params:{}", self.path) }
    }
}
