"""Counts alerts that come a second time: the same alert id at another offset. Every one of them stays a row."""

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.batch import Int64

SLOTS = 1 << 20  # of each of two tables, 16 bytes a slot: 32 MB
FULL = SLOTS // 2  # names in the younger table; then it becomes the older one, whose names are forgotten
OFFSET_BITS = 44


class Repeats:
    """Remembers the last alert ids, 500,000 at least and a million at most, and where each was first seen.

    An alert that is read again from the same offset (a partition that came back, say) is no repetition. Ids are compared by
    a hash of 64 bits: among a million ids, one in 40 million such windows has two that are taken for one.
    """

    def __init__(self) -> None:
        self._young, self._old = _table(), _table()
        self._used = 0

    def count(
        self, alert_id: pa.ChunkedArray, partition: npt.NDArray[np.integer], offset: Int64
    ) -> npt.NDArray[np.bool_]:
        """Which of n rows repeat an alert id that was seen at another place, bool[n]; an empty id is none.

        Parameters
        ----------
        alert_id
            Text, [n].
        partition, offset
            Where each row's message stands, [n].
        """
        repeated = np.zeros(len(alert_id), bool)
        array = alert_id.combine_chunks() if isinstance(alert_id, pa.ChunkedArray) else alert_id
        ids = array.cast(pa.large_string())
        _, ends, text = ids.buffers()
        if text is None or not len(ids):
            return repeated
        ends = np.frombuffer(ends, np.int64)[ids.offset : ids.offset + len(ids) + 1]
        place = (np.asarray(partition, np.uint64) << np.uint64(OFFSET_BITS)) | np.asarray(offset, np.uint64)
        letters = np.frombuffer(text, np.uint8)
        done = 0
        while True:
            done, self._used = _count(done, ends, letters, place, self._young, self._old, self._used, FULL, repeated)
            if done == len(ids):
                return repeated
            self._young, self._old, self._used = _table(), self._young, 0


def _table() -> npt.NDArray[np.uint64]:
    return np.zeros((SLOTS, 2), np.uint64)  # hash, place; a hash of 0 is a free slot


@numba.njit(nogil=True, cache=True)
def _count(first, ends, text, place, young, old, used, full, repeated):  # type: ignore[no-untyped-def]
    """Mark repetitions from row `first` on until the young table is full: (next row, names in it)."""
    mask = np.uint64(len(young) - 1)
    for i in range(first, len(place)):
        if ends[i] == ends[i + 1]:
            continue
        name = np.uint64(0xCBF29CE484222325)  # FNV-1a, then the finalizer of MurmurHash3
        for k in range(ends[i], ends[i + 1]):
            name = (name ^ np.uint64(text[k])) * np.uint64(0x100000001B3)
        name = (name ^ (name >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        name = (name ^ (name >> np.uint64(33))) | np.uint64(1)
        at = _slot(young, name, mask)
        if young[at, 0] == name:
            repeated[i] = young[at, 1] != place[i]
            continue
        if used >= full:
            return i, used
        before = _slot(old, name, mask)
        known = old[before, 0] == name
        repeated[i] = known and old[before, 1] != place[i]
        young[at, 0] = name
        young[at, 1] = old[before, 1] if known else place[i]
        used += 1
    return len(place), used


@numba.njit(nogil=True, cache=True)
def _slot(table, name, mask):  # type: ignore[no-untyped-def]
    """Where `name` is, or would be."""
    at = (name >> np.uint64(20)) & mask
    while table[at, 0] != np.uint64(0) and table[at, 0] != name:
        at = (at + np.uint64(1)) & mask
    return at
