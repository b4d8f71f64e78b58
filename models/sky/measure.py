"""Catalogue photometry of stamps, noise and all: matched fluxes, aperture fluxes, sizes. What a survey's pipeline would print.

A forest that is to be compared with a network on the same galaxies gets these numbers: no second exposure, no truth.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from schemas.batch import Float32, Float64

ROUNDS = 12  # of the adaptive moments
SEEING = 2.3548  # full width at half maximum of a Gaussian, in standard deviations
SMALLEST = 0.05  # of the seeing's variance: a source is taken to be no narrower than this above the seeing
LARGEST = 0.25  # of the stamp's side: standard deviation beyond which the moments have run away


class Measured(NamedTuple):
    """Photometry of n galaxies in B bands and A apertures.

    Attributes
    ----------
    flux, flux_err
        Within an elliptical Gaussian of the galaxy's own size, blurred as each band is, nJy, float32[n, B].
    aperture, aperture_err
        Within circles, nJy, float32[n, A, B].
    size
        Standard deviation of the galaxy's image along its mean axis, seeing taken off, arcsec, float32[n].
    ellipticity
        (1 - q^2) / (1 + q^2) of the axis ratio q of the image, float32[n].
    """

    flux: Float32
    flux_err: Float32
    aperture: Float32
    aperture_err: Float32
    size: Float32
    ellipticity: Float32


def measured(
    stamps: Float32, variance: Float32, fwhm: Float64, sky_noise: Float64, pixel: float, apertures: tuple[float, ...]
) -> Measured:
    """Measure stamps.

    Parameters
    ----------
    stamps, variance
        nJy and nJy^2 a pixel, float32[n, B, S, S].
    fwhm
        Of the point-spread function, which a survey knows, arcsec, [n, B].
    sky_noise
        Of a pixel, nJy, [B]: what bands are weighted by in the image that shapes are measured in.
    pixel, apertures
        Arcsec.
    """
    n, n_bands = stamps.shape[:2]
    out = Measured(
        np.empty((n, n_bands), np.float32),
        np.empty((n, n_bands), np.float32),
        np.empty((n, len(apertures), n_bands), np.float32),
        np.empty((n, len(apertures), n_bands), np.float32),
        np.empty(n, np.float32),
        np.empty(n, np.float32),
    )
    weight = sky_noise**-2.0
    weight = weight / weight.sum()
    radii = np.array(apertures) / pixel
    _measure(stamps, variance, np.asarray(fwhm, np.float64) / pixel, weight, radii, pixel, *out)
    return out


@njit(nogil=True, error_model="numpy", cache=True)
def _measure(stamps, variance, fwhm, weight, radii, pixel, flux, flux_err, aperture, aperture_err, size, ellipticity):  # type: ignore[no-untyped-def]
    n, n_bands, side, _ = stamps.shape
    deep = np.empty((side, side), np.float32)
    column = np.arange(side).astype(np.float32)
    inside = np.empty((len(radii), n_bands))
    noise = np.empty((len(radii), n_bands))
    for i in range(n):
        deep[:] = 0
        blur = 0.0
        for b in range(n_bands):
            part = np.float32(weight[b])
            for row in range(side):
                _add(deep[row], stamps[i, b, row], part)
            blur += weight[b] * (fwhm[i, b] / SEEING) ** 2
        x, y, xx, xy, yy = _moments(deep, column, blur)
        least = SMALLEST * blur
        own_xx, own_yy = max(xx - blur, least), max(yy - blur, least)
        xy = min(max(xy, -0.9 * math.sqrt(own_xx * own_yy)), 0.9 * math.sqrt(own_xx * own_yy))
        size[i] = math.sqrt(0.5 * (own_xx + own_yy)) * pixel
        ellipticity[i] = math.sqrt((xx - yy) ** 2 + 4 * xy * xy) / (xx + yy)
        for b in range(n_bands):
            spread = (fwhm[i, b] / SEEING) ** 2
            f, e = _matched(stamps[i, b], variance[i, b], column, x, y, own_xx + spread, xy, own_yy + spread)
            flux[i, b], flux_err[i, b] = f, e
        inside[:], noise[:] = 0.0, 0.0
        for b in range(n_bands):
            for row in range(side):
                dy = row - y
                for k in range(side):
                    r = math.sqrt((k - x) ** 2 + dy * dy)
                    if r > radii[-1] + 0.5:
                        continue
                    for a in range(len(radii)):
                        w = min(max(radii[a] + 0.5 - r, 0.0), 1.0)
                        inside[a, b] += w * stamps[i, b, row, k]
                        noise[a, b] += w * w * variance[i, b, row, k]
        aperture[i], aperture_err[i] = inside, np.sqrt(noise)


@njit(nogil=True, error_model="numpy", cache=True)
def _add(out, line, weight):  # type: ignore[no-untyped-def]
    for k in range(len(out)):
        out[k] += weight * line[k]


@njit(nogil=True, error_model="numpy", cache=True)
def _moments(image, column, blur):  # type: ignore[no-untyped-def]
    """Centre and adaptive second moments (Bernstein & Jarvis 2002): those of the Gaussian that fits its own weight."""
    side = len(image)
    x = y = 0.5 * (side - 1)
    xx, xy, yy = 2.0 * blur, 0.0, 2.0 * blur
    most = (LARGEST * side) ** 2
    for _ in range(ROUNDS):
        det = xx * yy - xy * xy
        reach_x, reach_y = 3.5 * math.sqrt(xx), 3.5 * math.sqrt(yy)
        left, right = max(0, int(x - reach_x)), min(side, int(x + reach_x) + 2)
        low, high = max(0, int(y - reach_y)), min(side, int(y + reach_y) + 2)
        total = sx = sy = sxx = sxy = syy = 0.0
        for row in range(low, high):
            dy = row - y
            for k in range(left, right):
                dx = k - x
                w = math.exp(-0.5 * (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / det) * image[row, k]
                total += w
                sx += w * dx
                sy += w * dy
                sxx += w * dx * dx
                sxy += w * dx * dy
                syy += w * dy * dy
        if total <= 0.0:
            return 0.5 * (side - 1), 0.5 * (side - 1), 2.0 * blur, 0.0, 2.0 * blur
        shift_x, shift_y = sx / total, sy / total
        x += min(max(shift_x, -1.0), 1.0)
        y += min(max(shift_y, -1.0), 1.0)
        new_xx = 2.0 * (sxx / total - shift_x * shift_x)
        new_yy = 2.0 * (syy / total - shift_y * shift_y)
        new_xy = 2.0 * (sxy / total - shift_x * shift_y)
        good = new_xx * new_yy - new_xy * new_xy > 0.05 * blur * blur and new_xx > 0.0 and new_yy > 0.0
        away = abs(x - 0.5 * (side - 1)) > 0.2 * side or abs(y - 0.5 * (side - 1)) > 0.2 * side
        if not good or away or new_xx > most or new_yy > most:
            return 0.5 * (side - 1), 0.5 * (side - 1), 2.0 * blur, 0.0, 2.0 * blur
        done = abs(new_xx - xx) + abs(new_yy - yy) < 0.002 * (xx + yy)
        xx, xy, yy = new_xx, new_xy, new_yy
        if done:
            break
    return x, y, xx, xy, yy


@njit(nogil=True, error_model="numpy", cache=True)
def _matched(image, variance, column, x, y, xx, xy, yy):  # type: ignore[no-untyped-def]
    """Flux within a Gaussian, and its error: sum(w d) / sum(w^2)."""
    side = len(image)
    det = xx * yy - xy * xy
    norm = 1.0 / (2.0 * math.pi * math.sqrt(det))
    reach_x, reach_y = 4.0 * math.sqrt(xx), 4.0 * math.sqrt(yy)
    left, right = max(0, int(x - reach_x)), min(side, int(x + reach_x) + 2)
    low, high = max(0, int(y - reach_y)), min(side, int(y + reach_y) + 2)
    wd = ww = wwv = 0.0
    for row in range(low, high):
        dy = row - y
        for k in range(left, right):
            dx = k - x
            w = norm * math.exp(-0.5 * (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / det)
            wd += w * image[row, k]
            ww += w * w
            wwv += w * w * variance[row, k]
    return wd / ww, math.sqrt(wwv) / ww
