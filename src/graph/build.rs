//! Builds the graph and reports all problems of it at once.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexMap;
use petgraph::graph::{DiGraph, NodeIndex};

use super::{
    DatasetMetadata, DatasetVertex, Edge, Graph, Link, Lookup, NodeId, NodeVertex, ParameterVertex, Vertex, View,
};
use crate::{
    config::{Node, NodeSpec, PipelineSpec, Spanned},
    diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean},
    model::{DatasetRef, Signature},
};

/// How many errors get a suggestion; looking for one reads all names.
const SUGGESTIONS: usize = 100;

impl Graph {
    /// Builds the graph of these pipelines. All problems go to `problems`.
    ///
    /// # Errors
    /// If any problem is an error; the nodes are returned as far as they are known.
    ///
    /// A node that one pipeline file holds and others include unchanged is one node of several pipelines.
    pub fn build(
        pipelines: &[PipelineSpec],
        lookup: &dyn Lookup,
        problems: &mut Diagnostics,
    ) -> Result<Self, Vec<PartialNode>> {
        let mut builder = Builder::new(lookup, problems);
        let bound_nodes = builder.bind_nodes(pipelines);
        let links = builder.link_index(&bound_nodes);
        builder.check_views(&links);
        let graph = builder.assemble(&bound_nodes, &links);
        builder.check_cycles(&graph, &bound_nodes, &links);
        if builder.failed {
            return Err(bound_nodes.into_iter().map(PartialNode::from).collect());
        }
        Ok(finish(pipelines, bound_nodes, links, graph, builder.metadata))
    }
}

/// A node whose ports are bound, before the graph is assembled.
pub(super) struct BoundNode<'a> {
    pub spec: &'a NodeSpec,
    pub pipelines: Vec<&'a str>,
    pub inputs: Vec<Link>,
    pub outputs: Vec<Link>,
    /// Input ports with an unknown value, which was reported.
    pub unknown_ports: Vec<String>,
    /// Indices of other nodes, and where they are named.
    pub after: Vec<(usize, Span)>,
}

/// A node of a graph with errors.
#[derive(Debug, Clone)]
pub struct PartialNode {
    /// Its name.
    pub name: String,
    /// The location of its name.
    pub span: Span,
    /// Its function, which may not exist.
    pub function: String,
    /// The location of that.
    pub function_span: Span,
    /// Keys that only some functions take, as written.
    pub options: IndexMap<String, Node>,
    /// The bindings of its input ports.
    pub inputs: Vec<Link>,
    /// The bindings of its output ports.
    pub outputs: Vec<Link>,
    /// Input ports with an unknown value, which was reported.
    pub unknown_ports: Vec<String>,
}

impl From<BoundNode<'_>> for PartialNode {
    fn from(bound: BoundNode<'_>) -> Self {
        Self {
            name: bound.spec.name.value.clone(),
            span: bound.spec.name.span,
            function: bound.spec.function.value.clone(),
            function_span: bound.spec.function.span,
            options: bound.spec.options.clone(),
            inputs: bound.inputs,
            outputs: bound.outputs,
            unknown_ports: bound.unknown_ports,
        }
    }
}

/// Links by dataset base and by parameter path: the index of the node, and of the link among its inputs or outputs.
#[derive(Default)]
pub(super) struct LinkIndex {
    pub datasets: BTreeMap<String, DatasetLinks>,
    pub parameters: BTreeMap<String, Vec<(usize, usize)>>,
}

#[derive(Default)]
pub(super) struct DatasetLinks {
    pub writers: Vec<(usize, usize)>,
    pub readers: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Input,
    Output,
}

impl Side {
    pub fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

pub(super) struct Builder<'a> {
    pub lookup: &'a dyn Lookup,
    pub problems: &'a mut Diagnostics,
    failed: bool,
    suggestions: usize,
    signatures: HashMap<&'a str, Option<Signature>>,
    /// Metadata of every dataset that was looked up.
    metadata: HashMap<DatasetRef, Option<DatasetMetadata>>,
    /// The catalog's names with a view, by base.
    pub views: HashMap<String, Vec<String>>,
}

impl<'a> Builder<'a> {
    fn new(lookup: &'a dyn Lookup, problems: &'a mut Diagnostics) -> Self {
        let mut views: HashMap<String, Vec<String>> = HashMap::new();
        for name in lookup.dataset_names() {
            if let Some((base, _)) = name.split_once('@') {
                views.entry(base.to_owned()).or_default().push(name);
            }
        }
        views.values_mut().for_each(|names| names.sort_unstable());
        Self {
            lookup,
            problems,
            failed: false,
            suggestions: SUGGESTIONS,
            signatures: HashMap::new(),
            metadata: HashMap::new(),
            views,
        }
    }

    pub fn error(&mut self, diagnostic: Diagnostic) {
        self.failed = true;
        self.problems.push(diagnostic);
    }

    pub fn suggest<I: IntoIterator<Item: AsRef<str>>>(
        &mut self,
        name: &str,
        all: impl FnOnce() -> I,
    ) -> Option<String> {
        self.suggestions = self.suggestions.checked_sub(1)?;
        did_you_mean(name, all())
    }

    pub fn metadata(&mut self, name: &DatasetRef) -> Option<&DatasetMetadata> {
        let lookup = self.lookup;
        self.metadata.entry(name.clone()).or_insert_with_key(|name| lookup.dataset(&name.to_string())).as_ref()
    }

    fn bind_nodes(&mut self, pipelines: &'a [PipelineSpec]) -> Vec<BoundNode<'a>> {
        let mut bound_nodes: Vec<BoundNode<'a>> = Vec::new();
        let mut indices: HashMap<&str, usize> = HashMap::new();
        for pipeline in pipelines {
            for spec in &pipeline.nodes {
                if let Some(&first) = indices.get(spec.name.value.as_str()) {
                    if is_same(bound_nodes[first].spec, spec) {
                        bound_nodes[first].pipelines.push(&pipeline.name);
                    } else {
                        self.duplicate(bound_nodes[first].spec, spec);
                    }
                    continue;
                }
                indices.insert(&spec.name.value, bound_nodes.len());
                let pipelines = vec![pipeline.name.as_str()];
                bound_nodes.push(BoundNode {
                    spec,
                    pipelines,
                    inputs: Vec::new(),
                    outputs: Vec::new(),
                    unknown_ports: Vec::new(),
                    after: Vec::new(),
                });
            }
        }
        for bound in &mut bound_nodes {
            let signature = self.signature(&bound.spec.function);
            (bound.inputs, bound.unknown_ports) = self.bind(bound.spec, &bound.spec.inputs, signature, Side::Input);
            (bound.outputs, _) = self.bind(bound.spec, &bound.spec.outputs, signature, Side::Output);
            for after in &bound.spec.after {
                match indices.get(after.value.as_str()) {
                    Some(&index) => bound.after.push((index, after.span)),
                    None => self.unknown_after(bound.spec, after, &indices),
                }
            }
        }
        bound_nodes
    }

    fn duplicate(&mut self, first: &NodeSpec, second: &NodeSpec) {
        let name = &second.name.value;
        self.error(
            Diagnostic::error("graph::duplicate-node", format!("duplicate node name `{name}`"))
                .at(second.name.span, format!("duplicate, in pipeline `{}`", second.pipeline))
                .at(first.name.span, format!("first, in pipeline `{}`", first.pipeline))
                .help("rename one, or include its pipeline under a `namespace:`: node names are unique in a project"),
        );
    }

    fn signature(&mut self, function: &'a Spanned<String>) -> Option<Signature> {
        let name = function.value.as_str();
        // A missing function was reported.
        if name.is_empty() {
            self.failed = true;
            return None;
        }
        let lookup = self.lookup;
        let signature = *self.signatures.entry(name).or_insert_with(|| lookup.signature(name));
        if signature.is_none() {
            let help = self.suggest(name, || lookup.functions());
            self.error(
                Diagnostic::error("graph::unknown-function", format!("there is no function `{name}`"))
                    .at(function.span, "")
                    .help_opt(help)
                    .help("`flow ls functions` lists them; use `placeholder` for one that is not written yet"),
            );
        }
        signature
    }

    fn unknown_after(&mut self, spec: &NodeSpec, after: &Spanned<String>, indices: &HashMap<&str, usize>) {
        let help = self.suggest(&after.value, || {
            let mut names: Vec<_> = indices.keys().copied().collect();
            names.sort_unstable();
            names
        });
        let message = format!("node `{}` comes after `{}`, which does not exist", spec.name.value, after.value);
        self.error(Diagnostic::error("graph::unknown-node", message).at(after.span, "").help_opt(help));
    }

    /// All links, and the problems that only show when they are seen together.
    fn link_index(&mut self, bound_nodes: &[BoundNode<'_>]) -> LinkIndex {
        let mut links = LinkIndex::default();
        for (index, bound) in bound_nodes.iter().enumerate() {
            for (position, link) in bound.inputs.iter().enumerate() {
                match link.parameter() {
                    Some(path) => links.parameters.entry(path.to_owned()).or_default().push((index, position)),
                    None => links.dataset(link).readers.push((index, position)),
                }
            }
            for (position, link) in bound.outputs.iter().enumerate() {
                links.dataset(link).writers.push((index, position));
            }
        }
        for (base, usage) in &links.datasets {
            self.check_writers(base, usage, bound_nodes);
            self.check_bare_names(base, usage, bound_nodes);
        }
        links
    }

    /// Vertices and edges. Nodes have their index as id for now.
    fn assemble(&mut self, bound_nodes: &[BoundNode<'_>], links: &LinkIndex) -> DiGraph<Vertex, Edge> {
        let edges: usize = bound_nodes.iter().map(|d| d.inputs.len() + d.outputs.len() + d.after.len()).sum();
        let vertices = bound_nodes.len() + links.datasets.len() + links.parameters.len();
        let mut graph = DiGraph::with_capacity(vertices, edges);
        // Nodes come first, so that a vertex has the index of its node.
        for index in 0..bound_nodes.len() {
            graph.add_node(Vertex::Node(NodeId::from_index(index)));
        }
        for (position, usage) in links.datasets.values().enumerate() {
            let vertex = graph.add_node(Vertex::Dataset(position));
            for (index, link) in &usage.writers {
                graph.add_edge(NodeIndex::new(*index), vertex, Edge::Output(*link));
            }
            for (index, link) in &usage.readers {
                // A node that reads what it writes has been reported; it is not reported again as a cycle.
                if usage.writers.iter().all(|(writer, _)| writer != index) {
                    graph.add_edge(vertex, NodeIndex::new(*index), Edge::Input(*link));
                }
            }
        }
        for (position, readers) in links.parameters.values().enumerate() {
            let vertex = graph.add_node(Vertex::Parameter(position));
            for (index, link) in readers {
                graph.add_edge(vertex, NodeIndex::new(*index), Edge::Input(*link));
            }
        }
        for (index, bound) in bound_nodes.iter().enumerate() {
            for (other, _) in &bound.after {
                graph.add_edge(NodeIndex::new(*other), NodeIndex::new(index), Edge::After);
            }
        }
        graph
    }
}

impl LinkIndex {
    fn dataset(&mut self, link: &Link) -> &mut DatasetLinks {
        self.datasets.entry(link.dataset.base().to_owned()).or_default()
    }
}

/// True for one node that is in two pipelines unchanged.
fn is_same(one: &NodeSpec, other: &NodeSpec) -> bool {
    one.span == other.span
        && one.name == other.name
        && one.function == other.function
        && one.inputs == other.inputs
        && one.outputs == other.outputs
        && one.after == other.after
        && one.confirms == other.confirms
        && one.namespace == other.namespace
        && one.tags == other.tags
}

/// Sorts nodes into execution order and makes the final graph, which has no cycle and no unknown name.
fn finish(
    pipelines: &[PipelineSpec],
    bound_nodes: Vec<BoundNode<'_>>,
    links: LinkIndex,
    mut graph: DiGraph<Vertex, Edge>,
    mut metadata: HashMap<DatasetRef, Option<DatasetMetadata>>,
) -> Graph {
    let layers = layers(&graph);
    let mut order: Vec<usize> = (0..bound_nodes.len()).collect();
    order.sort_unstable_by_key(|&index| (layers[index], &bound_nodes[index].spec.name.value));
    let mut ids = vec![NodeId::from_index(0); bound_nodes.len()];
    let mut node_vertices = Vec::with_capacity(bound_nodes.len());
    for (position, &index) in order.iter().enumerate() {
        ids[index] = NodeId::from_index(position);
        node_vertices.push(NodeIndex::new(index));
    }
    for vertex in graph.node_weights_mut() {
        if let Vertex::Node(id) = vertex {
            *id = ids[id.index()];
        }
    }
    let sorted = |readers: &[(usize, usize)]| {
        let mut consumers: Vec<_> = readers.iter().map(|(index, _)| ids[*index]).collect();
        consumers.sort_unstable();
        consumers.dedup();
        consumers
    };
    let datasets = links.datasets.iter().map(|(base, usage)| {
        let written = usage.writers.iter().map(|(index, link)| &bound_nodes[*index].outputs[*link]);
        let read = usage.readers.iter().map(|(index, link)| &bound_nodes[*index].inputs[*link]);
        let mut names: Vec<_> = written.chain(read).map(|link| link.dataset.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let view = |name: DatasetRef| {
            // Every full name belongs to one dataset, so its metadata is taken once.
            let metadata = metadata.remove(&name).flatten().expect("an unknown dataset has failed the build");
            View { name, metadata }
        };
        let dataset = DatasetVertex {
            base: base.clone(),
            views: names.into_iter().map(view).collect(),
            producer: usage.writers.first().map(|(index, _)| ids[*index]),
            consumers: sorted(&usage.readers),
        };
        (base.clone(), dataset)
    });
    let datasets: IndexMap<_, _> = datasets.collect();
    let parameters = links
        .parameters
        .iter()
        .map(|(path, readers)| (path.clone(), ParameterVertex { path: path.clone(), consumers: sorted(readers) }))
        .collect();
    let mut bound_nodes: Vec<Option<BoundNode<'_>>> = bound_nodes.into_iter().map(Some).collect();
    let nodes: Vec<NodeVertex> = order
        .into_iter()
        .map(|index| {
            let bound = bound_nodes[index].take().expect("every index is in the order once");
            node(ids[index], layers[index], bound, &ids)
        })
        .collect();
    let names = nodes.iter().map(|node| (node.name.clone(), node.id)).collect();
    let pipelines = pipelines.iter().map(|pipeline| pipeline.name.clone()).collect();
    Graph { vertices: graph, nodes, node_vertices, names, datasets, parameters, pipelines }
}

fn node(id: NodeId, layer: usize, bound: BoundNode<'_>, ids: &[NodeId]) -> NodeVertex {
    let BoundNode { spec, pipelines, inputs, outputs, unknown_ports: _, after } = bound;
    let mut after: Vec<_> = after.into_iter().map(|(index, _)| ids[index]).collect();
    after.sort_unstable();
    after.dedup();
    let home = if pipelines.contains(&spec.pipeline.as_str()) { spec.pipeline.as_str() } else { pipelines[0] };
    NodeVertex {
        id,
        name: spec.name.value.clone(),
        span: spec.name.span,
        pipeline: home.to_owned(),
        pipelines: pipelines.into_iter().map(str::to_owned).collect(),
        function: spec.function.value.clone(),
        function_span: spec.function.span,
        inputs,
        outputs,
        tags: spec.tags.clone(),
        namespace: spec.namespace.clone(),
        after,
        resources: spec.resources,
        options: spec.options.clone(),
        layer,
    }
}

/// For each vertex, how many nodes must run before it, one after the other (Kahn's algorithm).
fn layers(graph: &DiGraph<Vertex, Edge>) -> Vec<usize> {
    let mut waiting: Vec<usize> = vec![0; graph.node_count()];
    for edge in graph.raw_edges() {
        waiting[edge.target().index()] += 1;
    }
    let mut ready: Vec<NodeIndex> = graph.node_indices().filter(|v| waiting[v.index()] == 0).collect();
    let mut layers: Vec<usize> = vec![0; graph.node_count()];
    while let Some(vertex) = ready.pop() {
        let step = usize::from(matches!(graph[vertex], Vertex::Node(_)));
        for next in graph.neighbors(vertex) {
            layers[next.index()] = layers[next.index()].max(layers[vertex.index()] + step);
            waiting[next.index()] -= 1;
            if waiting[next.index()] == 0 {
                ready.push(next);
            }
        }
    }
    layers
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{
        super::testing::{Sketch, check},
        *,
    };

    #[test]
    fn a_misspelt_function_is_named_with_what_was_meant() {
        check(
            &Sketch::new().node("p", "n", &["a"], &["b"]).function("n", "bucketise"),
            &[
                "graph::unknown-function: there is no function `bucketise`\n  at bucketise: \n  help: did you mean `bucketize`?\n  \
               help: `flow ls functions` lists them; use `placeholder` for one that is not written yet",
            ],
        );
    }

    #[test]
    fn two_nodes_of_one_name_are_an_error_that_names_both_locations() {
        check(
            &Sketch::new().node("p", "n", &[], &["a"]).node("q", "n", &[], &["b"]),
            &[
                "graph::duplicate-node: duplicate node name `n`\n  at n: duplicate, in pipeline `q`\n  at n: first, in pipeline `p`\n  \
               help: rename one, or include its pipeline under a `namespace:`: node names are unique in a project",
            ],
        );
    }

    #[test]
    fn a_node_that_another_pipeline_includes_unchanged_is_one_node_of_both() {
        let graph = Sketch::new()
            .node("part", "n", &["a"], &["b"])
            .include("all", "part")
            .node("all", "m", &["b"], &[])
            .graph();
        let node = graph.node("n").expect("there");
        assert_eq!(
            (node.pipeline.as_str(), node.pipelines.as_slice()),
            ("part", &["part".to_owned(), "all".to_owned()][..])
        );
        assert_eq!(graph.nodes().len(), 2);
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let sketch = Sketch::new()
            .node("p", "n", &["gone"], &["x"])
            .without("gone")
            .node("p", "m", &["params:none"], &["x"])
            .without("params:none")
            .function("m", "nothing")
            .node("p", "k", &[], &[])
            .after("k", &["k"]);
        let codes: Vec<_> = sketch.build().1.iter().map(|problem| problem.code).collect();
        assert_eq!(
            codes,
            [
                "graph::unknown-dataset",
                "graph::unknown-parameter",
                "graph::two-producers",
                "graph::unknown-function",
                "graph::cycle"
            ]
        );
    }

    #[test]
    fn every_code_is_in_the_list() {
        for source in
            [include_str!("build.rs"), include_str!("bind.rs"), include_str!("check.rs"), include_str!("select.rs")]
        {
            let code = source.split_once("#[cfg(test)]").expect("every file has tests").0;
            for literal in
                code.split('"').filter(|literal| literal.starts_with("graph::") || literal.starts_with("selection::"))
            {
                assert!(crate::diagnostic::CODES.iter().any(|known| known.code == literal), "{literal}");
            }
        }
    }

    #[test]
    fn a_long_chain_is_built_and_every_dataset_is_looked_up_once() {
        /// Counts lookups in the catalog.
        struct Counting<'a>(&'a dyn Lookup, Cell<usize>);
        impl Lookup for Counting<'_> {
            fn signature(&self, function: &str) -> Option<Signature> {
                self.0.signature(function)
            }
            fn functions(&self) -> Vec<&str> {
                self.0.functions()
            }
            fn dataset(&self, name: &str) -> Option<DatasetMetadata> {
                self.1.set(self.1.get() + 1);
                self.0.dataset(name)
            }
            fn dataset_names(&self) -> Vec<String> {
                self.0.dataset_names()
            }
            fn has_parameter(&self, path: &str) -> bool {
                self.0.has_parameter(path)
            }
            fn parameter_names(&self) -> Vec<String> {
                self.0.parameter_names()
            }
        }
        let sketch = (0..10_000).fold(Sketch::new(), |sketch, i| {
            let (read, written) = (format!("d{i}"), format!("d{}", i + 1));
            sketch.node("p", &format!("n{i}"), &[&read, "params:p"], &[&written])
        });
        let lookup = sketch.lookup();
        let counting = Counting(&lookup, Cell::new(0));
        let graph = Graph::build(sketch.pipelines(), &counting, &mut Diagnostics::default()).expect("no errors");
        assert_eq!(graph.nodes().len(), 10_000);
        assert_eq!(graph.nodes().last().map(|node| (node.name.as_str(), node.layer)), Some(("n9999", 9_999)));
        assert_eq!(counting.1.get(), 10_001);
    }
}
