"""Waiting for the world: what a batch needs is away, so it is tried again, less and less often, until it is there."""

import errno
import logging
import re
import time
from collections.abc import Callable

from deltalake.exceptions import DeltaError, DeltaProtocolError, SchemaMismatchError

from schemas.errors import TroubleError, one_line

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
SAY_S = 60.0
# What a person has to mend is given so long: a remount, a failover of a file server, a deployment that sets permissions last
# take less, and five minutes of a survey are read again in one. A worker that has stopped is seen by whatever looks after it;
# one that waits for ever only by those who read its lines.
PATIENCE_S = 300.0
FOR_A_PERSON = (
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)  # not ENOSPC, EDQUOT, EIO, ENOENT, ESTALE: room is made, disks and mounts come back
_NUMBER = re.compile(r"\(os error (\d+)\)")  # as the table's library says it
_REFUSED = ("lacked the necessary privileges", "lacked valid authentication")  # an object store, in the library's words
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
        # What only a person mends, and since when nothing landed.
        self._standing: tuple[int | None, float] = (None, 0.0)
        self._failed_at = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to try again."""
        return self._clock() >= self._next

    def failed(self, trouble: BaseException) -> None:
        """A try failed. Raises `trouble` where waiting does not mend it.

        Raises
        ------
        TroubleError
            The same error, of a kind that only a person mends, stands for `PATIENCE_S`, and nothing was committed meanwhile.
        """
        if isinstance(trouble, LASTING):
            raise trouble
        now = self._clock()
        self.why = sentence(trouble)
        kind = for_a_person(trouble)
        # What stands comes back within seconds, for what is not durable is read again: a quiet time was a good one.
        quiet, self._failed_at = not self.on and now - self._failed_at >= PATIENCE_S, now
        if kind != self._standing[0] or quiet:
            self._standing = kind, now
        elif kind is not None and now - self._standing[1] >= PATIENCE_S:
            minutes = (now - self._standing[1]) / 60
            raise TroubleError(
                f"{self.why} It was so {minutes:.0f} minutes ago, nothing could be committed since, and it does not "
                f"pass by itself: mend it and start again. Nothing is lost, what is not durable is read again."
            ) from trouble
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

    def landed(self) -> None:
        """A commit went well: claims may go well for ever where rows cannot be written."""
        self._standing = None, 0.0

    def over(self) -> None:
        """A try went well."""
        if self.on:
            seconds = self._clock() - self._since
            log.warning("going on after %.0f s", seconds, extra={"seconds": round(seconds, 3)})
        self.on = False


def for_a_person(trouble: BaseException) -> int | None:
    """The number of an error of the system that waiting does not mend; None where it may pass."""
    if isinstance(trouble, OSError) and trouble.errno is not None:
        return trouble.errno if trouble.errno in FOR_A_PERSON else None
    text = str(trouble)
    if any(words in text for words in _REFUSED):
        return errno.EACCES
    found = _NUMBER.search(text)
    return int(found[1]) if found and int(found[1]) in FOR_A_PERSON else None


def sentence(trouble: BaseException) -> str:
    """What is in the way, for people."""
    if isinstance(trouble, TroubleError):
        return str(trouble)
    if isinstance(trouble, MemoryError):
        return "There is not memory enough for a batch."
    return one_line(f"The catalogue cannot be read or written: {trouble}.")
