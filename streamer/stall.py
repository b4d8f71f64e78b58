"""Waiting for the world: what a batch needs is away, so it is tried again, less and less often, until it is there."""

import logging
import time
from collections.abc import Callable

from deltalake.exceptions import DeltaError, DeltaProtocolError, SchemaMismatchError

from schemas.errors import TroubleError

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
SAY_S = 60.0
TROUBLE = (TroubleError, OSError, DeltaError, MemoryError)  # of a table or its disk, a registry, a broker: it may pass
LASTING = (DeltaProtocolError, SchemaMismatchError)  # that of a table which waiting does not mend


class Stall:
    """When to try again, and when to say so.

    Parameters
    ----------
    clock
        Monotonic seconds.
    begins
        Called when something begins to be waited for.

    Attributes
    ----------
    on
        Whether something is waited for.
    why
        What is in the way, or was, for people.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, begins: Callable[[], None] = lambda: None) -> None:
        self.on = False
        self.why = ""
        self._clock, self._begins = clock, begins
        self._since = self._said = self._next = 0.0
        self._pause = FIRST_PAUSE_S

    @property
    def due(self) -> bool:
        """Whether it is time to try again."""
        return self._clock() >= self._next

    def failed(self, trouble: BaseException) -> None:
        """A try failed. Raises `trouble` where waiting does not mend it."""
        if isinstance(trouble, LASTING):
            raise trouble
        now = self._clock()
        self.why = sentence(trouble)
        if not self.on:
            self._begins()
            self._since, self._pause = now, FIRST_PAUSE_S
        if not self.on or now - self._said >= SAY_S:
            log.warning("waiting; no partition is given up and no message refused. %s", self.why)
            self._said = now
        self._next = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        self.on = True

    def hurry(self) -> None:
        """Something changed: try again at once."""
        self._next = self._clock()

    def over(self) -> None:
        """A try went well."""
        if self.on:
            seconds = self._clock() - self._since
            log.warning("going on after %.0f s", seconds, extra={"seconds": round(seconds, 3)})
        self.on = False


def sentence(trouble: BaseException) -> str:
    """What is in the way, for people."""
    if isinstance(trouble, TroubleError):
        return str(trouble)
    if isinstance(trouble, MemoryError):
        return "There is not memory enough for a batch."
    return f"The catalogue cannot be read or written: {trouble}."
