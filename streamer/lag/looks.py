"""What is remembered of a catalogue and a broker: our own looks, and what others wrote down before the first of them."""

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from schemas.batch import Float64, Int64
from schemas.errors import TroubleError
from streamer.lag.readers import Reader
from streamer.lag.sheet import Bool, Intp, Leaps, Passed, Sheet
from streamer.lag.stand import Key, Place, Stand
from streamer.lag.table import Moves, TableReading
from streamer.lag.window import History, Series

PAST = (300.0, 120.0, 60.0, 30.0, 15.0)  # seconds before the first look of which table and broker can still tell
ASKED = (300.0, 30.0, 120.0, 60.0, 15.0)  # the same, in the order in which a broker is asked: a rate needs two
PAST_SECONDS = 0.5  # after which it is asked no more
OWN = 60.0  # seconds of our own looks after which those suffice


class Trends(NamedTuple):
    """What the looks say of each partition of the last one, in its order; NaN where they do not tell.

    Attributes
    ----------
    produce, consume
        Offsets a second over the window.
    fell
        Whether the durable offset went back within the window.
    ahead
        How many offsets were to be read at the window's beginning; -1 where that is not known.
    quiet
        Seconds since the durable offset moved: as seen, else by the time of the commit.
    ended, end
        When a log was seen for the first time, and where it ended then.
    """

    produce: Float64
    consume: Float64
    fell: Bool
    ahead: Int64
    quiet: Float64
    ended: Float64
    end: Int64


class Looks:
    """Series of ends, starts and durable offsets, and when each reader was last heard of.

    Parameters
    ----------
    window
        Seconds that rates see.
    table
        The rows table: it knows when its commits were made.
    ended
        Asks the broker where logs ended at a time, ms since 1970 UTC, by the messages' own times.
    """

    def __init__(
        self, window: float, table: TableReading, ended: Callable[[Mapping[Place, int]], dict[Place, int]]
    ) -> None:
        self._window, self._table, self._ended = window, table, ended
        self._seen = History()
        self._past = History(len(PAST))
        self._alive: dict[Reader, tuple[float, float]] = {}  # last sign of life by its own clock, and when we saw it
        self._first: float | None = None
        self._stands: Sequence[Stand] = ()  # of the last look
        self._places: list[Place] = []  # of those, each once
        self._of: Intp = np.zeros(0, np.intp)  # place of each

    def record(self, now: float, stands: Sequence[Stand]) -> None:
        """Remember a look. Before the first, what the table and the messages' times tell of the time before is recalled."""
        first = {stand.place: stand for stand in reversed(stands)}
        index = {place: k for k, place in enumerate(first)}
        self._stands, self._places = stands, list(first)
        self._of = np.array([index[stand.place] for stand in stands], np.intp)
        seen: dict[Hashable, int] = {stand.key: stand.durable for stand in stands if stand.durable is not None}
        for place, stand in first.items():
            seen["end", place], seen["start", place] = stand.end, stand.start
        if self._first is None:
            self._first = now
            self._recall(now, stands)
        elif len(self._past) and now - self._first > 2 * OWN:
            self._past = History(1)
        for place, end in zip(self._places, _newest(self._ends()), strict=True):
            if end > seen["end", place]:  # it lost messages: what came when is not known any more
                self._seen.forget(("end", place))
                self._past.forget(("end", place))
        self._seen.add(now, seen)
        for reader in {stand.key[0] for stand in stands}:
            said = self._table.alive.get(reader, 0.0)
            if reader not in self._alive or self._alive[reader][0] != said:
                self._alive[reader] = (said, now if reader in self._alive else 0.0)

    def forget(self, places: Iterable[Place]) -> None:
        """Partitions of a topic that was recreated have another past."""
        for place in places:
            for history in (self._seen, self._past):
                history.forget(("end", place))
                history.forget(("start", place))

    def leave(self, readers: Iterable[Reader]) -> None:
        """Readers that are not looked at any more."""
        for reader in readers:
            self._alive.pop(reader, None)

    def passed(self, offsets: Sequence[int]) -> Passed:
        """When the log of each partition of the last look grew past an offset, at our own looks."""
        return self._ends().rows(self._of).passed(np.asarray(offsets, np.int64))

    def trends(self, now: float) -> Trends:
        """What the looks say of each partition of the last one."""
        keys = [stand.key for stand in self._stands]
        ends = self._window_of([("end", place) for place in self._places], now)
        durable = self._window_of(keys, now)
        ended, end = self._ends().first()
        of = self._of
        return Trends(
            produce=ends.rate()[of],
            consume=durable.rate(),
            fell=durable.fell(),
            ahead=ends.rows(of).ahead(durable),
            quiet=self._quiet(now, keys),
            ended=ended[of],
            end=end[of],
        )

    def leaps(self) -> Leaps:
        """How the log of each partition of the last look began."""
        return Sheet.of(*self._seen.looks(("start", place) for place in self._places)).rows(self._of).leaps()

    def lags(self, now: float, place: Place, key: Key) -> Float64:
        """How many offsets were to be read, over the window, oldest first."""
        ends, durable = (self._joined(of).since(now - self._window) for of in (("end", place), key))
        if not len(ends.at) or not len(durable.at):
            return np.zeros(0)
        return np.maximum(ends.value - np.interp(ends.at, durable.at, durable.value), 0.0)

    def silent(self, now: float, reader: Reader) -> float:
        """Seconds since the model wrote anything of the topic: as seen, else by the time of its last commit."""
        said, seen = self._alive[reader]
        if seen:
            return now - seen
        watched = now - (self._first or now)
        said = said or self._table.since or now
        return max(watched, now - said)

    def _ends(self) -> Sheet:
        """Where the logs of the last look ended, by place, at our own looks."""
        return Sheet.of(*self._seen.looks(("end", place) for place in self._places))

    def _quiet(self, now: float, keys: Sequence[Key]) -> Float64:
        seen = Sheet.of(*self._seen.looks(keys))
        watched = np.nan_to_num(now - seen.first()[0])
        written = [self._table.written.get(key, self._table.since) for key in keys]
        told = np.fmax(watched, now - np.array(written, np.float64))  # None becomes NaN
        moved = seen.moved()
        return np.where(np.isnan(moved), told, now - moved)

    def _window_of(self, keys: Sequence[Hashable], now: float) -> Sheet:
        """Over the window: with what is known of before while our looks are few."""
        at, value = self._seen.looks(keys)
        if self._young(now):
            then, was = self._past.looks(keys)
            at, value = np.concatenate([then, at]), np.concatenate([was, value], axis=1)
        inside = int(np.searchsorted(at, now - self._window))
        return Sheet.of(at[inside:], value[:, inside:])

    def _joined(self, key: Hashable) -> Series:
        seen, past = self._seen.of(key), self._past.of(key)
        if not len(seen.at) or not self._young(float(seen.at[-1])):
            return seen
        return Series(np.concatenate([past.at, seen.at]), np.concatenate([past.value, seen.value]))

    def _young(self, now: float) -> bool:
        """Whether our own looks are too few to suffice."""
        return bool(len(self._past)) and now - (self._first or 0.0) < OWN

    def _recall(self, now: float, stands: Sequence[Stand]) -> None:
        moves = self._table.past(now - PAST[0])
        known: dict[float, dict[Hashable, int]] = {}
        for ago in PAST:
            then = now - ago
            was = ((stand.key, _was(moves.get(stand.key), stand.durable, then, self._table.since)) for stand in stands)
            known[then] = {key: offset for key, offset in was if offset is not None}
        begun = time.monotonic()
        for ago in ASKED:  # a broker has to search for a time in each partition
            try:
                ended = self._ended(dict.fromkeys(self._places, int((now - ago) * 1e3)))
            except TroubleError:  # it tells where logs end, and not in time where they ended then
                break
            known[now - ago] |= {("end", place): offset for place, offset in ended.items()}
            if time.monotonic() - begun > PAST_SECONDS:
                break
        for then, offsets in known.items():
            self._past.add(then, offsets)


def _newest(sheet: Sheet) -> list[int]:
    """Where each row was at the last look that knew it, -1 where none did."""
    return sheet.value[:, -1].tolist() if sheet.value.shape[1] else [-1] * len(sheet.value)


def _was(moves: Moves | None, durable: int | None, then: float, since: float | None) -> int | None:
    """The durable offset at the time `then`; None where the entries that were read do not tell."""
    if moves is None:  # no commit moved it since the first entry that was read
        return durable if since is not None and since <= then else None
    before = sum(at <= then for at in moves.at)
    return moves.offset[before - 1] if before else None
