"""From leaves to redshift PDFs.

A galaxy's neighbours are the training galaxies that share its leaves, weighted as in a quantile regression forest (Meinshausen
2006, JMLR 7, 983): w_i = 1/T sum_t 1[i in leaf_t] omega_i / sum of omega over leaf_t, with importance weights omega. They are
laid on the grid, smoothed with a Gaussian of width s (1 + z), sharpened to p^alpha, recalibrated with a map of the
probability integral transform made for galaxies like it, and normalised. Every sum of a row runs in one fixed order
inside one thread, so a row's PDF is the same to the last bit in whatever batch it stands.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models import grid as grids
from models.forest.forest import Forest
from schemas.batch import Float32, Float64, Int32, Int64

FLOOR = 1e-12  # lowest density before the power: a galaxy where no leaf ever looked is improbable, never impossible
REACH = 5.0  # widths at which the smoothing kernel is cut
QUARTERS = 4  # alpha is a multiple of 1/4: then a power is products and square roots, the same bits on every machine
SLOPE_FLOOR = 1e-3  # lowest slope of a recalibration map


class LeafDensity(NamedTuple):
    """What every leaf adds to a PDF: (grid point, weight) pairs, those of leaf l at `start[l]:start[l + 1]`."""

    start: Int32  # [L + 1]
    point: npt.NDArray[np.uint16]  # [K], rising within a leaf
    weight: Float32  # [K]; a leaf's weights sum to 1/T


class Smoothing(NamedTuple):
    """A banded kernel: mass at grid point j spreads over `taps[j]`, from point `first[j]` on. Each row of taps sums to 1."""

    first: Int64  # [G]
    taps: Float32  # [G, W]


class Recalibration(NamedTuple):
    """The recalibration maps: their slopes G'(F), tabulated evenly on F from 0 to 1.

    Galaxies with all B bands have a map per bin of reference magnitude, those with fewer a map per number of bands missing:
    what is right for six bands is too narrow for two.
    """

    slope: Float32  # [M + B, K]: M magnitude bins, then 0 to B - 1 bands missing
    edges: Float64  # inner edges of the magnitude bins, [M - 1]

    def of(self, mag_ref: Float32, band_mask: npt.NDArray[np.uint32], n_bands: int) -> Int32:
        """Which map each galaxy takes, int32[n]; -1 for one without any band."""
        missing = n_bands - np.bitwise_count(band_mask).astype(np.int32)
        by_magnitude = np.searchsorted(self.edges, mag_ref).astype(np.int32)
        chosen = np.where((missing == 0) & np.isfinite(mag_ref), by_magnitude, len(self.edges) + 1 + missing)
        return np.where(missing == n_bands, -1, chosen).astype(np.int32)


def leaf_density(forest: Forest, z: Float64, weight: Float64, grid: Float64) -> LeafDensity:
    """Merge the samples of each leaf into (grid point, weight) pairs.

    A sample between two grid points is split linearly between them; one outside the grid goes to its end.

    Parameters
    ----------
    forest
        With samples in its leaves.
    z, weight
        Redshift and importance weight of the training galaxies, float64[n].
    grid
        float64[G], linear.
    """
    position = np.clip((z - grid[0]) / grids.step_of(grid), 0, len(grid) - 1)
    trees = len(forest.root)
    start = np.zeros(len(forest.leaf_start), np.int64)
    point = np.empty(2 * len(forest.leaf_sample), np.uint16)
    value = np.empty(2 * len(forest.leaf_sample), np.float64)
    used = _merge(
        forest.leaf_start,
        forest.leaf_sample,
        position,
        np.asarray(weight, np.float64),
        trees,
        len(grid),
        start,
        point,
        value,
    )
    return LeafDensity(start.astype(np.int32), point[:used].copy(), value[:used].astype(np.float32))


@njit(nogil=True, error_model="numpy", cache=True)
def _merge(leaf_start, leaf_sample, position, weight, trees, points, start, point, value):  # type: ignore[no-untyped-def]
    mass = np.zeros(points)
    used = 0
    for leaf in range(leaf_start.shape[0] - 1):
        first, stop = leaf_start[leaf], leaf_start[leaf + 1]
        total = 0.0
        for k in range(first, stop):
            total += weight[leaf_sample[k]]
        low, high = points, -1
        if total > 0.0:
            for k in range(first, stop):
                sample = leaf_sample[k]
                j = np.int64(position[sample])
                share = position[sample] - j
                part = weight[sample] / (total * trees)
                mass[j] += (1.0 - share) * part
                low, high = min(low, j), max(high, j)
                if share > 0.0:
                    mass[j + 1] += share * part
                    high = max(high, j + 1)
        for j in range(low, high + 1):
            if mass[j] > 0.0:
                point[used], value[used] = j, mass[j]
                mass[j] = 0.0
                used += 1
        start[leaf + 1] = used
    return used


def smoothing(grid: Float64, width: float) -> Smoothing:
    """The Gaussian of width `width` (1 + z) on the grid, cut at 5 widths; 0 means no smoothing."""
    step = grids.step_of(grid)
    size = len(grid)
    sigma = np.maximum(width * (1.0 + grid), 1e-9) / step
    reach = np.floor(REACH * sigma).astype(np.int64)
    n_taps = int(min(2 * reach.max() + 1, size))
    first = np.clip(np.arange(size) - n_taps // 2, 0, size - n_taps)
    distance = first[:, None] + np.arange(n_taps) - np.arange(size)[:, None]
    taps = np.where(np.abs(distance) <= reach[:, None], np.exp(-0.5 * (distance / sigma[:, None]) ** 2), 0.0)
    return Smoothing(first.astype(np.int64), (taps / taps.sum(1, keepdims=True)).astype(np.float32))


def identity() -> Recalibration:
    """The one map that changes nothing: number 0."""
    return Recalibration(np.ones((1, 2), np.float32), np.empty(0))


def histograms(leaves: Int32, density: LeafDensity, points: int) -> Float32:
    """Weights of each row's neighbours on the grid, float32[n, points]; rows sum to 1."""
    out = np.empty((len(leaves), points), np.float32)
    add(leaves, *density, out)
    return out


@njit(nogil=True, error_model="numpy", cache=True)
def add(leaves, start, point, weight, out):  # type: ignore[no-untyped-def]
    """Kernel of `histograms`."""
    for i in range(leaves.shape[0]):
        row = out[i]
        row[:] = 0.0
        for t in range(leaves.shape[1]):
            leaf = leaves[i, t]
            for k in range(start[leaf], start[leaf + 1]):
                row[point[k]] += weight[k]


def densities(
    histograms: Float32, grid: Float64, smoothing: Smoothing, alpha: float, maps: Recalibration, map_of_row: Int32
) -> Float32:
    """Finished PDFs, float32[n, G]: smoothed, sharpened, recalibrated, normalised.

    Parameters
    ----------
    histograms
        float32[n, G].
    grid
        float64[G].
    smoothing, alpha, maps
        As trained; `alpha` a positive multiple of 1/4.
    map_of_row
        Which of `maps` each galaxy takes, int32[n]; -1 gives a row of NaN.

    Raises
    ------
    ValueError
        If `alpha` is no positive multiple of 1/4.
    """
    quarters = round(alpha * QUARTERS)
    if quarters <= 0 or abs(quarters - alpha * QUARTERS) > 1e-9:
        raise ValueError(f"alpha must be a positive multiple of 1/4, got {alpha}")
    out = np.empty_like(histograms)
    finish(histograms, *smoothing, quarters, maps.slope, grids.step_of(grid), map_of_row, out)
    return out


@njit(nogil=True, error_model="numpy", cache=True)
def finish(histograms, first, taps, quarters, slope, step, map_of_row, out):  # type: ignore[no-untyped-def]
    """Kernel of `densities`."""
    size = histograms.shape[1]
    n_taps = taps.shape[1]
    last_cell = slope.shape[1] - 2
    p = np.empty(size, np.float32)
    root = np.empty(size, np.float32)
    for i in range(histograms.shape[0]):
        chosen = map_of_row[i]
        if chosen < 0 or chosen >= slope.shape[0]:
            out[i, :] = np.nan
            continue
        p[:] = 0.0
        for j in range(size):
            mass = histograms[i, j]
            if mass > 0.0:
                low = first[j]
                for k in range(n_taps):
                    p[low + k] += mass * taps[j, k]
        for j in range(size):
            p[j] = max(p[j], np.float32(FLOOR))
            root[j] = p[j]
        # p^alpha = p^whole * p^(1/2) * p^(1/4), as the bits of 4 alpha say
        whole, rest = quarters >> 2, quarters & 3
        if whole == 0:
            for j in range(size):
                p[j] = 1.0
        for _ in range(1, whole):
            for j in range(size):
                p[j] *= root[j]
        if rest != 0:
            for j in range(size):
                root[j] = np.sqrt(root[j])
        if rest & 2:
            for j in range(size):
                p[j] *= root[j]
        if rest & 1:
            for j in range(size):
                p[j] *= np.sqrt(root[j])
        total = -0.5 * (np.float64(p[0]) + np.float64(p[size - 1]))
        for j in range(size):
            total += p[j]
        if slope.shape[0] > 1:
            # p'(z) = p(z) G'(F(z)), then normalised again
            scale = (last_cell + 1) / total
            below = 0.0
            previous = np.float64(p[0])
            fresh = 0.0
            for j in range(size):
                here = np.float64(p[j])
                if j > 0:
                    below += 0.5 * (previous + here)
                previous = here
                at = below * scale
                cell = min(np.int64(at), last_cell)
                gradient = slope[chosen, cell] + np.float32(at - cell) * (slope[chosen, cell + 1] - slope[chosen, cell])
                p[j] *= gradient
                fresh += p[j]
            total = fresh - 0.5 * (np.float64(p[0]) + np.float64(p[size - 1]))
        norm = np.float32(1.0 / (total * step))
        for j in range(size):
            out[i, j] = p[j] * norm
