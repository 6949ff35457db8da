#!/usr/bin/env python3
"""Reads a finished dataset of embeddings as others would, and checks that all see the same.

    flow run
    python3 tests/readers/read_back.py data/work/feat/node_embeddings --source data/nodes.csv

Reads with DuckDB, pandas, pyarrow, Polars, DataFusion and, with `--spark`, Spark (which needs Java). A reader that is not
installed is skipped, unless `--require` names it; nothing is installed by this script:

    pip install duckdb pandas pyarrow polars datafusion pyspark

One line a reader; exit code 1 when one sees something else than it should: the number of rows, vectors and buckets, the
type of every column that `flow` promises, the length of the vectors, and the sum of all their numbers, which must be the
same for all.
"""

import argparse
import csv
import pathlib
import sys
import time

TEXT, VECTOR, ERROR = "text_to_embed", "embedding", "embedding_error"


# What every reader may call the type of a column: DuckDB, pandas, pyarrow, Polars and Spark in this order.
_TEXTS = {"VARCHAR", "object", "str", "string", "string_view", "String"}
_INTEGERS = {"BIGINT", "INTEGER", "int64", "int32", "Int64", "bigint", "int"}
TYPES = {
    "id": _TEXTS,
    "bucket": _INTEGERS,
    VECTOR: {"FLOAT[]", "array of float32", "list[float]", "list[f32]", "array[f32]", "array<float>"},
    ERROR: _TEXTS,
}


class Seen:
    """What a reader made of the dataset, in terms that all readers share."""

    def __init__(self, rows, types, buckets, vectors, lengths, errors, total):
        self.rows = rows
        # Column to the reader's own name of its type.
        self.types = {name: str(kind) for name, kind in types.items()}
        self.buckets = sorted(buckets)
        self.vectors = vectors
        self.lengths = sorted(lengths)
        self.errors = errors
        # Of all numbers of all vectors.
        self.total = total

    def problems(self, expected):
        if self.rows != expected["rows"]:
            yield f"{self.rows} rows, expected {expected['rows']}"
        if TEXT in self.types:
            yield f"`{TEXT}` is still there"
        if missing := TYPES.keys() - self.types.keys():
            yield f"columns are missing: {sorted(missing)}"
        for name, words in TYPES.items():
            if name in self.types and self.types[name] not in words:
                yield f"`{name}` has type {self.types[name]}, expected one of {', '.join(sorted(words))}"
        if self.buckets != list(range(len(self.buckets))):
            yield f"buckets are not numbered from 0 without gaps: {self.buckets[:5]} …"
        if self.vectors + self.errors != self.rows:
            yield f"{self.rows} rows, but {self.vectors} vectors and {self.errors} errors"
        if self.errors > expected["errors"]:
            yield f"{self.errors} rows without a vector, expected {expected['errors']} at most"
        if len(self.lengths) != 1 or expected["dimensions"] not in (None, self.lengths[0]):
            yield f"vectors have lengths {self.lengths}, expected {expected['dimensions'] or 'one length'}"
        if expected["total"] is not None and abs(self.total - expected["total"]) > 1e-6 * self.vectors:
            yield f"all numbers of all vectors add up to {self.total}, elsewhere to {expected['total']}"


def with_duckdb(folder):
    import duckdb

    con = duckdb.connect()
    con.execute(f"CREATE VIEW t AS FROM read_parquet('{folder}/**/*.parquet', hive_partitioning = true)")
    types = {name: kind for name, kind, *_ in con.execute("DESCRIBE t").fetchall()}
    rows, vectors, errors = con.execute(f"SELECT count(*), count({VECTOR}), count({ERROR}) FROM t").fetchone()
    buckets = [bucket for (bucket,) in con.execute("SELECT DISTINCT bucket FROM t").fetchall()]
    con.execute(f"SELECT DISTINCT len({VECTOR}) FROM t WHERE {VECTOR} IS NOT NULL")
    lengths = [length for (length,) in con.fetchall()]
    con.execute(f"SELECT sum(number::DOUBLE) FROM (SELECT unnest({VECTOR}) AS number FROM t)")
    return Seen(rows, types, buckets, vectors, lengths, errors, con.fetchone()[0])


def with_pandas(folder):
    import pandas

    frame = pandas.read_parquet(folder)
    found = frame[VECTOR].dropna()
    types = {name: kind for name, kind in frame.dtypes.items()}
    # pandas takes the partition column for a category, whose categories have the type, and a vector for an object.
    types["bucket"] = frame["bucket"].cat.categories.dtype if hasattr(frame["bucket"], "cat") else frame["bucket"].dtype
    types[VECTOR] = " and ".join(sorted({f"array of {vector.dtype}" for vector in found}))
    return Seen(
        len(frame),
        types,
        frame["bucket"].astype("int64").unique().tolist(),
        len(found),
        set(found.map(len)),
        int(frame[ERROR].notna().sum()),
        float(sum(vector.sum(dtype="float64") for vector in found)),
    )


def with_pyarrow(folder):
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive").to_table()
    return of_arrow(table)


def of_arrow(table):
    import pyarrow.compute

    types = {field.name: field.type for field in table.schema}
    types[VECTOR] = f"list[{types[VECTOR].value_type}]"
    vectors = table[VECTOR].drop_null()
    numbers = pyarrow.compute.list_flatten(vectors).cast("float64")
    return Seen(
        table.num_rows,
        types,
        table["bucket"].unique().to_pylist(),
        len(vectors),
        set(pyarrow.compute.list_value_length(vectors).to_pylist()),
        table.num_rows - table[ERROR].null_count,
        pyarrow.compute.sum(numbers).as_py(),
    )


def with_polars(folder):
    import polars

    frame = polars.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
    found = frame[VECTOR].drop_nulls()
    is_array = isinstance(found.dtype, polars.Array)
    types = dict(frame.schema)
    types[VECTOR] = f"{'array' if is_array else 'list'}[{'f32' if found.dtype.inner == polars.Float32 else found.dtype.inner}]"
    return Seen(
        len(frame),
        types,
        frame["bucket"].unique().to_list(),
        len(found),
        set((found.arr.len() if is_array else found.list.len()).unique().to_list()),
        len(frame) - frame[ERROR].null_count(),
        found.explode().cast(polars.Float64).sum(),
    )


def with_datafusion(folder):
    import datafusion
    import pyarrow

    hive = [("bucket", pyarrow.int64())]
    return of_arrow(datafusion.SessionContext().read_parquet(str(folder), table_partition_cols=hive).to_arrow_table())


def with_spark(folder):
    from pyspark.sql import SparkSession, functions

    settings = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    spark = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    frame = spark.read.parquet(str(folder))
    found = frame.where(functions.col(VECTOR).isNotNull())
    lengths = [row[0] for row in found.select(functions.size(VECTOR)).distinct().collect()]
    buckets = [row[0] for row in frame.select("bucket").distinct().collect()]
    errors = frame.where(functions.col(ERROR).isNotNull()).count()
    numbers = found.select(functions.explode(VECTOR).alias("number"))
    total = numbers.agg(functions.sum(functions.col("number").cast("double"))).first()[0]
    return Seen(frame.count(), dict(frame.dtypes), buckets, found.count(), lengths, errors, total)


READERS = {
    "duckdb": with_duckdb,
    "pandas": with_pandas,
    "pyarrow": with_pyarrow,
    "polars": with_polars,
    "datafusion": with_datafusion,
    "pyspark": with_spark,
}


def source_rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="the dataset: a folder of bucket=<n>/ folders")
    parser.add_argument("--source", type=pathlib.Path, help="the CSV it was made from, to compare the number of rows")
    parser.add_argument("--rows", type=int, help="the number of rows, where there is no CSV")
    parser.add_argument("--dimensions", type=int, help="how many numbers a vector has")
    parser.add_argument("--integer-ids", action="store_true", help="`id` holds integers, not texts")
    parser.add_argument("--errors", type=int, default=0, help="how many rows may lack a vector (default 0)")
    parser.add_argument("--spark", action="store_true", help="read with Spark too")
    parser.add_argument("--require", default="", help="readers that must be installed, separated by commas")
    arguments = parser.parse_args()
    if arguments.integer_ids:
        TYPES["id"] = _INTEGERS
    rows = source_rows(arguments.source) if arguments.source else arguments.rows
    if rows is None:
        parser.error("say how many rows there should be: --source or --rows")
    expected = {"rows": rows, "dimensions": arguments.dimensions, "errors": arguments.errors, "total": None}
    required = set(filter(None, arguments.require.split(",")))
    if unknown := required - READERS.keys():
        parser.error(f"no such reader: {', '.join(sorted(unknown))}")

    failed = read = 0
    for name, reader in READERS.items():
        if name == "pyspark" and not (arguments.spark or name in required):
            continue
        start = time.perf_counter()
        try:
            seen = reader(arguments.folder)
        except ImportError as error:
            failed += name in required
            print(f"{name}: not installed ({error.name}); pip install {name}")
            continue
        except Exception as error:  # A reader that breaks is a finding, whatever it raises.
            failed += 1
            print(f"{name}: FAILED: {type(error).__name__}: {error}")
            continue
        read += 1
        problems = list(seen.problems(expected))
        # The first reader's sum is the one that the others are held to.
        expected["total"] = seen.total if expected["total"] is None else expected["total"]
        failed += bool(problems)
        took = f"{time.perf_counter() - start:.2f} s"
        if problems:
            print(f"{name}: WRONG: {'; '.join(problems)}")
        else:
            size = seen.lengths[0]
            kinds = ", ".join(f"{column} {seen.types[column]}" for column in TYPES)
            print(
                f"{name}: ok: {seen.rows} rows in {len(seen.buckets)} buckets, {seen.vectors} vectors of {size}, "
                f"sum {seen.total:.4f}; {kinds}; {took}"
            )
    if read == 0:
        print("no reader is installed: pip install duckdb pandas pyarrow polars")
    sys.exit(1 if failed or read == 0 else 0)


if __name__ == "__main__":
    main()
