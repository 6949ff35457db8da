//! Builds the graph and finds everything that is wrong with it, all at once.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexMap;
use petgraph::graph::{DiGraph, NodeIndex};

use super::{Dataset, DatasetFacts, Edge, Graph, Link, Lookup, Node, NodeId, Parameter, Vertex, View};
use crate::{
    config::{NodeSpec, PipelineSpec, Spanned},
    diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean},
    model::{DatasetRef, Signature},
};

/// How many suggestions are looked for. Each reads all names, and nobody reads the hundredth.
const SUGGESTIONS: usize = 100;

impl Graph {
    /// Builds the graph of these pipelines. All problems go to `problems`.
    ///
    /// # Errors
    /// When one of the problems is an error, with the nodes as far as they are known.
    ///
    /// A node that one pipeline file holds and others include unchanged is one node of several pipelines.
    pub fn build(
        pipelines: &[PipelineSpec],
        lookup: &dyn Lookup,
        problems: &mut Diagnostics,
    ) -> Result<Self, Vec<Unfinished>> {
        let mut builder = Builder::new(lookup, problems);
        let drafts = builder.drafts(pipelines);
        let uses = builder.uses(&drafts);
        builder.check_views(&uses);
        let graph = builder.assemble(&drafts, &uses);
        builder.check_cycles(&graph, &drafts, &uses);
        if builder.failed {
            return Err(drafts.into_iter().map(Unfinished::from).collect());
        }
        Ok(finish(pipelines, drafts, uses, graph, builder.facts))
    }
}

/// A node on its way into the graph.
pub(super) struct Draft<'a> {
    pub spec: &'a NodeSpec,
    pub pipelines: Vec<&'a str>,
    pub inputs: Vec<Link>,
    pub outputs: Vec<Link>,
    /// Input ports of which nothing is known, as was reported.
    pub unsure: Vec<String>,
    /// Positions of other drafts, and where they are named.
    pub after: Vec<(usize, Span)>,
}

/// A node of a graph that could not be built.
#[derive(Debug, Clone)]
pub struct Unfinished {
    /// Its name.
    pub name: String,
    /// Where its name stands.
    pub span: Span,
    /// Its function, which may not exist.
    pub function: String,
    /// What fills its input ports.
    pub inputs: Vec<Link>,
    /// Input ports of which nothing is known, as was reported.
    pub unsure: Vec<String>,
}

impl From<Draft<'_>> for Unfinished {
    fn from(draft: Draft<'_>) -> Self {
        Self {
            name: draft.spec.name.value.clone(),
            span: draft.spec.name.span,
            function: draft.spec.function.value.clone(),
            inputs: draft.inputs,
            unsure: draft.unsure,
        }
    }
}

/// Who uses what: positions of drafts and of their links, by dataset base and by parameter path.
#[derive(Default)]
pub(super) struct Uses {
    pub datasets: BTreeMap<String, Use>,
    pub parameters: BTreeMap<String, Vec<(usize, usize)>>,
}

#[derive(Default)]
pub(super) struct Use {
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
    /// What the catalog says of every name that was asked for.
    facts: HashMap<DatasetRef, Option<DatasetFacts>>,
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
            facts: HashMap::new(),
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

    pub fn facts(&mut self, name: &DatasetRef) -> Option<&DatasetFacts> {
        let lookup = self.lookup;
        self.facts.entry(name.clone()).or_insert_with_key(|name| lookup.dataset(&name.to_string())).as_ref()
    }

    fn drafts(&mut self, pipelines: &'a [PipelineSpec]) -> Vec<Draft<'a>> {
        let mut drafts: Vec<Draft<'a>> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for pipeline in pipelines {
            for spec in &pipeline.nodes {
                if let Some(&first) = places.get(spec.name.value.as_str()) {
                    if is_same(drafts[first].spec, spec) {
                        drafts[first].pipelines.push(&pipeline.name);
                    } else {
                        self.duplicate(drafts[first].spec, spec);
                    }
                    continue;
                }
                places.insert(&spec.name.value, drafts.len());
                let pipelines = vec![pipeline.name.as_str()];
                drafts.push(Draft {
                    spec,
                    pipelines,
                    inputs: Vec::new(),
                    outputs: Vec::new(),
                    unsure: Vec::new(),
                    after: Vec::new(),
                });
            }
        }
        for draft in &mut drafts {
            let signature = self.signature(&draft.spec.function);
            (draft.inputs, draft.unsure) = self.bind(draft.spec, &draft.spec.inputs, signature, Side::Input);
            (draft.outputs, _) = self.bind(draft.spec, &draft.spec.outputs, signature, Side::Output);
            for after in &draft.spec.after {
                match places.get(after.value.as_str()) {
                    Some(&place) => draft.after.push((place, after.span)),
                    None => self.unknown_after(draft.spec, after, &places),
                }
            }
        }
        drafts
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
        // Left out, which was reported.
        if name.is_empty() {
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

    fn unknown_after(&mut self, spec: &NodeSpec, after: &Spanned<String>, places: &HashMap<&str, usize>) {
        let help = self.suggest(&after.value, || {
            let mut names: Vec<_> = places.keys().copied().collect();
            names.sort_unstable();
            names
        });
        let message = format!("node `{}` comes after `{}`, which does not exist", spec.name.value, after.value);
        self.error(Diagnostic::error("graph::unknown-node", message).at(after.span, "").help_opt(help));
    }

    /// Who uses what, and the mistakes that only show when all uses are seen together.
    fn uses(&mut self, drafts: &[Draft<'_>]) -> Uses {
        let mut uses = Uses::default();
        for (place, draft) in drafts.iter().enumerate() {
            for (position, link) in draft.inputs.iter().enumerate() {
                match link.parameter() {
                    Some(path) => uses.parameters.entry(path.to_owned()).or_default().push((place, position)),
                    None => uses.dataset(link).readers.push((place, position)),
                }
            }
            for (position, link) in draft.outputs.iter().enumerate() {
                uses.dataset(link).writers.push((place, position));
            }
        }
        for (base, usage) in &uses.datasets {
            self.check_writers(base, usage, drafts);
            self.check_bare_names(base, usage, drafts);
        }
        uses
    }

    /// Vertices and edges. Nodes carry their position among the drafts as id for now.
    fn assemble(&mut self, drafts: &[Draft<'_>], uses: &Uses) -> DiGraph<Vertex, Edge> {
        let links: usize = drafts.iter().map(|d| d.inputs.len() + d.outputs.len() + d.after.len()).sum();
        let vertices = drafts.len() + uses.datasets.len() + uses.parameters.len();
        let mut graph = DiGraph::with_capacity(vertices, links);
        // Vertices come in three runs, so that a node's vertex has the number of its draft.
        for place in 0..drafts.len() {
            graph.add_node(Vertex::Node(NodeId::from_index(place)));
        }
        for (position, usage) in uses.datasets.values().enumerate() {
            let vertex = graph.add_node(Vertex::Dataset(position));
            for (place, link) in &usage.writers {
                graph.add_edge(NodeIndex::new(*place), vertex, Edge::Output(*link));
            }
            for (place, link) in &usage.readers {
                // A node that reads what it writes has been reported; it is not reported again as a cycle.
                if usage.writers.iter().all(|(writer, _)| writer != place) {
                    graph.add_edge(vertex, NodeIndex::new(*place), Edge::Input(*link));
                }
            }
        }
        for (position, readers) in uses.parameters.values().enumerate() {
            let vertex = graph.add_node(Vertex::Parameter(position));
            for (place, link) in readers {
                graph.add_edge(vertex, NodeIndex::new(*place), Edge::Input(*link));
            }
        }
        for (place, draft) in drafts.iter().enumerate() {
            for (other, _) in &draft.after {
                graph.add_edge(NodeIndex::new(*other), NodeIndex::new(place), Edge::After);
            }
        }
        graph
    }
}

impl Uses {
    fn dataset(&mut self, link: &Link) -> &mut Use {
        self.datasets.entry(link.dataset.base().to_owned()).or_default()
    }
}

/// True when a node was written once and reached two pipelines unchanged.
fn is_same(one: &NodeSpec, other: &NodeSpec) -> bool {
    one.span == other.span
        && one.name == other.name
        && one.function == other.function
        && one.inputs == other.inputs
        && one.outputs == other.outputs
        && one.after == other.after
        && one.namespace == other.namespace
        && one.tags == other.tags
}

/// Puts nodes into execution order and gives everything its final shape. The graph has no cycle and no unknown name.
fn finish(
    pipelines: &[PipelineSpec],
    drafts: Vec<Draft<'_>>,
    uses: Uses,
    mut graph: DiGraph<Vertex, Edge>,
    mut facts: HashMap<DatasetRef, Option<DatasetFacts>>,
) -> Graph {
    let layers = layers(&graph);
    let mut order: Vec<usize> = (0..drafts.len()).collect();
    order.sort_unstable_by_key(|&place| (layers[place], &drafts[place].spec.name.value));
    let mut ids = vec![NodeId::from_index(0); drafts.len()];
    let mut node_vertices = Vec::with_capacity(drafts.len());
    for (position, &place) in order.iter().enumerate() {
        ids[place] = NodeId::from_index(position);
        node_vertices.push(NodeIndex::new(place));
    }
    for vertex in graph.node_weights_mut() {
        if let Vertex::Node(id) = vertex {
            *id = ids[id.index()];
        }
    }
    let sorted = |readers: &[(usize, usize)]| {
        let mut consumers: Vec<_> = readers.iter().map(|(place, _)| ids[*place]).collect();
        consumers.sort_unstable();
        consumers.dedup();
        consumers
    };
    let datasets = uses.datasets.iter().map(|(base, usage)| {
        let written = usage.writers.iter().map(|(place, link)| &drafts[*place].outputs[*link]);
        let read = usage.readers.iter().map(|(place, link)| &drafts[*place].inputs[*link]);
        let mut names: Vec<_> = written.chain(read).map(|link| link.dataset.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let view = |name: DatasetRef| {
            // Every full name belongs to one dataset, so its facts are taken once.
            let facts = facts.remove(&name).flatten().expect("an unknown dataset has failed the build");
            View { name, facts }
        };
        let dataset = Dataset {
            base: base.clone(),
            views: names.into_iter().map(view).collect(),
            producer: usage.writers.first().map(|(place, _)| ids[*place]),
            consumers: sorted(&usage.readers),
        };
        (base.clone(), dataset)
    });
    let datasets: IndexMap<_, _> = datasets.collect();
    let parameters = uses
        .parameters
        .iter()
        .map(|(path, readers)| (path.clone(), Parameter { path: path.clone(), consumers: sorted(readers) }))
        .collect();
    let mut drafts: Vec<Option<Draft<'_>>> = drafts.into_iter().map(Some).collect();
    let nodes: Vec<Node> = order
        .into_iter()
        .map(|place| {
            let draft = drafts[place].take().expect("an order holds every place once");
            node(ids[place], layers[place], draft, &ids)
        })
        .collect();
    let names = nodes.iter().map(|node| (node.name.clone(), node.id)).collect();
    let pipelines = pipelines.iter().map(|pipeline| pipeline.name.clone()).collect();
    Graph { vertices: graph, nodes, node_vertices, names, datasets, parameters, pipelines }
}

fn node(id: NodeId, layer: usize, draft: Draft<'_>, ids: &[NodeId]) -> Node {
    let Draft { spec, pipelines, inputs, outputs, unsure: _, after } = draft;
    let mut after: Vec<_> = after.into_iter().map(|(place, _)| ids[place]).collect();
    after.sort_unstable();
    after.dedup();
    let home = if pipelines.contains(&spec.pipeline.as_str()) { spec.pipeline.as_str() } else { pipelines[0] };
    Node {
        id,
        name: spec.name.value.clone(),
        span: spec.name.span,
        pipeline: home.to_owned(),
        pipelines: pipelines.into_iter().map(str::to_owned).collect(),
        function: spec.function.value.clone(),
        inputs,
        outputs,
        tags: spec.tags.clone(),
        namespace: spec.namespace.clone(),
        after,
        resources: spec.resources.clone(),
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
    fn two_nodes_of_one_name_are_an_error_that_names_both_places() {
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
    fn everything_wrong_is_told_at_once() {
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
        /// Counts what is asked of the catalog.
        struct Counting<'a>(&'a dyn Lookup, Cell<usize>);
        impl Lookup for Counting<'_> {
            fn signature(&self, function: &str) -> Option<Signature> {
                self.0.signature(function)
            }
            fn functions(&self) -> Vec<&str> {
                self.0.functions()
            }
            fn dataset(&self, name: &str) -> Option<DatasetFacts> {
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
