//! What Argo's controller refuses and no schema finds: names, references, arguments and cycles.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::schedule::is_schedule;

/// Characters of the name of a template or task.
const LONGEST_NAME: usize = 128;
/// Characters of the name of an object, and of a label.
const LONGEST_OBJECT: usize = 63;
/// Variables of a workflow that are always there.
const OF_THE_WORKFLOW: &[&str] =
    &["workflow.name", "workflow.namespace", "workflow.uid", "workflow.serviceAccountName"];
/// Keys of a template that are for containers only, and for DAGs only.
const LEAF_ONLY: &[&str] = &["activeDeadlineSeconds", "retryStrategy"];
const KINDS: &[&str] =
    &["container", "dag", "steps", "script", "suspend", "resource", "data", "http", "plugin", "containerSet"];

/// Every problem of a WorkflowTemplate or CronWorkflow.
pub fn lint(document: &Json) -> Vec<String> {
    let mut problems = Vec::new();
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    if !is_object_name(name) {
        problems.push(format!("`{name}` is not a name of an object: small letters, digits and `-`, at most 63"));
    }
    for (label, value) in document["metadata"]["labels"].as_object().into_iter().flatten() {
        if value.as_str().is_none_or(|value| value.len() > LONGEST_OBJECT) {
            problems.push(format!("the label `{label}` is longer than 63"));
        }
    }
    match document["kind"].as_str() {
        Some("WorkflowTemplate") => workflow(&document["spec"], &mut problems),
        Some("CronWorkflow") => {
            let spec = &document["spec"];
            if spec["schedules"].as_array().is_none_or(Vec::is_empty) {
                problems.push("a CronWorkflow has no `schedules`".to_owned());
            }
            for schedule in spec["schedules"].as_array().into_iter().flatten() {
                let text = schedule.as_str().unwrap_or_default();
                if !is_schedule(text) {
                    problems.push(format!("`{text}` is not a schedule of cron"));
                }
            }
            if spec["workflowSpec"]["workflowTemplateRef"]["name"].as_str().is_none_or(|name| !is_object_name(name)) {
                problems.push("a CronWorkflow names no WorkflowTemplate".to_owned());
            }
        }
        other => problems.push(format!("`{}` is not a kind of Argo that is written", other.unwrap_or("null"))),
    }
    problems
}

/// True for the name of an object of Kubernetes.
fn is_object_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty()
        && name.len() <= LONGEST_OBJECT
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// True for the name of a template, task or parameter.
fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(inner) && !name.starts_with('-')
}

fn workflow(spec: &Json, problems: &mut Vec<String>) {
    let templates: Vec<&Json> = spec["templates"].as_array().into_iter().flatten().collect();
    let mut by_name: BTreeMap<&str, &Json> = BTreeMap::new();
    for template in &templates {
        let name = template["name"].as_str().unwrap_or_default();
        if !is_name(name) {
            problems.push(format!("`{name}` is not a name of a template"));
        }
        if by_name.insert(name, template).is_some() {
            problems.push(format!("two templates are named `{name}`"));
        }
    }
    let entry = spec["entrypoint"].as_str().unwrap_or_default();
    if !by_name.contains_key(entry) {
        problems.push(format!("the entrypoint `{entry}` is not a template"));
    }
    let globals: BTreeSet<String> =
        names(&spec["arguments"]).into_iter().map(|name| format!("workflow.parameters.{name}")).collect();
    let volumes: BTreeSet<&str> =
        spec["volumes"].as_array().into_iter().flatten().filter_map(|volume| volume["name"].as_str()).collect();
    for template in &templates {
        let name = template["name"].as_str().unwrap_or_default();
        let kinds: Vec<&&str> = KINDS.iter().filter(|kind| !template[**kind].is_null()).collect();
        if kinds.len() != 1 {
            problems.push(format!("template `{name}` must be one of {}", KINDS.join(", ")));
        }
        let is_group = !template["dag"].is_null() || !template["steps"].is_null();
        for key in LEAF_ONLY.iter().filter(|key| is_group && !template[**key].is_null()) {
            problems.push(format!("template `{name}` is a DAG and has `{key}`"));
        }
        if !is_group && !template["parallelism"].is_null() {
            problems.push(format!("template `{name}` is no DAG and has `parallelism`"));
        }
        for mount in template["container"]["volumeMounts"].as_array().into_iter().flatten() {
            let volume = mount["name"].as_str().unwrap_or_default();
            if !volumes.contains(volume) {
                problems.push(format!("template `{name}` mounts `{volume}`, which is not a volume of the workflow"));
            }
        }
        let mut known = globals.clone();
        known.extend(names(&template["inputs"]).into_iter().map(|input| format!("inputs.parameters.{input}")));
        if !template["container"].is_null() {
            known.extend(["pod.name", "retries"].map(str::to_owned));
        }
        blanks(name, "", template, &known, problems);
        if let Some(tasks) = template["dag"]["tasks"].as_array() {
            dag(name, tasks, &by_name, problems);
        }
    }
}

/// The names of parameters.
fn names(of: &Json) -> Vec<&str> {
    of["parameters"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect()
}

fn dag(of: &str, tasks: &[Json], templates: &BTreeMap<&str, &Json>, problems: &mut Vec<String>) {
    let mut after: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let uses = |key: &str| tasks.iter().any(|task| !task[key].is_null());
    if uses("depends") && uses("dependencies") {
        problems.push(format!("the DAG `{of}` has `depends` and `dependencies`"));
    }
    for task in tasks {
        let name = task["name"].as_str().unwrap_or_default();
        if !is_name(name) {
            problems.push(format!("`{name}` is not a name of a task"));
        }
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            problems.push(format!("task `{name}` begins with a digit"));
        }
        let others = task["dependencies"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        if after.insert(name, others).is_some() {
            problems.push(format!("two tasks of the DAG `{of}` are named `{name}`"));
        }
        let template = task["template"].as_str().unwrap_or_default();
        let Some(template) = templates.get(template) else {
            problems.push(format!("task `{name}` uses the template `{template}`, which is missing"));
            continue;
        };
        let given = names(&task["arguments"]);
        for input in template["inputs"]["parameters"].as_array().into_iter().flatten() {
            let input_name = input["name"].as_str().unwrap_or_default();
            if input["value"].is_null() && input["default"].is_null() && !given.contains(&input_name) {
                problems.push(format!("task `{name}` gives no `{input_name}` to its template"));
            }
        }
    }
    for (name, others) in &after {
        for other in others.iter().filter(|other| !after.contains_key(**other)) {
            problems.push(format!("task `{name}` depends on `{other}`, which is missing"));
        }
    }
    if let Some(name) = in_a_cycle(&after) {
        problems.push(format!("task `{name}` depends on itself"));
    }
}

/// A task of a cycle, if there is one: what is left when tasks that wait for nothing are taken away.
fn in_a_cycle<'a>(after: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<&'a str> {
    let known = |others: &[&'a str]| others.iter().filter(|other| after.contains_key(**other)).count();
    let mut waiting: BTreeMap<&str, usize> = after.iter().map(|(name, others)| (*name, known(others))).collect();
    let mut dependents: BTreeMap<&str, Vec<&'a str>> = BTreeMap::new();
    for (name, others) in after {
        others.iter().for_each(|other| dependents.entry(other).or_default().push(name));
    }
    let mut ready: Vec<&str> = waiting.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    while let Some(name) = ready.pop() {
        waiting.remove(name);
        for next in dependents.get(name).into_iter().flatten() {
            let count = waiting.get_mut(next).expect("it waits for this one");
            *count -= 1;
            if *count == 0 {
                ready.push(next);
            }
        }
    }
    after.keys().copied().find(|name| waiting.contains_key(name))
}

/// Every `{{…}}` must be known. Inside a task with a loop, `item` is.
fn blanks(template: &str, path: &str, value: &Json, known: &BTreeSet<String>, problems: &mut Vec<String>) {
    match value {
        Json::String(text) => {
            let mut rest = text.as_str();
            while let Some((_, from)) = rest.split_once("{{") {
                let Some((blank, after)) = from.split_once("}}") else {
                    problems.push(format!("template `{template}`: `{text}` has no `}}}}`"));
                    return;
                };
                let blank = blank.trim();
                if !known.contains(blank) && !OF_THE_WORKFLOW.contains(&blank) {
                    problems.push(format!("template `{template}`: `{{{{{blank}}}}}` in `{path}` is not known"));
                }
                rest = after;
            }
        }
        Json::Array(items) => items.iter().for_each(|item| blanks(template, path, item, known, problems)),
        Json::Object(map) => {
            let loops = |map: &Map<String, Json>| {
                ["withSequence", "withItems", "withParam"].iter().any(|key| map.contains_key(*key))
            };
            let mut own = None;
            if loops(map) {
                own = Some(known.iter().cloned().chain(["item".to_owned()]).collect::<BTreeSet<_>>());
            }
            for (key, value) in map {
                blanks(template, key, value, own.as_ref().unwrap_or(known), problems);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}
