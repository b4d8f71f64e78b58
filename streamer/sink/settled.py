"""What the exceptions ledger already says of the offsets ahead of a position. What it lists is settled for ever."""

import numpy as np
import numpy.typing as npt

from schemas.batch import Int64
from schemas.catalogue import REST


class Settled:
    """Entries listed ahead of a partition's position: an earlier owner wrote them and died before its rows were durable.

    There may be very many (a night of one-message transactions), so ranges are kept sorted and merged, and asked by bisection.
    """

    def __init__(self) -> None:
        self.rows: set[tuple[int, int]] = set()
        self._new: list[tuple[int, int]] = []
        self._start: Int64 = np.empty(0, np.int64)
        self._end: Int64 = np.empty(0, np.int64)

    def __bool__(self) -> bool:
        return bool(self.rows or self._new or len(self._start))

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """[start, end) of all offsets listed whole: sorted, disjoint."""
        self._merge()
        return list(zip(self._start.tolist(), self._end.tolist(), strict=True))

    def add(self, start: int, end: int, row: int) -> None:
        """Take in one entry."""
        if row == REST:
            self._new.append((start, end))
        else:
            self.rows.add((start, row))

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
        if not self._new:
            return
        added = np.array(self._new, np.int64)
        self._new = []
        start = np.concatenate([self._start, added[:, 0]])
        end = np.concatenate([self._end, added[:, 1]])
        order = np.argsort(start, kind="stable")
        start, reach = start[order], np.maximum.accumulate(end[order])
        begins = np.flatnonzero(np.concatenate([[True], start[1:] > reach[:-1]]))
        self._start, self._end = start[begins], reach[np.append(begins[1:], len(start)) - 1]
