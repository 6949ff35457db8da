#!/usr/bin/env python3
"""Measures what `flow` does before any data moves: start-up, reading and checking big projects, drawing them.

    cargo build --release && python3 benches/projects.py [--flow target/release/flow] [--repeats 5] [--kedro]

Makes a project of 10,000 nodes, 10,000 datasets and 1,000 patterns in a temporary folder. `--kedro` also builds the same
chain as a Kedro pipeline of no-op nodes (Kedro 1.7 in a virtual environment) and runs 1,000 nodes of it, which is what
Kedro's cost a node is taken from. Writes docs/benchmarks-projects.md.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
NODES = 10_000
PATTERNS = 1_000


def make(folder):
    """Chains of ten nodes; every tenth dataset comes from a pattern."""
    catalog, nodes = [], []
    for i in range(NODES):
        if i % 10 != 9:
            catalog.append(f"data.d{i}: {{type: parquet, path: data/d{i}.parquet}}")
        source = "data.source" if i % 10 == 0 else name(i - 1)
        nodes.append(f"  - {{name: node_{i}, function: placeholder, inputs: {source}, outputs: {name(i)}, tags: [t{i % 7}]}}")
    catalog.append("data.source: {type: csv, path: source.csv}")
    for p in range(PATTERNS):
        catalog.append(f'"made{p}.{{name}}": {{type: parquet, path: "data/made{p}/{{name}}.parquet"}}')
    (folder / "pipelines").mkdir()
    (folder / "catalog.yml").write_text("\n".join(catalog) + "\n")
    (folder / "parameters.yml").write_text("a: 1\n")
    (folder / "pipelines/big.yml").write_text("nodes:\n" + "\n".join(nodes) + "\n")
    (folder / "source.csv").write_text("id\n1\n")


def name(i):
    return f"made{(i // 10) % PATTERNS}.d{i}" if i % 10 == 9 else f"data.d{i}"


def best_of(repeats, command):
    """Medians of the seconds of a whole process; its output is thrown away."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        times.append(time.perf_counter() - begin)
        if done.returncode != 0:
            sys.exit(f"{command} exited {done.returncode}: {done.stderr[:500]}")
    return statistics.median(times), min(times), max(times)


KEDRO = """
import sys, time, logging
logging.disable(logging.CRITICAL)
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner
count = int(sys.argv[1])
begin = time.perf_counter()
same = lambda x: x
nodes = [node(same, "source" if i % 10 == 0 else f"d{i-1}", f"d{i}", name=f"node_{i}") for i in range(count)]
whole = pipeline(nodes)
built = time.perf_counter()
SequentialRunner().run(whole, DataCatalog({"source": MemoryDataset(1)}))
print(built - begin, time.perf_counter() - built)
"""


def kedro(work):
    home = work / "kedro"
    venv.create(home, with_pip=True)
    subprocess.run([home / "bin/pip", "install", "--quiet", "kedro==1.7.0"], check=True)
    out = []
    for count in (1_000, 3_000):
        done = subprocess.run([home / "bin/python", "-c", KEDRO, str(count)], check=True, capture_output=True, text=True)
        build, run = map(float, done.stdout.split()[-2:])
        out.append((count, (build + run) / count * 1000))
    begin = time.perf_counter()
    subprocess.run([home / "bin/kedro", "--version"], check=True, capture_output=True)
    return out, time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--flow", type=pathlib.Path, default=ROOT / "target/release/flow")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kedro", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make(folder)
        flow = str(arguments.flow.resolve())
        jobs = [
            ("`flow --version`", [flow, "--version"], None),
            ("`flow ls nodes`, the shipped project", [flow, "-C", str(ROOT), "ls", "nodes"], None),
            (f"`flow check`, {NODES:,} nodes, {NODES:,} datasets, {PATTERNS:,} patterns", [flow, "-C", str(folder), "check"], NODES),
            (f"`flow graph`, {NODES:,} nodes", [flow, "-C", str(folder), "graph"], NODES),
            (f"`flow ls nodes`, {NODES:,} nodes", [flow, "-C", str(folder), "ls", "nodes"], NODES),
        ]
        for title, command, nodes in jobs:
            median, low, high = best_of(arguments.repeats, command)
            each = f"{median / nodes * 1e6:.1f} µs" if nodes else ""
            rows.append(f"| {title} | {median * 1000:.0f} ms | {low * 1000:.0f}–{high * 1000:.0f} ms | {each} |")
        page = ["# Benchmarks of project loading", "", f"`python3 benches/projects.py{' --kedro' if arguments.kedro else ''}`, medians of {arguments.repeats} runs, whole processes.", ""]
        page += ["| what | median | range | a node |", "|---|---|---|---|"] + rows
        if arguments.kedro:
            counts, version = kedro(folder)
            page += [f"| Kedro 1.7: build and run {count:,} no-op nodes | | | {each:.2f} ms |" for count, each in counts]
            page += [f"| Kedro 1.7: `kedro --version` | {version * 1000:.0f} ms | | |"]
    text = "\n".join(page) + "\n"
    (ROOT / "docs/benchmarks-projects.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
