//! The tasks of a selection: which nodes run together, what comes before what, and which task is divided into shards.

use std::collections::{BTreeMap, HashMap};

use super::{
    fuse::{FuseInput, Fused, fuse},
    names::Names,
};
use crate::{
    config::Resources,
    diagnostic::{Diagnostic, Diagnostics},
    graph::{DatasetVertex, Graph, NodeId, NodeVertex},
};

/// The tag of nodes that may share a task with others.
const FUSE: &str = "argowf.fuse";
/// The beginning of the tag that says with which.
const FUSE_GROUP: &str = "argowf.fuse-group.";

/// What is to be planned, besides the graph.
pub struct PlanRequest<'a> {
    /// The selection, in execution order.
    pub selected: &'a [NodeId],
    /// True for a node that works partition by partition.
    pub partitioned: &'a dyn Fn(NodeId) -> bool,
    /// True for a location that every task reaches.
    pub shared: &'a dyn Fn(&str) -> bool,
    /// Where data lies that only one task reaches, for messages.
    pub not_shared: &'a str,
    /// What to do about it, for messages.
    pub way_out: &'a str,
    /// The folder that keeps what a node pays for until its table is written, where there is one.
    pub answers: &'a dyn Fn(NodeId) -> Option<String>,
    /// How a folder outlives a task, for messages.
    pub keep_folder: &'a dyn Fn(&str) -> String,
    /// True if data that no other task reads is lost with the task that wrote it, unless it is shared.
    pub outputs_are_lost: bool,
    /// Shards of partitioned nodes that do not say it themselves.
    pub shards: Option<u32>,
    /// Shards that run at the same time.
    pub parallel: Option<u32>,
}

/// Tasks in an order of execution.
#[derive(Debug, Clone, Default)]
pub struct TaskPlan {
    /// The name of the only pipeline, else of the program.
    pub title: String,
    /// The tasks.
    pub tasks: Vec<Task>,
}

/// What an engine starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Small letters, digits and `-`; unique.
    pub name: String,
    /// Nodes, in execution order.
    pub nodes: Vec<String>,
    /// How it runs them.
    pub kind: TaskKind,
    /// The tasks that come first, by their positions.
    pub after: Vec<usize>,
    /// What it needs.
    pub resources: Resources,
    /// True if Python processes, whose memory is counted, run some of its nodes.
    pub python: bool,
}

/// How a task runs its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// Once.
    Run,
    /// As many tasks, each with a part of the partitions.
    Shards {
        /// How many.
        count: u32,
        /// How many at the same time.
        parallel: u32,
    },
    /// Once, after its shards: finishes what is missing and removes what is stale.
    Gather,
}

/// The ending of a task with shards.
const SHARDS: &str = "-shards";
/// The ending of the task that comes after them.
const GATHER: &str = "-gather";

impl TaskPlan {
    /// Plans the tasks. Warnings and errors go to `problems`; with errors, the plan must not be used.
    pub fn new(graph: &Graph, request: &PlanRequest<'_>, problems: &mut Diagnostics) -> Self {
        let nodes: Vec<&NodeVertex> = request.selected.iter().map(|id| &graph[*id]).collect();
        let shards: Vec<Option<u32>> = nodes.iter().map(|node| shards(node, request, problems)).collect();
        let (input, group_names) = fuse_input(graph, &nodes, &shards, problems);
        let fused = fuse(&input);
        warn(&fused, &input, &nodes, &group_names, problems);
        let mut block_of = vec![0; nodes.len()];
        for (block, members) in fused.blocks.iter().enumerate() {
            members.iter().for_each(|node| block_of[*node] = block);
        }
        check_data(graph, &nodes, &block_of, request, problems);
        check_answers(&nodes, request, problems);
        let mut names = Names::default();
        let mut tasks: Vec<Task> = Vec::new();
        // The task after which the nodes of a block are done.
        let mut last: Vec<usize> = Vec::new();
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); fused.blocks.len()];
        for &(from, to) in &input.edges {
            before[block_of[to]].push(block_of[from]);
        }
        for (block, members) in fused.blocks.iter().enumerate() {
            let own: Vec<&NodeVertex> = members.iter().map(|node| nodes[*node]).collect();
            let group = input.groups[members[0]].map(|group| group_names[group].as_str());
            let title = group.unwrap_or(&own[0].name);
            let resources = own.iter().filter_map(|node| node.resources).reduce(Resources::max).unwrap_or_default();
            let mut after: Vec<usize> =
                before[block].iter().filter(|other| **other != block).map(|other| last[*other]).collect();
            after.sort_unstable();
            after.dedup();
            let task = |name: String, kind: TaskKind, after: Vec<usize>| Task {
                name,
                nodes: own.iter().map(|node| node.name.clone()).collect(),
                kind,
                after,
                resources: Resources { shards: None, ..resources },
                python: own.iter().any(|node| node.function.starts_with("python:")),
            };
            match shards[members[0]] {
                Some(count) => {
                    let name = names.take(title, &[SHARDS, GATHER]);
                    let parallel = request.parallel.map_or(count, |parallel| parallel.min(count));
                    tasks.push(task(format!("{name}{SHARDS}"), TaskKind::Shards { count, parallel }, after));
                    tasks.push(task(format!("{name}{GATHER}"), TaskKind::Gather, vec![tasks.len() - 1]));
                }
                None => tasks.push(task(names.take(title, &[""]), TaskKind::Run, after)),
            }
            last.push(tasks.len() - 1);
        }
        Self { title: title(&nodes), tasks }
    }
}

/// The name of the only pipeline, else the program's.
fn title(nodes: &[&NodeVertex]) -> String {
    let mut names: Vec<&str> = nodes.iter().map(|node| node.pipeline.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [one] => (*one).to_owned(),
        _ => "flow".to_owned(),
    }
}

/// How many shards a node gets; `None` for one.
fn shards(node: &NodeVertex, request: &PlanRequest<'_>, problems: &mut Diagnostics) -> Option<u32> {
    let own = node.resources.and_then(|resources| resources.shards);
    let partitioned = (request.partitioned)(node.id);
    if let Some(count) = own.filter(|count| *count > 1 && !partitioned) {
        let message = format!("node `{}` asks for {count} shards, but does not work partition by partition", node.name);
        let span = node.resources.and_then(|resources| resources.span).unwrap_or(node.span);
        problems.push(
            Diagnostic::error("compile::no-partitions", message)
                .at(span, "")
                .help("remove `shards`: only the partitions of a node can be shared by several tasks"),
        );
    }
    own.or(request.shards.filter(|_| partitioned)).filter(|count| *count > 1)
}

/// The numbers of [`fuse`], and the names of the groups.
fn fuse_input(
    graph: &Graph,
    nodes: &[&NodeVertex],
    shards: &[Option<u32>],
    problems: &mut Diagnostics,
) -> (FuseInput, Vec<String>) {
    let position: HashMap<NodeId, usize> = nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
    let mut input = FuseInput::default();
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let mut tags: Vec<&str> = node.tags.iter().filter_map(|tag| tag.strip_prefix(FUSE_GROUP)).collect();
        tags.sort_unstable();
        tags.dedup();
        let may_fuse = node.tags.iter().any(|tag| tag == FUSE);
        let odd = match tags.as_slice() {
            [] if may_fuse => {
                Some(format!("has the tag `{FUSE}` and no tag `{FUSE_GROUP}NAME`: it is a task of its own"))
            }
            [first, ..] if !may_fuse => {
                Some(format!("has the tag `{FUSE_GROUP}{first}` and not `{FUSE}`: it is a task of its own"))
            }
            [first, second, ..] => {
                Some(format!("is in the fuse groups `{first}` and `{second}`: the first one counts"))
            }
            _ => None,
        };
        if let Some(odd) = odd {
            let message = format!("node `{}` {odd}", node.name);
            problems.push(Diagnostic::warning("compile::fuse-tags", message).at(node.span, ""));
        }
        // Shards are tasks by themselves.
        let group = tags.first().filter(|_| may_fuse && shards[at].is_none()).map(|name| {
            *groups.entry(name).or_insert_with(|| {
                names.push((*name).to_owned());
                names.len() - 1
            })
        });
        input.groups.push(group);
        for other in graph.dependencies(node.id) {
            input.edges.extend(position.get(&other).map(|from| (*from, at)));
        }
        let producers = node.datasets_in().filter_map(|link| graph.dataset(link.dataset.base())?.producer);
        input.data_edges.extend(producers.filter_map(|id| Some((*position.get(&id)?, at))));
    }
    input.data_edges.sort_unstable();
    input.data_edges.dedup();
    (input, names)
}

/// Says which groups could not be one task, and why.
fn warn(fused: &Fused, input: &FuseInput, nodes: &[&NodeVertex], names: &[String], problems: &mut Diagnostics) {
    for divided in &fused.divided {
        let first = divided.nodes[0];
        let group = input.groups[first].map_or("", |group| names[group].as_str());
        let parts: Vec<String> = fused
            .blocks
            .iter()
            .filter(|block| divided.nodes.contains(&block[0]))
            .map(|block| block.iter().map(|node| format!("`{}`", nodes[*node].name)).collect::<Vec<_>>().join(" + "))
            .collect();
        let message = format!(
            "fuse group `{group}` cannot be one task: `{}` runs after one of its nodes and before another",
            nodes[divided.between].name
        );
        problems.push(
            Diagnostic::warning("compile::divided-group", message)
                .at(nodes[divided.between].span, "")
                .help(format!("it is divided into {}; to keep it together, add this node to it", parts.join(", "))),
        );
    }
}

/// Every dataset that leaves a task must be where the next one reaches it.
fn check_data(
    graph: &Graph,
    nodes: &[&NodeVertex],
    block_of: &[usize],
    request: &PlanRequest<'_>,
    problems: &mut Diagnostics,
) {
    let position: HashMap<NodeId, usize> = nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
    for (at, node) in nodes.iter().enumerate() {
        for link in &node.outputs {
            let Some(dataset) = graph.dataset(link.dataset.base()) else { continue };
            let readers = || dataset.consumers.iter().filter_map(|id| position.get(id));
            let elsewhere = readers().find(|reader| block_of[**reader] != block_of[at]);
            let inside = readers().next().is_some() && elsewhere.is_none();
            let Some(problem) = problem_of(dataset, node, elsewhere.map(|at| nodes[*at]), inside, request) else {
                continue;
            };
            problems.push(problem.at(link.span, "written here"));
        }
    }
}

/// Warns of answers that are paid for again after an attempt that was stopped, as they are lost with its disk.
fn check_answers(nodes: &[&NodeVertex], request: &PlanRequest<'_>, problems: &mut Diagnostics) {
    for node in nodes {
        let Some(folder) = (request.answers)(node.id).filter(|folder| !(request.shared)(folder)) else { continue };
        let message = format!(
            "node `{}` writes a table at its end, and what it pays for until then is in `{folder}`, {}: an attempt that is stopped asks, \
             and pays, for all rows again",
            node.name, request.not_shared
        );
        problems.push(
            Diagnostic::warning("compile::answers-not-kept", message)
                .at(node.span, "")
                .help((request.keep_folder)(&folder))
                .help("or cut the table with `bucketize`: partitions are saved one by one"),
        );
    }
}

fn problem_of(
    dataset: &DatasetVertex,
    node: &NodeVertex,
    elsewhere: Option<&NodeVertex>,
    inside: bool,
    request: &PlanRequest<'_>,
) -> Option<Diagnostic> {
    let location = dataset.views.iter().find_map(|view| view.metadata.location.as_deref());
    // `memory://` is a store that outlives a node, and not the process.
    let in_memory = !dataset.persistent() || location.is_none_or(|location| location.starts_with("memory:"));
    let base = &dataset.base;
    let together = format!("or put both nodes into one task, with the tags `{FUSE}` and `{FUSE_GROUP}NAME`");
    if in_memory {
        let reader = elsewhere?;
        let message = format!(
            "`{base}` is in memory, but `{}` runs in another task than `{}`, which writes it",
            reader.name, node.name
        );
        return Some(
            Diagnostic::error("compile::in-memory", message)
                .help(format!("give `{base}` an entry with a path in the catalog, {together}")),
        );
    }
    if location.is_some_and(request.shared) || inside {
        return None;
    }
    let location = location.unwrap_or_default();
    let message = match elsewhere {
        Some(reader) => format!(
            "`{base}` ({location}) is {}, but `{}` runs in another task than `{}`, which writes it",
            request.not_shared, reader.name, node.name
        ),
        None if request.outputs_are_lost => {
            format!(
                "`{base}` ({location}) is {}, and is lost when the task of `{}` ends",
                request.not_shared, node.name
            )
        }
        None => return None,
    };
    let way_out = request.way_out;
    let help = if elsewhere.is_some() { format!("{way_out}, {together}") } else { way_out.to_owned() };
    Some(Diagnostic::error("compile::not-shared", message).help(help))
}
