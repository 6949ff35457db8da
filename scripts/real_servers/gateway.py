"""LiteLLM as a gateway in front of a server, with limits on requests, tokens and requests at a time, and how much of them is used.

The limits belong to the key, as LiteLLM has them, and are told to it by a `custom_auth` of our own: no database. Behind it is
a server that answers after `LATENCY_SECONDS` with vectors that say nothing, so that the limits and not the model decide.
"""

import contextlib
import http.server
import json
import secrets
import threading
import time

from servers import MODEL, Environment, Unavailable, free_port, started

PACKAGES = ["litellm[proxy]"]
WINDOW_SECONDS = 60
LATENCY_SECONDS = 0.3
ROWS_A_REQUEST = 10

#: What is tried: the limits, as LiteLLM names them.
LIMITS = [
    {"rpm_limit": 60},
    {"tpm_limit": 30_000},
    {"max_parallel_requests": 2},
    {"rpm_limit": 90, "tpm_limit": 30_000, "max_parallel_requests": 2},
]

CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params: {{model: "openai/{model}", api_base: "http://127.0.0.1:{port}/v1", api_key: none}}
litellm_settings: {{drop_params: false, num_retries: 0}}
general_settings: {{custom_auth: limits.check, master_key: "sk-{secret}"}}
"""

CHECK = """\
from litellm.proxy._types import UserAPIKeyAuth


async def check(request, api_key):
    return UserAPIKeyAuth(api_key=api_key, **{limits})
"""


class Upstream(http.server.ThreadingHTTPServer):
    """An embeddings API that takes its time; a token is four bytes."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
        time.sleep(LATENCY_SECONDS)
        vector = [0.1] * 100
        data = [{"object": "embedding", "index": i, "embedding": vector} for i in range(len(texts))]
        tokens = sum(len(text.encode()) // 4 + 1 for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        content = json.dumps({"object": "list", "model": MODEL, "data": data, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def gateway(folder, limits, behind):
    """LiteLLM with these limits in front of the port `behind`; its own port."""
    environment = Environment(folder, "litellm")
    environment.install(PACKAGES)
    config = environment.folder / "config.yaml"
    config.write_text(CONFIG.format(model=MODEL, port=behind, secret=secrets.token_hex(32)))
    (environment.folder / "limits.py").write_text(CHECK.replace("{limits}", repr(limits)))
    port = free_port()
    command = [environment.program("litellm"), "--config", config, "--host", "127.0.0.1", "--port", str(port)]
    with started(command, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}, port, environment.folder / "log.txt"):
        yield port


def used(limits, exchanges):
    """The share of the tightest limit that was used, from 0 to 1 and a little above where a gateway counts late."""
    if not exchanges:
        raise Unavailable("nothing was sent")
    shares = {"rpm_limit": 0.0, "tpm_limit": 0.0, "max_parallel_requests": 0.0}
    granted = [exchange for exchange in exchanges if exchange.status == 200]
    whole = whole_windows(granted)
    if "rpm_limit" in limits:
        shares["rpm_limit"] = len(whole) / limits["rpm_limit"] / windows(granted)
    if "tpm_limit" in limits:
        shares["tpm_limit"] = sum(exchange.tokens for exchange in whole) / limits["tpm_limit"] / windows(granted)
    if "max_parallel_requests" in limits:
        busy = sum(exchange.end - exchange.begin for exchange in granted)
        shares["max_parallel_requests"] = busy / limits["max_parallel_requests"] / span(granted)
    return max(shares.values())


def span(granted):
    return max(exchange.end for exchange in granted) - granted[0].begin


def windows(granted):
    """How many whole windows of a minute there were, counted from the first request."""
    return max(1, int(span(granted) // WINDOW_SECONDS))


def whole_windows(granted):
    """What was granted in whole windows: the last one ends with the work."""
    until = granted[0].begin + windows(granted) * WINDOW_SECONDS
    return [exchange for exchange in granted if exchange.begin < until]
