//! A checked project: its datasets, its graph, and the parsed parameters of every node.
//!
//! Owns how the lower modules are assembled. A [`Workspace`] can be drawn, planned and run; creating one accesses no disk,
//! network or secrets.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use indexmap::IndexMap;

use super::{confirm, dialects, overlap};
use crate::{
    config::{self, DatasetSpec, Project, ResolvedDataset},
    data::{self, Dataset, DatasetType, WriteOptions},
    diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean},
    embed::{PROVIDERS, ProviderType},
    function::{Arguments, DatasetArgument, Engine, FUNCTIONS, Function, Job},
    graph::{self, DatasetMetadata, Graph, Lookup, NodeId},
    model::{DatasetRef, Fingerprint, Shape, Signature, base_name},
};

/// The dataset types, functions and providers that a project can use. Start from [`Registry::builtin`] and add your own.
#[derive(Clone)]
pub struct Registry {
    /// Dataset types, named by `type:`.
    pub datasets: Vec<&'static dyn DatasetType>,
    /// Functions, named by `function:`.
    pub functions: Vec<&'static dyn Function>,
    /// Providers, named by `provider:`.
    pub providers: Vec<&'static dyn ProviderType>,
    /// What computes the tables of nodes that do not say it.
    pub engine: Engine,
}

impl Registry {
    /// The types, functions and providers that ship with `flow`.
    pub fn builtin() -> Self {
        Self {
            datasets: data::DATASETS.to_vec(),
            functions: FUNCTIONS.to_vec(),
            providers: PROVIDERS.to_vec(),
            engine: Engine::Local,
        }
    }

    fn function(&self, name: &str) -> Option<&'static dyn Function> {
        self.functions.iter().copied().find(|function| function.is_called(name))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("datasets", &self.datasets.iter().map(|t| t.name()).collect::<Vec<_>>())
            .field("functions", &self.functions.iter().map(|t| t.name()).collect::<Vec<_>>())
            .field("providers", &self.providers.iter().map(|t| t.name()).collect::<Vec<_>>())
            .finish()
    }
}

/// A checked project.
#[derive(Debug)]
pub struct Workspace {
    /// The loaded configuration.
    pub project: Project,
    /// The graph of nodes and datasets.
    pub graph: Graph,
    /// Datasets by full name: explicit catalog entries, and those that the pipelines resolve through patterns.
    pub datasets: BTreeMap<String, Arc<dyn Dataset>>,
    /// Indexed by [`NodeId`], in execution order.
    steps: Vec<Arc<Step>>,
    registry: Registry,
}

/// A node with its function, parameters and datasets.
#[derive(Debug)]
pub struct Step {
    /// The id of the node in the graph.
    pub id: NodeId,
    /// The node's name.
    pub name: String,
    /// The function's name.
    pub function: String,
    /// A digest of the function's name and version.
    pub code: Fingerprint,
    /// The function with its parsed parameters.
    pub job: Job,
    /// The datasets it reads.
    pub inputs: Vec<Input>,
    /// The datasets it writes.
    pub outputs: Vec<(DatasetRef, Arc<dyn Dataset>)>,
    /// The datasets whose checkpoint it moves.
    pub confirms: Vec<Arc<dyn Dataset>>,
    /// A digest of the save options of the outputs, part of their fingerprint.
    pub save_options: Fingerprint,
    /// The source location of the node.
    pub span: Span,
    /// The source location of its function's name.
    pub function_span: Span,
}

/// A dataset at an input port.
#[derive(Debug, Clone)]
pub struct Input {
    /// The name of the port, or of the table for functions that accept any tables.
    pub port: String,
    /// The dataset's name without its view.
    pub base: String,
    /// The dataset.
    pub dataset: Arc<dyn Dataset>,
}

impl Step {
    /// The dataset it writes, or the first of them.
    pub fn output(&self) -> &dyn Dataset {
        &*self.outputs.first().expect("the graph checks that every job has an output").1
    }

    /// The partitioned input of a step over partitions.
    pub fn input_of_partitions(&self) -> &Input {
        let input = self.inputs.iter().find(|input| input.dataset.info().shape == Shape::Partitions);
        input.expect("the graph checks that a partition job has an input with partitions")
    }

    /// The dataset whose rows a step over rows computes: partitions, or a table.
    pub fn input_of_rows(&self) -> &Input {
        let input = self.inputs.iter().find(|input| input.dataset.info().shape != Shape::Value);
        input.expect("the graph checks that a job over rows has an input with rows")
    }

    /// The dataset of [`Self::input_of_partitions`].
    pub fn partitions_input(&self) -> &dyn Dataset {
        &*self.input_of_partitions().dataset
    }

    /// How its partitions are computed and saved; the defaults for an output that takes none.
    pub fn write_options(&self) -> WriteOptions {
        self.output().as_partition_sink().map(|sink| sink.write_options()).unwrap_or_default()
    }

    /// The columns that become directories of its output; none for one that takes no table.
    pub fn partition_columns(&self) -> Vec<String> {
        self.output().as_table_sink().map(|sink| sink.partition_columns()).unwrap_or_default()
    }

    /// The base names of its outputs that are kept in memory.
    pub fn memory_outputs(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().filter(|(_, dataset)| !dataset.info().persistent).map(|(name, _)| name.base())
    }
}

impl Workspace {
    /// Assembles a project. `None` on errors, which are added to `problems`. `resolve` returns the real path of a local
    /// path, with links resolved ([`data::normalized`] where there are none).
    pub fn assemble(
        project: Project,
        registry: &Registry,
        resolve: &dyn Fn(&Path) -> PathBuf,
        problems: &mut Diagnostics,
    ) -> Option<Self> {
        overlap::check(&project, resolve, problems);
        let mut datasets = BTreeMap::new();
        for spec in project.catalog.entries.values() {
            if let Some(dataset) = decode(&project, spec, registry, problems) {
                datasets.insert(spec.name.clone(), dataset);
            }
        }
        let lookup = CatalogLookup {
            project: &project,
            registry,
            datasets: RefCell::new(datasets),
            problems: RefCell::default(),
        };
        let graph = Graph::build(&project.pipelines, &lookup, problems);
        let names = project.pipelines.iter().flat_map(|pipeline| &pipeline.nodes).flat_map(|node| &node.confirms);
        names.for_each(|name| drop(lookup.dataset(&name.value)));
        let (datasets, of_patterns) = (lookup.datasets.into_inner(), lookup.problems.into_inner());
        problems.extend(of_patterns);
        let confirmed = confirm::datasets(&project, &datasets, problems);
        let graph = match graph {
            Ok(graph) => graph,
            Err(nodes) => {
                // Report errors in parameters together with those of the graph.
                for node in nodes {
                    if let Some(function) = registry.function(&node.function) {
                        let values = Values {
                            name: &node.name,
                            span: node.span,
                            datasets: &BTreeMap::new(),
                            function: (&node.function, node.function_span),
                            inputs: &node.inputs,
                            outputs: &node.outputs,
                            options: &node.options,
                            unknown_ports: node.unknown_ports,
                        };
                        let _ = values.prepare(function, &project, registry, problems);
                    }
                }
                return None;
            }
        };
        let mut steps = Vec::with_capacity(graph.nodes().len());
        for node in graph.nodes() {
            if let Some(step) = step(node, &project, &datasets, registry, problems) {
                let names = confirmed.get(node.name.as_str()).into_iter().flatten();
                let confirms = names.filter_map(|name| datasets.get(name).cloned()).collect();
                steps.push(Arc::new(Step { confirms, ..step }));
            }
        }
        if problems.has_errors() {
            return None;
        }
        let read = steps.iter().flat_map(|step| step.inputs.iter().map(|input| &input.dataset));
        let written = steps.iter().flat_map(|step| step.outputs.iter().map(|(_, dataset)| dataset));
        dialects::check(&project, read, written, problems);
        Some(Self { project, graph, datasets, steps, registry: registry.clone() })
    }

    /// All steps, in execution order.
    pub fn steps(&self) -> &[Arc<Step>] {
        &self.steps
    }

    /// The step of a node.
    pub fn step(&self, id: NodeId) -> Arc<Step> {
        self.steps[id.index()].clone()
    }

    /// The registry that the project was assembled with.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A dataset by its full name, or the first view of a dataset by its base name.
    ///
    /// # Errors
    /// When there is no such dataset, with a suggestion of a similar name.
    pub fn dataset(&self, name: &str) -> Result<Arc<dyn Dataset>, Diagnostic> {
        if let Some(dataset) = self.datasets.get(name) {
            return Ok(dataset.clone());
        }
        let view = self.datasets.iter().find(|(full, _)| full.split_once('@').is_some_and(|(base, _)| base == name));
        if let Some((_, dataset)) = view {
            return Ok(dataset.clone());
        }
        if let Some(ResolvedDataset { spec, .. }) = self.project.catalog.resolve(name) {
            let mut problems = Diagnostics::default();
            if let Some(dataset) = decode(&self.project, &spec, &self.registry, &mut problems) {
                return Ok(dataset);
            }
            if let Some(problem) = problems.into_sorted().into_iter().next() {
                return Err(problem);
            }
        }
        Err(Diagnostic::error("catalog::unknown-dataset", format!("the catalog has no dataset `{name}`"))
            .help_opt(did_you_mean(name, self.datasets.keys().flat_map(|full| [full.as_str(), base_name(full)]))))
    }
}

/// An entry of the catalog as a dataset. In a Kedro project Kedro's own classes open all of them.
fn decode(
    project: &Project,
    spec: &DatasetSpec,
    registry: &Registry,
    problems: &mut Diagnostics,
) -> Option<Arc<dyn Dataset>> {
    match project.kedro {
        Some(_) => data::decode_of_kedro(spec, &registry.datasets),
        None => data::decode(spec, &registry.datasets, problems),
    }
}

fn step(
    node: &graph::NodeVertex,
    project: &Project,
    datasets: &BTreeMap<String, Arc<dyn Dataset>>,
    registry: &Registry,
    problems: &mut Diagnostics,
) -> Option<Step> {
    let function = registry.function(&node.function).expect("the graph contains only functions of the registry");
    let values = Values {
        name: &node.name,
        span: node.span,
        datasets,
        function: (&node.function, node.function_span),
        inputs: &node.inputs,
        outputs: &node.outputs,
        options: &node.options,
        unknown_ports: Vec::new(),
    };
    let job = values.prepare(function, project, registry, problems)?;
    let dataset = |link: &graph::Link| datasets.get(&link.dataset.to_string()).cloned();
    let outputs: Vec<_> = node.outputs.iter().filter_map(|link| Some((link.dataset.clone(), dataset(link)?))).collect();
    let mut save_options = Fingerprint::builder("save");
    for (_, dataset) in &outputs {
        save_options = save_options.fingerprint(dataset.written_as());
    }
    Some(Step {
        id: node.id,
        name: node.name.clone(),
        function: node.function.clone(),
        code: Fingerprint::builder("function").text(function.name()).number(function.version()).finish(),
        job,
        inputs: node
            .datasets_in()
            .filter_map(|link| {
                Some(Input { port: link.port.clone(), base: link.dataset.base().to_owned(), dataset: dataset(link)? })
            })
            .collect(),
        outputs,
        confirms: Vec::new(),
        save_options: save_options.finish(),
        span: node.span,
        function_span: node.function_span,
    })
}

/// The parameters and tables at the input ports of a node.
struct Values<'a> {
    name: &'a str,
    span: Span,
    datasets: &'a BTreeMap<String, Arc<dyn Dataset>>,
    function: (&'a str, Span),
    inputs: &'a [graph::Link],
    outputs: &'a [graph::Link],
    options: &'a IndexMap<String, config::Node>,
    /// Ports whose values are unknown because of errors already reported.
    unknown_ports: Vec<String>,
}

impl Values<'_> {
    /// Has the function parse its parameters.
    fn prepare(
        self,
        function: &dyn Function,
        project: &Project,
        registry: &Registry,
        problems: &mut Diagnostics,
    ) -> Option<Job> {
        let mut unknown = self.unknown_ports;
        let mut values: IndexMap<String, &config::Node> = IndexMap::new();
        for link in self.inputs {
            let Some(path) = link.parameter() else { continue };
            // An unresolved parameter was reported at its own location. The other keys of a mapping are still checked.
            match project.parameters.at_path(path) {
                Some(node) if node.as_map().is_some() || !node.has_unresolved() => {
                    values.insert(link.port.clone(), node);
                }
                _ => unknown.push(link.port.clone()),
            }
        }
        values.retain(|port, _| !unknown.contains(port));
        for (name, node) in self.options.iter().filter(|(name, _)| !function.options().contains(&name.as_str())) {
            let message = format!("function `{}` takes no `{name}`", self.function.0);
            let taken: Vec<String> = function.options().iter().map(|name| format!("`{name}`")).collect();
            let help = if taken.is_empty() { "remove it".to_owned() } else { format!("it takes {}", taken.join(", ")) };
            problems.push(Diagnostic::error("config::unknown-key", message).at(node.span, "").help(help));
        }
        let argument = |link: &graph::Link| {
            let name = link.dataset.to_string();
            let dataset = self.datasets.get(&name);
            let options = dataset.and_then(|found| found.as_partition_sink()).map(|sink| sink.write_options());
            let options = options.unwrap_or_default();
            DatasetArgument {
                port: link.port.clone(),
                shape: link.shape,
                kind: if link.parameter().is_some() { None } else { kind_as_written(project, &name) },
                external: dataset.and_then(|found| found.as_external()).map(|external| external.entry().clone()),
                readable: dataset.is_none_or(|found| found.info().supported),
                at_once: options.max_workers,
                timeout: options.timeout,
                declared: dataset.and_then(|found| found.declared()).cloned().unwrap_or_default(),
                span: link.span,
                name,
            }
        };
        let tables = self.inputs.iter().filter(|link| link.parameter().is_none());
        let arguments = Arguments {
            node: self.name,
            span: self.span,
            function: self.function,
            inputs: self.inputs.iter().map(argument).collect(),
            outputs: self.outputs.iter().map(argument).collect(),
            options: self.options.iter().map(|(name, node)| (name.clone(), node)).collect(),
            values,
            tables: tables.map(|link| link.port.clone()).collect(),
            unknown,
            providers: &registry.providers,
            root: project.root.clone(),
            engine: registry.engine,
        };
        function.prepare(&arguments, problems).filter(|_| arguments.unknown.is_empty())
    }
}

/// The type of a dataset as the catalog writes it; that of its partitions where it has some.
fn kind_as_written(project: &Project, name: &str) -> Option<String> {
    let spec = project.catalog.resolve(name)?.spec;
    let inner = spec.options.get("dataset").and_then(|inner| inner.as_text().or_else(|| inner.get("type")?.as_text()));
    Some(inner.unwrap_or(&spec.kind.value).to_owned())
}

/// Resolves names for the graph, and creates datasets from patterns on demand.
struct CatalogLookup<'a> {
    project: &'a Project,
    registry: &'a Registry,
    datasets: RefCell<BTreeMap<String, Arc<dyn Dataset>>>,
    /// Errors in datasets created from patterns.
    problems: RefCell<Vec<Diagnostic>>,
}

impl Lookup for CatalogLookup<'_> {
    fn signature(&self, function: &str) -> Option<Signature> {
        self.registry.function(function).map(Function::signature)
    }

    fn functions(&self) -> Vec<&str> {
        self.registry.functions.iter().map(|function| function.name()).collect()
    }

    fn dataset(&self, name: &str) -> Option<DatasetMetadata> {
        let entry = self.project.catalog.entries.get(name);
        if let Some(dataset) = self.datasets.borrow().get(name) {
            return Some(metadata(dataset.info(), entry.map(|spec| spec.name_span)));
        }
        let invalid = |name_span| DatasetMetadata {
            shape: None,
            type_name: String::new(),
            persistent: true,
            supported: false,
            layer: None,
            location: None,
            name_span,
        };
        let Some(resolved) = self.project.catalog.resolve(name) else {
            let broken = &self.project.broken;
            // A pattern that could not be read might have matched it.
            return broken.iter().any(|other| other == name || other.contains('{')).then(|| invalid(None));
        };
        let span = resolved.spec.name_span;
        if resolved.pattern.is_none() {
            return Some(invalid(Some(span)));
        }
        let mut problems = Diagnostics::default();
        let dataset = decode(self.project, &resolved.spec, self.registry, &mut problems);
        self.problems.borrow_mut().extend(problems.into_sorted());
        let Some(dataset) = dataset else { return Some(invalid(Some(span))) };
        let found = metadata(dataset.info(), Some(span));
        self.datasets.borrow_mut().insert(name.to_owned(), dataset);
        Some(found)
    }

    fn dataset_names(&self) -> Vec<String> {
        self.project.catalog.entries.keys().cloned().collect()
    }

    fn has_parameter(&self, path: &str) -> bool {
        self.project.parameters.at_path(path).is_some() || self.project.is_broken_parameter(path)
    }

    fn parameter_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        collect_paths(&self.project.parameters, "", &mut names);
        names
    }
}

fn collect_paths(node: &config::Node, prefix: &str, names: &mut Vec<String>) {
    for (key, entry) in node.as_map().into_iter().flat_map(config::Map::iter) {
        let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        collect_paths(&entry.node, &path, names);
        names.push(path);
    }
}

fn metadata(info: &data::DatasetInfo, name_span: Option<Span>) -> DatasetMetadata {
    DatasetMetadata {
        shape: Some(info.shape),
        type_name: info.type_name.clone(),
        persistent: info.persistent,
        supported: info.supported,
        layer: info.layer.clone(),
        location: info.location.clone(),
        name_span,
    }
}

/// Unset environment variables for secrets that the given steps need, each with the name of a node that needs it.
pub fn missing_secrets<'a>(steps: impl IntoIterator<Item = &'a Arc<Step>>) -> Vec<(String, String)> {
    let mut missing: HashMap<String, String> = HashMap::new();
    for step in steps {
        for variable in step.job.missing_secrets() {
            missing.entry(variable).or_insert_with(|| step.name.clone());
        }
    }
    let mut missing: Vec<_> = missing.into_iter().collect();
    missing.sort();
    missing
}
