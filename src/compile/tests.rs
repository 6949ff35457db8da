//! Tasks of small graphs, and what the targets make of them.

use serde_json::{Value as Json, json};

use super::{argo::lint::lint, settings::Word, *};
use crate::{
    config::{Resources, parse_yaml},
    diagnostic::{Diagnostic, Diagnostics, Severity, SourceId},
    graph::{Graph, testing::Sketch},
};

/// Plans all nodes; a node is partitioned when it reads and writes partitions.
fn plan_with(graph: &Graph, shards: Option<u32>, parallel: Option<u32>) -> (TaskPlan, Vec<Diagnostic>) {
    let selected: Vec<_> = graph.nodes().iter().map(|node| node.id).collect();
    let partitioned = |id| {
        let node: &crate::graph::NodeVertex = &graph[id];
        let all = |links: &[crate::graph::Link]| links.iter().any(|link| link.dataset.view() == Some("partitioned"));
        all(&node.inputs) && all(&node.outputs)
    };
    // The name of a node says where it keeps its answers.
    let answers = |id| {
        let node: &crate::graph::NodeVertex = &graph[id];
        node.name.strip_prefix("asks_").map(|folder| format!("{folder}/cache"))
    };
    let request = PlanRequest {
        selected: &selected,
        partitioned: &partitioned,
        answers: &answers,
        keep_folder: &|folder| format!("mount {folder}"),
        shared: &|location| !location.starts_with("local/"),
        not_shared: "on a pod's own disk",
        way_out: "give it a path on an object store",
        outputs_are_lost: true,
        shards,
        parallel,
    };
    let mut problems = Diagnostics::default();
    let plan = TaskPlan::new(graph, &request, &mut problems);
    (plan, problems.into_sorted())
}

/// The plan, which must be without errors and warnings.
fn plan(graph: &Graph) -> TaskPlan {
    let (plan, problems) = plan_with(graph, None, None);
    assert!(problems.is_empty(), "{problems:?}");
    plan
}

/// `name = nodes <- tasks before`.
fn lines(plan: &TaskPlan) -> Vec<String> {
    let line = |task: &Task| {
        let after: Vec<&str> = task.after.iter().map(|other| plan.tasks[*other].name.as_str()).collect();
        let arrow = if after.is_empty() { String::new() } else { format!(" <- {}", after.join(" ")) };
        format!("{} = {}{arrow}", task.name, task.nodes.join("+"))
    };
    plan.tasks.iter().map(line).collect()
}

const IN_G: &[&str] = &["argowf.fuse", "argowf.fuse-group.g"];

/// A table that is cut, embedded and counted.
fn seed() -> Sketch {
    let tags = &["argowf.fuse", "argowf.fuse-group.node_embeddings"];
    Sketch::new()
        .node("embeddings", "bucketize_nodes", &["nodes"], &["bucketized@table"])
        .node("embeddings", "add_embeddings", &["bucketized@partitioned"], &["embeddings@partitioned"])
        .node("embeddings", "count", &["embeddings@table"], &["count"])
        .tags("bucketize_nodes", tags)
        .tags("add_embeddings", tags)
}

fn settings() -> Settings {
    Settings {
        project: "/home/me/it's mine".to_owned(),
        env: Some("cloud".to_owned()),
        params: vec!["a.b=$(HOME) 'x'".to_owned()],
        plan_digest: "0011".to_owned(),
        ledger: Some("s3://bucket/ledger".to_owned()),
        retries: 5,
        variables: vec![
            Variable { name: "OPENAI_API_KEY".to_owned(), value: None },
            Variable { name: "REGION".to_owned(), value: Some("on".to_owned()) },
        ],
        image: Some("registry.example/project:1".to_owned()),
        service_account: Some("runner".to_owned()),
        volumes: vec![Volume { claim: "flow-data".to_owned(), path: "/project/data".to_owned() }],
        schedule: Some("0 3 * * *".to_owned()),
        ..Settings::default()
    }
}

fn target(name: &str) -> &'static dyn Target {
    *TARGETS.iter().find(|target| target.name() == name).expect("a target")
}

/// The files of a target, which must be without problems.
fn render(name: &str, plan: &TaskPlan) -> Vec<TargetFile> {
    let mut problems = Diagnostics::default();
    let files = target(name).render(plan, &settings(), &mut problems);
    assert!(problems.as_slice().is_empty(), "{:?}", problems.as_slice());
    files
}

/// The documents of a YAML file.
fn documents(text: &str) -> Vec<Json> {
    let one = |text: &str| {
        let mut problems = Diagnostics::default();
        let tree = parse_yaml(SourceId(0), text, &mut problems).expect("a tree");
        assert!(!problems.has_errors(), "{:?}", problems.as_slice());
        tree.to_json()
    };
    text.split("\n---\n").map(one).collect()
}

#[test]
fn a_group_around_another_node_is_divided_with_a_warning_and_has_no_cycle() {
    let graph = Sketch::new()
        .node("p", "a", &["in"], &["a1", "a2"])
        .node("p", "b", &["a1"], &["b1"])
        .node("p", "x", &["a2"], &["x1"])
        .node("p", "c", &["b1", "x1"], &["out"])
        .tags("a", IN_G)
        .tags("b", IN_G)
        .tags("c", IN_G)
        .graph();
    let (plan, problems) = plan_with(&graph, None, None);
    assert_eq!(lines(&plan), ["g = a+b", "x = x <- g", "g-2 = c <- g x"]);
    let [warning] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!((warning.code, warning.severity), ("compile::divided-group", Severity::Warning));
    assert_eq!(
        warning.message,
        "fuse group `g` cannot be one task: `x` runs after one of its nodes and before another"
    );
    assert_eq!(warning.help, ["it is divided into `a` + `b`, `c`; to keep it together, add this node to it"]);
    assert!(lint(&documents(&render("argo", &plan)[0].text)[0]).is_empty());
}

#[test]
fn parts_of_a_group_that_are_not_connected_have_names_of_their_own() {
    let graph = Sketch::new()
        .node("p", "a", &["in"], &["a1"])
        .node("p", "b", &["a1"], &["b1"])
        .node("p", "c", &["in"], &["c1"])
        .node("p", "d", &["c1"], &["d1"])
        .tags("a", IN_G)
        .tags("b", IN_G)
        .tags("c", IN_G)
        .tags("d", IN_G)
        .graph();
    let plan = plan(&graph);
    assert_eq!(lines(&plan), ["g = a+b", "g-2 = c+d"]);
    assert!(lint(&documents(&render("argo", &plan)[0].text)[0]).is_empty());
}

#[test]
fn a_pipeline_is_one_task_as_its_tags_ask_and_shards_divide_it_at_their_borders() {
    let tagged = seed().tags("count", &["argowf.fuse", "argowf.fuse-group.node_embeddings"]).graph();
    assert_eq!(lines(&plan(&tagged)), ["node-embeddings = bucketize_nodes+add_embeddings+count"]);
    let (plan, problems) = plan_with(&seed().graph(), Some(8), Some(2));
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(
        lines(&plan),
        [
            "node-embeddings = bucketize_nodes",
            "add-embeddings-shards = add_embeddings <- node-embeddings",
            "add-embeddings-gather = add_embeddings <- add-embeddings-shards",
            "count = count <- add-embeddings-gather",
        ]
    );
    assert_eq!(plan.tasks[1].kind, TaskKind::Shards { count: 8, parallel: 2 });
}

#[test]
fn shards_of_a_node_come_before_those_of_the_command_and_one_shard_is_none() {
    let shards = |count| Resources { shards: Some(count), ..Resources::default() };
    let (plan, _) = plan_with(&seed().resources("add_embeddings", shards(3)).graph(), Some(8), Some(100));
    assert_eq!(plan.tasks[1].kind, TaskKind::Shards { count: 3, parallel: 3 });
    let (plan, _) = plan_with(&seed().resources("add_embeddings", shards(1)).graph(), Some(8), None);
    assert_eq!(plan.tasks.len(), 2, "{plan:?}");
    let (_, problems) = plan_with(&seed().resources("count", shards(3)).graph(), None, None);
    assert_eq!(problems[0].code, "compile::no-partitions");
    assert_eq!(problems[0].message, "node `count` asks for 3 shards, but does not work partition by partition");
}

#[test]
fn a_task_gets_what_the_hungriest_of_its_nodes_needs() {
    let needs = |cpu_milli, memory, gpu| Resources { cpu_milli, memory, gpu, ..Resources::default() };
    let graph = seed()
        .resources("bucketize_nodes", needs(Some(4000), Some(1 << 30), None))
        .resources("add_embeddings", needs(Some(500), Some(2 << 30), Some(1)))
        .graph();
    let task = &plan(&graph).tasks[0];
    assert_eq!(task.resources, needs(Some(4000), Some(2 << 30), Some(1)));
}

#[test]
fn a_task_with_python_processes_may_use_most_of_its_memory_as_they_are_counted() {
    let of = |sketch: Sketch| {
        let memory = Resources { memory: Some(4 << 30), ..Resources::default() };
        let plan = plan(&sketch.resources("work", memory).graph());
        let words = settings().words(&plan.tasks[0]);
        let at = words.iter().position(|word| *word == Word::Text("--memory-limit".to_owned())).expect("a limit");
        words[at + 1].clone()
    };
    let sketch = || Sketch::new().node("p", "work", &["in"], &["out"]);
    assert_eq!(of(sketch().function("work", "python:work.clean")), Word::Text("3584MiB".to_owned()));
    assert_eq!(of(sketch()), Word::Text("2048MiB".to_owned()));
}

#[test]
fn tasks_of_the_same_resources_with_and_without_python_do_not_share_a_template() {
    let memory = || Resources { memory: Some(4 << 30), ..Resources::default() };
    let graph = Sketch::new()
        .node("p", "make", &["in"], &["between"])
        .node("p", "clean", &["between"], &["out"])
        .function("clean", "python:work.clean")
        .resources("make", memory())
        .resources("clean", memory())
        .graph();
    let text = &render("argo", &plan(&graph))[0].text;
    assert!(text.contains("3584MiB") && text.contains("2048MiB"), "{text}");
}

#[test]
fn data_in_memory_does_not_cross_tasks_and_stays_inside_one() {
    let crossing = |tags: &[&str]| {
        Sketch::new()
            .node("p", "make", &["in"], &["between"])
            .node("p", "use", &["between"], &["out"])
            .tags("make", tags)
            .tags("use", tags)
            .dataset("between", |facts| {
                facts.persistent = false;
                facts.location = None;
            })
            .graph()
    };
    let (_, problems) = plan_with(&crossing(&[]), None, None);
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!(problem.code, "compile::in-memory");
    assert_eq!(problem.message, "`between` is in memory, but `use` runs in another task than `make`, which writes it");
    assert!(problem.help[0].contains("argowf.fuse-group.NAME"), "{:?}", problem.help);
    assert_eq!(plan(&crossing(IN_G)).tasks.len(), 1);
}

#[test]
fn data_on_the_disk_of_one_task_does_not_cross_tasks_and_a_result_is_not_lost_there() {
    let graph = |location: &'static str| {
        Sketch::new()
            .node("p", "make", &["in"], &["between"])
            .node("p", "use", &["between"], &["out"])
            .dataset("between", |facts| facts.location = Some(location.into()))
            .graph()
    };
    assert_eq!(plan(&graph("s3://bucket/x")).tasks.len(), 2);
    for (location, code) in [("local/x", "compile::not-shared"), ("memory://x", "compile::in-memory")] {
        let (_, problems) = plan_with(&graph(location), None, None);
        assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), [code]);
    }
    let last = Sketch::new()
        .node("p", "make", &["in"], &["out"])
        .dataset("out", |facts| facts.location = Some("local/out".into()));
    let (_, problems) = plan_with(&last.graph(), None, None);
    assert_eq!(
        problems[0].message,
        "`out` (local/out) is on a pod's own disk, and is lost when the task of `make` ends"
    );
}

#[test]
fn answers_that_are_lost_with_the_disk_of_a_task_are_warned_about() {
    let graph = Sketch::new()
        .node("p", "asks_local", &["in"], &["answers"])
        .node("p", "asks_shared", &["in"], &["others"])
        .graph();
    let (plan, problems) = plan_with(&graph, None, None);
    assert_eq!(plan.tasks.len(), 2);
    let [warning] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!((warning.code, warning.severity), ("compile::answers-not-kept", Severity::Warning));
    assert!(
        warning.message.starts_with("node `asks_local` writes a table at its end")
            && warning.message.contains("is in `local/cache`, on a pod's own disk: an attempt that is stopped"),
        "{}",
        warning.message
    );
    assert_eq!(warning.help[0], "mount local/cache");
}

#[test]
fn tags_that_say_half_of_it_are_warned_about() {
    let graph = seed()
        .tags("bucketize_nodes", &["argowf.fuse"])
        .tags("add_embeddings", &["argowf.fuse-group.g"])
        .tags("count", &["argowf.fuse", "argowf.fuse-group.g", "argowf.fuse-group.h"])
        .graph();
    let (plan, problems) = plan_with(&graph, None, None);
    assert_eq!(plan.tasks.len(), 3);
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.code == "compile::fuse-tags"));
}

#[test]
fn every_target_writes_the_same_on_every_call_says_what_made_it_and_holds_no_anchor() {
    let (several, _) = plan_with(&seed().graph(), Some(8), Some(2));
    let (one, _) = plan_with(
        &Sketch::new().node("p", "embed", &["in@partitioned"], &["out@partitioned"]).graph(),
        Some(8),
        Some(2),
    );
    for target in TARGETS {
        let plan = if target.name() == "k8s-job" { &one } else { &several };
        let files = render(target.name(), plan);
        assert_eq!(files, render(target.name(), plan));
        for file in files {
            let made_by = format!("# Made by `flow compile {}`", target.name());
            let first = file.text.lines().find(|line| !line.starts_with("#!")).expect("a line");
            assert!(first.starts_with(&made_by), "{first}");
            assert!(file.text.ends_with('\n') && !file.text.ends_with("\n\n"), "{}", file.name);
            assert!(!file.text.contains(": &") && !file.text.contains(": *"), "{}", file.text);
        }
    }
}

#[test]
fn a_job_is_refused_for_anything_but_the_shards_of_one_node() {
    let single = Sketch::new().node("p", "embed", &["in@partitioned"], &["out@partitioned"]).graph();
    for (plan, shown) in [
        (plan_with(&seed().graph(), Some(8), None).0, "`bucketize_nodes`, `add_embeddings`, `count` without shards"),
        (plan_with(&single, None, None).0, "`embed` without shards"),
    ] {
        let mut problems = Diagnostics::default();
        assert!(target("k8s-job").render(&plan, &settings(), &mut problems).is_empty());
        assert!(problems.as_slice()[0].message.ends_with(shown), "{:?}", problems.as_slice());
    }
}

#[test]
fn values_that_argo_would_replace_are_refused() {
    let plan = plan(&seed().graph());
    let settings = Settings { params: vec!["t={{ name }}".to_owned()], ..settings() };
    let mut problems = Diagnostics::default();
    target("argo").render(&plan, &settings, &mut problems);
    let codes: Vec<_> = problems.as_slice().iter().map(|problem| problem.code).collect();
    assert!(codes.contains(&"compile::blank"), "{codes:?}");
}

#[test]
fn secrets_are_named_and_never_written() {
    let (plan, _) = plan_with(&seed().graph(), Some(8), Some(2));
    let text = &render("argo", &plan)[0].text;
    let container = &documents(text)[0]["spec"]["templates"][1]["container"];
    assert_eq!(
        container["env"][1],
        json!({"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {
            "name": "flow-secrets", "key": "OPENAI_API_KEY", "optional": true}}})
    );
    assert_eq!(container["env"][2], json!({"name": "REGION", "value": "on"}), "a string, whatever YAML makes of `on`");
    assert_eq!(container["args"][3], "a.b=$$(HOME) 'x'", "Kubernetes would replace it");
}

/// Edits one place of a document.
fn with(document: &Json, pointer: &str, edit: impl FnOnce(&mut Json)) -> Json {
    let mut document = document.clone();
    edit(document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not there")));
    document
}

#[test]
fn the_lint_finds_what_the_controller_refuses() {
    let (plan, _) = plan_with(&seed().graph(), Some(8), Some(2));
    let documents = documents(&render("argo", &plan)[0].text);
    let (workflow, cron) = (&documents[0], &documents[1]);
    assert_eq!((lint(workflow), lint(cron)), (Vec::new(), Vec::new()));
    let tasks = "/spec/templates/0/dag/tasks";
    let set = |value: Json| move |place: &mut Json| *place = value;
    for (pointer, value, found) in [
        (format!("{tasks}/1/dependencies/0"), json!("nope"), "depends on `nope`, which is missing"),
        (format!("{tasks}/1/template"), json!("nope"), "uses the template `nope`, which is missing"),
        (format!("{tasks}/1/name"), json!("node-embeddings"), "two tasks of the DAG `pipeline` are named"),
        (format!("{tasks}/1/name"), json!("1st"), "begins with a digit"),
        (format!("{tasks}/1/name"), json!("a_b"), "is not a name of a task"),
        (format!("{tasks}/1/arguments/parameters/1/name"), json!("shard"), "gives no `shards` to its template"),
        (format!("{tasks}/0/dependencies"), json!(["count"]), "depends on itself"),
        (format!("{tasks}/0/depends"), json!("count"), "has `depends` and `dependencies`"),
        ("/spec/templates/1/container/args/0".to_owned(), json!("{{inputs.parameters.nope}}"), "is not known"),
        ("/spec/templates/1/container/args/0".to_owned(), json!("{{item}}"), "is not known"),
        ("/spec/templates/1/container/args/0".to_owned(), json!("{{open"), "has no `}}`"),
        ("/spec/templates/1/name".to_owned(), json!("pipeline"), "two templates are named `pipeline`"),
        ("/spec/templates/0/activeDeadlineSeconds".to_owned(), json!(5), "is a DAG and has `activeDeadlineSeconds`"),
        ("/spec/templates/1/parallelism".to_owned(), json!(5), "is no DAG and has `parallelism`"),
        ("/spec/templates/1/container/volumeMounts/0/name".to_owned(), json!("x"), "which is not a volume"),
        ("/spec/entrypoint".to_owned(), json!("nope"), "the entrypoint `nope` is not a template"),
        ("/metadata/name".to_owned(), json!("A_b"), "is not a name of an object"),
        ("/metadata/labels".to_owned(), json!({"x": "y".repeat(64)}), "is longer than 63"),
        ("/kind".to_owned(), json!("WorkflowTempalte"), "is not a kind of Argo"),
    ] {
        // A key that is not there yet is added to what is around it.
        let (around, key) = pointer.rsplit_once('/').expect("a pointer");
        let wrong = match workflow.pointer(&pointer) {
            Some(_) => with(workflow, &pointer, set(value)),
            None => with(workflow, around, |place| place[key] = value),
        };
        let problems = lint(&wrong);
        assert!(problems.iter().any(|problem| problem.contains(found)), "{pointer}: {found}: {problems:?}");
    }
    let wrong = with(cron, "/spec/schedules/0", set(json!("0 25 * * *")));
    assert_eq!(lint(&wrong), ["`0 25 * * *` is not a schedule of cron"]);
    // Without a node, a list of tasks has no cycle.
    assert!(!lint(&json!({"kind": "WorkflowTemplate", "metadata": {"name": "x"}, "spec": {}})).is_empty());
}
