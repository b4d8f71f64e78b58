"""A small HTTP server in a thread of its own: /metrics for Prometheus, /healthz and /readyz for whoever keeps the process."""

import logging
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.exposition import choose_encoder

from schemas.errors import UserError
from streamer.metrics.health import Verdict
from streamer.metrics.meters import Meters

log = logging.getLogger(__name__)

MOST = 32  # connections at once
ANYONE_SECONDS = 10.0  # that a client may take to say what it wants, and to hear the answer
TEXT = "text/plain; charset=utf-8"


class Server:
    """Serves until the process ends.

    Parameters
    ----------
    host, port
        Where it listens; port 0 = any that is free.
    meters
        What /metrics shows.
    alive, ready
        What /healthz and /readyz say: 200 or 503, and the sentence.

    Raises
    ------
    UserError
        It cannot listen there.
    """

    def __init__(
        self, host: str, port: int, meters: Meters, alive: Callable[[], Verdict], ready: Callable[[], Verdict]
    ) -> None:
        class Handler(_Handler):
            answers = {"/healthz": alive, "/readyz": ready}  # noqa: RUF012 - nobody mutates it

        Handler.meters = meters
        try:
            self._server = (_V6 if ":" in host else _V4)((host, port), Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"--metrics-port {port}: nothing can listen at {host}:{port} ({reason}).") from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _V4(ThreadingHTTPServer):
    """A thread a connection, and not more than ``MOST`` of them."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._room = threading.BoundedSemaphore(MOST)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """As `HTTPServer` does, less its question to a name server what we are called: a broken one takes its time."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is not worth a line; a fault of ours is."""
        level = logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR
        log.log(level, "answering a request failed", exc_info=True)


class _V6(_V4):
    address_family = AF_INET6


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of three paths. Nothing of a request is believed, logged or given back."""

    meters: Meters
    answers: dict[str, Callable[[], Verdict]]
    timeout = ANYONE_SECONDS
    server_version, sys_version = "slipher", ""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._say(200, kind, encode(self.meters))
        elif path in self.answers:
            verdict = self.answers[path]()
            self._say(200 if verdict.ok else 503, TEXT, f"{verdict.text}\n".encode())
        else:
            self._say(404, TEXT, b"/metrics, /healthz, /readyz\n")

    do_HEAD = do_GET

    def _say(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Who asks is not worth a line every few seconds."""
