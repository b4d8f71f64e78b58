"""Earlier looks, as rules and rates need them: when each log ended where, and how far each reader was."""

from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from schemas.batch import Float64, Int64
from streamer.lag.sheet import UNKNOWN

MOST = 256  # looks kept: at one each 5 s all of the last ten minutes, and of the hours before fewer and fewer
KEPT = 86_400.0  # seconds for which a key that no look knows any more is kept: a topic for each night would fill any memory


class Series(NamedTuple):
    """One number of one partition over time, oldest first; only looks that knew it.

    Attributes
    ----------
    at
        Seconds since 1970 UTC, by our clock.
    value
        Offsets.
    """

    at: Float64
    value: Int64

    def since(self, when: float) -> "Series":
        """The part from `when` on."""
        first = int(np.searchsorted(self.at, when))
        return Series(self.at[first:], self.value[first:])


class History:
    """Series by key, in one array: 1,000 partitions read by three models take 8 MB.

    All keys share their times. When it is full, the older half is thinned to every second look: what was seen last stands
    close together, what was seen hours ago far apart. Keys that were not seen for a day give their places to new ones.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most, self._n = most, 0
        self._at = np.zeros(most)
        self._rows: dict[Hashable, int] = {}
        self._free: list[int] = []  # places of keys that were dropped
        self._values = np.full((64, most), UNKNOWN, np.int64)

    def __len__(self) -> int:
        """Keys."""
        return len(self._rows)

    def add(self, at: float, values: Mapping[Hashable, int]) -> None:
        """What is known at the time `at`, which never goes back: a clock that was set back stands still here."""
        if self._n == self._most:
            self._thin()
        self._at[self._n] = max(at, self._at[self._n - 1]) if self._n else at
        self._n += 1
        self.put(self._n - 1, values)

    def put(self, look: int, values: Mapping[Hashable, int]) -> None:
        """Add to what is known at an earlier look, counted from the first that is kept."""
        for key in values.keys() - self._rows.keys():
            self._rows[key] = self._free.pop() if self._free else len(self._rows)
        if len(self._rows) > len(self._values):
            more = np.full((len(self._rows), self._most), UNKNOWN, np.int64)
            self._values = np.concatenate([self._values, more])
        rows = np.fromiter((self._rows[key] for key in values), np.intp, len(values))
        self._values[rows, look] = np.fromiter(values.values(), np.int64, len(values))

    def of(self, key: Hashable) -> Series:
        """The series of `key`."""
        row = self._rows.get(key)
        if row is None:
            return Series(self._at[:0], self._values[0, :0])
        values = self._values[row, : self._n]
        known = values >= 0
        return Series(self._at[: self._n][known], values[known])

    def looks(self, keys: Iterable[Hashable]) -> tuple[Float64, Int64]:
        """Times of all looks, float64[looks], and what they knew of `keys`, int64[keys, looks], `UNKNOWN` where nothing."""
        rows = np.array([self._rows.get(key, -1) for key in keys], np.intp)
        values = self._values[:, : self._n][rows]
        values[rows < 0] = UNKNOWN
        return self._at[: self._n], values

    def forget(self, key: Hashable) -> None:
        """Drop what is known of `key`: it means something else from now on, or is no more."""
        if (row := self._rows.pop(key, None)) is not None:
            self._values[row] = UNKNOWN
            self._free.append(row)

    def _thin(self) -> None:
        lately = int(np.searchsorted(self._at[: self._n], self._at[self._n - 1] - KEPT))
        seen = (self._values[:, lately : self._n] != UNKNOWN).any(axis=1)
        for key in [key for key, row in self._rows.items() if not seen[row]]:
            self.forget(key)
        half = self._most // 2
        kept = np.r_[0:half:2, half : self._most]
        self._n = len(kept)
        self._at[: self._n] = self._at[kept]
        self._values[:, : self._n] = self._values[:, kept]
        self._values[:, self._n :] = UNKNOWN
