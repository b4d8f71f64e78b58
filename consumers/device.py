"""The thread that asks the device: what several batches want is put together, until there is enough of it or somebody waits."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from models.images.engine import Engine
from models.images.estimator import Ask
from schemas.batch import Float32
from schemas.errors import SlipherError

SECONDS = 0.02  # that an ask waits for others to fill the engine's batch
WAITING = 4  # asks handed over and not yet taken: of 32 MB of stamps at most each; who has more to ask waits
LOOK_SECONDS = 0.2  # from one look at whether all is over to the next, of one who waits for room


class Closed(SlipherError):
    """The device is given back: nobody wants the answer any more."""

    exit_code = 75


class _Asked(NamedTuple):
    ask: Ask
    answer: "Future[Float32]"


class Device:
    """An engine in a thread of its own, which begins with the first question.

    Parameters
    ----------
    engine
        Answers.
    seconds
        That an ask waits for others.
    clock
        Monotonic seconds.
    """

    def __init__(self, engine: Engine, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._seconds, self._clock = engine, seconds, clock
        self._asked: queue.Queue[_Asked | None] = queue.Queue(WAITING)
        self._coming = 0  # batches that may ask more
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def __enter__(self) -> "Device":
        """A batch that will ask begins; while there are others, an ask is worth waiting."""
        with self._lock:
            self._coming += 1
            if not self._thread.is_alive() and not self._closed.is_set():
                self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """It has asked all."""
        with self._lock:
            self._coming -= 1

    def ask(self, ask: Ask) -> "Future[Float32]":
        """The probabilities of `ask`, in time. Waits while the device has enough to do.

        Raises
        ------
        Closed
            The device is given back.
        """
        answer: Future[Float32] = Future()
        while not self._closed.is_set():
            try:
                self._asked.put(_Asked(ask, answer), timeout=LOOK_SECONDS)
            except queue.Full:
                continue
            if self._closed.is_set():
                self._refuse()  # it may have come when nobody looked any more
            return answer
        raise Closed("The device is given back.")

    def close(self) -> None:
        """Answer no more; who waits is told so. Returns at once: what the device does now ends in its own time."""
        self._closed.set()
        self._refuse()

    def _refuse(self) -> None:
        while True:
            try:
                asked = self._asked.get_nowait()
            except queue.Empty:
                break
            if asked is not None:
                asked.answer.set_exception(Closed("The device is given back."))
        with contextlib.suppress(queue.Full):
            self._asked.put_nowait(None)  # wakes the thread

    def _run(self) -> None:
        while (first := self._asked.get()) is not None and not self._closed.is_set():
            self._answer(self._together(first))
        if first is not None:
            first.answer.set_exception(Closed("The device is given back."))

    def _together(self, first: _Asked) -> list[_Asked]:
        """`first` and what comes behind it, up to the engine's batch, or the time it waits."""
        found, rows, end = [first], len(first.ask.rows), self._clock() + self._seconds
        while rows < self._engine.batch:
            try:
                left = end - self._clock() if self._coming else 0.0
                one = self._asked.get(timeout=left) if left > 0 else self._asked.get_nowait()
            except queue.Empty:
                break
            if one is None:
                with contextlib.suppress(queue.Full):
                    self._asked.put_nowait(None)  # it was for the loop, which ends by it
                break
            found.append(one)
            rows += len(one.ask.rows)
        return found

    def _answer(self, asked: list[_Asked]) -> None:
        try:
            if len(asked) == 1:
                stamps, columns = asked[0].ask.stamps, asked[0].ask.columns
            else:
                stamps = np.concatenate([one.ask.stamps for one in asked])
                columns = np.concatenate([one.ask.columns for one in asked])
            answers = self._engine.probabilities(stamps, columns)
        except BaseException as error:
            for one in asked:
                one.answer.set_exception(error)
            return
        first = 0
        for one in asked:
            one.answer.set_result(answers[first : first + len(one.ask.rows)])
            first += len(one.ask.rows)
