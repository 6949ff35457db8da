//! Where data lies: credentials that are not defined, and paths as people write them.

use crate::support::Project;

fn fresh_clone() -> Project {
    Project::empty()
        .file(
            "conf/base/catalog.yml",
            "
            far: {type: pandas.CSVDataset, filepath: 's3://bucket/far.csv', credentials: dev}
            parts: {type: partitions.PartitionedDataset, path: 's3://bucket/parts', dataset: pandas.CSVDataset, credentials: dev}
            near: {type: pandas.CSVDataset, filepath: data/near.csv}
            out: {type: pandas.CSVDataset, filepath: data/out.csv}
            far_out: {type: pandas.CSVDataset, filepath: data/far_out.csv}
            ",
        )
        .file("conf/base/parameters.yml", "query: select * from t\n")
        .file(
            "pipelines/main.yml",
            "
            nodes:
              - {name: near, function: sql, inputs: {t: near, query: params:query}, outputs: out}
              - {name: far, function: sql, inputs: {t: far, query: params:query}, outputs: far_out}
            ",
        )
        .file("data/near.csv", "id\n1\n")
}

#[test]
fn without_a_file_of_credentials_only_a_run_that_needs_them_is_refused() {
    let project = fresh_clone();
    for command in [
        "check",
        "graph",
        "ls datasets",
        "ls nodes",
        "config show catalog",
        "config show parameters",
        "config resolve far",
        "plan --nodes near",
        "run -q --nodes near",
    ] {
        let output = project.flow(command).exits(0);
        assert!(!output.stderr.contains("dev"), "{command}: {}", output.stderr);
    }
    assert_eq!(project.read("data/out.csv"), "id\n1\n");
    let output = project.flow("run").exits(3);
    assert!(
        output.stderr.contains("credentials `dev`") && output.stderr.contains("credentials.yml"),
        "{}",
        output.stderr
    );
    let plan = project.flow("plan --output json").exits(0).json();
    let nodes = plan["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.iter().map(|node| &node["name"]).collect::<Vec<_>>(), ["far", "near"]);
    assert!(nodes[0]["refused"][0].as_str().is_some_and(|why| why.contains("credentials `dev`")), "{plan}");
    assert_eq!(nodes[1].get("refused"), None, "{plan}");
    // With such a file a name that it lacks is a mistake.
    let project = project.file("conf/local/credentials.yml", "other: {key: a, secret: b}\n");
    let output = project.flow("check").exits(2);
    assert!(output.stderr.contains("catalog::unknown-credentials"), "{}", output.stderr);
}

#[test]
fn keys_of_credentials_that_have_no_meaning_are_named() {
    let project = fresh_clone().file(
        "conf/local/credentials.yml",
        "dev: {key: a, secret: b, verify: false, client_kwargs: {endpoint_url: 'http://127.0.0.1:1'}, \
         config_kwargs: {retries: {max_attempts: 1, mode: standard}}, s3_additional_kwargs: {ACL: private}}\n",
    );
    let output = project.flow("check").exits(0);
    for key in ["config_kwargs.retries.mode", "s3_additional_kwargs.ACL"] {
        assert!(output.stderr.contains(&format!("credentials: `{key}` has no meaning")), "{}", output.stderr);
    }
    assert!(!output.stderr.contains("verify") && !output.stderr.contains("max_attempts"), "{}", output.stderr);
}
