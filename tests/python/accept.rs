//! `flow accept`: existing outputs count as up to date.

use super::{partitioned, project};

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

const PARTS: &str = "
    def work(rows: list[dict]):
        open('calls', 'a').write('x')
        return [{'n': row['n'] + 1} for row in rows]
    ";

#[test]
fn partitions_that_are_there_are_accepted_and_missing_ones_are_left_to_a_run() {
    let project = partitioned(PARTS, 4, "");
    project.flow("run").exits(0);
    std::fs::remove_dir_all(project.path("data/done/part=2")).expect("a partition");
    let project = project.edit("src/work/nodes.py", "row['n'] + 1", "1 + row['n']");
    let output = project.flow("accept work --output json").exits(0).json();
    assert_eq!(output, serde_json::json!({"accepted": [{"node": "work", "datasets": ["done"]}]}));
    std::fs::remove_file(project.path("calls")).expect("calls");
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!(summary["partitions"]["skipped"], 3, "{summary}");
    assert_eq!(project.read("calls"), "x");
    let rows: usize = project.table("data/done").values().map(arrow::array::RecordBatch::num_rows).sum();
    assert_eq!((rows, project.files("data/done").len()), (40, 4));
    assert!(project.flow("accept work").exits(0).stdout.contains("work: up to date already"));
}

#[test]
fn partitions_of_others_are_accepted_and_those_of_several_files_are_not() {
    let project = partitioned(PARTS, 2, "");
    let output = project.flow("accept work").exits(3);
    let message = "node `work` cannot be accepted: its output `done` has none of the 2 partitions of its input";
    assert!(output.stderr.contains(message), "{}", output.stderr);
    project.flow("run").exits(0);
    for part in 0..2 {
        let folder = format!("data/done/part={part}");
        let file = project.files(&folder).remove(0);
        std::fs::rename(project.path(&format!("{folder}/{file}")), project.path(&format!("{folder}/part-0.parquet")))
            .expect("renamed");
    }
    project.flow("run").exits(3);
    project.flow("accept work").exits(0);
    assert_eq!(project.flow("run --output json").exits(0).summary()["partitions"]["skipped"], 2);
    let project = project.edit("src/work/nodes.py", "row['n'] + 1", "2 + row['n']");
    std::fs::copy(
        project.path(&format!("data/done/part=0/{}", project.files("data/done/part=0")[0])),
        project.path("data/done/part=0/other.parquet"),
    )
    .expect("copied");
    let output = project.flow("accept work").exits(3);
    assert!(output.stderr.contains("partition part=0 has 2 files, and one is expected"), "{}", output.stderr);
}

#[test]
fn partitions_with_names_of_their_own_are_accepted() {
    let project = partitioned(PARTS, 2, "").edit(
        "catalog.yml",
        "parts: {type: partitioned, path: data/parts, dataset: csv, filename_suffix: .csv}",
        "parts: {type: partitions.PartitionedDataset, path: data/files, dataset: pandas.CSVDataset, filename_suffix: .csv}",
    );
    let project = project.edit(
        "catalog.yml",
        "done: {type: partitioned, path: data/done, dataset: parquet, filename_suffix: .parquet}",
        "done: {type: partitions.PartitionedDataset, path: data/done, dataset: pandas.ParquetDataset, filename_suffix: .parquet}",
    );
    let project = project.file("data/files/north.csv", "n\n1\n").file("data/files/2024/jan.csv", "n\n2\n");
    project.flow("run").exits(0);
    let before = std::fs::read(project.path("data/done/north.parquet")).expect("a file");
    let project = project.edit("src/work/nodes.py", "row['n'] + 1", "1 + row['n']");
    project.flow("accept work").exits(0);
    assert_eq!(project.flow("run --output json").exits(0).summary()["partitions"]["skipped"], 2);
    assert_eq!(std::fs::read(project.path("data/done/north.parquet")).expect("a file"), before);
}
