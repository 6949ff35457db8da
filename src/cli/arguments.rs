//! The words people type: clap's tables, and nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs declared pipelines: partitions through slow, rate-limited, paid APIs, losing nothing and paying for nothing twice.
#[derive(Debug, Parser)]
#[command(
    name = "flow",
    version,
    max_term_width = 110,
    after_help = "`flow help exit-codes` and `flow help diagnostics` explain more."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// The project: a folder with `catalog.yml` (or `conf/base`); default: the nearest one upward
    #[arg(short = 'C', long, global = true, value_name = "DIR", env = "FLOW_PROJECT")]
    pub project: Option<PathBuf>,
    /// The environment: an overlay under `conf/`; default: `local` if it exists
    #[arg(short = 'e', long, global = true, value_name = "NAME", env = "FLOW_ENV")]
    pub env: Option<String>,
    /// Set parameters: `a.b=1`, or `+a.b=1` for one that no file has; several separated by commas, or the flag several
    /// times; values are YAML
    #[arg(long, global = true, value_name = "K=V", env = "FLOW_PARAMS")]
    pub params: Vec<String>,
    /// What is written to stdout: text, or JSON with diagnostics as JSON lines on stderr
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, env = "FLOW_OUTPUT")]
    pub output: Output,
    /// When to use colour (`NO_COLOR` is heeded)
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, env = "FLOW_COLOR")]
    pub color: Color,
    /// Says only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Says more: `-v` for debug, `-vv` for trace; `FLOW_LOG` takes a filter
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How progress is shown
    #[arg(long, global = true, value_enum, default_value_t = Progress::Auto, env = "FLOW_PROGRESS")]
    pub progress: Progress,
}

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Progress {
    /// Bars on a terminal, lines elsewhere
    Auto,
    /// Bars
    Bar,
    /// Lines
    Lines,
    /// Nothing
    None,
}

/// Which nodes. All given flags must hold (they are intersected).
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Selection (intersected)")]
pub(super) struct SelectionArgs {
    /// Pipelines by name; default: all of them together
    #[arg(short, long = "pipeline", visible_alias = "pipelines", value_name = "A,B", env = "FLOW_PIPELINE")]
    pub pipeline: Vec<String>,
    /// Exactly these nodes
    #[arg(short, long, value_name = "A,B", env = "FLOW_NODES")]
    pub nodes: Vec<String>,
    /// These nodes and everything after them
    #[arg(long, value_name = "A,B", env = "FLOW_FROM_NODES")]
    pub from_nodes: Vec<String>,
    /// These nodes and everything before them
    #[arg(long, value_name = "A,B", env = "FLOW_TO_NODES")]
    pub to_nodes: Vec<String>,
    /// Nodes that read these datasets, and everything after them
    #[arg(long, value_name = "D,E", env = "FLOW_FROM_INPUTS")]
    pub from_inputs: Vec<String>,
    /// Nodes that write these datasets, and everything before them
    #[arg(long, value_name = "D,E", env = "FLOW_TO_OUTPUTS")]
    pub to_outputs: Vec<String>,
    /// Nodes with any of these tags
    #[arg(short, long, value_name = "T,U", env = "FLOW_TAGS")]
    pub tags: Vec<String>,
    /// Nodes in these namespaces
    #[arg(long, value_name = "N,M", env = "FLOW_NAMESPACES")]
    pub namespaces: Vec<String>,
    /// Without these nodes (`name` or `tag:x`)
    #[arg(short = 'x', long, value_name = "A,tag:T", env = "FLOW_EXCLUDE")]
    pub exclude: Vec<String>,
}

/// How a run works.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Recomputes what is up to date
    #[arg(long, env = "FLOW_FORCE")]
    pub force: bool,
    /// After a failure, goes on with everything that does not depend on it
    #[arg(long, env = "FLOW_KEEP_GOING")]
    pub keep_going: bool,
    /// Removes most of a dataset without asking, where its input no longer has those partitions
    #[arg(short, long, env = "FLOW_YES")]
    pub yes: bool,
    /// Stops before more than this is spent
    #[arg(long, value_name = "USD", env = "FLOW_MAX_COST", value_parser = money)]
    pub max_cost: Option<f64>,
    /// Stops before more requests than this are sent
    #[arg(long, value_name = "N", env = "FLOW_MAX_REQUESTS")]
    pub max_requests: Option<u64>,
    /// How many nodes run at the same time, and how many cores table work uses; default: all cores
    #[arg(short, long, value_name = "N", env = "FLOW_JOBS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Memory that table work may use before it spills to disk, and that partitions in work share; one waits for room
    #[arg(long, value_name = "SIZE", default_value = "512MiB", env = "FLOW_MEMORY_LIMIT", value_parser = bytes)]
    pub memory_limit: u64,
}

fn money(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(usd) if usd.is_finite() && usd >= 0.0 => Ok(usd),
        _ => Err("expected an amount in US dollars, such as 2.50".to_owned()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    match crate::config::parse_bytes(text) {
        Ok(bytes) if bytes >= 64 << 20 => Ok(bytes),
        Ok(_) => Err("less than 64MiB is not enough to sort anything".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Plans, runs and sums up
    Run(RunArgs),
    /// Says what would run and why, with rows, requests, tokens and cost; writes nothing
    Plan(RunArgs),
    /// Finds every problem of the project at once; offline, needs no secrets
    Check {
        /// Also opens datasets and asks providers
        #[arg(long)]
        online: bool,
    },
    /// Draws the graph
    Graph {
        #[command(flatten)]
        selection: SelectionArgs,
        /// dot, mermaid, json or html; default: dot, or json with `--output json`
        #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(crate::export::EXPORTERS.iter().map(|e| e.name())))]
        format: Option<String>,
        /// Writes to a file instead of stdout
        #[arg(short, long = "out", value_name = "FILE")]
        o: Option<PathBuf>,
    },
    /// Lists what there is
    Ls {
        /// What to list
        #[arg(value_enum)]
        what: ListCommand,
        #[command(flatten)]
        selection: SelectionArgs,
    },
    /// Looks into a dataset
    Show {
        /// Its name, with or without a view
        dataset: String,
        /// The first rows
        #[arg(long, value_name = "N", default_value_t = 10)]
        head: usize,
        /// The columns and their types
        #[arg(long, conflicts_with = "partitions")]
        schema: bool,
        /// The partitions
        #[arg(long)]
        partitions: bool,
    },
    /// Shows the configuration as resolved, secrets masked
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Lists past runs, or shows one
    Runs {
        #[command(subcommand)]
        command: Option<RunsCommand>,
    },
    /// Looks after the embedding cache
    Cache {
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// Makes a starter project that runs offline
    New {
        /// A folder that does not exist or is empty
        dir: PathBuf,
    },
    /// Prints a JSON Schema for editors
    Schema {
        /// Of what
        #[arg(value_enum)]
        what: SchemaOf,
    },
    /// Prints a completion script
    Completions {
        /// For which shell
        shell: String,
    },
    /// Prints the manual page
    Man,
}

/// `flow ls …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ListCommand {
    /// Pipelines and how many nodes they hold
    Pipelines,
    /// Nodes in the order in which they run
    Nodes,
    /// Datasets of the catalog
    Datasets,
    /// Functions a node may name
    Functions,
    /// Dataset types
    Types,
    /// Providers of embeddings
    Providers,
}

/// `flow config …`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// One whole part
    Show {
        /// Which part
        #[arg(value_enum)]
        part: ConfigPart,
    },
    /// The catalog entry that a name gets, and which pattern made it
    Resolve {
        /// A dataset's name, with its view
        name: String,
    },
}

/// `flow config show …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ConfigPart {
    /// `catalog.yml`
    Catalog,
    /// `parameters.yml` and `--params`
    Parameters,
    /// `globals.yml`
    Globals,
    /// `credentials.yml`
    Credentials,
}

/// `flow runs …`.
#[derive(Debug, Subcommand)]
pub(super) enum RunsCommand {
    /// One run with its nodes and failures
    Show {
        /// Its id, or `last`
        run: String,
    },
}

/// `flow cache …`.
#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Entries, bytes and models
    Stats,
    /// Reads everything and reports what is damaged
    Verify,
    /// Removes old entries and merges small files
    Gc {
        /// Keeps at most this much, newest first
        #[arg(long, value_name = "SIZE")]
        max_size: Option<String>,
        /// Removes what was written longer ago than this (`30d`)
        #[arg(long, value_name = "AGE")]
        older_than: Option<String>,
    },
}

/// `flow schema …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SchemaOf {
    /// `catalog.yml`
    Catalog,
    /// `parameters.yml`
    Parameters,
    /// A file under `pipelines/`
    Pipeline,
    /// A line of `flow run --output json`
    Event,
}
