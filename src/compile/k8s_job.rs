//! Kubernetes: an Indexed Job for the shards of one node, and a Job for its gather, which waits until it is resumed.

use serde_json::{Map, Value as Json, json};

use super::{
    container,
    plan::{Task, TaskKind, TaskPlan},
    settings::{Blank, Settings, made_by},
    target::{Target, TargetFile},
    yaml,
};
use crate::diagnostic::{Diagnostic, Diagnostics};

/// See the module.
pub(super) struct K8sJob;

impl Target for K8sJob {
    fn name(&self) -> &'static str {
        "k8s-job"
    }

    fn doc(&self) -> &'static str {
        "an Indexed Job of Kubernetes, for one node that works partition by partition"
    }

    fn takes(&self) -> &'static [&'static str] {
        &["image", "secret", "service-account", "volume"]
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
        let [shards, gather] = plan.tasks.as_slice() else { return refuse(plan, problems) };
        let TaskKind::Shards { count, parallel } = shards.kind else { return refuse(plan, problems) };
        let comments = [
            made_by("k8s-job"),
            format!("# Computes {} in {count} shards ({}).", shards.nodes.join(", "), settings.plan_digest),
            format!("# When the first Job is complete, the second one gathers: kubectl patch job {} -p", gather.name),
            "# '{\"spec\":{\"suspend\":false}}'. Applied again after both were deleted, they skip what is done."
                .to_owned(),
        ];
        let indexed = [
            ("completionMode", json!("Indexed")),
            ("completions", json!(count)),
            ("parallelism", json!(parallel)),
            ("backoffLimitPerIndex", json!(settings.retries)),
        ];
        let once = [("suspend", json!(true)), ("backoffLimit", json!(settings.retries))];
        let documents = [job(shards, &indexed, "FailIndex", settings), job(gather, &once, "FailJob", settings)];
        vec![TargetFile {
            name: format!("{}.yaml", shards.name),
            text: yaml::write(&comments, &documents),
            executable: false,
        }]
    }
}

fn refuse(plan: &TaskPlan, problems: &mut Diagnostics) -> Vec<TargetFile> {
    let mut nodes: Vec<String> = Vec::new();
    plan.tasks.iter().flat_map(|task| &task.nodes).for_each(|node| {
        let node = format!("`{node}`");
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    });
    let message = format!(
        "a Job is for the shards of one node, but the selection is {}{}",
        nodes.iter().take(3).cloned().collect::<Vec<_>>().join(", "),
        if nodes.len() > 3 { ", …" } else { " without shards" }
    );
    problems.push(
        Diagnostic::error("compile::one-node", message)
            .help("select one node that works partition by partition with `--nodes`, and say `--shards N`")
            .help("`flow compile argo` is for several nodes"),
    );
    Vec::new()
}

fn job(task: &Task, spec: &[(&str, Json)], failure: &str, settings: &Settings) -> Json {
    let (count, parallel) = match task.kind {
        TaskKind::Shards { count, parallel } => (count, parallel),
        TaskKind::Run | TaskKind::Gather => (1, 1),
    };
    let words = container::arguments(settings.words(task), |blank| match blank {
        Blank::Nodes => task.nodes.join(","),
        Blank::Shard => format!("$(JOB_COMPLETION_INDEX)/{count}"),
        Blank::RateShare => format!("1/{parallel}"),
        Blank::RunGroup => task.name.trim_end_matches("-shards").trim_end_matches("-gather").to_owned(),
    });
    let image = settings.image.clone().unwrap_or_default();
    let mut pod = Map::new();
    pod.insert("restartPolicy".to_owned(), json!("Never"));
    // Partitions in progress are finished and saved.
    pod.insert("terminationGracePeriodSeconds".to_owned(), json!(60));
    if let Some(time) = task.resources.time {
        pod.insert("activeDeadlineSeconds".to_owned(), json!(time.as_secs().max(1)));
    }
    if let Some(account) = &settings.service_account {
        pod.insert("serviceAccountName".to_owned(), json!(account));
    }
    pod.insert("containers".to_owned(), json!([container::container(&image, words, task.resources, settings)]));
    pod.insert("volumes".to_owned(), container::volumes(settings));
    let mut spec: Map<String, Json> = spec.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    spec.insert(
        "podFailurePolicy".to_owned(),
        json!({"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            // 75 counts as one of the retries. Everything else, as 137 for too little memory, does not change by itself.
            {"action": failure, "onExitCodes": {"containerName": "main", "operator": "NotIn", "values": [75]}},
        ]}),
    );
    spec.insert("template".to_owned(), json!({"spec": pod}));
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": task.name, "annotations": {"flow-plan-digest": settings.plan_digest}},
        "spec": spec,
    })
}
