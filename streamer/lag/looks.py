"""What is remembered of a catalogue and a broker: our own looks, and what others wrote down before the first of them."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np

from schemas.batch import Float64
from streamer.lag.readers import Reader
from streamer.lag.stand import Key, Place, Stand
from streamer.lag.table import Moves, TableReading
from streamer.lag.window import History, Series

PAST = (300.0, 120.0, 60.0, 30.0, 15.0)  # seconds before the first look of which table and broker can still tell
OWN = 60.0  # seconds of our own looks after which those suffice


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
        self._produced: dict[Place, Series] = {}  # at the last look, for all readers of a partition

    def record(self, now: float, stands: Sequence[Stand]) -> None:
        """Remember a look. Before the first, what the table and the messages' times tell of the time before is recalled."""
        self._produced.clear()
        seen: dict[Hashable, int] = {}
        for stand in stands:
            seen["end", stand.place] = stand.end
            seen["start", stand.place] = stand.start
            if stand.durable is not None:
                seen[stand.key] = stand.durable
        if self._first is None:
            self._first = now
            self._recall(now, stands)
        elif len(self._past) and now - self._first > 2 * OWN:
            self._past = History(1)
        for place in {stand.place for stand in stands}:
            ends = self.ends(place).value
            if len(ends) and ends[-1] > seen["end", place]:  # it lost messages: what came when is not known any more
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

    def ends(self, place: Place) -> Series:
        """Where a log ended, at our own looks."""
        return self._seen.of(("end", place))

    def starts(self, place: Place) -> Series:
        """Where a log began, at our own looks."""
        return self._seen.of(("start", place))

    def produced(self, now: float, place: Place) -> Series:
        """Where a log ended, over the window: with what is known of before while our looks are few."""
        if place not in self._produced:
            self._produced[place] = self._joined(("end", place)).since(now - self._window)
        return self._produced[place]

    def consumed(self, now: float, key: Key) -> Series:
        """Where a reader was, over the window."""
        return self._joined(key).since(now - self._window)

    def lags(self, now: float, place: Place, key: Key) -> Float64:
        """How many offsets were to be read, over the window, oldest first."""
        ends, durable = self.produced(now, place), self.consumed(now, key)
        if not len(ends.at) or not len(durable.at):
            return np.zeros(0)
        return np.maximum(ends.value - np.interp(ends.at, durable.at, durable.value), 0.0)

    def quiet(self, now: float, key: Key) -> float:
        """Seconds since the durable offset moved: as seen, else by the time of the commit."""
        seen = self._seen.of(key)
        if (moved := seen.moved()) is not None:
            return now - moved
        watched = now - float(seen.at[0]) if len(seen.at) else 0.0
        written = self._table.written.get(key, self._table.since)
        return watched if written is None else max(watched, now - written)

    def silent(self, now: float, reader: Reader) -> float:
        """Seconds since the model wrote anything of the topic: as seen, else by the time of its last commit."""
        said, seen = self._alive[reader]
        if seen:
            return now - seen
        watched = now - (self._first or now)
        said = said or self._table.since or now
        return max(watched, now - said)

    def _joined(self, key: Hashable) -> Series:
        seen, past = self._seen.of(key), self._past.of(key)
        if not len(past.at) or not len(seen.at) or seen.at[-1] - (self._first or 0.0) >= OWN:
            return seen
        return Series(np.concatenate([past.at, seen.at]), np.concatenate([past.value, seen.value]))

    def _recall(self, now: float, stands: Sequence[Stand]) -> None:
        moves = self._table.past(now - PAST[0])
        for ago in PAST:
            then = now - ago
            known: dict[Hashable, int] = {}
            for stand in stands:
                was = _was(moves.get(stand.key), stand.durable, then, self._table.since)
                if was is not None:
                    known[stand.key] = was
            asked = {stand.place: int(then * 1e3) for stand in stands}
            known |= {("end", place): offset for place, offset in self._ended(asked).items()}
            self._past.add(then, known)


def _was(moves: Moves | None, durable: int | None, then: float, since: float | None) -> int | None:
    """The durable offset at the time `then`; None where the entries that were read do not tell."""
    if moves is None:  # no commit moved it since the first entry that was read
        return durable if since is not None and since <= then else None
    before = sum(at <= then for at in moves.at)
    return moves.offset[before - 1] if before else None
