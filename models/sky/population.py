"""Galaxies with known physics, as far as a survey sees them: redshift, luminosity, type, stars, dust, gas, size, shape.

Rounded from published relations, with their scatter: luminosity functions by type that evolve (Loveday et al. 2012, MNRAS 420,
1239), sizes by stellar mass (Shen et al. 2003, MNRAS 343, 978) that evolve (van der Wel et al. 2014, ApJ 788, 28), mass-to-light
by colour (Bell et al. 2003, ApJS 149, 289; less 0.15 dex for Kroupa's mass function), dust that grows with inclination (Tully et
al. 1998, AJ 115, 2264), bars as long as Erwin (2005, MNRAS 364, 283) finds. The spectra scatter about the templates: age, dust,
lines, slope, and wiggles that no template has.

These numbers were fixed before any network was trained on what comes out: see the history of this file.
"""

from typing import NamedTuple

import numpy as np

from models.sky.colours import Tables, fluxes
from models.sky.surveys import DUST_LAW, SkySurvey
from schemas.batch import Float64
from schemas.magnitudes import ZERO_POINT

HUBBLE, MATTER = 0.7, 0.3  # flat; h and Omega_m
EARLY, LATE = (
    (-21.25, -0.5, 2.4, 1.2, -0.9),
    (-21.1, -1.2, 3.6, 1.3, 0.4),
)  # M*, alpha, phi*, Q and P, per mag of SDSS's r
FAINTEST = -14.0  # absolute magnitude of the faintest galaxy
SUN = 4.64  # absolute magnitude in r, AB
BULGE, DISC, BAR, ARMS = range(4)  # the parts of a galaxy
THIN = 0.2  # axis ratio of a disc seen edge-on
WIGGLE = 0.02  # mag, of each of the waves in ln(wavelength) by which a spectrum is not a template
WAVES = 4
TILT = 0.12  # scatter of the exponent of wavelength


class Galaxy(NamedTuple):
    """n galaxies, [n] each unless said; sizes are half-light radii, in arcsec, along the major axis.

    Attributes
    ----------
    z, log_mass, t_type
        Redshift, log10 of the stellar mass in suns, de Vaucouleurs' type from -5 (E) to 10 (Im).
    flux
        Of bulge, disc, bar and arms in each band, before dust of the Milky Way, nJy, [n, 4, B].
    ebv
        E(B-V) of the Milky Way, mag.
    bulge_radius, bulge_ratio, disc_radius, disc_ratio
        Sizes and axis ratios.
    position_angle
        Of the major axis, rad.
    bar_length, bar_angle
        Half length, arcsec in the plane of the disc (0 = no bar), and where it points there, rad.
    pitch, hand, turns
        Of the arms: angle, rad; 1 or -1; 0 if there are none, else how far they go, in scale lengths.
    """

    z: Float64
    log_mass: Float64
    t_type: Float64
    flux: Float64
    ebv: Float64
    bulge_radius: Float64
    bulge_ratio: Float64
    disc_radius: Float64
    disc_ratio: Float64
    position_angle: Float64
    bar_length: Float64
    bar_angle: Float64
    pitch: Float64
    hand: Float64
    turns: Float64

    def of(self, rows: np.ndarray | slice) -> "Galaxy":
        """The same of some rows."""
        return Galaxy(*(column[rows] for column in self))


def comoving_distance(z: Float64) -> Float64:
    """Mpc."""
    fine = np.linspace(0.0, max(float(np.max(z)), 0.01), 4000)
    inverse = 1.0 / np.sqrt(MATTER * (1 + fine) ** 3 + 1 - MATTER)
    steps = 0.5 * (inverse[1:] + inverse[:-1]) * np.diff(fine)
    distance: Float64 = np.interp(z, fine, np.append(0.0, np.cumsum(steps))) * 2997.92458 / HUBBLE
    return distance


def distance_modulus(z: Float64) -> Float64:
    """5 log10(luminosity distance / 10 pc), mag."""
    modulus: Float64 = 5.0 * np.log10(np.maximum(comoving_distance(z) * (1 + z), 1e-6)) + 25.0
    return modulus


def drawn(n: int, survey: SkySurvey, tables: Tables, rng: np.random.Generator) -> Galaxy:
    """`n` galaxies within the survey's limits, independent of each other."""
    found: list[Galaxy] = []
    while (missing := n - sum(len(some.z) for some in found)) > 0:
        found.append(_some(max(2 * missing, 64), survey, tables, rng))
    return Galaxy(*(np.concatenate(columns)[:n] for columns in zip(*found, strict=True)))


def _some(n: int, survey: SkySurvey, tables: Tables, rng: np.random.Generator) -> Galaxy:
    """Those of `n` candidates that are within the limits."""
    z, magnitude, early = _luminosities(n, survey, tables, rng)
    kind = np.where(early, rng.uniform(-5, -1, n), np.clip(rng.normal(4.5 + 1.0 * (magnitude + 20.5), 2.5, n), 0, 10))
    share = _bulge_share(kind, rng)
    # Old stars are older in bright galaxies and at low redshift; discs are bluer the later their type.
    old = np.clip(rng.normal(5.0 - 0.8 * (magnitude + 21.0) - 5.0 * z, 1.4), 0.0, 7.4)
    disc = np.where(early, old, np.clip(rng.normal(9.0 + 1.25 * kind + 5.0 * z, 2.2), 7.6, 30.0))
    arms = np.where(early, old, np.clip(disc + rng.uniform(3.0, 9.0, n), 7.6, 30.0))

    cosine = rng.random(n)
    ratio = np.sqrt(cosine**2 * (1 - THIN**2) + THIN**2)
    face_on = np.where(early, rng.exponential(0.04, n), rng.lognormal(np.log(0.28), 0.7, n))
    dust = face_on + np.where(early, 0.0, 0.8 * np.log10(1.0 / ratio) * np.clip(face_on / 0.28, 0.3, 2.0))
    gas, oxygen = np.exp(rng.normal(0, 0.5, n)), np.exp(rng.normal(0, 0.6, n))

    barred = ~early & (share < 0.6) & (rng.random(n) < 0.5)
    winding = ~early & (kind < 8.5) & (rng.random(n) < 0.85)
    parts = np.zeros((n, 4))
    parts[:, BULGE] = share
    parts[:, BAR] = np.where(barred, 0.15 * (1 - share), 0.0)
    parts[:, ARMS] = np.where(winding, 0.25 * (1 - share), 0.0)
    parts[:, DISC] = 1.0 - parts.sum(1)
    sorts, dusts = (old, disc, 0.5 * (old + disc), arms), (0.4 * dust, dust, 0.7 * dust, 1.2 * dust)
    scale = 10 ** (-0.4 * (magnitude + distance_modulus(z) - ZERO_POINT))
    flux = np.stack([fluxes(tables, s, d, z, gas, oxygen) for s, d in zip(sorts, dusts, strict=True)], 1)
    flux *= parts[:, :, None] * (scale[:, None] * _off_template(tables, z, rng))[:, None, :]

    colour = np.stack([np.interp(s, np.arange(len(tables.colour)), tables.colour) for s in sorts], 1)
    light = parts * 10 ** (-0.4 * (magnitude - SUN))[:, None]
    log_mass = np.log10((light * 10 ** (-0.306 - 0.15 + 1.097 * colour)).sum(1))
    bulge_radius, disc_radius = _sizes(log_mass, early, share, z, rng)
    arcsec = 206.265 * (1 + z) / comoving_distance(z)  # of a kpc
    bar = np.where(barred, np.clip(rng.normal(0.85, 0.25, n), 0.3, 1.5) * disc_radius, 0.0)
    ebv = np.minimum(rng.lognormal(np.log(0.04), 0.8, n), 0.5)
    galaxies = Galaxy(
        z,
        log_mass,
        kind,
        flux,
        ebv,
        bulge_radius * arcsec,
        np.where(early, rng.uniform(0.55, 1.0, n), np.clip(0.4 + 0.6 * ratio, 0, 1)),
        disc_radius * arcsec,
        np.where(early, rng.uniform(0.3, 1.0, n), ratio),
        rng.uniform(0, np.pi, n),
        bar * arcsec,
        rng.uniform(0, np.pi, n),
        np.radians(rng.uniform(12, 32, n)),
        rng.choice([-1.0, 1.0], n),
        np.where(winding, rng.uniform(2.5, 4.0, n), 0.0),
    )
    law = np.array(survey.bands.law(DUST_LAW))[survey.reference]
    seen = ZERO_POINT - 2.5 * np.log10(flux[:, :, survey.reference].sum(1)) + law * ebv
    return galaxies.of((seen > survey.brightest) & (seen < survey.faintest))


def _luminosities(
    n: int, survey: SkySurvey, tables: Tables, rng: np.random.Generator
) -> tuple[Float64, Float64, np.ndarray]:
    """Redshifts, absolute magnitudes in r without dust, and which are early types, of galaxies near the survey's limits."""
    edges_z = np.linspace(0.005, survey.z_max, 321)
    edges_m = np.linspace(-25.0, FAINTEST, 221)
    z, m = 0.5 * (edges_z[1:] + edges_z[:-1]), 0.5 * (edges_m[1:] + edges_m[:-1])
    distance = comoving_distance(z)
    volume = distance**2 * np.gradient(distance, z)
    chance = []
    for (bright, slope, density, q, p), bluest in ((EARLY, 3.0), (LATE, 28.0)):
        light = 10 ** (-0.4 * (m[None, :] - (bright - q * z[:, None])))
        number = light ** (slope + 1) * np.exp(-light) * density * 10 ** (0.4 * p * z[:, None])
        ones = np.ones(len(z))
        high, low = (
            fluxes(tables, np.full(len(z), sort), 0 * ones, z, ones, ones)[:, survey.reference]
            for sort in (bluest, 7.0)
        )
        about = m[None, :] + distance_modulus(z)[:, None]
        reach = about - 2.5 * np.log10(np.maximum(high, low))[:, None] < survey.faintest + 0.4
        chance.append(number * volume[:, None] * reach)
    cumulative = np.cumsum(np.stack(chance))
    cell = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
    kind, row, column = np.unravel_index(np.minimum(cell, len(cumulative) - 1), (2, len(z), len(m)))
    redshift = edges_z[row] + rng.random(n) * (edges_z[1] - edges_z[0])
    magnitude = edges_m[column] + rng.random(n) * (edges_m[1] - edges_m[0])
    return redshift, magnitude, kind == 0


def _bulge_share(kind: Float64, rng: np.random.Generator) -> Float64:
    """Of the light in r: 0.9 in ellipticals, half in S0, a third in Sa, next to nothing from Sd on."""
    middle = np.interp(kind, [-5, -3, -1, 1, 3, 5, 7, 10], [0.95, 0.85, 0.55, 0.33, 0.2, 0.08, 0.03, 0.0])
    share: Float64 = np.clip(middle * np.exp(rng.normal(0, 0.3, len(kind))), 0.0, 1.0)
    return share


def _off_template(tables: Tables, z: Float64, rng: np.random.Generator) -> Float64:
    """By what a spectrum differs from any template, at the rest wavelengths of the bands, [n, B]: a slope, and waves."""
    n = len(z)
    x = np.log(tables.wavelength[None, :] / (1 + z[:, None]) / 6200.0)
    away = rng.normal(0, TILT, (n, 1)) * x
    for _ in range(WAVES):
        period, phase = rng.uniform(0.25, 1.0, (n, 1)), rng.uniform(0, 2 * np.pi, (n, 1))
        away += 0.921 * WIGGLE * np.sqrt(2) * np.cos(2 * np.pi * x / period + phase)
    off: Float64 = np.exp(away)
    return off


def _sizes(
    log_mass: Float64, early: np.ndarray, share: Float64, z: Float64, rng: np.random.Generator
) -> tuple[Float64, Float64]:
    """Half-light radii of bulge and disc, kpc."""
    mass = 10 ** np.clip(log_mass, 8.0, 12.0)
    scatter = rng.normal(0, 1, len(z)) * np.interp(log_mass, [10.0, 11.2], [0.45, 0.3])
    of_early = 2.88e-6 * np.maximum(mass, 1e10) ** 0.56 * (1 + z) ** -1.3
    of_late = 0.1 * mass**0.14 * (1 + mass / 3.98e10) ** 0.25 * (1 + z) ** -0.75
    whole = np.where(early, of_early, of_late) * np.exp(scatter)
    bulge = np.where(early, whole, whole * np.clip(0.15 + 0.5 * share, 0.1, 0.6) * np.exp(rng.normal(0, 0.2, len(z))))
    return bulge, np.where(early, 1.5 * whole, whole)
