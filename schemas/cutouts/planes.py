"""Pixels of FITS to float32, all planes of a batch in one kernel."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.batch import Float32, Float64, Int32, Int64
from schemas.cutouts import big_endian as be
from schemas.cutouts.cards import INVERSE, SIGMA, VARIANCE, Layout


class Planes(NamedTuple):
    """n images of any sizes, one after the other in one array.

    Attributes
    ----------
    values
        All pixels, row by row in the order of the file (astropy's), float32.
    start
        Index of each image's first pixel, int64[n].
    height, width
        Rows and columns, int32[n]; 0 where there is no image.
    """

    values: Float32
    start: Int64
    height: Int32
    width: Int32

    def image(self, i: int) -> Float32:
        """Image `i`, float32[height, width], where it stands."""
        height, width, start = int(self.height[i]), int(self.width[i]), int(self.start[i])
        return self.values[start : start + height * width].reshape(height, width)


class Shelf:
    """The planes of one kind of n files, put down some files at a time.

    Room is made for what is to come as if it were like what came: most stamps of a survey have one size.
    """

    def __init__(self, plane: int, n: int) -> None:
        self._plane = plane
        self._values, self._used = np.empty(0, np.float32), 0
        self._start = np.zeros(n, np.int64)
        self._height, self._width = np.zeros(n, np.int32), np.zeros(n, np.int32)

    def put(
        self,
        first: int,
        address: npt.NDArray[np.uint64],
        layout: Layout,
        scale: Float64,
        zero: Float64,
        good: npt.NDArray[np.bool_],
    ) -> None:
        """The planes of k files from number `first` on; of those that are not `good`, none.

        Parameters
        ----------
        first
            Number of the first file.
        address, layout
            The files in memory, uint64[k], and where in them the planes are.
        scale, zero
            BSCALE and BZERO, float64[k, 3].
        good
            bool[k].
        """
        height, width = (np.where(good, size[:, self._plane], 0) for size in (layout.height, layout.width))
        count = height * width
        ends = self._used + np.cumsum(count)
        start = ends - count
        done = first + len(address)
        self._start[first:done], self._height[first:done], self._width[first:done] = start, height, width
        used = int(ends[-1])
        if used > len(self._values):
            to_come = used * (len(self._start) - done) // done
            grown = np.empty(used + to_come + to_come // 8, np.float32)  # some are clipped, others not
            grown[: self._used] = self._values[: self._used]
            self._values = grown
        self._used = used
        _convert(address.view(np.int64), layout, self._plane, scale, zero, start, count, self._values)

    def planes(self) -> Planes:
        """All of them."""
        return Planes(self._values[: self._used], self._start, self._height, self._width)


@njit(nogil=True, error_model="numpy", cache=True)
def _convert(address, layout, plane, scale, zero, start, count, values):  # type: ignore[no-untyped-def]
    for i in range(len(address)):
        if count[i] == 0:
            continue
        out = values[start[i] : start[i] + count[i]]
        data = address[i] + layout.data[i, plane]
        bitpix, times, plus = layout.bitpix[i, plane], scale[i, plane], zero[i, plane]
        if bitpix == -32:
            _floats(data, out, np.float32(times), np.float32(plus))
        elif bitpix == -64:
            _doubles(data, out, times, plus)
        else:
            _integers(data, bitpix, out, times, plus, layout.blanks[i, plane] != 0, layout.blank[i, plane])
        if plane == VARIANCE and layout.kind[i] == SIGMA:
            for k in range(len(out)):
                out[k] *= out[k]
        elif plane == VARIANCE and layout.kind[i] == INVERSE:
            for k in range(len(out)):
                out[k] = np.float32(1.0) / out[k]


@njit(nogil=True, error_model="numpy", cache=True)
def _floats(address, out, scale, zero):  # type: ignore[no-untyped-def]
    words = be.array_u32(address, len(out))
    for k in range(len(out)):
        out[k] = be.as_f32(be.turned_u32(words[k]))
    _scale(out, scale, zero)


@njit(nogil=True, error_model="numpy", cache=True)
def _doubles(address, out, scale, zero):  # type: ignore[no-untyped-def]
    words = be.array_u64(address, len(out))
    if scale == 1.0 and zero == 0.0:
        for k in range(len(out)):
            out[k] = np.float32(be.as_f64(be.turned_u64(words[k])))
    else:
        for k in range(len(out)):
            out[k] = np.float32(_scaled(be.as_f64(be.turned_u64(words[k])), scale, zero))


@njit(nogil=True, error_model="numpy", cache=True)
def _integers(address, bitpix, out, scale, zero, blanks, blank):  # type: ignore[no-untyped-def]
    """8 and 16 bits are scaled in float32 and more in float64, as astropy does; unsigned integers by their own arithmetic."""
    n = len(out)
    unsigned = scale == 1.0 and bitpix > 8 and zero == 2.0 ** (bitpix - 1)
    small, much, nothing = np.float32(scale), np.float32(zero), np.float32(np.nan)
    for k in range(n):
        if bitpix == 8:
            raw = np.int64(be.array_u8(address, n)[k])
        elif bitpix == 16:
            raw = np.int64(np.int16(be.turned_u16(be.array_u16(address, n)[k])))
        elif bitpix == 32:
            raw = np.int64(np.int32(be.turned_u32(be.array_u32(address, n)[k])))
        else:
            raw = np.int64(be.turned_u64(be.array_u64(address, n)[k]))
        if blanks and raw == blank:
            out[k] = nothing
        elif unsigned:
            out[k] = np.float32(np.uint64(raw) + (np.uint64(1) << np.uint64(bitpix - 1)))
        elif scale == 1.0 and zero == 0.0:
            out[k] = np.float32(raw)
        elif bitpix <= 16:
            out[k] = _scaled(np.float32(raw), small, much)
        else:
            out[k] = np.float32(_scaled(np.float64(raw), scale, zero))


@njit(nogil=True, error_model="numpy", cache=True)
def _scale(out, scale, zero):  # type: ignore[no-untyped-def]
    if scale != 1.0 or zero != 0.0:
        for k in range(len(out)):
            out[k] = _scaled(out[k], scale, zero)


@njit(nogil=True, error_model="numpy", cache=True, inline="always")
def _scaled(value, scale, zero):  # type: ignore[no-untyped-def]
    """Scale and zero that are 1 and 0 change nothing, not even the sign of 0."""
    if scale != 1.0:
        value = value * scale
    if zero != 0.0:
        value = value + zero
    return value
