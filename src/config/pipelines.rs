//! Pipelines: nodes from the resolved files, `include:` expanded.

use std::collections::HashSet;

use super::{
    fields::{Field, Kind},
    include::{self, PipelineFile},
    record::Record,
    resources::{RESOURCE_FIELDS, Resources},
    spark::SPARK_FIELDS,
    spec::{Binding, Bindings, NodeSpec, PipelineSpec, Spanned},
    tree::{Node, Value},
};
use crate::diagnostic::{Diagnostic, Diagnostics, Span};

/// Keys of a pipeline file.
pub static PIPELINE_FIELDS: &[Field] = &[
    Field::optional("description", Kind::Text, "", "One line for lists and drawings."),
    Field::optional("nodes", Kind::Any, "", "The nodes, in any order: datasets give the order."),
    Field::optional("include", Kind::Any, "", "Other pipeline files whose nodes belong here too."),
];

/// Keys of a node.
pub static NODE_FIELDS: &[Field] = &[
    Field::required("name", Kind::Text, "Its name, unique in the project: letters, digits, `_`, `-` and `.`."),
    Field::required("function", Kind::Text, "What it does; `flow ls functions` lists the functions."),
    Field::optional(
        "inputs",
        Kind::Any,
        "",
        "Datasets and `params:…` it reads: one name, a list, or a mapping from port to name.",
    ),
    Field::optional("outputs", Kind::Any, "", "Datasets it writes: one name, a list, or a mapping from port to name."),
    Field::optional("tags", Kind::List(&Kind::Text), "", "Tags, for `--tags` and for grouping."),
    Field::optional(
        "after",
        Kind::List(&Kind::Text),
        "",
        "Nodes that must finish first although no data flows between them.",
    ),
    Field::optional(
        "confirms",
        Kind::List(&Kind::Text),
        "",
        "Datasets whose checkpoint moves once the node has finished: `incremental` ones.",
    ),
    Field::optional("namespace", Kind::Text, "", "A group; it is the prefix of the node's name."),
    Field::optional(
        "resources",
        Kind::Record(RESOURCE_FIELDS),
        "",
        "What a task needs where `flow compile` writes it for a cluster: `{cpu: 1, memory: 1Gi}`.",
    ),
    Field::optional(
        "partitions",
        Kind::Choice(&["each", "all"]),
        "`each` where input and output are partitions",
        "Whether a Python function gets one partition at a time, or all of them as one table.",
    ),
    Field::optional(
        "workers",
        Kind::Integer(1, 1024),
        "one per core",
        "Python processes that work on partitions at once.",
    ),
    Field::optional(
        "max_calls",
        Kind::Integer(1, 1_000_000_000),
        "",
        "Calls of a Python function after which its process is replaced, for functions that do not give memory back.",
    ),
    Field::optional(
        "version",
        Kind::Text,
        "",
        "A version of a Python function: changing it makes results out of date.",
    ),
    Field::optional(
        "code",
        Kind::Choice(&["closure", "function", "none"]),
        "closure",
        "The Python code that results depend on: all modules of the project that are imported, the function alone, or none.",
    ),
    Field::optional(
        "engine",
        Kind::Choice(&["local", "spark"]),
        "local",
        "What computes the table of a `sql` or `bucketize` node: `flow`, or a Spark that exists.",
    ),
    Field::optional("spark", Kind::Record(SPARK_FIELDS), "", "Which Spark; default: the one that PySpark finds."),
    Field::optional("command", Kind::List(&Kind::Text), "", "The program of a `command` node and its arguments."),
    Field::optional("env", Kind::Map(&Kind::Any), "", "Variables of the environment of a `command` node."),
    Field::optional(
        "stdin",
        Kind::Choice(&["arrow"]),
        "",
        "A `command` node reads its input there, as an Arrow IPC stream.",
    ),
    Field::optional(
        "stdout",
        Kind::Choice(&["arrow"]),
        "",
        "A `command` node writes its output there, as an Arrow IPC stream.",
    ),
];

/// Keys of a node that only some functions take.
const FUNCTION_OPTIONS: &[&str] =
    &["partitions", "workers", "max_calls", "version", "code", "engine", "spark", "command", "env", "stdin", "stdout"];

/// Decodes all files: name, resolved mapping, and whether its interpolation succeeded. A file whose name begins with
/// `_` serves includes only.
///
/// With `partial`, some files are missing because they could not be read: names that may be theirs are not reported.
pub(super) fn decode(files: &[(String, Node, bool)], partial: bool, problems: &mut Diagnostics) -> Vec<PipelineSpec> {
    let mut decoded = Vec::with_capacity(files.len());
    for (name, node, interpolated) in files {
        let mut own = Diagnostics::default();
        let mut file = decode_file(name, node, &mut own);
        file.whole = *interpolated && !own.has_errors();
        problems.extend(own.as_slice().iter().cloned());
        decoded.push(file);
    }
    let expanded = include::expand(decoded, partial, problems);
    let mut pipelines: Vec<_> = expanded.into_iter().filter(|pipeline| !is_private(&pipeline.name)).collect();
    if partial {
        let nodes = || pipelines.iter().flat_map(|pipeline| &pipeline.nodes);
        let names: HashSet<String> = nodes().map(|node| node.name.value.clone()).collect();
        for node in pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.nodes) {
            node.after.retain(|after| names.contains(&after.value));
        }
    }
    pipelines
}

fn is_private(name: &str) -> bool {
    name.split('.').any(|part| part.starts_with('_'))
}

fn decode_file(name: &str, node: &Node, problems: &mut Diagnostics) -> PipelineFile {
    let mut spec = PipelineSpec { name: name.to_owned(), description: None, nodes: Vec::new() };
    let mut includes = Vec::new();
    if let Some(record) = Record::read(node, &format!("pipeline `{name}`"), PIPELINE_FIELDS, problems) {
        spec.description = record.text("description").map(str::to_owned);
        for (index, node) in items(record.node("nodes"), "`nodes`", problems).iter().enumerate() {
            spec.nodes.extend(decode_node(name, index, node, problems));
        }
        for node in items(record.node("include"), "`include`", problems) {
            includes.extend(include::decode(node, problems));
        }
    }
    name_afters(&mut spec.nodes);
    PipelineFile { spec, includes, whole: true }
}

/// The items of a list; nothing at all is an empty one.
fn items<'n>(node: Option<&'n Node>, what: &str, problems: &mut Diagnostics) -> &'n [Node] {
    match node.map(|node| (node, &node.value)) {
        None | Some((_, Value::Null)) => &[],
        Some((_, Value::List(list))) => list,
        Some((node, _)) => {
            let message = format!("{what} must be a list, not {}", node.kind());
            let help = format!("begin each item with `- `, indented under {what}");
            problems.push(Diagnostic::error("config::wrong-type", message).at(start_of(node.span), "").help(help));
            &[]
        }
    }
}

fn start_of(span: Span) -> Span {
    Span { end: span.end.min(span.start + 1), ..span }
}

fn decode_node(pipeline: &str, index: usize, node: &Node, problems: &mut Diagnostics) -> Option<NodeSpec> {
    let what = match node.get("name").and_then(Node::as_text) {
        Some(name) => format!("node `{name}`"),
        None => "a node".to_owned(),
    };
    let record = Record::read(node, &what, NODE_FIELDS, problems)?;
    let spanned = |key: &str| record.text(key).map(|text| Spanned { value: text.to_owned(), span: record.span(key) });
    for key in ["name", "namespace"] {
        if let Some(word) = spanned(key) {
            check_word(&word, key, problems);
        }
    }
    let tags: Vec<String> = record.texts("tags").unwrap_or_default().into_iter().map(str::to_owned).collect();
    for tag in &tags {
        check_word(&Spanned { value: tag.clone(), span: record.span("tags") }, "tag", problems);
    }
    let inputs = record.node("inputs").map_or_else(Bindings::default, |node| bindings(node, &what, "inputs", problems));
    let outputs =
        record.node("outputs").map_or_else(Bindings::default, |node| bindings(node, &what, "outputs", problems));
    let (inputs, outputs) = (with_unresolved(inputs, node, "inputs"), with_unresolved(outputs, node, "outputs"));
    let nothing = |key: &str| match record.node(key).map(|node| &node.value) {
        None | Some(Value::Null) => true,
        Some(Value::List(list)) => list.is_empty(),
        Some(Value::Map(map)) => map.entries.is_empty(),
        Some(_) => false,
    };
    if nothing("inputs") && nothing("outputs") && record.is_sound() {
        problems.push(
            Diagnostic::error("pipeline::idle-node", format!("{what} has neither inputs nor outputs"))
                .at(start_of(node.span), "")
                .help("give it at least one dataset under `inputs:` or `outputs:`"),
        );
    }
    // What is missing was reported; the rest of the node is checked under a placeholder name.
    let stand_in = |value: String| Spanned { value, span: start_of(node.span) };
    let name = spanned("name").unwrap_or_else(|| stand_in(format!("(node {} of {pipeline})", index + 1)));
    let function = spanned("function").unwrap_or_else(|| stand_in(String::new()));
    if function.value.is_empty() && record.node("function").is_some() {
        problems.push(
            Diagnostic::error("config::wrong-type", format!("`function` of {what} is empty"))
                .at(function.span, "")
                .help("`flow ls functions` lists the functions"),
        );
    }
    let namespace = spanned("namespace").map(|namespace| namespace.value);
    let after = match record.node("after").map(|node| (node, &node.value)) {
        Some((_, Value::List(list))) => list.iter().filter_map(spanned_text).collect(),
        Some((node, _)) => spanned_text(node).into_iter().collect(),
        None => Vec::new(),
    };
    let confirms = record.node("confirms").map_or_else(Vec::new, |node| match &node.value {
        Value::List(list) => list.iter().filter_map(spanned_text).collect(),
        _ => spanned_text(node).into_iter().collect(),
    });
    let full = namespace.as_ref().map_or_else(|| name.value.clone(), |namespace| format!("{namespace}.{}", name.value));
    Some(NodeSpec {
        name: Spanned { value: full, span: name.span },
        pipeline: pipeline.to_owned(),
        function,
        inputs,
        outputs,
        tags,
        after,
        confirms,
        namespace,
        resources: record
            .record("resources")
            .map(|own| Resources::read(&own, &what, record.span("resources"), problems)),
        options: FUNCTION_OPTIONS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), record.node(name)?.clone())))
            .collect(),
        span: node.span,
    })
}

/// Marks bindings as incomplete where the whole value could not be resolved.
fn with_unresolved(bindings: Bindings, node: &Node, key: &str) -> Bindings {
    let entry = node.as_map().and_then(|map| map.entries.get(key));
    let unresolved = entry.is_some_and(|entry| entry.node.is_unresolved());
    Bindings { incomplete: bindings.incomplete || unresolved, ..bindings }
}

fn spanned_text(node: &Node) -> Option<Spanned<String>> {
    node.as_text().map(|text| Spanned { value: text.to_owned(), span: node.span })
}

/// One name, a list of names, or a mapping from port to name.
fn bindings(node: &Node, what: &str, side: &str, problems: &mut Diagnostics) -> Bindings {
    let mut list = Vec::new();
    let mut incomplete = false;
    let mut bind = |port: Option<Spanned<String>>, node: &Node| {
        let Some(dataset) = spanned_text(node) else {
            incomplete = true;
            if node.is_unresolved() {
                return;
            }
            let location = port.as_ref().map_or_else(
                || format!("`{side}` of {what}"),
                |port| format!("`{}` of `{side}` of {what}", port.value),
            );
            problems.push(
                Diagnostic::error(
                    "config::wrong-type",
                    format!("{location} must be a dataset's name, not {}", node.kind()),
                )
                .at(start_of(node.span), "")
                .help("values come from `parameters.yml`: write `params:name`"),
            );
            return;
        };
        list.push(Binding { port, dataset });
    };
    match &node.value {
        Value::Null => {}
        Value::List(items) => items.iter().for_each(|item| bind(None, item)),
        Value::Map(map) => {
            for (port, entry) in map.iter() {
                bind(Some(Spanned { value: port.to_owned(), span: entry.key_span }), &entry.node);
            }
        }
        _ => bind(None, node),
    }
    Bindings { list, incomplete }
}

fn check_word(word: &Spanned<String>, what: &str, problems: &mut Diagnostics) {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if word.value.is_empty() || !word.value.chars().all(fits) || word.value.split('.').any(str::is_empty) {
        problems.push(
            Diagnostic::error("pipeline::name", format!("invalid {what} `{}`", word.value))
                .at(word.span, "")
                .help("letters, digits, `_` and `-` are allowed, and `.` between them"),
        );
    }
}

/// Adds the namespace of the node to its `after:` where a node of that name exists.
fn name_afters(nodes: &mut [NodeSpec]) {
    let names: HashSet<String> = nodes.iter().map(|node| node.name.value.clone()).collect();
    for node in nodes {
        let Some(namespace) = &node.namespace else { continue };
        for after in &mut node.after {
            let full = format!("{namespace}.{}", after.value);
            if names.contains(&full) {
                after.value = full;
            }
        }
    }
}
