#!/usr/bin/env python3
"""Tries four guarantees of docs/guarantees.md on a built binary, each in a new folder.

    cargo build --examples --bins && python3 scripts/check_guarantees.py target/debug/flow

- a folder with foreign files is not touched by an output that is declared there
- a typo in `filename_suffix` removes no computed partition
- two servers behind one environment variable are two different results
- a server that takes 25 seconds for a response is waited for (this one takes about half a minute)

Needs Python 3.10 or later and nothing else; all servers listen on loopback. Exits with 1 if a guarantee does not hold.
"""

import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Server(http.server.ThreadingHTTPServer):
    """An embeddings API on loopback: every vector is `value` followed by zeros; the first response takes `delay` seconds."""

    daemon_threads = True

    def __init__(self, value, delay=0.0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.value, self.delay, self.requests, self.lock = value, delay, 0, threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.requests += 1
            first = self.server.requests == 1
        if first:
            time.sleep(self.server.delay)
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vector = [self.server.value] + [0.5] * 7
        data = [{"object": "embedding", "index": i, "embedding": vector} for i in range(len(inputs))]
        usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
        response = json.dumps({"object": "list", "model": body["model"], "data": data, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(response)))
        self.end_headers()
        self.wfile.write(response)

    def log_message(self, *_):
        pass


def flow(binary, folder, *arguments, **variables):
    """Runs `flow` in a folder with a clean environment; the exit code and what it printed."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)} | variables
    done = subprocess.run([binary, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def content(folder):
    """Every file below a folder with a digest of its bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def foreign_files(binary, folder):
    """An output declared where a document, notes and tables of other origin are."""
    for entry in ["{type: parquet, path: data}", "{type: parquet, path: data, save_args: {partition_by: [name]}}", "{type: csv, path: data}"]:
        project = folder / hashlib.sha256(entry.encode()).hexdigest()[:8]
        write(project, {
            "catalog.yml": f"t: {{type: csv, path: in/t.csv}}\no: {entry}\n",
            "parameters.yml": "query: select * from t\n",
            "pipelines/p.yml": "nodes:\n  - {name: n, function: sql, inputs: {t: t, query: 'params:query'}, outputs: o}\n",
            "in/t.csv": "id,name\n1,a\n2,b\n",
            "data/thesis.docx": "a document",
            "data/notes.txt": "notes",
            "data/precious.csv": "x\n1\n",
            "data/sub/x.csv": "x\n1\n",
        })
        before = content(project / "data")
        for arguments in (["run"], ["run", "--force"]):
            code, text = flow(binary, project, *arguments)
            assert code == 3, f"{entry}: exit {code}\n{text}"
            assert "thesis.docx" in text or "notes.txt" in text, f"{entry}: the files are not named\n{text}"
            assert content(project / "data") == before, f"{entry}: data has changed\n{text}"


def shipped(folder):
    """The project of this repository, with the provider `hash`."""
    for name in ["catalog.yml", "globals.yml", "parameters.yml", "pipelines", "data/nodes.csv"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)


def typo_in_suffix(binary, folder):
    """`filename_suffix: ".pq"` on the input view of a dataset that was computed with `.parquet`."""
    shipped(folder)
    code, text = flow(binary, folder, "run")
    assert code == 0, text
    vectors = folder / "data/work/feat/node_embeddings"
    before = content(vectors)
    assert before, "nothing was computed"
    catalog = (folder / "catalog.yml").read_text()
    (folder / "catalog.yml").write_text(catalog.replace('filename_suffix: ".parquet"', 'filename_suffix: ".pq"', 1))
    code, text = flow(binary, folder, "run", "--nodes", "add_node_embeddings")
    assert code == 3, f"exit {code}\n{text}"
    assert content(vectors) == before, f"computed partitions have changed\n{text}"


def api_project(folder, model):
    rows = "".join(f"{i},name {i}\n" for i in range(60))
    write(folder, {
        "catalog.yml": (
            "nodes: {type: csv, path: in/nodes.csv}\n"
            "cut@table: {type: parquet, path: work/cut, save_args: {partition_by: [bucket]}}\n"
            "cut@partitioned: {type: partitioned, path: work/cut, dataset: {type: parquet}, filename_suffix: .parquet}\n"
            "vectors@partitioned: {type: partitioned, path: work/vectors, dataset: {type: parquet}, filename_suffix: .parquet, overwrite: true}\n"
            "vectors@table: {type: parquet, path: work/vectors}\n"
        ),
        "parameters.yml": f"features: [name]\nsize: 30\nlength: 100\nmodel: {json.dumps(model)}\n",
        "pipelines/p.yml": (
            "nodes:\n"
            "  - {name: cut, function: bucketize, inputs: {df: nodes, input_features: 'params:features',"
            " bucket_size: 'params:size', max_input_len: 'params:length'}, outputs: 'cut@table'}\n"
            "  - {name: embed, function: compute_embeddings, inputs: {dfs: 'cut@partitioned', model: 'params:model'},"
            " outputs: 'vectors@partitioned'}\n"
        ),
        "in/nodes.csv": "id,name\n" + rows,
    })


def first_numbers(binary, folder):
    code, text = flow(binary, folder, "show", "vectors@table", "--head", "100", "--output", "json")
    assert code == 0, text
    return {float(number) for number in re.findall(r'"embedding":\s*\[\s*([0-9.]+)', text)}


def two_servers(binary, folder):
    """The address comes from OPENAI_BASE_URL alone, and points to another server in the second run."""
    api_project(folder, {"provider": "openai", "model": "m", "dimensions": 8})
    one, two = Server(0.25), Server(0.75)
    for server in (one, two):
        code, text = flow(binary, folder, "run", OPENAI_BASE_URL=server.url, OPENAI_API_KEY="none")
        assert code == 0, text
        assert server.requests > 0, f"the server was not asked\n{text}"
        found = first_numbers(binary, folder)
        # Vectors are saved as the server sent them.
        assert found == {server.value}, f"expected {server.value}, found {found}"
    asked = one.requests
    code, text = flow(binary, folder, "run", OPENAI_BASE_URL=one.url, OPENAI_API_KEY="none")
    assert code == 0 and first_numbers(binary, folder) == {one.value}, text
    assert one.requests == asked, "responses that were paid for were requested again"


def slow_server(binary, folder):
    """`timeout: 60`, and a first response after 25 seconds."""
    api_project(folder, {"provider": "openai", "model": "m", "dimensions": 8, "timeout": 60, "base_url": "http://placeholder"})
    server = Server(0.25, delay=25.0)
    parameters = folder / "parameters.yml"
    parameters.write_text(parameters.read_text().replace("http://placeholder", server.url))
    code, text = flow(binary, folder, "run", OPENAI_API_KEY="none")
    assert code == 0, text
    assert server.requests <= 2, f"{server.requests} requests for two partitions\n{text}"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    failed = 0
    for check in (foreign_files, typo_in_suffix, two_servers, slow_server):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            try:
                check(binary, pathlib.Path(folder))
                verdict = "holds"
            except AssertionError as error:
                failed += 1
                verdict = f"FAILS: {error}"
            print(f"{check.__name__} ({time.monotonic() - begin:.1f} s): {verdict}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
