//! Arguments of the command line: clap's declarations.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValue};

use super::shard::ShardArgument;
use crate::model::{RateShare, visible_line};

/// Run declared pipelines: send partitions through slow, rate-limited, paid APIs, lose no result and pay for none twice
#[derive(Debug, Parser)]
#[command(
    name = "flow",
    version,
    max_term_width = 110,
    after_help = "See also `flow help exit-codes` and `flow help diagnostics`."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Use the project in this folder, which has a `catalog.yml` or `conf/base`; default: the nearest one upward
    #[arg(short = 'C', long, global = true, value_name = "DIR", env = "FLOW_PROJECT")]
    pub project: Option<PathBuf>,
    /// Merge this environment, a folder under `conf/`, over the base; default: `local` if it exists
    #[arg(short = 'e', long, global = true, value_name = "NAME", env = "FLOW_ENV", allow_hyphen_values = true)]
    pub env: Option<String>,
    /// Set parameters, separated by commas: `a.b=1`, or `+a.b=1` for one that no file defines; values are YAML
    /// (repeatable)
    #[arg(
        long,
        global = true,
        value_name = "K=V",
        env = "FLOW_PARAMS",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub params: Vec<String>,
    /// Run Python functions with this interpreter; default: the one of `VIRTUAL_ENV`, of `.venv`, or `python3`
    #[arg(long, global = true, value_name = "PATH", env = "FLOW_PYTHON")]
    pub python: Option<PathBuf>,
    /// Print text, or JSON on stdout with diagnostics as JSON lines on stderr, where progress and other messages stay text
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, env = "FLOW_OUTPUT")]
    pub output: Output,
    /// Use colour; `auto` respects `NO_COLOR` and `CLICOLOR_FORCE`
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, env = "FLOW_COLOR")]
    pub color: Color,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print a log: `-v` for debug, `-vv` for trace; `FLOW_LOG` sets a filter
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Show progress as bars or lines
    #[arg(long, global = true, value_enum, default_value_t = Progress::Auto, env = "FLOW_PROGRESS")]
    pub progress: Progress,
}

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Human-readable text
    Text,
    /// JSON for programs
    Json,
}

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal only
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
    /// No progress
    None,
}

/// Which nodes: those that all given flags select. Names may begin with `-`.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Selection (intersected)")]
pub(super) struct SelectionArgs {
    /// Select the nodes of these pipelines; default: all pipelines
    #[arg(
        short,
        long = "pipeline",
        visible_alias = "pipelines",
        value_name = "A,B",
        env = "FLOW_PIPELINE",
        allow_hyphen_values = true
    )]
    pub pipeline: Vec<String>,
    /// Select these nodes only
    #[arg(short, long, value_name = "A,B", env = "FLOW_NODES", allow_hyphen_values = true)]
    pub nodes: Vec<String>,
    /// Select these nodes and everything downstream
    #[arg(long, value_name = "A,B", env = "FLOW_FROM_NODES", allow_hyphen_values = true)]
    pub from_nodes: Vec<String>,
    /// Select these nodes and everything upstream
    #[arg(long, value_name = "A,B", env = "FLOW_TO_NODES", allow_hyphen_values = true)]
    pub to_nodes: Vec<String>,
    /// Select the nodes that read these datasets, and everything downstream
    #[arg(long, value_name = "D,E", env = "FLOW_FROM_INPUTS", allow_hyphen_values = true)]
    pub from_inputs: Vec<String>,
    /// Select the nodes that write these datasets, and everything upstream
    #[arg(long, value_name = "D,E", env = "FLOW_TO_OUTPUTS", allow_hyphen_values = true)]
    pub to_outputs: Vec<String>,
    /// Select the nodes with any of these tags
    #[arg(short, long, value_name = "T,U", env = "FLOW_TAGS", allow_hyphen_values = true)]
    pub tags: Vec<String>,
    /// Select the nodes in these namespaces
    #[arg(long, value_name = "N,M", env = "FLOW_NAMESPACES", allow_hyphen_values = true)]
    pub namespaces: Vec<String>,
    /// Exclude these nodes (`name` or `tag:x`)
    #[arg(short = 'x', long, value_name = "A,tag:T", env = "FLOW_EXCLUDE", allow_hyphen_values = true)]
    pub exclude: Vec<String>,
}

/// `--engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum EngineFlag {
    /// This process
    Local,
    /// A Spark that exists, through PySpark
    Spark,
}

/// Options of a run that a plan has too.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Recompute what is up to date
    #[arg(long, env = "FLOW_FORCE")]
    pub force: bool,
    /// Run up to this many nodes at the same time, and use this many cores for tables; default: all cores
    #[arg(short, long, value_name = "N", env = "FLOW_JOBS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Use up to this much memory for tables, which spill to disk beyond it, and for partitions in progress, which wait. Python
    /// processes count too where it is given; default: 512MiB without these
    #[arg(long, value_name = "SIZE", env = "FLOW_MEMORY_LIMIT", value_parser = bytes)]
    pub memory_limit: Option<u64>,
    /// Compute only the partitions whose position among the sorted keys is I modulo N; `auto` reads what SLURM, Kubernetes or AWS
    /// Batch tells an array job (`FLOW_SHARDS` overrides N)
    #[arg(long, value_name = "I/N|auto", env = "FLOW_SHARD")]
    pub shard: Option<ShardArgument>,
    /// Refuse to start unless the project has this digest, which `flow plan --output json` prints
    #[arg(long, value_name = "DIGEST", env = "FLOW_PLAN_DIGEST")]
    pub plan_digest: Option<String>,
    /// Write temporary files, such as spilled rows, into a folder of this run in DIR; default: `.flow/tmp` of the project
    #[arg(long, value_name = "DIR", env = "FLOW_TEMP_DIR")]
    pub temp_dir: Option<PathBuf>,
    /// Compute the tables of `sql` and `bucketize` nodes without an `engine:` with `flow` or with Spark
    #[arg(long, value_enum, default_value_t = EngineFlag::Local, env = "FLOW_ENGINE")]
    pub engine: EngineFlag,
    // Last: its heading applies to everything after it.
    #[command(flatten)]
    pub selection: SelectionArgs,
}

/// Options of a run.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Continue after a failure with everything that does not depend on it
    #[arg(long, env = "FLOW_KEEP_GOING")]
    pub keep_going: bool,
    /// Remove most of a dataset without asking, where its input no longer has those partitions
    #[arg(short, long, env = "FLOW_YES")]
    pub yes: bool,
    /// Send OpenLineage events to this address, or append them to this file
    #[arg(long, value_name = "URL|FILE", env = "FLOW_OPENLINEAGE", hide_env_values = true)]
    pub openlineage: Option<String>,
    /// Stop before more than this is spent
    #[arg(long, value_name = "USD", env = "FLOW_MAX_COST", value_parser = money)]
    pub max_cost: Option<f64>,
    /// Stop before more requests than this are sent
    #[arg(long, value_name = "N", env = "FLOW_MAX_REQUESTS")]
    pub max_requests: Option<u64>,
    /// Use this part of every rate limit and concurrency, as C processes run at the same time
    #[arg(long, value_name = "1/C", env = "FLOW_RATE_SHARE")]
    pub rate_share: Option<RateShare>,
    /// Keep the ledger of the run here, for runs of several hosts: a shared folder, or a bucket (`s3://…`), to which it is copied as it
    /// grows; default: `.flow/runs` of the project
    #[arg(long, value_name = "LOCATION", env = "FLOW_LEDGER", hide_env_values = true, allow_hyphen_values = true)]
    pub ledger: Option<String>,
    /// Show this run under NAME in `flow runs`, with other processes of the same submission; default: the id of the job array
    #[arg(long, value_name = "NAME", env = "FLOW_RUN_GROUP", allow_hyphen_values = true, value_parser = group_name)]
    pub run_group: Option<String>,
    /// End with 0 instead of 5 when rows carry errors within the allowed rate
    #[arg(long, env = "FLOW_ALLOW_ROW_ERRORS")]
    pub allow_row_errors: bool,
    // Last: its heading applies to everything after it.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// Options of `flow compile`.
#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// What to write for
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(crate::compile::TARGETS.iter().map(|t| PossibleValue::new(t.name()).help(t.doc()))))]
    pub target: String,
    /// Write into this folder instead of stdout
    #[arg(short, long = "out", value_name = "DIR")]
    pub o: Option<PathBuf>,
    /// Divide nodes that work partition by partition into N tasks, where they have no `resources: {shards: …}`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub shards: Option<u32>,
    /// Run up to C shards of a node at the same time; each gets one C-th of the rate limit; default: all
    #[arg(long, value_name = "C", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub parallel: Option<u32>,
    /// Repeat a task up to N times while it ends with 75, which means: try again later
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub retries: u32,
    /// Let the tasks write their ledgers to this folder or object store
    #[arg(long, value_name = "LOCATION", env = "FLOW_LEDGER", hide_env_values = true, allow_hyphen_values = true)]
    pub ledger: Option<String>,
    /// argo, k8s-job: run this image, which holds `flow` and the project in `/project`
    #[arg(long, value_name = "REF", value_parser = crate::compile::parse_image)]
    pub image: Option<String>,
    /// argo, k8s-job: take secrets from this Secret; default: `flow-secrets`
    #[arg(long, value_name = "NAME", value_parser = crate::compile::parse_object_name)]
    pub secret: Option<String>,
    /// argo, k8s-job: run the pods as this service account
    #[arg(long, value_name = "NAME", value_parser = crate::compile::parse_object_name)]
    pub service_account: Option<String>,
    /// argo, k8s-job: mount this PersistentVolumeClaim, which all pods share, at this path (repeatable)
    #[arg(long, value_name = "CLAIM:/PATH", value_parser = crate::compile::Volume::parse)]
    pub volume: Vec<crate::compile::Volume>,
    /// argo: start it at these times, five fields of cron
    #[arg(long, value_name = "CRON", value_parser = crate::compile::parse_schedule)]
    pub schedule: Option<String>,
    // Last: its heading applies to everything after it.
    #[command(flatten)]
    pub selection: SelectionArgs,
}

fn money(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(usd) if usd.is_finite() && usd >= 0.0 => Ok(usd),
        _ => Err("expected an amount in US dollars, such as 2.50".to_owned()),
    }
}

/// A name that is shown as a part of a line.
fn group_name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || visible_line(text) != text {
        return Err("expected a name without control characters, such as `nightly`".to_owned());
    }
    Ok(text.to_owned())
}

fn bytes(text: &str) -> Result<u64, String> {
    match crate::config::parse_bytes(text) {
        Ok(bytes) if bytes >= crate::config::LEAST_MEMORY => Ok(bytes),
        Ok(_) => Err("expected at least 64MiB: less is not enough to sort".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run nodes, skipping what is up to date, and print a summary
    Run(RunArgs),
    /// Print what would run and why, with rows, requests, tokens and cost; write nothing
    Plan(PlanArgs),
    /// Check the project and report all problems at once, offline and without secrets
    Check {
        /// Also open datasets and send a request to each provider
        #[arg(long)]
        online: bool,
        /// Do not import the functions of Python nodes
        #[arg(long)]
        no_python: bool,
    },
    /// Take over existing outputs of nodes as up to date, without running them; the ledger records it
    Accept {
        /// Names of the nodes
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Export the graph
    Graph {
        /// Write this format; default: dot, or json with `--output json`
        #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(crate::export::EXPORTERS.iter().map(|e| PossibleValue::new(e.name()).help(e.doc()))))]
        format: Option<String>,
        /// Write to a file instead of stdout
        #[arg(short, long = "out", value_name = "FILE")]
        o: Option<PathBuf>,
        #[command(flatten)]
        selection: SelectionArgs,
    },
    /// List pipelines, nodes, datasets, functions, types or providers
    Ls {
        #[command(subcommand)]
        what: ListCommand,
    },
    /// Print rows, columns or partitions of a dataset
    Show {
        /// Name of the dataset, with or without a view
        dataset: String,
        /// Print the first N rows; default: 10
        #[arg(long, value_name = "N", conflicts_with_all = ["schema", "partitions"])]
        head: Option<usize>,
        /// Print the columns and their types
        #[arg(long, conflicts_with = "partitions")]
        schema: bool,
        /// Print the partitions
        #[arg(long)]
        partitions: bool,
    },
    /// Print the resolved configuration, with secrets masked
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// List runs, or print one
    Runs {
        /// Where the ledgers are; default: `.flow/runs` of the project
        #[arg(long, value_name = "LOCATION", env = "FLOW_LEDGER", hide_env_values = true, global = true)]
        ledger: Option<String>,
        #[command(subcommand)]
        command: Option<RunsCommand>,
    },
    /// Write a page about a run: one HTML file that needs no network
    Report {
        /// Id of the run, name of a group, or `last`: the last run, with all runs of its group
        #[arg(default_value = "last")]
        run: String,
        /// Where the ledgers are; default: `.flow/runs` of the project
        #[arg(long, value_name = "LOCATION", env = "FLOW_LEDGER", hide_env_values = true)]
        ledger: Option<String>,
        /// Write to a file instead of stdout
        #[arg(short, long = "out", value_name = "FILE")]
        o: Option<PathBuf>,
        /// Compare with this run or group; default: the run of the same pipelines before it, of a group none
        #[arg(long, value_name = "RUN")]
        compare: Option<String>,
    },
    /// Write the project in the form that another program reads
    Export {
        #[command(subcommand)]
        command: ExportCommand,
    },
    /// Serve the page of a run, live, with a list of past runs and previews of data; read-only
    Serve {
        /// Listen at this port; 0 takes a free one
        #[arg(long, value_name = "N", default_value_t = 4145)]
        port: u16,
        /// Where the ledgers are; default: `.flow/runs` of the project
        #[arg(long, value_name = "LOCATION", env = "FLOW_LEDGER", hide_env_values = true)]
        ledger: Option<String>,
        /// Listen at this address of the machine; a token is needed where it is not a loopback address
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
        bind: IpAddr,
    },
    /// Manage the embedding cache
    Cache {
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// Write a selection for a scheduler: SLURM, Argo Workflows or Kubernetes
    Compile(CompileArgs),
    /// Create a starter project that runs offline
    New {
        /// Folder to create; it may exist if it is empty
        dir: PathBuf,
    },
    /// Print a JSON Schema for editors
    Schema {
        /// What the schema is for
        #[arg(value_enum)]
        what: SchemaOf,
    },
    /// Print a completion script: `source <(flow completions bash)`
    Completions {
        /// `bash`, `zsh`, `fish`, `elvish` or `powershell`
        shell: String,
    },
    /// Print the manual page
    Man,
}

/// `flow ls …`.
#[derive(Debug, Subcommand)]
pub(super) enum ListCommand {
    /// Pipelines, with their numbers of nodes
    Pipelines,
    /// Nodes, in execution order
    Nodes(Box<SelectionArgs>),
    /// Datasets of the catalog
    Datasets,
    /// Functions for nodes
    Functions,
    /// Dataset types
    Types,
    /// Embedding providers
    Providers,
}

/// `flow config …`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print one part of the configuration
    Show {
        /// Part to print
        #[arg(value_enum)]
        part: ConfigPart,
    },
    /// Print the catalog entry for a dataset, and the pattern it comes from
    Resolve {
        /// Name of the dataset, with its view
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

/// `flow export …`.
#[derive(Debug, Subcommand)]
pub(super) enum ExportCommand {
    /// Write what `kedro viz run --load-file DIR` reads
    KedroViz {
        /// Folder to create; it may exist if it is empty
        dir: PathBuf,
    },
}

/// `flow runs …`.
#[derive(Debug, Subcommand)]
pub(super) enum RunsCommand {
    /// Print a run, with its nodes and failures
    Show {
        /// Id of the run, or `last`
        run: String,
    },
}

/// `flow cache …`.
#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Print the numbers of entries, segments and bytes
    Stats,
    /// Read all entries and report damaged ones
    Verify,
    /// Remove old entries and merge small files
    Gc {
        /// Keep at most this much, newest first, a number with its unit: `10GB`
        #[arg(long, value_name = "SIZE")]
        max_size: Option<String>,
        /// Remove entries older than this, a number with its unit: `30d`, `12h`
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
