"""Draws galaxies into stamps: every part is a set of Gaussians, blurred by those of the point-spread function of each band."""

import math

import numpy as np
from numba import njit

from models.images.stretch import of_bits
from models.sky.population import ARMS, BAR, BULGE, DISC, Galaxy
from models.sky.profiles import moffat, sersic
from schemas.batch import Float32, Float64

REACH = 4.2  # standard deviations out to which a Gaussian is drawn
BAR_KNOTS, ARM_KNOTS = 5, 6
PIXEL = 1.0 / 12.0  # variance of a pixel's own width
SHARP = 0.3  # Gaussians of less than this much of the narrowest blur are taken together
WIDE = 3.0  # wider than this many mean blurs: the shape of the blur no longer shows, its variance does
_LOG2E, _LN2_HIGH, _LN2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST, _HALF, _ONE = np.float32(-80.0), np.float32(0.5), np.float32(1.0)
_E3, _E4, _E5, _E6 = np.float32(1 / 6), np.float32(1 / 24), np.float32(1 / 120), np.float32(1 / 720)


def rendered(galaxies: Galaxy, flux: Float64, fwhm: Float64, centre: Float64, pixel: float, size: int) -> Float32:
    """Stamps without noise.

    Parameters
    ----------
    galaxies
        Shapes.
    flux
        Of each part in each band, nJy, float64[n, 4, B].
    fwhm
        Of the point-spread function, arcsec, float64[n, B].
    centre
        Of the galaxy, x and y in pixels, float64[n, 2].
    pixel, size
        Arcsec a pixel, pixels a side.

    Returns
    -------
    Float32
        nJy a pixel, float32[n, B, size, size].
    """
    out = np.zeros((len(galaxies.z), flux.shape[2], size, size), np.float32)
    shape = np.stack([np.asarray(column, np.float64) for column in galaxies[5:]], 1)
    shape[:, [0, 2, 5]] /= pixel  # the radii of bulge and disc, the length of the bar
    old, young, air = sersic(4.0), sersic(1.0), moffat()
    _render(shape, flux, fwhm / pixel, centre, *old, *young, *air, out)
    return out


@njit(nogil=True, error_model="numpy", cache=True)
def _render(shape, flux, fwhm, centre, old_share, old_var, young_share, young_var, air_share, air_var, out):  # type: ignore[no-untyped-def]
    n = len(shape)
    room = len(old_share) + len(young_share) + BAR_KNOTS + 2 * ARM_KNOTS
    knots = np.empty((room, 6))  # x, y, variances xx, xy, yy, part of the light
    part = np.empty(room, np.int64)
    column = np.arange(out.shape[3]).astype(np.float32)
    mean = (air_share * air_var).sum()
    for i in range(n):
        bulge, bulge_ratio, disc, ratio, angle, bar, bar_angle, pitch, hand, turns = shape[i]
        c, s = math.cos(angle), math.sin(angle)
        count = 0
        sharpest = SHARP * (fwhm[i].min() ** 2 * air_var[0] + PIXEL)
        if flux[i, BULGE].any():
            count = _profile(knots, part, count, BULGE, bulge, bulge_ratio, c, s, old_share, old_var, sharpest)
        if flux[i, DISC].any():
            count = _profile(knots, part, count, DISC, disc, ratio, c, s, young_share, young_var, sharpest)
        if flux[i, BAR].any():
            along, across = math.cos(bar_angle), math.sin(bar_angle)
            v = (0.16 * bar) ** 2
            for k in range(BAR_KNOTS):
                d = bar * 0.84 * (2.0 * k / (BAR_KNOTS - 1) - 1.0)
                share = 1.0 / BAR_KNOTS
                count = _add(knots, part, count, BAR, d * along, d * across, v, 0.0, v, ratio, c, s, share)
        if flux[i, ARMS].any():
            length = disc / 1.678
            first = max(0.8 * length, bar)
            last = max(turns * length, 1.2 * first)
            total = 0.0
            for k in range(ARM_KNOTS):
                r = first + (last - first) * k / (ARM_KNOTS - 1)
                total += r * math.exp(-r / length)
            for side in range(2):
                for k in range(ARM_KNOTS):
                    r = first + (last - first) * k / (ARM_KNOTS - 1)
                    a = bar_angle + side * math.pi + hand * math.log(r / first) / math.tan(pitch)
                    v = (0.22 * r + 0.1 * length) ** 2
                    share = 0.5 * r * math.exp(-r / length) / total
                    x, y = r * math.cos(a), r * math.sin(a)
                    count = _add(knots, part, count, ARMS, x, y, v, 0.0, v, ratio, c, s, share)
        for k in range(count):
            x, y, xx, xy, yy, share = knots[k]
            x, y = x + centre[i, 0], y + centre[i, 1]
            least = 0.5 * (xx + yy) - math.sqrt(0.25 * (xx - yy) ** 2 + xy * xy)  # variance along the minor axis
            for b in range(out.shape[1]):
                light = flux[i, part[k], b] * share
                if light <= 0.0:
                    continue
                if least > WIDE * mean * fwhm[i, b] ** 2:
                    blur = mean * fwhm[i, b] ** 2 + PIXEL
                    _draw(out[i, b], column, x, y, xx + blur, xy, yy + blur, light)
                    continue
                for p in range(len(air_share)):
                    blur = air_var[p] * fwhm[i, b] ** 2 + PIXEL
                    _draw(out[i, b], column, x, y, xx + blur, xy, yy + blur, light * air_share[p])


@njit(nogil=True, error_model="numpy", cache=True)
def _profile(knots, part, count, which, radius, ratio, c, s, share, variance, sharpest):  # type: ignore[no-untyped-def]
    """The Gaussians of a profile; those too narrow to be told apart behind any blur are one."""
    narrow, spread = 0.0, 0.0
    for k in range(len(share)):
        v = variance[k] * radius * radius
        if v < sharpest:
            narrow += share[k]
            spread += share[k] * v
        else:
            count = _add(knots, part, count, which, 0.0, 0.0, v, 0.0, v, ratio, c, s, share[k])
    if narrow > 0.0:
        v = spread / narrow
        count = _add(knots, part, count, which, 0.0, 0.0, v, 0.0, v, ratio, c, s, narrow)
    return count


@njit(nogil=True, error_model="numpy", cache=True)
def _add(knots, part, count, which, u, v, uu, uv, vv, ratio, c, s, share):  # type: ignore[no-untyped-def]
    """A Gaussian at (u, v) in the plane of the galaxy, seen under the axis ratio, its major axis turned."""
    v, uv, vv = v * ratio, uv * ratio, vv * ratio * ratio
    knots[count, 0] = u * c - v * s
    knots[count, 1] = u * s + v * c
    knots[count, 2] = uu * c * c - 2 * uv * c * s + vv * s * s
    knots[count, 3] = (uu - vv) * c * s + uv * (c * c - s * s)
    knots[count, 4] = uu * s * s + 2 * uv * c * s + vv * c * c
    knots[count, 5] = share
    part[count] = which
    return count + 1


@njit(nogil=True, error_model="numpy", cache=True)
def _draw(image, column, x, y, xx, xy, yy, light):  # type: ignore[no-untyped-def]
    height, width = image.shape
    det = xx * yy - xy * xy
    top = np.float32(light / (2.0 * math.pi * math.sqrt(det)))
    a, d, e = np.float32(-0.5 * yy / det), np.float32(-0.5 * xx / det), np.float32(xy / det)
    reach = REACH * math.sqrt(yy)
    for row in range(max(0, int(y - reach)), min(height, int(y + reach) + 2)):
        dy = np.float32(row - y)
        # of the ellipse, this row alone
        middle = x + xy / yy * (row - y)
        left = REACH * math.sqrt(max(det / yy, 0.0))
        first, last = max(0, int(middle - left)), min(width, int(middle + left) + 2)
        if first < last:
            _row(image[row, first:last], column[first:last], np.float32(x), d * dy * dy, e * dy, a, top)


@njit(nogil=True, error_model="numpy", cache=True)
def _row(out, column, x, constant, linear, square, top):  # type: ignore[no-untyped-def]
    """Adds top exp(constant + linear dx + square dx^2): float32 throughout, or it is not made into vectors."""
    for k in range(len(out)):
        dx = column[k] - x
        u = constant + dx * (linear + square * dx)
        u = u if u > _LOWEST else _LOWEST
        power = np.int32(u * _LOG2E - _HALF)
        r = u - np.float32(power) * _LN2_HIGH - np.float32(power) * _LN2_LOW
        e = _ONE + r * (_ONE + r * (_HALF + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))))
        out[k] += top * e * of_bits((power + np.int32(127)) << np.int32(23))
