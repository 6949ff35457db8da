#!/usr/bin/env python3
"""Measures what Python nodes cost, beside Kedro where it has the same.

    cargo build --release
    scripts/kedro_bench.py --flow target/release/flow --python VENV/bin/python [chain] [partitions] [pipe] [noop]

chain       100 pandas nodes, one after the other, on a million rows of 3 and of 10 columns: the time of `kedro run` and of `flow run` in
            the same project, the start of both included
partitions  a pandas function over 200 partitions with one worker and with two
pipe        1 GB through a function and back, and the seconds of CPU that both sides need for it, the start of Python not counted
noop        what one more node that does nothing costs once the process is there

Wall-clock times, the smallest of `--repeat` runs; `cpu` is the user and system time of all processes. The Python needs kedro,
kedro-datasets, pandas and pyarrow.
"""

import argparse
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROWS = 1_000_000


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class Bench:
    def __init__(self, arguments, folder):
        self.flow, self.python = os.path.abspath(arguments.flow), os.path.abspath(arguments.python)
        self.repeat, self.folder = arguments.repeat, folder
        self.environment = dict(os.environ, DO_NOT_TRACK="1", FLOW_PYTHON=self.python)
        self.environment.pop("VIRTUAL_ENV", None)

    def time(self, folder, *command, prepare=lambda: None):
        """The smallest wall-clock time of some runs, and the CPU time of that run."""
        best = None
        for _ in range(self.repeat):
            prepare()
            before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            done = subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True)
            wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
            if done.returncode:
                sys.exit("%s failed: %s" % (" ".join(command), (done.stderr or done.stdout)[-2000:]))
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            if best is None or wall < best[0]:
                best = wall, cpu
        return best

    def make(self, script):
        subprocess.run([self.python, "-c", script], cwd=self.folder, env=self.environment, check=True)

    def chain(self):
        for columns in (3, 10):
            self.chain_of(columns)

    def chain_of(self, columns):
        folder = self.folder / "chain"
        nodes = 100
        write(
            folder,
            {
                "pyproject.toml": "[tool.kedro]\npackage_name = 'chain'\nproject_name = 'Chain'\nkedro_init_version = '%s'\n" % self.kedro_version(),
                "src/chain/__init__.py": "",
                "src/chain/settings.py": "",
                "src/chain/nodes.py": "def step(frame):\n    return frame\n",
                "src/chain/pipeline_registry.py": "from kedro.pipeline import Pipeline, node\nfrom . import nodes\n\n\ndef register_pipelines():\n"
                "    names = ['rows', *('at_%%d' %% n for n in range(1, %d)), 'result']\n"
                "    return {'__default__': Pipeline([node(nodes.step, one, other, name='to_' + other) for one, other in zip(names, names[1:])])}\n" % nodes,
                "conf/base/catalog.yml": "rows: {type: pandas.ParquetDataset, filepath: data/rows.parquet}\nresult: {type: pandas.ParquetDataset, filepath: data/result.parquet}\n",
                "conf/base/parameters.yml": "{}\n",
                "conf/local/credentials.yml": "{}\n",
                "data/.keep": "",
            },
        )
        self.make(
            "import numpy, pandas\nrandom = numpy.random.default_rng(1)\ncolumns = {'n': numpy.arange(%d), 'k': numpy.arange(%d) %% 7}\n"
            "columns.update(('x%%d' %% n, random.random(%d)) for n in range(%d))\npandas.DataFrame(columns).to_parquet('chain/data/rows.parquet')"
            % (ROWS, ROWS, ROWS, columns - 2)
        )

        def forget():
            for name in (".flow", "data/result.parquet", "data/.result.parquet.flow"):
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

        kedro = self.time(folder, self.python, "-m", "kedro", "run", prepare=forget)
        flow = self.time(folder, self.flow, "run", "-q", prepare=forget)
        again = self.time(folder, self.flow, "run", "-q")
        print("chain: %d pandas nodes on %d rows of %d columns" % (nodes, ROWS, columns))
        print("  kedro run            %7.2f s, cpu %6.2f s" % kedro)
        print("  flow run             %7.2f s, cpu %6.2f s, %.1f times as fast" % (*flow, kedro[0] / flow[0]))
        print("  flow run, the second %7.2f s, cpu %6.2f s" % again)

    def kedro_version(self):
        return subprocess.run([self.python, "-c", "import kedro; print(kedro.__version__)"], capture_output=True, text=True, check=True).stdout.strip()

    def partitions(self):
        folder = self.folder / "partitions"
        write(
            folder,
            {
                "catalog.yml": "parts: {type: partitioned, path: data/parts, dataset: pandas.ParquetDataset, filename_suffix: .parquet}\n"
                "done: {type: partitioned, path: data/done, dataset: parquet, filename_suffix: .parquet}\n",
                "parameters.yml": "{}\n",
                "src/work.py": "def score(frame):\n    for _ in range(6):\n        frame = frame.assign(x=frame['x'].rolling(7).mean().fillna(0).sort_values().values)\n    return frame\n",
            },
        )
        self.make("import numpy, pandas\nfor part in range(200):\n    import os\n    os.makedirs('partitions/data/parts/part=%d' % part)\n    pandas.DataFrame({'n': numpy.arange(100000), 'x': numpy.random.default_rng(part).random(100000)}).to_parquet('partitions/data/parts/part=%d/rows.parquet' % part)")
        times = {}
        for workers in (1, 2):
            (folder / "pipelines").mkdir(exist_ok=True)
            (folder / "pipelines/main.yml").write_text("nodes:\n  - {name: score, function: 'python:work.score', inputs: parts, outputs: done, workers: %d}\n" % workers)
            times[workers] = self.time(folder, self.flow, "run", "-q", "--force")
        print("partitions: a pandas function over 200 partitions of 100,000 rows")
        for workers, found in times.items():
            print("  workers: %d           %7.2f s, cpu %6.2f s" % (workers, *found))
        print("  two are %.2f times as fast as one" % (times[1][0] / times[2][0]))

    def pipe(self):
        folder = self.folder / "pipe"
        write(
            folder,
            {
                "catalog.yml": "rows: {type: arrow, path: data/rows.arrow}\nback: {type: memory}\nnothing: {type: memory}\n",
                "parameters.yml": "query: {none: 'select count(*) as rows from t', all: 'select count(*) as rows from t'}\n",
                "src/work.py": "import pyarrow\nfrom collections.abc import Iterator\n\n\ndef back(rows: Iterator[pyarrow.RecordBatch]):\n    for batch in rows:\n        yield batch\n",
                "pipelines/python.yml": "nodes:\n  - {name: back, function: 'python:work.back', inputs: rows, outputs: back}\n",
                "pipelines/sql.yml": "nodes:\n  - {name: copy, function: sql, inputs: {t: rows, query: 'params:copy'}, outputs: nothing}\n",
            },
        )
        (folder / "parameters.yml").write_text("copy: select * from t\n")
        cpu = {}
        # The start of Python is no part of it: it is what the same costs with one row.
        for rows, parts in (1, 1), (1 << 20, 64):
            self.make(
                "import os, numpy, pyarrow\nos.makedirs('pipe/data', exist_ok=True)\nschema = pyarrow.schema([('n', pyarrow.int64()), ('x', pyarrow.float64())])\n"
                "with pyarrow.ipc.new_file('pipe/data/rows.arrow', schema) as out:\n    for part in range(%d):\n"
                "        out.write(pyarrow.record_batch([numpy.arange(%d), numpy.random.default_rng(part).random(%d)], schema=schema))\n" % (parts, rows, rows)
            )
            size = os.path.getsize(folder / "data/rows.arrow")
            through = self.time(folder, self.flow, "run", "-q", "--force", "--pipeline", "python", "--memory-limit", "4GiB")
            without = self.time(folder, self.flow, "run", "-q", "--force", "--pipeline", "sql", "--memory-limit", "4GiB")
            cpu[rows] = through[1] - without[1]
            print("pipe: %.2f GB to a function and back" % (size / 1e9))
            print("  with the function    %7.2f s, cpu %6.2f s" % through)
            print("  the same without it  %7.2f s, cpu %6.2f s" % without)
        spent = cpu[1 << 20] - cpu[1]
        print("  %.2f s of CPU on both sides for %.2f GB each way: %.2f GB/s a core each way on each side" % (spent, size / 1e9, size * 2 / spent / 1e9 if spent > 0 else 0))

    def noop(self):
        folder = self.folder / "noop"
        write(folder, {"parameters.yml": "n: 1\n", "src/work.py": "def nothing(value):\n    return value\n"})
        times = {}
        for count in (1, 201):
            names = ["at_%d" % n for n in range(count)]
            (folder / "catalog.yml").write_text("".join("%s: {type: memory, shape: value}\n" % name for name in names))
            inputs = ["params:n", *names]
            nodes = ["  - {name: to_%s, function: 'python:work.nothing', inputs: '%s', outputs: %s}\n" % (other, one, other) for one, other in zip(inputs, names)]
            (folder / "pipelines").mkdir(exist_ok=True)
            (folder / "pipelines/main.yml").write_text("nodes:\n" + "".join(nodes))
            times[count] = self.time(folder, self.flow, "run", "-q", "--force")
        print("noop: %.2f ms a node (%.2f s for 1 node, %.2f s for 201)" % ((times[201][0] - times[1][0]) / 200 * 1000, times[1][0], times[201][0]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["chain", "partitions", "pipe", "noop"])
    parser.add_argument("--flow", default="target/release/flow")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kedro-bench-"))
    try:
        bench = Bench(arguments, folder)
        print("%d cores, load %.1f before" % (os.cpu_count(), os.getloadavg()[0]))
        for what in arguments.what:
            getattr(bench, what)()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
