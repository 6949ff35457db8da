//! `load_args` and `save_args`, each in its direction, from the command line.

use crate::support::Project;

fn copying(catalog: &str) -> Project {
    let project = Project::empty();
    project.write("catalog.yml", catalog);
    project.write("parameters.yml", "q: SELECT * FROM t\n");
    project.write(
        "pipelines/main.yml",
        "nodes:\n  - {name: n, function: sql, inputs: {t: t, query: \"params:q\"}, outputs: o}\n",
    );
    project
}

#[test]
fn save_args_do_not_change_reading_nor_load_args_writing() {
    let project = copying(
        "t: {type: spark.SparkDataset, filepath: weather.csv, file_format: csv, load_args: {header: true, inferSchema: true}, save_args: {sep: \"|\"}}\n\
         o: {type: pandas.CSVDataset, filepath: out/o.csv, load_args: {sep: \";\", header: null}, save_args: {sep: \"|\", header: true}}\n",
    );
    project.write("weather.csv", "id,name\n1,a\n2,b\n");
    let output = project.flow("run").exits(0);
    assert_eq!(project.read("out/o.csv"), "id|name\n1|a\n2|b\n");
    assert!(!output.stderr.contains("data::dialects-differ"), "nothing reads `o`: {}", output.stderr);
}

#[test]
fn an_option_that_is_not_read_is_refused_or_said() {
    let project = copying(
        "t: {type: pandas.CSVDataset, filepath: t.csv, load_args: {index_col: 0, encoding: latin-1}}\n\
         o: {type: csv, path: out/o.csv}\n",
    );
    std::fs::write(project.path("t.csv"), b"id,name\n1,\xe9\n").expect("writes");
    let output = project.flow("run").exits(0);
    assert!(
        output.stderr.contains("`index_col` is not read, so the result may differ from that of pandas"),
        "{}",
        output.stderr
    );
    assert_eq!(project.read("out/o.csv"), "id,name\n1,é\n");
    let project = project.edit("catalog.yml", "path: out/o.csv", "path: out/o.csv, save_args: {index: false}");
    let output = project.flow("check").exits(2);
    assert!(output.stderr.contains("`save_args` of dataset `o` has an unknown key `index`"), "{}", output.stderr);
    assert!(output.stderr.contains("known keys: `sep`"), "{}", output.stderr);
}

#[test]
fn a_dataset_that_is_not_read_as_it_is_written_gets_a_warning() {
    let project = copying(
        "t: {type: csv, path: t.csv}\n\
         o: {type: csv, path: out/o.csv, save_args: {sep: ;}}\n\
         p: {type: csv, path: out/p.csv}\n",
    );
    project.write(
        "pipelines/main.yml",
        "nodes:\n\
         \x20 - {name: a, function: sql, inputs: {t: t, query: \"params:q\"}, outputs: o}\n\
         \x20 - {name: b, function: sql, inputs: {t: o, query: \"params:q\"}, outputs: p}\n",
    );
    project.write("t.csv", "a,b\n1,2\n");
    let output = project.flow("check").exits(0);
    let message = "dataset `o` is not read as it is written: `sep` is `;` for writing and `,` for reading";
    assert!(output.stderr.contains(message), "{}", output.stderr);
    project.flow("run").exits(0);
    assert_eq!(project.read("out/p.csv"), "a;b\n1;2\n", "as pandas reads it");
    let project = project.edit("catalog.yml", "save_args: {sep: ;}", "save_args: {sep: ;}, load_args: {sep: ;}");
    assert!(!project.flow("check").exits(0).stderr.contains("dialects-differ"));
}

#[test]
fn a_declared_type_is_checked_before_the_run_and_a_value_that_it_does_not_hold_has_its_line() {
    let project = copying(
        "t: {type: csv, path: t.csv, schema: {id: VARCHAR, n: BIGNIT}}\n\
         o: {type: json, path: o.jsonl}\n",
    );
    project.write("t.csv", "id,n\n01,1\n02,x\n");
    let output = project.flow("check").exits(2);
    assert!(output.stderr.contains("`schema`: the type of column `n` is not known"), "{}", output.stderr);
    assert!(output.stderr.contains("catalog.yml:1:"), "{}", output.stderr);
    let project = project.edit("catalog.yml", "BIGNIT", "BIGINT");
    let output = project.flow("run").exits(1);
    assert!(output.stderr.contains("t.csv"), "{}", output.stderr);
    assert!(output.stderr.contains("line 3: column `n` holds 'x', expected Int64"), "{}", output.stderr);
    project.write("t.csv", "id,n\n01,1\n02,2\n");
    project.flow("run").exits(0);
    assert_eq!(project.read("o.jsonl"), "{\"id\":\"01\",\"n\":1}\n{\"id\":\"02\",\"n\":2}\n");
}

#[test]
fn a_key_under_dataset_of_partitions_that_nothing_reads_is_told_with_its_line() {
    let project = copying(
        "t:\n  type: partitioned\n  path: p\n  dataset:\n    type: csv\n    sep: ;\n\
         o: {type: csv, path: out/o.csv}\n",
    );
    project.write("p/a.csv", "a\n1\n");
    let output = project.flow("check").exits(2);
    assert!(output.stderr.contains("`dataset` of dataset `t` has an unknown key `sep`"), "{}", output.stderr);
    assert!(output.stderr.contains("catalog.yml:6:5"), "{}", output.stderr);
    let project = project.edit("catalog.yml", "type: csv\n    sep: ;", "type: pandas.CSVDataset\n    sep: ;");
    let output = project.flow("check").exits(0);
    assert!(
        output.stderr.contains("`sep` is not read, so the result may differ from that of pandas"),
        "{}",
        output.stderr
    );
}

#[test]
fn what_a_format_of_text_cannot_hold_is_refused_by_name() {
    for (query, target, message) in [
        ("SELECT decode('00ff', 'hex') AS b", "csv", "has no bytes, and column `b`"),
        ("SELECT decode('00ff', 'hex') AS b", "json", "has no bytes, and column `b`"),
        ("SELECT make_array(1) AS l", "csv", "has no lists and objects, and column `l`"),
        (
            "SELECT 1.0 AS n UNION ALL SELECT 'NaN'::double",
            "json",
            "column `n` holds a float that is infinite or not a number",
        ),
    ] {
        let project = copying(&format!("t: {{type: csv, path: t.csv}}\no: {{type: {target}, path: out/o}}\n"));
        project.write("t.csv", "a\n1\n");
        project.write("parameters.yml", &format!("q: \"{query} FROM t\"\n"));
        let output = project.flow("run").exits(1);
        assert!(output.stderr.contains(message), "{query}: {}", output.stderr);
        assert!(!project.path("out/o").exists());
    }
}
