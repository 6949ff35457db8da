//! Datasets of types that only Kedro knows, opened by Python with Kedro's own classes.

use super::{integers, project};
use crate::support::{Project, stores};

/// A Python with Kedro.
pub(super) fn kedro_python() -> std::path::PathBuf {
    let packages = "kedro-datasets==9.6.0 kedro==1.7.0 pandas==2.3.3 pyarrow==22.0.0";
    stores::python_tool("kedro", packages, "python")
}

pub(super) fn with_kedro(project: Project) -> Project {
    let python = kedro_python();
    project.env("FLOW_PYTHON", &python.display().to_string()).env("DO_NOT_TRACK", "1")
}

const FUNCTIONS: &str = "
    import pandas as pd

    class Model:
        def __init__(self, factor):
            self.factor = factor

    def fit(df: pd.DataFrame, factor):
        return Model(factor), df.head(3)

    def predict(model, frame, df: pd.DataFrame):
        assert type(frame) is pd.DataFrame and len(frame) == 3
        return df[['n']] * model.factor
    ";

const NODES: &str = "
    nodes:
      - {name: fit, function: 'python:work.nodes.fit', inputs: [numbers, 'params:factor'], outputs: [model, frame]}
      - {name: predict, function: 'python:work.nodes.predict', inputs: [model, frame, numbers], outputs: out}
    ";

#[test]
fn pickles_and_other_types_of_kedro_are_read_and_written_by_their_own_classes() {
    let project = with_kedro(project(FUNCTIONS, NODES)).more(
        "catalog.yml",
        "model: {type: pickle.PickleDataset, filepath: data/model.pkl, versioned: true}\n\
         frame: {type: pandas.XMLDataset, filepath: data/frame.pkl}\n",
    );
    let project = project.edit("catalog.yml", "pandas.XMLDataset", "pickle.PickleDataset");
    let check = project.flow("check").exits(0);
    let said = "Python opens with Kedro's own classes: `frame` (pickle.PickleDataset), `model` (pickle.PickleDataset)";
    assert!(check.stderr.contains(said), "{}", check.stderr);
    project.flow("run").exits(0);
    let expected: Vec<_> = (0..10).map(|n| Some(n * 3)).collect();
    assert_eq!(integers(&project, "data/out.parquet", "n"), expected);
    let versions = || project.files("data/model.pkl").into_iter().filter(|name| name.ends_with("/model.pkl")).count();
    assert_eq!(versions(), 1);
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 2);
    project.flow("run --params factor=4").exits(0);
    assert_eq!(versions(), 2);
    assert_eq!(integers(&project, "data/out.parquet", "n")[1], Some(4));
    // What others wrote there is not replaced.
    std::fs::write(project.path("data/frame.pkl"), "mine").expect("written");
    let output = project.flow("run --params factor=5").exits(3);
    assert!(
        output.stderr.contains("`frame` cannot be written: its location holds files that flow may not replace"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_type_that_only_kedro_knows_needs_python_on_both_sides() {
    let project = project(FUNCTIONS, NODES)
        .more("catalog.yml", "model: {type: pickle.PickleDataset, filepath: data/model.pkl}\nframe: {type: memory}\n");
    // The system's Python has no Kedro.
    let bare = std::process::Command::new("/usr/bin/python3").args(["-c", "import kedro"]).output();
    if bare.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this machine's python3 has kedro");
    } else {
        let nodes = "def fit(df: list[dict], factor):\n    return 1, []\n\ndef predict(model, frame: list[dict], df: list[dict]):\n    return []\n";
        project.write("src/work/nodes.py", nodes);
        let output = project.flow("check").exits(2);
        assert!(output.stderr.contains("needs the package `kedro-datasets`"), "{}", output.stderr);
    }
    let project = project
        .edit(
            "pipelines/main.yml",
            "'python:work.nodes.predict', inputs: [model, frame, numbers]",
            "sql, inputs: {t: model, query: params:query}",
        )
        .more("parameters.yml", "query: select 1\n");
    let output = project.flow("run --nodes predict").exits(2);
    assert!(
        output.stderr.contains("dataset `model`") || output.stderr.contains("`model` is a value"),
        "{}",
        output.stderr
    );
}
