//! `command`: any program, with its inputs and outputs as files of a temporary folder, or as Arrow IPC on its pipes.
//!
//! Its outputs are written to their datasets when it has ended with exit code 0 and all of them are there.

mod files;
mod program;

use std::{collections::HashMap, path::Path, sync::Arc};

use async_trait::async_trait;
use indexmap::IndexMap;
use minijinja::{Environment, UndefinedBehavior, context};
use serde_json::Value as Json;

use self::{
    files::{Exchange, kind_of_file},
    program::Program,
};
use super::{Arguments, Context, Function, FunctionError, Job, NodeInput, NodeOutput, Outputs, OutputsJob, in_order};
use crate::{
    config::{Node, Value, read_regular_file},
    diagnostic::{Diagnostic, Diagnostics, did_you_mean},
    model::{Fingerprint, Shape, Signature},
};

/// See the module.
pub(super) struct Command;

impl Function for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn doc(&self) -> &'static str {
        "Runs the program under `command:`; `{{ inputs.x }}` and `{{ outputs.y }}` are files, or Arrow IPC is on stdin and stdout"
    }

    fn version(&self) -> u64 {
        1
    }

    fn signature(&self) -> Signature {
        Signature { inputs: &[], outputs: &[], more_inputs: None, anything: true }
    }

    fn options(&self) -> &'static [&'static str] {
        &["command", "env", "stdin", "stdout", "version"]
    }

    fn prepare(&self, arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Job> {
        let wrong = |message: String, help: &str, problems: &mut Diagnostics| {
            problems
                .push(Diagnostic::error("command::bad-command", message).at(arguments.span, "").help(help.to_owned()));
        };
        let Some(command) = arguments.options.get("command") else {
            let message = format!("node `{}` lacks `command`", arguments.node);
            wrong(message, "list the program and its arguments: `command: [sort, '{{ inputs.x }}']`", problems);
            return None;
        };
        let words: Vec<String> = match command.as_list() {
            Some(list) => list.iter().map(text).collect(),
            None => vec![text(command)],
        };
        let has = |name: &str| arguments.options.contains_key(name);
        let port = |argument: &super::DatasetArgument, stdio: bool| Port {
            name: argument.port.clone(),
            kind: kind_of_file(argument.kind.as_deref().unwrap_or_default(), argument.shape),
            shape: argument.shape,
            value: arguments.value(&argument.port).cloned(),
            stdio,
        };
        let datasets = arguments.inputs.iter().filter(|input| arguments.value(&input.port).is_none());
        let (stdin, stdout) = (has("stdin"), has("stdout"));
        for (used, option, found) in [
            (stdin, "stdin", datasets.clone().collect::<Vec<_>>()),
            (stdout, "stdout", arguments.outputs.iter().collect()),
        ] {
            if used && (found.len() != 1 || found[0].shape == Shape::Value) {
                let message = format!(
                    "`{option}: arrow` of node `{}` is for one table, and it has {}",
                    arguments.node,
                    found.len()
                );
                wrong(message, "use files for several: `{{ inputs.x }}`, `{{ outputs.y }}`", problems);
                return None;
            }
        }
        if let Some(output) = arguments.outputs.iter().find(|output| output.shape == Shape::Partitions) {
            let message = format!("`{}` is partitions, and `command` gives tables and values", output.name);
            let help =
                "write a view of it as a table with `save_args: {partition_by: […]}`: it is cut as it is written";
            problems.push(Diagnostic::error("command::bad-command", message).at(output.span, "").help(help));
            return None;
        }
        let inputs: Vec<Port> =
            arguments.inputs.iter().map(|input| port(input, stdin && arguments.value(&input.port).is_none())).collect();
        let outputs: Vec<Port> = arguments.outputs.iter().map(|output| port(output, stdout)).collect();
        let env: Vec<(String, Node)> = arguments
            .options
            .get("env")
            .and_then(|node| node.as_map())
            .map(|map| map.iter().map(|(name, entry)| (name.to_owned(), entry.node.clone())).collect())
            .unwrap_or_default();
        let names = |ports: &[Port]| {
            ports.iter().map(|port| (port.name.clone(), Json::from("file"))).collect::<serde_json::Map<_, _>>()
        };
        if let Err(error) = render(&words, &names(&inputs), &names(&outputs)) {
            let known: Vec<&str> = inputs.iter().chain(&outputs).map(|port| port.name.as_str()).collect();
            let message = format!("node `{}`: its command cannot be rendered: {error}", arguments.node);
            let near = words.iter().find_map(|word| {
                let name = word.split("puts.").nth(1)?.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
                if known.contains(&name) { None } else { did_you_mean(name, known.iter()) }
            });
            problems.push(
                Diagnostic::error("command::bad-command", message)
                    .at(command.span, "")
                    .help_opt(near)
                    .help("name inputs and outputs in a mapping: `inputs: {x: dataset}` is `{{ inputs.x }}`"),
            );
            return None;
        }
        let given = inputs.iter().filter_map(|port| Some((port.name.as_str(), port.value.as_ref()?)));
        let of_env = env.iter().map(|(name, node)| (name.as_str(), node));
        let odd = given.chain(of_env).filter_map(|(name, node)| {
            let (number, span) = node.not_finite()?;
            let message =
                format!("`{name}` of node `{}` is {number}, which programs write in different ways", arguments.node);
            Some(Diagnostic::error("command::value", message).at(span, "").help("pass it as a string"))
        });
        let odd: Vec<_> = odd.collect();
        if !odd.is_empty() {
            problems.extend(odd);
            return None;
        }
        let version = arguments.options.get("version").map(|node| text(node));
        let node = arguments.node.to_owned();
        Some(Job::Outputs(Arc::new(CommandJob { node, words, inputs, outputs, env, version })))
    }
}

fn text(node: &Node) -> String {
    match plain(node) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

/// A value, secrets included.
fn plain(node: &Node) -> Json {
    match &node.value {
        Value::Secret(secret) => Json::from(secret.expose()),
        Value::List(list) => Json::Array(list.iter().map(plain).collect()),
        Value::Map(map) => map.iter().map(|(key, entry)| (key.to_owned(), plain(&entry.node))).collect(),
        _ => node.to_json(),
    }
}

/// The words with the files of the ports. A missing name is an error, never an empty string.
fn render(
    words: &[String],
    inputs: &serde_json::Map<String, Json>,
    outputs: &serde_json::Map<String, Json>,
) -> Result<Vec<String>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    words
        .iter()
        .map(|word| {
            environment.render_str(
                word,
                context! { inputs => minijinja::value::Serde(inputs), outputs => minijinja::value::Serde(outputs) },
            )
        })
        .collect()
}

/// One input or output.
struct Port {
    name: String,
    /// The dataset type of its file.
    kind: &'static str,
    shape: Shape,
    /// The value of a parameter, which may be a secret.
    value: Option<Node>,
    /// True for Arrow IPC on stdin or stdout.
    stdio: bool,
}

struct CommandJob {
    node: String,
    words: Vec<String>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    env: Vec<(String, Node)>,
    version: Option<String>,
}

impl std::fmt::Debug for CommandJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        f.debug_struct("CommandJob").field("words", &self.words).finish_non_exhaustive()
    }
}

impl CommandJob {
    /// The program as a path, where it is one.
    fn program(&self, context: &Context) -> Result<std::path::PathBuf, FunctionError> {
        let word = self.words.first().map(String::as_str).unwrap_or_default();
        let root = &context.service.root;
        let path = context.service.environment.get("PATH").unwrap_or_default();
        let found = if word.contains('/') {
            Some(root.join(word)).filter(|path| path.is_file())
        } else {
            std::env::split_paths(&path).map(|folder| folder.join(word)).find(|path| path.is_file())
        };
        found.ok_or_else(|| {
            let place = if word.contains('/') { "the project" } else { "the folders of `PATH`" };
            FunctionError::Failed(format!(
                "there is no program `{word}` in {place}\nhelp: install it, or correct `command`"
            ))
        })
    }
}

#[async_trait]
impl OutputsJob for CommandJob {
    async fn load(&self, context: &Context) -> Result<(), FunctionError> {
        self.program(context).map(drop)
    }

    fn missing_secrets(&self) -> Vec<String> {
        let parameters = self.inputs.iter().filter_map(|port| port.value.as_ref());
        self.env.iter().map(|(_, node)| node).chain(parameters).flat_map(Node::missing_secrets).collect()
    }

    fn fingerprint(&self, context: &Context) -> Result<Fingerprint, FunctionError> {
        let mut builder = Fingerprint::builder("command").text(self.version.as_deref().unwrap_or_default());
        for word in &self.words {
            builder = builder.text(word);
            // A script of the project is part of the work.
            let file = context.service.root.join(word);
            if !word.is_empty() && !Path::new(word).is_absolute() && file.is_file() {
                let bytes =
                    read_regular_file(&file).map_err(|error| FunctionError::Failed(format!("`{word}` {error}")))?;
                builder = builder.text("file").bytes(&bytes);
            }
        }
        for (name, node) in &self.env {
            builder = builder.text("env").text(name).fingerprint(node.fingerprint());
        }
        for (side, port) in
            self.inputs.iter().map(|port| ("in", port)).chain(self.outputs.iter().map(|port| ("out", port)))
        {
            builder = builder.text(side).text(&port.name).text(port.kind).number(u64::from(port.stdio));
            if let Some(value) = &port.value {
                builder = builder.fingerprint(value.fingerprint());
            }
        }
        Ok(builder.finish())
    }

    async fn run(
        &self,
        mut inputs: IndexMap<String, NodeInput>,
        context: &Context,
    ) -> Result<Box<dyn Outputs>, FunctionError> {
        let program = self.program(context)?;
        let exchange = Exchange::create(context)?;
        let mut names = serde_json::Map::new();
        let mut stdin = None;
        for port in &self.inputs {
            let value = match (&port.value, inputs.swap_remove(&port.name)) {
                (Some(value), _) => plain(value),
                (None, Some(NodeInput::Table(table))) if port.stdio => {
                    stdin = Some(in_order(&context.session, table).await?);
                    Json::Null
                }
                (None, Some(input)) => Json::from(exchange.write(&port.name, port.kind, input, context).await?),
                (None, None) => return Err(FunctionError::Failed(format!("input `{}` was not read", port.name))),
            };
            names.insert(port.name.clone(), value);
        }
        let mut files = HashMap::new();
        let mut written = serde_json::Map::new();
        for port in self.outputs.iter().filter(|port| !port.stdio) {
            let file = exchange.file(&format!("out-{}", port.name), port.kind);
            written.insert(port.name.clone(), Json::from(file.display().to_string()));
            files.insert(port.name.clone(), file);
        }
        let words = render(&self.words, &names, &written)
            .map_err(|error| FunctionError::Failed(format!("its command cannot be rendered: {error}")))?;
        let env = self.env.iter().map(|(name, node)| (name.clone(), text(node))).collect();
        let stdout = self.outputs.iter().any(|port| port.stdio);
        let running = Program { node: &self.node, program: &program, words: &words, env, stdout };
        let mut running = running.start(stdin, context)?;
        let table = if stdout {
            Some(running.table().await?)
        } else {
            running.finish().await?;
            for port in &self.outputs {
                let file = &files[&port.name];
                if !file.is_file() {
                    return Err(FunctionError::Failed(format!(
                        "`{}` ended well and wrote no file for `{{{{ outputs.{} }}}}`",
                        words[0], port.name
                    )));
                }
            }
            None
        };
        let outputs = self.outputs.iter().map(|port| (port.name.clone(), port.kind, port.shape)).collect();
        Ok(Box::new(CommandOutputs { exchange, files, outputs, table, next: 0, context: context.clone() }))
    }
}

struct CommandOutputs {
    exchange: Exchange,
    files: HashMap<String, std::path::PathBuf>,
    outputs: Vec<(String, &'static str, Shape)>,
    /// What is on stdout.
    table: Option<datafusion::execution::SendableRecordBatchStream>,
    next: usize,
    context: Context,
}

#[async_trait]
impl Outputs for CommandOutputs {
    async fn next(&mut self) -> Result<Option<NodeOutput>, FunctionError> {
        let Some((name, kind, shape)) = self.outputs.get(self.next) else { return Ok(None) };
        self.next += 1;
        if let Some(table) = self.table.take() {
            return Ok(Some(NodeOutput::Table(table)));
        }
        self.exchange.read(name, kind, *shape, &self.files[name], &self.context).await.map(Some)
    }
}
