"""From a redshift PDF to the numbers of a catalogue row: points, intervals, risk, odds, and flags about its shape.

A PDF is piecewise linear on a linear grid, so its distribution function is piecewise quadratic; quantiles and odds are exact
for it.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models import grid as grids
from schemas.batch import Float32, Float64
from schemas.flags import Flag

RISK_SCALE = 0.15  # gamma of the loss 1 / (1 + (dz / gamma)^2): Tanaka et al. 2018, PASJ 70, S9, eq. 6
ODDS_WINDOW = 0.03  # half width of the odds, in (1 + z_best)
BROAD_WIDTH = 0.3  # a 68 % interval wider than this times (1 + z_best) is broad
PEAK_SHARE = 0.2  # probability that makes a second peak worth a flag
VALLEY = 0.5  # two peaks are two if the PDF between them falls below this fraction of both
STRIDE = 8  # redshifts per cell of the coarse search for z_best
LANES = 16  # the number of cells is rounded up to this, so that loops over cells are whole vectors
NEGLIGIBLE = 1e-7  # a density below this adds nothing that a float32 risk could show
SLACK = 1e-5  # more than float32 rounding can move a risk

_LEVELS = np.array([0.5, 0.16, 0.84, 0.025, 0.975])
_NO_PHOTOMETRY = int(Flag.NO_PHOTOMETRY)
_BROAD = int(Flag.BROAD_PDF)
_MULTIMODAL = int(Flag.MULTIMODAL_PDF)
_EDGE = int(Flag.Z_AT_GRID_EDGE)

COLUMNS = (
    "z_mode",
    "z_mean",
    "z_median",
    "z_best",
    "z_best_risk",
    "z_sigma",
    "z_lo68",
    "z_hi68",
    "z_lo95",
    "z_hi95",
    "odds",
)


class Risk(NamedTuple):
    """Tables for the search of z_best, made once for a grid.

    The risk of a guess g is sum_j p_j loss[g, j]. A cell is `STRIDE` neighbouring guesses; the least loss in a cell, taken for
    every true redshift apart, bounds the risk of all its guesses from below. So only cells whose bound does not exceed
    the best risk found are looked into, and the answer is that of the full search.
    """

    loss: Float32  # [C, G, STRIDE]: quadrature weight times loss of the guesses of cell c if the truth is grid point j
    bound: Float32  # [G, C]: the least of each


class Points(NamedTuple):
    """Point estimates of n PDFs, in `COLUMNS`, float32[n, 11], and flags about their shape, uint32[n]."""

    values: Float32
    flags: npt.NDArray[np.uint32]

    def column(self, name: str) -> Float32:
        """One of `COLUMNS`, float32[n]."""
        return np.ascontiguousarray(self.values[:, COLUMNS.index(name)])


def risk_tables(grid: Float64) -> Risk:
    """Tables of the loss 1 - 1 / (1 + (dz / 0.15)^2), dz = (z - guess) / (1 + guess), on a linear grid from 0 up."""
    loss = loss_matrix(grid) * grids.trapezoid(grid)
    cells = -(-len(grid) // (STRIDE * LANES)) * LANES
    padded = np.full((cells * STRIDE, len(grid)), np.float32(4.0), np.float32)  # a guess beyond the grid never wins
    padded[: len(grid)] = loss
    by_cell = padded.reshape(cells, STRIDE, len(grid))
    return Risk(np.ascontiguousarray(by_cell.transpose(0, 2, 1)), np.ascontiguousarray(by_cell.min(1).T))


def loss_matrix(grid: Float64) -> Float64:
    """Loss of guess g (row) if the truth is grid point j (column), float64[G, G]."""
    offset = (grid[None, :] - grid[:, None]) / (1.0 + grid[:, None]) / RISK_SCALE
    return 1.0 - 1.0 / (1.0 + offset * offset)


def points(pdf: Float32, grid: Float64, risk: Risk) -> Points:
    """Point estimates of n PDFs.

    z_mode is the grid point of the highest density, z_mean and z_sigma are moments by the trapezoid rule, z_median and the
    bounds of the central 68 and 95 % intervals are quantiles, z_best is the grid point of least risk, odds the probability
    within 0.03 (1 + z_best) of it.

    Parameters
    ----------
    pdf
        float32[n, G], normalised by the trapezoid rule. A row that begins with NaN has NaN estimates and no flags.
    grid
        float64[G], linear, from 0 or above.
    risk
        `risk_tables(grid)`.

    Raises
    ------
    ValueError
        If shapes or types differ from this.
    """
    if pdf.ndim != 2 or pdf.dtype != np.float32 or pdf.shape[1] != len(grid) or risk.bound.shape[0] != len(grid):
        raise ValueError(f"PDFs of shape {pdf.shape} and type {pdf.dtype} for a grid of {len(grid)} points")
    out = Points(np.empty((len(pdf), len(COLUMNS)), np.float32), np.empty(len(pdf), np.uint32))
    summarise(np.ascontiguousarray(pdf), grid[0], grids.step_of(grid), *risk, *out)
    return out


@njit(nogil=True, error_model="numpy", inline="always")
def _probability_below(z, p, cdf, z_min, step):  # type: ignore[no-untyped-def]
    at = (z - z_min) / step
    if at <= 0.0:
        return 0.0
    j = np.int64(at)
    if j >= p.shape[0] - 1:
        return 1.0
    t = at - j
    return cdf[j] + step * t * (p[j] + 0.5 * t * (p[j + 1] - p[j]))


@njit(nogil=True, error_model="numpy", inline="always")
def _quantile(level, j, p, cdf, z_min, step):  # type: ignore[no-untyped-def]
    """Redshift at `level`, which lies in the cell that begins at grid point j: the root of a quadratic, in its stable form."""
    target = (level - cdf[j]) / step
    slope = np.float64(p[j + 1]) - np.float64(p[j])
    under = math.sqrt(max(np.float64(p[j]) * np.float64(p[j]) + 2.0 * slope * target, 0.0))
    below = np.float64(p[j]) + under
    t = 2.0 * target / below if below > 0.0 else 0.0
    return z_min + step * (j + min(max(t, 0.0), 1.0))


@njit(nogil=True, error_model="numpy", cache=True)
def summarise(pdf, z_min, step, loss, bound, values, flags):  # type: ignore[no-untyped-def]
    """Kernel of `points`."""
    n, size = pdf.shape
    cdf = np.empty(size)
    groups = np.empty(size // 4 + 1, np.int64)
    bounds = np.empty(bound.shape[1], np.float32)
    risks = np.empty(STRIDE, np.float32)
    for i in range(n):
        p = pdf[i]
        flags[i] = 0
        if math.isnan(p[0]):
            values[i, :] = np.nan
            continue

        # Distribution function, moments about the first grid point in steps, mode
        cdf[0] = 0.0
        total = 0.5 * np.float64(p[0])
        first_moment, second_moment = 0.0, 0.0
        mode = 0
        for j in range(1, size):
            here = np.float64(p[j])
            cdf[j] = cdf[j - 1] + 0.5 * step * (np.float64(p[j - 1]) + here)
            if p[j] > p[mode]:
                mode = j
            weight = here if j < size - 1 else 0.5 * here
            total += weight
            first_moment += weight * j
            second_moment += weight * j * j
        scale = 1.0 / cdf[size - 1]
        for j in range(size):
            cdf[j] *= scale
        mean = first_moment / total
        variance = max(second_moment / total - mean * mean, 0.0)
        values[i, 0] = z_min + step * mode
        values[i, 1] = z_min + step * mean
        values[i, 5] = step * math.sqrt(variance)

        for k in range(_LEVELS.shape[0]):
            low, high = 0, size - 1  # cdf[low] <= level < cdf[high]
            while high - low > 1:
                middle = (low + high) // 2
                if cdf[middle] <= _LEVELS[k]:
                    low = middle
                else:
                    high = middle
            z = _quantile(_LEVELS[k], low, p, cdf, z_min, step)
            values[i, 2 if k == 0 else 5 + k] = z

        best, best_risk = _least_risk(p, loss, bound, groups, bounds, risks)
        z_best = z_min + step * best
        window = ODDS_WINDOW * (1.0 + z_best)
        above = _probability_below(z_best + window, p, cdf, z_min, step)
        values[i, 3] = z_best
        values[i, 4] = best_risk
        values[i, 10] = above - _probability_below(z_best - window, p, cdf, z_min, step)

        flag = 0
        if values[i, 7] - values[i, 6] > BROAD_WIDTH * (1.0 + z_best):
            flag |= _BROAD
        if mode == 0 or mode == size - 1:
            flag |= _EDGE
        if _heavy_peaks(p, cdf) > 1:
            flag |= _MULTIMODAL
        flags[i] = flag


@njit(nogil=True, error_model="numpy", inline="always")
def _least_risk(p, loss, bound, groups, bounds, risks):  # type: ignore[no-untyped-def]
    """Grid point of the least risk (the first of equals), and the risk: bound every cell, look into those that can hold it."""
    size = p.shape[0]
    n_groups = 0  # four grid points at a time, those that hold nothing left out
    bounds[:] = 0.0
    for j in range(0, size - 3, 4):
        p0, p1, p2, p3 = p[j], p[j + 1], p[j + 2], p[j + 3]
        if p0 + p1 + p2 + p3 > np.float32(NEGLIGIBLE):
            groups[n_groups] = j
            n_groups += 1
            for c in range(bounds.shape[0]):
                bounds[c] += (p0 * bound[j, c] + p1 * bound[j + 1, c]) + (p2 * bound[j + 2, c] + p3 * bound[j + 3, c])
    for j in range(size - size % 4, size):
        for c in range(bounds.shape[0]):
            bounds[c] += p[j] * bound[j, c]
    best, best_risk = 0, np.float32(np.inf)
    while True:
        cell = 0
        for c in range(1, bounds.shape[0]):
            if bounds[c] < bounds[cell]:
                cell = c
        if bounds[cell] > best_risk + np.float32(SLACK):
            return best, best_risk
        bounds[cell] = np.inf
        inside = loss[cell]
        risks[:] = 0.0
        for k in range(n_groups):
            j = groups[k]
            p0, p1, p2, p3 = p[j], p[j + 1], p[j + 2], p[j + 3]
            for g in range(STRIDE):
                risks[g] += (p0 * inside[j, g] + p1 * inside[j + 1, g]) + (
                    p2 * inside[j + 2, g] + p3 * inside[j + 3, g]
                )
        for j in range(size - size % 4, size):
            for g in range(STRIDE):
                risks[g] += p[j] * inside[j, g]
        for g in range(STRIDE):
            guess = cell * STRIDE + g
            if guess < size and (risks[g] < best_risk or (risks[g] == best_risk and guess < best)):
                best, best_risk = guess, risks[g]


@njit(nogil=True, error_model="numpy", inline="always")
def _heavy_peaks(p, cdf):  # type: ignore[no-untyped-def]
    """Peaks that hold at least a fifth of the probability.

    A valley parts two peaks where the PDF has fallen below half the peak before it and then risen to twice the valley; the cut is
    at the lowest point between them.
    """
    heavy = 0
    begin = 0  # of the probability of the current peak
    top = p[0]
    lowest = 0
    for j in range(1, p.shape[0]):
        if p[j] < p[lowest]:
            lowest = j
        if p[lowest] < VALLEY * top and p[j] * VALLEY > p[lowest]:
            if cdf[lowest] - cdf[begin] >= PEAK_SHARE:
                heavy += 1
            begin, top, lowest = lowest, p[j], j
        elif p[j] > top:
            top, lowest = p[j], j
    if cdf[p.shape[0] - 1] - cdf[begin] >= PEAK_SHARE:
        heavy += 1
    return heavy
