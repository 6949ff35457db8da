//! Other tools read what was written: `tests/readers/read_back.py` over the shipped project.

use std::process::Command;

use crate::support::{Project, root, stores};

const READERS: &str = "duckdb==1.4.2 pandas==2.3.3 pyarrow==22.0.0 polars==1.35.2";
const SPARK: &str = "pyspark==4.0.1";

#[test]
fn duckdb_pandas_pyarrow_and_polars_see_what_was_written() {
    let project = Project::shipped();
    project.flow("run -q").exits(0);
    #[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
    let spark = std::env::var("FLOW_TEST_SPARK").is_ok();
    let (packages, required) = if spark {
        (format!("{READERS} {SPARK}"), "duckdb,pandas,pyarrow,polars,pyspark")
    } else {
        (READERS.to_owned(), "duckdb,pandas,pyarrow,polars")
    };
    let python = stores::python_tool("readers", &packages, "python");
    let output = Command::new(python)
        .arg(root().join("tests/readers/read_back.py"))
        .arg(project.path("data/work/feat/node_embeddings"))
        .arg("--source")
        .arg(project.path("data/nodes.csv"))
        .args(["--dimensions", "128", "--require", required])
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for reader in required.split(',') {
        assert!(said.contains(&format!("{reader}: ok: 1766 rows in 4 buckets, 1766 vectors of 128")), "{said}");
    }
    eprint!("{said}");
}

#[test]
fn kedro_and_flow_read_each_others_partitions_under_the_same_ids() {
    let python =
        stores::python_tool("kedro", "kedro-datasets==9.6.0 kedro==1.7.0 pandas==2.3.3 pyarrow==22.0.0", "python");
    let kedro = |arguments: &[&str]| {
        let output = Command::new(&python)
            .arg(root().join("tests/readers/kedro_partitions.py"))
            .args(arguments)
            .env("DO_NOT_TRACK", "1")
            .output()
            .expect("Python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
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
