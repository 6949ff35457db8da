#!/usr/bin/env python3
"""Every type in every format, between flow and other tools, nulls included.

    python3 tests/readers/grid.py --flow target/debug/flow [--spark] [--table FILE]

In: pandas, Polars, DuckDB and, with `--spark`, Spark write a file for each type; flow copies it into parquet, and the rows are
compared with what was written. Out: flow writes a file for each type in each format, which the same tools and pyarrow read. One
line for each of them:

    equal      the same values
    refused    flow ended with an error, whose words follow
    cannot     the other tool does not write, or read, this type in this format; or loses it by itself, as it does not read back
               what it, or pyarrow, wrote
    different  neither

Values are compared and not types, as in `scripts/public_suites.py`. Exits with 1 for any `different`. `--table` writes the
table of the documentation: what flow does, whatever tool is on the other side. Needs pyarrow, pandas, polars and duckdb.
"""

import argparse
import collections
import datetime
import decimal
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings

import pyarrow

HERE = pathlib.Path(__file__).resolve().parent
_spec = importlib.util.spec_from_file_location("public_suites", HERE.parent.parent / "scripts/public_suites.py")
suites = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(suites)

FORMATS = {"parquet": "parquet", "arrow": "arrow", "csv": "csv", "json": "jsonl"}
IS_TEXT = {"csv", "json"}
# What a tool keeps for itself: parquet has no durations, and Spark notes in an entry of its own that integers are some.
OWN = {("in", "parquet", "spark", "duration")}
UTC = datetime.timezone.utc


def types():
    """A column of each type, with the ends of its range and a null."""
    day, moment = datetime.date, datetime.datetime
    zone = moment(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
    times = [moment(1700, 1, 2, 3, 4, 5), None, moment(2024, 2, 29, 23, 59, 59)]
    a = pyarrow
    yield "bool", a.array([True, None, False])
    for bits in (8, 16, 32, 64):
        yield f"int{bits}", a.array([-(1 << bits - 1), None, (1 << bits - 1) - 1], f"int{bits}")
        yield f"uint{bits}", a.array([0, None, (1 << bits) - 1], f"uint{bits}")
    yield "float32", a.array([0.1, None, -3.5e38 / 2, 16777216.0], "float32")
    yield "float64", a.array([0.1, None, 1e308, -0.0, 5e-324, 1.0], "float64")
    yield "not finite", a.array([1.5, None, float("nan"), float("inf"), float("-inf")], "float64")
    yield "decimal(10, 2)", a.array([decimal.Decimal("-12345678.90"), None, decimal.Decimal("0.01")], a.decimal128(10, 2))
    yield "decimal(38, 10)", a.array([decimal.Decimal("1234567890123456789012345678.0123456789"), None], a.decimal128(38, 10))
    yield "text", a.array(["a,b", None, 'say "hi"', "line\nbreak", "é→😀", "NA", "01", "back\\slash", "x"], "string")
    yield "large text", a.array(["a", None, "b"], "large_string")
    yield "category", a.array(["a", None, "b", "a"]).dictionary_encode()
    yield "binary", a.array([b"\x00\xff\xfe", None, b"text"], "binary")
    yield "uuid", a.array([bytes(range(16)), None, b"\xff" * 16], a.uuid())
    yield "date", a.array([day(1600, 1, 1), None, day(9999, 12, 31)], "date32")
    yield "time", a.array([datetime.time(0, 0, 0), None, datetime.time(23, 59, 59, 999999)], a.time64("us"))
    yield "timestamp(s)", a.array(times, a.timestamp("s"))
    yield "timestamp(ms)", a.array(times, a.timestamp("ms"))
    yield "timestamp(us)", a.array([moment(1600, 1, 1), None, moment(9999, 12, 31, 23, 59, 59, 999999)], a.timestamp("us"))
    yield "timestamp(ns)", a.array([1709251199123456789, None, -1], a.timestamp("ns"))
    yield "timestamp(us, UTC)", a.array([zone, None], a.timestamp("us", "UTC"))
    yield "timestamp(us, Europe/Paris)", a.array([zone, None], a.timestamp("us", "Europe/Paris"))
    yield "duration", a.array([datetime.timedelta(days=-1, microseconds=1), None], a.duration("us"))
    yield "list of integers", a.array([[1, None, -2], None, [], [9007199254740993]], a.list_(a.int64()))
    yield "list of text", a.array([["a", None], None, [], ["b,\n"]], a.list_(a.string()))
    yield "vector", a.array([[0.5, -1.0, 0.1], None, [1.0, 2.0, 3.0]], a.list_(a.float32(), 3))
    yield "struct", a.array([{"a": 1, "b": "x"}, None, {"a": None, "b": None}], a.struct([("a", a.int64()), ("b", a.string())]))
    yield "list of structs", a.array([[{"a": 1}, None], None, []], a.list_(a.struct([("a", a.int64())])))
    yield "map", a.array([[("k", 1), ("l", None)], None, []], a.map_(a.string(), a.int64()))
    yield "nulls only", a.array([None, None], a.int64())


def table_of(column):
    return pyarrow.table({"id": pyarrow.array(range(len(column)), "int64"), "v": column})


def seen(table, text):
    return suites.table(table, text)


# ---- the other tools: how each writes a file, and reads one -----------------------------------------------------------


def write_pandas(table, kind, path):
    import pandas

    frame = table.to_pandas(types_mapper=pandas.ArrowDtype)
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "arrow":
        frame.to_feather(path)
    elif kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True, date_format="iso", date_unit="ns")


def write_polars(table, kind, path):
    import polars

    frame = polars.from_arrow(table)
    {"parquet": frame.write_parquet, "arrow": frame.write_ipc, "csv": frame.write_csv, "json": frame.write_ndjson}[kind](path)


def write_duckdb(table, kind, path):
    import duckdb

    if kind == "arrow":
        raise NotImplementedError("DuckDB writes no Arrow files by itself")
    connection = duckdb.connect()
    connection.register("t", table)
    options = {"parquet": "FORMAT parquet", "csv": "FORMAT csv, HEADER", "json": "FORMAT json"}[kind]
    connection.execute(f"COPY (FROM t ORDER BY id) TO '{path}' ({options})")


def read_pandas(path, kind):
    import pandas

    if kind == "arrow":
        frame = pandas.read_feather(path)
    elif kind == "parquet":
        frame = pandas.read_parquet(path)
    else:
        return suites.with_pyarrow(path, kind)
    return seen(pyarrow.Table.from_pandas(frame, preserve_index=False), False)


def read_polars(path, kind):
    import polars

    if kind == "csv":
        return seen(polars.read_csv(path, infer_schema=False).to_arrow(), True)
    read = {"parquet": polars.read_parquet, "arrow": polars.read_ipc, "json": polars.read_ndjson}[kind]
    return seen(read(path).to_arrow(), kind in IS_TEXT)


_session = []


def spark():
    from pyspark.sql import SparkSession

    if not _session:
        local = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        # What others write is read as it is meant.
        local |= {"spark.sql.session.timeZone": "UTC", "spark.sql.legacy.parquet.nanosAsLong": "true"}
        _session.append(SparkSession.builder.master("local[1]").config(map=local).getOrCreate())
        _session[0].sparkContext.setLogLevel("OFF")
    return _session[0]


def write_spark(table, kind, path):
    if kind == "arrow":
        raise NotImplementedError("Spark writes no Arrow files")
    frame = spark().createDataFrame(table).coalesce(1).write.mode("overwrite")
    folder = str(path) + ".spark"
    if kind == "csv":
        frame.option("header", True).csv(folder)
    else:
        # Without the option a null field is left out, and a column of nulls is none.
        getattr(frame.option("ignoreNullFields", False), kind)(folder)
    next(pathlib.Path(folder).glob("part-*")).rename(path)


def read_spark(path, kind):
    if kind == "arrow":
        raise NotImplementedError("Spark reads no Arrow files")
    reader = spark().read
    if kind == "csv":
        frame = reader.option("header", True).option("multiLine", True).option("escape", '"').csv(str(path))
    else:
        frame = getattr(reader, kind)(str(path))
    return seen(frame.toArrow(), kind in IS_TEXT)


def control(table, kind, path):
    """The same file as pyarrow writes it."""
    import pyarrow.csv
    import pyarrow.feather
    import pyarrow.parquet

    if kind == "json":
        spelt = lambda one: f"<{one}>" if isinstance(one, decimal.Decimal) else str(one)
        lines = (json.dumps(row, default=spelt, allow_nan=False) + "\n" for row in table.to_pylist())
        path.write_text(re.sub(r'"<(-?[\d.]+)>"', r"\1", "".join(lines)))
    else:
        write = {"parquet": pyarrow.parquet.write_table, "arrow": pyarrow.feather.write_feather, "csv": pyarrow.csv.write_csv}
        write[kind](table, path)


TOOLS = {
    "pandas": (write_pandas, read_pandas),
    "pyarrow": (None, suites.with_pyarrow),
    "polars": (write_polars, read_polars),
    "duckdb": (write_duckdb, suites.with_duckdb),
    "spark": (write_spark, read_spark),
}


# ---- flow -------------------------------------------------------------------------------------------------------------


def run_flow(flow, folder, copies):
    """Copies each `(entry, entry)`; the errors by the number of the copy."""
    catalog, nodes = [], []
    for at, (source, target) in enumerate(copies):
        catalog += [f"i{at}: {source}", f"o{at}: {target}"]
        nodes.append(f"  - {{name: n{at}, function: sql, inputs: {{t: i{at}, query: params:query}}, outputs: o{at}}}")
    (folder / "pipelines").mkdir(exist_ok=True)
    (folder / "catalog.yml").write_text("\n".join(catalog) + "\n")
    (folder / "parameters.yml").write_text("query: select * from t order by id\n")
    (folder / "pipelines/main.yml").write_text("nodes:\n" + "\n".join(nodes) + "\n")
    words = [flow, "-C", str(folder), "run", "--keep-going", "--output", "json", "--color", "never"]
    output = subprocess.run(words, capture_output=True, text=True)
    errors = {}
    for line in output.stdout.splitlines():
        event = json.loads(line)
        if event.get("kind") == "node.failed":
            errors[event["node"]] = event.get("message") or event.get("error") or line
    if output.returncode and not errors:
        sys.exit(f"flow ended with {output.returncode}: {output.stderr[-2000:]}\n{output.stdout[-2000:]}")
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flow", default="flow", help="the program")
    parser.add_argument("--spark", action="store_true", help="Spark, too; it needs Java")
    parser.add_argument("--table", type=pathlib.Path, help="where the table of the documentation is written")
    parser.add_argument("--only", default="", help="only types with this in their name")
    parser.add_argument("--verbose", action="store_true", help="print a line for what is equal, too")
    arguments = parser.parse_args()
    flow = arguments.flow if "/" not in arguments.flow else str(pathlib.Path(arguments.flow).resolve())
    warnings.simplefilter("ignore")
    tools = [tool for tool in TOOLS if tool != "spark" or arguments.spark]
    columns = {name: table_of(column) for name, column in types() if arguments.only in name}
    counts, cells, bad = collections.Counter(), {}, 0

    def note(direction, kind, tool, name, verdict, why=""):
        nonlocal bad
        if verdict == "different" and (direction, kind, tool, name) in OWN:
            verdict = "cannot"
        counts[direction, kind, tool, verdict] += 1
        bad += verdict == "different"
        if arguments.verbose or verdict in ("different", "refused"):
            print(f"{verdict:9} {direction:3} {kind:7} {tool:7} {name}: {why}"[:400], flush=True)
        # What flow does: the best that any tool could show, and its refusals.
        if verdict in ("equal", "refused", "different"):
            known = cells.setdefault((name, kind, direction), set())
            known.add(verdict)

    with tempfile.TemporaryDirectory(prefix="grid-") as folder:
        folder = pathlib.Path(folder)
        sources, copies = [], []
        for name, table in columns.items():
            slug = "".join(c if c.isalnum() else "_" for c in name)
            for kind, end in FORMATS.items():
                for tool in tools:
                    write, read = TOOLS[tool]
                    if write is None:
                        continue
                    path = folder / f"in-{tool}-{slug}.{end}"
                    _, why = suites.attempt(write, table, kind, path)
                    if why:
                        note("in", kind, tool, name, "cannot", why)
                        continue
                    target = f"{{type: parquet, path: copied-{len(copies)}.parquet}}"
                    options = ", load_args: {escapechar: \"\\\\\", doublequote: false}" if (tool, kind) == ("spark", "csv") else ""
                    copies.append((f"{{type: {kind}, path: {path.name}{options}}}", target))
                    sources.append(("in", kind, tool, name, path))
            pyarrow.ipc.new_file(folder / f"src-{slug}.arrow", table.schema).close()
            with pyarrow.ipc.new_file(folder / f"src-{slug}.arrow", table.schema) as sink:
                sink.write_table(table)
            for kind, end in FORMATS.items():
                path = folder / f"out-{slug}.{end}"
                suites.attempt(control, table, kind, folder / f"control-{path.name}")
                copies.append((f"{{type: arrow, path: src-{slug}.arrow}}", f"{{type: {kind}, path: {path.name}}}"))
                sources.append(("out", kind, "", name, path))
        errors = run_flow(flow, folder, copies)
        for at, (direction, kind, tool, name, path) in enumerate(sources):
            text = kind in IS_TEXT
            expected = seen(columns[name], text)
            error = errors.get(f"n{at}")
            if error and "a bug in flow" in error:
                note(direction, kind, tool or "flow", name, "different", error)
                continue
            if direction == "in":
                own, why = suites.attempt(TOOLS[tool][1], path, kind)
                if error:
                    note("in", kind, tool, name, "refused", " ".join(error.split()))
                    continue
                copied = pyarrow.parquet.ParquetFile(folder / f"copied-{at}.parquet")
                mine, why_not = suites.attempt(lambda: suites.table(copied.read(), text))
                if mine is None:
                    note("in", kind, tool, name, "different", f"pyarrow cannot read what flow wrote: {why_not}")
                elif suites.same(mine, expected, ordered=False):
                    note("in", kind, tool, name, "equal")
                elif own is None or not suites.same(own, expected, ordered=False):
                    # The tool does not read back what it wrote either; flow has to see what it sees, or what is written.
                    note("in", kind, tool, name, "cannot", f"{why or suites.first_difference(own, expected)}; flow: {suites.first_difference(mine, expected)}")
                else:
                    note("in", kind, tool, name, "different", suites.first_difference(mine, expected))
                continue
            if error:
                note("out", kind, "flow", name, "refused", " ".join(error.split()))
                continue
            for tool in tools:
                found, why = suites.attempt(TOOLS[tool][1], path, kind)
                if found is not None and suites.same(found, expected, ordered=False):
                    note("out", kind, tool, name, "equal")
                    continue
                why = why or suites.first_difference(found, expected)
                # A tool that does not see it in a file of pyarrow either does not read this type.
                elsewhere, _ = suites.attempt(TOOLS[tool][1], folder / f"control-{path.name}", kind)
                reads = elsewhere is not None and suites.same(elsewhere, expected, ordered=False)
                note("out", kind, tool, name, "different" if reads else "cannot", why)

    for direction in ("in", "out"):
        for kind in FORMATS:
            for tool in [*tools, "flow"]:
                found = {verdict: count for (*key, verdict), count in sorted(counts.items()) if key == [direction, kind, tool]}
                if found:
                    print(f"{direction} {kind} {tool}: " + ", ".join(f"{count} {verdict}" for verdict, count in found.items()))
    if arguments.table:
        arguments.table.write_text(markdown(columns, cells))
    sys.exit(1 if bad else 0)


def markdown(columns, cells):
    def cell(name, kind, direction):
        known = cells.get((name, kind, direction), set())
        return "different" if "different" in known else "equal" if "equal" in known else "refused" if "refused" in known else "–"

    lines = ["| type | " + " | ".join(f"{kind}, read | {kind}, written" for kind in FORMATS) + " |", "|---" * (1 + 2 * len(FORMATS)) + "|"]
    for name in columns:
        lines.append(f"| {name} | " + " | ".join(f"{cell(name, kind, 'in')} | {cell(name, kind, 'out')}" for kind in FORMATS) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
