//! SLURM: one batch script per task, an array for shards, and a script that submits them all.

use std::path::Path;

use minijinja::{Environment, UndefinedBehavior, syntax::SyntaxConfig, value::Serde};
use serde_json::{Value as Json, json};

use super::{
    plan::{Task, TaskKind, TaskPlan},
    settings::{Blank, Settings, Word, made_by},
    target::{Target, TargetFile},
};
use crate::{config::Resources, diagnostic::Diagnostics};

/// See the module.
pub(super) struct Slurm;

/// Folders of one host.
const OF_ONE_HOST: &[&str] = &["/tmp", "/var/tmp", "/dev/shm"];

impl Target for Slurm {
    fn name(&self) -> &'static str {
        "slurm"
    }

    fn doc(&self) -> &'static str {
        "one batch script per task, and `submit.sh` that submits them with their dependencies"
    }

    fn takes(&self) -> &'static [&'static str] {
        &[]
    }

    fn needs(&self) -> &'static [&'static str] {
        &[]
    }

    fn is_shared(&self, location: &str, settings: &Settings) -> bool {
        let below = |path: &str, folder: &&&str| Path::new(path).starts_with(folder);
        let location = location.strip_prefix("file://").unwrap_or(location);
        let local = OF_ONE_HOST.iter().find(|folder| below(location, folder));
        // A project that is there itself is tried out on one host.
        local.is_none_or(|folder| below(&settings.project, &folder))
    }

    fn not_shared(&self) -> (&'static str, &'static str) {
        ("on the disk of one host", "give it a path on the shared file system or on an object store")
    }

    fn keep_folder(&self, _: &str) -> String {
        "give the cache a path on the shared file system".to_owned()
    }

    fn outputs_are_lost(&self) -> bool {
        true
    }

    fn files_belong_together(&self) -> bool {
        true
    }

    fn render(&self, plan: &TaskPlan, settings: &Settings, _: &mut Diagnostics) -> Vec<TargetFile> {
        let environment = templates();
        let render = |name: &str, values: Json| {
            let template = environment.get_template(name).expect("the templates are in the table");
            template.render(Serde(values)).expect("the templates get what they name")
        };
        let after =
            |task: &Task| -> Vec<&str> { task.after.iter().map(|other| plan.tasks[*other].name.as_str()).collect() };
        let submitted: Vec<Json> =
            plan.tasks.iter().map(|task| json!({"name": task.name, "after": after(task)})).collect();
        let values = json!({
            "made_by": made_by("slurm"), "title": plan.title, "digest": settings.plan_digest, "tasks": submitted,
        });
        let text = render("submit.sh", values);
        let mut files = vec![TargetFile { name: "submit.sh".to_owned(), text, executable: true }];
        for task in &plan.tasks {
            let (array, what) = match task.kind {
                TaskKind::Run => (None, "runs"),
                TaskKind::Shards { count, parallel } => {
                    (Some(format!("0-{}%{parallel}", count - 1)), "computes its part of the partitions of")
                }
                TaskKind::Gather => (None, "finishes what its shards left of, and removes what is stale from,"),
            };
            let values = json!({
                "made_by": made_by("slurm"),
                "name": task.name,
                "what": what,
                "nodes": task.nodes,
                "directives": directives(task, array.as_deref()),
                "stopped_in_time": task.resources.time.is_some(),
                "project": settings.project,
                "words": words(task, settings),
                "attempts": settings.retries + 1,
            });
            let text = render("task.sh", values);
            files.push(TargetFile { name: format!("{}.sbatch", task.name), text, executable: false });
        }
        files
    }
}

fn templates() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    environment.set_syntax(syntax.build().expect("only white space is set"));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_filter("sh", |text: String| quote(&text));
    environment.add_filter("comment", |text: String| text.replace(['\n', '\r'], " "));
    for (name, text) in [
        ("submit.sh", include_str!("../../templates/slurm/submit.sh")),
        ("task.sh", include_str!("../../templates/slurm/task.sh")),
    ] {
        environment.add_template(name, text).expect("the templates are valid");
    }
    environment
}

/// A word of a shell: as it is if it is plain, else in single quotes.
fn quote(word: &str) -> String {
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=./:@,+%".contains(&b));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The arguments of `flow`, each as a word of the shell, one flag with its value a line.
fn words(task: &Task, settings: &Settings) -> Vec<String> {
    let count = if let TaskKind::Shards { count, .. } = task.kind { count } else { 1 };
    let parallel = if let TaskKind::Shards { parallel, .. } = task.kind { parallel } else { 1 };
    let word = |word: Word| match word {
        Word::Text(text) => quote(&text),
        Word::Engine(Blank::Nodes) => quote(&task.nodes.join(",")),
        Word::Engine(Blank::Shard) => format!("\"$SLURM_ARRAY_TASK_ID/{count}\""),
        Word::Engine(Blank::RateShare) => format!("1/{parallel}"),
        Word::Engine(Blank::RunGroup) => "\"$group\"".to_owned(),
    };
    let mut lines: Vec<String> = Vec::new();
    for next in settings.words(task).into_iter().map(word) {
        match lines.last_mut() {
            Some(line) if !next.starts_with('-') && line.starts_with("--") && !line.contains(' ') => {
                line.push(' ');
                line.push_str(&next);
            }
            _ => lines.push(next),
        }
    }
    lines
}

/// `#SBATCH` lines without their beginning.
fn directives(task: &Task, array: Option<&str>) -> Vec<String> {
    let Resources { memory, gpu, time, .. } = task.resources;
    let mut lines = vec![format!("--job-name={}", task.name)];
    let log = if array.is_some() { "%x-%A_%a.log" } else { "%x-%j.log" };
    lines.push(format!("--output=logs/{log}"));
    lines.push("--open-mode=append".to_owned());
    lines.extend(array.map(|array| format!("--array={array}")));
    lines.extend(task.resources.cores().map(|cores| format!("--cpus-per-task={cores}")));
    lines.extend(memory.map(|bytes| format!("--mem={}M", bytes.div_ceil(1 << 20))));
    lines.extend(gpu.map(|gpu| format!("--gres=gpu:{gpu}")));
    lines.extend(time.map(|time| {
        // The signal comes a minute before.
        let seconds = time.as_secs().max(120);
        format!("--time={:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_themselves_to_a_shell() {
        for (word, wanted) in [
            ("a,b", "a,b"),
            ("", "''"),
            ("it's $HOME", r"'it'\''s $HOME'"),
            ("a b", "'a b'"),
            ("`x`", "'`x`'"),
            ("s3://bucket/a.b", "s3://bucket/a.b"),
        ] {
            assert_eq!(quote(word), wanted);
        }
    }
}
