"""LiteLLM as a gateway in front of infinity, with limits on requests, tokens and requests at a time, and how much of them is used.

The limits belong to the key, as LiteLLM has them, and are told to it by a `custom_auth` of our own: no database. Requests are
small, so that the limits and not the model decide.
"""

import contextlib
import secrets

from servers import MODEL, Environment, Unavailable, free_port, started

PACKAGES = ["litellm[proxy]"]
WINDOW_SECONDS = 60
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
