#!/usr/bin/env python3
"""Reads the test files of other projects with flow, and compares what it read with what pyarrow and DuckDB read.

    cargo build
    python3 scripts/public_suites.py --flow target/debug/flow parquet-testing=DIR arrow-testing=DIR duckdb=DIR polars=DIR

Each folder is a copy of that project; nothing is fetched. Every parquet, Arrow, CSV and JSON file in it is copied by flow into a
parquet file, a run of its own with `--memory-limit`, whose rows are then compared with those that pyarrow and DuckDB see in
the original (pandas and DuckDB for CSV and JSON). One line a file:

    equal      flow read what at least one of the two reads
    refused    flow ended with an error: the line has its first words, and who else can read the file
    different  flow read something that neither of them reads
    alone      flow read a file that both refuse
    options    two readers read it, and differently: a CSV that needs options, which flow was not given
    PANIC      flow ended by a signal, or with exit code 70 or 101
    MEMORY     the process held more than twice the limit and 200 MB

Values are compared and not types: 1 equals 1.0, a date equals midnight of that day, and an empty field of a CSV equals null.
Exits with 1 for any of `different`, `PANIC` and `MEMORY`. `--jobs` files are read at once.

Needs Python 3.10 or later with pyarrow, pandas and duckdb.
"""

import argparse
import collections
import datetime
import decimal
import math
import multiprocessing
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import uuid
import warnings
import zoneinfo

KINDS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrow_file": "arrow",
    ".stream": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
# What files hold by the documentation of their project, where both readers are wrong or give up: DuckDB reads no time of 96 bits
# beyond the year 2262, and in pyarrow those of the year 290000 overflow.
_SPARK_TIMES = [1704141296123456, 1704070800000000, 253402225200000000, 1735599600000000, None, 9089380393200000000]
DOCUMENTED = {"int96_from_spark.parquet": (["a"], [(one and ("time", one, 0),) for one in _SPARK_TIMES])}
# Text may be compressed.
COMPRESSED = {".gz", ".zst", ".bz2"}
# Rows of a file that are compared; more of them make Python slow, and say no more.
MOST_ROWS = 200_000
EPOCH = datetime.datetime(1970, 1, 1)


class Instant(int):
    """Nanoseconds since 1970, of any year."""


# ---- values ----------------------------------------------------------------------------------------------------------


def plain(value, text):
    """A value in a form in which equal values of two readers are equal. `text`: strings that look like values are values."""
    if value is None or value is ...:
        return None
    if isinstance(value, Instant):
        return ("time", value // 10**3, value % 10**3)
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, (int, decimal.Decimal)):
        return number(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return plain(bytes(value).decode(), text)
        except UnicodeDecodeError:
            return ("bytes", bytes(value))
    if isinstance(value, uuid.UUID):
        return plain(value.bytes, text)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        # Nanoseconds of pandas.
        return ("time", (value.replace(tzinfo=None) - EPOCH) // datetime.timedelta(microseconds=1), getattr(value, "nanosecond", 0))
    if isinstance(value, datetime.date):
        return plain(datetime.datetime(value.year, value.month, value.day), text)
    if isinstance(value, datetime.time):
        return ("clock", value.hour, value.minute, value.second, value.microsecond)
    if isinstance(value, datetime.timedelta):
        return ("span", value // datetime.timedelta(microseconds=1))
    if isinstance(value, dict):
        # A map comes as pairs of one reader and as a mapping of another; fields that are null may be absent in JSON.
        fields = {str(key): plain(one, text) for key, one in value.items()}
        if text:
            fields = {key: one for key, one in fields.items() if one is not None}
        return ("fields", tuple(sorted(fields.items(), key=lambda pair: pair[0])))
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(one, tuple) and len(one) == 2 for one in value):
            return plain(dict((str(key), one) for key, one in value), text)
        return ("list", tuple(plain(one, text) for one in value))
    if hasattr(value, "tolist"):
        return plain(value.tolist(), text)
    if isinstance(value, str):
        return of_text(value) if text else ("text", value)
    return ("text", str(value))


def number(value):
    """Integers, and the integer in front of a fraction, to the last digit; fractions and large floats to six, as single precision
    has them."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return ("nan",) if math.isnan(value) else ("number", value)
        if abs(value) >= 1 << 53:
            return ("number", float(f"{value:.6g}"))
    if isinstance(value, decimal.Decimal) and not value.is_finite():
        return ("nan",)
    if value == int(value):
        return ("number", int(value))
    return ("number", math.floor(value), float(f"{float(value):.6g}"))


TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(\.\d+)?(Z| [A-Z]{3,4}|[+-]\d\d:?(?:\d\d)?)?)?")
CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d)(\.\d{1,6})?")


def of_text(value):
    """A field of a text format."""
    stripped = value.strip()
    if stripped == "" or stripped.lower() in ("null", "none"):
        return None
    if stripped.lower() in ("true", "false"):
        return ("bool", stripped.lower() == "true")
    if stripped.lower() in ("nan", "inf", "-inf", "infinity", "-infinity"):
        return number(float(stripped))
    if re.fullmatch(r"[+-]?\d+", stripped):
        return number(int(stripped))
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", stripped) and len(stripped) > 20:
        return number(decimal.Decimal(stripped))
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", stripped):
        return number(float(stripped))
    if match := TIME.fullmatch(stripped):
        day, clock, fraction, zone = match.groups()
        try:
            offset = "" if zone is None or zone.startswith(" ") else zone.replace("Z", "+00:00")
            moment = datetime.datetime.fromisoformat(f"{day}T{clock or '00:00'}{offset}")
            if zone and zone.startswith(" "):
                moment = moment.replace(tzinfo=zoneinfo.ZoneInfo(zone.strip()))
        except (ValueError, zoneinfo.ZoneInfoNotFoundError):
            return ("text", value)
        nanoseconds = int((fraction or ".").lstrip(".").ljust(9, "0")[:9])
        kind, micro, _ = plain(moment, True)
        return (kind, micro + nanoseconds // 1000, nanoseconds % 1000)
    if match := CLOCK.fullmatch(stripped):
        hour, minute, second, fraction = match.groups()
        return ("clock", int(hour), int(minute), int(second), int((fraction or ".").lstrip(".").ljust(6, "0")))
    return ("text", value)


def rows_of(columns, text):
    """Rows of `{name: values}`, by name of column."""
    names = sorted(columns)
    values = [[plain(value, text) for value in columns[name][:MOST_ROWS]] for name in names]
    return [name.strip() for name in names] if text else names, list(zip(*values)) if values else []


def same(one, other, ordered):
    """True for the same columns with the same rows."""
    if one[0] != other[0]:
        return False
    return one[1] == other[1] or (not ordered and collections.Counter(map(repr, one[1])) == collections.Counter(map(repr, other[1])))


# ---- readers ---------------------------------------------------------------------------------------------------------


def table(arrow, text):
    names = arrow.column_names
    if len(set(names)) < len(names):
        raise ValueError("two columns have one name")
    columns = {}
    for name in names:
        column = arrow[name].slice(0, MOST_ROWS)
        columns[name] = values_of(column)
    return rows_of(columns, text)


def values_of(column):
    """Python values; times that Python does not reach as [`Instant`]s."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_date64(kind):
        # To Python it is a day, although it holds milliseconds.
        column = column.cast("int64").cast(pyarrow.timestamp("ms"))
    try:
        return column.to_pylist(maps_as_pydicts=None)
    except (ValueError, OverflowError, pyarrow.ArrowInvalid):
        if isinstance(column, pyarrow.ChunkedArray):
            return [value for chunk in column.chunks for value in values_of(chunk)]
        present = column.is_valid().to_pylist()
        if pyarrow.types.is_timestamp(kind) or pyarrow.types.is_date(kind):
            unit = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[kind.unit] if pyarrow.types.is_timestamp(kind) else 86400 * 10**9
            whole = column.cast("int32" if pyarrow.types.is_date32(kind) else "int64").to_pylist()
            return [None if one is None else Instant(one * unit) for one in whole]
        if pyarrow.types.is_duration(kind):
            return column.cast("int64").to_pylist()
        if pyarrow.types.is_interval(kind):
            raw = column.buffers()[1].to_pybytes()[16 * column.offset :]
            return [raw[16 * at : 16 * at + 16].hex() if there else None for at, there in enumerate(present)]
        if pyarrow.types.is_struct(kind):
            names = [kind.field(at).name for at in range(kind.num_fields)]
            fields = zip(*(values_of(column.field(at)) for at in range(kind.num_fields)))
            return [dict(zip(names, values)) if there else None for there, values in zip(present, fields)]
        if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
            values, offsets = values_of(column.values), column.offsets.to_pylist()
            return [values[start:end] if there else None for there, start, end in zip(present, offsets, offsets[1:])]
        raise


def with_pyarrow(path, kind):
    import pyarrow
    import pyarrow.parquet

    warnings.simplefilter("ignore")
    if kind == "parquet":
        return table(pyarrow.parquet.ParquetFile(path, coerce_int96_timestamp_unit="us").read(), False)
    if kind == "arrow":
        for opens in (pyarrow.ipc.open_file, pyarrow.ipc.open_stream):
            try:
                return table(opens(pyarrow.memory_map(str(path))).read_all(), False)
            except pyarrow.ArrowInvalid as error:
                last = error
        raise last
    import pandas

    if kind in ("csv", "tsv"):
        frame = pandas.read_csv(path, dtype=str, keep_default_na=False, index_col=False, sep="\t" if kind == "tsv" else ",", on_bad_lines="error")
    else:
        frame = pandas.read_json(path, lines=True, dtype=False, convert_dates=False)
    columns = {str(name): [None if isinstance(one, float) and math.isnan(one) else one for one in frame[name].tolist()] for name in frame.columns}
    return rows_of(columns, True)


def with_duckdb(path, kind):
    import duckdb

    warnings.simplefilter("ignore")
    if kind == "arrow":
        raise ValueError("DuckDB reads no Arrow files by itself")
    name = str(path).replace("'", "''")
    source = {
        "parquet": f"read_parquet('{name}', hive_partitioning = false)",
        "csv": f"read_csv('{name}', header = true, delim = ',', all_varchar = true)",
        "tsv": f"read_csv('{name}', header = true, delim = '\t', all_varchar = true)",
        "json": f"read_json('{name}', format = 'newline_delimited', convert_strings_to_integers = false)",
    }[kind]
    connection = duckdb.connect(config={"memory_limit": "2GB", "threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    try:
        arrow = connection.execute(f"FROM {source} LIMIT {MOST_ROWS}").to_arrow_table()
    except (AttributeError, duckdb.NotImplementedException):
        arrow = connection.execute(f"FROM {source} LIMIT {MOST_ROWS}").fetch_arrow_table()
    return table(arrow, kind != "parquet")


def attempt(reader, *arguments):
    """What a reader sees, or why it sees nothing."""
    try:
        return reader(*arguments), None
    except MemoryError:
        raise
    except BaseException as error:  # A reader that breaks is a finding, whatever it raises.
        return None, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


# ---- flow ------------------------------------------------------------------------------------------------------------


def with_flow(flow, path, kind, limit, folder):
    """Exit code, messages and the most memory of a run that copies the file into `out.parquet`."""
    quoted = str(path).replace("'", "''")
    options = ", load_args: {sep: \"\\t\"}" if kind == "tsv" else ""
    (folder / "pipelines").mkdir()
    (folder / "catalog.yml").write_text(
        f"t: {{type: {'csv' if kind == 'tsv' else kind}, path: '{quoted}'{options}}}\no: {{type: parquet, path: out.parquet}}\n"
    )
    (folder / "parameters.yml").write_text("query: select * from t\n")
    (folder / "pipelines/main.yml").write_text(
        "nodes:\n  - {name: copy, function: sql, inputs: {t: t, query: params:query}, outputs: o}\n"
    )
    words = [flow, "-C", str(folder), "run", "-q", "--memory-limit", limit, "--color", "never"]
    with open(folder / "stderr", "wb") as errors:
        started = subprocess.run([sys.executable, "-SEc", STARTER, *words], stdout=subprocess.PIPE, stderr=errors, check=True)
    code, peak = map(int, started.stdout.split())
    return code, (folder / "stderr").read_text(errors="replace"), peak << 10


# A process of its own starts the program: what this one holds would count as held by its child.
STARTER = """
import os, sys
child = os.fork()
if child == 0:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execvp(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


def judge(arguments):
    flow, path, kind, limit, most = arguments
    with tempfile.TemporaryDirectory(prefix="suite-") as folder:
        folder = pathlib.Path(folder)
        code, errors, peak = with_flow(flow, path, kind, limit, folder)
        mine, unreadable = (None, None)
        if code == 0:
            mine, unreadable = attempt(lambda: with_pyarrow(folder / "out.parquet", "parquet"))
            if mine is not None and kind != "parquet" and kind != "arrow":
                mine = attempt(lambda: as_text(folder / "out.parquet"))[0]
    if code < 0 or code in (70, 101):
        return "PANIC", f"exit {code}: {errors[:200]}", peak
    if peak > most:
        return "MEMORY", f"{peak >> 20} MiB", peak
    others = {"pyarrow" if kind in ("parquet", "arrow") else "pandas": attempt(with_pyarrow, path, kind), "duckdb": attempt(with_duckdb, path, kind)}
    if path.name in DOCUMENTED:
        others["its documentation"] = (DOCUMENTED[path.name], None)
    readers = [name for name, (seen, _) in others.items() if seen is not None]
    if code != 0:
        words = next((line.strip() for line in errors.splitlines() if "error" in line or "cannot" in line), errors.strip())
        words = words.replace(str(path), path.name)
        return "refused", f"{words[:160]} [read by: {', '.join(readers) or 'none'}]", peak
    if mine is None:
        return "different", f"pyarrow cannot read what flow wrote: {unreadable}", peak
    equal = [name for name in readers if same(mine, others[name][0], ordered=True) or same(mine, others[name][0], ordered=False)]
    if equal:
        return "equal", "to " + " and ".join(equal), peak
    if not readers:
        return "alone", f"{len(mine[1])} rows; " + "; ".join(f"{name}: {why}"[:80] for name, (_, why) in others.items()), peak
    if kind in ("csv", "tsv") and (len(readers) < 2 or not same(*(others[name][0] for name in readers), ordered=False)):
        return "options", first_difference(mine, others[readers[0]][0]), peak
    return "different", "; ".join(f"{name}: {first_difference(mine, others[name][0])}" for name in readers), peak


def as_text(path):
    """What flow made of a text file: values that look alike are alike."""
    import pyarrow.parquet

    return table(pyarrow.parquet.ParquetFile(path).read(), True)


def first_difference(one, other):
    if one[0] != other[0]:
        return f"columns {one[0][:5]} and {other[0][:5]}"
    if len(one[1]) != len(other[1]):
        return f"{len(one[1])} and {len(other[1])} rows"
    for row, (mine, theirs) in enumerate(zip(one[1], other[1])):
        for name, left, right in zip(one[0], mine, theirs):
            if left != right:
                return f"row {row + 1}, {name}: {str(left)[:60]} and {str(right)[:60]}"
    return "the order of rows"


def kind_of(path):
    """The format by the end of a name; `None` for another file."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        kind = KINDS.get(suffixes[-2]) if len(suffixes) > 1 else None
        return kind if kind in ("csv", "tsv", "json") else None
    return KINDS.get(suffixes[-1]) if suffixes else None


def size(text):
    factor = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    return int(text[:-3]) * factor[text[-3:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--flow", default="flow", help="the program")
    parser.add_argument("--memory-limit", default="512MiB")
    parser.add_argument("--kind", choices=sorted(set(KINDS.values())), help="only files of this kind")
    parser.add_argument("--only", default="", help="only files whose path has this in it")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="print no line for files that are equal")
    arguments = parser.parse_args()
    flow = arguments.flow if "/" not in arguments.flow else str(pathlib.Path(arguments.flow).resolve())
    most = 2 * size(arguments.memory_limit) + 200 * 1000 * 1000
    totals = collections.Counter()
    peak = 0
    # A reader that leaks is ended after a while.
    with multiprocessing.get_context("spawn").Pool(arguments.jobs, maxtasksperchild=100) as pool:
        for suite in arguments.suites:
            name, _, folder = suite.partition("=")
            root = pathlib.Path(folder).resolve()
            files = [path for path in sorted(root.rglob("*")) if kind_of(path) and path.is_file()]
            files = [path for path in files if arguments.kind in (None, kind_of(path)) and arguments.only in str(path)]
            work = [(flow, path, kind_of(path), arguments.memory_limit, most) for path in files]
            for (_, path, kind, *_), (verdict, why, held) in zip(work, pool.imap(judge, work)):
                totals[name, kind, verdict] += 1
                peak = max(peak, held)
                if not (arguments.quiet and verdict == "equal"):
                    print(f"{verdict:9} {name}/{path.relative_to(root)}: {why}", flush=True)
    print()
    for (name, kind), _ in sorted(collections.Counter((name, kind) for name, kind, _ in totals).items()):
        counts = {verdict: count for (suite, of, verdict), count in sorted(totals.items()) if (suite, of) == (name, kind)}
        print(f"{name} {kind}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    print(f"most memory: {peak >> 20} MiB, allowed {most >> 20} MiB")
    bad = sum(count for (*_, verdict), count in totals.items() if verdict in ("different", "PANIC", "MEMORY"))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
