#!/usr/bin/env python3
"""Options of pandas mean to flow what they mean to pandas: the same files, read and written by both.

    python3 tests/readers/pandas_options.py --flow target/debug/flow

Each option is given to `pandas.read_csv`, and as `load_args` of a `pandas.CSVDataset` that flow copies; `to_csv` and `save_args`
likewise, and JSON. What flow does not read it says in a warning, and that is counted as `said`; an error is counted as `refused`.
Exits with 1 where both read, and differently. Needs pandas and pyarrow.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
_spec = importlib.util.spec_from_file_location("public_suites", HERE.parent.parent / "scripts/public_suites.py")
suites = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(suites)

PLAIN = "a,b,c\n1,x,2.5\n2,,NA\n3,\"y,z\",-1\n"
# Options for `read_csv` and a text.
CSV = [
    ({}, PLAIN),
    ({"sep": ";"}, "a;b\n1;x\n"),
    ({"delimiter": "\t"}, "a\tb\n1\tx\n"),
    ({"header": 0}, PLAIN),
    ({"header": None}, "1,x\n2,y\n"),
    ({"header": None, "names": ["p", "q"]}, "1,x\n2,y\n"),
    ({"names": ["p", "q"], "header": 0}, "a,b\n1,x\n"),
    ({"names": ["p", "q"]}, "1,x\n2,y\n"),
    ({"usecols": ["c", "a"]}, PLAIN),
    ({"usecols": [2, 0]}, PLAIN),
    ({"dtype": {"a": "str"}}, "a,b\n01,2\n"),
    ({"dtype": {"a": "float64"}}, "a,b\n1,2\n"),
    ({"skiprows": 1}, "made by us\na,b\n1,2\n"),
    ({"skiprows": [0]}, "made by us\na,b\n1,2\n"),
    ({"skiprows": [1, 3]}, "a,b\n1,2\n3,4\n5,6\n"),
    ({"skiprows": [2]}, "a,b\n\"1\n2\",2\n3,4\n5,6\n"),
    ({"nrows": 1}, PLAIN),
    ({"nrows": 0}, "a,b\n1,2\n"),
    ({"na_values": ["x", "-1"]}, PLAIN),
    ({"keep_default_na": False}, "a,b\nNA,1\nnull,2\n"),
    ({"keep_default_na": False, "na_values": ["null"]}, "a,b\nNA,1\nnull,2\n"),
    ({"encoding": "utf-8"}, "a\né\n"),
    ({"encoding": "latin-1"}, "a\né\n"),
    ({"encoding": "utf-16"}, "a\né\n"),
    ({"encoding": "cp1252"}, "a\n€\n"),
    ({"quotechar": "'"}, "a,b\n'1,2',x\n"),
    ({"escapechar": "\\"}, "a,b\n\"x\\\"y\",1\nx\\,y,2\nx\\\\y,3\n"),
    ({"escapechar": "\\"}, "a,b\n\"x\"\"y\",1\n"),
    ({"doublequote": False}, "a,b\n\"x\"\"y\",1\n"),
    ({"doublequote": False, "escapechar": "!"}, "a,b\n\"x!\"y\",1\n"),
    ({"comment": "#"}, "#c\na,b\nx,2#y\n\"3#\",4\n#z\n5,6\n"),
    ({"comment": "#", "skiprows": [2]}, "#c\na,b\n1,2\n3,4\n"),
    ({"lineterminator": ";"}, "a,b;1,2;3,4;"),
    ({"lineterminator": "\r"}, "a,b\r1,2\r"),
    ({"index_col": False}, "a,b\n1,2\n"),
    ({"engine": "c", "low_memory": False, "memory_map": False}, PLAIN),
    ({"skip_blank_lines": True}, "a,b\n\n1,2\n\n"),
    ({"on_bad_lines": "error"}, PLAIN),
    ({"skipinitialspace": True}, "a, b\n1, x\n"),
    ({"thousands": "."}, "a,b\n1.000,2\n"),
    ({"decimal": ","}, "a;b\n1,5;2\n"),
    ({"parse_dates": ["a"]}, "a,b\n2024-01-02,2\n"),
    ({"true_values": ["yes"], "false_values": ["no"]}, "a\nyes\nno\n"),
    ({"skipfooter": 1, "engine": "python"}, "a,b\n1,2\nsum,2\n"),
    ({"index_col": 0}, "a,b\n1,2\n"),
    ({"skip_blank_lines": False}, "a,b\n\n1,2\n"),
]
# Options for `to_csv`; pandas reads both files with the second options.
TO_CSV = [
    ({}, {}),
    ({"sep": "|"}, {"sep": "|"}),
    ({"header": False}, {"header": None, "names": ["id", "t", "f"]}),
    ({"na_rep": "nil"}, {"na_values": ["nil"]}),
    ({"quoting": 1}, {}),
    ({"quoting": 2}, {}),
    ({"quotechar": "'"}, {"quotechar": "'"}),
    ({"escapechar": "\\", "doublequote": False}, {"escapechar": "\\", "doublequote": False}),
    ({"escapechar": "\\"}, {"escapechar": "\\"}),
    ({"lineterminator": "\r\n"}, {}),
    ({"lineterminator": ";"}, {"lineterminator": ";"}),
    ({"encoding": "utf-16"}, {"encoding": "utf-16"}),
    ({"encoding": "utf-8-sig"}, {"encoding": "utf-8-sig"}),
    ({"compression": "gzip"}, {"compression": "gzip"}),
    ({"compression": "bz2"}, {"compression": "bz2"}),
]
ORIENTS = ["columns", "records", "index", "split", "values"]


def flow_runs(flow, folder, copies):
    """Copies each `(entry, entry)`; the errors and the warnings by number."""
    entries, nodes = {}, []
    for at, (source, target) in enumerate(copies):
        entries |= {f"i{at}": source, f"o{at}": target}
        nodes.append({"name": f"n{at}", "function": "sql", "inputs": {"t": f"i{at}", "query": "params:query"}, "outputs": f"o{at}"})
    (folder / "pipelines").mkdir()
    (folder / "catalog.yml").write_text(json.dumps(entries))
    (folder / "parameters.yml").write_text("query: select * from t\n")
    (folder / "pipelines/main.yml").write_text(json.dumps({"nodes": nodes}))
    checked = subprocess.run([flow, "-C", str(folder), "check", "--output", "json"], capture_output=True, text=True)
    try:
        document = json.loads(checked.stdout)
        problems = document.get("problems", document.get("diagnostics", [])) if isinstance(document, dict) else document
    except ValueError:
        problems = [json.loads(line) for line in checked.stdout.splitlines()]
    broken = [problem for problem in problems if problem.get("severity") == "error"]
    if broken:
        sys.exit(f"flow check: {broken[:5]}")
    said = {}
    for problem in problems:
        for at in range(len(copies)):
            if any(f"`{name}{at}`" in problem.get("message", "") for name in "io"):
                said[at] = problem["message"]
    ran = subprocess.run([flow, "-C", str(folder), "run", "--keep-going", "--output", "json"], capture_output=True, text=True)
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    errors = {int(event["node"][1:]): event.get("message") or event.get("error", "") for event in events if event.get("kind") == "node.failed"}
    if ran.returncode and not errors:
        sys.exit(f"flow run: {ran.returncode}: {ran.stderr[-1000:]}")
    return errors, said


def rows(frame):
    import pandas

    columns = {}
    for name in frame.columns:
        values = [None if one is None or one is pandas.NA or one != one else one for one in frame[name].tolist()]
        columns[str(name)] = [value.item() if hasattr(value, "item") else value for value in values]
    return suites.rows_of(columns, True)


def main():
    import pandas

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flow", default="flow", help="the program")
    flow = parser.parse_args().flow
    flow = flow if "/" not in flow else str(pathlib.Path(flow).resolve())
    table = pandas.DataFrame({"id": [1, 2, 3, 4], "t": ["a,b", None, "say \"hi\"", "back\\slash; é"], "f": [0.5, None, 2.0, -1.25]})
    failed, counts = 0, {}
    with tempfile.TemporaryDirectory(prefix="options-") as folder:
        folder = pathlib.Path(folder)
        copies, reads = [], []
        for at, (options, text) in enumerate(CSV):
            path = folder / f"r{at}.csv"
            path.write_bytes(text.encode(options.get("encoding", "utf-8")))
            source = {"type": "pandas.CSVDataset", "filepath": path.name, "load_args": options}
            copies.append((source, {"type": "parquet", "path": f"r{at}.parquet"}))
            reads.append((f"read_csv({options})", lambda path=path, options=options: pandas.read_csv(path, **options), f"r{at}.parquet", pandas.read_parquet))
        for orient in ORIENTS:
            path = folder / f"{orient}.json"
            table.to_json(path, orient=orient)
            source = {"type": "pandas.JSONDataset", "filepath": path.name, "load_args": {"orient": orient}}
            copies.append((source, {"type": "parquet", "path": f"{orient}.parquet"}))
            reads.append((f"read_json(orient={orient})", lambda path=path, orient=orient: pandas.read_json(path, orient=orient), f"{orient}.parquet", pandas.read_parquet))
            target = {"type": "pandas.JSONDataset", "filepath": f"out-{orient}.json", "save_args": {"orient": orient}}
            copies.append(({"type": "parquet", "path": "table.parquet"}, target))
            reads.append((f"to_json(orient={orient})", lambda path=path, orient=orient: pandas.read_json(path, orient=orient), f"out-{orient}.json", lambda path, orient=orient: pandas.read_json(path, orient=orient)))
        path = folder / "lines.jsonl"
        table.to_json(path, orient="records", lines=True)
        copies.append(({"type": "pandas.JSONDataset", "filepath": path.name, "load_args": {"lines": True}}, {"type": "parquet", "path": "lines.parquet"}))
        reads.append(("read_json(lines)", lambda path=path: pandas.read_json(path, lines=True), "lines.parquet", pandas.read_parquet))
        table.to_parquet(folder / "table.parquet", index=False)
        for at, (options, back) in enumerate(TO_CSV):
            path = folder / f"pandas-w{at}.csv"
            table.to_csv(path, index=False, **options)
            target = {"type": "pandas.CSVDataset", "filepath": f"flow-w{at}.csv", "save_args": options | {"index": False}}
            copies.append(({"type": "parquet", "path": "table.parquet"}, target))
            reads.append((f"to_csv({options})", lambda path=path, back=back: pandas.read_csv(path, **back), f"flow-w{at}.csv", lambda path, back=back: pandas.read_csv(path, **back)))
        copies.append(({"type": "pandas.ParquetDataset", "filepath": "table.parquet", "load_args": {"columns": ["f", "id"]}}, {"type": "parquet", "path": "selected.parquet"}))
        reads.append(("read_parquet(columns)", lambda: pandas.read_parquet(folder / "table.parquet", columns=["f", "id"]), "selected.parquet", pandas.read_parquet))
        errors, said = flow_runs(flow, folder, copies)
        for at, (what, of_pandas, written, of_flow) in enumerate(reads):
            theirs, why = suites.attempt(of_pandas)
            if at in errors:
                verdict, why = "refused", errors[at]
            elif theirs is None:
                verdict = "alone"
            else:
                mine, theirs = rows(of_flow(folder / written)), rows(theirs)
                # Without a header flow begins to count at 1, and says so.
                if "header': None" in what and "names" not in what:
                    mine, theirs = (list(range(len(mine[0]))), mine[1]), (list(range(len(theirs[0]))), theirs[1])
                equal = suites.same(mine, theirs, ordered=True)
                verdict = "equal" if equal else "said" if at in said else "different"
                why = said.get(at, "") if equal or at in said else suites.first_difference(mine, theirs)
            failed += verdict == "different"
            counts[verdict] = counts.get(verdict, 0) + 1
            print(f"{verdict:9} {what}: {' '.join(str(why or '').split())[:160]}")
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
