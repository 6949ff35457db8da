//! Argo Workflows 4: a WorkflowTemplate, and a CronWorkflow that starts it where there is a schedule.
//!
//! Tasks are tasks of one DAG. A task with shards is a DAG of its own, whose `parallelism` caps how many run at once.

pub(super) mod lint;
pub(super) mod schedule;

use indexmap::IndexMap;
use serde_json::{Map, Value as Json, json};

use super::{
    container,
    names::plain,
    plan::{Task, TaskKind, TaskPlan},
    settings::{Blank, Settings, made_by},
    target::{Target, TargetFile},
    yaml,
};
use crate::{
    config::Resources,
    diagnostic::{Diagnostic, Diagnostics},
};

/// See the module.
pub(super) struct Argo;

/// An attempt that ended with 75 is repeated, and one that the cluster took away; too little memory is not.
const RETRY: &str =
    "asInt(lastRetry.exitCode) == 75 || (lastRetry.status == 'Error' && asInt(lastRetry.exitCode) != 137)";
/// What etcd takes of one object, about.
const ETCD_LIMIT: usize = 1_400_000;

impl Target for Argo {
    fn name(&self) -> &'static str {
        "argo"
    }

    fn doc(&self) -> &'static str {
        "a WorkflowTemplate of Argo Workflows 4, with `--schedule` a CronWorkflow too"
    }

    fn takes(&self) -> &'static [&'static str] {
        &["image", "secret", "service-account", "volume", "schedule"]
    }

    fn needs(&self) -> &'static [&'static str] {
        &["image"]
    }

    fn is_shared(&self, location: &str, settings: &Settings) -> bool {
        container::is_shared(location, settings)
    }

    fn not_shared(&self) -> (&'static str, &'static str) {
        (
            "on a pod's own disk",
            "give it a path on an object store, or share its folder with `--volume CLAIM:/project/…`",
        )
    }

    fn keep_folder(&self, folder: &str) -> String {
        container::keep_folder(folder)
    }

    fn outputs_are_lost(&self) -> bool {
        true
    }

    fn files_belong_together(&self) -> bool {
        // Other selections are in files of other names.
        false
    }

    fn render(&self, plan: &TaskPlan, settings: &Settings, problems: &mut Diagnostics) -> Vec<TargetFile> {
        refuse_blanks(settings, problems);
        let name = plain(&plan.title);
        let mut documents = vec![workflow_template(&name, plan, settings)];
        let mut comments = vec![
            made_by("argo"),
            format!("# Runs {} ({}).", plan.title, settings.plan_digest),
            format!("# Submit it with: argo submit --from workflowtemplate/{name}"),
        ];
        let secrets: Vec<&str> =
            settings.variables.iter().filter(|one| one.value.is_none()).map(|one| one.name.as_str()).collect();
        if !secrets.is_empty() {
            let secret = container::secret(settings);
            comments.push(format!("# The Secret `{secret}` holds {}.", secrets.join(", ")));
        }
        if let Some(schedule) = &settings.schedule {
            documents.push(json!({
                "apiVersion": "argoproj.io/v1alpha1",
                "kind": "CronWorkflow",
                "metadata": {"name": name},
                "spec": {
                    "schedules": [schedule],
                    // Two runs at once would only wait for each other's outputs.
                    "concurrencyPolicy": "Forbid",
                    "workflowSpec": {"workflowTemplateRef": {"name": name}},
                },
            }));
        }
        for wrong in documents.iter().flat_map(lint::lint) {
            problems.push(Diagnostic::error("compile::lint", format!("the workflow would be refused: {wrong}")));
        }
        let text = yaml::write(&comments, &documents);
        if text.len() > ETCD_LIMIT {
            let message = format!(
                "the workflow has {} tasks and {} kB: a cluster stores about {} kB in one object",
                plan.tasks.len(),
                text.len() / 1000,
                ETCD_LIMIT / 1000
            );
            problems.push(
                Diagnostic::warning("compile::too-large", message)
                    .help("fuse nodes into fewer tasks, or compile parts of the project with the selection flags"),
            );
        }
        vec![TargetFile { name: format!("{name}.yaml"), text, executable: false }]
    }
}

/// Argo replaces `{{…}}` wherever it is, so none may come from the project.
fn refuse_blanks(settings: &Settings, problems: &mut Diagnostics) {
    let params = settings.params.iter().map(|text| ("--params", text));
    let ledger = settings.ledger.iter().map(|text| ("--ledger", text));
    let image = settings.image.iter().map(|text| ("--image", text));
    let variables = settings.variables.iter().filter_map(|one| Some((one.name.as_str(), one.value.as_ref()?)));
    for (what, _) in params.chain(ledger).chain(image).chain(variables).filter(|(_, text)| text.contains("{{")) {
        problems.push(
            Diagnostic::error("compile::blank", format!("{what} holds `{{{{`, which Argo would replace"))
                .help("put the value into `parameters.yml` or a file of `conf/<env>`"),
        );
    }
}

fn workflow_template(name: &str, plan: &TaskPlan, settings: &Settings) -> Json {
    let mut templates: IndexMap<String, Json> = IndexMap::new();
    let tasks: Vec<Json> = plan
        .tasks
        .iter()
        .map(|task| {
            let template = template_of(task, settings, &mut templates);
            let mut parameters = vec![json!({"name": "nodes", "value": task.nodes.join(",")})];
            if let TaskKind::Shards { count, parallel } = task.kind {
                parameters.push(json!({"name": "shards", "value": count.to_string()}));
                parameters.push(json!({"name": "rate-share", "value": format!("1/{parallel}")}));
            }
            let mut one = Map::new();
            one.insert("name".to_owned(), json!(task.name));
            one.insert("template".to_owned(), json!(template));
            if !task.after.is_empty() {
                let after: Vec<&str> = task.after.iter().map(|other| plan.tasks[*other].name.as_str()).collect();
                one.insert("dependencies".to_owned(), json!(after));
            }
            one.insert("arguments".to_owned(), json!({"parameters": parameters}));
            Json::Object(one)
        })
        .collect();
    let pipeline = json!({"name": "pipeline", "dag": {"tasks": tasks}});
    let mut spec = Map::new();
    spec.insert("entrypoint".to_owned(), json!("pipeline"));
    if let Some(account) = &settings.service_account {
        spec.insert("serviceAccountName".to_owned(), json!(account));
    }
    // Pods that failed are kept for their logs.
    spec.insert("podGC".to_owned(), json!({"strategy": "OnPodSuccess"}));
    spec.insert("arguments".to_owned(), json!({"parameters": [{"name": "image", "value": settings.image}]}));
    spec.insert("volumes".to_owned(), container::volumes(settings));
    spec.insert("templates".to_owned(), [pipeline].into_iter().chain(templates.into_values()).collect());
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": name, "annotations": {"flow-plan-digest": settings.plan_digest}},
        "spec": spec,
    })
}

/// The name of the template of a task, which is made for the first task of its kind.
fn template_of(task: &Task, settings: &Settings, templates: &mut IndexMap<String, Json>) -> String {
    let suffix = suffix(task);
    let TaskKind::Shards { parallel, .. } = task.kind else {
        let name = format!("run{suffix}");
        if !templates.contains_key(&name) {
            templates.insert(name.clone(), leaf(&name, task, &["nodes"], settings));
        }
        return name;
    };
    let (shard, all) = (format!("shard{suffix}"), format!("shards-{parallel}-at-once{suffix}"));
    if !templates.contains_key(&all) {
        let input = |name: &str| json!({"name": name, "value": format!("{{{{inputs.parameters.{name}}}}}")});
        let fan_out = json!({
            "name": all,
            "parallelism": parallel,
            "inputs": {"parameters": [{"name": "nodes"}, {"name": "shards"}, {"name": "rate-share"}]},
            "dag": {
                // What the other shards do is paid for and kept.
                "failFast": false,
                "tasks": [{
                    "name": "shard",
                    "template": shard,
                    "withSequence": {"count": "{{inputs.parameters.shards}}"},
                    "arguments": {"parameters": [
                        input("nodes"), input("shards"), input("rate-share"), {"name": "shard", "value": "{{item}}"},
                    ]},
                }],
            },
        });
        templates.insert(all.clone(), fan_out);
        if !templates.contains_key(&shard) {
            let inputs = ["nodes", "shards", "rate-share", "shard"];
            templates.insert(shard.clone(), leaf(&shard, task, &inputs, settings));
        }
    }
    all
}

/// A template that runs `flow` in a container.
fn leaf(name: &str, task: &Task, inputs: &[&str], settings: &Settings) -> Json {
    let words = container::arguments(settings.words(task), |blank| {
        match blank {
            Blank::Nodes => "{{inputs.parameters.nodes}}",
            Blank::Shard => "{{inputs.parameters.shard}}/{{inputs.parameters.shards}}",
            Blank::RateShare => "{{inputs.parameters.rate-share}}",
            Blank::RunGroup => "{{workflow.name}}",
        }
        .to_owned()
    });
    let mut template = Map::new();
    let mut set = |key: &str, value: Json| drop(template.insert(key.to_owned(), value));
    set("name", json!(name));
    let inputs: Vec<Json> = inputs.iter().map(|input| json!({"name": input})).collect();
    set("inputs", json!({"parameters": inputs}));
    if let Some(time) = task.resources.time {
        set("activeDeadlineSeconds", json!(time.as_secs().max(1)));
    }
    set(
        "retryStrategy",
        json!({
            "limit": settings.retries.to_string(),
            "expression": RETRY,
            "backoff": {"duration": "30s", "factor": "2", "cap": "10m"},
        }),
    );
    set("container", container::container("{{workflow.parameters.image}}", words, task.resources, settings));
    Json::Object(template)
}

/// What distinguishes templates of tasks that need different resources, or of which `flow` gets another share.
fn suffix(task: &Task) -> String {
    let Resources { cpu_milli, memory, gpu, time, .. } = task.resources;
    let mut suffix = String::new();
    let mut more = |text: String| suffix.push_str(&text);
    match cpu_milli {
        Some(milli) if milli % 1000 == 0 => more(format!("-cpu-{}", milli / 1000)),
        Some(milli) => more(format!("-cpu-{milli}m")),
        None => {}
    }
    memory.into_iter().for_each(|bytes| more(format!("-memory-{}", container::memory(bytes).to_ascii_lowercase())));
    gpu.into_iter().for_each(|gpu| more(format!("-gpu-{gpu}")));
    time.into_iter().for_each(|time| more(format!("-time-{}s", time.as_secs())));
    if memory.is_some() && task.python {
        more("-python".to_owned());
    }
    suffix
}
