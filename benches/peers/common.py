"""What every peer shares: the same arguments, and one line of JSON at the end.

A peer does the job that `flow` does in the shipped project: cut a table into buckets of so many rows, ordered by `id`;
put `category` and `name` together as the text, clipped; embed every bucket through an OpenAI-compatible server; and save
`bucket=<n>/…parquet`. The `…_bucketize` peers do the first half only.
"""

import argparse
import json
import pathlib
import time

MAX_CHARS = 100
MODEL = "text-embedding-3-small"


def main(work, description):
    """Reads the arguments, runs `work(arguments) -> rows` on a fresh output folder, and prints seconds and rows."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--input", type=pathlib.Path, required=True, help="a parquet file with id, category and name")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--base-url", default="http://127.0.0.1:8080/v1", help="of an OpenAI-compatible server")
    parser.add_argument("--model", type=pathlib.Path, help="the folder of a local model")
    parser.add_argument("--dimensions", type=int, default=100)
    parser.add_argument("--batch", type=int, default=500, help="rows in a bucket, and in a request")
    parser.add_argument("--compression", default="zstd", help="of the parquet files that are written")
    parser.add_argument("--workers", type=int, default=10, help="requests at a time")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True)
    start = time.perf_counter()
    rows = work(arguments)
    print(json.dumps({"seconds": round(time.perf_counter() - start, 3), "rows": rows}))
