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
