//! Small graphs for tests, with spans that point into a made-up file.

use std::collections::{BTreeMap, BTreeSet};

use super::{DatasetMetadata, Graph, Lookup};
use crate::{
    config::{Binding, Bindings, NodeSpec, PipelineSpec, Resources, Spanned},
    diagnostic::{Diagnostic, Diagnostics, SourceId, Span},
    model::{Port, Shape, Signature, base_name},
};

/// Pipelines under construction. Everything that a node names exists, unless it is [`Sketch::without`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Sketch {
    text: String,
    pipelines: Vec<PipelineSpec>,
    missing: BTreeSet<String>,
    catalog: BTreeMap<String, DatasetMetadata>,
}

impl Sketch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pipeline without nodes.
    pub fn pipeline(mut self, name: &str) -> Self {
        if self.pipelines.iter().all(|pipeline| pipeline.name != name) {
            self.pipelines.push(PipelineSpec { name: name.to_owned(), description: None, nodes: Vec::new() });
        }
        self
    }

    /// Adds a node of the function `placeholder`. `port=dataset` names a port, `dataset` alone fills the next.
    pub fn node(mut self, pipeline: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        self = self.pipeline(pipeline);
        let spec = NodeSpec {
            name: self.spanned(name),
            pipeline: pipeline.to_owned(),
            function: self.spanned("placeholder"),
            inputs: self.bindings(inputs),
            outputs: self.bindings(outputs),
            tags: Vec::new(),
            after: Vec::new(),
            confirms: Vec::new(),
            namespace: None,
            resources: None,
            options: Default::default(),
            span: self.span(name),
        };
        let holder = self.pipelines.iter_mut().find(|p| p.name == pipeline).expect("added above");
        holder.nodes.push(spec);
        self
    }

    /// Lets a pipeline include all nodes that another one holds, unchanged.
    pub fn include(mut self, pipeline: &str, other: &str) -> Self {
        self = self.pipeline(pipeline);
        let nodes = self.pipelines.iter().find(|p| p.name == other).expect("a pipeline").nodes.clone();
        self.pipelines.iter_mut().find(|p| p.name == pipeline).expect("added above").nodes.extend(nodes);
        self
    }

    /// Gives a node a function.
    pub fn function(mut self, node: &str, function: &str) -> Self {
        let function = self.spanned(function);
        self.spec(node).function = function;
        self
    }

    pub fn tags(mut self, node: &str, tags: &[&str]) -> Self {
        self.spec(node).tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        self
    }

    pub fn resources(mut self, node: &str, resources: Resources) -> Self {
        self.spec(node).resources = Some(resources);
        self
    }

    pub fn namespace(mut self, node: &str, namespace: &str) -> Self {
        self.spec(node).namespace = Some(namespace.to_owned());
        self
    }

    pub fn after(mut self, node: &str, others: &[&str]) -> Self {
        let after = others.iter().map(|other| self.spanned(other)).collect();
        self.spec(node).after = after;
        self
    }

    /// Makes a name (`params:…` too) unknown.
    pub fn without(mut self, name: &str) -> Self {
        self.missing.insert(name.to_owned());
        self
    }

    /// Adds a dataset to the catalog, or says more of one that nodes name.
    pub fn dataset(mut self, name: &str, edit: impl FnOnce(&mut DatasetMetadata)) -> Self {
        let span = self.span(name);
        let mut metadata = metadata(name);
        metadata.name_span = Some(span);
        edit(&mut metadata);
        self.catalog.insert(name.to_owned(), metadata);
        self
    }

    /// The graph, which must be without errors.
    pub fn graph(&self) -> Graph {
        let (graph, problems) = self.build();
        graph.unwrap_or_else(|| panic!("{problems:#?}"))
    }

    pub fn build(&self) -> (Option<Graph>, Vec<Diagnostic>) {
        let mut problems = Diagnostics::default();
        let graph = Graph::build(&self.pipelines, &self.lookup(), &mut problems);
        (graph.ok(), problems.into_sorted())
    }

    pub fn lookup(&self) -> SketchLookup {
        let mut datasets = self.catalog.clone();
        let mut parameters = BTreeSet::new();
        for node in self.pipelines.iter().flat_map(|pipeline| &pipeline.nodes) {
            for binding in node.inputs.list.iter().chain(&node.outputs.list) {
                let name = &binding.dataset.value;
                match name.strip_prefix("params:") {
                    Some(path) => drop(parameters.insert(path.to_owned())),
                    None => drop(datasets.entry(name.clone()).or_insert_with(|| metadata(name))),
                }
            }
        }
        for name in &self.missing {
            datasets.remove(name);
            parameters.remove(name.trim_start_matches("params:"));
        }
        SketchLookup { datasets, parameters }
    }

    pub fn pipelines(&self) -> &[PipelineSpec] {
        &self.pipelines
    }

    /// Problems as strings: `code: message`, then lines `  at <source text>: <label>` and `  help: …`.
    pub fn problems(&self) -> Vec<String> {
        let (graph, problems) = self.build();
        let errors = problems.iter().any(|problem| problem.severity == crate::diagnostic::Severity::Error);
        assert_eq!(graph.is_none(), errors, "there is a graph exactly when there is no error");
        problems.iter().map(|problem| self.show(problem)).collect()
    }

    fn show(&self, problem: &Diagnostic) -> String {
        let labels = problem
            .labels
            .iter()
            .map(|label| format!("\n  at {}: {}", &self.text[label.span.start..label.span.end], label.text));
        let help = problem.help.iter().map(|help| format!("\n  help: {help}"));
        let rest: String = labels.chain(help).collect();
        format!("{}: {}{rest}", problem.code, problem.message)
    }

    fn spec(&mut self, node: &str) -> &mut NodeSpec {
        let mut nodes = self.pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.nodes);
        nodes.find(|spec| spec.name.value == node).expect("a node of this name")
    }

    fn bindings(&mut self, names: &[&str]) -> Bindings {
        let list = names.iter().map(|name| match name.split_once('=') {
            Some((port, dataset)) => Binding { port: Some(self.spanned(port)), dataset: self.spanned(dataset) },
            None => Binding { port: None, dataset: self.spanned(name) },
        });
        Bindings { list: list.collect(), incomplete: false }
    }

    fn spanned(&mut self, text: &str) -> Spanned<String> {
        Spanned { value: text.to_owned(), span: self.span(text) }
    }

    /// Every string gets a line of its own, so that every span differs.
    fn span(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        let span = Span { source: SourceId(0), start, end: self.text.len() };
        self.text.push('\n');
        span
    }
}

/// A dataset of a view `@partitioned` has partitions, of a view `@value` is a value, of any other is a table.
fn metadata(name: &str) -> DatasetMetadata {
    let shape = match name.split_once('@') {
        Some((_, "partitioned")) => Shape::Partitions,
        Some((_, "value")) => Shape::Value,
        _ => Shape::Table,
    };
    let base = base_name(name);
    DatasetMetadata {
        shape: Some(shape),
        type_name: if shape == Shape::Partitions { "partitioned" } else { "parquet" }.to_owned(),
        persistent: true,
        supported: true,
        layer: None,
        location: Some(format!("data/{base}")),
        name_span: None,
    }
}

pub(crate) struct SketchLookup {
    datasets: BTreeMap<String, DatasetMetadata>,
    parameters: BTreeSet<String>,
}

const FUNCTIONS: &[(&str, Signature)] = &[
    (
        "bucketize",
        Signature {
            inputs: &[
                Port::required("df", Shape::Table, "the table to cut"),
                Port::required("bucket_size", Shape::Value, "rows in a bucket"),
                Port::optional("id", Shape::Value, "the column to order by"),
            ],
            outputs: &[Port::required("table", Shape::Table, "the buckets")],
            more_inputs: None,
            anything: false,
        },
    ),
    (
        "embed",
        Signature {
            inputs: &[
                Port::required("dfs", Shape::Partitions, "what to embed"),
                Port::required("model", Shape::Value, "with what"),
            ],
            outputs: &[Port::required("dfs", Shape::Partitions, "the vectors")],
            more_inputs: None,
            anything: false,
        },
    ),
    (
        "ask",
        Signature {
            inputs: &[
                Port::required("dfs", Shape::Partitions, "rows to ask about").or_table(),
                Port::required("api", Shape::Value, "whom"),
            ],
            outputs: &[Port::required("result", Shape::Partitions, "the answers").or_table()],
            more_inputs: None,
            anything: false,
        },
    ),
    ("placeholder", Signature { inputs: &[], outputs: &[], more_inputs: None, anything: true }),
    ("python:work.clean", Signature { inputs: &[], outputs: &[], more_inputs: None, anything: true }),
    (
        "sql",
        Signature {
            inputs: &[Port::optional("query", Shape::Value, "the query")],
            outputs: &[Port::required("table", Shape::Table, "the result")],
            more_inputs: Some(Shape::Table),
            anything: false,
        },
    ),
];

impl Lookup for SketchLookup {
    fn signature(&self, function: &str) -> Option<Signature> {
        FUNCTIONS.iter().find(|(name, _)| *name == function).map(|(_, signature)| *signature)
    }

    fn functions(&self) -> Vec<&str> {
        FUNCTIONS.iter().map(|(name, _)| *name).collect()
    }

    fn dataset(&self, name: &str) -> Option<DatasetMetadata> {
        self.datasets.get(name).cloned()
    }

    fn dataset_names(&self) -> Vec<String> {
        self.datasets.keys().cloned().collect()
    }

    fn has_parameter(&self, path: &str) -> bool {
        self.parameters.contains(path)
    }

    fn parameter_names(&self) -> Vec<String> {
        self.parameters.iter().cloned().collect()
    }
}

/// The problems of a sketch, which must be exactly these.
pub(crate) fn check(sketch: &Sketch, wanted: &[&str]) {
    let found = sketch.problems();
    assert_eq!(found, wanted, "\n--- found\n{}\n", found.join("\n"));
}
