//! `flow plan` and the run after it: the same numbers, or none.

use serde_json::Value as Json;
use tokio::runtime::Runtime;

use crate::support::{
    Project,
    api_server::{ApiServer, Behaviour},
    small,
};

/// A server, and a project that embeds with it and keeps no cache: every computed row is paid for.
fn project(runtime: &Runtime) -> (ApiServer, Project) {
    let server = runtime.block_on(ApiServer::start(Behaviour::default()));
    let model = format!(
        "{{provider: openai, model: m, base_url: '{}', api_key: '${{oc.env:KEY}}', dimensions: 8, cache: {{mode: 'off'}}}}",
        server.base_url()
    );
    let project = small::project("data/out", "")
        .file("data/nodes.csv", &small::csv(0..95, "any", 2))
        .file("parameters.yml", &format!("size: 10\nlength: 60\nfeatures: [name]\nmodel: {model}\nlimit: 30\n"))
        .env("KEY", "a-key");
    (server, project)
}

/// The project with a node `pick` between the source and the buckets, whose table has this type.
fn picking(project: Project, entry: &str) -> Project {
    project
        .more("catalog.yml", &format!("picked: {entry}\n"))
        .more("parameters.yml", "query: SELECT * FROM nodes WHERE CAST(id AS BIGINT) < ${limit}\n")
        .edit("pipelines/main.yml", "{df: nodes,", "{df: picked,")
        .more(
            "pipelines/main.yml",
            "  - name: pick\n    function: sql\n    inputs: {nodes: nodes, query: params:query}\n    outputs: picked\n",
        )
}

/// Plans and runs: the run computes and sends what the plan says. Gives rows and requests.
#[track_caller]
fn planned_and_run(server: &ApiServer, project: &Project) -> (u64, u64) {
    let plan = project.flow("plan --output json").exits(0).json();
    let sent = server.requests();
    assert!(plan["total"].get("unknown_until").is_none(), "{plan}");
    let summary = project.flow("run --output json").exits(0).summary();
    let embed = plan["nodes"].as_array().expect("nodes").iter().find(|node| node["name"] == "embed").expect("the node");
    let number = |json: &Json, key: &str| json[key].as_u64().unwrap_or_else(|| panic!("no {key} in {json}"));
    assert_eq!(number(&plan["total"], "requests"), server.requests() - sent, "{plan}");
    assert_eq!(number(&plan["total"], "requests"), number(&summary, "requests"), "{plan}");
    let rows = &summary["rows"];
    let computed = number(rows, "ok") + number(rows, "cached");
    assert_eq!(number(&plan["total"], "rows"), computed, "{plan}\n{summary}");
    assert_eq!(embed["action"], if computed > 0 { "run" } else { "skip" }, "{plan}");
    (computed, number(&plan["total"], "requests"))
}

#[test]
fn a_plan_of_a_fresh_project_and_of_one_whose_source_grew_is_what_the_run_sends() {
    let runtime = Runtime::new().expect("threads");
    let (server, project) = project(&runtime);
    assert_eq!(planned_and_run(&server, &project), (95, 10));
    assert_eq!(planned_and_run(&server, &project), (0, 0));
    project.write("data/nodes.csv", &small::csv(0..120, "any", 2));
    assert_eq!(planned_and_run(&server, &project), (30, 3), "the bucket that was not full, and two new ones");
    project.write("data/nodes.csv", &small::csv(0..120, "any", 2).replacen("000050,the any", "000050,another", 1));
    assert_eq!(planned_and_run(&server, &project), (10, 1));
}

#[test]
fn a_plan_prices_what_a_query_upstream_will_select_and_not_what_it_selected_before() {
    for entry in
        ["{type: parquet, path: data/picked.parquet}", "{type: memory}", "{type: arrow, path: data/picked.arrow}"]
    {
        let runtime = Runtime::new().expect("threads");
        let (server, project) = project(&runtime);
        let project = picking(project, entry);
        assert_eq!(planned_and_run(&server, &project), (30, 3), "{entry}");
        let project = project.edit("parameters.yml", "limit: 30", "limit: 52");
        assert_eq!(planned_and_run(&server, &project), (22, 3), "{entry}");
        project.write("data/nodes.csv", &small::csv(0..95, "other", 3));
        let (rows, _) = planned_and_run(&server, &project);
        assert_eq!(rows, 52, "{entry}");
    }
}

#[test]
fn what_cannot_be_known_is_unknown_and_no_number_of_old_data() {
    let runtime = Runtime::new().expect("threads");
    let (server, project) = project(&runtime);
    // Text that looks like a number is one when it is read back from CSV.
    let project = picking(project, "{type: csv, path: data/picked.csv}");
    project.flow("run -q").exits(0);
    let project = project.edit("parameters.yml", "limit: 30", "limit: 52");
    let plan = project.flow("plan --output json").exits(0).json();
    let embed =
        &plan["nodes"].as_array().expect("nodes").iter().find(|node| node["name"] == "embed").expect("the node");
    assert_eq!((&embed["unknown_until"], &embed["estimate"]), (&Json::from("pick"), &Json::from(true)), "{plan}");
    for key in ["rows", "unique_rows", "cached_rows", "requests", "tokens", "cost_usd"] {
        assert_eq!((embed.get(key), plan["total"].get(key)), (Some(&Json::Null), Some(&Json::Null)), "{key}: {plan}");
    }
    assert_eq!(plan["total"]["unknown_until"], Json::from(vec!["pick"]), "{plan}");
    let text = project.flow("plan").exits(0).stdout;
    assert_eq!(text.matches("unknown until `pick` has run").count(), 2, "{text}");
    assert!(server.requests() > 0);
}

#[test]
fn a_column_that_the_last_query_does_not_find_is_told_before_rows_are_paid_for() {
    let runtime = Runtime::new().expect("threads");
    let (server, project) = project(&runtime);
    let project = project
        .more("catalog.yml", "vectors@table: {type: parquet, path: data/out/vectors}\ncounted: {type: csv, path: data/counted.csv}\n")
        .more("parameters.yml", "count: select nam from vectors\n")
        .more(
            "pipelines/main.yml",
            "  - {name: count, function: sql, inputs: {vectors: vectors@table, query: params:count}, outputs: counted}\n",
        );
    for command in ["check", "plan", "run"] {
        let output = project.flow(command).exits(2);
        assert!(
            output.stderr.contains("sql::bad-query") && output.stderr.contains("nam"),
            "{command}: {}",
            output.stderr
        );
    }
    assert_eq!(server.requests(), 0);
    // Nodes that do not run, or are not selected, do not matter.
    project.flow("run --nodes cut,embed").exits(0);
    project.edit("parameters.yml", "select nam", "select name").flow("run").exits(0);
}
