//! `flow accept`: existing outputs count as up to date.

use super::project;

const DOUBLE: &str = "
    def double(rows: list[dict], factor):
        return [{'n': row['n'] * factor} for row in rows]

    def count(rows: list[dict]):
        return {'rows': len(rows)}
    ";

const NODES: &str = "
    nodes:
      - {name: double, function: 'python:work.nodes.double', inputs: [numbers, 'params:factor'], outputs: out}
      - {name: count, function: 'python:work.nodes.count', inputs: out, outputs: report}
    ";

#[test]
fn accepted_outputs_are_up_to_date_and_the_ledger_says_so() {
    let project = project(DOUBLE, NODES);
    project.flow("run").exits(0);
    let before = std::fs::read(project.path("data/out.parquet")).expect("written");
    // A change that changes no result.
    let project = project.edit("src/work/nodes.py", "row['n'] * factor", "factor * row['n']");
    assert_eq!(project.flow("plan --output json").exits(0).json()["nodes"][0]["action"], "run");
    let accepted = project.flow("accept double count --output json").exits(0).json();
    let expected = serde_json::json!({"accepted": [
        {"node": "double", "datasets": ["out"]}, {"node": "count", "datasets": ["report"]}
    ]});
    assert_eq!(accepted, expected);
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!(summary["nodes"]["skipped"], 2, "{summary}");
    assert_eq!(std::fs::read(project.path("data/out.parquet")).expect("there"), before);
    let ledgers = project.files(".flow/runs").into_iter().map(|name| project.read(&format!(".flow/runs/{name}")));
    assert_eq!(ledgers.filter(|text| text.contains(r#""kind":"node.accepted""#)).count(), 1);
    assert!(project.flow("accept double").exits(0).stdout.contains("double: up to date already"));
}

#[test]
fn what_others_wrote_can_be_accepted_and_what_is_missing_cannot() {
    let project = project(DOUBLE, NODES);
    let output = project.flow("accept double").exits(3);
    let message = "node `double` cannot be accepted: its output `out` is missing";
    assert!(output.stderr.contains(message), "{}", output.stderr);
    project.flow("run").exits(0);
    for receipt in [".out.parquet.flow", ".report.yml.flow"] {
        std::fs::remove_file(project.path(&format!("data/{receipt}"))).expect("a receipt");
    }
    project.flow("run").exits(3);
    project.flow("accept double count").exits(0);
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 2);
    // From now on it is replaced.
    assert_eq!(project.flow("run --params factor=7 --output json").exits(0).summary()["nodes"]["done"], 2);
    let output = project.flow("accept missing").exits(2);
    assert!(output.stderr.contains("`missing`"), "{}", output.stderr);
}
