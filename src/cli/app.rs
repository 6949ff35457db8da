//! What every command needs: the environment, the project, the output streams and error reporting.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use serde::Serialize;
use serde_json::json;

use super::{
    Exit,
    arguments::{Color, Global, Output, Progress, SelectionArgs},
    links::Links,
    logging, resources,
    signals::LAST_GRACE,
};
use crate::{
    config::{self, AskError, LoadOptions, Project},
    data::Stores,
    diagnostic::{self, Diagnostic, Diagnostics, Severity, Sources},
    function::{Context, MemoryBudget},
    graph::{NodeId, Selection},
    model::{Secret, SecretMask, Usage, is_secret_name, visible, visible_json_text, visible_message},
    net::ServiceContext,
    python::{InterpreterSettings, ProjectStart, PythonError, Workers, WorkersSettings},
    run::{Registry, Workspace},
    telemetry::Spans,
};

/// One invocation.
pub(super) struct App {
    /// Makes the allocator return freed memory to the system.
    give_back: fn(),
    pub global: Global,
    pub registry: Registry,
    pub stderr_color: bool,
    /// The secrets known so far.
    pub secrets: SecretMask,
    /// Python processes of the project: those that were asked what a Kedro project is also run it.
    workers: OnceLock<Workers>,
    /// The spans of the log, if they are to be traced.
    pub spans: Option<Spans>,
    /// The variables of the environment that the project's files named so far.
    variables: Mutex<BTreeSet<String>>,
}

/// Ends a command early; its problem was reported.
#[derive(Debug)]
pub(super) struct Stop {
    pub exit: Exit,
}

pub(super) type Outcome = Result<Exit, Stop>;

impl From<Exit> for Stop {
    fn from(exit: Exit) -> Self {
        Self { exit }
    }
}

/// Reads a variable; an empty one counts as not set.
#[expect(clippy::disallowed_methods, reason = "the only reader of the environment")]
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// True if traces or metrics of OpenTelemetry are wanted.
fn is_traced() -> bool {
    let disabled = environment("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let endpoints =
        ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"];
    !disabled && endpoints.iter().any(|name| environment(name).is_some())
}

/// A path that begins with `~/`, in the user's folder.
fn of_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), environment("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.to_owned(),
    }
}

/// The values of variables that are named like secrets: stores and providers read some of them.
fn environment_secrets() -> SecretMask {
    let secrets = SecretMask::default();
    for (name, value) in std::env::vars_os() {
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
            && is_secret_name(name)
        {
            secrets.add(&Secret::new(value));
        }
    }
    secrets
}

/// Writes text for display to stdout, with control characters written out.
pub(super) fn print(text: &str) -> Exit {
    print_raw(&visible(text))
}

/// Writes a string to stdout as it is: JSON and exports escape by themselves. A closed pipe (`| head`) is not an error.
pub(super) fn print_raw(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) => unprinted(&error),
        Ok(()) => Exit::Done,
    }
}

/// The exit of a command whose output could not be written, and a message that says why.
pub(super) fn unprinted(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Exit::Done;
    }
    // Nothing can be done about a closed stderr.
    let _ = writeln!(io::stderr().lock(), "error: cannot write to stdout: {error}");
    Exit::Environment
}

/// An error without a position in a file and without a code, but otherwise as every diagnostic.
pub(super) fn diagnostic_without_position(message: &str, help: &[&str]) -> serde_json::Value {
    json!({
        "kind": "diagnostic", "code": null, "severity": "error", "message": message, "labels": [], "help": help,
    })
}

impl App {
    pub(super) fn new(global: Global, give_back: fn()) -> Self {
        let no_color = environment("NO_COLOR").is_some();
        let force = environment("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let color = |terminal: bool| match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !no_color && (force || terminal),
        };
        let stderr_color = color(io::stderr().is_terminal());
        resources::raise_open_files();
        let secrets = environment_secrets();
        let spans = is_traced().then(Spans::default);
        logging::start(global.verbose, environment("FLOW_LOG"), stderr_color, secrets.clone(), spans.as_ref());
        let (workers, variables) = (OnceLock::new(), Mutex::default());
        Self { give_back, global, registry: Registry::builtin(), stderr_color, secrets, workers, spans, variables }
    }

    pub(super) fn json(&self) -> bool {
        self.global.output == Output::Json
    }

    /// Prints a message to stderr, with control characters written out.
    pub(super) fn say(&self, text: &str) {
        self.say_raw(&visible(text));
    }

    /// Prints JSON, or a string whose parts were made visible before they were painted, to stderr.
    fn say_raw(&self, text: &str) {
        // Nothing can be done about a closed stderr.
        let _ = writeln!(io::stderr().lock(), "{}", self.secrets.mask(text));
    }

    /// Prints an error; the result ends the command.
    pub(super) fn fail(&self, exit: Exit, message: impl AsRef<str>) -> Stop {
        if self.json() {
            let (message, help) = without_help(message.as_ref());
            self.say_raw(&visible_json_text(&diagnostic_without_position(&message, &help).to_string()));
            return exit.into();
        }
        let style = if self.stderr_color { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        self.say_raw(&format!("{}error{}: {}", style.0, style.1, visible_message(message.as_ref())));
        exit.into()
    }

    /// Prints one JSON document to stdout.
    pub(super) fn document(&self, value: &impl Serialize) -> Exit {
        let mut text = serde_json::to_string_pretty(value).expect("plain data becomes JSON");
        text.push('\n');
        print_raw(&visible_json_text(&text))
    }

    /// Prints problems to stderr: as text, or as JSON lines with `--output json`.
    pub(super) fn report(&self, problems: &[Diagnostic], sources: &Sources) {
        let shown: Vec<Diagnostic> = problems
            .iter()
            .filter(|problem| !self.global.quiet || problem.severity == Severity::Error)
            .cloned()
            .collect();
        if self.json() {
            let json = |problem| visible_json_text(&diagnostic::json(problem, sources).to_string()).into_owned();
            shown.iter().for_each(|problem| self.say_raw(&json(problem)));
            return;
        }
        if !shown.is_empty() {
            self.say_raw(diagnostic::render(&shown, sources, self.stderr_color).trim_end());
        }
    }

    /// Reads the project's files.
    pub(super) fn load(&self, pipelines: &[String], problems: &mut Diagnostics) -> (Arc<Sources>, Option<Project>) {
        let pipelines = graph_list(pipelines);
        let read = |name: &str| {
            self.variables.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
            environment(name)
        };
        let options = LoadOptions {
            ask: Some(&|root, env, params| self.ask(root, env, params)),
            pipelines: &pipelines,
            project: self.global.project.as_deref(),
            env: self.global.env.as_deref(),
            params: &self.global.params,
            environment: &read,
        };
        let (sources, project) = config::load(&options, problems);
        project.iter().flat_map(Project::secrets).for_each(|secret| self.secrets.add(&secret));
        (sources, project)
    }

    /// The variables of the environment that the project's files name, whether they are set or not; sorted.
    pub(super) fn variables(&self) -> Vec<String> {
        self.variables.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Reads the project, or reports its problems.
    pub(super) fn project(&self) -> Result<Project, Stop> {
        let mut problems = Diagnostics::default();
        let (sources, project) = self.load(&[], &mut problems);
        let wrong = problems.has_errors();
        let warnings = problems.into_sorted();
        if wrong {
            self.report(&warnings, &sources);
        }
        match project {
            Some(project) if !wrong => Ok(project),
            _ => Err(Exit::Wrong.into()),
        }
    }

    /// Assembles a project; see [`Workspace::assemble`].
    pub(super) fn assemble(&self, project: Project, problems: &mut Diagnostics) -> Option<Workspace> {
        let links = Links::default();
        Workspace::assemble(project, &self.registry, &|path| links.resolve(&of_home(path)), problems)
    }

    /// Reads and checks the project, or reports its errors. Warnings are printed.
    pub(super) fn workspace(&self) -> Result<Workspace, Stop> {
        self.workspace_of(&[])
    }

    /// [`Self::workspace`], where these pipelines were asked for.
    pub(super) fn workspace_of(&self, pipelines: &[String]) -> Result<Workspace, Stop> {
        let mut problems = Diagnostics::default();
        let (sources, project) = self.load(pipelines, &mut problems);
        let workspace = project.and_then(|project| self.assemble(project, &mut problems));
        let wrong = problems.has_errors();
        let unavailable = problems.as_slice().iter().any(|problem| problem.code == "kedro::unavailable");
        self.report(&problems.into_sorted(), &sources);
        match workspace {
            Some(workspace) if !wrong => Ok(workspace),
            _ if unavailable => Err(Exit::Environment.into()),
            _ => Err(Exit::Wrong.into()),
        }
    }

    /// The selected nodes, in execution order. An empty selection ends the command with exit 4.
    pub(super) fn select(&self, workspace: &Workspace, arguments: &SelectionArgs) -> Result<Vec<NodeId>, Stop> {
        let list = |flag: &str, words: &[String]| match graph_list(words) {
            // As from a variable of a shell that is not set.
            list if list.is_empty() && !words.is_empty() => {
                Err(self.fail(Exit::Wrong, format!("`--{flag}` names nothing; leave it out to select everything")))
            }
            list => Ok(list),
        };
        let selection = Selection {
            pipelines: list("pipeline", &arguments.pipeline)?,
            nodes: list("nodes", &arguments.nodes)?,
            from_nodes: list("from-nodes", &arguments.from_nodes)?,
            to_nodes: list("to-nodes", &arguments.to_nodes)?,
            from_inputs: list("from-inputs", &arguments.from_inputs)?,
            to_outputs: list("to-outputs", &arguments.to_outputs)?,
            tags: list("tags", &arguments.tags)?,
            namespaces: list("namespaces", &arguments.namespaces)?,
            exclude: list("exclude", &arguments.exclude)?,
        };
        match workspace.graph.select(&selection) {
            Ok(nodes) if nodes.is_empty() => {
                let hint = if workspace.graph.nodes().is_empty() {
                    "the project has no nodes; add a file under `pipelines/`"
                } else {
                    "the selection is empty: no node is selected by all flags together"
                };
                Err(self.fail(Exit::Empty, hint))
            }
            Ok(nodes) => Ok(nodes.into_iter().collect()),
            Err(problems) => {
                self.report(&problems.into_sorted(), &workspace.project.sources);
                Err(Exit::Wrong.into())
            }
        }
    }

    /// The folder of a project's history and cache.
    pub(super) fn state_folder(project: &Project) -> PathBuf {
        project.root.join(".flow")
    }

    /// The context of functions.
    pub(super) fn context(&self, project: &Project, limits: Limits) -> Result<(Arc<Stores>, Context), Stop> {
        let stores = Arc::new(Stores::new(project.root.clone(), Arc::new(environment)));
        let session = crate::data::session(limits.memory, limits.jobs)
            .map_err(|error| self.fail(Exit::Environment, error.to_string()))?;
        let service = ServiceContext {
            root: project.root.clone(),
            usage: Arc::new(Usage::default()),
            max_cost_nano_usd: limits.max_cost.map(|usd| (usd * 1e9) as u64),
            max_requests: limits.max_requests,
            environment: crate::net::ServiceEnvironment::new(environment),
            notices: Default::default(),
            stopping: Default::default(),
            clients: Default::default(),
        };
        let python = self.python(&project.root);
        if let Some(bytes) = limits.python_memory {
            python.limit_memory(bytes);
        }
        let memory = MemoryBudget::of_limit(limits.memory).with_release(self.give_back);
        Ok((stores, Context { session, service, memory, python }))
    }

    /// Asks a Kedro project what it is.
    fn ask(&self, root: &Path, env: Option<&str>, params: &serde_json::Value) -> Result<serde_json::Value, AskError> {
        let workers = self.python(root);
        let start = ProjectStart {
            env: env.map(str::to_owned),
            params: params.clone(),
            save_version: chrono::Utc::now().format("%Y-%m-%dT%H.%M.%S%.3fZ").to_string(),
        };
        // Nothing runs yet whose problems would be told in the wrong order.
        let asked = self.block_on(1, workers.ask_project(start));
        match asked
            .map_err(|_| AskError::Unavailable("the system does not start the threads that are needed".into()))?
        {
            Ok(answer) => Ok(answer),
            Err(PythonError::Unavailable(text)) => Err(AskError::Unavailable(text)),
            Err(error) if error.to_string().contains("needs the package `kedro`") => {
                Err(AskError::Unavailable(error.to_string()))
            }
            Err(error) => Err(AskError::Wrong(error.to_string())),
        }
    }

    /// Python processes for the functions of a project.
    fn python(&self, root: &Path) -> Workers {
        self.workers.get_or_init(|| self.new_workers(root)).clone()
    }

    fn new_workers(&self, root: &Path) -> Workers {
        let given = self.global.python.as_ref().map(|path| path.display().to_string());
        Workers::new(WorkersSettings {
            interpreter: InterpreterSettings {
                given,
                virtual_env: environment("VIRTUAL_ENV"),
                path: environment("PATH"),
            },
            // Python compares it with the paths of modules, which are absolute.
            root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()),
            cores: cores(),
            set: Arc::new(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()),
        })
    }

    /// Runs async work to its end. Blocking work left on other threads gets a short grace period, as it may never end: a
    /// read from a share whose server is gone.
    pub(super) fn block_on<T>(&self, jobs: usize, work: impl Future<Output = T>) -> Result<T, Stop> {
        self.block_on_and_settle(jobs, work, |_| LAST_GRACE)
    }

    /// [`App::block_on`], with a grace period that depends on the result.
    pub(super) fn block_on_and_settle<T>(
        &self,
        jobs: usize,
        work: impl Future<Output = T>,
        settle: impl Fn(&T) -> Duration,
    ) -> Result<T, Stop> {
        let workers = jobs.clamp(2, 64);
        // The runtime panics for lack of its workers, and of its first blocking thread.
        let needed = workers + OTHER_THREADS;
        if let Err(error) = resources::try_threads(needed, STACK) {
            let message = format!(
                "the system does not start the {needed} threads that are needed: {error}\nhelp: raise the limit on processes \
                 (`ulimit -u`, `pids.max` of the container) or on memory (`ulimit -v`), or use a lower `--jobs`"
            );
            return Err(self.fail(Exit::Environment, message));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(workers)
            // Encoding and decoding run there: more threads than cores would only hold more memory.
            .max_blocking_threads(workers * 4 + 8)
            .thread_stack_size(STACK)
            .build()
            .map_err(|error| self.fail(Exit::Environment, format!("cannot start threads: {error}")))?;
        let output = runtime.block_on(work);
        runtime.shutdown_timeout(settle(&output));
        Ok(output)
    }

    pub(super) fn progress(&self) -> Progress {
        self.global.progress
    }
}

/// The stack of each thread: query planning recurses, and unoptimised builds need more than the default.
const STACK: usize = 8 << 20;
/// Threads that a run needs besides its workers: for blocking work, events and the cache.
const OTHER_THREADS: usize = 10;

/// Bytes for tables and partitions where `--memory-limit` says nothing.
pub(super) const DEFAULT_MEMORY: u64 = 512 << 20;

/// Limits of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub memory: u64,
    /// What this process and those of Python may hold together; `None` for any amount.
    pub python_memory: Option<u64>,
    pub jobs: usize,
    pub max_cost: Option<f64>,
    pub max_requests: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: DEFAULT_MEMORY, python_memory: None, jobs: cores(), max_cost: None, max_requests: None }
    }
}

/// The number of cores available to this process.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// A message without its lines of help, and those.
fn without_help(message: &str) -> (String, Vec<&str>) {
    let (mut text, mut help) = (Vec::new(), Vec::new());
    for line in message.lines() {
        match line.trim_start().strip_prefix("help: ") {
            Some(line) => help.push(line),
            None => text.push(line),
        }
    }
    (text.join("\n"), help)
}

/// Splits each string at commas and drops empty parts.
fn graph_list(words: &[String]) -> Vec<String> {
    words
        .iter()
        .flat_map(|word| word.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}
