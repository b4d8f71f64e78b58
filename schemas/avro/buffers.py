"""Messages as addresses and lengths, for kernels: without a copy where Python lets us look into its bytes."""

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from schemas.avro.memory import load_i64
from schemas.batch import Int64

HEAD = bytes.__basicsize__ - 1  # from a bytes object of CPython to its first byte; before that stand
_LENGTH = HEAD - 16  # its length (and its hash)
_TYPE = HEAD - 24  # and its type


class Buffers(NamedTuple):
    """n pieces of memory that live as long as this does.

    Attributes
    ----------
    address
        Of the first byte of each, uint64[n].
    length
        Bytes, int64[n].
    owner
        What keeps them alive.
    """

    address: npt.NDArray[np.uint64]
    length: Int64
    owner: Any

    def take(self, index: npt.NDArray[Any]) -> "Buffers":
        """Some of them."""
        return Buffers(self.address[index], self.length[index], self.owner)


def buffers(payloads: Sequence[bytes | None]) -> Buffers:
    """The memory of `payloads`; None is an empty one."""
    n = len(payloads)
    address, length = np.empty(n, np.uint64), np.empty(n, np.int64)
    if zero_copy():
        owner = np.fromiter(payloads, object, n)
        if _locate(owner.ctypes.data, id(bytes), id(None), HEAD, address.view(np.int64), length):
            return Buffers(address, length, owner)
    array = pa.array([b"" if payload is None else bytes(payload) for payload in payloads], pa.large_binary())
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[: n + 1] if n else np.zeros(1, np.int64)
    address = ends[:-1].astype(np.uint64) + np.uint64(data.address if data is not None else 0)
    return Buffers(address, np.diff(ends), array)


@cache
def zero_copy() -> bool:
    """Whether bytes lie in memory as in CPython: looked at once, on a few of them."""
    if sys.implementation.name != "cpython":
        return False
    for probe in (b"", b"?", b"is this CPython, with its bytes in one piece?" * 9):
        at = id(probe)
        try:
            kind = ctypes.c_int64.from_address(at + _TYPE).value
            length = ctypes.c_int64.from_address(at + _LENGTH).value
            if kind != id(bytes) or length != len(probe) or ctypes.string_at(at + HEAD, length) != probe:
                return False
        except (ValueError, OSError):
            return False
    return True


@njit(nogil=True, cache=True)
def _locate(objects, kind, none, head, address, length):  # type: ignore[no-untyped-def]
    """Where the bytes of each object begin and how many they are; False where one is neither bytes nor None."""
    for i in range(len(address)):
        at = load_i64(objects + 8 * i)
        if at == none:
            address[i] = 0
            length[i] = 0
        elif load_i64(at + head - 24) == kind:
            address[i] = at + head
            length[i] = load_i64(at + head - 16)
        else:
            return False
    return True
