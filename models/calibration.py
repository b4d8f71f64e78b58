"""Choices made on rows the forest has not seen: smoothing, sharpening, and the maps that make the PDFs calibrated.

Everything here works on out-of-fold histograms: those of each training galaxy, from a forest that was grown without it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator  # type: ignore[import-untyped]

from models import metrics
from models.forest.density import SLOPE_FLOOR, Recalibration, densities, identity, smoothing
from schemas.batch import Float32, Float64, Int64

WIDTHS = (0.003, 0.005, 0.008, 0.012, 0.018)  # of the smoothing, in (1 + z)
ALPHAS = (1.0, 1.25, 1.5, 2.0, 2.5)  # powers of the PDF
KNOTS = 10  # quantile intervals of a PIT map
TABLE = 513  # points at which a map's slope is tabulated
BINS = 5  # of the reference magnitude, of equal count
ROWS_PER_BIN = 400  # fewer calibration rows than this in a bin make a noisy map: take fewer bins


class HeldOut(NamedTuple):
    """Galaxies and the histograms of a forest that was grown without them."""

    histograms: Float32  # [n, G]
    z: Float64  # [n]
    mag_ref: Float32  # [n], NaN where the reference band gives no flux
    band_mask: npt.NDArray[np.uint32]  # [n]


class Calibration(NamedTuple):
    """The choices: smoothing width in (1 + z), power, PIT maps."""

    width: float
    alpha: float
    maps: Recalibration


def folds(n: int, k: int, rng: np.random.Generator) -> Iterator[tuple[Int64, Int64]]:
    """Split n rows at random into k parts: (the others, the part), both sorted, k times."""
    part = rng.permutation(n) % k
    for number in range(k):
        yield np.flatnonzero(part != number), np.flatnonzero(part == number)


def calibrate(
    seen: HeldOut, masked: HeldOut | None, grid: Float64, n_bands: int, weight: Float64 | None = None
) -> Calibration:
    """Choose smoothing and power by the CDE loss, then fit the PIT maps.

    Parameters
    ----------
    seen
        The galaxies as observed: they make every choice but the maps for missing bands.
    masked
        The same galaxies with bands taken away, to fit those maps; none = galaxies with missing bands take the map of all.
    grid
        float64[G].
    n_bands
        Bands of the survey.
    weight
        Importance weights of `seen`, float64[n]; none = all equal.
    """
    width, alpha = choose(seen, grid, weight)
    pit = _pit(seen, grid, width, alpha)
    maps = Recalibration(np.empty((0, TABLE), np.float32), magnitude_edges(seen.mag_ref))
    group = maps.of(seen.mag_ref, seen.band_mask, n_bands)
    n_magnitude = len(maps.edges) + 1
    tables = [slope_table(pit[group == k]) for k in range(n_magnitude)]
    tables.append(slope_table(pit[group >= 0]))
    if masked is not None:
        pit = np.append(pit, _pit(masked, grid, width, alpha))
        group = np.append(group, maps.of(masked.mag_ref, masked.band_mask, n_bands))
    for k in range(n_magnitude + 1, n_magnitude + n_bands):
        rows = group == k
        tables.append(slope_table(pit[rows]) if rows.sum() >= ROWS_PER_BIN else tables[-1])
    return Calibration(width, alpha, maps._replace(slope=np.stack(tables)))


def _pit(rows: HeldOut, grid: Float64, width: float, alpha: float) -> Float64:
    everyone = np.zeros(len(rows.z), np.int32)
    pdf = densities(rows.histograms, grid, smoothing(grid, width), alpha, identity(), everyone)
    return metrics.pdf_scores(pdf, grid, rows.z)[2]


def choose(rows: HeldOut, grid: Float64, weight: Float64 | None = None) -> tuple[float, float]:
    """Smoothing width and power of the least mean CDE loss."""
    everyone = np.zeros(len(rows.z), np.int32)
    losses = {}
    for width in WIDTHS:
        for alpha in ALPHAS:
            pdf = densities(rows.histograms, grid, smoothing(grid, width), alpha, identity(), everyone)
            losses[width, alpha] = float(np.average(metrics.cde_loss(pdf, grid, rows.z), weights=weight))
    return min(losses, key=lambda key: losses[key])


def magnitude_edges(magnitude: Float32) -> Float64:
    """Inner edges of up to five bins of equal count, float64[M - 1]; as many bins as have enough rows."""
    known = magnitude[np.isfinite(magnitude)].astype(np.float64)
    bins = int(np.clip(len(known) // ROWS_PER_BIN, 1, BINS))
    return np.quantile(known, np.arange(1, bins) / bins) if bins > 1 else np.empty(0)


def slope_table(pit: Float64, knots: int = KNOTS) -> Float32:
    """Slope G'(F) of a PIT map, tabulated at `TABLE` points of F from 0 to 1, float32[TABLE].

    G is the distribution of the PIT: the monotone cubic (PCHIP: Fritsch & Butland 1984) through its quantiles. If F is a
    distribution function then so is G(F), and its PIT is uniform on the rows that G came from.
    """
    at = np.linspace(0.0, 1.0, TABLE)
    if len(pit) < 2 * knots:
        return np.ones(TABLE, np.float32)
    level = np.linspace(0.0, 1.0, knots + 1)
    value = np.concatenate([[0.0], np.quantile(pit, level[1:-1]), [1.0]])
    value = np.maximum.accumulate(value + np.arange(knots + 1) * 1e-9)  # PCHIP wants them rising
    slope = PchipInterpolator(value / value[-1], level).derivative()(at)
    return np.maximum(slope, SLOPE_FLOOR).astype(np.float32)
