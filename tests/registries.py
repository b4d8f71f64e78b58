"""Schema registries for tests: a client's side of the real one, and one of a few lines that misbehaves as it is told."""

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


def register(url: str, subject: str, schema: Any, **more: Any) -> int:
    """The id of `schema` under `subject`."""
    body = json.dumps({"schema": json.dumps(schema), **more}).encode()
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = urllib.request.Request(f"{url}/subjects/{subject}/versions", body, headers)
    with urllib.request.urlopen(request, timeout=20) as response:
        return int(json.loads(response.read())["id"])


def strict(url: str, subject: str) -> None:
    """From now on `subject` takes only schemas whose readers can read what is there."""
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = urllib.request.Request(f"{url}/config/{subject}", b'{"compatibility": "BACKWARD"}', headers, method="PUT")
    with urllib.request.urlopen(request, timeout=20) as response:
        assert json.loads(response.read())["compatibility"] == "BACKWARD"


class StandIn:
    """A registry of `schemas` (id -> answer, or a function that answers); everything that is asked is in `asked`.

    `instead` are answers to give first, whatever is asked.
    """

    def __init__(self, schemas: dict[int, Any] | None = None) -> None:
        self.paths: dict[str, Any] = {f"/schemas/ids/{k}": v for k, v in (schemas or {}).items()}
        self.instead: list[Answer] = []
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        standin = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def do_GET(self) -> None:
                standin.asked.append(self.path)
                standin.headers.append(dict(self.headers))
                answer = standin.instead.pop(0) if standin.instead else standin.paths.get(self.path, missing)
                if callable(answer):
                    answer(self)
                else:
                    say(200, json.dumps(answer).encode())(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that gave up are no error
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @contextmanager
    def running(self) -> Iterator["StandIn"]:
        """Serve."""
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()


def say(status: int, body: bytes, length: int | None = None) -> Answer:
    """Answer `status` with `body`, said to be `length` bytes long."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def missing(handler: BaseHTTPRequestHandler) -> None:
    """As a registry says that it has no such schema."""
    say(404, b'{"error_code": 40403, "message": "Schema not found"}')(handler)
