//! Tables that come piece by piece, partition ids that functions choose, and what one call must not do to the next.

use super::{frames::with_packages, partitioned, project};
use crate::support::read_parquet;

/// The message of the node `work` or of its partition that failed.
fn message(output: &crate::support::Output) -> String {
    let failed = output.lines().into_iter().find(|line| line["kind"] == "node.failed").expect("a failure");
    failed["error"].as_str().expect("a message").to_owned()
}

const TO_OUT: &str = "
    nodes:
      - {name: work, function: 'python:work.nodes.work', inputs: numbers, outputs: out}
    ";

#[test]
fn a_table_without_rows_keeps_its_columns_through_functions_that_iterate() {
    let functions = "
        from collections.abc import Iterator
        import pandas as pd
        import pyarrow as pa

        def frames(rows: Iterator[pd.DataFrame]):
            for frame in rows:
                yield frame

        def batches(rows: Iterator[pa.RecordBatch]):
            yield from rows
        ";
    let nodes = "
        nodes:
          - {name: a, function: 'python:work.nodes.frames', inputs: numbers, outputs: out}
          - {name: b, function: 'python:work.nodes.batches', inputs: numbers, outputs: more}
        ";
    let project = with_packages(project(functions, nodes));
    project.write("data/numbers.csv", "n,name\n");
    project.flow("run").exits(0);
    for file in ["data/out.parquet", "data/more.parquet"] {
        let rows = read_parquet(&project.path(file));
        let names: Vec<_> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!((rows.num_rows(), names), (0, vec!["n".to_owned(), "name".to_owned()]), "{file}");
    }
}

#[test]
fn an_empty_list_as_a_partition_has_the_columns_of_the_others() {
    // The second partition is empty; one process computes them in their order.
    let functions = "
        def work(rows: list[dict]):
            return [row for row in rows if row['n'] < 10]
        ";
    let project = partitioned(functions, 2, ", workers: 1");
    project.flow("run").exits(0);
    let rows: Vec<_> = project.table("data/done").into_values().map(|batch| batch.num_rows()).collect();
    assert_eq!(rows, [10, 0]);
}

#[test]
fn an_empty_list_as_the_first_partition_has_the_declared_columns_but_for_those_of_its_folder() {
    let functions = "
        def work(rows: list[dict]):
            return [row for row in rows if row['n'] >= 10]
        ";
    let schema = "dataset: {type: parquet, schema: {part: BIGINT, n: BIGINT}}, filename_suffix: .parquet";
    let project = partitioned(functions, 2, ", workers: 1");
    let project = project.edit("catalog.yml", "dataset: parquet, filename_suffix: .parquet", schema);
    project.flow("run").exits(0);
    let found: Vec<_> = project.table("data/done").into_values().collect();
    assert_eq!(found.iter().map(|batch| batch.num_rows()).collect::<Vec<_>>(), [0, 10]);
    for batch in found {
        let schema = batch.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["n"]);
    }
}

#[test]
fn all_rows_of_a_long_list_decide_about_its_types() {
    let functions = "
        def work(rows: list[dict]):
            many = [{'n': n, 'late': None, 'deep': [{'x': None}]} for n in range(20000)]
            return [*many, {'n': 0.5, 'late': 'text', 'deep': [{'x': True}]}]
        ";
    let nodes = "nodes:\n  - {name: work, function: 'python:work.nodes.work', inputs: numbers, outputs: out}\n";
    let project = project(functions, nodes);
    project.flow("run").exits(0);
    let batch = read_parquet(&project.path("data/out.parquet"));
    assert_eq!(batch.num_rows(), 20_001);
    let schema = batch.schema();
    let types: Vec<String> = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(types[..2], ["Float64", "Utf8"]);
    assert!(types[2].contains("Boolean"), "{types:?}");
    let late = batch.column_by_name("late").expect("the column");
    assert_eq!((late.null_count(), late.is_valid(20_000)), (20_000, true));
}

#[test]
fn an_integer_that_became_a_float_beside_a_null_is_not_made_another_integer() {
    let functions = |value: &str| {
        format!(
            "import pandas as pd\n\ndef work(rows: pd.DataFrame):\n    yield pd.DataFrame({{'x': [1]}})\n    \
             yield pd.DataFrame({{'x': [{value}, None]}})\n"
        )
    };
    let fine = with_packages(project(&functions("2"), TO_OUT));
    fine.flow("run").exits(0);
    let wrong = with_packages(project(&functions("2 ** 53 + 1"), TO_OUT));
    let text = message(&wrong.flow("run --output json").exits(1));
    assert!(
        text.contains("column `x` is int64 in the first item of the iterator that it returned, and double"),
        "{text}"
    );
    assert!(text.contains("may have been another integer"), "{text}");
    assert!(!wrong.path("data/out.parquet").exists());
}

#[test]
fn a_later_item_with_other_columns_or_types_is_an_error_that_names_them() {
    for (later, expected) in [
        ("{'y': [2]}", "the iterator that it returned gave the columns y, and x in its first item"),
        ("{'x': ['a']}", "column `x` is int64 in the first item of the iterator that it returned, and"),
    ] {
        let functions = format!(
            "import pandas as pd\n\ndef work(rows: pd.DataFrame):\n    yield pd.DataFrame({{'x': [1]}})\n    yield pd.DataFrame({later})\n"
        );
        let project = with_packages(project(&functions, TO_OUT));
        let text = message(&project.flow("run --output json").exits(1));
        assert!(text.contains(expected), "{later}: {text}");
    }
    let functions = "
        import pandas as pd

        def work(rows: pd.DataFrame):
            yield pd.DataFrame({'x': [1], 'y': ['a']})
            yield pd.DataFrame({'y': ['b'], 'x': [2]})
        ";
    let project = with_packages(project(functions, TO_OUT));
    project.flow("run").exits(0);
    assert_eq!(read_parquet(&project.path("data/out.parquet")).num_rows(), 2);
}

#[test]
fn a_call_that_failed_while_it_sent_rows_spoils_no_later_call() {
    // The error keeps the frame alive that holds the stream, until the collector frees them during a later call.
    let functions = "
        import gc
        from collections.abc import Iterator
        import pyarrow as pa

        def work(rows: Iterator[pa.RecordBatch]):
            for batch in rows:
                yield batch
                try:
                    if batch['n'][0].as_py() == 0:
                        raise ValueError('a bad partition')
                except ValueError as error:
                    last = error
                    raise
                gc.collect()
        ";
    let project = with_packages(partitioned(functions, 5, ", workers: 1"));
    let output = project.flow("run --keep-going").exits(1);
    assert!(output.stderr.contains("a bad partition"), "{}", output.stderr);
    assert!(!output.stderr.contains("cannot be read"), "{}", output.stderr);
    assert_eq!(project.table("data/done").into_keys().collect::<Vec<_>>(), ["part=1", "part=2", "part=3", "part=4"]);
}

#[test]
fn threads_load_partitions_while_results_are_sent() {
    let functions = "
        import concurrent.futures
        import pyarrow as pa

        def work(parts: dict):
            with concurrent.futures.ThreadPoolExecutor(3) as pool:
                loads = {key: [pool.submit(load) for _ in range(4)] for key, load in sorted(parts.items())}
                for key, (first, *_) in loads.items():
                    yield key, first.result().take(pa.array([0] * 400_000))
        ";
    let project = with_packages(partitioned(functions, 12, ", partitions: all"));
    project.flow("run").exits(0);
    let rows: usize = project.table("data/done").values().map(arrow::array::RecordBatch::num_rows).sum();
    assert_eq!(rows, 12 * 400_000);
}

#[test]
fn partitions_may_have_other_numbers_of_categories() {
    let functions = "
        import pandas as pd

        def work(rows: pd.DataFrame):
            count = [0, 3, 300][rows['n'][0] // 10]
            return pd.DataFrame({'c': pd.Categorical(['value %d' % n for n in range(count)])})
        ";
    let project = with_packages(partitioned(functions, 3, ", workers: 1"));
    project.flow("run").exits(0);
    let rows: Vec<_> = project.table("data/done").into_values().map(|batch| batch.num_rows()).collect();
    assert_eq!(rows, [0, 3, 300]);
}

#[test]
fn an_exception_in_the_middle_of_a_table_is_shown_whole() {
    let functions = "
        def work(rows: list[dict]):
            for row in rows:
                if row['n'] == 5:
                    raise ValueError('row 5 is bad\\nin two lines')
                yield row
        ";
    let text = message(&project(functions, TO_OUT).flow("run --output json").exits(1));
    assert!(text.contains("ValueError: row 5 is bad\nin two lines\n"), "{text}");
    assert!(text.contains("\n  File \"src/work/nodes.py\", line 4, in work\n"), "{text}");
}

#[test]
fn an_exception_in_a_callable_names_its_partition() {
    for (callable, expected) in [
        ("lambda: {}['x']", "partition `b`: KeyError: 'x'"),
        ("lambda: None", "`work.nodes.work`: partition `b`: it returned None, expected a table"),
    ] {
        let functions = format!("def work(parts: dict):\n    return {{'a': [{{'x': 1}}], 'b': {callable}}}\n");
        let text = message(&partitioned(&functions, 1, ", partitions: all").flow("run --output json").exits(1));
        assert!(text.starts_with(expected), "{text}");
    }
}

#[test]
fn partition_ids_that_leave_the_dataset_are_refused_and_nothing_is_touched() {
    for (id, why) in [
        ("../parts/part=0/rows", "has `.` or `..` in its path"),
        ("/part=0", "begins with `/`"),
        ("a//b", "has an empty name in its path"),
        ("./a", "has `.` or `..` in its path"),
        ("_a", "has a name that begins with `.` or `_`"),
        ("a/.b", "has a name that begins with `.` or `_`"),
        ("", "has an empty name in its path"),
    ] {
        let functions = format!("def work(parts: dict):\n    return {{'{id}': [{{'n': 99}}]}}\n");
        let project = partitioned(&functions, 1, ", partitions: all");
        let before = project.read("data/parts/part=0/rows.csv");
        let text = message(&project.flow("run --output json").exits(1));
        assert!(text.contains(&format!("partition `{id}` of its result {why}")), "{text}");
        assert_eq!(before, project.read("data/parts/part=0/rows.csv"));
        let written: Vec<_> = project.files("data").into_iter().filter(|file| file.ends_with(".parquet")).collect();
        assert_eq!(written, [""; 0]);
    }
}

#[test]
fn a_partition_that_is_given_twice_is_an_error() {
    for (first, second) in [("a", "a"), ("day=a b", "day=a%20b")] {
        let functions =
            format!("def work(parts: dict):\n    yield '{first}', [{{'n': 1}}]\n    yield '{second}', [{{'n': 2}}]\n");
        let text = message(&partitioned(&functions, 1, ", partitions: all").flow("run --output json").exits(1));
        assert!(text.contains(&format!("partition `{second}` of its result was given twice")), "{text}");
    }
}
