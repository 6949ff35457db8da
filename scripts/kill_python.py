#!/usr/bin/env python3
"""Kills runs of a Python function over partitions at random moments, and judges what they leave.

    cargo build
    scripts/kill_python.py --flow target/debug/flow --count 100

A project has 40 partitions and a function that notes each call before and after its work. `flow run` gets SIGKILL at a random
moment, again and again, until a run gets through; then the project begins anew. After every kill all processes of the run have
to be gone within five seconds. A partition that was committed at a kill must not be computed again. At the end the files
must be those of a run that nobody disturbed, byte for byte.

Needs nothing but Python 3.9 or later. Exits with 1 if anything is wrong; the last line sums up.
"""

import argparse
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

PARTITIONS = 40
NODES = """
import os
import time


def note(line):
    log = os.open("calls.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, line.encode())
    os.close(log)


def work(rows: list[dict], pause):
    part = rows[0]["part"]
    note("%d begin %d\\n" % (part, os.getpid()))
    time.sleep(pause)
    note("%d end %d\\n" % (part, os.getpid()))
    return [{"n": row["n"] * 2} for row in rows]
"""
FILES = {
    "catalog.yml": "parts: {type: partitioned, path: data/parts, dataset: csv, filename_suffix: .csv}\n"
    "done: {type: partitioned, path: data/done, dataset: parquet, filename_suffix: .parquet}\n",
    "parameters.yml": "pause: 0.02\n",
    "pipelines/main.yml": "nodes:\n  - {name: work, function: 'python:work.nodes.work', inputs: [parts, 'params:pause'], outputs: done, workers: 2}\n",
    "src/work/__init__.py": "",
    "src/work/nodes.py": NODES,
}


def make(folder):
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for part in range(PARTITIONS):
        path = folder / ("data/parts/part=%d/rows.csv" % part)
        path.parent.mkdir(parents=True)
        path.write_text("n\n" + "".join("%d\n" % (part * 10 + n) for n in range(10)))


def results(folder):
    done = folder / "data/done"
    return {str(path.relative_to(done)): path.read_bytes() for path in sorted(done.rglob("*.parquet"))}


def committed(folder):
    return {int(name.split("/")[0].split("=")[1]) for name in results(folder)}


def calls(folder):
    """The partitions whose computation began, in order."""
    log = folder / "calls.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [int(line.split()[0]) for line in lines if " begin " in line]


def left_behind(mark):
    """Processes of a run, by a variable of their environment."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes() and "zombie" not in (path.parent / "status").read_text():
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flow", default="target/debug/flow")
    parser.add_argument("--count", type=int, default=100, help="kills")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    flow, chance = os.path.abspath(arguments.flow), random.Random(arguments.seed)
    base = pathlib.Path(tempfile.mkdtemp(prefix="kill-python-"))
    problems, kills, in_flight, rounds = [], 0, 0, 0

    def start(folder, mark):
        environment = dict(os.environ, KILL_MARK=mark)
        return subprocess.Popen([flow, "run", "-q"], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    try:
        clean = base / "clean"
        make(clean)
        begin = time.monotonic()
        run = start(clean, "clean")
        _, said = run.communicate()
        if run.returncode:
            sys.exit("the undisturbed run failed: %s" % said.decode())
        length, expected = time.monotonic() - begin, results(clean)
        while kills < arguments.count:
            rounds += 1
            folder = base / ("round-%d" % rounds)
            make(folder)
            while True:
                mark, before, done = uuid.uuid4().hex, len(calls(folder)), committed(folder)
                run = start(folder, mark)
                try:
                    run.wait(chance.uniform(0, length * 1.1) if kills < arguments.count else None)
                except subprocess.TimeoutExpired:
                    run.send_signal(signal.SIGKILL)
                    run.wait()
                    kills += 1
                said = run.stderr.read().decode()
                for _ in range(50):
                    rest = left_behind(mark)
                    if not rest:
                        break
                    time.sleep(0.1)
                if rest:
                    problems.append("round %d: processes are left: %s" % (rounds, rest))
                    for pid in rest:
                        os.kill(pid, signal.SIGKILL)
                again = [part for part in calls(folder)[before:] if part in done]
                if again:
                    problems.append("round %d: committed partitions were computed again: %s" % (rounds, again))
                if run.returncode == 0:
                    break
                if run.returncode != -signal.SIGKILL:
                    problems.append("round %d: exit code %s: %s" % (rounds, run.returncode, said[-500:]))
                    break
            if results(folder) != expected:
                problems.append("round %d: the files are not those of an undisturbed run" % rounds)
            in_flight += len(calls(folder)) - PARTITIONS
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    for problem in problems:
        print(problem)
    print(
        "%d kills in %d rounds: %d partitions were in work at a kill and computed again; %s"
        % (kills, rounds, in_flight, "%d problems" % len(problems) if problems else "every result equal, no process left")
    )
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
