//! What is computed again and what is not, and what `flow plan` says about it.

use std::sync::Arc;

use flow::{
    config::{self, LoadOptions},
    data::Stores,
    diagnostic::Diagnostics,
    function::{Arguments, Context, Function, Job, MemoryBudget},
    model::{Signature, Usage},
    net::{ServiceContext, ServiceEnvironment},
    run::{Action, Registry, RunPlan, Workspace},
};
use serde_json::Value as Json;
use tokio::runtime::Runtime;

use crate::support::{
    Project,
    api_server::{ApiServer, Behaviour},
    place::Place,
    small,
};

fn ran(rows: usize) -> Project {
    let project = small::project("data/out", "").file("data/nodes.csv", &small::csv(0..rows, "any", 2));
    project.flow("run -q").exits(0);
    project
}

/// What the plan says about a node: its action, its reason, and how many partitions would run.
fn plan(project: &Project, node: &str) -> (String, String, u64) {
    let plan = project.flow("plan --output json").exits(0).json();
    let nodes = plan["nodes"].as_array().expect("nodes");
    let node = nodes.iter().find(|found| found["name"] == node).unwrap_or_else(|| panic!("{node} in {plan}"));
    let text = |key: &str| node[key].as_str().expect("a string").to_owned();
    (text("action"), text("reason"), node["partitions"]["run"].as_u64().unwrap_or_default())
}

fn all_skipped(project: &Project) {
    for node in ["cut", "embed"] {
        assert_eq!(plan(project, node), ("skip".to_owned(), "up to date".to_owned(), 0));
    }
}

#[test]
fn what_cannot_change_a_vector_invalidates_nothing() {
    let runtime = Runtime::new().expect("threads");
    let server = runtime.block_on(ApiServer::start(Behaviour::default()));
    let model = |more: &str| {
        format!(
            "size: 10\nlength: 60\nfeatures: [name]\nmodel:\n  provider: openai\n  model: text-embedding-3-small\n  base_url: {}\n  \
             api_key: ${{oc.env:KEY}}\n  dimensions: 8\n{more}",
            server.base_url()
        )
    };
    let project = small::project("data/out", "")
        .file("data/nodes.csv", &small::csv(0..50, "any", 2))
        .file("parameters.yml", &model(""))
        .env("KEY", "first-key");
    project.flow("run -q").exits(0);
    let requests = server.requests();
    assert!(requests > 0);
    // Another key, other limits, retries and timeouts, another order of keys and other comments.
    for more in [
        "  limits: {rpm: 10, tpm: 100000, concurrency: 2}\n",
        "  retry: {max_attempts: 3, deadline: 10s}\n",
        "  timeout: 17s\n",
        "  max_outage: 1m\n",
        "  batch: {max_inputs: 3}\n",
        "  price_per_million_tokens: 1\n",
        "  organization: another\n",
        "  cache: {path: elsewhere}\n",
        "  errors: {max_row_error_rate: 0.5}\n",
    ] {
        project.write("parameters.yml", &model(more));
        project.flow("check").exits(0);
        all_skipped(&project);
    }
    let reversed: Vec<String> = model("").lines().skip(4).map(str::to_owned).collect();
    let reversed: String = reversed.iter().rev().map(|line| format!("{line}\n")).collect();
    project
        .write("parameters.yml", &format!("# A comment.\nfeatures: [name]\nlength: 60\nmodel:\n{reversed}size: 10\n"));
    all_skipped(&project);
    let project = project.env("KEY", "second-key");
    all_skipped(&project);
    project.flow("run -q").exits(0);
    assert_eq!(server.requests(), requests, "and nothing was sent");
    // What does change vectors invalidates them all.
    project.write("parameters.yml", &model("").replace("dimensions: 8", "dimensions: 4"));
    let (action, reason, run) = plan(&project, "embed");
    assert_eq!((action.as_str(), run), ("run", 5));
    assert_eq!(reason, "5 of 5 partitions out of date (input, parameters or function changed)");
}

#[test]
fn how_partitions_are_computed_and_saved_invalidates_nothing() {
    let more = "overwrite: true, save_args: {max_workers: 1, timeout: 5, on_error: stop}";
    let project = ran(50).edit("catalog.yml", "overwrite: true", more);
    all_skipped(&project);
    // A node's name, tags and place in the file are not what it computes.
    let output = "    outputs: buckets@table\n";
    let project = project.edit("pipelines/main.yml", output, &format!("{output}    tags: [cheap]\n"));
    all_skipped(&project);
}

#[test]
fn an_upstream_that_ran_again_and_changed_nothing_stops_there() {
    let project = ran(50);
    let before = Place::Local(project.path("data/out/vectors")).files();
    // The same rows in another order, and so another file.
    let text = project.read("data/nodes.csv");
    let mut lines: Vec<&str> = text.lines().collect();
    lines[1..].reverse();
    project.write("data/nodes.csv", &lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!(plan(&project, "cut"), ("run".to_owned(), "input, parameters or function changed".to_owned(), 0));
    assert_eq!(
        plan(&project, "embed"),
        ("skip".to_owned(), "up to date: `cut` will write the same partitions again".to_owned(), 0)
    );
    let lines = project.flow("run --output json").exits(0).lines();
    let skipped = lines.iter().find(|event| event["kind"] == "node.skipped").expect("one node had nothing to do");
    assert_eq!((&skipped["node"], &skipped["reason"]), (&Json::from("embed"), &Json::from("up to date")));
    assert_eq!(Place::Local(project.path("data/out/vectors")).files(), before);
    all_skipped(&project);
}

#[test]
fn a_plan_says_why() {
    let project = small::project("data/out", "").file("data/nodes.csv", &small::csv(0..50, "any", 2));
    assert_eq!(plan(&project, "cut").1, "output is missing");
    assert_eq!(plan(&project, "embed").1, "depends on `buckets`, which is written first");
    project.flow("run -q").exits(0);
    all_skipped(&project);
    let vectors = project.path("data/out/vectors");
    let files = Place::Local(vectors.clone()).files();
    std::fs::remove_file(vectors.join(&files[1])).expect("removed");
    assert_eq!(plan(&project, "embed"), ("run".to_owned(), "1 of 5 partitions missing".to_owned(), 1));
    std::fs::rename(vectors.join(&files[2]), vectors.join("bucket=2/part-0.parquet")).expect("renamed");
    assert_eq!(
        plan(&project, "embed"),
        (
            "run".to_owned(),
            "1 of 5 partitions missing, 1 of 5 partitions out of date (input, parameters or function changed)"
                .to_owned(),
            2
        )
    );
    std::fs::create_dir(vectors.join("bucket=77")).expect("a folder");
    std::fs::copy(vectors.join(&files[3]), vectors.join("bucket=77/part-0.parquet")).expect("copied");
    assert!(plan(&project, "embed").1.ends_with("1 to remove, since the input no longer has them"));
    let forced = project.flow("plan --force --output json").exits(0).json();
    assert_eq!(forced["nodes"][0]["reason"], "forced");
    project.flow("run -q").exits(0);
    all_skipped(&project);
    std::fs::write(project.path("data/out/buckets/bucket=0/extra.parquet"), "x").expect("written");
    assert_eq!(plan(&project, "cut").1, "output was modified outside flow or is incomplete");
}

/// Partitions of the output, and how many of them the input still has.
fn partitions(project: &Project) -> usize {
    Place::Local(project.path("data/out/vectors")).tables().len()
}

#[test]
fn partitions_that_vanished_from_the_input_go_after_everything_else_is_there_or_stay() {
    for overwrite in [true, false] {
        let project = ran(100).edit("catalog.yml", "overwrite: true", &format!("overwrite: {overwrite}"));
        project.write("data/nodes.csv", &small::csv(0..50, "other", 1));
        project.flow("run -q --nodes cut").exits(0);
        let expected: &[&str] = &[
            "5 of 5 partitions out of date (input, parameters or function changed)",
            "5 to remove, since the input no longer has them",
        ];
        assert_eq!(plan(&project, "embed").1, if overwrite { expected.join(", ") } else { expected[0].to_owned() });
        // Killed at any step, the five that vanished are there as long as one of the others is not.
        for step in 1.. {
            let mut command = project.command(["run", "-q"]);
            let status = command.env("FLOW_UNSTABLE_KILL_AT", step.to_string()).status().expect("the binary starts");
            let summary = project.flow("plan --output json").exits(0).json();
            if summary["nodes"][1]["partitions"]["run"] != 0 {
                assert_eq!(partitions(&project), 10, "step {step}");
            }
            if status.success() {
                break;
            }
        }
        assert_eq!(partitions(&project), if overwrite { 5 } else { 10 });
        all_skipped(&project);
    }
}

/// A function of the registry in its next version.
struct Newer(&'static dyn Function);

impl Function for Newer {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn doc(&self) -> &'static str {
        self.0.doc()
    }

    fn version(&self) -> u64 {
        self.0.version() + 1
    }

    fn signature(&self) -> Signature {
        self.0.signature()
    }

    fn prepare(&self, arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Job> {
        self.0.prepare(arguments, problems)
    }
}

/// The plan of a project with these functions.
fn plan_with(project: &Project, functions: Vec<&'static dyn Function>) -> RunPlan {
    let registry = Registry { functions, ..Registry::builtin() };
    let mut problems = Diagnostics::default();
    let folder = project.path("");
    let options = LoadOptions {
        project: Some(&folder),
        env: None,
        params: &[],
        environment: &|_| None,
        ask: None,
        pipelines: &[],
    };
    let (_, loaded) = config::load(&options, &mut problems);
    let workspace =
        loaded.and_then(|loaded| Workspace::assemble(loaded, &registry, &flow::data::normalized, &mut problems));
    let workspace = workspace.unwrap_or_else(|| panic!("{:?}", problems.into_sorted()));
    let stores = Stores::new(folder.clone(), Arc::new(|_| None));
    let service = ServiceContext {
        root: folder,
        usage: Arc::new(Usage::default()),
        max_cost_nano_usd: None,
        max_requests: None,
        environment: ServiceEnvironment::default(),
        notices: Default::default(),
        stopping: Default::default(),
        clients: Default::default(),
    };
    let session = flow::data::session(512 << 20, 2).expect("a session");
    let context = Context { session, service, memory: MemoryBudget::of_limit(512 << 20), python: Default::default() };
    let selected: Vec<_> = workspace.steps().iter().map(|step| step.id).collect();
    let runtime = Runtime::new().expect("threads");
    runtime.block_on(flow::run::plan(&workspace, &stores, &context, &selected, Default::default())).expect("a plan")
}

#[test]
fn a_newer_version_of_a_function_makes_what_it_wrote_out_of_date_and_nothing_else() {
    // Readers of the vectors through `sql`, so that every function that computes anything is in the pipeline.
    let project = ran(50)
        .more("catalog.yml", "vectors@table: {type: parquet, path: data/out/vectors}\ncount: {type: csv, path: data/count.csv}\n")
        .more("parameters.yml", "query: SELECT count(*) AS n FROM vectors\n")
        .more("pipelines/main.yml", "  - name: count\n    function: sql\n    inputs: {vectors: vectors@table, query: params:query}\n    outputs: count\n");
    project.flow("run -q").exits(0);
    let current = Registry::builtin().functions;
    let actions = |plan: &RunPlan| plan.nodes.iter().map(|node| node.action).collect::<Vec<_>>();
    assert_eq!(actions(&plan_with(&project, current.clone())), [Action::Skip; 3]);
    for (name, expected) in [
        (
            "bucketize",
            ["input, parameters or function changed", "`cut` will write the same partitions again", "up to date"],
        ),
        (
            "compute_embeddings",
            ["up to date", "5 of 5 partitions out of date (input, parameters or function changed)", "written first"],
        ),
        ("sql", ["up to date", "up to date", "input, parameters or function changed"]),
        ("placeholder", ["up to date"; 3]),
    ] {
        let newer = current.iter().map(|function| -> &'static dyn Function {
            if function.name() == name { Box::leak(Box::new(Newer(*function))) } else { *function }
        });
        let plan = plan_with(&project, newer.collect());
        for (node, expected) in plan.nodes.iter().zip(expected) {
            assert!(node.reason.contains(expected), "{name} changed: {}: {}", node.name, node.reason);
        }
    }
}
