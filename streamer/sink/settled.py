"""What the tables already say of the offsets ahead of a position. That is settled for ever."""

import numpy as np
import numpy.typing as npt

from schemas.batch import Int64
from schemas.catalogue import REST


class Settled:
    """What is settled ahead of a partition's position: entries of the exceptions ledger, whose writer died before its rows were
    durable, and the rows of a replay.

    There may be very many (a night of one-message transactions), so ranges are kept sorted and merged, and asked by bisection.
    """

    def __init__(self) -> None:
        self.rows: set[tuple[int, int]] = set()
        self._new: list[tuple[int, int]] = []
        self._runs: list[Int64] = []  # (start, end) of many at once, int64[k, 2]
        self._start: Int64 = np.empty(0, np.int64)
        self._end: Int64 = np.empty(0, np.int64)

    def __bool__(self) -> bool:
        return bool(self.rows or self._new or self._runs or len(self._start))

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """[start, end) of all offsets listed whole: sorted, disjoint."""
        self._merge()
        return list(zip(self._start.tolist(), self._end.tolist(), strict=True))

    def add(self, start: int, end: int, row: int) -> None:
        """Take in one entry."""
        if row == REST:
            if start < end:
                self._new.append((start, end))
        else:
            self.rows.add((start, row))

    def add_offsets(self, offsets: Int64) -> None:
        """Take in whole offsets, sorted, each once."""
        if len(offsets):
            edges = np.flatnonzero(np.diff(offsets) > 1)
            first, last = np.append(0, edges + 1), np.append(edges, len(offsets) - 1)
            self._runs.append(np.stack([offsets[first], offsets[last] + 1], 1).astype(np.int64))

    def whole(self, offsets: Int64) -> npt.NDArray[np.bool_]:
        """For each of `offsets`: is the rest of it listed, so that nothing of it may be written any more?"""
        self._merge()
        if not len(self._start):
            return np.zeros(len(offsets), bool)
        at = np.searchsorted(self._start, offsets, side="right") - 1
        return (at >= 0) & (offsets < self._end[np.maximum(at, 0)])

    def holes(self, start: int, end: int) -> list[tuple[int, int]]:
        """[start, end) less the ranges already listed."""
        self._merge()
        first, last = np.searchsorted(self._end, start, side="right"), np.searchsorted(self._start, end)
        out, at = [], start
        for a, b in zip(self._start[first:last].tolist(), self._end[first:last].tolist(), strict=True):
            if a > at:
                out.append((at, a))
            at = max(at, b)
        return out + ([(at, end)] if at < end else [])

    def forget_below(self, offset: int) -> None:
        """Drop what is behind the durable position."""
        self.rows = {entry for entry in self.rows if entry[0] >= offset}
        self._merge()
        keep = self._end > offset
        self._start, self._end = self._start[keep], self._end[keep]

    def _merge(self) -> None:
        if not self._new and not self._runs:
            return
        added = np.concatenate([np.array(self._new, np.int64).reshape(-1, 2), *self._runs])
        self._new, self._runs = [], []
        start = np.concatenate([self._start, added[:, 0]])
        end = np.concatenate([self._end, added[:, 1]])
        order = np.argsort(start, kind="stable")
        start, reach = start[order], np.maximum.accumulate(end[order])
        begins = np.flatnonzero(np.concatenate([[True], start[1:] > reach[:-1]]))
        self._start, self._end = start[begins], reach[np.append(begins[1:], len(start)) - 1]
