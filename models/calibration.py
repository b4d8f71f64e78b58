"""Choices made on rows the forest has not seen: smoothing, sharpening, and the maps that make the PDFs calibrated.

Everything here works on out-of-fold histograms: those of each training galaxy, from a forest that was grown without it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from models import metrics
from models.forest.density import SLOPE_FLOOR, Recalibration, densities, identity, smoothing
from schemas.batch import Float32, Float64, Int64

WIDTHS = (0.003, 0.005, 0.008, 0.012, 0.018)  # of the smoothing, in (1 + z)
ALPHAS = (1.0, 1.25, 1.5, 2.0, 2.5)  # powers of the PDF
# Levels at which a PIT map goes exactly through the PIT's quantiles. The ends of the 68 and 95 % intervals are among them: so
# the intervals of a recalibrated PDF are conformal ones, bin by bin (see `slope_table`).
LEVELS = (0.025, 0.09, 0.16, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.84, 0.91, 0.975)
FEWEST = 20  # fewer PITs than this make no map
TABLE = 513  # points at which a map's slope is tabulated
BINS = 5  # of the reference magnitude, of equal count
ROWS_PER_BIN = 400  # fewer calibration rows than this in a bin make a noisy map: take fewer bins, or merge neighbours


class HeldOut(NamedTuple):
    """Galaxies and what a model that was trained without them says of them, before smoothing and sharpening."""

    histograms: Float32  # [n, G]: weights of the forest's neighbours, or PDFs already smooth
    z: Float64  # [n]
    mag_ref: Float32  # [n], NaN where the reference band gives no flux
    band_mask: npt.NDArray[np.uint32]  # [n]


class Calibration(NamedTuple):
    """The choices: smoothing width in (1 + z), power, PIT maps; and where the PIT stood before, for the model card."""

    width: float
    alpha: float
    maps: Recalibration
    intervals: list[dict[str, float]]  # of each map: galaxies, and the PITs that bound the 68 and 95 % intervals


def folds(n: int, k: int, rng: np.random.Generator) -> Iterator[tuple[Int64, Int64]]:
    """Split n rows at random into k parts: (the others, the part), both sorted, k times."""
    part = rng.permutation(n) % k
    for number in range(k):
        yield np.flatnonzero(part != number), np.flatnonzero(part == number)


def calibrate(
    seen: HeldOut,
    masked: HeldOut | None,
    grid: Float64,
    n_bands: int,
    weight: Float64 | None = None,
    masked_weight: Float64 | None = None,
    choice: tuple[float, float] | None = None,
) -> Calibration:
    """Choose smoothing and power by the CDE loss, then fit the PIT maps.

    Parameters
    ----------
    seen
        The galaxies as observed: they make every choice but the maps for missing bands.
    masked
        The same galaxies with bands taken away, to fit those maps; none = `seen` alone makes them.
    grid
        float64[G].
    n_bands
        Bands of the survey.
    weight, masked_weight
        Importance weights of `seen` and `masked`, float64[n]; none = all equal.
    choice
        Smoothing width and power, if they are already chosen.
    """
    width, alpha = choose(seen, grid, weight) if choice is None else choice
    maps = Recalibration(np.empty((0, TABLE), np.float32), magnitude_edges(seen.mag_ref))
    pit, group = _pit(seen, grid, width, alpha), maps.of(seen.mag_ref, seen.band_mask, n_bands)
    weight = np.ones(len(pit)) if weight is None else weight
    if masked is not None:
        pit = np.append(pit, _pit(masked, grid, width, alpha))
        group = np.append(group, maps.of(masked.mag_ref, masked.band_mask, n_bands))
        weight = np.append(weight, np.ones(len(masked.z)) if masked_weight is None else masked_weight)
    cells = len(maps.edges) + 2
    made: list[tuple[Float32, dict[str, float]]] = []
    for first in range(0, n_bands * cells, cells):
        alike = (group >= first) & (group < first + cells)
        if made and alike.sum() < ROWS_PER_BIN:
            made += made[-cells:]  # of one band more
            continue
        several = merged(np.bincount(group[alike] - first, minlength=cells), ROWS_PER_BIN)
        made += [_map(pit[rows], weight[rows]) for rows in (np.isin(group, first + some) for some in several)]
    slope, bounds = zip(*made, strict=True)
    return Calibration(width, alpha, maps._replace(slope=np.stack(slope)), list(bounds))


def merged(count: Int64, fewest: int) -> list[Int64]:
    """Which cells make the map of each cell: itself, and neighbours until there are `fewest` galaxies.

    Parameters
    ----------
    count
        Galaxies in each magnitude bin, and last those without a reference magnitude: too few of them take the map of all.
    fewest
        Galaxies a map needs.
    """
    bins, n_bins = np.arange(len(count)), len(count) - 1
    runs: list[list[int]] = [[]]
    for cell in range(n_bins):
        if count[runs[-1]].sum() >= fewest and count[cell:n_bins].sum() >= fewest:
            runs.append([])
        runs[-1].append(cell)
    return [np.array(run) for run in runs for _ in run] + [bins[-1:] if count[-1] >= fewest else bins]


def _map(pit: Float64, weight: Float64) -> tuple[Float32, dict[str, float]]:
    return slope_table(pit, weight), intervals(pit, weight)


def intervals(pit: Float64, weight: Float64) -> dict[str, float]:
    """Galaxies, and the PITs that bound their conformal 68 and 95 % intervals."""
    names = {"lo95": 0.025, "lo68": 0.16, "hi68": 0.84, "hi95": 0.975}
    return {"n": len(pit)} | {name: conformal_quantile(pit, level, weight) for name, level in names.items()}


def _pit(rows: HeldOut, grid: Float64, width: float, alpha: float) -> Float64:
    everyone = np.zeros(len(rows.z), np.int32)
    pdf = densities(rows.histograms, grid, smoothing(grid, width), alpha, identity(), everyone)
    return metrics.pdf_scores(pdf, grid, rows.z)[2]


def choose(
    rows: HeldOut,
    grid: Float64,
    weight: Float64 | None = None,
    widths: Sequence[float] = WIDTHS,
    alphas: Sequence[float] = ALPHAS,
) -> tuple[float, float]:
    """Smoothing width and power of the least mean CDE loss."""
    losses = {(width, alpha): mean_loss(rows, grid, width, alpha, weight) for width in widths for alpha in alphas}
    return min(losses, key=lambda key: losses[key])


def mean_loss(rows: HeldOut, grid: Float64, width: float, alpha: float, weight: Float64 | None = None) -> float:
    """Mean CDE loss with this smoothing width and power."""
    everyone = np.zeros(len(rows.z), np.int32)
    pdf = densities(rows.histograms, grid, smoothing(grid, width), alpha, identity(), everyone)
    return float(np.average(metrics.cde_loss(pdf, grid, rows.z), weights=weight))


def magnitude_edges(magnitude: Float32) -> Float64:
    """Inner edges of up to five bins of equal count, float64[M - 1]; as many bins as have enough rows."""
    known = magnitude[np.isfinite(magnitude)].astype(np.float64)
    bins = int(np.clip(len(known) // ROWS_PER_BIN, 1, BINS))
    return np.quantile(known, np.arange(1, bins) / bins) if bins > 1 else np.empty(0)


def slope_table(pit: Float64, weight: Float64 | None = None) -> Float32:
    """Slope G'(F) of a PIT map, tabulated at `TABLE` points of F from 0 to 1, float32[TABLE].

    G is the distribution of the PIT: the monotone cubic (PCHIP: Fritsch & Butland 1984) through its quantiles at `LEVELS`. If F
    is a distribution function then so is G(F), and its PIT is uniform on the rows that G came from.

    The quantiles are those of conformal prediction, one of n PITs or of their weights further out (`conformal_quantile`). So the
    central interval of G(F) holds the truth of a new galaxy like the n with at least its nominal probability, whatever F is
    worth (Romano, Patterson & Candes 2019, applied bin by bin: Vovk et al. 2003; with weights: Tibshirani et al. 2019).
    """
    if len(pit) < FEWEST or (weight is not None and not weight.any()):
        return np.ones(TABLE, np.float32)
    level = np.array([0.0, *LEVELS, 1.0])
    value = np.array([0.0, *(conformal_quantile(pit, at_level, weight) for at_level in LEVELS), 1.0])
    value = np.maximum.accumulate(value + np.arange(len(level)) * 1e-9)  # PCHIP wants them rising
    # The mean slope about each point, not the slope at it: however steep G is, the table's integral is what G gains.
    step = 1.0 / (TABLE - 1)
    between = np.concatenate([[0.0], (np.arange(TABLE - 1) + 0.5) * step, [1.0]])
    gain = np.diff(PchipInterpolator(value / value[-1], level)(between))
    return np.maximum(gain / np.diff(between), SLOPE_FLOOR).astype(np.float32)


def conformal_quantile(pit: Float64, level: float, weight: Float64 | None = None) -> float:
    """The quantile of `pit` at `level`, taken outwards so that a new galaxy is beyond it no more often than the level says.

    The new galaxy counts as one more row of mean weight, at whichever end is worse.
    """
    if weight is not None and not weight.any():
        weight = None
    order = np.argsort(pit, kind="stable")
    share = (
        np.full(len(pit), 1.0 / (len(pit) + 1)) if weight is None else weight[order] / (weight.sum() + weight.mean())
    )
    below = np.cumsum(share)
    if level < 0.5:  # the highest value with at most `level` of the probability at or below it
        k = int(np.searchsorted(below, level + 1e-12, side="right")) - 1
        return float(pit[order[k]]) if k >= 0 else 0.0
    k = int(np.searchsorted(below, level - 1e-12))
    return float(pit[order[k]]) if k < len(pit) else 1.0
