//! The columns of what functions give: those of the partitions before, and those that the catalog declares.

use arrow::datatypes::DataType;

use super::{integers, partitioned, project};
use crate::support::{Project, read_parquet};

/// The type of a column of the only file in a folder.
fn type_of(project: &Project, folder: &str, column: &str) -> DataType {
    let file = project.files(folder).into_iter().find(|name| name.ends_with(".parquet")).expect("a file");
    let batch = read_parquet(&project.path(&format!("{folder}/{file}")));
    batch.column_by_name(column).unwrap_or_else(|| panic!("no `{column}`")).data_type().clone()
}

const VALUES: &str = "
    import pathlib
    def work(rows: list[dict]):
        part = rows[0]['part']
        if part >= 2 and not pathlib.Path('again').exists():
            raise ValueError('later')
        value = {0: None, 1: 1, 2: None, 3: LAST}[part]
        return [{'n': row['n'], 'value': value} for row in rows]
    ";

#[test]
fn partitions_of_a_later_run_have_the_columns_of_those_that_are_there() {
    for (last, expected) in
        [("2.0", None), ("'text'", Some("column `value` of its result is Utf8, and Int64 in partition part=1"))]
    {
        let project = partitioned(&VALUES.replace("LAST", last), 4, ", workers: 1");
        project.flow("run --keep-going").exits(1);
        assert_eq!(type_of(&project, "data/done/part=1", "value"), DataType::Int64);
        project.write("again", "");
        let output = project.flow("run --keep-going --output json");
        // Its nulls are those of integers.
        assert_eq!(type_of(&project, "data/done/part=2", "value"), DataType::Int64);
        match expected {
            None => {
                drop(output.exits(0));
                assert_eq!(type_of(&project, "data/done/part=3", "value"), DataType::Int64);
            }
            Some(expected) => {
                let failed = output.exits(1).lines().into_iter().find(|line| line["kind"] == "partition.failed");
                let error = failed.expect("a failure")["error"].as_str().expect("a message").to_owned();
                assert!(error.contains(expected), "{error}");
            }
        }
    }
}

#[test]
fn partitions_in_a_dictionary_have_the_columns_of_those_that_are_there() {
    let functions = "
        import pathlib
        def value(part):
            if part == 1 and not pathlib.Path('again').exists():
                raise ValueError('later')
            return [{'n': 1, 'value': [7, None][part]}]
        def work(parts):
            return {'x%d' % part: lambda part=part: value(part) for part in range(2)}
        ";
    let project = partitioned(functions, 2, ", partitions: all");
    project.flow("run").exits(1);
    project.write("again", "");
    project.flow("run").exits(0);
    let batch = read_parquet(&project.path("data/done/x1.parquet"));
    assert_eq!(batch.column_by_name("value").expect("a column").data_type(), &DataType::Int64);
}

#[test]
fn declared_columns_are_what_is_written_whatever_comes_first() {
    let project = partitioned(&VALUES.replace("LAST", "2.5"), 4, ", workers: 1").edit(
        "catalog.yml",
        "path: data/done, dataset: parquet",
        "path: data/done, dataset: {type: parquet, schema: {n: BIGINT, value: DOUBLE}}",
    );
    project.write("again", "");
    project.flow("run").exits(0);
    for part in 0..4 {
        assert_eq!(type_of(&project, &format!("data/done/part={part}"), "value"), DataType::Float64, "{part}");
    }
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 1);
    // What is declared is a part of the work.
    let project = project.edit("catalog.yml", "value: DOUBLE", "value: BIGINT");
    let output = project.flow("run --keep-going --output json").exits(1);
    let failed: Vec<_> = output.lines().into_iter().filter(|line| line["kind"] == "partition.failed").collect();
    assert_eq!((failed.len(), &failed[0]["partition"]), (1, &"part=3".into()), "{failed:?}");
    let error = failed[0]["error"].as_str().expect("a message");
    assert!(error.contains("column `value` of its result is Float64: 2.5 is no Int64"), "{error}");
    assert_eq!(type_of(&project, "data/done/part=0", "value"), DataType::Int64);
}

const TABLE: &str = "
    def work(rows: list[dict]):
        return [{'n': row['n'], 'half': row['n'] / 2, 'even': float(row['n'] // 2)} for row in rows]
    ";

const NODE: &str = "
    nodes:
      - {name: work, function: 'python:work.nodes.work', inputs: numbers, outputs: out}
    ";

#[test]
fn a_table_is_written_with_the_declared_columns_or_refused() {
    let declared = |kind: &str, schema: &str| {
        project(TABLE, NODE).edit(
            "catalog.yml",
            "out: {type: parquet, path: data/out.parquet}",
            &format!("out: {{type: {kind}, path: data/out.{kind}, schema: {schema}}}"),
        )
    };
    let project = declared("parquet", "{even: INTEGER, n: DOUBLE}");
    project.flow("run").exits(0);
    let batch = read_parquet(&project.path("data/out.parquet"));
    let types: Vec<DataType> = batch.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types, [DataType::Float64, DataType::Float64, DataType::Int32]);
    let project = declared("csv", "{even: BIGINT}");
    project.flow("run").exits(0);
    assert!(project.read("data/out.csv").contains("\n3,1.5,1\n"), "{}", project.read("data/out.csv"));
    for (kind, schema, expected) in [
        (
            "parquet",
            "{half: BIGINT}",
            "`out` declares Int64 for column `half` under `schema`, and what is written to it is Float64: 0.5 is no Int64",
        ),
        ("csv", "{half: BIGINT}", "is Float64: 0.5 is no Int64"),
        ("parquet", "{n: BOOLEAN}", "is Int64: 2 is no Boolean"),
        (
            "arrow",
            "{m: BIGINT}",
            "`out` declares column `m` under `schema`, and what is written to it has n, half, even",
        ),
    ] {
        let output = declared(kind, schema).flow("run").exits(1);
        assert!(output.stderr.contains(expected), "{kind} {schema}: {}", output.stderr);
    }
    let output = declared("parquet", "{n: INTEGR}").flow("check").exits(2);
    assert!(
        output.stderr.contains("`schema`: the type of column `n` is not known; use a type of SQL"),
        "{}",
        output.stderr
    );
}

#[test]
fn files_that_say_other_types_than_declared_are_refused() {
    let project = project(TABLE, NODE);
    project.flow("run").exits(0);
    let functions = "
        def work(rows: list[dict]):
            return rows
        ";
    let nodes = NODE.replace("inputs: numbers, outputs: out", "inputs: out, outputs: more");
    project.write("src/work/nodes.py", &functions.replace("\n        ", "\n"));
    project.write("pipelines/main.yml", &nodes);
    for (schema, expected) in [
        ("{n: BIGINT, half: DOUBLE}", None),
        ("{n: VARCHAR}", Some("`out` declares Utf8 for column `n` under `schema`, and its files hold Int64")),
        ("{x: BIGINT}", Some("`out` declares column `x` under `schema`, which its files do not have")),
    ] {
        let catalog = project.read("catalog.yml");
        let entry = catalog.lines().find(|line| line.trim_start().starts_with("out:")).expect("an entry");
        let with = catalog.replace(entry, &format!("out: {{type: parquet, path: data/out.parquet, schema: {schema}}}"));
        let project = project.copy().file("catalog.yml", &with);
        match expected {
            None => {
                project.flow("run").exits(0);
                assert_eq!(integers(&project, "data/more.parquet", "n").len(), 10);
            }
            Some(expected) => {
                let output = project.flow("run").exits(1);
                assert!(output.stderr.contains(expected), "{}", output.stderr);
            }
        }
    }
}
