"""What was seen before: each look of the last hour, and one a minute of the last day, in memory that is bounded."""

import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from schemas.batch import Float32, Float64
from streamer.lag.standing import Standing
from streamer.lag.totals import Total

LOOKS, MINUTES = 720, 1440  # points kept: an hour at 5 s a look, and a day
MINUTE = 60.0
DRAWN = 360  # points of an answer: more than a screen shows
MOST_PARTITIONS = 10_000  # partitions times models; those beyond have no history
PARTITION_FIELDS = ("lag", "lag_seconds")
TOTAL_FIELDS = ("lag", "lag_seconds", "produce_rate", "consume_rate")


class Ring:
    """Numbers of many series at the same times; the oldest are overwritten. NaN where a series was not known.

    Parameters
    ----------
    fields
        Numbers of each series.
    points
        Times kept.
    every
        Least seconds between two of them.
    most
        Series kept; those beyond are left out.
    """

    def __init__(self, fields: int, points: int, every: float = 0.0, most: int = MOST_PARTITIONS) -> None:
        self._every, self._most = every, most
        self._times: Float64 = np.full(points, np.nan)
        self._values: Float32 = np.full((points, fields, 0), np.nan, np.float32)
        self._columns: dict[Hashable, int] = {}
        self._next, self._last = 0, -np.inf

    def add(self, time: float, rows: Mapping[Hashable, Sequence[float | None]]) -> None:
        """Keep `rows`, field by field, at `time`, unless the last were kept too short a time ago.

        A clock that is set back takes what was kept of times that are still to come: it would stand on top of what follows.
        """
        if time < self._last:
            undone = self._times >= time
            self._times[undone], self._values[undone] = np.nan, np.nan
        elif time - self._last < self._every:
            return
        self._make_room(rows)
        line = self._values[self._next]
        line[:] = np.nan
        known = [(self._columns[key], row) for key, row in rows.items() if key in self._columns]
        if known:
            numbers = np.array([[np.nan if v is None else v for v in row] for _, row in known], np.float32)
            line[:, [column for column, _ in known]] = numbers.T
        self._times[self._next] = self._last = time
        self._next = (self._next + 1) % len(self._times)

    def read(self, keys: Sequence[Hashable], since: float = -np.inf) -> tuple[Float64, Float32]:
        """Times, rising, float64[n], and the numbers of `keys` at them, float32[len(keys), fields, n]."""
        order = np.roll(np.arange(len(self._times)), -self._next)
        order = order[self._times[order] >= since]  # NaN, never written, is not
        order = order[:: max(1, -(-len(order) // DRAWN))] if len(order) else order
        out = np.full((len(keys), self._values.shape[1], len(order)), np.nan, np.float32)
        for k, key in enumerate(keys):
            if key in self._columns:
                out[k] = self._values[order, :, self._columns[key]].T
        return self._times[order], out

    def _make_room(self, rows: Mapping[Hashable, Sequence[float | None]]) -> None:
        new = [key for key in rows if key not in self._columns]
        if not new:
            return
        seen = np.asarray(
            ~np.isnan(self._values).all(axis=(0, 1))
        )  # a series that all looks have forgotten gives its place up
        kept = [key for key, column in self._columns.items() if seen[column] or key in rows]
        new = new[: max(self._most - len(kept), 0)]
        points, fields, _ = self._values.shape
        wider = np.full((points, fields, len(kept) + len(new)), np.nan, np.float32)
        wider[:, :, : len(kept)] = self._values[:, :, [self._columns[key] for key in kept]]
        self._values, self._columns = wider, {key: k for k, key in enumerate([*kept, *new])}


class Lines(NamedTuple):
    """Some series: their times, seconds since 1970 UTC, float64[n], and float32[series, fields, n]."""

    times: Float64
    values: Float32


class History:
    """Every look of the last hour, and one a minute of the last day, of totals and of partitions. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # (span, totals, partitions)
        self._rings = {
            "hour": (Ring(len(TOTAL_FIELDS), LOOKS), Ring(len(PARTITION_FIELDS), LOOKS)),
            "day": (Ring(len(TOTAL_FIELDS), MINUTES, MINUTE), Ring(len(PARTITION_FIELDS), MINUTES, 2 * MINUTE)),
        }

    def add(self, time: float, standings: Sequence[Standing], totals: Sequence[Total]) -> None:
        """Keep a look."""
        whole = {(t.topic, t.model): (t.lag, t.lag_seconds, t.produce_rate, t.consume_rate) for t in totals}
        parts = {(s.topic, s.model, s.partition): (s.lag, s.lag_seconds) for s in standings}
        with self._lock:
            for of_totals, of_partitions in self._rings.values():
                of_totals.add(time, whole)  # type: ignore[arg-type]  # a mapping's keys are not covariant
                of_partitions.add(time, parts)  # type: ignore[arg-type]

    def totals(self, keys: Sequence[tuple[str, str]], span: str, since: float = -np.inf) -> Lines:
        """Of (topic, model); the fields are ``TOTAL_FIELDS``. `span` is hour or day."""
        with self._lock:
            return Lines(*self._rings[span][0].read(keys, since))

    def partitions(self, keys: Sequence[tuple[str, str, int]], span: str) -> Lines:
        """Of (topic, model, partition); the fields are ``PARTITION_FIELDS``."""
        with self._lock:
            return Lines(*self._rings[span][1].read(keys))
