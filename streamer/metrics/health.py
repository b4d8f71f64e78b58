"""Is the worker alive? Judged from when its two threads last gave a sign, so that one stuck in a kernel or on a disk shows.

Waiting for the world is alive: a worker in a stall goes round, and a restart would not bring its disk back. Not to have come
out of one task for minutes is not: nothing but a restart ends that.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

# The polling thread goes round ten times a second. Longest of all it is kept by a broker that does not say where logs end
# (three questions of 5 s), and by a flush before partitions go (6 s).
POLLING_LIMIT_S = 60.0
# A batch is a second's work and a commit takes less; kernels that were never compiled on this machine take a minute, and an
# object store may be asked again for three.
TASK_LIMIT_S = 300.0


class Verdict(NamedTuple):
    """Yes or no, and a sentence on it for people."""

    ok: bool
    text: str


class Pulse:
    """When the threads of an engine last gave a sign, and at what. They write it, whoever asks reads it.

    Parameters
    ----------
    clock
        Monotonic seconds.

    Attributes
    ----------
    stepped_at
        When the polling thread last went round.
    doing
        What the table thread is at, and since when: the last time that it began or ended anything. None = it waits to be told.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stack: list[str] = []  # of the table thread alone
        self.stepped_at = clock()
        self.doing: tuple[str, float] | None = None

    def stepped(self) -> None:
        """The polling thread goes round."""
        self.stepped_at = self._clock()

    def enter(self, what: str, now: float) -> None:
        """The table thread begins `what`, as a part of what it is at."""
        self._stack.append(what)
        self.doing = (what, now)

    def leave(self, now: float) -> None:
        """It ends what it began last."""
        self._stack.pop()
        self.doing = (self._stack[-1], now) if self._stack else None

    @contextmanager
    def at(self, what: str) -> Iterator[None]:
        """While the table thread is at `what`."""
        self.enter(what, self._clock())
        try:
            yield
        finally:
            self.leave(self._clock())

    @property
    def busy(self) -> float:
        """Seconds that the table thread has been at it without a sign; 0 when it waits to be told."""
        doing = self.doing
        return max(0.0, self._clock() - doing[1]) if doing else 0.0

    def stuck(self, polling_limit: float = POLLING_LIMIT_S, task_limit: float = TASK_LIMIT_S) -> str:
        """A sentence on the thread that does not come back; empty where both do."""
        doing = self.doing
        if doing and self.busy > task_limit:
            return f"the table thread has been at {doing[0]} for {self.busy:.0f} s (limit {task_limit:.0f} s)"
        silent = self._clock() - self.stepped_at
        if silent > polling_limit:
            return f"the polling thread has not gone round for {silent:.0f} s (limit {polling_limit:.0f} s)"
        return ""
