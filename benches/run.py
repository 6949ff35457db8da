#!/usr/bin/env python3
"""Measures `flow` beside other ways of doing the same job, and writes docs/benchmarks.md.

    python3 benches/run.py --build                 # everything; about three quarters of an hour on two cores
    python3 benches/run.py --suite bucketize --rows 1000000 --repeats 5
    python3 benches/run.py --render                # the page again, from the last results
    python3 benches/run.py --beside OLD            # two builds of flow in turns, without the peers

Needs Linux, Python 3.10 or later, a Rust toolchain for `--build`, Java 17 for Spark (`--skip spark` goes without), and 60 GB
of disk below `--work` for everything: all outputs stay there until the end. Each peer gets a virtual environment of its own
from benches/peers/requirements-*.txt, below `--work`. Input is made up, the same every time. The API is a mock on this
machine; no suite talks to anything else.

Contenders take turns within a round, so that a slow minute of the machine does not hit one of them alone. Time is wall
time from start to exit of the whole process, start-up included; CPU time is the process's own and its children's; memory
is the peak that the kernel has seen, or the highest sum over the process and its children, sampled twenty times a second,
whichever is more. Every run writes to a folder of its own, and all are removed at the very end: a file system that has
just removed a hundred thousand files is slow in making new ones.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

from page import render
from suites import BATCH, DIMENSIONS, PEER, SUITES, WORKERS

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = HERE / "peers"
# These go on with the project of the run before, and so with its server's address, which is part of what the cache knows a
# vector by. They send nothing.
GO_ON = ("flow unchanged", "flow from cache")


def say(text):
    print(text, file=sys.stderr, flush=True)


# --- the measured process ---------------------------------------------------------------------------------


def children():
    """Parent → processes, from /proc."""
    tree = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = pathlib.Path(entry.path, "stat").read_text()
            except OSError:
                continue
            # The command may hold spaces and brackets; what follows its last bracket does not.
            tree.setdefault(int(stat[stat.rindex(")") + 2 :].split()[1]), []).append(int(entry.name))
    return tree


def resident(pid):
    """Bytes of memory that a process and all its children hold."""
    tree, todo, total = children(), [pid], 0
    while todo:
        one = todo.pop()
        todo += tree.get(one, [])
        try:
            total += int(pathlib.Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            pass
    return total


def measure(command, log):
    """Runs a command. Gives what it took and what it printed; ends this program with the log when it fails."""
    peak, done = 0, threading.Event()
    with open(log, "wb") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=errors, cwd=PEERS, start_new_session=True
        )

        def watch():
            nonlocal peak
            while not done.is_set():
                peak = max(peak, resident(process.pid))
                done.wait(0.05)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            output = process.stdout.read().decode()
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            seconds = time.perf_counter() - start
            done.set()
            watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = pathlib.Path(log).read_text(errors="replace")[-2000:]
        sys.exit(f"{' '.join(map(str, command))}\nended with exit code {process.returncode}:\n{tail}")
    took = {
        "seconds": round(seconds, 3),
        "cpu": round(used.ru_utime + used.ru_stime, 3),
        "peak_mb": round(max(peak, used.ru_maxrss * 1024) / 1e6, 1),
    }
    return took, output


# --- what is measured ----------------------------------------------------------------------------------------------


def venv(work, name):
    """The Python of a peer's own environment, made when it is not there or its requirements have changed."""
    folder = work / f"venv-{name}"
    requirements = PEERS / f"requirements-{name}.txt"
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_bytes() != requirements.read_bytes():
        say(f"making the environment of {name}")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", "-r", requirements], check=True)
        shutil.copy(requirements, stamp)
    return folder / "bin/python"


# A million rows at a time: the whole table need not fit into memory. Multiplying modulo a prime puts ids in no order.
MAKE_INPUT = """
import random, sys
import pyarrow, pyarrow.parquet
rows, path = int(sys.argv[1]), sys.argv[2]
random.seed(7)
kinds = ["gene", "protein", "disease", "drug", "pathway", "cell line", "phenotype", None]
words = [w.strip() for w in open(sys.argv[3]).read().replace(",", " ").split() if w.isalpha()]
prime = 1_000_000_007
writer = None
for start in range(0, rows, 1_000_000):
    order = [(n * 387_420_489) % prime for n in range(start, min(start + 1_000_000, rows))]
    table = pyarrow.table({
        "id": [f"node:{n:010}" for n in order],
        "category": random.choices(kinds, k=len(order)),
        "name": [" ".join(random.choices(words, k=random.randint(8, 12)))[:85] + f" {n}" for n in order],
    })
    writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
    writer.write_table(table, row_group_size=100_000)
writer.close()
"""


def make_input(work, rows):
    path = work / f"input-{rows}.parquet"
    if not path.exists():
        say(f"making {rows:,} rows")
        staged = path.with_suffix(".tmp")
        subprocess.run([venv(work, "asyncio"), "-c", MAKE_INPUT, str(rows), staged, ROOT / "data/nodes.csv"], check=True)
        staged.rename(path)
    return path


def write_project(project, suite, source, base_url, provider, steps):
    """A project like the shipped one, with nothing but what the peers do too, and the first `steps` nodes of it."""
    (project / "pipelines").mkdir(parents=True)
    dimensions = suite.get("dimensions", DIMENSIONS)
    model = {
        "openai": f"{{provider: openai, model: text-embedding-3-small, dimensions: {dimensions}, api_key: none, "
        f"base_url: '{base_url}', timeout: 60}}",
        "static": "{provider: static}",
        "hash": f"{{provider: hash, dimensions: {dimensions}}}",
    }[provider]
    saved = ", ".join(["partition_by: [bucket]"] + [f"compression: {suite[c]}" for c in ["compression"] if c in suite])
    (project / "catalog.yml").write_text(
        f"""
nodes: {{type: parquet, path: {source}}}
bucketized@table: {{type: parquet, path: bucketized, save_args: {{{saved}}}}}
bucketized@partitioned: {{type: partitioned, path: bucketized, dataset: {{type: parquet}}, filename_suffix: .parquet}}
embedded@table: {{type: parquet, path: embedded}}
embedded@partitioned:
  type: partitioned
  path: embedded
  dataset: {{type: parquet}}
  filename_suffix: .parquet
  overwrite: true
  save_args: {{max_workers: {WORKERS}, timeout: 600}}
checked: {{type: json, path: checked.json}}
"""
    )
    (project / "parameters.yml").write_text(
        f"batch: {suite.get('batch', BATCH)}\nfeatures: [category, name]\nmax_chars: 100\nmodel: {model}\n"
        "query: SELECT count(*) AS rows, count(embedding) AS vectors, count(DISTINCT bucket) AS buckets FROM embedded\n"
    )
    nodes = [
        """
  - name: bucketize_nodes
    function: bucketize
    inputs:
      df: nodes
      input_features: params:features
      bucket_size: params:batch
      max_input_len: params:max_chars
    outputs: bucketized@table
""",
        """
  - name: add_node_embeddings
    function: compute_embeddings
    inputs: {dfs: bucketized@partitioned, model: params:model}
    outputs: embedded@partitioned
""",
        """
  - name: read_back
    function: sql
    inputs: {embedded: embedded@table, query: params:query}
    outputs: checked
""",
    ]
    (project / "pipelines/job.yml").write_text("nodes:" + "".join(nodes[:steps]))


def run_flow(arguments, project, log, name, contender, source, base_url):
    suite = SUITES[name]
    if contender == "flow from cache":
        for folder in ("bucketized", "embedded"):
            shutil.rmtree(project / folder)
    elif contender not in GO_ON:
        provider = "openai" if suite.get("api") is not None else "static" if "static" in contender else "hash"
        alone = name.startswith("bucketize") or contender == "flow bucketize"
        steps = 1 if alone else 3 if name == "seed" else 2
        write_project(project, suite, source, base_url, provider, steps)
    command = [arguments.flow, "run", "--project", project, "--progress", "none", "--output", "json"]
    command += ["--memory-limit", suite["memory_limit"]] if "memory_limit" in suite else []
    return measure(command, log)


def run_peer(work, output, log, suite, contender, source, base_url):
    name, script, _ = PEER[contender]
    command = [venv(work, name), PEERS / script, "--input", source, "--output", output, "--base-url", base_url]
    command += ["--dimensions", suite.get("dimensions", DIMENSIONS), "--batch", suite.get("batch", BATCH)]
    command += ["--workers", WORKERS, "--model", ROOT / "assets/model"]
    command += ["--compression", suite["compression"]] if "compression" in suite else []
    return measure(command, log)


def check(contender, project, output, rows):
    """Ends this program unless a run says that it has done all rows, and `flow`'s query says that they are there."""
    last = json.loads(output.strip().splitlines()[-1])
    if not contender.startswith("flow"):
        if last["rows"] != rows:
            sys.exit(f"{contender} saved {last['rows']} rows of {rows}")
        return
    if last.get("status") != "ok":
        sys.exit(f"{contender} ended as {last}")
    if (checked := project / "checked.json").exists():
        found = json.loads(checked.read_text().splitlines()[0])
        if found["rows"] != rows or found["vectors"] != rows:
            sys.exit(f"{contender} left {found}, of {rows} rows")
    elif contender in ("flow", "flow hash", "flow static") and last["rows"] and sum(last["rows"].values()) not in (0, rows):
        sys.exit(f"{contender} saved {last['rows']}, of {rows} rows")


class Api:
    """The mock API, for the time of one suite."""

    def __init__(self, binary, options, dimensions):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [binary, "--port", str(self.port), "--dimensions", str(dimensions), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{self.port}/v1"
        for _ in range(100):
            if self.process.poll() is not None:
                sys.exit(f"the mock API did not start: {' '.join(map(str, command))}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit("the mock API does not respond")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def run_once(name, arguments, contender, source, mark, project=None):
    """What one run took. `project` is that of the run before, for a contender that goes on with it; else it gets a new one."""
    suite = SUITES[name]
    log, output = arguments.work / f"{mark}.log", arguments.work / "outputs" / f"{os.getpid()}-{mark}"
    # A server of its own for each run, so that no run starts with a limit that another one has used up.
    options = suite.get("api")
    api = Api(arguments.api, options, suite.get("dimensions", DIMENSIONS)) if options is not None else None
    url = api.url if api else "http://127.0.0.1:9/v1"
    try:
        if contender.startswith("flow"):
            project = project if contender in GO_ON else output
            took, said = run_flow(arguments, project, log, name, contender, source, url)
        else:
            took, said = run_peer(arguments.work, output, log, suite, contender, source, url)
    finally:
        if api:
            api.stop()
    return took, said, project


def sizes_of(suite, arguments):
    return [arguments.rows] if arguments.rows else suite["rows"] if isinstance(suite["rows"], list) else [suite["rows"]]


def run_suite(name, arguments):
    suite = SUITES[name]
    sizes = sizes_of(suite, arguments)
    repeats = min(arguments.repeats, suite.get("repeats", arguments.repeats))
    contenders = [c for c in suite["contenders"] if c not in arguments.skip]
    for contender in contenders:
        if contender in PEER:
            venv(arguments.work, PEER[contender][0])
    runs = {contender: [] for contender in contenders}
    for rows in sizes:
        source = make_input(arguments.work, rows)
        for turn in range(repeats):
            project = None
            for contender in contenders:
                if turn > 0 and contender in suite.get("once", []):
                    continue
                mark = f"{name}-{contender.replace(' ', '-')}-{rows}-{turn}"
                took, said, project = run_once(name, arguments, contender, source, mark, project)
                check(contender, project, said, rows)
                runs[contender].append({"rows": rows, **took})
                say(f"{name} {turn + 1}/{repeats} {contender}, {rows:,} rows: {took}")
    return {"command": "python3 " + " ".join(sys.argv), "rows": sizes[-1], "sizes": sizes, "runs": runs}


def compare_builds(name, arguments):
    """Prints what two builds of `flow` took for a suite: medians, and the median of the ratios of neighbouring runs."""
    other = argparse.Namespace(**vars(arguments) | {"flow": arguments.beside.resolve()})
    for rows in sizes_of(SUITES[name], arguments):
        source = make_input(arguments.work, rows)
        for contender in (c for c in SUITES[name]["contenders"] if c.startswith("flow") and c not in GO_ON):
            runs = {"flow": [], "beside": []}
            for turn in range(arguments.repeats):
                # The first of a turn is the second of the next.
                pair = [("flow", arguments), ("beside", other)]
                for which, build in pair if turn % 2 == 0 else reversed(pair):
                    mark = f"{name}-{contender.replace(' ', '-')}-{which}-{rows}-{turn}"
                    took, said, project = run_once(name, build, contender, source, mark)
                    check(contender, project, said, rows)
                    runs[which].append(took)
            for what in ("seconds", "cpu"):
                found, beside = ([run[what] for run in runs[which]] for which in ("flow", "beside"))
                ratio = statistics.median(one / two for one, two in zip(found, beside))
                middle = f"{statistics.median(found):.2f}, beside it {statistics.median(beside):.2f}, {ratio:.2f} of it"
                print(f"{name}, {contender}, {rows:,} rows, {what}: {middle}", flush=True)


# --- the machine ---------------------------------------------------------------------------------------------------


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", info)
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 2**20
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def versions(arguments):
    found = {"flow": subprocess.run([arguments.flow, "--version"], capture_output=True, text=True).stdout.split()[-1]}
    for contender, (name, _, package) in PEER.items():
        python = arguments.work / f"venv-{name}/bin/python"
        if python.exists():
            code = f"from importlib.metadata import version; print('{package}', version('{package}'))"
            found[contender] = subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", action="append", choices=SUITES, help="run this one only; may be repeated")
    parser.add_argument("--rows", type=int, help="rows, instead of each suite's own number")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip", action="append", default=[], help="a contender to leave out; may be repeated")
    parser.add_argument("--build", action="store_true", help="build flow and the mock API first")
    parser.add_argument("--render", action="store_true", help="only write the page from the last results")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/flow-bench"))
    parser.add_argument("--flow", type=pathlib.Path, help="the binary; target/release/flow if not given")
    parser.add_argument("--beside", type=pathlib.Path, help="another build of flow; both take turns, and nothing is written")
    parser.add_argument("--api", type=pathlib.Path, help="the mock API; target/release/examples/mock_api if not given")
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs/benchmarks.md")
    arguments = parser.parse_args()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    arguments.flow = (arguments.flow or target / "release/flow").resolve()
    arguments.api = (arguments.api or target / "release/examples/mock_api").resolve()
    (arguments.work / "outputs").mkdir(parents=True, exist_ok=True)
    if arguments.beside:
        for name in arguments.suite or SUITES:
            compare_builds(name, arguments)
        shutil.rmtree(arguments.work / "outputs")
        return
    kept = HERE / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {"suites": {}}
    if not arguments.render:
        if arguments.build:
            command = ["cargo", "build", "--release", "--locked", "--bin", "flow", "--example", "mock_api"]
            subprocess.run(command, cwd=ROOT, check=True)
        for name in arguments.suite or SUITES:
            results["suites"][name] = run_suite(name, arguments)
            results |= {
                "machine": machine(),
                "python": platform.python_version(),
                "date": datetime.date.today().isoformat(),
                "versions": versions(arguments),
            }
            kept.write_text(json.dumps(results, indent=1) + "\n")
        shutil.rmtree(arguments.work / "outputs")
    if not results["suites"]:
        sys.exit("there are no results yet")
    arguments.page.write_text(render(results))
    say(f"written: {arguments.page}")


if __name__ == "__main__":
    main()
