"""A simulated sky: stamps with noise, their variance, the catalogue that is measured from them, and the truth.

Not in it: neighbours on the sky, cosmic rays, saturation, noise that is correlated from pixel to pixel. That a network which was
trained here serves for real images has to be shown on real images.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np

from models.sky.colours import Tables, tables
from models.sky.measure import Measured, measured
from models.sky.population import Galaxy, drawn
from models.sky.render import rendered
from models.sky.surveys import DUST_LAW, SkySurvey
from schemas.batch import Float32, Float64, UInt8
from schemas.magnitudes import ZERO_POINT

CHUNK = 256  # galaxies with a generator of their own: the sky is the same on any number of threads
AHEAD = 2  # chunks that wait ready beside those being made
SEEING_SCATTER, BAND_SCATTER = 0.08, 0.04  # of ln(width): of a night, and of a band in it
WANDER = 0.3  # pixels, of the galaxy against the middle of its stamp, beside half a pixel for where the grid lies
MAP_ERROR = 0.1  # relative error of E(B-V) in the catalogue


class Truth(NamedTuple):
    """What is true of n galaxies.

    Attributes
    ----------
    z, log_mass, t_type
        Redshift, log10 of the stellar mass in suns, de Vaucouleurs' type.
    flux
        Before the dust of the Milky Way and without noise, nJy, [n, B].
    bulge
        Part of the light of the reference band that is in the bulge.
    bar_length
        Half length of the bar on the sky, arcsec; 0 = none.
    ebv
        E(B-V), mag.
    """

    z: Float64
    log_mass: Float64
    t_type: Float64
    flux: Float64
    bulge: Float64
    bar_length: Float64
    ebv: Float64


class Sky(NamedTuple):
    """n galaxies as a survey has them.

    Attributes
    ----------
    stamps, variance
        nJy and nJy^2 a pixel, float32[n, B, S, S].
    measured
        Photometry from these stamps.
    ebv
        E(B-V) as the dust map has it, mag, float32[n].
    band_state
        All measured, uint8[n, B].
    truth
        Never shown to a model but for z in training.
    """

    stamps: Float32
    variance: Float32
    measured: Measured
    ebv: Float32
    band_state: UInt8
    truth: Truth


def simulate(
    survey: SkySurvey,
    n: int,
    seed: int = 1,
    size: int | None = None,
    threads: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Sky:
    """A sky of `n` galaxies.

    Parameters
    ----------
    survey
        What looks at it.
    n
        Galaxies.
    seed
        Same seed, same sky, on any number of threads. A longer sky begins with the shorter ones, but for their last 256 galaxies.
    size
        Pixels a side; None = the survey's own.
    threads
        None = one a core.
    progress
        Called with the part that is done.

    Raises
    ------
    ValueError
        If `n` or `size` is not positive.
    schemas.errors.UserError
        If the packages with spectra and filters are not installed.
    """
    parts: list[Sky] = []
    for part in chunks(survey, n, seed, size, threads):
        parts.append(part)
        if progress:
            progress(len(parts) / -(-n // CHUNK))
    stamps, variance, found, ebv, state, truth = zip(*parts, strict=True)
    return Sky(
        np.concatenate(stamps),
        np.concatenate(variance),
        Measured(*map(np.concatenate, zip(*found, strict=True))),
        np.concatenate(ebv),
        np.concatenate(state),
        Truth(*map(np.concatenate, zip(*truth, strict=True))),
    )


def chunks(
    survey: SkySurvey, n: int, seed: int = 1, size: int | None = None, threads: int | None = None
) -> Iterator[Sky]:
    """The sky of `simulate` in pieces of at most 256 galaxies, few of them made ahead: any number fits into memory."""
    side = survey.size if size is None else size
    if n < 1 or side < 8:
        raise ValueError(f"a sky of {n} galaxies in stamps of {side} pixels")
    of = tables(survey)
    many = threads or len(os.sched_getaffinity(0))
    count = -(-n // CHUNK)
    seeds = iter(range(count))
    waiting: deque[Future[Sky]] = deque()

    def chunk(k: int) -> Sky:
        own = np.random.SeedSequence(seed, spawn_key=(k,))  # the k-th that SeedSequence(seed).spawn gives
        return _chunk(survey, of, min(CHUNK, n - k * CHUNK), side, np.random.default_rng(own))

    pool = ThreadPoolExecutor(many)
    try:
        waiting.extend(pool.submit(chunk, k) for k in islice(seeds, many + AHEAD))
        while waiting:
            part = waiting.popleft().result()
            waiting.extend(pool.submit(chunk, k) for k in islice(seeds, 1))
            yield part
    finally:  # Ctrl-C, or nobody wants more: what has not begun is not begun
        pool.shutdown(cancel_futures=True)


def sky_noise(survey: SkySurvey) -> Float64:
    """Noise of the sky in a pixel, nJy, [B]: from the depth for a point source in the median seeing, taken as Gaussian."""
    pixels = 4 * np.pi * (np.array(survey.fwhm) / 2.3548 / survey.pixel) ** 2
    noise: Float64 = 10 ** (-0.4 * (np.array(survey.depth) - ZERO_POINT)) / 5 / np.sqrt(pixels)
    return noise


def _chunk(survey: SkySurvey, of: Tables, n: int, side: int, rng: np.random.Generator) -> Sky:
    galaxies = drawn(n, survey, of, rng)
    bands = len(survey.fwhm)
    law = np.array(survey.bands.law(DUST_LAW))
    scale = 10 ** (-0.4 * (law * galaxies.ebv[:, None] + rng.normal(0, 1, (n, bands)) * survey.zero_point))
    fwhm = np.array(survey.fwhm) * np.exp(
        rng.normal(0, SEEING_SCATTER, (n, 1)) + rng.normal(0, BAND_SCATTER, (n, bands))
    )
    centre = (side - 1) / 2 + rng.uniform(-0.5, 0.5, (n, 2)) + rng.normal(0, WANDER, (n, 2))
    stamps = rendered(galaxies, galaxies.flux * scale[:, None, :], fwhm, centre, survey.pixel, side)
    noise = sky_noise(survey)
    sky = 10 ** (-0.4 * (np.array(survey.sky) - ZERO_POINT)) * survey.pixel**2
    variance = (noise**2).astype(np.float32)[:, None, None] * (1 + stamps / sky.astype(np.float32)[:, None, None])
    stamps += np.sqrt(variance) * rng.standard_normal(stamps.shape, np.float32)
    found = measured(stamps, variance, fwhm, noise, survey.pixel, survey.apertures)
    ebv = (galaxies.ebv * (1 + MAP_ERROR * rng.normal(0, 1, n))).astype(np.float32)
    return Sky(stamps, variance, found, ebv, np.ones((n, bands), np.uint8), _truth(galaxies, survey))


def _truth(galaxies: Galaxy, survey: SkySurvey) -> Truth:
    total = galaxies.flux.sum(1)
    reference = survey.reference
    across = np.cos(galaxies.bar_angle) ** 2 + (galaxies.disc_ratio * np.sin(galaxies.bar_angle)) ** 2
    return Truth(
        galaxies.z,
        galaxies.log_mass,
        galaxies.t_type,
        total,
        galaxies.flux[:, 0, reference] / total[:, reference],
        galaxies.bar_length * np.sqrt(across),
        galaxies.ebv,
    )
