"""A thread that does what it is told, one after the other."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class InOrder:
    """One thread and its queue. Unlike an executor's, it does not keep the process alive: a disk that hangs must not.

    Parameters
    ----------
    name
        Of the thread. It runs in the context of whoever first tells it something.
    """

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._name = name
        self._thread: threading.Thread | None = None

    def submit(self, what: Callable[P, T], *args: P.args, **more: P.kwargs) -> Future[T]:
        """Do `what` after all that was told before."""
        if self._thread is None:
            context = copy_context()
            self._thread = threading.Thread(target=context.run, args=(self._run,), name=self._name, daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._queue.put((future, lambda: what(*args, **more)))
        return future

    def end(self, seconds: float) -> bool:
        """Nothing more will be told; whether all was done within `seconds`."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.busy

    @property
    def busy(self) -> bool:
        """Whether the thread is still there."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        while (told := self._queue.get()) is not None:
            future, what = told
            try:
                future.set_result(what())
            except BaseException as error:
                future.set_exception(error)
            del told, future, what  # a batch must not wait here for the next one
