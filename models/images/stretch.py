"""From cutouts to what a network eats: cut or filled up about the object, bad pixels masked, arcsinh-scaled, in one pass.

arcsinh(f / b) is linear for faint pixels and logarithmic for bright ones (Lupton, Gunn & Szalay 1999, AJ 118, 1406); b is
usually twice the noise of the sky. The kernel has an arcsinh of its own, for a compiler makes vectors of it: within 5e-7 of
the value, relative, for every float32 of normal size.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from schemas.batch import Float32, Int32
from schemas.cutouts import Planes

_LARGEST = np.float32(np.finfo(np.float32).max)
_ZERO, _ONE, _TWO, _NOTHING = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(np.nan)
_LN2 = np.float32(math.log(2.0))
_FAR = np.float32(2.0**24)  # from here on arcsinh(u) is ln(2u)
_ROOT_HALF = int(np.float32(math.sqrt(0.5)).view(np.int32))  # bits of what mantissas begin at, so that they lie about 1
_UNIT = 0x3F800000  # bits of 1
_C1, _C2, _C3, _C4 = (np.float32(2.0 / k) for k in (3, 5, 7, 9))  # ln((1+s)/(1-s)) = 2s (1 + s^2/3 + s^4/5 + ...)


class Stretched(NamedTuple):
    """Images of n objects, in B bands, of S by S pixels.

    Attributes
    ----------
    images
        arcsinh(f / b), dimensionless, float32[n, B, S, S]; 0 where masked. The object is at row and column S // 2.
    masked
        Pixels that are masked, of S * S: outside the cutout, not finite, or of no finite positive variance, int32[n, B].
    """

    images: Float32
    masked: Int32


def stretched(
    bands: Sequence[Planes],
    size: int,
    softening: npt.ArrayLike,
    variance: Sequence[Planes] | None = None,
    centre: npt.ArrayLike | None = None,
) -> Stretched:
    """Images of n objects for a network.

    Parameters
    ----------
    bands
        Of each band, or each kind of cutout, the images of n objects.
    size
        Pixels along a side of what is made.
    softening
        b, in the unit of the pixels, positive and finite: a number, [B], or [n, B].
    variance
        As `bands`, of the same shapes, in the square of their unit; an object without (0 by 0) is not masked by it.
    centre
        Row and column of the object in its cutouts, integers [n, 2]; without it, height // 2 and width // 2. A cutout that
        was clipped at the edge of a chip does not have its object there: in ZTF's, 63 pixels wide when whole, it is at
        min(31, round(ypos - 1)) and min(31, round(xpos - 1)) of the candidate.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or a softening is not positive and finite.
    """
    if not bands or size < 1:
        raise ValueError(f"{len(bands)} bands and a side of {size} pixels: want at least one of each")
    n, count = len(bands[0].start), len(bands)
    given = np.asarray(softening, np.float32)
    if given.shape not in ((), (count,), (n, count)):
        raise ValueError(f"softenings of shape {given.shape}: want a number, ({count},) or ({n}, {count})")
    soft = np.ascontiguousarray(np.broadcast_to(given, (n, count)))
    if not (np.isfinite(soft) & (soft >= np.finfo(np.float32).tiny)).all():
        raise ValueError("a softening is not positive and finite")
    if variance is not None and len(variance) != count:
        raise ValueError(f"variances of {len(variance)} bands for images of {count}")
    for planes in (*bands, *(variance or ())):
        if len(planes.start) != n:
            raise ValueError(f"bands of {n} and of {len(planes.start)} objects")
    about = None if centre is None else np.ascontiguousarray(centre, np.int64)
    if about is not None and about.shape != (n, 2):
        raise ValueError(f"centres of shape {about.shape}: want ({n}, 2)")
    out = Stretched(np.empty((n, count, size, size), np.float32), np.empty((n, count), np.int32))
    for b, planes in enumerate(bands):
        height, width = planes.height.astype(np.int64), planes.width.astype(np.int64)
        middle = np.stack([height // 2, width // 2], 1) if about is None else about
        noise, begin = np.empty(0, np.float32), np.full(n, -1)
        if variance is not None:
            other = variance[b]
            there = other.height > 0
            if (there & ((other.height != planes.height) | (other.width != planes.width))).any():
                raise ValueError(f"variances of band {b} have other shapes than its images")
            noise, begin = other.values, np.where(there, other.start, -1)
        _stretch(planes.values, planes.start, height, width, middle, noise, begin, soft, b, *out)
    return out


def _bits(source, result, kind):  # type: ignore[no-untyped-def]
    @intrinsic
    def same_bits(typing_context, value):  # type: ignore[no-untyped-def]
        def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return builder.bitcast(arguments[0], kind)

        return result(source), code

    return same_bits


bits_of = _bits(types.float32, types.int32, ir.IntType(32))
of_bits = _bits(types.int32, types.float32, ir.FloatType())


@njit(nogil=True, error_model="numpy", cache=True)
def _stretch(values, start, height, width, centre, noise, begin, softening, band, images, masked):  # type: ignore[no-untyped-def]
    n, _, size, _ = images.shape
    for i in range(n):
        top, left = centre[i, 0] - size // 2, centre[i, 1] - size // 2  # in the cutout, of the image's first pixel
        low, high = min(max(-left, 0), size), max(min(width[i] - left, size), 0)
        for row in range(size):
            out = images[i, band, row]
            y = row + top
            if y < 0 or y >= height[i] or high <= low:
                out[:] = _NOTHING
                continue
            out[:low] = _NOTHING
            out[high:] = _NOTHING
            first = y * width[i] + left + low
            pixels = values[start[i] + first : start[i] + first + high - low]
            if begin[i] < 0:
                _plain(pixels, out[low:high])
            else:
                _with_noise(pixels, noise[begin[i] + first : begin[i] + first + high - low], out[low:high])
        whole = images[i, band].reshape(size * size)
        masked[i, band] = _holes(whole)
        _scale(whole, _ONE / softening[i, band])


# Each loop is of one kind, with nothing wider than float32 in it, or it is no longer made into vectors (of full width).


@njit(nogil=True, error_model="numpy", cache=True)
def _plain(pixels, out):  # type: ignore[no-untyped-def]
    """Pixels, NaN where masked."""
    for k in range(len(out)):
        out[k] = pixels[k] if abs(pixels[k]) <= _LARGEST else _NOTHING


@njit(nogil=True, error_model="numpy", cache=True)
def _with_noise(pixels, variance, out):  # type: ignore[no-untyped-def]
    """Pixels, NaN where masked by themselves or by their variance."""
    for k in range(len(out)):
        fine = (abs(pixels[k]) <= _LARGEST) & (variance[k] > _ZERO) & (variance[k] <= _LARGEST)
        out[k] = pixels[k] if fine else _NOTHING


@njit(nogil=True, error_model="numpy", cache=True)
def _holes(out):  # type: ignore[no-untyped-def]
    count = 0
    for k in range(len(out)):
        count += out[k] != out[k]
    return count


@njit(nogil=True, error_model="numpy", cache=True)
def _scale(out, scale):  # type: ignore[no-untyped-def]
    """In place; NaN to 0."""
    for k in range(len(out)):
        out[k] = arcsinh((out[k] if out[k] == out[k] else _ZERO) * scale)


@njit(nogil=True, error_model="numpy", cache=True, inline="always")
def arcsinh(x):  # type: ignore[no-untyped-def]
    """arcsinh without a branch: ln(1 + t), t = u + u^2 / (1 + sqrt(1 + u^2)), u = |x|, its mantissa brought about 1."""
    u = abs(x)
    u = u if u < _LARGEST else _LARGEST
    far = u >= _FAR
    square = _ZERO if far else u * u
    t = u if far else u + square / (_ONE + np.sqrt(_ONE + square))
    w = _ONE + t
    bits = bits_of(w) + np.int32(_UNIT - _ROOT_HALF)
    power = (bits >> np.int32(23)) - np.int32(127)
    mantissa = of_bits((bits & np.int32(0x7FFFFF)) + np.int32(_ROOT_HALF))
    near = power == np.int32(0)
    f = t if near else mantissa - _ONE
    s = f / (_TWO + f)
    z = s * s
    y = s * (_TWO + z * (_C1 + z * (_C2 + z * (_C3 + z * _C4))))
    y += np.float32(power) * _LN2 + (_LN2 if far else _ZERO)
    return of_bits(bits_of(y) | (bits_of(x) & np.int32(-(2**31))))
