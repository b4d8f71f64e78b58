"""Cutouts out of their gzip: fast where all is well, and where it is not, slowly and with the reason."""

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from deflate import DeflateError, gzip_decompress
from numba import njit

from schemas.avro.memory import load_i64, load_u8
from schemas.batch import Int64
from schemas.cutouts.status import CutoutStatus

LEAST = 18  # bytes of a gzip that holds nothing
MEMBERS = 64  # gzips behind each other
_CHECKS = ("incorrect data check", "incorrect length check")  # zlib's words


class CannotGunzip(ValueError):
    """What is in a gzip cannot be had; `status` says why."""

    def __init__(self, status: CutoutStatus) -> None:
        super().__init__(status.name)
        self.status = status


def gzips(address: npt.NDArray[np.uint64], length: Int64) -> Int64:
    """Bytes that each of n pieces of memory says it has when it is gunzipped, int64[n]; -1 = it does not begin as a gzip."""
    found = np.full(len(address), -1)
    _gzips(address.view(np.int64), length, found)
    return found


def gunzipped(data: Any, size: int, most: int) -> bytes | bytearray:
    """What is in `data`, at most `most` bytes.

    Parameters
    ----------
    data
        A gzip, anything with the buffer protocol.
    size
        What it says of its length: believed only up to `most`, and checked.

    Raises
    ------
    CannotGunzip
        Where that cannot be had.
    """
    if 0 < size <= most:
        try:
            found: bytearray = gzip_decompress(data, size)
            if len(found) == size:
                return found
        except DeflateError:
            pass
    return _carefully(bytes(data), most)


def _carefully(rest: bytes, most: int) -> bytes:
    """One gzip or some, one behind the other, and zeros behind the last, as Python's ``gzip`` reads them."""
    found = b""
    for _ in range(MEMBERS):
        inflater = zlib.decompressobj(wbits=31)
        try:
            found += inflater.decompress(rest, most + 1 - len(found))
        except zlib.error as error:
            wrong = any(words in str(error) for words in _CHECKS)
            raise CannotGunzip(CutoutStatus.CHECKSUM if wrong else CutoutStatus.GZIP) from error
        if len(found) > most:
            raise CannotGunzip(CutoutStatus.TOO_LARGE)
        rest = inflater.unused_data.lstrip(b"\0")
        if inflater.eof and not rest:
            return found
        if not inflater.eof:
            break
    raise CannotGunzip(CutoutStatus.GZIP)


@njit(nogil=True, cache=True)
def _gzips(address, length, found):  # type: ignore[no-untyped-def]
    for i in range(len(address)):
        if length[i] >= 2 and load_u8(address[i]) == 0x1F and load_u8(address[i] + 1) == 0x8B:
            found[i] = 0
            if length[i] >= LEAST:
                found[i] = (load_i64(address[i] + length[i] - 8) >> 32) & 0xFFFFFFFF  # little-endian, at the end
