"""Fluxes of spectra in bands: by spectrum, dust and redshift, with emission lines and the intergalactic medium.

A spectrum is given by a coordinate along the sequence of `curves.spectra`: 0 to 7 are ellipticals and S0 of growing age, 7 to
18 spirals Sa to Sdm, 19 to 30 starbursts of falling age; between two spectra, and between two rows of dust, the logarithm of
the flux is interpolated.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import njit

from models.sky import curves
from models.sky.curves import Curve
from models.sky.surveys import SkySurvey
from schemas.batch import Float64

C = 2.998e18  # Angstrom / s
R_V = 4.05  # of Calzetti's law
DUST = np.array([0.0, 0.15, 0.3, 0.6, 1.0, 1.5, 2.2, 3.0])  # A_V of the rows of dust, mag
REDSHIFTS = 240
STEP = 8e-4  # of the common grid in ln(wavelength)
FLOOR = 1e-10  # of a flux, so that it has a logarithm
STAR_FORMATION = 1.4e-28 / 7.9e-42  # L(H alpha) of L_nu(2800 A), Hz: Kennicutt 1998, ARA&A 36, 189
LINES_BEGIN = 7.5  # coordinate from which there are young stars that light up gas
LINE_DUST = 1 / 0.44  # of a line against that of the stars: Calzetti 2000
# Wavelength, A, and strength against H alpha. Two tables: what follows star formation, and [O III], with its own scatter.
LINES = ((6562.8, 1.0), (4861.3, 0.35), (3727.4, 0.56), (6583.5, 0.33), (6724.0, 0.28))
OXYGEN = ((5006.8, 0.40), (4958.9, 0.13))


class Tables(NamedTuple):
    """Fluxes in the bands of a survey, against that of the same stars at rest in SDSS's r, without dust, at the same distance.

    Attributes
    ----------
    redshift
        float64[Z], even.
    stars
        ln of the flux of the continuum, float64[T, A, Z, B].
    lines
        Flux of the lines of the gas, of a galaxy with a flux of 1 at 2800 A, float64[2, A, Z, B].
    young
        Flux at 2800 A, float64[T].
    colour
        g - r at rest without dust, float64[T].
    wavelength
        Mean wavelength of each band, A, float64[B].
    """

    redshift: Float64
    stars: Float64
    lines: Float64
    young: Float64
    colour: Float64
    wavelength: Float64


@cache
def tables(survey: SkySurvey) -> Tables:
    """The tables of a survey; some seconds, once a process.

    Raises
    ------
    schemas.errors.UserError
        If the packages with spectra and filters are not installed.
    """
    spectra = curves.spectra()
    bands = [curves.filter_curve(name) for name in survey.filters]
    g, r = curves.filter_curve("sdss2010-g"), curves.filter_curve("sdss2010-r")
    at_rest = np.exp(np.arange(np.log(600.0), np.log(2.8e4), STEP))
    star = np.array([np.interp(at_rest, s.wavelength, s.value, 0.0, 0.0) for s in spectra])
    red = star @ _weights(r, at_rest)
    star /= red[:, None]
    dim = 10 ** (-0.4 * DUST[:, None] * _calzetti(at_rest) / R_V)
    dusty = (star[:, None, :] * dim).reshape(-1, len(at_rest))
    redshift = np.linspace(0.0, survey.z_max * 1.02, REDSHIFTS)
    stars = np.empty((len(spectra), len(DUST), REDSHIFTS, len(bands)))
    lines = np.zeros((2, len(DUST), REDSHIFTS, len(bands)))
    for k, z in enumerate(redshift):
        seen = at_rest * (1 + z)
        through = _transmission(seen, z)
        weights = np.stack([_weights(band, seen) * through / (1 + z) for band in bands], 1)
        stars[:, :, k] = (dusty @ weights).reshape(len(spectra), len(DUST), -1)
        for kind, those in enumerate((LINES, OXYGEN)):
            for at, strength in those:
                faded = 10 ** (-0.4 * LINE_DUST * DUST * _calzetti(np.array([at]))[0] / R_V)
                lines[kind, :, k] += strength * faded[:, None] * [_line(band, at * (1 + z)) for band in bands]
    blue = star @ _weights(g, at_rest)
    young = np.array([np.interp(2800.0, at_rest, s) for s in star]) * 2800.0**2 / C
    middle = np.array(
        [np.average(band.wavelength, weights=band.value * np.gradient(band.wavelength)) for band in bands]
    )
    return Tables(
        redshift, np.log(np.maximum(stars, FLOOR)), lines * STAR_FORMATION, young, -2.5 * np.log10(blue), middle
    )


def _weights(band: Curve, wavelength: Float64) -> Float64:
    """Quadrature weights that turn f_lambda on `wavelength` into the mean f_nu that an AB magnitude is of."""
    response = np.interp(wavelength, band.wavelength, band.value, 0.0, 0.0)
    step = np.gradient(wavelength)
    return response * wavelength * step / (C * _norm(band))


def _norm(band: Curve) -> float:
    return float(np.trapezoid(band.value / band.wavelength, band.wavelength))


def _line(band: Curve, at: float) -> float:
    """Mean f_nu of a line of flux 1."""
    return float(np.interp(at, band.wavelength, band.value, 0.0, 0.0) * at / (C * _norm(band)))


def _calzetti(wavelength: Float64) -> Float64:
    """k of the starburst attenuation law (Calzetti et al. 2000, ApJ 533, 682); its ends go on as they are."""
    x = np.clip(wavelength, 1200.0, 22000.0) / 1e4
    red = 2.659 * (-1.857 + 1.040 / x) + R_V
    blue = 2.659 * (-2.156 + 1.509 / x - 0.198 / x**2 + 0.011 / x**3) + R_V
    return np.maximum(np.where(x > 0.63, red, blue), 0.0)


def _transmission(seen: Float64, z: float) -> Float64:
    """Of the intergalactic medium: Lyman lines and continuum (Madau 1995, ApJ 441, 18, equations 12, 15 and footnote 3)."""
    depth = np.zeros_like(seen)
    for line, strength in ((1215.67, 0.0036), (1025.72, 1.7e-3), (972.54, 1.2e-3), (949.74, 9.3e-4)):
        depth += np.where(seen < line * (1 + z), strength * (seen / line) ** 3.46, 0.0)
    x, top = np.clip(seen / 912.0, 1.0, None), 1.0 + z
    metal = 0.25 * x**3 * (top**0.46 - x**0.46) + 9.4 * x**1.5 * (top**0.18 - x**0.18)
    metal -= 0.7 * x**3 * (x**-1.32 - top**-1.32) + 0.023 * (top**1.68 - x**1.68)
    depth += np.where(seen < 912.0 * top, np.maximum(metal, 0.0), 0.0)
    transmitted: Float64 = np.exp(-np.minimum(depth, 30.0))
    return np.where(seen < 912.0, 0.0, transmitted)


def fluxes(of: Tables, sort: Float64, dust: Float64, z: Float64, gas: Float64, oxygen: Float64) -> Float64:
    """Fluxes in the bands against the star light at rest in r, float64[n, B].

    Parameters
    ----------
    of
        The survey's tables.
    sort
        Coordinates along the sequence of spectra, float64[n].
    dust
        A_V of the stars, mag, float64[n].
    z
        Redshifts, float64[n].
    gas, oxygen
        Strength of all lines, and of [O III] beside it, against the mean galaxy's, float64[n].
    """
    out = np.empty((len(sort), of.stars.shape[3]))
    step = of.redshift[1] - of.redshift[0]
    _fluxes(of.stars, of.lines, of.young, DUST, step, sort, dust, z, gas, oxygen, out)
    return out


@njit(nogil=True, error_model="numpy", cache=True)
def _fluxes(stars, lines, young, rows, step, sort, dust, z, gas, oxygen, out):  # type: ignore[no-untyped-def]
    n_sorts, n_rows, n_z, n_bands = stars.shape
    for i in range(len(sort)):
        s = min(max(sort[i], 0.0), n_sorts - 1.0)
        t = min(int(s), n_sorts - 2)
        s -= t
        d = min(max(dust[i], rows[0]), rows[-1])
        a = min(np.searchsorted(rows, d, side="right") - 1, n_rows - 2)
        d = (d - rows[a]) / (rows[a + 1] - rows[a])
        w = z[i] / step
        k = min(int(w), n_z - 2)
        w -= k
        light = young[t] * (1 - s) + young[t + 1] * s if sort[i] > LINES_BEGIN else 0.0
        for b in range(n_bands):
            total, glow = 0.0, 0.0
            for j in range(2):
                wa = d if j else 1 - d
                for m in range(2):
                    weight = wa * (w if m else 1 - w)
                    total += weight * ((1 - s) * stars[t, a + j, k + m, b] + s * stars[t + 1, a + j, k + m, b])
                    glow += weight * (lines[0, a + j, k + m, b] + oxygen[i] * lines[1, a + j, k + m, b])
            out[i, b] = np.exp(total) + gas[i] * light * glow
