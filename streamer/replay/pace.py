"""How fast a replay may go: not faster than it was told, and not at all while those who read live fall behind."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

STRETCH = 0.5  # seconds of work that may be read at once
FULL = 20_000  # messages that a poll may bring where nobody limits them
LOOK_SECONDS = 2.0  # between two looks at the lag of others
WINDOW = 12.0  # seconds over which the least lag counts: it rises and falls with each commit, every 5 s by default
MARGIN = 500  # offsets that a lag may grow without meaning anything


class Pace:
    """Says how many messages may be read now, from the rows that came of those before.

    Parameters
    ----------
    rows_a_second
        The limit; None = none.
    waits
        Whether to wait for others.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        rows_a_second: float | None,
        waits: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._waits, self._clock = rows_a_second, waits, clock
        self._lock = threading.Lock()  # rows are counted in another thread than that which asks
        self._debt, self._at = 0.0, clock()
        self._rows_a_message = 1.0

    def spent(self, messages: int, rows: int) -> None:
        """So many `messages` became so many `rows`."""
        with self._lock:
            self._pay()
            self._debt += rows
            if messages:
                self._rows_a_message += 0.3 * (max(rows / messages, 0.01) - self._rows_a_message)

    def room(self) -> int:
        """How many messages may be read now; 0 = wait."""
        if self._waits():
            return 0
        if self._rate is None:
            return FULL
        with self._lock:
            self._pay()
            if self._debt > 0:
                return 0
            return max(1, min(FULL, int(self._rate * STRETCH / self._rows_a_message)))

    def _pay(self) -> None:
        now = self._clock()
        self._debt = max(0.0, self._debt - (now - self._at) * (self._rate or 0.0))
        self._at = now


class Place(NamedTuple):
    """How far a live reader is: the sum of its durable offsets, and its lag, offsets."""

    durable: int
    lag: int


class LiveLag:
    """Whether those who read live fall behind, so that a replay should wait.

    A reader counts while it is alive: its durable offsets move. It falls behind where its least lag of the last `WINDOW`
    seconds is more than that of the window before; it has caught up once it is back where it was, or gone.

    Parameters
    ----------
    measure
        The live readers by name.
    clock
        Monotonic seconds.
    """

    def __init__(self, measure: Callable[[], Mapping[str, Place]], clock: Callable[[], float] = time.monotonic) -> None:
        self._measure, self._clock = measure, clock
        self._seen: dict[str, deque[tuple[float, Place]]] = {}
        self._level: dict[str, int] = {}  # of those we wait for: the lag to which they must come back
        self._looked = -LOOK_SECONDS

    @property
    def behind(self) -> list[str]:
        """Whom we wait for."""
        return sorted(self._level)

    def __call__(self) -> bool:
        """Look, where it is time, and say whether to wait."""
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            places = self._measure()
            for name in self._seen.keys() | places.keys():
                self._judge(name, places.get(name), now)
        return bool(self._level)

    def _judge(self, name: str, place: Place | None, now: float) -> None:
        seen = self._seen.setdefault(name, deque())
        if place is not None:
            seen.append((now, place))
        while seen and seen[0][0] < now - 2 * WINDOW:
            seen.popleft()
        new = [p for at, p in seen if at >= now - WINDOW]
        old = [p for at, p in seen if at < now - WINDOW]
        moves = len({p.durable for _, p in seen}) > 1
        if not new or not moves:
            self._level.pop(name, None)
            return
        lag = min(p.lag for p in new)
        if name in self._level:
            if lag <= self._level[name] + MARGIN:
                del self._level[name]
        elif old and lag > (before := min(p.lag for p in old)) + MARGIN:
            self._level[name] = before
