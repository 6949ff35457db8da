#!/usr/bin/env python3
"""Runs Kedro projects with `kedro run` and with `flow run`, and compares everything that both write.

    scripts/kedro_parity.py --flow target/release/flow --python VENV/bin/python PROJECT...

A project is a rendered folder with its data; it is copied and left as it is. Of each it is checked that

* `flow run` ends with 0, and every dataset of the catalog that was written holds what it holds after `kedro run`: frames by their
  values, models by what they have learned, figures by their data, pictures by their pixels, anything else by its bytes or by `==`;
  datasets in which two runs of Kedro differ (a random forest without a seed) are named and not compared;
* a second `flow run` runs no node;
* after a change in the code of one node, that node and what depends on it run, and nothing else but what they need from memory;
* `flow graph` has the nodes, datasets and edges that Kedro's pipeline has.

The last line says how many projects were equal; the exit code is 1 if one was not.
"""

import argparse
import ast
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

#: What is asked of a project, by its own Python in its own folder.
INNER = r"""
import ast, hashlib, json, pathlib, pickle, sys
import inspect
import logging
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

root = pathlib.Path.cwd()
bootstrap_project(root)
logging.disable(logging.INFO)
what = sys.argv[1]


def plain(value):
    '''What a value is known by, as something that JSON has.'''
    kind = type(value)
    library = kind.__module__.split(".")[0]
    if library == "pyspark" and hasattr(value, "toPandas"):
        frame = value.toPandas()
        columns = sorted(frame.columns)
        return plain(frame[columns].sort_values(columns).reset_index(drop=True))
    if library == "pandas":
        frame = value.to_frame() if hasattr(value, "to_frame") else value
        types = [str(dtype) for dtype in frame.dtypes]
        return ["frame", [str(column) for column in frame.columns], types, hashlib.sha256(frame.to_csv(float_format="%r").encode()).hexdigest(), len(frame)]
    if library == "polars":
        return ["frame", [str(column) for column in value.columns], value.write_csv()]
    if hasattr(value, "to_plotly_json"):
        return json.loads(value.to_json())
    if library == "numpy":
        return ["array", str(getattr(value, "dtype", "")), plain(value.tolist())]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if callable(value):
        return plain(value())
    if hasattr(value, "__getstate__") or hasattr(value, "__dict__"):
        # What a model has learned, or any object.
        state = dict(vars(value)) if hasattr(value, "__dict__") else repr(value)
        return [kind.__qualname__, plain(state)]
    return repr(value)


def pixels(path):
    try:
        import matplotlib.image
    except ImportError:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return plain(matplotlib.image.imread(path))


with KedroSession.create(project_path=root) as session:
    context = session.load_context()
    catalog = context.catalog
    # Before Kedro 1.0.
    get = getattr(catalog, "get", None) or catalog._get_dataset
    pipeline = pipelines["__default__"]
    if what == "data":
        found = {}
        for name in sorted(pipeline.outputs() | {output for node in pipeline.nodes for output in node.outputs}):
            dataset = get(name) if name in catalog else None
            if dataset is None or type(dataset).__name__ == "MemoryDataset":
                continue
            path = getattr(dataset, "_get_load_path", lambda: None)()
            if path is not None and pathlib.Path(str(path)).suffix == ".png":
                found[name] = pixels(pathlib.Path(str(path)))
                continue
            try:
                found[name] = plain(catalog.load(name))
            except Exception:
                # A class that only writes: its files are compared.
                folder = pathlib.Path(str(getattr(dataset, "_filepath", ".")))
                files = sorted(path for path in ([folder] if folder.is_file() else folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
                found[name] = [pixels(path) if path.suffix == ".png" else hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        print(json.dumps(found, default=str))
    else:
        base = lambda name: name.split("@")[0]
        nodes = {}
        for node in pipeline.nodes:
            function = inspect.unwrap(getattr(node.func, "func", node.func))
            try:
                file = inspect.getsourcefile(function)
            except TypeError:
                file = None
            memory = [base(name) for name in node.outputs if name not in catalog or type(get(name)).__name__ == "MemoryDataset"]
            nodes[node.name] = {
                "inputs": sorted({base(name) for name in node.inputs}), "outputs": sorted({base(name) for name in node.outputs}),
                "tags": sorted(node.tags), "file": file, "function": function.__name__, "memory": memory,
            }
        print(json.dumps(nodes))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("projects", nargs="+", type=pathlib.Path)
    parser.add_argument("--flow", default="flow", help="the program")
    parser.add_argument("--python", default=sys.executable, help="a Python with Kedro and what the projects require")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the copies, which are kept")
    arguments = parser.parse_args()
    equal = 0
    for project in arguments.projects:
        folder = arguments.keep or pathlib.Path(tempfile.mkdtemp(prefix="parity-"))
        try:
            problems = compare(project.resolve(), folder / project.name, arguments)
        finally:
            if not arguments.keep:
                shutil.rmtree(folder, ignore_errors=True)
        for problem in problems:
            print("%s: %s" % (project.name, problem))
        equal += not problems
    print("%d of %d projects are equal" % (equal, len(arguments.projects)))
    sys.exit(equal != len(arguments.projects))


def compare(project, folder, arguments):
    """The differences between the two ways to run a project."""
    environment = dict(os.environ, DO_NOT_TRACK="1", KEDRO_DISABLE_TELEMETRY="1", FLOW_PYTHON=os.path.abspath(arguments.python), MPLBACKEND="Agg")
    environment.pop("VIRTUAL_ENV", None)
    copies = {name: folder / name for name in ("kedro", "again", "flow")}
    for copy in copies.values():
        shutil.copytree(project, copy)

    def run(copy, *command, check=True):
        done = subprocess.run([str(part) for part in command], cwd=copies[copy], env=environment, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise SystemExit("%s: `%s` ended with %d\n%s" % (project.name, " ".join(map(str, command[:2])), done.returncode, done.stderr[-4000:] or done.stdout[-4000:]))
        return done.stdout

    def ask(copy, what):
        return json.loads(run(copy, arguments.python, "-c", INNER, what).strip().splitlines()[-1])

    def flow(*command):
        return run("flow", os.path.abspath(arguments.flow), *command)

    def flow_run():
        lines = [json.loads(line) for line in flow("run", "--output", "json").splitlines()]
        done = [line["node"] for line in lines if line["kind"] == "node.finished"]
        return set(done), lines[-1]

    problems = []
    run("kedro", arguments.python, "-m", "kedro", "run")
    run("again", arguments.python, "-m", "kedro", "run")
    nodes = ask("kedro", "nodes")
    done, summary = flow_run()
    print("%s: flow ran %d nodes: %s" % (project.name, len(done), json.dumps(summary["nodes"])))
    if done != set(nodes):
        problems.append("flow ran %s, Kedro %s" % (sorted(done), sorted(nodes)))
    here, there, again = ask("flow", "data"), ask("kedro", "data"), ask("again", "data")
    random = {name for name in there if there[name] != again.get(name)}
    if random:
        print("%s: not compared, since two runs of Kedro differ too: %s" % (project.name, ", ".join(sorted(random))))
    for name in sorted((here.keys() | there.keys()) - random):
        if here.get(name) != there.get(name):
            problems.append("dataset `%s` differs: %s, by Kedro %s" % (name, str(here.get(name))[:200], str(there.get(name))[:200]))
    print("%s: compared %d datasets: %s" % (project.name, len(there) - len(random), ", ".join(sorted(there.keys() - random))))
    problems.extend(graph_differences(json.loads(flow("graph", "--format", "json")), nodes))
    again, _ = flow_run()
    if again:
        problems.append("the second run ran %s" % sorted(again))
    changed = change(copies["kedro"], copies["flow"], nodes)
    if changed is not None:
        dependents = reach(changed, nodes)
        needed = needs_of_memory(dependents, nodes)
        ran, _ = flow_run()
        if changed not in ran or not ran <= dependents | needed:
            problems.append("after a change of `%s` ran %s; expected it, and of %s" % (changed, sorted(ran), sorted(dependents | needed)))
        else:
            print("%s: after a change of `%s` ran %s" % (project.name, changed, ", ".join(sorted(ran))))
    return problems


def graph_differences(graph, nodes):
    """Nodes and edges that only one side has."""
    found = {node["name"]: node for node in graph["nodes"] if node.get("kind", "node") == "node"}
    problems = []
    if set(found) != set(nodes):
        problems.append("the graph has the nodes %s, Kedro's %s" % (sorted(found), sorted(nodes)))
    for name, node in nodes.items():
        for side in ("inputs", "outputs"):
            ours = sorted({port["name"].split("@")[0] for port in found.get(name, {}).get(side, [])})
            if ours != node[side]:
                problems.append("node `%s` has the %s %s, Kedro's %s" % (name, side, ours, node[side]))
        if sorted(found.get(name, {}).get("tags", [])) != node["tags"]:
            problems.append("node `%s` has other tags" % name)
    return problems


def change(kedro, flow, nodes):
    """Adds a statement to the function of one node that others depend on; returns the node."""
    for name in sorted(nodes, key=lambda name: len(reach(name, nodes))):
        file = nodes[name]["file"]
        if not file or not file.startswith(str(kedro) + os.sep) or len(reach(name, nodes)) < 2:
            continue
        path = flow / os.path.relpath(file, kedro)
        text = path.read_text()
        for part in ast.parse(text).body:
            if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) and part.name == nodes[name]["function"]:
                first = part.body[-1]
                lines = text.splitlines(keepends=True)
                lines.insert(first.lineno - 1, " " * first.col_offset + "changed = True\n")
                path.write_text("".join(lines))
                return name
    return None


def reach(name, nodes):
    """A node and all that depend on it."""
    found, todo = set(), [name]
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo.extend(other for other in nodes if set(nodes[node]["outputs"]) & set(nodes[other]["inputs"]))
    return found


def needs_of_memory(names, nodes):
    """The nodes that write to memory what these need."""
    found, todo = set(), list(names)
    while todo:
        node = todo.pop()
        for other in nodes:
            if other not in found and set(nodes[other]["memory"]) & set(nodes[node]["inputs"]):
                found.add(other)
                todo.append(other)
    return found


if __name__ == "__main__":
    main()
