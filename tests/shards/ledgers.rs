//! Ledgers of shards in a place that hosts share.

use std::io::{BufRead as _, BufReader};

use super::Api;
use crate::{
    serve::Serving,
    support::{Project, small, stores},
};

fn cut(rows: usize) -> Project {
    let project = small::project("data/out", "").file("data/nodes.csv", &small::csv(0..rows, "any", 2));
    project.flow("run -q --nodes cut").exits(0);
    project
}

/// Runs three shards, one of them twice, and the gather.
fn submission(project: &Project, ledger: &str) {
    let flags = format!("--nodes embed --ledger {ledger} --run-group nightly-7");
    for shard in ["2/3", "0/3", "1/3", "0/3"] {
        project.flow(&format!("run -q {flags} --shard {shard}")).exits(0);
    }
    project.flow(&format!("run -q {flags}")).exits(0);
}

fn check(project: &Project, ledger: &str) {
    submission(project, ledger);
    let listed = project.flow(&format!("runs --ledger {ledger}")).exits(0).stdout;
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines[0], "nightly-7: 3 shards, 4 ok, 1 earlier attempts", "{listed}");
    let shards: Vec<&str> = lines[1..].iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(shards, ["all", "0/3", "0/3", "1/3", "2/3"], "{listed}");
    assert!(lines[1..].iter().all(|line| line.contains("  ok ")), "{listed}");
    let runs = project.flow(&format!("runs --ledger {ledger} --output json")).exits(0).json();
    let runs = runs.as_array().expect("a list");
    assert!(runs.iter().all(|run| run["group"] == "nightly-7" && run["status"] == "ok"), "{runs:?}");
    let id = runs.iter().find(|run| run["shard"] == "2/3").expect("the shard")["run"].as_str().expect("an id");
    for run in [id, "last"] {
        let events = project.flow(&format!("runs show {run} --ledger {ledger} --output json")).exits(0).json();
        let kinds: Vec<&str> =
            events.as_array().expect("a list").iter().filter_map(|event| event["kind"].as_str()).collect();
        assert_eq!((kinds.first(), kinds.last()), (Some(&"run.started"), Some(&"run.finished")), "{run}: {kinds:?}");
        assert_eq!(kinds.contains(&"partition.finished"), run == id, "{run}: {kinds:?}");
    }
    // One page for all of them, and one for a shard.
    let report = |run: &str| project.flow(&format!("report {run} --ledger {ledger} --output json")).exits(0).json();
    let document = report("nightly-7");
    assert_eq!(report("last")["run"]["id"], "nightly-7", "with all of its submission");
    let facts = &document["run"];
    assert_eq!((&facts["id"], &facts["status"]), (&"nightly-7".into(), &"ok".into()));
    assert_eq!(facts["processes"].as_array().map(Vec::len), Some(5));
    let node = &document["nodes"][0];
    assert_eq!((&node["name"], &node["state"], &node["rows_out"]), (&"embed".into(), &"done".into(), &90.into()));
    let states = |document: &serde_json::Value| {
        let cells = &document["partitions"]["embed"];
        (cells["states"].as_str().expect("states").to_owned(), cells["unnamed_missing"].clone())
    };
    let (all, missing) = states(&document);
    assert!(all.len() > 3 && all.chars().all(|state| state == 'd') && missing == 0, "{document}");
    assert_eq!(facts["summary"]["partitions"]["done"], all.len());
    let of_shard = report(id);
    assert_eq!((&of_shard["run"]["id"], &of_shard["run"]["processes"]), (&id.into(), &serde_json::Value::Null));
    assert!(states(&of_shard).0.len() < all.len(), "{of_shard}");
    let page = project.flow(&format!("report nightly-7 --ledger {ledger}")).exits(0).stdout;
    assert!(page.starts_with("<!doctype html>"), "{page:.100}");

    let serving = Serving::start(project, &format!("--ledger {ledger}"));
    let listed = serving.json("/api/runs");
    assert_eq!(listed.as_array().map(Vec::len), Some(5));
    assert!(listed[0]["group"] == "nightly-7" && listed[4]["shard"] == "2/3", "{listed}");
    let begun = serving.json(&format!("/api/runs/{id}"));
    assert_eq!(begun["run"]["status"], "ok");
    let live = BufReader::new(serving.ask(&format!("GET /api/live?run={id}"), &[]));
    let lines: Vec<String> = live.lines().map_while(Result::ok).take_while(|line| line != "event: run").collect();
    assert!(lines.iter().any(|line| line.contains("\"kind\":\"partition.finished\"")), "{lines:?}");
    let (status, _, page) = serving.whole("GET /report/nightly-7", &[]);
    assert!(status == 200 && page.contains("\"processes\":[{"), "{status}");
    assert_eq!(serving.whole("GET /report/never", &[]).0, 404);

    let wrong = project.flow(&format!("runs show never --ledger {ledger}")).exits(2);
    assert!(wrong.stderr.contains("there is no run `never`"), "{}", wrong.stderr);
}

#[test]
fn one_table_shows_all_shards_of_a_run_in_a_shared_folder() {
    let project = cut(90);
    check(&project, "shared/ledgers");
    assert_eq!(project.files("shared/ledgers").len(), 5, "all are there, and nothing else");
}

#[test]
fn one_table_shows_all_shards_of_a_run_on_s3() {
    let store = stores::s3();
    let project = store.environment().fold(cut(90), |project, (name, value)| project.env(name, &value));
    check(&project, &format!("{}/ledgers", store.url));
    let hosts = store.environment().fold(cut(10), |project, (name, value)| project.env(name, &value));
    let listed = hosts.flow(&format!("runs --ledger {}/ledgers", store.url)).exits(0).stdout;
    assert!(listed.starts_with("nightly-7: 3 shards, 4 ok"), "another host, without those files: {listed}");
}

#[test]
fn the_id_of_a_job_array_names_the_group_where_nothing_else_does() {
    let project = cut(30).env("SLURM_ARRAY_JOB_ID", "1234").env("SLURM_ARRAY_TASK_ID", "1").env("FLOW_SHARDS", "2");
    project.flow("run -q --nodes embed --shard auto").exits(0);
    let listed = project.flow("runs").exits(0).stdout;
    assert!(listed.contains("slurm-1234: 1 shard, 1 ok\n      1/2  "), "{listed}");
}

#[test]
fn a_failed_shard_is_not_hidden_by_the_same_shard_of_another_node() {
    let api = Api::start((0, 0));
    let parts = "dataset: {type: parquet}, filename_suffix: .parquet";
    let project = api
        .project("data/out", "", 90)
        .more("catalog.yml", &format!("others@partitioned: {{type: partitioned, path: data/out/others, {parts}}}\n"))
        .more("parameters.yml", "local: {provider: hash, dimensions: 8}\n")
        .more(
            "pipelines/main.yml",
            "  - name: other
    function: compute_embeddings
    inputs: {dfs: buckets@partitioned, model: params:local}
    outputs: others@partitioned
",
        );
    project.flow("run -q --nodes cut").exits(0);
    project.flow("run -q --nodes embed --shard 0/2 --run-group H --max-requests 1").exits(75);
    project.flow("run -q --nodes other --shard 0/2 --run-group H").exits(0);
    let stands = || {
        let listed = project.flow("runs").exits(0).stdout;
        let report = project.flow("report H --output json").exits(0).json();
        let status = report["run"]["status"].as_str().expect("a status").to_owned();
        assert_eq!(report["run"]["summary"]["status"], status.as_str(), "{report}");
        (listed, status)
    };
    let (listed, status) = stands();
    assert!(listed.starts_with("H: 2 shards, 1 failed, 1 ok\n"), "{listed}");
    assert!(listed.contains("  embed\n") && listed.contains("  other\n"), "which is which: {listed}");
    assert_eq!(status, "failed");
    // The run after the shards of one node says nothing about the other.
    project.flow("run -q --nodes other --run-group H").exits(0);
    assert_eq!(stands().1, "failed");
    project.flow("run -q --nodes embed --shard 0/2 --run-group H").exits(0);
    let (listed, status) = stands();
    assert!(listed.starts_with("H: 2 shards, 3 ok, 1 earlier attempts\n"), "{listed}");
    assert_eq!(status, "ok");
}

#[test]
fn a_place_that_cannot_keep_ledgers_is_refused_before_the_start() {
    let project = cut(10);
    let refused = project.flow("run --nodes embed --ledger https://example.org/x").exits(2);
    assert!(refused.stderr.contains("`--ledger`: "), "{}", refused.stderr);
    let refused = project.flow("run --nodes embed --ledger s3://KEY:hidden123@b/runs").exits(2);
    assert!(refused.stderr.contains("holds no keys") && !refused.stderr.contains("hidden"), "{}", refused.stderr);
}
