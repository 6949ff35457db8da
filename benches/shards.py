#!/usr/bin/env python3
"""Measures partitions divided among processes: time and memory of each shard, and of a plan of a large table.

    cargo build --release && python3 benches/shards.py --page

Makes a million rows, which become 200,000 partitions of five rows, computed by eight shards with `provider: hash`, so that the
time is that of listing, dividing and writing. With `--plan-rows 100000000` also a table of a hundred million rows, made by `flow` itself,
whose partitions are planned and not yet cut; it needs some gigabytes of disk. Needs Linux and Python 3.10 or later. Memory is the
peak of each process as the kernel reports it; time is from start to exit.
"""

import argparse
import datetime
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/benchmarks-shards.md"
MIB = 1 << 20

CATALOG = """
nodes: {type: csv, path: data/nodes.csv}
many: {type: parquet, path: data/many.parquet}
many_buckets@table: {type: parquet, path: data/many_buckets, save_args: {partition_by: [bucket]}}
many_buckets@partitioned: {type: partitioned, path: data/many_buckets, dataset: parquet, filename_suffix: .parquet}
many_vectors: {type: partitioned, path: data/many_vectors, dataset: parquet, filename_suffix: .parquet}
buckets@table: {type: parquet, path: data/buckets, save_args: {partition_by: [bucket]}}
buckets@partitioned: {type: partitioned, path: data/buckets, dataset: parquet, filename_suffix: .parquet}
vectors: {type: partitioned, path: data/vectors, dataset: parquet, filename_suffix: .parquet, overwrite: true}
"""

PIPELINE = """
nodes:
  - name: cut
    function: bucketize
    inputs: {df: nodes, input_features: params:features, bucket_size: params:size, max_input_len: params:length}
    outputs: buckets@table
  - name: embed
    function: compute_embeddings
    inputs: {dfs: buckets@partitioned, model: params:model}
    outputs: vectors
  - name: multiply
    function: sql
    inputs: {nodes: nodes, query: params:query}
    outputs: many
  - name: cut_many
    function: bucketize
    inputs: {df: many, input_features: params:features, bucket_size: params:many_size, max_input_len: params:length}
    outputs: many_buckets@table
  - name: embed_many
    function: compute_embeddings
    inputs: {dfs: many_buckets@partitioned, model: params:model}
    outputs: many_vectors
"""

PARAMETERS = """
features: [name]
size: {size}
many_size: {many_size}
length: 60
model: {{provider: hash, dimensions: 8}}
query: >
  SELECT k.value || '-' || nodes.id AS id, nodes.name AS name
  FROM nodes CROSS JOIN (SELECT * FROM generate_series(1, {times})) AS k(value)
"""


def project(folder, rows, size, plan_rows):
    """The files of the project, and its rows: ids in no order."""
    times = max(1, plan_rows // rows)
    (folder / "data").mkdir(parents=True)
    (folder / "pipelines").mkdir()
    (folder / "catalog.yml").write_text(CATALOG)
    (folder / "pipelines/main.yml").write_text(PIPELINE)
    many_size = max(1, plan_rows // (rows // size)) if plan_rows else size
    (folder / "parameters.yml").write_text(PARAMETERS.format(size=size, times=times, many_size=many_size))
    with open(folder / "data/nodes.csv", "w", encoding="utf-8") as file:
        file.write("id,name\n")
        for row in range(rows):
            number = row * 7_919 % rows
            file.write(f"{number:09},the name of row {number}\n")


class Process:
    """A process that is measured."""

    def __init__(self, flow, folder, words, log):
        self.words, self.log = words, log
        self.begin = time.perf_counter()
        with open(log, "wb") as file:
            self.child = subprocess.Popen([flow, *words], cwd=folder, stdout=file, stderr=file)

    def ended(self, status, usage):
        """The seconds, the seconds of the processor, and the peak of memory in bytes."""
        seconds = time.perf_counter() - self.begin
        self.child.returncode = os.waitstatus_to_exitcode(status)
        if self.child.returncode != 0:
            sys.exit(f"flow {' '.join(self.words)} exited {self.child.returncode}:\n{pathlib.Path(self.log).read_text()[-2000:]}")
        return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def run(starts, at_once=1):
    """Starts processes, so many at a time, and gives the figures of each."""
    running, figures = {}, []
    while starts or running:
        while starts and len(running) < at_once:
            process = starts.pop(0)()
            running[process.child.pid] = process
        number, status, usage = os.wait4(-1, 0)
        figures.append(running.pop(number).ended(status, usage))
    return figures


def partitions(folder, name):
    return sum(1 for entry in os.scandir(folder / "data" / name) if entry.name.startswith("bucket="))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flow", type=pathlib.Path, default=ROOT / "target/release/flow")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=5, help="rows of a partition")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=int, default=256, help="--memory-limit, in MiB")
    parser.add_argument("--plan-rows", type=int, default=0, help="rows of the table that is planned; 0 for none")
    parser.add_argument("--plan-limit", type=int, default=512, help="--memory-limit of that table's commands, in MiB")
    parser.add_argument("--work", type=pathlib.Path, help="where the data is made; a temporary folder by default")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    flow = arguments.flow.resolve()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="flow-shards-", dir=arguments.work))
    lines = []
    try:
        measure(flow, folder, arguments, lines)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.page:
        PAGE.write_text(page(arguments, flow, lines))


def measure(flow, folder, arguments, lines):
    project(folder, arguments.rows, arguments.size, arguments.plan_rows)
    count, shards = arguments.rows // arguments.size, arguments.shards

    def start(words, limit):
        words = [*words, *([] if words[0] == "plan" else ["-q"]), "--memory-limit", f"{limit}MiB"]
        return Process(flow, folder, words, folder / f"log-{len(list(folder.glob('log-*')))}")

    def line(what, limit, figures):
        seconds, processor, peak = figures
        within = "yes" if peak <= limit * MIB else "no"
        lines.append(f"| {what} | {limit} MiB | {seconds:.1f} | {processor:.1f} | {peak / 1e6:.0f} MB | {within} |")
        print(lines[-1], flush=True)

    def one(what, words, limit=arguments.limit):
        line(what, limit, *run([lambda: start(words, limit)]))

    def shard(index):
        return ["run", "--nodes", "embed", "--shard", f"{index}/{shards}"]

    one(f"cut {arguments.rows:,} rows into {count:,} partitions", ["run", "--nodes", "cut"])
    first = shards // 2
    one(f"shard {first}/{shards} alone: list, divide, compute and commit {count // shards:,} partitions", shard(first))
    begin = time.perf_counter()
    others = [index for index in range(shards) if index != first]
    figures = sorted(run([lambda index=index: start(shard(index), arguments.limit) for index in others], arguments.at_once))
    wall = time.perf_counter() - begin
    middle = figures[len(figures) // 2]
    worst = (figures[-1][0], max(figure[1] for figure in figures), max(figure[2] for figure in figures))
    line(f"one of the other {len(others)} shards, {arguments.at_once} at a time: the middle one", arguments.limit, middle)
    line(f"the most of each figure among these {len(others)}, {wall:.0f} s for all of them", arguments.limit, worst)
    one(f"shard {first}/{shards} again: list, and nothing to do", shard(first))
    one(f"the gather: list {count:,} partitions of input and output, and find all of them up to date", ["run", "--nodes", "embed"])
    if partitions(folder, "vectors") != count:
        sys.exit(f"{partitions(folder, 'vectors')} partitions instead of {count}")
    if arguments.plan_rows:
        one(f"write {arguments.plan_rows:,} rows", ["run", "--nodes", "multiply"], arguments.plan_limit)
        what = f"`flow plan` of {arguments.plan_rows:,} rows in {count:,} partitions that are yet to be cut"
        one(what, ["plan", "--nodes", "cut_many,embed_many"], arguments.plan_limit)


def page(arguments, flow, lines):
    version = subprocess.run([flow, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    words = [f"--shards {arguments.shards}", f"--at-once {arguments.at_once}", f"--limit {arguments.limit}"]
    words += [f"--rows {arguments.rows}", f"--size {arguments.size}"]
    words += [f"--plan-rows {arguments.plan_rows}"] if arguments.plan_rows else []
    table = "\n".join(lines)
    return f"""# Benchmarks of shards

`benches/shards.py` measures and writes this page. These figures were measured with

    python3 benches/shards.py --page {" ".join(words)}

Version: {version}. Machine: {processor()}, {os.cpu_count()} cores, Linux {platform.release().split("-")[0]}, on {datetime.date.today()}. Data is
on the local disk, and `provider: hash` computes the vectors, so that the time is that of listing, dividing and writing. Memory is the peak of the
whole process.

| what | memory limit | seconds | CPU seconds | peak memory | within the limit |
|---|---:|---:|---:|---:|---|
{table}

Every shard lists the input and the output as a whole, whatever its number: the position of a key among all keys says whose it is. That is what
"again: list, and nothing to do" takes.
"""


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
