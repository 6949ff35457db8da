#!/usr/bin/env python3
"""Reads a finished dataset of embeddings as others would, and checks that all see the same.

    flow run
    python3 tests/readers/read_back.py data/work/feat/node_embeddings --source data/nodes.csv

Reads with DuckDB, pandas, pyarrow, Polars and, with `--spark`, Spark (which needs Java). A reader that is not installed
is skipped, unless `--require` names it; nothing is installed by this script:

    pip install duckdb pandas pyarrow polars pyspark

One line a reader; exit code 1 when one sees something else than it should.
"""

import argparse
import csv
import pathlib
import sys
import time

TEXT, VECTOR, ERROR = "text_to_embed", "embedding", "embedding_error"


class Seen:
    """What a reader made of the dataset, in words that all readers share."""

    def __init__(self, rows, columns, buckets, bucket_is_integer, vectors, lengths, errors):
        self.rows = rows
        self.columns = set(columns)
        self.buckets = sorted(buckets)
        self.bucket_is_integer = bucket_is_integer
        self.vectors = vectors
        self.lengths = sorted(lengths)
        self.errors = errors

    def problems(self, expected):
        if self.rows != expected["rows"]:
            yield f"{self.rows} rows, expected {expected['rows']}"
        if not self.bucket_is_integer:
            yield "`bucket` is no integer"
        if self.buckets != list(range(len(self.buckets))):
            yield f"buckets are not numbered from 0 without gaps: {self.buckets[:5]} …"
        if self.vectors + self.errors != self.rows:
            yield f"{self.rows} rows, but {self.vectors} vectors and {self.errors} errors"
        if self.errors > expected["errors"]:
            yield f"{self.errors} rows without a vector, expected {expected['errors']} at most"
        if len(self.lengths) != 1 or expected["dimensions"] not in (None, self.lengths[0]):
            yield f"vectors have lengths {self.lengths}, expected {expected['dimensions'] or 'one length'}"
        if TEXT in self.columns:
            yield f"`{TEXT}` is still there"
        if missing := {"id", "bucket", VECTOR, ERROR} - self.columns:
            yield f"columns are missing: {sorted(missing)}"


def with_duckdb(folder):
    import duckdb

    con = duckdb.connect()
    con.execute(f"CREATE VIEW t AS FROM read_parquet('{folder}/**/*.parquet', hive_partitioning = true)")
    types = {name: kind for name, kind, *_ in con.execute("DESCRIBE t").fetchall()}
    rows, vectors, errors = con.execute(f"SELECT count(*), count({VECTOR}), count({ERROR}) FROM t").fetchone()
    buckets = [bucket for (bucket,) in con.execute("SELECT DISTINCT bucket FROM t").fetchall()]
    con.execute(f"SELECT DISTINCT len({VECTOR}) FROM t WHERE {VECTOR} IS NOT NULL")
    lengths = [length for (length,) in con.fetchall()]
    return Seen(rows, types, buckets, types["bucket"] in ("BIGINT", "INTEGER"), vectors, lengths, errors)


def with_pandas(folder):
    import pandas

    # pandas takes the partition column for a category; its categories have the type.
    frame = pandas.read_parquet(folder)
    categories = frame["bucket"].cat.categories if hasattr(frame["bucket"], "cat") else frame["bucket"]
    found = frame[VECTOR].dropna()
    return Seen(
        len(frame),
        frame.columns,
        frame["bucket"].astype("int64").unique().tolist(),
        pandas.api.types.is_integer_dtype(categories.dtype),
        len(found),
        set(found.map(len)),
        int(frame[ERROR].notna().sum()),
    )


def with_pyarrow(folder):
    import pyarrow
    import pyarrow.compute
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive").to_table()
    lengths = set(pyarrow.compute.list_value_length(table[VECTOR].drop_null()).to_pylist())
    return Seen(
        table.num_rows,
        table.column_names,
        table["bucket"].unique().to_pylist(),
        pyarrow.types.is_integer(table.schema.field("bucket").type),
        table.num_rows - table[VECTOR].null_count,
        lengths,
        table.num_rows - table[ERROR].null_count,
    )


def with_polars(folder):
    import polars

    frame = polars.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
    found = frame[VECTOR].drop_nulls()
    lengths = found.arr.len() if isinstance(found.dtype, polars.Array) else found.list.len()
    return Seen(
        len(frame),
        frame.columns,
        frame["bucket"].unique().to_list(),
        frame["bucket"].dtype.is_integer(),
        len(found),
        set(lengths.unique().to_list()),
        len(frame) - frame[ERROR].null_count(),
    )


def with_spark(folder):
    from pyspark.sql import SparkSession, functions

    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    frame = spark.read.parquet(str(folder))
    kind = dict(frame.dtypes)["bucket"]
    found = frame.where(functions.col(VECTOR).isNotNull())
    lengths = [row[0] for row in found.select(functions.size(VECTOR)).distinct().collect()]
    buckets = [row[0] for row in frame.select("bucket").distinct().collect()]
    errors = frame.where(functions.col(ERROR).isNotNull()).count()
    return Seen(frame.count(), frame.columns, buckets, kind in ("int", "bigint"), found.count(), lengths, errors)


READERS = {
    "duckdb": with_duckdb,
    "pandas": with_pandas,
    "pyarrow": with_pyarrow,
    "polars": with_polars,
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
    parser.add_argument("--errors", type=int, default=0, help="how many rows may lack a vector (default 0)")
    parser.add_argument("--spark", action="store_true", help="read with Spark too")
    parser.add_argument("--require", default="", help="readers that must be installed, parted by commas")
    arguments = parser.parse_args()
    rows = source_rows(arguments.source) if arguments.source else arguments.rows
    if rows is None:
        parser.error("say how many rows there should be: --source or --rows")
    expected = {"rows": rows, "dimensions": arguments.dimensions, "errors": arguments.errors}
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
        failed += bool(problems)
        took = f"{time.perf_counter() - start:.2f} s"
        if problems:
            print(f"{name}: WRONG: {'; '.join(problems)}")
        else:
            size = seen.lengths[0]
            print(f"{name}: ok: {seen.rows} rows in {len(seen.buckets)} buckets, {seen.vectors} vectors of {size}, {took}")
    if read == 0:
        print("no reader is installed: pip install duckdb pandas pyarrow polars")
    sys.exit(1 if failed or read == 0 else 0)


if __name__ == "__main__":
    main()
