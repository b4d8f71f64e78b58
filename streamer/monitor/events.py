"""Server-sent events: each browser gets the newest of each kind; one that is slow misses what it could not take."""

import asyncio
from collections.abc import AsyncIterator

MOST_BROWSERS = 100
RETRY = b"retry: 2000\n\n"  # milliseconds that a browser waits before it asks again


class Full(Exception):
    """As many browsers listen as may."""


class Events:
    """Where what happens is told, and who listens. All of it in the event loop's thread."""

    def __init__(self) -> None:
        self._last: dict[str, bytes] = {}
        self._listeners: set[_Listener] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._listeners)

    def tell(self, kind: str, data: bytes) -> None:
        """Send `data`, one line of text, to all that listen, and first thing to those that will."""
        event = b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
        self._last[kind] = event
        for listener in self._listeners:
            listener.waiting[kind] = event
            listener.woken.set()

    def listen(self) -> AsyncIterator[bytes]:
        """Events as they come, until ``close``.

        Raises
        ------
        Full
            Too many listen already.
        """
        if len(self._listeners) >= MOST_BROWSERS:
            raise Full
        listener = _Listener(dict(self._last))
        self._listeners.add(listener)
        return self._stream(listener)

    def close(self) -> None:
        """End all streams: a server that goes waits for nobody."""
        self._closed = True
        for listener in self._listeners:
            listener.woken.set()

    async def _stream(self, listener: "_Listener") -> AsyncIterator[bytes]:
        try:
            yield RETRY
            while not self._closed:
                await listener.woken.wait()
                listener.woken.clear()
                waiting, listener.waiting = listener.waiting, {}
                for event in waiting.values():
                    yield event
        finally:
            self._listeners.discard(listener)


class _Listener:
    """A browser, and what it was not yet sent."""

    def __init__(self, waiting: dict[str, bytes]) -> None:
        self.waiting = waiting
        self.woken = asyncio.Event()
        self.woken.set()
