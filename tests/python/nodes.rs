//! Whole datasets: arguments, results, what is up to date, and checks.

use super::{integers, project};

const DOUBLE: &str = "
    def double(rows: list[dict], factor):
        \"\"\"Multiplies.\"\"\"
        return [{**row, 'n': row['n'] * factor} for row in rows]
    ";

const NODE: &str = "
    nodes:
      - {name: double, function: 'python:work.nodes.double', inputs: [numbers, 'params:factor'], outputs: out}
    ";

#[test]
fn a_function_gets_rows_and_parameters_and_what_it_returns_is_written() {
    let project = project(DOUBLE, NODE);
    project.flow("run").exits(0);
    let expected: Vec<_> = (0..10).map(|n| Some(n * 3)).collect();
    assert_eq!(integers(&project, "data/out.parquet", "n"), expected);
}

#[test]
fn inputs_come_by_position_and_by_name_with_values_and_documents_and_datasets_in_memory() {
    let functions = "
        def first(settings, rows: 'list[dict]', *, nested):
            assert nested == {'list': [1, 2.5, None], 'text': 'ä'}, nested
            return rows[:settings['limit']]

        def second(*tables: list[dict], **others):
            assert others == {}
            return [{'rows': len(table), 'first': table[0] if table else None} for table in tables]

        def report(rows: list[dict]):
            return {'lengths': [row['rows'] for row in rows], 'first': rows[0]['first']}
        ";
    let nodes = "
        nodes:
          - {name: first, function: 'python:work.nodes.first', inputs: {rows: numbers, settings: settings, nested: 'params:nested'}, outputs: held}
          - {name: second, function: 'python:work.nodes.second', inputs: [held, numbers], outputs: out}
          - {name: report, function: 'python:work.nodes.report', inputs: out, outputs: report}
        ";
    let project = project(functions, nodes);
    project.flow("run").exits(0);
    let report = project.read("data/report.yml");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON, which is YAML");
    assert_eq!(report, serde_json::json!({"lengths": [4, 10], "first": {"n": 0, "name": "name 0"}}));
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 3);
}

#[test]
fn several_outputs_come_as_a_tuple_or_as_a_dictionary() {
    let functions = "
        def pair(rows: list[dict]):
            return [row for row in rows if row['n'] % 2], ({'n': n} for n in range(3))

        def named(rows: list[dict]):
            return {'b': {'count': len(rows)}, 'a': rows[:1]}
        ";
    let nodes = "
        nodes:
          - {name: pair, function: 'python:work.nodes.pair', inputs: numbers, outputs: [out, held]}
          - {name: named, function: 'python:work.nodes.named', inputs: held, outputs: {a: more, b: report}}
        ";
    let project = project(functions, nodes);
    project.flow("run").exits(0);
    assert_eq!(integers(&project, "data/out.parquet", "n"), [1, 3, 5, 7, 9].map(Some));
    assert_eq!(integers(&project, "data/more.parquet", "n"), [Some(0)]);
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 2);
    // One of two outputs is gone: the node runs again, and the one after it does not.
    std::fs::remove_file(project.path("data/out.parquet")).expect("removed");
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!((&summary["nodes"]["done"], &summary["nodes"]["skipped"]), (&1.into(), &1.into()), "{summary}");
}

#[test]
fn generators_and_coroutines_are_results_too() {
    let functions = "
        import asyncio

        def stream(rows: 'Iterator[dict]'):
            for row in rows:
                yield {'n': row['n']}

        async def wait(rows: list[dict]):
            await asyncio.sleep(0)
            return rows

        async def items(rows: list[dict]):
            for row in rows:
                await asyncio.sleep(0)
                yield {'n': row['n'] + 1}
        ";
    let nodes = "
        nodes:
          - {name: stream, function: 'python:work.nodes.stream', inputs: numbers, outputs: held}
          - {name: wait, function: 'python:work.nodes.wait', inputs: held, outputs: more}
          - {name: items, function: 'python:work.nodes.items', inputs: more, outputs: out}
        ";
    let project = project(functions, nodes);
    let rows: String = (0..20_000).map(|n| format!("{n},x\n")).collect();
    project.write("data/numbers.csv", &format!("n,name\n{rows}"));
    project.flow("run").exits(0);
    let expected: Vec<_> = (1..=20_000).map(Some).collect();
    assert_eq!(integers(&project, "data/out.parquet", "n"), expected);
}

#[test]
fn code_is_part_of_what_a_result_depends_on_and_a_plan_names_the_file() {
    let functions = "
        from . import helpers
        from .helpers import SCALE

        def double(rows: list[dict], factor):
            import work.lazy
            return [{'n': row['n'] * SCALE + work.lazy.ADD} for row in rows]
        ";
    let project = project(functions, NODE)
        .file("src/work/helpers.py", "SCALE = 2\n")
        .file("src/work/lazy.py", "ADD = 0\n")
        .file("src/work/other.py", "OTHER = 1\n");
    let planned = || {
        let plan = project.flow("plan --output json").exits(0).json();
        (
            plan["nodes"][0]["action"].as_str().expect("an action").to_owned(),
            plan["nodes"][0]["reason"].as_str().expect("a reason").to_owned(),
        )
    };
    project.flow("run").exits(0);
    for (file, text, runs) in [
        ("src/work/other.py", "OTHER = 2\n", false),
        ("src/work/helpers.py", "\"\"\"A docstring.\"\"\"\n# and a comment\nSCALE = (2)\n", false),
        ("src/work/helpers.py", "SCALE = 5\n", true),
        ("src/work/lazy.py", "ADD = 1\n", true),
    ] {
        project.write(file, text);
        let (action, reason) = planned();
        if runs {
            assert_eq!((action.as_str(), reason.as_str()), ("run", format!("{file} changed").as_str()));
            project.flow("run").exits(0);
        }
        assert_eq!(planned().0, "skip", "{file}: {text}");
    }
    assert_eq!(integers(&project, "data/out.parquet", "n")[1], Some(6));
    // A version of its own, and no code.
    let versioned = |version: u32| {
        project.write(
            "pipelines/main.yml",
            &NODE.replace("outputs: out}", &format!("outputs: out, code: none, version: {version}}}")),
        );
    };
    versioned(1);
    project.flow("run").exits(0);
    project.write("src/work/helpers.py", "SCALE = 7\n");
    assert_eq!(planned().0, "skip");
    versioned(2);
    assert_eq!(planned(), ("run".to_owned(), "`version` changed".to_owned()));
}

#[test]
fn a_check_says_what_is_wrong_in_the_yaml_and_in_python() {
    let functions = "
        def double(rows, factor, offset):
            return rows
        ";
    let project = project(functions, NODE);
    let check = |arguments: &str| project.flow(&format!("check {arguments}"));
    let output = check("").exits(2);
    for expected in [
        "error[python::function]: `work.nodes.double` does not take these inputs: missing a required argument: `offset`",
        "pipelines/main.yml:",
        "help: it is `double(rows, factor, offset)`, at src/work/nodes.py:1",
    ] {
        assert!(output.stderr.contains(expected), "{expected} in\n{}", output.stderr);
    }
    check("--no-python").exits(0);
    // A run does not start either.
    project.flow("run").exits(2);
    for (file, text, expected) in [
        ("src/work/nodes.py", "def double(rows, factor)\n    return 1\n", "SyntaxError: expected ':'"),
        ("src/work/nodes.py", "import nowhere\n", "ModuleNotFoundError: No module named 'nowhere'"),
        ("src/work/nodes.py", "def duble(rows): pass\n", "has no function `double`\n"),
        (
            "src/work/nodes.py",
            "double = 1\n",
            "`work.nodes.double` (src/work/nodes.py) is of type int and cannot be called",
        ),
    ] {
        project.write(file, text);
        let output = check("").exits(2);
        assert_eq!(output.stderr.matches(expected).count(), 1, "{expected:?} in\n{}", output.stderr);
        assert!(output.stderr.contains("src/work/nodes.py"), "{}", output.stderr);
    }
    // Modules that import each other.
    project.write("src/work/nodes.py", "from work.other import helper\n\ndef double(rows, factor): pass\n");
    project.write("src/work/other.py", "from work.nodes import double\n\ndef helper(rows): pass\n");
    let output = check("").exits(2);
    for expected in [
        "ImportError: cannot import name 'double' from partially initialized module 'work.nodes'",
        "(most likely due to a circular import) (src/work/nodes.py)",
        "File \"src/work/other.py\", line 1, in <module>",
    ] {
        assert!(output.stderr.contains(expected), "{expected:?} in\n{}", output.stderr);
    }
    project.write("pipelines/main.yml", &NODE.replace("work.nodes.double", "wrok.nodes.double"));
    let output = check("").exits(2);
    assert!(output.stderr.contains("there is no module `wrok`"), "{}", output.stderr);
    assert!(output.stderr.contains("help: modules are looked for in src, ."), "{}", output.stderr);
    project.write("pipelines/main.yml", &NODE.replace("work.nodes.double", "double"));
    let output = check("").exits(2);
    assert!(output.stderr.contains("`python:double` is no name of a Python function"), "{}", output.stderr);
}

#[test]
fn annotations_that_the_inputs_never_fit_are_errors() {
    let check = |function: &str| project(function, NODE).flow("check");
    for (function, expected) in [
        (
            "def double(rows: int, factor): pass\n",
            "input `1` of `work.nodes.double` is a table, and its parameter `rows` (src/work/nodes.py:1) is annotated as int",
        ),
        (
            "import typing\nclass DataFrame: pass\nDataFrame.__module__ = 'pandas'\ndef double(rows: list[dict], factor: DataFrame): pass\n",
            "input `2` of `work.nodes.double` is a value, and its parameter `factor` (src/work/nodes.py:4) is annotated as a pandas.DataFrame",
        ),
        (
            "def double(rows: 'NoSuchType', factor): pass\n",
            "is a pyarrow.Table (the parameter has an annotation that names no table, and its dataset decides), which needs the package",
        ),
    ] {
        let output = check(function).exits(2);
        assert!(output.stderr.contains(expected), "{expected:?} in\n{}", output.stderr);
    }
    for function in [
        "def double(rows: list[dict], factor: list[dict]): pass\n",
        "def double(rows: list[dict], factor: 'NoSuchType'): pass\n",
        "def double(rows: 'list[dict]', factor: 17): pass\n",
        "class double:\n    def __init__(self, rows: list[dict], factor: int): pass\n",
        "class Double:\n    def __call__(self, rows: list[dict], *more: int): pass\ndouble = Double()\n",
    ] {
        check(function).exits(0);
    }
}

#[test]
fn without_python_the_rest_is_checked_and_a_run_says_how_to_get_one() {
    let project = project(DOUBLE, NODE);
    let output = project.flow("--python /nowhere/python check").exits(0);
    assert!(
        output.stderr.contains(
            "warning[python::unavailable]: Python functions were not checked: there is no Python at `/nowhere/python`"
        ),
        "{}",
        output.stderr
    );
    let output = project.flow("--python /nowhere/python run").exits(3);
    assert!(
        output.stderr.contains("there is no Python at `/nowhere/python`, which `--python` or"),
        "{}",
        output.stderr
    );
}

#[test]
fn keys_of_a_node_that_its_function_does_not_take_are_errors() {
    let project = project(DOUBLE, &NODE.replace("outputs: out}", "outputs: out, command: [ls]}"));
    let output = project.flow("check").exits(2);
    assert!(output.stderr.contains("function `python:work.nodes.double` takes no `command`"), "{}", output.stderr);
    assert!(
        output.stderr.contains("help: it takes `partitions`, `workers`, `max_calls`, `version`, `code`"),
        "{}",
        output.stderr
    );
}

#[test]
fn secrets_reach_the_function_and_no_message() {
    let functions = "
        def double(rows: list[dict], api):
            print('the key is', api['api_key'])
            raise ValueError('refused ' + api['api_key'])
        ";
    let project = project(functions, &NODE.replace("factor", "api"))
        .file("parameters.yml", "api: {api_key: '${oc.env:KEY}', url: u}\n")
        .env("KEY", "canary-0123456789");
    let output = project.flow("run").exits(1);
    assert!(output.stderr.contains("the key is ***") && output.stderr.contains("refused ***"), "{}", output.stderr);
    for file in project.files(".flow/runs") {
        assert!(!project.read(&format!(".flow/runs/{file}")).contains("canary"), "{file}");
    }
}

#[test]
fn any_object_stays_in_memory_between_two_functions() {
    let functions = "
        import datetime

        class Model:
            def __init__(self, rows):
                self.slope = rows[-1]['n'] / 9

        def fit(rows: list[dict]):
            return Model(rows), (1, 'a', datetime.date(2026, 1, 2))

        def predict(model, extra, rows: list[dict]):
            assert isinstance(model, Model) and extra == (1, 'a', datetime.date(2026, 1, 2)), (model, extra)
            return [{'n': row['n'], 'y': row['n'] * model.slope} for row in rows]
        ";
    let nodes = "
        nodes:
          - {name: fit, function: 'python:work.nodes.fit', inputs: numbers, outputs: [model, extra]}
          - {name: predict, function: 'python:work.nodes.predict', inputs: [model, extra, numbers], outputs: out}
        ";
    let project = project(functions, nodes)
        .more("catalog.yml", "model: {type: memory, shape: value}\nextra: {type: memory, shape: value}\n");
    project.flow("run").exits(0);
    assert_eq!(integers(&project, "data/out.parquet", "n").len(), 10);
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 2);
    // A document of a file is never unpickled.
    let project = project
        .file("data/settings.yml", "\"\\x1epickle\": AAAA\n")
        .file("src/work/nodes.py", "def show(settings):\n    return list(settings)\n")
        .file(
            "pipelines/main.yml",
            "nodes:\n  - {name: show, function: 'python:work.nodes.show', inputs: settings, outputs: report}\n",
        );
    project.flow("run").exits(0);
    assert!(project.read("data/report.yml").contains("pickle"), "{}", project.read("data/report.yml"));
}
