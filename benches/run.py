#!/usr/bin/env python3
"""Measures `flow` beside other ways of doing the same job, and writes docs/benchmarks.md.

    python3 benches/run.py --build                 # everything; about half an hour on two cores
    python3 benches/run.py --suite bucketize --rows 1000000 --repeats 5
    python3 benches/run.py --render                # the page again, from the last results

Needs Linux, Python 3.10 or later, a Rust toolchain for `--build`, and Java 17 for Spark (`--skip spark` goes without). Each
peer gets a virtual environment of its own from benches/peers/requirements-*.txt, below `--work`. Input is made up, the same
every time. The API is a mock on this machine; no suite talks to anything else.

Contenders take turns within a round, so that a slow minute of the machine does not hit one of them alone. Time is wall
time from start to exit of the whole process, start-up included; memory is the highest sum of resident memory over the
process and all its children, sampled twenty times a second.
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

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = HERE / "peers"
DIMENSIONS = 100
BATCH = 500
WORKERS = 10

# Suite → what it is, default rows, options of the mock API (None: no API), and its contenders. The first is the measure
# of all others.
SUITES = {
    "bucketize": {
        "title": "Cutting a table into buckets",
        "about": f"A table in one parquet file, in no order, becomes hive directories of {BATCH} rows each, ordered by id.",
        "rows": 1_000_000,
        "api": None,
        "contenders": ["flow", "duckdb", "polars", "spark"],
    },
    "embed": {
        "title": "The whole job, through an API that answers at once",
        "about": f"Bucketize, embed and save, {BATCH} rows a partition, {WORKERS} partitions at a time, "
        f"{DIMENSIONS} dimensions. The API takes 20 ms for an answer and has no limit, so what is measured is overhead.",
        "rows": 200_000,
        "api": ["--latency-ms", "20"],
        "contenders": ["flow", "asyncio", "kedro", "daft"],
    },
    "slow": {
        "title": "The whole job, through an API that takes its time",
        "about": "The same with 300 ms an answer: time is spent waiting, and what counts is how well waits overlap.",
        "rows": 100_000,
        "api": ["--latency-ms", "300"],
        "contenders": ["flow", "asyncio", "kedro", "daft"],
    },
    "limited": {
        "title": "The whole job, through an API with a limit",
        "about": "The same with 600 requests a minute at most and a burst of one second; more is refused with 429 and "
        "`Retry-After`. 200 requests are needed: no client can be faster than 19 seconds.",
        "rows": 100_000,
        "api": ["--latency-ms", "50", "--rpm", "600", "--burst-seconds", "1"],
        "contenders": ["flow", "asyncio", "kedro"],
    },
    "local": {
        "title": "Without an API",
        "about": "The whole job with the providers that compute here: `static`, the built-in model with 128 dimensions, and "
        "`hash`, which measures everything but the embedding.",
        "rows": 1_000_000,
        "api": None,
        "contenders": ["flow hash", "flow static"],
    },
    "again": {
        "title": "Running again",
        "about": "`flow run` when nothing has changed; and when all outputs are gone, but the cache has every vector.",
        "rows": 200_000,
        "api": ["--latency-ms", "20"],
        "contenders": ["flow", "flow unchanged", "flow from cache"],
    },
}

# Contender → requirements file, script, and the package whose version is shown.
PEER = {
    "duckdb": ("duckdb", "duckdb_bucketize.py", "duckdb"),
    "polars": ("polars", "polars_bucketize.py", "polars"),
    "spark": ("spark", "spark_bucketize.py", "pyspark"),
    "asyncio": ("asyncio", "asyncio_openai.py", "openai"),
    "kedro": ("kedro", "kedro_pipeline.py", "kedro"),
    "daft": ("daft", "daft_embed.py", "daft"),
}


def say(text):
    print(text, file=sys.stderr, flush=True)


# --- the process under measurement ---------------------------------------------------------------------------------


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


def measure(command, log, env=None):
    """Runs a command. Gives seconds, peak bytes and what it printed; ends this program with the log when it fails."""
    peak, done = 0, threading.Event()
    with open(log, "wb") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=errors, env=env, cwd=PEERS, start_new_session=True
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
            code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            seconds = time.perf_counter() - start
            done.set()
            watcher.join()
    if code != 0:
        tail = pathlib.Path(log).read_text(errors="replace")[-2000:]
        sys.exit(f"{' '.join(map(str, command))}\nended with exit code {code}:\n{tail}")
    return seconds, peak, output


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


MAKE_INPUT = """
import random, sys
import pyarrow, pyarrow.parquet
rows, path = int(sys.argv[1]), sys.argv[2]
random.seed(7)
kinds = ["gene", "protein", "disease", "drug", "pathway", "cell line", "phenotype", None]
words = [w.strip() for w in open(sys.argv[3]).read().replace(",", " ").split() if w.isalpha()]
order = list(range(rows))
random.shuffle(order)
pyarrow.parquet.write_table(pyarrow.table({
    "id": [f"node:{n:09}" for n in order],
    "category": random.choices(kinds, k=rows),
    "name": [" ".join(random.choices(words, k=random.randint(2, 6))) + f" {n}" for n in order],
}), path)
"""


def make_input(work, rows):
    path = work / f"input-{rows}.parquet"
    if not path.exists():
        say(f"making {rows:,} rows")
        staged = path.with_suffix(".tmp")
        subprocess.run([venv(work, "asyncio"), "-c", MAKE_INPUT, str(rows), staged, ROOT / "data/nodes.csv"], check=True)
        staged.rename(path)
    return path


def write_project(work, source, base_url, provider):
    """A project like the shipped one, with nothing but what the peers do too."""
    project = work / "project"
    shutil.rmtree(project, ignore_errors=True)
    (project / "pipelines").mkdir(parents=True)
    model = {
        "openai": f"{{provider: openai, model: text-embedding-3-small, dimensions: {DIMENSIONS}, api_key: none, "
        f"base_url: '{base_url}', timeout: 60}}",
        "static": "{provider: static}",
        "hash": f"{{provider: hash, dimensions: {DIMENSIONS}}}",
    }[provider]
    (project / "catalog.yml").write_text(
        f"""
nodes: {{type: parquet, path: {source}}}
bucketized@table: {{type: parquet, path: bucketized, save_args: {{partition_by: [bucket]}}}}
bucketized@partitioned: {{type: partitioned, path: bucketized, dataset: {{type: parquet}}, filename_suffix: .parquet}}
embedded@partitioned:
  type: partitioned
  path: embedded
  dataset: {{type: parquet}}
  filename_suffix: .parquet
  overwrite: true
  save_args: {{max_workers: {WORKERS}, timeout: 600}}
"""
    )
    (project / "parameters.yml").write_text(
        f"{{batch: {BATCH}, features: [category, name], max_chars: 100, model: {model}}}\n"
    )
    (project / "pipelines/job.yml").write_text(
        """
nodes:
  - name: bucketize_nodes
    function: bucketize
    inputs:
      df: nodes
      input_features: params:features
      bucket_size: params:batch
      max_input_len: params:max_chars
    outputs: bucketized@table
  - name: add_node_embeddings
    function: compute_embeddings
    inputs: {dfs: bucketized@partitioned, model: params:model}
    outputs: embedded@partitioned
"""
    )
    return project


def run_flow(flow, work, log, suite, contender, source, base_url):
    provider = contender.split()[-1] if suite == "local" else "openai"
    project = work / "project"
    # The last two go on with the first one's project, and so with its server's address, which is part of what the cache
    # knows a vector by. They send nothing.
    if contender not in ("flow unchanged", "flow from cache"):
        project = write_project(work, source, base_url, provider)
    elif contender == "flow from cache":
        for name in ("bucketized", "embedded"):
            shutil.rmtree(project / name)
    command = [flow, "run", "--project", project, "--progress", "none", "--output", "json"]
    if suite == "bucketize":
        command += ["--nodes", "bucketize_nodes"]
    return measure(command, log)


def run_peer(work, log, contender, source, base_url):
    name, script, _ = PEER[contender]
    command = [venv(work, name), PEERS / script, "--input", source, "--output", work / "output"]
    command += ["--base-url", base_url, "--dimensions", DIMENSIONS, "--batch", BATCH, "--workers", WORKERS]
    return measure(command, log)


def rows_of(contender, output):
    """The rows that a run says it has saved: the last line is JSON in both dialects."""
    last = json.loads(output.strip().splitlines()[-1])
    if not contender.startswith("flow"):
        return last["rows"]
    if last.get("status") != "ok":
        sys.exit(f"{contender} ended as {last}")
    return sum(last["rows"].values())


class Api:
    """The mock API, for the time of one suite."""

    def __init__(self, binary, options):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [binary, "--port", str(self.port), "--dimensions", str(DIMENSIONS), *options]
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
        sys.exit("the mock API does not answer")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def run_suite(name, arguments):
    suite = SUITES[name]
    rows = arguments.rows or suite["rows"]
    source = make_input(arguments.work, rows)
    contenders = [c for c in suite["contenders"] if c not in arguments.skip]
    for contender in contenders:
        if contender in PEER:
            venv(arguments.work, PEER[contender][0])
    runs = {contender: [] for contender in contenders}
    for turn in range(arguments.repeats):
        for contender in contenders:
            # A server of its own for each run, so that nobody starts with a limit that somebody else has used up.
            api = Api(arguments.api, suite["api"]) if suite["api"] is not None else None
            url = api.url if api else "http://127.0.0.1:9/v1"
            log = arguments.work / f"{name}-{contender.replace(' ', '-')}.log"
            try:
                if contender.startswith("flow"):
                    seconds, peak, output = run_flow(arguments.flow, arguments.work, log, name, contender, source, url)
                else:
                    seconds, peak, output = run_peer(arguments.work, log, contender, source, url)
            finally:
                if api:
                    api.stop()
            done = rows_of(contender, output)
            # What is up to date is not counted as rows of this run, nor are rows that are bucketized only.
            if contender not in ("flow unchanged",) and not (name == "bucketize" and contender == "flow") and done != rows:
                sys.exit(f"{contender} saved {done} rows of {rows}")
            runs[contender].append({"seconds": round(seconds, 3), "peak_mb": round(peak / 1e6, 1)})
            say(f"{name} {turn + 1}/{arguments.repeats} {contender}: {seconds:.2f} s, {peak / 1e6:,.0f} MB")
    return {"rows": rows, "runs": runs}


# --- the page ------------------------------------------------------------------------------------------------------


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


def render(results):
    lines = [
        "# Benchmarks",
        "",
        "Written by `benches/run.py`; run it to get the page for your machine. How is measured stands at the top of that file.",
        "",
        f"Machine: {results['machine']}. Python {results['python']}. Taken on {results['date']}.",
        "",
        "Versions: " + ", ".join(f"{name} ({version})" for name, version in results["versions"].items()) + ".",
    ]
    for name, suite in SUITES.items():
        if name not in results["suites"]:
            continue
        taken = results["suites"][name]
        lines += ["", f"## {suite['title']}", "", suite["about"], ""]
        repeats = max(map(len, taken["runs"].values()))
        lines += [f"{taken['rows']:,} rows; median of {repeats}, with the fastest and the slowest run.", ""]
        first = next(iter(taken["runs"]))
        lines += [f"| | seconds | fastest – slowest | rows a second | against `{first}` | peak memory |"]
        lines += ["|---|---:|---:|---:|---:|---:|"]
        medians = {c: statistics.median(run["seconds"] for run in runs) for c, runs in taken["runs"].items()}
        for contender, runs in taken["runs"].items():
            seconds = [run["seconds"] for run in runs]
            median = medians[contender]
            peak = statistics.median(run["peak_mb"] for run in runs)
            ratio = median / medians[first]
            lines += [
                f"| {contender} | {median:.2f} | {min(seconds):.2f} – {max(seconds):.2f} | {taken['rows'] / median:,.0f} "
                f"| {ratio:.2f} × | {peak:,.0f} MB |"
            ]
    return "\n".join(lines) + "\n"


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
    parser.add_argument("--api", type=pathlib.Path, help="the mock API; target/release/examples/mock_api if not given")
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs/benchmarks.md")
    arguments = parser.parse_args()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    arguments.flow = (arguments.flow or target / "release/flow").resolve()
    arguments.api = (arguments.api or target / "release/examples/mock_api").resolve()
    arguments.work.mkdir(parents=True, exist_ok=True)
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
    if not results["suites"]:
        sys.exit("there are no results yet")
    arguments.page.write_text(render(results))
    say(f"written: {arguments.page}")


if __name__ == "__main__":
    main()
