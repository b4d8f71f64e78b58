"""Memory for PDFs, lent and taken back.

The PDFs of a batch take 50 MB. Fresh from the system every page of that is cleared before it is written: a tenth of the time of
an estimate, each time. So the memory of PDFs that nobody holds any more is given out again.
"""

import threading
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.batch import Float32

SMALLEST, LARGEST = 1 << 20, 64 << 20  # bytes of an array that is worth it; of one that should not stay
ROUND = 1 << 21  # bytes: lenders of batches that differ by a few rows fit each other
KEPT = 192 << 20  # bytes that may wait for the next; a commit's PDFs come back together


class Lender:
    """Lends arrays; any number of threads may ask.

    What waits here and what is lent are together never more than was ever lent at once: it takes no memory that would not
    have been needed without it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._returned: deque[npt.NDArray[np.uint8]] = deque()  # by whoever drops the last view, in whatever thread
        self._kept: list[npt.NDArray[np.uint8]] = []  # the longest unused first
        self._lent = self._most = 0

    def empty(self, rows: int, points: int) -> Float32:
        """float32[rows, points], as `np.empty`. Its memory comes back when the last view of it is gone."""
        wanted = rows * points * 4
        size = -(-wanted // ROUND) * ROUND
        if wanted < SMALLEST or size > LARGEST:
            return np.empty((rows, points), np.float32)
        with self._lock:
            memory = self._take(size)
        whole = np.asarray(_Loan(memory, self._returned))
        return whole[:wanted].view(np.float32).reshape(rows, points)

    def _take(self, size: int) -> npt.NDArray[np.uint8]:
        while self._returned:
            self._kept.append(self._returned.popleft())
            self._lent -= len(self._kept[-1])
        fits = [k for k, memory in enumerate(self._kept) if size <= len(memory) <= size + size // 4]
        try:
            memory = self._kept.pop(fits[-1]) if fits else np.empty(size, np.uint8)
        except MemoryError:  # what waits here is the first that can be done without
            self._kept.clear()
            memory = np.empty(size, np.uint8)
        self._lent += len(memory)
        self._most = max(self._most, self._lent)
        while (held := sum(map(len, self._kept))) > min(KEPT, self._most - self._lent) and held:
            del self._kept[0]
        return memory


class _Loan:
    """What all views of a lent array hold on to."""

    __slots__ = ("_memory", "_returned")

    def __init__(self, memory: npt.NDArray[np.uint8], returned: deque[npt.NDArray[np.uint8]]) -> None:
        self._memory, self._returned = memory, returned

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._memory.__array_interface__

    def __del__(self) -> None:
        self._returned.append(self._memory)  # takes no lock: it may run within any statement of any thread


LENDER = Lender()
