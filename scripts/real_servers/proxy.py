"""A proxy on loopback that counts what passes: every request with its texts, its status, when it began and ended.

It leaves the server when the client has left it, as a client that is connected directly would.
"""

import http.client
import http.server
import json
import select
import socket
import threading
import time

#: Headers of one connection, which a proxy does not pass on.
OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class Exchange:
    """A request and what became of it; `status` is 0 where the client left before there was one."""

    def __init__(self, texts):
        self.texts, self.status, self.tokens, self.begin, self.end = texts, 0, 0, time.monotonic(), None

    @property
    def computed(self):
        """Whether the server may have computed it: anything but a refusal."""
        return not 400 <= self.status < 500


class CountingProxy(http.server.ThreadingHTTPServer):
    """Forwards everything to the server at `port`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), Forwarder)
        self.target, self.exchanges, self.lock = port, [], threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def take(self):
        """The exchanges since the last call."""
        with self.lock:
            taken, self.exchanges = self.exchanges, []
        return taken

    def handle_error(self, request, client_address):
        """A client that leaves is no event."""


class Forwarder(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes: the second would wait up to 40 ms for the client's acknowledgement of the first.
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        exchange = Exchange(texts_in(body))
        with self.server.lock:
            self.server.exchanges.append(exchange)
        try:
            self.forward(body, exchange)
        finally:
            exchange.end = time.monotonic()

    def do_GET(self):
        self.forward(None, Exchange(0))

    def forward(self, body, exchange):
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OF_ONE_CONNECTION}
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.target)
        try:
            upstream.request(self.command, self.path, body, headers)
            if not wait_for_response(upstream.sock, self.connection):
                self.close_connection = True
                return
            response = upstream.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            # What the server did to the proxy, the proxy does to the client.
            self.close_connection = True
            return
        finally:
            upstream.close()
        exchange.status, exchange.tokens = response.status, tokens_in(content)
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in OF_ONE_CONNECTION:
                self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def wait_for_response(server, client):
    """Waits until the server responds (true) or the client leaves (false)."""
    while True:
        ready, _, _ = select.select([server, client], [], [])
        if server in ready:
            return True
        if not client.recv(1, socket.MSG_PEEK):
            return False
        # More bytes of the client: the next request, which waits its turn.
        select.select([server], [], [])
        return True


def texts_in(body):
    try:
        texts = json.loads(body)["input"]
    except (ValueError, KeyError, TypeError):
        return 0
    return len(texts) if isinstance(texts, list) else 1


def tokens_in(content):
    try:
        return int(json.loads(content)["usage"]["total_tokens"])
    except (ValueError, KeyError, TypeError):
        return 0


