//! The end of a run: the exit code, the status and the messages match what happened.

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::support::{
    Project,
    api_server::{ApiServer, Behaviour, Fault, When},
    small,
};

const REFUSED: &str = r#"{"error":{"message":"no such key","type":"invalid_request_error","code":"invalid_api_key"}}"#;

/// 100 rows in ten buckets, embedded by a server.
fn with_server(server: &ApiServer, model: &str) -> Project {
    let parameters = format!("size: 10\nlength: 60\nfeatures: [name]\nmodel: {}\n", openai(server, model));
    small::project("data/out", "")
        .file("data/nodes.csv", &small::csv(0..100, "any", 2))
        .file("parameters.yml", &parameters)
        .env("KEY", "a-key")
}

fn openai(server: &ApiServer, more: &str) -> String {
    format!(
        "{{provider: openai, model: m, base_url: '{}', api_key: '${{oc.env:KEY}}', dimensions: 8, cache: {{mode: 'off'}}{more}}}",
        server.base_url()
    )
}

#[test]
fn a_node_that_is_stopped_because_another_was_refused_is_no_interruption() {
    let runtime = Runtime::new().expect("threads");
    let (refusing, slow) = runtime.block_on(async {
        (ApiServer::start(Behaviour::default()).await, ApiServer::start(Behaviour::default()).await)
    });
    refusing.fault(When::Always, Fault::Status(401, Vec::new(), REFUSED.to_owned()));
    slow.fault(When::Always, Fault::Delay(Duration::from_millis(700)));
    let project = with_server(&refusing, "")
        .more("parameters.yml", &format!("slow: {}\n", openai(&slow, "")))
        .more("catalog.yml", "slow@partitioned: {type: partitioned, path: data/out/slow, dataset: {type: parquet}, save_args: {max_workers: 1}}\n")
        .more(
            "pipelines/main.yml",
            "  - name: slow\n    function: compute_embeddings\n    inputs: {dfs: buckets@partitioned, model: params:slow}\n    outputs: slow@partitioned\n",
        );
    let output = project.flow("run --jobs 2 --output json").exits(3);
    let summary = output.summary();
    assert_eq!(summary["status"], "failed", "{summary}");
    assert_eq!((&summary["nodes"]["failed"], &summary["nodes"]["blocked"]), (&1.into(), &1.into()), "{summary}");
    assert!(!output.stderr.contains("stopped by") && output.stderr.contains("invalid_api_key"), "{}", output.stderr);
}

#[test]
fn all_missing_inputs_are_reported_at_once_whatever_else_is_upstream() {
    let project = small::project("data/out", "")
        .more("catalog.yml", "first: {type: csv, path: data/first.csv}\nother: {type: csv, path: data/other.csv}\nout: {type: csv, path: data/out.csv}\n")
        .more("parameters.yml", "query: SELECT count(*) AS n FROM nodes, first, buckets\n")
        .more(
            "pipelines/main.yml",
            "  - name: join\n    function: sql\n    inputs: {nodes: nodes, first: first, buckets: buckets@table, query: params:query}\n    outputs: out\n",
        );
    for command in ["run", "plan"] {
        let refused = project.flow(command).exits(3);
        let stderr = &refused.stderr;
        for expected in [
            "input `nodes` of nodes `cut`, `join` is missing: nothing at data/nodes.csv",
            "input `first` of node `join` is missing: nothing at data/first.csv",
            "help: put the data there, or correct its path in the catalog",
        ] {
            assert!(stderr.contains(expected), "{command}: {expected} in {stderr}");
        }
        assert_eq!(stderr.matches("`nodes`").count(), 1, "{stderr}");
        assert_eq!(project.files("data/out"), [""; 0], "nothing was started");
    }
    let refused = project.flow("run --nodes embed").exits(3);
    let expected = "input `buckets@partitioned` of node `embed` is missing: nothing at data/out/buckets";
    assert!(
        refused.stderr.contains(expected) && refused.stderr.contains("help: run `cut`, which writes it"),
        "{}",
        refused.stderr
    );
}

#[test]
fn too_many_rows_with_errors_fail_the_next_run_too_and_what_comes_after_does_not_start() {
    let runtime = Runtime::new().expect("threads");
    let server = runtime.block_on(ApiServer::start(Behaviour::default()));
    let body = r#"{"error":{"message":"cannot be embedded","type":"invalid_request_error"}}"#;
    server.fault(When::Text("broken".to_owned()), Fault::Status(400, Vec::new(), body.to_owned()));
    let model = |rate: &str| {
        format!(
            "size: 10\nlength: 60\nfeatures: [name]\nquery: SELECT count(*) AS n FROM vectors\nmodel: {}\n",
            openai(&server, &format!(", errors: {{max_row_error_rate: {rate}}}"))
        )
    };
    let project = with_server(&server, "")
        .file("data/nodes.csv", &small::csv(0..30, "broken", 30))
        .file("parameters.yml", &model("0"))
        .more("catalog.yml", "vectors@table: {type: parquet, path: data/out/vectors}\ncount: {type: csv, path: data/count.csv}\n")
        .more("pipelines/main.yml", "  - name: count\n    function: sql\n    inputs: {vectors: vectors@table, query: params:query}\n    outputs: count\n");
    let expected = "embed: 1 of 30 rows failed (3.33 %), above `max_row_error_rate` (0.00 %)";
    let first = project.flow("run --output json").exits(1);
    assert!(first.stderr.contains(expected), "{}", first.stderr);
    let requests = server.requests();
    for _ in 0..2 {
        let again = project.flow("run --output json").exits(1);
        assert!(again.stderr.contains(expected), "{}", again.stderr);
        for key in ["status", "nodes"] {
            let (first, again) = (&first.summary()[key], &again.summary()[key]);
            assert_eq!(first["failed"], again["failed"]);
            assert_eq!(first["blocked"], again["blocked"]);
        }
        assert!(!project.path("data/count.csv").exists(), "what comes after does not run");
    }
    assert_eq!(server.requests(), requests, "nothing is computed again");
    let plan = project.flow("plan --output json").exits(0).json();
    let reasons: Vec<_> = plan["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| node["reason"].as_str().expect("a reason"))
        .collect();
    assert!(reasons[1].contains("1 of 30 rows failed") && reasons[2].contains("because `embed` fails"), "{reasons:?}");
    project.write("parameters.yml", &model("0.05"));
    project.flow("run").exits(5);
    assert!(project.path("data/count.csv").exists());
    project.flow("run").exits(5);
}

#[test]
fn the_same_cause_is_reported_once_with_how_many_and_which() {
    let runtime = Runtime::new().expect("threads");
    let server = runtime.block_on(ApiServer::start(Behaviour::default()));
    server.fault(When::Always, Fault::Vectors(|vectors| vectors.iter_mut().for_each(|vector| vector.push(0.5))));
    let project = with_server(&server, ", retry: {max_attempts: 1}").edit(
        "catalog.yml",
        "overwrite: true",
        "overwrite: true, save_args: {on_error: continue}",
    );
    for arguments in ["run --output json", "run --progress none --output json"] {
        let output = project.flow(arguments);
        assert!(matches!(output.code, 1 | 3), "{}", output.stderr);
        let summary = output.summary();
        let causes = summary["causes"].as_array().expect("causes");
        assert_eq!(causes.len(), 1, "{summary}");
        let cause = causes[0]["error"].as_str().expect("a string");
        assert_eq!(causes[0]["partitions"], summary["partitions"]["failed"], "{summary}");
        assert!(output.stderr.matches(cause).count() <= 2, "once as it happens, once in the end: {}", output.stderr);
        let last = output.stderr.split("failed after").nth(1).expect("a summary");
        assert_eq!(last.matches(cause).count(), 1, "{last}");
        assert!(last.contains("bucket="), "{last}");
    }
}

#[test]
fn a_run_that_goes_on_is_running_and_one_without_an_end_was_killed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let project = small::project("data/out", "").file("data/nodes.csv", &small::csv(0..50, "any", 2)).env("KEY", "k");
    project.write(
        "parameters.yml",
        &format!("size: 10\nlength: 60\nfeatures: [name]\nmodel: {{provider: openai, model: m, base_url: 'http://{address}/v1', api_key: '${{oc.env:KEY}}'}}\n"),
    );
    let mut child = project.spawn("run");
    // A request has come, so the run is at work and waits for a response.
    let held = listener.accept().expect("a request");
    let run = |project: &Project| project.flow("runs --output json").exits(0).json()[0].clone();
    let running = run(&project);
    assert_eq!(running["status"], "running", "{running}");
    assert!(running["seconds"].is_number() && running["started"].is_string(), "{running}");
    let report = project.flow("runs show last").exits(0).stdout;
    assert!(report.contains(": running") && report.contains("cut: done") && !report.contains('{'), "{report}");
    child.kill().expect("killed");
    child.wait().expect("over");
    drop(held);
    assert_eq!(run(&project)["status"], "killed");
    project.write("parameters.yml", "size: 10\nlength: 60\nfeatures: [name]\nmodel: {provider: hash, dimensions: 8}\n");
    project.flow("run -q").exits(0);
    let done = run(&project);
    assert_eq!(done["status"], "ok");
    assert!(done["seconds"].is_number(), "{done}");
    let report = project.flow("runs show last").exits(0).stdout;
    assert!(report.contains("embed: done, 50 rows") && report.contains("ok: 1 node"), "{report}");
    assert!(!report.contains('{') && !report.contains("go on with"), "{report}");
}
