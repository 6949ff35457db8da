//! `partitions: all`: dictionaries of partitions, as functions have them in Kedro.

use super::{kedro::with_kedro, partitioned};
use crate::support::Project;

fn all(functions: &str, keys: &str) -> Project {
    let project = partitioned(functions, 4, &format!(", partitions: all{keys}"));
    with_kedro(project.edit("catalog.yml", "dataset: csv", "dataset: pandas.CSVDataset"))
}

const DOUBLE: &str = "
    import pathlib

    def note(name):
        with open('calls', 'a') as calls:
            calls.write(name + '\\n')

    def double(frame, key):
        note(key)
        if key == 'part=2' and pathlib.Path('broken').exists():
            raise ValueError('no')
        return frame * 2

    def work(parts: dict):
        assert list(parts) == ['part=0', 'part=1', 'part=2', 'part=3'], parts
        return {key: lambda load=load, key=key: double(load(), key) for key, load in parts.items()}
    ";

fn calls(project: &Project) -> Vec<String> {
    let calls = project.read("calls").lines().map(str::to_owned).collect();
    project.write("calls", "");
    calls
}

#[test]
fn a_dictionary_of_callables_is_computed_one_by_one_and_what_is_there_is_not_computed_again() {
    let project = all(DOUBLE, "");
    project.write("broken", "");
    let output = project.flow("run --output json").exits(1);
    assert!(output.stdout.contains("ValueError: no"), "{}", output.stdout);
    assert_eq!(output.summary()["partitions"]["done"], 2, "those that were committed count: {}", output.stdout);
    assert_eq!(calls(&project), ["part=0", "part=1", "part=2"]);
    assert_eq!(project.table("data/done").len(), 2, "what was computed is kept");
    std::fs::remove_file(project.path("broken")).expect("removed");
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!(
        (&summary["partitions"]["done"], &summary["partitions"]["skipped"]),
        (&2.into(), &2.into()),
        "{summary}"
    );
    assert_eq!(calls(&project), ["part=2", "part=3"]);
    let rows: usize = project.table("data/done").values().map(arrow::array::RecordBatch::num_rows).sum();
    assert_eq!(rows, 40);
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 1);
    assert!(calls(&project).is_empty());
}

#[test]
fn data_coroutines_and_generators_of_pairs_are_partitions_too() {
    for functions in [
        "def work(parts):\n    return {key: load() for key, load in parts.items()}\n",
        "async def one(load):\n    return load()\n\ndef work(parts):\n    return {key: lambda load=load: one(load) for key, load in parts.items()}\n",
        "def work(parts):\n    for key, load in parts.items():\n        yield key, load()\n",
    ] {
        let project = all(functions, "");
        project.flow("run").exits(0);
        let keys: Vec<_> = project.table("data/done").into_keys().collect();
        assert_eq!(keys, ["part=0", "part=1", "part=2", "part=3"], "{functions}");
    }
}

#[test]
fn other_ids_are_files_and_partitions_of_another_type_are_refused() {
    let project =
        all("def work(parts):\n    return {'x/' + key.replace('=', '-'): load for key, load in parts.items()}\n", "");
    project.flow("run").exits(0);
    let files: Vec<_> = project.files("data/done").into_iter().filter(|name| !name.starts_with('.')).collect();
    assert_eq!(files, ["x/part-0.parquet", "x/part-1.parquet", "x/part-2.parquet", "x/part-3.parquet"]);
    let project = all("def work(parts):\n    return [load() for load in parts.values()]\n", "");
    let output = project.flow("run").exits(1);
    assert!(output.stderr.contains("it returned an object of type list, expected a dictionary"), "{}", output.stderr);
    let drifting = "
        def work(parts):
            return {key: load().astype(str if key == 'part=2' else int) for key, load in parts.items()}
        ";
    let output = all(drifting, "").flow("run").exits(1);
    assert!(output.stderr.contains("column `n` of its result is Utf8"), "{}", output.stderr);
}

#[test]
fn a_coroutine_that_takes_too_long_fails_with_its_partition() {
    let functions = "
        import asyncio

        async def never(load):
            await asyncio.Event().wait()

        def work(parts):
            return {key: lambda load=load: never(load) for key, load in parts.items()}
        ";
    let project = all(functions, "").edit(
        "catalog.yml",
        "dataset: parquet, filename_suffix: .parquet",
        "dataset: parquet, filename_suffix: .parquet, save_args: {timeout: 1}",
    );
    let output = project.flow("run").exits(1);
    assert!(output.stderr.contains("took longer than 1 s; `timeout` under `save_args`"), "{}", output.stderr);
}

#[test]
fn an_error_that_a_coroutine_raises_is_not_told_as_the_limit_of_its_time() {
    let functions = "
        async def one(load):
            raise TimeoutError('the database did not respond')

        def work(parts):
            return {key: lambda load=load: one(load) for key, load in parts.items()}
        ";
    let output = all(functions, "").flow("run").exits(1);
    let says = |text: &str| output.stderr.contains(text);
    assert!(says("TimeoutError: the database did not respond") && !says("took longer"), "{}", output.stderr);
}

#[test]
fn a_function_that_gives_most_partitions_no_longer_removes_them_only_with_a_yes() {
    let functions = "
        import pathlib

        def work(parts):
            kept = 1 if pathlib.Path('fewer').exists() else 4
            return {key: [{'n': 1}] for key in list(parts)[:kept]}
        ";
    let project = partitioned(functions, 4, ", partitions: all").edit(
        "catalog.yml",
        "dataset: parquet, filename_suffix: .parquet",
        "dataset: parquet, filename_suffix: .parquet, overwrite: true",
    );
    project.flow("run").exits(0);
    project.write("fewer", "");
    let output = project.flow("run --force").exits(3);
    let what =
        "would remove 3 of the 4 partitions of `done`, since its function no longer gives them, and has computed 1";
    assert!(output.stderr.contains(what) && output.stderr.contains("`--yes`"), "{}", output.stderr);
    assert_eq!(project.table("data/done").len(), 4);
    let output = project.flow("run --force --yes").exits(0);
    assert!(output.stderr.contains("removes 3 of the 4 partitions of `done`"), "{}", output.stderr);
    assert_eq!(project.table("data/done").into_keys().collect::<Vec<_>>(), ["part=0"]);
}
