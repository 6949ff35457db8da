//! What the command line and the environment say about tasks, and the arguments of `flow` in a task.

use super::plan::{Task, TaskKind};
use crate::config::LEAST_MEMORY;

/// The folder of the project in a container.
pub(super) const WORKDIR: &str = "/project";
/// Half of a task's memory is for tables: the other half is for what is not counted, such as decoded pages.
const TABLE_SHARE: f64 = 0.5;
/// Most of the memory of a task with Python processes is theirs, and they are counted.
const PYTHON_SHARE: f64 = 0.875;

/// What every target gets.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The absolute path of the project, where it is now.
    pub project: String,
    /// `--env`.
    pub env: Option<String>,
    /// `--python`.
    pub python: Option<String>,
    /// `--params`, none of which is secret.
    pub params: Vec<String>,
    /// `--pipeline`.
    pub pipelines: Vec<String>,
    /// The digest of the project that is compiled.
    pub plan_digest: String,
    /// `--ledger`.
    pub ledger: Option<String>,
    /// How often an attempt that ended with 75 is repeated.
    pub retries: u32,
    /// Variables of the environment that the project's files name.
    pub variables: Vec<Variable>,
    /// `--image`.
    pub image: Option<String>,
    /// `--secret`.
    pub secret: Option<String>,
    /// `--service-account`.
    pub service_account: Option<String>,
    /// `--volume`.
    pub volumes: Vec<Volume>,
    /// `--schedule`.
    pub schedule: Option<String>,
}

/// A variable of the environment that the project's files name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value now; `None` for a secret, which is never written.
    pub value: Option<String>,
}

/// A volume that all tasks share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The name of the claim.
    pub claim: String,
    /// Where it is mounted.
    pub path: String,
}

impl Volume {
    /// Reads `CLAIM:/path`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let valid = |claim: &&str| !claim.is_empty() && super::names::plain(claim) == **claim;
        match text.split_once(':') {
            Some((claim, path)) if valid(&claim) && path.starts_with('/') && path.len() > 1 => {
                Ok(Self { claim: claim.to_owned(), path: path.trim_end_matches('/').to_owned() })
            }
            _ => Err("expected CLAIM:/PATH, the name of a PersistentVolumeClaim and where it is mounted".to_owned()),
        }
    }
}

/// An argument of `flow` in a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// As it is.
    Text(String),
    /// What the engine fills in.
    Engine(Blank),
}

/// What an engine fills in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blank {
    /// `--nodes`.
    Nodes,
    /// `i/n`.
    Shard,
    /// `1/c`.
    RateShare,
    /// What is common to all tasks of one submission.
    RunGroup,
}

impl Settings {
    /// The arguments of `flow` for a task, without the project.
    pub(super) fn words(&self, task: &Task) -> Vec<Word> {
        let mut words = Vec::new();
        let mut flag = |name: &str, value: Word| words.extend([Word::Text(name.to_owned()), value]);
        let text = |text: &str| Word::Text(text.to_owned());
        if let Some(env) = &self.env {
            flag("--env", text(env));
        }
        if let Some(python) = &self.python {
            flag("--python", text(python));
        }
        self.params.iter().for_each(|params| flag("--params", text(params)));
        words.push(text("run"));
        let mut flag = |name: &str, value: Word| words.extend([Word::Text(name.to_owned()), value]);
        if !self.pipelines.is_empty() {
            flag("--pipeline", text(&self.pipelines.join(",")));
        }
        flag("--nodes", Word::Engine(Blank::Nodes));
        if matches!(task.kind, TaskKind::Shards { .. }) {
            flag("--shard", Word::Engine(Blank::Shard));
            flag("--rate-share", Word::Engine(Blank::RateShare));
        }
        flag("--plan-digest", text(&self.plan_digest));
        flag("--run-group", Word::Engine(Blank::RunGroup));
        if let Some(ledger) = &self.ledger {
            flag("--ledger", text(ledger));
        }
        if let Some(cores) = task.resources.cores() {
            flag("--jobs", text(&cores.to_string()));
        }
        let share = if task.python { PYTHON_SHARE } else { TABLE_SHARE };
        let limit = task.resources.memory.map(|memory| ((memory as f64 * share) as u64).max(LEAST_MEMORY));
        if let Some(limit) = limit {
            flag("--memory-limit", text(&format!("{}MiB", limit >> 20)));
        }
        flag("--progress", text("lines"));
        words.push(text("--allow-row-errors"));
        words
    }
}

/// The line that says what made a file.
pub(super) fn made_by(target: &str) -> String {
    format!(
        "# Made by `flow compile {target}` (flow {}): compile again instead of editing it.",
        env!("CARGO_PKG_VERSION")
    )
}
