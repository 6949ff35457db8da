//! `python:PKG.MODULE.FUNCTION`: a function of the project, called by a Python process.
//!
//! Owns how a node becomes a call: which arguments, as what, and what its result depends on. With partitions in and out the
//! function gets one at a time (`each`); otherwise it gets whole datasets (`whole`).

mod call;
mod each;
mod key;
mod schema_lock;
mod whole;

use std::sync::Arc;

use call::{Input, PythonCall};
use serde_json::{Value as Json, json};

use super::{Arguments, Function, Job};
use crate::{
    config::{Node, Value},
    diagnostic::{Diagnostic, Diagnostics},
    model::{Shape, Signature},
    python::{CallOutput, OutputForm},
};

const PREFIX: &str = "python:";

/// See the module.
pub(super) struct Python;

impl Function for Python {
    fn name(&self) -> &'static str {
        "python:PKG.MODULE.FUNCTION"
    }

    fn doc(&self) -> &'static str {
        "Calls a Python function of the project with its inputs and parameters as arguments; what it returns is written"
    }

    fn version(&self) -> u64 {
        1
    }

    fn signature(&self) -> Signature {
        Signature { inputs: &[], outputs: &[], more_inputs: None, anything: true }
    }

    fn is_called(&self, name: &str) -> bool {
        name.starts_with(PREFIX)
    }

    fn options(&self) -> &'static [&'static str] {
        &["partitions", "workers", "max_calls", "version", "code"]
    }

    fn prepare(&self, arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Job> {
        let (written, span) = arguments.function;
        let function = written.strip_prefix(PREFIX)?;
        let is_word = |word: &str| {
            word.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
                && word.chars().all(|c| c.is_alphanumeric() || c == '_')
        };
        if !function.contains('.') || !function.split('.').all(is_word) {
            let message = format!("`{written}` is no name of a Python function");
            let help = "write `python:package.module.function`: the module, and the function in it";
            problems.push(Diagnostic::error("python::name", message).at(span, "").help(help));
            return None;
        }
        // Kedro's form: a dictionary of what loads a partition comes in, a dictionary of partitions goes out.
        let asked = arguments.options.get("partitions").and_then(|node| node.as_text());
        let gives = arguments.outputs.iter().any(|output| output.shape == Shape::Partitions);
        let all = asked == Some("all") && gives;
        let mut inputs = Vec::new();
        for argument in &arguments.inputs {
            let value = match arguments.value(&argument.port) {
                None => None,
                Some(node) => Some(plain(node, arguments.node, &argument.name, problems)?),
            };
            let kind = match argument.shape {
                // The annotation decides where `flow` can open it too.
                _ if argument.external.is_some() => "dataset",
                Shape::Value if is_memory(argument) => "object",
                Shape::Value => "value",
                Shape::Table | Shape::Partitions => kind_of_dataset(argument.kind.as_deref().unwrap_or_default()),
            };
            let (value, node) = match &argument.external {
                Some(entry) => (Some(opened(entry, arguments.node, &argument.name, problems)?), Some(entry)),
                None => (value, arguments.value(&argument.port)),
            };
            let readable = argument.external.is_some() && argument.readable;
            let partitions = all && argument.shape == Shape::Partitions;
            let missing = node.map(Node::missing_secrets).unwrap_or_default();
            let fingerprint = node.map(Node::fingerprint);
            let (port, positional) = (argument.port.clone(), is_position(&argument.port));
            inputs.push(Input { port, positional, kind, readable, partitions, value, missing, fingerprint });
        }
        let mut outputs = Vec::new();
        for output in &arguments.outputs {
            let form = match (&output.external, output.shape) {
                (Some(entry), _) => {
                    let mut dataset = opened(entry, arguments.node, &output.name, problems)?;
                    // `flow` writes what is no frame of Spark.
                    dataset["native"] = Json::from(output.readable);
                    OutputForm::Dataset(dataset)
                }
                (None, Shape::Value) if is_memory(output) => OutputForm::Object,
                (None, Shape::Value) => OutputForm::Value,
                (None, Shape::Partitions) if all => {
                    OutputForm::Partitions(output.at_once, output.timeout.as_secs_f64())
                }
                (None, _) => OutputForm::Table,
            };
            outputs.push(CallOutput { port: (!is_position(&output.port)).then(|| output.port.clone()), form });
        }
        let text = |name: &str| arguments.options.get(name).map(|node| option_text(node));
        let call = PythonCall {
            node: arguments.node.to_owned(),
            function: function.to_owned(),
            code: match text("code").as_deref() {
                Some("function") => "function",
                Some("none") => "none",
                _ => "closure",
            },
            version: text("version"),
            workers: text("workers").and_then(|text| text.parse().ok()),
            max_calls: text("max_calls").and_then(|text| text.parse().ok()),
            inputs,
            outputs,
            declared: arguments.outputs.iter().map(|output| output.declared.clone()).collect(),
        };
        if is_each(arguments, &call, problems)? {
            Some(Job::Partitions(Arc::new(each::EachJob::new(call))))
        } else {
            Some(Job::Outputs(Arc::new(whole::WholeJob { call: Arc::new(call) })))
        }
    }
}

/// True for a dataset that lives as long as the run.
fn is_memory(argument: &super::DatasetArgument) -> bool {
    argument.kind.as_deref().is_some_and(|kind| kind == "memory" || kind.ends_with("MemoryDataset"))
}

/// True for ports that were not named.
fn is_position(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit())
}

fn option_text(node: &Node) -> String {
    match node.to_json() {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

/// As what a table is passed to a function that does not say it: as in Kedro, the type of the dataset decides.
fn kind_of_dataset(written: &str) -> &'static str {
    let kind = written.rsplit_once("datasets.").map_or(written, |(_, kind)| kind);
    match kind.split_once('.') {
        Some(("pandas", _)) => "pandas",
        Some(("polars", name)) if name.contains("Lazy") => "polars.lazy",
        Some(("polars", _)) => "polars",
        _ => "pyarrow",
    }
}

/// Whether the function gets one partition at a time. `None` when what is asked for cannot be.
fn is_each(arguments: &Arguments<'_>, call: &PythonCall, problems: &mut Diagnostics) -> Option<bool> {
    let asked = arguments.options.get("partitions");
    let word = asked.and_then(|node| node.as_text());
    let partitioned =
        |list: &[super::DatasetArgument]| list.iter().filter(|one| one.shape == Shape::Partitions).count();
    let datasets = call.inputs.iter().filter(|input| input.value.is_none() || input.kind == "dataset").count();
    let (read, written) = (partitioned(&arguments.inputs), partitioned(&arguments.outputs));
    let fits = read == 1 && datasets == 1 && written == 1 && arguments.outputs.len() == 1;
    let span = asked.map_or(arguments.function.1, |node| node.span);
    match word {
        Some("all") => Some(false),
        None if written == 0 => Some(false),
        Some("each") | None if fits => Some(true),
        _ => {
            let message = format!("node `{}` cannot get its partitions one at a time", arguments.node);
            let needs = "`partitions: each` takes one dataset with partitions and any parameters, and gives one dataset with partitions";
            problems.push(
                Diagnostic::error("python::partitions", message)
                    .at(span, "")
                    .help(needs)
                    .help("`partitions: all` gives a dictionary of all partitions, as in Kedro, and takes one")
                    .help("a view of the output as a table with `save_args: {partition_by: […]}` is cut into partitions as it is written"),
            );
            None
        }
    }
}

/// A dataset that Python opens: its name and entry.
fn opened(entry: &Node, of: &str, name: &str, problems: &mut Diagnostics) -> Option<Json> {
    Some(json!({"name": name, "entry": plain(entry, of, name, problems)?}))
}

/// A parameter as Python gets it, secrets included.
fn plain(node: &Node, of: &str, name: &str, problems: &mut Diagnostics) -> Option<Json> {
    if let Some((number, span)) = node.not_finite() {
        let message = format!("`{name}` of node `{of}` is {number}, which cannot be passed to a Python function");
        problems.push(Diagnostic::error("python::value", message).at(span, "").help("pass it as a string"));
        return None;
    }
    Some(exposed(node))
}

/// A value as JSON, secrets included.
fn exposed(node: &Node) -> Json {
    match &node.value {
        Value::Secret(secret) => Json::from(secret.expose()),
        Value::List(list) => Json::Array(list.iter().map(exposed).collect()),
        Value::Map(map) => map.iter().map(|(key, entry)| (key.to_owned(), exposed(&entry.node))).collect(),
        _ => node.to_json(),
    }
}
