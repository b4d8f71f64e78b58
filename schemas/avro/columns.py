"""What is read: arrays of arrays, and text and bytes where they stand in their messages or gathered into Arrow arrays."""

from typing import Any, NamedTuple, Union

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from schemas.avro.buffers import Buffers
from schemas.avro.memory import copy, load_i64, load_u8
from schemas.batch import Int64

Bools = npt.NDArray[np.bool_]
_MOST = np.iinfo(np.int32).max
_HIGH = np.int64(np.uint64(0x8080808080808080).view(np.int64))  # of eight bytes, the bits that ASCII never has


class Spans(NamedTuple):
    """A piece of each of n buffers, where it stands: nothing is copied.

    Attributes
    ----------
    offset, length
        Bytes from the start of the buffer, and of the piece, int64[n]; length -1 = null, offset -1 = the default.
    default
        What the writer's schema lacks.
    """

    offset: Int64
    length: Int64
    default: bytes = b""


class Ragged(NamedTuple):
    """The items of an array in n records, or in n items of another array.

    Attributes
    ----------
    offsets
        Items of record i are offsets[i] to offsets[i + 1], int64[n + 1].
    values
        All items one after the other; of text and bytes, `Spans` in the record's buffer; of an array, `Ragged` again.
    """

    offsets: Int64
    values: Union[npt.NDArray[Any], Spans, "Ragged"]

    def owners(self) -> Int64:
        """The record that each item is of, int64[offsets[n]]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


Column = npt.NDArray[Any] | Spans | Ragged


def strings(spans: Spans, source: Buffers, good: Bools) -> tuple[pa.StringArray, Bools]:
    """Spans as text.

    Parameters
    ----------
    spans, source
        n of each.
    good
        bool[n]; spans of the others are null.

    Returns
    -------
    text
        [n]
    bad
        Which are no UTF-8 (and null here), bool[n].
    """
    valid = good & (spans.length >= 0)
    bad = np.zeros(len(valid), bool)
    address = _addresses(spans, source)
    _find_bad(address, spans.length, valid, bad)
    valid &= ~bad
    offsets, data = _gathered(address, spans, valid)
    if offsets[-1] > _MOST:
        raise MemoryError(f"{offsets[-1]} bytes of text in one batch")
    parts = [_bitmap(valid), pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(valid), parts), bad


def blobs(spans: Spans, source: Buffers, good: Bools) -> pa.LargeBinaryArray:
    """Spans as bytes; null where not `good`."""
    valid = good & (spans.length >= 0)
    if not valid.any():
        return pa.nulls(len(valid), pa.large_binary())
    offsets, data = _gathered(_addresses(spans, source), spans, valid)
    parts = [_bitmap(valid), pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(valid), parts)


def _addresses(spans: Spans, source: Buffers) -> Int64:
    default = np.frombuffer(spans.default, np.uint8)  # lives as long as the spans
    return np.where(spans.offset >= 0, source.address.view(np.int64) + spans.offset, default.ctypes.data)


def _bitmap(valid: Bools) -> pa.Buffer | None:
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _gathered(address: Int64, spans: Spans, valid: Bools) -> tuple[Int64, npt.NDArray[np.uint8]]:
    """Offsets int64[n+1], and all bytes one after the other."""
    offsets = np.zeros(len(valid) + 1, np.int64)
    np.cumsum(np.where(valid, spans.length, 0), out=offsets[1:])
    data = np.empty(int(offsets[-1]), np.uint8)
    _gather(address, offsets, data.ctypes.data)
    return offsets, data


@njit(nogil=True, cache=True)
def _gather(address, offsets, data):  # type: ignore[no-untyped-def]
    for i in range(len(address)):
        copy(data + offsets[i], address[i], offsets[i + 1] - offsets[i])


@njit(nogil=True, cache=True)
def _find_bad(address, length, valid, bad):  # type: ignore[no-untyped-def]
    for i in range(len(address)):
        if valid[i]:
            bad[i] = not is_utf8(address[i], length[i])


@njit(nogil=True, cache=True)
def is_utf8(p, length):  # type: ignore[no-untyped-def]
    """Whether `length` bytes from address `p` are UTF-8: none cut, none longer than needed, no surrogate, none above 10ffff."""
    end = p + length
    while p < end:
        if end - p >= 8 and load_i64(p) & _HIGH == 0:
            p += 8
            continue
        lead = load_u8(p)
        p += 1
        if lead < 0x80:
            continue
        low, high = 0x80, 0xBF  # of the byte after it
        if lead < 0xC2 or lead > 0xF4:
            return False
        if lead < 0xE0:
            more = 1
        elif lead < 0xF0:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        else:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        if end - p < more:
            return False
        for _ in range(more):
            byte = load_u8(p)
            p += 1
            if byte < low or byte > high:
                return False
            low, high = 0x80, 0xBF
    return True
