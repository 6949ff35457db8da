//! Other tools read what was written: `tests/readers/read_back.py` over the shipped project.

use std::process::Command;

use crate::support::{Project, root, stores};

const READERS: &str = "duckdb==1.4.2 pandas==2.3.3 pyarrow==22.0.0 polars==1.35.2";
const SPARK: &str = "pyspark==4.0.1";

#[test]
fn duckdb_pandas_pyarrow_and_polars_see_what_was_written() {
    let project = Project::shipped();
    project.flow("run -q").exits(0);
    #[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests")]
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
