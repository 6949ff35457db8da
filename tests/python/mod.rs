//! Python functions as nodes: what they get and give, what is computed again, failures, and what is left behind.
//!
//! Most functions take rows (dictionaries), so that the machine's Python runs them without a package; `frames` has those that need
//! pandas, Polars or pyarrow, `kedro` those that need Kedro.

mod accept;
mod dictionaries;
mod each;
mod failures;
mod frames;
mod iterators;
mod kedro;
mod kedro_projects;
mod memory;
mod nodes;
mod schemas;
mod seed;

use crate::support::Project;

/// A project whose source `numbers` has the rows `n` = 0 to 9, and whose functions are in `src/work/nodes.py`.
fn project(functions: &str, nodes: &str) -> Project {
    let rows: String = (0..10).map(|n| format!("{n},name {n}\n")).collect();
    Project::empty()
        .file(
            "catalog.yml",
            "
            numbers: {type: csv, path: data/numbers.csv}
            out: {type: parquet, path: data/out.parquet}
            more: {type: parquet, path: data/more.parquet}
            held: {type: memory}
            settings: {type: yaml, path: data/settings.yml}
            report: {type: yaml, path: data/report.yml}
            ",
        )
        .file("parameters.yml", "factor: 3\nnested: {list: [1, 2.5, null], text: ä}\n")
        .file("data/numbers.csv", &format!("n,name\n{rows}"))
        .file("data/settings.yml", "limit: 4\n")
        .file("src/work/__init__.py", "")
        .file("src/work/nodes.py", functions)
        .file("pipelines/main.yml", nodes)
}

/// The same with numbers in partitions `part=0` to `part=<count - 1>`, ten rows each, and a node over them.
fn partitioned(functions: &str, count: usize, keys: &str) -> Project {
    let project = project(
        functions,
        &format!(
            "
            nodes:
              - {{name: work, function: 'python:work.nodes.work', inputs: parts, outputs: done{keys}}}
            "
        ),
    )
    .more(
        "catalog.yml",
        "parts: {type: partitioned, path: data/parts, dataset: csv, filename_suffix: .csv}\n\
         done: {type: partitioned, path: data/done, dataset: parquet, filename_suffix: .parquet}\n",
    );
    for part in 0..count {
        let rows: String = (0..10).map(|n| format!("{}\n", part * 10 + n)).collect();
        project.write(&format!("data/parts/part={part}/rows.csv"), &format!("n\n{rows}"));
    }
    project
}

/// A column of integers of a parquet file, in its order.
fn integers(project: &Project, file: &str, column: &str) -> Vec<Option<i64>> {
    use arrow::array::AsArray as _;
    let batch = crate::support::read_parquet(&project.path(file));
    let column = batch.column_by_name(column).unwrap_or_else(|| panic!("no `{column}` in {:?}", batch.schema()));
    column.as_primitive::<arrow::datatypes::Int64Type>().iter().collect()
}

/// Processes whose command line holds this text.
fn processes(text: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("a list of processes");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let zombie = state.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
        !zombie && String::from_utf8_lossy(&line).contains(text)
    })
    .collect()
}
