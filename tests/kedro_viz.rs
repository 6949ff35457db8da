//! `flow export kedro-viz`: what Kedro-Viz reads.

use std::process::Command;

use serde_json::{Value as Json, json};

use crate::support::{Project, small};

/// Kedro-Viz reads the files as `kedro viz run --load-file` does, and its own models of the responses fit.
const READ: &str = r#"
import json, pathlib, sys
from fastapi.testclient import TestClient
from kedro_viz.api.apps import create_api_app_from_file
from kedro_viz.api.rest.responses.nodes import DataNodeMetadataAPIResponse, ParametersNodeMetadataAPIResponse, TaskNodeMetadataAPIResponse
from kedro_viz.api.rest.responses.pipelines import GraphAPIResponse
from kedro_viz.api.rest.responses.run_events import RunStatusAPIResponse
from kedro_viz.api.rest.responses.version import VersionAPIResponse
client = TestClient(create_api_app_from_file(sys.argv[1] + "/api"))
def get(path):
    response = client.get(path)
    assert response.status_code == 200, (path, response.status_code, response.text)
    return response.json()
main = get("/api/main")
GraphAPIResponse.model_validate(main)
for pipeline in main["pipelines"]:
    GraphAPIResponse.model_validate(get("/api/pipelines/" + pipeline["id"]))
models = {"task": TaskNodeMetadataAPIResponse, "data": DataNodeMetadataAPIResponse, "parameters": ParametersNodeMetadataAPIResponse}
count = 0
for node in main["nodes"]:
    if node["type"] != "modularPipeline":
        models[node["type"]].model_validate(get("/api/nodes/" + node["id"]))
        count += 1
RunStatusAPIResponse.model_validate(get("/api/run-status"))
VersionAPIResponse.model_validate(get("/api/version"))
print(count)
"#;

fn exported(project: &Project) -> Json {
    project.flow("export kedro-viz viz").exits(0);
    serde_json::from_str(&project.read("viz/api/main")).expect("JSON")
}

/// Where `FLOW_KEDRO_VIZ` is a Python interpreter with Kedro-Viz and httpx2, that reads the files.
fn read_by_kedro_viz(project: &Project) {
    #[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
    let Some(python) = std::env::var_os("FLOW_KEDRO_VIZ") else {
        eprintln!("not read by Kedro-Viz: FLOW_KEDRO_VIZ is not set");
        return;
    };
    let output = Command::new(python).args(["-c", READ]).arg(project.path("viz")).output().expect("Python runs");
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{wrong}");
    eprintln!("Kedro-Viz has read {} nodes", said.trim());
}

#[test]
fn an_export_has_tasks_data_and_parameters_with_their_edges() {
    let project = small::project("data", "");
    let main = exported(&project);
    let of = |kind: &str| {
        let nodes = main["nodes"].as_array().expect("nodes").iter().filter(|node| node["type"] == kind);
        nodes.map(|node| node["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("task"), ["cut", "embed"]);
    assert_eq!(of("data"), ["buckets", "nodes", "vectors"]);
    assert_eq!(of("parameters").len(), 4);
    assert_eq!(main["edges"].as_array().expect("edges").len(), 8);
    let names: Vec<&Json> = main["pipelines"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, [&json!("all pipelines"), &json!("main")]);
    let task = main["nodes"].as_array().expect("nodes").iter().find(|node| node["name"] == "cut").expect("a task");
    assert_eq!(task["parameters"]["params:size"], 10);
    let id = task["id"].as_str().expect("an id");
    let metadata: Json = serde_json::from_str(&project.read(&format!("viz/api/nodes/{id}"))).expect("JSON");
    assert_eq!(metadata["run_command"], "flow run --to-nodes=cut");
    read_by_kedro_viz(&project);
    assert!(project.flow("export kedro-viz viz").exits(2).stderr.contains("is not empty"));
}

#[test]
fn namespaces_are_modular_pipelines_and_secrets_are_masked() {
    let project = Project::empty()
        .file("catalog.yml", "a: {type: csv, path: a.csv}\nb: {type: parquet, path: b}\nc: {type: parquet, path: c}\n")
        .file("parameters.yml", "one: {api_key: canary-key-0123456789, n: 1}\n")
        .file(
            "pipelines/main.yml",
            "
            nodes:
              - {name: first, namespace: in.ner, function: placeholder, inputs: {x: a, p: params:one}, outputs: b}
              - {name: second, namespace: in, function: placeholder, inputs: b, outputs: c}
            ",
        );
    let main = exported(&project);
    let tree = &main["modular_pipelines"];
    let id = |name: &str| {
        let nodes = main["nodes"].as_array().expect("nodes");
        nodes.iter().find(|node| node["name"] == name && node["type"] != "modularPipeline").expect("a node")["id"]
            .clone()
    };
    assert_eq!(tree["in.ner"]["outputs"], json!([id("b")]));
    assert_eq!(tree["in"]["outputs"], json!([id("c")]));
    assert!(
        tree["in"]["children"]
            .as_array()
            .expect("a list")
            .contains(&json!({"id": "in.ner", "type": "modularPipeline"}))
    );
    assert!(tree["in"]["children"].as_array().expect("a list").contains(&json!({"id": id("b"), "type": "data"})));
    assert!(tree["__root__"]["children"].as_array().expect("a list").contains(&json!({"id": id("a"), "type": "data"})));
    let all: String = project.files("viz").iter().map(|name| project.read(&format!("viz/{name}"))).collect();
    assert!(all.contains("***") && !all.contains("canary"), "{all}");
    read_by_kedro_viz(&project);
}
