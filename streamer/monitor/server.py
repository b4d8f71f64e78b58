"""Serves the monitor until a signal comes, and then ends at once: nothing of it has to be brought to an end."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from schemas.errors import UserError

GOING_SECONDS = 1  # that answers under way may take when a signal has come
MOST_CONNECTIONS = 400


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises
    ------
    UserError
        The port is taken, or there is no such address here.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise UserError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}): say another --port."
        ) from None


class Server(uvicorn.Server):
    """Tells the streams when it goes, and does not raise the signal again: to be told to stop is no failure.

    Parameters
    ----------
    app
        What answers.
    going
        Called when the end has come, to end what streams.
    """

    def __init__(self, app: ASGIApp, going: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=GOING_SECONDS,
            ws="none",
        )
        super().__init__(config)
        self._going = going

    def serve_until_told(self, listening: socket.socket) -> None:
        """Answer on `listening` until SIGTERM or Ctrl-C, or until ``should_exit`` is set."""
        asyncio.run(self.serve(sockets=[listening]))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours to be told once."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams first: they would not end by themselves."""
        self._going()
        await super().shutdown(sockets)
