"""Looks at broker and table every few seconds, in a thread of its own, and keeps what it saw."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from deltalake.exceptions import DeltaError

from schemas.errors import SlipherError, TroubleError
from streamer.lag.broker import Refused
from streamer.lag.standing import Standing
from streamer.lag.totals import Total, totals
from streamer.lag.watch import NothingRead
from streamer.monitor.history import History
from streamer.monitor.verdict import Away

BROKER, TABLE = "the broker is", "the catalogue is"
STUCK_SECONDS = 120.0  # a look that takes longer hangs: every question in it has a time limit of seconds

_log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """What is known now.

    Attributes
    ----------
    number
        Of the look, from 1; 0 before the first.
    at
        When the last look that succeeded began, seconds since 1970 UTC; None before the first.
    took
        Seconds that it lasted.
    standings, totals
        What it saw.
    away
        What did not answer the last look, or refused to, and since when.
    """

    number: int = 0
    at: float | None = None
    took: float = 0.0
    standings: tuple[Standing, ...] = ()
    totals: tuple[Total, ...] = ()
    away: tuple[Away, ...] = ()

    def is_away(self, who: str) -> bool:
        """Whether `who` (BROKER, TABLE) did not answer the last look."""
        return any(a.who == who for a in self.away)


class Sampler:
    """The thread: ``start``, then ``seen`` at any time from any thread, ``stop`` at the end.

    Parameters
    ----------
    look
        One look at all partitions; raises ``SlipherError`` where the world does not answer.
    root
        The catalogue: asked when a look fails, to say which side it was.
    every
        Seconds from one look to the next.
    clock
        Seconds since 1970 UTC.
    """

    def __init__(
        self,
        look: Callable[[], list[Standing]],
        root: Path,
        every: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._look, self._root, self._every, self._clock = look, root, every, clock
        self._told: Callable[[Seen], None] = lambda _: None
        self.history = History()
        self.seen = Seen()
        self._began: float | None = None  # monotonic, of the look under way
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def tell(self, told: Callable[[Seen], None]) -> None:
        """Call `told` after each look, in the sampler's thread."""
        self._told = told

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. A look under way is not waited for: it changes nothing."""
        self._stop.set()

    def trouble(self) -> str | None:
        """Why the monitor is not alive; None while it is."""
        if self._thread.ident is not None and not self._thread.is_alive() and not self._stop.is_set():
            return "the thread that looks at broker and table has died"
        began = self._began
        if began is not None and time.monotonic() - began > STUCK_SECONDS:
            return f"a look at broker and table has lasted {time.monotonic() - began:.0f} s"
        return None

    def step(self) -> Seen:
        """One look, kept and told."""
        now, begun = self._clock(), time.monotonic()
        self._began = begun
        try:
            standings = self._look()
        except NothingRead as error:  # no trouble: where nothing was read, nothing lags
            _log.info("%s", error)
            seen = Seen(self.seen.number + 1, now, time.monotonic() - begun)
        except (SlipherError, DeltaError, OSError) as error:
            seen = self._failed(error, now)
        else:
            whole = totals(standings)
            self.history.add(now, standings, whole)
            seen = Seen(self.seen.number + 1, now, time.monotonic() - begun, tuple(standings), tuple(whole))
        finally:
            self._began = None
        if self.seen.away and not seen.away:
            _log.info("broker and table answer again")
        self.seen = seen
        self._told(seen)
        return seen

    def _failed(self, error: Exception, now: float) -> Seen:
        """What was seen before stays, and who is away is said beside it."""
        who = BROKER if isinstance(error, (TroubleError, Refused)) and self._table_answers() else TABLE
        since = next((a.since for a in self.seen.away if a.who == who), now)
        if not self.seen.is_away(who):
            _log.warning("%s away: %s", who, error)
        return self.seen._replace(number=self.seen.number + 1, away=(Away(who, since, str(error)),))

    def _table_answers(self) -> bool:
        from streamer.catalogue import open_catalogue

        try:
            open_catalogue(self._root)
        except (SlipherError, DeltaError, OSError):
            return False
        return True

    def _run(self) -> None:
        next_look = time.monotonic()
        while not self._stop.is_set():
            try:
                self.step()
            except Exception:
                _log.exception("a look failed for a reason that nobody thought of")
            next_look = max(next_look + self._every, time.monotonic())
            self._stop.wait(next_look - time.monotonic())
