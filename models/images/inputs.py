"""What an image network is given of a galaxy: stamps in units of the sky's noise, and columns beside them."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from models.images.architecture import columns
from models.images.stretch import bits_of, of_bits
from models.photometry import MagnitudeSystem, Photometry, asinh_magnitude_error, photometry
from schemas.batch import Float32, Int32, Stamps, UInt8

BRIGHTEST = np.float32(6.0e4)  # of a pixel in units of the softening: float16 ends at 65,504
_LARGEST = np.float32(np.finfo(np.float32).max)
_ZERO, _HALF_ONE = np.float32(0.0), np.float32(0.5)
FULL, HALF = np.dtype(np.float32), np.dtype(np.float16)
FLAT = 4  # pixels of one value, the greatest: chance does not make so many of them
_INFINITE = np.int32(0x7F800000)  # bits of infinity; those of NaN are above
_BRIGHT = np.float32(10.0)  # softenings, twenty times the sky's noise: where a flat top means something
REACH = 6.0  # standardised features are cut here
SOFTENING_PER_SIGMA = 2.0  # of the arcsinh stretch (Lupton, Gunn & Szalay 1999)


class Scaling(NamedTuple):
    """How stamps and features are brought to numbers about 1; fixed at training.

    Attributes
    ----------
    softening
        Of the stretch of each band, nJy a pixel, float32[B].
    center, scale
        Of the features, float32[F]; 0 and 1 where they are bits.
    """

    softening: Float32
    center: Float32
    scale: Float32


def features(
    flux: Float32, flux_err: Float32, band_state: UInt8, ebv: Float32, system: MagnitudeSystem
) -> tuple[Float32, Photometry]:
    """The columns beside the stamps, and the photometry they are made of.

    Returns
    -------
    tuple
        float32[n, 3 B + 2], NaN where a band gives no flux: reference magnitude, B - 1 colours, ln of B magnitude errors, B bits
        of which band is there, E(B-V) (0 where unknown), whether that is known. The order is that of `depends`.
    """
    seen = photometry(flux, flux_err, band_state, ebv, system)
    n_bands = flux.shape[1]
    there = ((seen.band_mask[:, None] >> np.arange(n_bands, dtype=np.uint32)) & 1).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.log(asinh_magnitude_error(flux.astype(np.float64), flux_err.astype(np.float64), system.softening))
    error = np.where(there > 0, error, np.nan)
    known = np.isfinite(ebv)
    dust = np.stack([np.where(known, ebv, 0.0), known], 1)
    return np.concatenate([seen.features, error, there, dust], 1).astype(np.float32), seen


def depends(n_bands: int, reference: int) -> Float32:
    """Which columns fall with which band, float32[B, F]: a network is taught without bands by zeroes in these places."""
    out = np.zeros((n_bands, columns(n_bands)), np.float32)
    out[reference, 0] = 1
    for b in range(n_bands):
        out[b, n_bands + b] = out[b, 2 * n_bands + b] = 1
        if b:
            out[b, b] = out[b - 1, b] = 1
    return out


def scaling(stamps_softening: Float32, columns_of_training: Float32, n_bands: int) -> Scaling:
    """From a training set's columns: bits stay as they are."""
    center = np.nanmean(columns_of_training, 0)
    scale = np.nanstd(columns_of_training, 0)
    center[2 * n_bands : 3 * n_bands], scale[2 * n_bands : 3 * n_bands] = 0.0, 1.0
    center[-1], scale[-1] = 0.0, 1.0
    scale = np.where(np.isfinite(scale) & (scale > 1e-6), scale, 1.0)
    return Scaling(
        np.asarray(stamps_softening, np.float32),
        np.nan_to_num(center).astype(np.float32),
        scale.astype(np.float32),
    )


def standard(given: Float32, by: Scaling) -> Float32:
    """Columns about 0 with a scatter of 1; 0 where missing."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.clip((given - by.center) / by.scale, -REACH, REACH)).astype(np.float32)


def stamp_softening(variance: Float32) -> Float32:
    """Softening of the stretch of each band from a training set's variance, [n, B, S, S]: twice the sky's noise, float32[B].

    A stamp's sky is its least noisy tenth; of the training set the median is taken.
    """
    n, n_bands = variance.shape[:2]
    with np.errstate(invalid="ignore"):
        good = np.where((variance > 0) & np.isfinite(variance), variance, np.nan).reshape(n, n_bands, -1)
        sky = np.nanmedian(np.nanpercentile(good, 10, axis=2), axis=0)
    return (SOFTENING_PER_SIGMA * np.sqrt(sky)).astype(np.float32)


def scaled(
    stamps: Float32, softening: Float32, variance: Float32 | None = None, band_state: UInt8 | None = None
) -> Float32:
    """Stamps [n, B, S, S] in units of the softening, 0 where masked: not finite, without a positive variance, band not there."""
    out = stamps / softening[:, None, None]
    bad = ~np.isfinite(out)
    if variance is not None:
        bad |= ~(np.isfinite(variance) & (variance > 0))
    if band_state is not None:
        bad |= (band_state == 0)[:, :, None, None]
    out[bad] = 0
    return np.clip(out, -BRIGHTEST, BRIGHTEST).astype(np.float32)


class Cut(NamedTuple):
    """Stamps of n galaxies as networks want them.

    Attributes
    ----------
    stamps
        In units of the softening, 0 where masked, float32 or float16[n, B, S, S].
    good
        Pixels that are not masked, int32[n]; -1 where there is no stamp.
    saturated
        Of the pixels of the object, which fills the middle half of a side, those that are saturated, int32[n].
    """

    stamps: np.ndarray
    good: Int32
    saturated: Int32


def cut(
    stamps: Stamps,
    n_bands: int,
    size: int,
    softening: Float32,
    band_state: UInt8 | None = None,
    dtype: np.dtype[Any] = FULL,
) -> Cut:
    """Stamps of messages as a network wants them: cut or filled up about their middle, masked, in units of the softening.

    A pixel is saturated where it is +infinity, or one of at least `FLAT` that share the greatest value of the object in their
    band, far above the sky: a detector that is full knows nothing higher.

    Parameters
    ----------
    stamps
        Of n galaxies; where one has none, or bytes that are not its planes, all its pixels are masked.
    n_bands, size, softening
        Of the model.
    band_state
        uint8[n, B]: bands that are not observed are masked, whatever their planes hold. None = all are observed.
    dtype
        ``float32``, or ``float16`` for a device that computes in it: half the bytes to carry there.
    """
    n = len(stamps.height)
    pixels, start, length = _flat(stamps.pixels)
    noise, noise_start, noise_length = _flat(stamps.variance)
    height, width = stamps.height.astype(np.int64), stamps.width.astype(np.int64)
    want = np.where((height > 0) & (width > 0), height * width * n_bands, -1)
    begin = np.where(length == want, start, np.where(length == 0, -2, -1))
    noise_begin = np.where(noise_length == want, noise_start, -1)
    observed = np.ones((n, n_bands), np.bool_) if band_state is None else band_state != 0
    out = np.empty((n, n_bands, size, size), dtype)
    none = np.empty((0, n_bands, size, size), np.float32)
    wide, narrow = (out, none.view(np.uint16)) if dtype == FULL else (none, out.view(np.uint16))
    good, saturated = np.empty(n, np.int32), np.empty(n, np.int32)
    inverse = (1.0 / softening).astype(np.float32)
    _cut(pixels, begin, noise, noise_begin, height, width, inverse, observed, size, wide, narrow, good, saturated)
    return Cut(out, good, saturated)


def _flat(column: pa.LargeBinaryArray) -> tuple[Float32, np.ndarray, np.ndarray]:
    """All values of a binary column as float32, where each blob begins, and how many it has: 0 of null, -1 of a part of one."""
    n = len(column)
    _, offsets, data = column.buffers()
    at = np.frombuffer(offsets, np.int64, n + 1, column.offset * 8) if n else np.zeros(1, np.int64)
    length = np.diff(at)
    null = ~np.asarray(column.is_valid(), np.bool_)
    raw = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    raw = raw[at[0] : at[-1]]
    start = at[:-1] - at[0]
    if (
        (start % 4).any() or len(raw) % 4 or raw.ctypes.data % 4
    ):  # a blob out of step: all are laid down anew, whole numbers only
        whole = np.where(length % 4 == 0, length, 0)
        raw = np.concatenate([raw[s : s + size] for s, size in zip(start, whole, strict=True)] or [raw[:0]])
        start = np.cumsum(whole) - whole
    count = np.where(length % 4 == 0, length // 4, -1)
    return raw.view(np.float32), start // 4, np.where(null, 0, count)


@njit(nogil=True, error_model="numpy", cache=True)
def _cut(  # type: ignore[no-untyped-def]
    pixels, begin, noise, noise_begin, height, width, inverse, observed, size, wide, narrow, good, saturated
):
    """Fills `wide`, or `narrow` with the bits of float16: the one that is not empty."""
    n, n_bands = observed.shape
    made = np.empty((size, size), np.float32)
    for i in range(n):
        good[i] = saturated[i] = 0
        h, w = height[i], width[i]
        top, left = h // 2 - size // 2, w // 2 - size // 2
        first, last = max(0, -left), min(size, w - left)
        low, high = max(0, -top), min(size, h - top)
        there = begin[i] >= 0 and last > first and high > low
        if begin[i] == -2:
            good[i] = -1
        run = high - low if w == size else 1  # rows that follow each other here and there are one line
        for b in range(n_bands):
            square = wide[i, b] if len(wide) else made
            plane = square.reshape(size * size)
            if not (there and observed[i, b]):
                plane[:] = _ZERO
            else:
                if last - first < size or high - low < size:
                    plane[:] = _ZERO
                greatest = np.int32(0)
                for row in range(low, high, run):
                    at = (b * h + row + top) * w + left + first
                    length = run * (last - first)
                    line = pixels[begin[i] + at : begin[i] + at + length]
                    target = plane[row * size + first : row * size + first + length]
                    if noise_begin[i] >= 0:
                        variance = noise[noise_begin[i] + at : noise_begin[i] + at + length]
                        count, peak = _masked(line, variance, inverse[b], target)
                    else:
                        count, peak = _plain(line, inverse[b], target)
                    good[i] += count
                    greatest = max(greatest, peak)
                if (
                    greatest >= _INFINITE or of_bits(greatest) * inverse[b] > _BRIGHT
                ):  # of the faint there is nothing to ask
                    source = pixels[begin[i] + b * h * w : begin[i] + (b + 1) * h * w].reshape(h, w)
                    saturated[i] += _saturated(square, source, top, left, low, high, first, last)
            if len(narrow):
                _halve(plane, narrow[i, b].reshape(size * size))


# Each loop is of one kind, with nothing wider than 32 bits in it, or it is no longer made into vectors (of full width).


@njit(nogil=True, error_model="numpy", cache=True)
def _plain(line, inverse, out):  # type: ignore[no-untyped-def]
    """Pixels in units of the softening, BRIGHTEST at most, 0 where masked; how many are not, and the bits of the greatest."""
    count, peak = np.int32(0), np.int32(0)
    for k in range(len(out)):
        fine = abs(line[k]) <= _LARGEST
        value = min(max(line[k] * inverse, -BRIGHTEST), BRIGHTEST)
        out[k] = value if fine else _ZERO
        count = np.int32(count + np.int32(fine))
        peak = max(peak, bits_of(line[k]))  # numbers that are not negative stand in the order of their bits
    return count, peak


@njit(nogil=True, error_model="numpy", cache=True)
def _masked(line, variance, inverse, out):  # type: ignore[no-untyped-def]
    """The same; masked also where the variance is no positive number."""
    count, peak = np.int32(0), np.int32(0)
    for k in range(len(out)):
        fine = (abs(line[k]) <= _LARGEST) & (variance[k] > _ZERO) & (variance[k] <= _LARGEST)
        value = min(max(line[k] * inverse, -BRIGHTEST), BRIGHTEST)
        out[k] = value if fine else _ZERO
        count = np.int32(count + np.int32(fine))
        peak = max(peak, bits_of(line[k]))
    return count, peak


@njit(nogil=True, error_model="numpy", cache=True)
def _saturated(made, source, top, left, low, high, first, last):  # type: ignore[no-untyped-def]
    """Saturated pixels of the object in one plane: `made` of it, and the `source`, whose pixels are masked there if infinite."""
    size = len(made)
    middle, end = size // 4, size - size // 4
    infinite = 0
    for row in range(max(low, middle), min(high, end)):
        for column in range(max(first, middle), min(last, end)):
            infinite += source[row + top, column + left] > _LARGEST
    greatest, flat = _BRIGHT, 0
    for row in range(middle, end):
        for column in range(middle, end):
            if made[row, column] > greatest:
                greatest, flat = made[row, column], 0
            flat += made[row, column] == greatest
    return infinite + (flat if flat >= FLAT and greatest > _BRIGHT else 0)


@njit(nogil=True, error_model="numpy", cache=True)
def _halve(plane, out):  # type: ignore[no-untyped-def]
    """The bits of `plane` as float16, to the nearest, ties to even; nothing in it is beyond float16."""
    for k in range(len(out)):
        whole = bits_of(plane[k])
        u = whole & np.int32(0x7FFFFFFF)
        normal = np.int32(u + np.int32(0xFFF) + ((u >> np.int32(13)) & np.int32(1)) - np.int32(0x38000000)) >> np.int32(
            13
        )
        tiny = bits_of(of_bits(u) + _HALF_ONE) - np.int32(0x3F000000)  # below 2^-14 float16 has fixed steps
        out[k] = (tiny if u < np.int32(0x38800000) else normal) | ((whole >> np.int32(16)) & np.int32(0x8000))
