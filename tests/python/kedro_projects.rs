//! Kedro projects that are run as they are: what they give is what `kedro run` gives.

use std::{collections::BTreeMap, process::Command};

use serde_json::{Value as Json, json};

use super::kedro::{kedro_python, with_kedro};
use crate::support::Project;

const NODES: &str = "
    import pandas as pd

    class Model:
        def __init__(self, factor):
            self.factor = factor

    def scaled(frame, factor):
        return frame.assign(price=frame['price'] * factor)

    def clean(orders: pd.DataFrame, factor):
        return scaled(orders, factor)

    def count(text):
        return len(text.splitlines()), {'rows': 1}

    def fit(table, options):
        return Model(options['factor'])

    def report(lines, extra, model, table):
        assert type(extra) is dict and type(model) is Model
        return {'lines': lines, 'model': model.factor, 'sum': float(table['price'].sum())}

    def audit(report):
        print('audited', report['lines'])
        return report['sum']

    def parts(table):
        return {'one': lambda: table.head(1), 'two': table.tail(1)}

    def join(parts):
        return pd.concat([parts[name]() for name in sorted(parts)])
    ";

const REGISTRY: &str = "
    from functools import partial
    from kedro.pipeline import Pipeline, node, pipeline
    from . import nodes

    def register_pipelines():
        clean = Pipeline([
            node(nodes.clean, inputs={'orders': 'orders', 'factor': 'params:factor'}, outputs='clean_table@pandas', name='clean', tags=['daily']),
            node(nodes.count, inputs='clean_table@text', outputs=['lines', 'extra'], name='count'),
        ])
        train = Pipeline([
            node(nodes.fit, inputs=['clean_table@pandas', 'params:model'], outputs='model', name='fit', tags=['daily', 'slow']),
            node(nodes.report, inputs=['lines', 'extra', 'model', 'clean_table@pandas'], outputs='report', name='report'),
            node(nodes.audit, inputs='report', outputs='audited', name='audit'),
        ])
        parts = pipeline(
            [
                node(nodes.parts, inputs='table', outputs='parts', name='split'),
                node(nodes.join, inputs='parts', outputs='joined', name='join'),
            ],
            namespace='apart',
            inputs={'table': 'clean_table@pandas'},
        )
        other = Pipeline([node(partial(nodes.clean, factor=7), inputs='orders', outputs='clean_table@pandas', name='seven')])
        return {'__default__': clean + train + parts, 'clean': clean, 'train': train, 'parts': parts, 'other': other}
    ";

const SETTINGS: &str = "
    from kedro.framework.hooks import hook_impl

    class Audit:
        @hook_impl
        def before_node_run(self, node):
            raise RuntimeError('a hook was run')

    # `kedro run` in the tests has none.
    import os
    HOOKS = () if os.environ.get('WITHOUT_HOOKS') else (Audit(),)
    ";

const CATALOG: &str = r#"
    orders: {type: pandas.CSVDataset, filepath: data/orders.csv}
    "{name}_table@pandas": {type: pandas.CSVDataset, filepath: "data/{name}.csv", save_args: {index: false}}
    "{name}_table@text": {type: text.TextDataset, filepath: "data/{name}.csv"}
    model: {type: pickle.PickleDataset, filepath: data/model.pkl, versioned: true}
    report: {type: json.JSONDataset, filepath: "data/${_folder}/report.json"}
    _folder: out
    "{namespace}.parts": {type: partitions.PartitionedDataset, path: "data/{namespace}", dataset: {type: pandas.CSVDataset, save_args: {index: false}}, filename_suffix: .csv}
    apart.joined: {type: pandas.CSVDataset, filepath: data/joined.csv, save_args: {index: false}}
    "#;

fn shop() -> Project {
    let rows: String = (0..10).map(|n| format!("{n},{}.5\n", n * 2)).collect();
    with_kedro(
        Project::empty()
            .file(
                "pyproject.toml",
                "
                [tool.kedro]
                package_name = 'shop'
                project_name = 'Shop'
                kedro_init_version = '1.7.0'
                ",
            )
            .file("src/shop/__init__.py", "")
            .file("src/shop/settings.py", SETTINGS)
            .file("src/shop/pipeline_registry.py", REGISTRY)
            .file("src/shop/nodes.py", NODES)
            .file("conf/base/catalog.yml", CATALOG)
            .file("conf/base/parameters.yml", "factor: 2\nmodel: {factor: 3}\n")
            .file("conf/prod/parameters.yml", "factor: 5\n")
            .file("conf/local/credentials.yml", "{}\n")
            .file("data/orders.csv", &format!("id,price\n{rows}")),
    )
}

/// What `kedro run` writes into a copy of the project.
fn by_kedro(project: &Project) -> BTreeMap<String, Vec<u8>> {
    let copy = project.copy();
    let output = Command::new(kedro_python())
        .args(["-m", "kedro", "run"])
        .current_dir(copy.path(""))
        .envs([("DO_NOT_TRACK", "1"), ("WITHOUT_HOOKS", "1")])
        .output()
        .expect("Kedro starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    written(&copy)
}

/// The files under `data`, without what `flow` keeps for itself; a version of a dataset has no time in its name.
fn written(project: &Project) -> BTreeMap<String, Vec<u8>> {
    let hidden = |name: &String| name.split('/').any(|part| part.starts_with('.'));
    let files = project.files("data").into_iter().filter(|name| !hidden(name));
    let version = |part: &&str| part.len() == 24 && part.ends_with('Z');
    files
        .map(|name| {
            let bytes = std::fs::read(project.path(&format!("data/{name}"))).expect("readable");
            (name.split('/').filter(|part| !version(part)).collect::<Vec<_>>().join("/"), bytes)
        })
        .collect()
}

fn planned(project: &Project, line: &str) -> Vec<String> {
    let plan = project.flow(&format!("plan --output json {line}")).exits(0).json();
    let nodes = plan["nodes"].as_array().expect("a list");
    let runs = nodes.iter().filter(|node| node["action"] == "run");
    runs.map(|node| node["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_kedro_project_gives_what_kedro_run_gives_and_a_second_run_does_nothing() {
    let project = shop();
    let expected = by_kedro(&project);
    let first = project.flow("run --output json").exits(0).summary();
    assert_eq!((&first["nodes"]["done"], &first["nodes"]["skipped"]), (&json!(7), &json!(0)), "{first}");
    assert_eq!(written(&project), expected);
    let second = project.flow("run --output json").exits(0).summary();
    assert_eq!((&second["nodes"]["done"], &second["nodes"]["skipped"]), (&json!(0), &json!(7)), "{second}");
    // Its code, and the code that it calls, but not what is beside it.
    let project = project.edit("src/shop/nodes.py", "report['sum']", "-report['sum']");
    assert_eq!(planned(&project, ""), ["audit"]);
    let project = project.edit("src/shop/nodes.py", "frame['price'] * factor", "frame['price'] * factor + 1");
    let plan = project.flow("plan").exits(0);
    assert!(plan.stdout.contains("src/shop/nodes.py changed"), "{}", plan.stdout);
    project.flow("run").exits(0);
    assert_eq!(written(&project), by_kedro(&project));
    assert_eq!(planned(&project, ""), Vec::<String>::new());
    // Comments are no code.
    let project =
        project.edit("src/shop/nodes.py", "def fit(table, options):", "def fit(table, options):\n    # As ever.");
    assert_eq!(planned(&project, ""), Vec::<String>::new());
}

#[test]
fn functions_without_a_name_of_their_own_are_known_by_their_module() {
    let project = shop().edit(
        "src/shop/nodes.py",
        "def audit(report):\n    print('audited', report['lines'])\n    return report['sum']\n",
        "audit = lambda report: report['sum']\n",
    );
    project.flow("run").exits(0);
    assert_eq!(planned(&project, ""), Vec::<String>::new());
    let project = project.edit("src/shop/nodes.py", "lambda report: report['sum']", "lambda report: report['lines']");
    assert_eq!(planned(&project, ""), ["audit"]);
}

#[test]
fn a_project_with_other_folders_environments_and_classes_is_loaded_as_kedro_loads_it() {
    let settings = "
        from kedro.config import OmegaConfigLoader
        from kedro.io import DataCatalog

        class Loader(OmegaConfigLoader):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)

        class Catalog(DataCatalog):
            pass

        CONF_SOURCE = 'settings'
        CONFIG_LOADER_CLASS = Loader
        CONFIG_LOADER_ARGS = {'base_env': 'common', 'default_run_env': 'mine', 'custom_resolvers': {'double': lambda n: 2 * n}}
        DATA_CATALOG_CLASS = Catalog
        ";
    let project = shop();
    for (from, to) in [("conf/base", "settings/common"), ("conf/local", "settings/mine"), ("src/shop", "code/lib/shop")]
    {
        let to = project.path(to);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("folders");
        std::fs::rename(project.path(from), to).expect("renamed");
    }
    let project = project
        .file("code/lib/shop/settings.py", settings)
        .file("settings/mine/parameters.yml", "factor: '${double: 3}'\n")
        .more("pyproject.toml", "source_dir = 'code/lib'\n");
    let expected = by_kedro(&project);
    project.flow("check").exits(0);
    project.flow("run").exits(0);
    assert_eq!(written(&project), expected);
    assert!(project.read("data/clean.csv").contains("1,15.0"), "{}", project.read("data/clean.csv"));
    assert_eq!(planned(&project, ""), Vec::<String>::new());
    let project = project.edit("code/lib/shop/nodes.py", "report['sum']", "-report['sum']");
    assert_eq!(planned(&project, ""), ["audit"]);
    // A folder that is not there and a module that does not load are told.
    let project = project.edit("pyproject.toml", "code/lib", "code/other");
    let output = project.flow("check").exits(2);
    assert!(output.stderr.contains("error[kedro::project]"), "{}", output.stderr);
}

#[test]
fn nodes_of_a_kedro_project_keep_their_names_tags_namespaces_and_pipelines() {
    let project = shop();
    let nodes = project.flow("ls nodes --output json").exits(0).json();
    let names = |nodes: &Json| -> Vec<String> {
        let nodes = nodes.as_array().expect("a list").iter();
        let mut names: Vec<_> = nodes.map(|node| node["name"].as_str().expect("a name").to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&nodes), ["apart.join", "apart.split", "audit", "clean", "count", "fit", "report"]);
    let clean = json!({
        "name": "clean", "function": "kedro:clean", "pipeline": "clean", "inputs": ["orders", "params:factor"],
        "outputs": ["clean_table@pandas"], "tags": ["daily"],
    });
    assert_eq!(nodes[0], clean);
    let of = |line: &str| names(&project.flow(&format!("ls nodes --output json {line}")).exits(0).json());
    assert_eq!(of("--pipeline train"), ["audit", "fit", "report"]);
    assert_eq!(of("--tags slow"), ["fit"]);
    assert_eq!(of("--namespaces apart"), ["apart.join", "apart.split"]);
    assert_eq!(of("--to-nodes count"), ["clean", "count"]);
    // A pipeline that writes what another one writes is another graph.
    assert_eq!(of("--pipeline other"), ["seven"]);
    let check = project.flow("check").exits(0);
    for part in [
        "warning[kedro::hooks]: the hooks of the Kedro project are not run: `shop.settings.Audit` (before_node_run)",
        "warning[kedro::pipeline]: pipeline `other` was not checked",
    ] {
        assert!(check.stderr.contains(part), "{}", check.stderr);
    }
    let graph = project.flow("graph --format json").exits(0).json();
    let text = graph.to_string();
    assert!(text.contains("clean_table") && text.contains("apart.split"), "{text}");
    let show = project.flow("show orders --head 1 --output json").exits(0);
    assert!(show.stdout.contains("0.5"), "{}", show.stdout);
}

#[test]
fn environments_and_parameters_of_a_kedro_project_are_those_of_kedro() {
    let project = shop();
    let factor = |project: &Project, line: &str| {
        project.flow(&format!("config show parameters --output json {line}")).exits(0).json()["factor"].clone()
    };
    assert_eq!(factor(&project, ""), 2);
    assert_eq!(factor(&project, "--env prod"), 5);
    assert_eq!(factor(&project, "--params factor=9"), 9);
    let project = project.env("KEDRO_ENV", "prod");
    assert_eq!(factor(&project, ""), 5);
    project.flow("run --nodes clean --params factor=4").exits(0);
    assert!(project.read("data/clean.csv").contains("1,10.0"), "{}", project.read("data/clean.csv"));
    assert_eq!(planned(&project, "--nodes clean --params factor=4"), Vec::<String>::new());
    assert_eq!(planned(&project, "--nodes clean"), ["clean"]);
}

#[test]
fn objects_in_memory_reach_nodes_that_run_in_another_process() {
    let nodes = "
        import os
        import pathlib
        import time
        import pandas as pd

        def meet(orders, mine, other):
            # Both are at work at the same time, so that they are in two processes.
            pathlib.Path(mine).touch()
            begin = time.monotonic()
            while not pathlib.Path(other).exists():
                assert time.monotonic() - begin < 60
            return pd.DataFrame({'pid': [os.getpid()]})

        def left(orders):
            return meet(orders, 'left', 'right')

        def right(orders):
            return meet(orders, 'right', 'left')

        def both(one, two):
            assert one['pid'][0] != two['pid'][0]
            return pd.concat([one, two])
        ";
    let registry = "
        from kedro.pipeline import Pipeline, node
        from . import nodes

        def register_pipelines():
            return {'__default__': Pipeline([
                node(nodes.left, inputs='orders', outputs='one', name='left'),
                node(nodes.right, inputs='orders', outputs='two', name='right'),
                node(nodes.both, inputs=['one', 'two'], outputs='apart.joined', name='both'),
            ])}
        ";
    let project = shop().file("src/shop/nodes.py", nodes).file("src/shop/pipeline_registry.py", registry);
    project.flow("run --jobs 2").exits(0);
    assert_eq!(project.read("data/joined.csv").lines().count(), 3);
}

#[test]
fn a_kedro_project_that_is_wrong_or_without_kedro_says_so() {
    let project = shop().edit("src/shop/pipeline_registry.py", "from . import nodes", "from . import missing");
    let output = project.flow("check").exits(2);
    let message =
        "error[kedro::project]: the Kedro project cannot be loaded: ImportError: cannot import name 'missing'";
    assert!(output.stderr.contains(message), "{}", output.stderr);
    let project = project.env("FLOW_PYTHON", "/nowhere/python");
    let output = project.flow("run").exits(3);
    assert!(output.stderr.contains("error[kedro::unavailable]"), "{}", output.stderr);
    assert!(output.stderr.contains("there is no Python at `/nowhere/python`"), "{}", output.stderr);
}

#[test]
fn a_failing_node_of_a_kedro_project_shows_its_own_code() {
    let project = shop().edit("src/shop/nodes.py", "return report['sum']", "return report['some']");
    let output = project.flow("run").exits(1);
    for part in ["KeyError: 'some'", "File \"src/shop/nodes.py\", line", "return report['some']", "audited 11"] {
        assert!(output.stderr.contains(part), "no {part:?}: {}", output.stderr);
    }
    assert!(!output.stderr.contains("<flow worker>"), "{}", output.stderr);
}

#[test]
fn files_that_kedro_run_wrote_are_not_replaced_without_a_word() {
    let project = shop();
    project.write("data/clean.csv", "id,price\n1,1\n");
    let output = project.flow("run").exits(3);
    let message = "`clean_table@pandas` cannot be written: flow did not write what is at data/clean.csv";
    assert!(output.stderr.contains(message), "{}", output.stderr);
    assert!(output.stderr.contains("`flow accept`"), "{}", output.stderr);
    assert_eq!(project.read("data/clean.csv"), "id,price\n1,1\n");
}

/// `FLOW_TEST_KEDRO` names a folder with rendered projects and their environment in `.venv`, as those of kedro-starters.
#[test]
fn public_kedro_projects_give_what_kedro_run_gives() {
    #[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
    let Some(folder) = std::env::var_os("FLOW_TEST_KEDRO").map(std::path::PathBuf::from) else {
        eprintln!(
            "skipped: public Kedro projects are compared where FLOW_TEST_KEDRO names a folder with them and their `.venv`"
        );
        return;
    };
    let entries = std::fs::read_dir(&folder).expect("the folder").filter_map(|entry| Some(entry.ok()?.path()));
    let projects: Vec<_> = entries.filter(|path| path.join("pyproject.toml").is_file()).collect();
    assert!(!projects.is_empty(), "no project in {}", folder.display());
    let output = Command::new("python3")
        .arg(crate::support::root().join("scripts/kedro_parity.py"))
        .args(["--flow", env!("CARGO_BIN_EXE_flow"), "--python"])
        .arg(folder.join(".venv/bin/python"))
        .args(&projects)
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&output.stdout);
    eprint!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
