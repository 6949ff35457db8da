//! Other tools read what was written: `tests/readers/read_back.py` over the shipped project.

use std::process::Command;

use crate::{
    config::holds,
    support::{Project, root, small, stores},
};

/// The readers that are held to what is written: an environment's name and its packages. The oldest versions, and the
/// last pyarrow that cannot read a null vector of a fixed size.
const READERS: &[(&str, &str)] = &[
    ("readers", "duckdb==1.4.2 pandas==2.3.3 pyarrow==22.0.0 polars==1.35.2 datafusion==50.1.0"),
    ("readers-25", "duckdb==2.0.1 pandas==3.1.1 pyarrow==25.0.0 polars==2.1.0 datafusion==55.0.0"),
];
const SPARK: &str = "pyspark==4.0.1";

/// Reads `folder` with every reader; `arguments` are those of the script. Each has to see `expected`.
fn read_back(folder: &std::path::Path, arguments: &[&str], expected: &str) {
    #[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
    let spark = std::env::var("FLOW_TEST_SPARK").is_ok();
    for (environment, packages) in READERS {
        let (packages, required) = if spark {
            (format!("{packages} {SPARK}"), "duckdb,pandas,pyarrow,polars,datafusion,pyspark")
        } else {
            ((*packages).to_owned(), "duckdb,pandas,pyarrow,polars,datafusion")
        };
        let python = stores::python_tool(environment, &packages, "python");
        let output = Command::new(python)
            .arg(root().join("tests/readers/read_back.py"))
            .arg(folder)
            .args(arguments)
            .args(["--require", required])
            .output()
            .expect("Python runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{packages}: {said}{}", String::from_utf8_lossy(&output.stderr));
        for reader in required.split(',') {
            assert!(said.contains(&format!("{reader}: ok: {expected}")), "{packages}: {said}");
        }
        eprint!("{said}");
    }
}

#[test]
fn duckdb_pandas_pyarrow_polars_and_datafusion_see_what_was_written() {
    let project = Project::shipped();
    project.flow("run -q").exits(0);
    let source = project.path("data/nodes.csv").display().to_string();
    let vectors = project.path("data/work/feat/node_embeddings");
    read_back(&vectors, &["--source", &source, "--dimensions", "128"], "1766 rows in 4 buckets, 1766 vectors of 128");
}

#[test]
fn rows_without_a_vector_are_read_by_every_reader_whatever_partitions_have_them() {
    type Lacks = fn(usize) -> bool;
    // Every reader takes the columns of the first file for all.
    let patterns: [(&str, Lacks); 3] = [
        ("some, none and all rows", |row| if row < 10 { row % 3 == 0 } else { row >= 20 }),
        ("no row of the first", |row| row >= 10 && row % 2 == 0),
        ("all rows of the first", |row| row < 10),
    ];
    for (pattern, lacks) in patterns {
        let project = small::project("data", "");
        let name = |row| if lacks(row) { String::new() } else { format!("the name of row {row}") };
        let rows: String = (0..30).map(|row| format!("r{row:02},{}\n", name(row))).collect();
        project.write("data/nodes.csv", &format!("id,name\n{rows}"));
        project.flow("run -q").exits(0);
        let missing = (0..30).filter(|row| lacks(*row)).count();
        eprintln!("{pattern}: {missing} rows without a vector");
        let errors = missing.to_string();
        let arguments = ["--rows", "30", "--dimensions", "8", "--errors", &errors];
        let expected = format!("30 rows in 3 buckets, {} vectors of 8", 30 - missing);
        read_back(&project.path("data/vectors"), &arguments, &expected);
        // And by flow: as a table, and as partitions that are up to date.
        let query = "select count(embedding) as n, count(*) as rows from v";
        let more = format!(
            "vectors@table: {{type: parquet, path: data/vectors}}\no: {{type: csv, path: o.csv}}\nquery: {query}"
        );
        let (catalog, parameters) = more.rsplit_once('\n').expect("two parts");
        project.write("catalog.yml", &format!("{}{catalog}\n", project.read("catalog.yml")));
        project.write("parameters.yml", &format!("{}{parameters}\n", project.read("parameters.yml")));
        project.write(
            "pipelines/count.yml",
            "nodes:\n  - {name: count, function: sql, inputs: {v: vectors@table, query: params:query}, outputs: o}\n",
        );
        project.flow("run -q").exits(0);
        assert_eq!(project.read("o.csv"), format!("n,rows\n{},30\n", 30 - missing), "{pattern}");
        assert_eq!(project.flow("run --output json").exits(0).summary()["partitions"]["done"], 0, "{pattern}");
    }
}

/// Runs a script of `tests/readers` with the binary, and gives what it printed.
fn script(name: &str, environment: &str, packages: &str, arguments: &[&str]) -> String {
    let python = stores::python_tool(environment, packages, "python");
    let output = Command::new(python)
        .arg(root().join("tests/readers").join(name))
        .args(["--flow", env!("CARGO_BIN_EXE_flow")])
        .args(arguments)
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{packages}: {said}{}", String::from_utf8_lossy(&output.stderr));
    eprint!("{said}");
    said
}

#[test]
fn every_type_in_every_format_is_equal_or_refused_by_name() {
    #[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
    let spark = std::env::var("FLOW_TEST_SPARK").is_ok();
    let folder = tempfile::tempdir().expect("a folder");
    let table = folder.path().join("table.md");
    // The versions of today: older ones differ among themselves.
    let (environment, packages) = READERS[1];
    let packages = if spark { format!("{packages} {SPARK}") } else { packages.to_owned() };
    let path = table.display().to_string();
    let arguments = if spark { vec!["--table", &path, "--spark"] } else { vec!["--table", &path] };
    let said = script("grid.py", environment, &packages, &arguments);
    // A tool that reads or writes nothing would find no difference.
    for (tool, formats) in [("pandas", 4), ("polars", 4), ("duckdb", 3)] {
        let worked = |line: &&str| line.contains(&format!(" {tool}: ")) && line.contains(" equal");
        assert_eq!(said.lines().filter(worked).count(), 2 * formats, "{tool}: {said}");
    }
    let page = format!(
        "<!-- Generated by tests/readers.rs; FLOW_BLESS=1 writes it again. -->\n\n\
         # Types in files\n\n\
         What becomes of a column of each type, with nulls and the ends of its range, in files that pandas, Polars and DuckDB write and `flow`\n\
         reads, and the other way round with pyarrow. *equal*: the same values; *refused*: an error that names the column; –: none of these tools\n\
         writes such a file.\n\n{}",
        std::fs::read_to_string(&table).expect("a table")
    );
    holds(&root().join("docs/types.md"), &page);
}

#[test]
fn options_of_pandas_mean_what_they_mean_to_pandas() {
    let (environment, packages) = READERS[1];
    let said = script("pandas_options.py", environment, packages, &[]);
    let last = said.lines().last().expect("counts");
    let equal: usize = last.split(' ').next().expect("a number").parse().expect("a number");
    assert!(last.contains("equal") && equal > 55, "{last}");
}

/// What Kedro's own datasets say; see the script.
fn kedro(arguments: &[&str]) -> String {
    let python =
        stores::python_tool("kedro", "kedro-datasets==9.6.0 kedro==1.7.0 pandas==2.3.3 pyarrow==22.0.0", "python");
    let output = Command::new(&python)
        .arg(root().join("tests/readers/kedro_partitions.py"))
        .args(arguments)
        .env("DO_NOT_TRACK", "1")
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn kedro_and_flow_move_the_same_checkpoint() {
    let project = Project::empty()
        .file("catalog.yml", "p: {type: partitions.IncrementalDataset, path: parts, dataset: pandas.CSVDataset, filename_suffix: .csv}\no: {type: partitions.PartitionedDataset, path: out, dataset: pandas.ParquetDataset, filename_suffix: .parquet}\n")
        .file("parameters.yml", "model: {provider: hash, dimensions: 4}\n")
        .file(
            "pipelines/main.yml",
            "nodes:\n  - {name: embed, function: compute_embeddings, inputs: {dfs: p, model: params:model}, outputs: o, confirms: p}\n",
        );
    let parts = project.path("parts").display().to_string();
    let ids = |text: &str| -> Vec<String> {
        let found: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).expect("JSON");
        found.into_iter().map(|(id, _)| id).collect()
    };
    let seen_by_flow = || -> Vec<String> {
        let shown = project.flow("show p --partitions --output json").exits(0).json();
        let shown = shown.as_array().expect("a list").iter();
        shown.map(|one| one["partition"].as_str().expect("a string").to_owned()).collect()
    };
    let seen_by_kedro = || ids(&kedro(&["new", &parts, "pandas.CSVDataset", ".csv"]));
    for (round, new) in [&["2024/jan", "a", "x y/ä"][..], &["b/1", "y", "y/2"], &["y.z", "z"]].into_iter().enumerate()
    {
        let mut arguments = vec!["write", &parts, "pandas.CSVDataset", ".csv"];
        arguments.extend(new);
        kedro(&arguments);
        assert_eq!(seen_by_flow(), seen_by_kedro(), "round {round}");
        assert!(!seen_by_flow().is_empty(), "round {round}");
        // In turn.
        if round % 2 == 0 {
            project.flow("run").exits(0);
        } else {
            kedro(&["confirm", &parts, "pandas.CSVDataset", ".csv"]);
        }
        assert_eq!(seen_by_flow(), [] as [&str; 0], "round {round}");
        assert_eq!(seen_by_kedro(), [] as [&str; 0], "round {round}");
    }
}

#[test]
fn kedro_and_flow_read_each_others_partitions_under_the_same_ids() {
    for (suffix, ids) in [
        (".csv", &["2024/jan", "a.b", "bucket=3/shard", "north", "x y/ä=1/ö"][..]),
        (".csv", &["bucket=3/shard", "bucket=10/shard"]),
        (".csv", &["south", "north"]),
        ("", &["2024/jan", "north.csv"]),
        ("csv", &["north.", "x/south."]),
    ] {
        let out_suffix = if suffix.is_empty() { "" } else { ".parquet" };
        let entry = |path: &str, kind: &str, suffix: &str| {
            format!(
                "{{type: partitions.PartitionedDataset, path: {path}, dataset: pandas.{kind}Dataset, filename_suffix: '{suffix}'}}"
            )
        };
        let project = Project::empty()
            .file("catalog.yml", &format!("p: {}\no: {}\n", entry("parts", "CSV", suffix), entry("out", "Parquet", out_suffix)))
            .file("parameters.yml", "model: {provider: hash, dimensions: 4}\n")
            .file(
                "pipelines/main.yml",
                "nodes:\n  - {name: embed, function: compute_embeddings, inputs: {dfs: p, model: params:model}, outputs: o}\n",
            );
        let at = |folder: &str| project.path(folder).display().to_string();
        let mut arguments = vec!["write", "", "pandas.CSVDataset", suffix];
        let parts = at("parts");
        arguments[1] = &parts;
        arguments.extend(ids);
        kedro(&arguments);
        let expected: serde_json::Map<String, serde_json::Value> =
            ids.iter().enumerate().map(|(i, id)| ((*id).to_owned(), serde_json::json!([i]))).collect();
        project.flow("run").exits(0);
        let found: serde_json::Value =
            serde_json::from_str(&kedro(&["read", &at("out"), "pandas.ParquetDataset", out_suffix])).expect("JSON");
        assert_eq!(found, serde_json::Value::Object(expected), "{suffix}: Kedro reads what flow wrote");
        for dataset in ["p", "o"] {
            let shown = project.flow(&format!("show {dataset} --partitions --output json")).exits(0).json();
            let shown =
                shown.as_array().expect("a list").iter().map(|one| one["partition"].as_str().expect("a string"));
            let mut sorted = ids.to_vec();
            sorted.sort_unstable();
            assert_eq!(shown.collect::<Vec<_>>(), sorted, "{suffix}: flow has Kedro's ids");
        }
        project.flow("run --output json").exits(0);
        assert_eq!(project.flow("run --output json").exits(0).summary()["partitions"]["skipped"], ids.len());
    }
}
