//! Functions that take and give objects of pandas, Polars and pyarrow.

use super::{integers, partitioned, project};
use crate::support::{Project, stores};

const PACKAGES: &str = "duckdb==1.4.2 pandas==2.3.3 pyarrow==22.0.0 polars==1.35.2";

pub(super) fn with_packages(project: Project) -> Project {
    let python = stores::python_tool("readers", PACKAGES, "python");
    project.env("FLOW_PYTHON", &python.display().to_string())
}

#[test]
fn annotations_decide_what_a_function_gets_and_any_table_is_taken_back() {
    let functions = "
        from __future__ import annotations
        from collections.abc import Iterator
        from typing import Optional, TYPE_CHECKING
        import pandas as pd
        import polars as pl
        import pyarrow as pa
        if TYPE_CHECKING:
            from pandas import DataFrame as Frame

        def to_pandas(df: pd.DataFrame):
            assert type(df) is pd.DataFrame
            df = df[df['n'] > 2].set_index('name')
            return df.assign(n=df['n'] + 1)

        def to_polars(df: Optional[pl.DataFrame]) -> pl.DataFrame:
            assert list(df.columns) == ['name', 'n'], df.columns
            return df.with_columns(n=pl.col('n') * 2)

        def to_lazy(df: pl.LazyFrame):
            return df.filter(pl.col('n') > 10)

        def to_arrow(table: pa.Table):
            return table.append_column('s', table['name'])

        def stream(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                assert isinstance(batch, pa.RecordBatch)
                yield batch

        class Exported:
            def __init__(self, table):
                self.table = table
            def __arrow_c_stream__(self, requested_schema=None):
                return self.table.__arrow_c_stream__(requested_schema)

        def last(df: Frame):
            raise NotImplementedError

        def export(table: pa.Table):
            return Exported(table.select(['n', 'name']))
        ";
    let nodes = "
        nodes:
          - {name: a, function: 'python:work.nodes.to_pandas', inputs: numbers, outputs: m1}
          - {name: b, function: 'python:work.nodes.to_polars', inputs: m1, outputs: m2}
          - {name: c, function: 'python:work.nodes.to_lazy', inputs: m2, outputs: m3}
          - {name: d, function: 'python:work.nodes.to_arrow', inputs: m3, outputs: m4}
          - {name: e, function: 'python:work.nodes.stream', inputs: m4, outputs: m5}
          - {name: f, function: 'python:work.nodes.export', inputs: m5, outputs: out}
        ";
    let project = with_packages(project(functions, nodes))
        .more("catalog.yml", &(1..=5).map(|n| format!("m{n}: {{type: memory}}\n")).collect::<String>());
    project.flow("run").exits(0);
    assert_eq!(integers(&project, "data/out.parquet", "n"), [12, 14, 16, 18, 20].map(Some));
}

#[test]
fn without_an_annotation_the_dataset_decides() {
    let functions = "
        def kinds(a, b, c, d):
            names = [type(x).__module__.split('.')[0] + '.' + type(x).__name__ for x in (a, b, c, d)]
            return names
        ";
    let nodes = "
        nodes:
          - {name: kinds, function: 'python:work.nodes.kinds', inputs: [numbers, p, q, r], outputs: report}
        ";
    let entry = |name: &str, kind: &str| format!("{name}: {{type: {kind}, filepath: data/numbers.csv}}\n");
    let project = with_packages(project(functions, nodes)).more(
        "catalog.yml",
        &[
            entry("p", "pandas.CSVDataset"),
            entry("q", "polars.EagerPolarsDataset, file_format: csv"),
            entry("r", "csv"),
        ]
        .concat(),
    );
    let project = if project.flow("check --no-python").code == 0 {
        project
    } else {
        project.edit("catalog.yml", "polars.EagerPolarsDataset, file_format: csv", "polars.CSVDataset")
    };
    project.flow("run").exits(0);
    let report: serde_json::Value = serde_json::from_str(&project.read("data/report.yml")).expect("JSON");
    assert_eq!(report, serde_json::json!(["pyarrow.Table", "pandas.DataFrame", "polars.DataFrame", "pyarrow.Table"]));
}

#[test]
fn partitions_of_pandas_are_cast_to_the_columns_of_the_first() {
    let functions = "
        import pandas as pd
        def work(df: pd.DataFrame):
            part = int(df['part'].iloc[0])
            df['value'] = df['n'] if part != 1 else None
            df['text'] = 'x' if part != 1 else None
            return df[df['n'] % 2 == 0]
        ";
    let project = with_packages(partitioned(functions, 3, ", workers: 1"));
    project.flow("run").exits(0);
    for part in 0..3_i64 {
        let files = project.files(&format!("data/done/part={part}"));
        let values = integers(&project, &format!("data/done/part={part}/{}", files[0]), "value");
        let expected: Vec<_> = (0..5).map(|n| (part != 1).then_some(part * 10 + 2 * n)).collect();
        assert_eq!(values, expected, "part {part}");
    }
}

#[test]
fn a_missing_package_is_named_with_the_way_to_install_it() {
    let functions = "
        def work(df):
            return df
        ";
    let project = project(
        functions,
        "
        nodes:
          - {name: work, function: 'python:work.nodes.work', inputs: numbers, outputs: out}
        ",
    );
    // The system's Python, which has no packages.
    let bare = std::process::Command::new("/usr/bin/python3").args(["-c", "import pyarrow"]).output();
    if bare.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this machine's python3 has pyarrow");
        return;
    }
    let output = project.flow("check").exits(2);
    for expected in [
        "input `1` of `work.nodes.work` is a pyarrow.Table (the parameter has no annotation, and its dataset decides), which needs the package `pyarrow`",
        "help: install it: `",
        "-m pip install pyarrow`; a function that takes and returns rows (`list[dict]`) needs no package",
    ] {
        let shown = output.stderr.replace('\n', " ");
        let squeezed = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(expected), "{expected} in\n{}", output.stderr);
    }
}

#[test]
fn times_of_numpy_and_pandas_in_rows_are_exact_or_refused() {
    let run = |value: &str| {
        let functions = format!(
            "import numpy as np\nimport pandas as pd\n\ndef work(rows: list[dict]):\n    return [{{'t': {value}, 'n': 1}}]\n"
        );
        let project = with_packages(project(
            &functions,
            "nodes:\n  - {name: work, function: 'python:work.nodes.work', inputs: numbers, outputs: out}\n",
        ));
        let output = project.flow("run");
        (project, output)
    };
    for (value, expected) in [
        ("np.datetime64('2024-01-01T00:00:00.123456', 'ns')", "2024-01-01T00:00:00.123456"),
        ("np.datetime64('2024-01-01T01', 'h')", "2024-01-01T01:00:00"),
        ("np.datetime64('2024-01-02', 'D')", "2024-01-02"),
        ("pd.Timestamp('2024-01-01 00:00:00.000001')", "2024-01-01T00:00:00.000001"),
        ("np.array(['2024-01-02T03:04:05'], dtype='datetime64[ns]')", "[2024-01-02T03:04:05]"),
        ("pd.NaT", ""),
        ("np.datetime64('NaT', 'ns')", ""),
    ] {
        let (project, output) = run(value);
        output.exits(0);
        let batch = crate::support::read_parquet(&project.path("data/out.parquet"));
        let column = batch.column_by_name("t").expect("the times");
        let shown = arrow::util::display::array_value_to_string(column, 0).expect("text");
        assert_eq!(shown, expected, "{value}");
    }
    for value in [
        "np.datetime64('2024-01-01T00:00:00.123456789')",
        "pd.Timestamp('2024-01-01 00:00:00.000000001')",
        "np.array(['2024-01-01T00:00:00.123456789'], dtype='datetime64[ns]')",
        "np.datetime64('20000-01-01', 'us')",
    ] {
        let (_, output) = run(value);
        let output = output.exits(1);
        let says = |text: &str| output.stderr.contains(text);
        assert!(says("column `t`") && says("which Python's `datetime` cannot hold"), "{value}: {}", output.stderr);
    }
    let (_, output) = run("np.timedelta64(1, 'ns')");
    let output = output.exits(1);
    assert!(output.stderr.contains("column `t` holds values of type numpy.timedelta64"), "{}", output.stderr);
}
