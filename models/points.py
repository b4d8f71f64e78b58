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
from models.forest.crowd import first_row, how_many
from models.forest.lanes import (
    WIDTH,
    above,
    at_most,
    highest,
    last,
    load,
    peak,
    prefix,
    splat,
    steps,
    store,
    total,
)
from schemas.batch import Float32, Float64
from schemas.flags import Flag

RISK_SCALE = 0.15  # gamma of the loss 1 / (1 + (dz / gamma)^2): Tanaka et al. 2018, PASJ 70, S9, eq. 6
ODDS_WINDOW = 0.03  # half width of the odds, in (1 + z_best)
BROAD_WIDTH = 0.3  # a 68 % interval wider than this times (1 + z_best) is broad
PEAK_SHARE = 0.2  # probability that makes a second peak worth a flag
VALLEY = 0.5  # two peaks are two if the PDF between them falls below this fraction of both
STRIDE = 8  # redshifts per cell of the coarse search for z_best
COARSE = 4  # grid points taken together in it
NEGLIGIBLE = 1e-7  # a density below this adds nothing that a float32 risk could show
SLACK = 1e-5  # more than float32 rounding can move a risk

_LEVELS = np.array([0.5, 0.16, 0.84, 0.025, 0.975])
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
    every `COARSE` neighbouring true redshifts, bounds the risk of all its guesses from below. So only cells whose bound does
    not exceed the best risk found are looked into, sixteen guesses at a time, and the answer is that of the full search.
    """

    loss: Float32  # [C / 2, J, 16]: quadrature weight times loss of sixteen guesses if the truth is grid point j
    bound: Float32  # [J / 4, C]: the least of each


class Points(NamedTuple):
    """Point estimates of n PDFs, in `COLUMNS`, float32[n, 11], and flags about their shape, uint32[n]."""

    values: Float32
    flags: npt.NDArray[np.uint32]

    def column(self, name: str) -> Float32:
        """One of `COLUMNS`, float32[n]."""
        return np.ascontiguousarray(self.values[:, COLUMNS.index(name)])


def risk_tables(grid: Float64) -> Risk:
    """Tables of the loss 1 - 1 / (1 + (dz / 0.15)^2), dz = (z - guess) / (1 + guess), on a linear grid from 0 up."""
    size = len(grid)
    cells = -(-size // (STRIDE * WIDTH)) * WIDTH
    padded = np.full((cells * STRIDE, -(-size // WIDTH) * WIDTH), np.float32(4.0), np.float32)  # never the least
    padded[:size, :size] = loss_matrix(grid) * grids.trapezoid(grid)
    windows = padded.reshape(-1, WIDTH, padded.shape[1]).transpose(0, 2, 1)
    least = padded.reshape(cells, STRIDE, -1, COARSE).min((1, 3))
    return Risk(np.ascontiguousarray(windows), np.ascontiguousarray(least.T))


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
    if (
        pdf.ndim != 2
        or pdf.dtype != np.float32
        or pdf.shape[1] != len(grid)
        or -(-len(grid) // WIDTH) * WIDTH != risk.loss.shape[1]
    ):
        raise ValueError(f"PDFs of shape {pdf.shape} and type {pdf.dtype} for a grid of {len(grid)} points")
    out = Points(np.empty((len(pdf), len(COLUMNS)), np.float32), np.empty(len(pdf), np.uint32))
    summarise(np.ascontiguousarray(pdf), np.arange(len(pdf)), grid[0], grids.step_of(grid), *risk, *out)
    return out


@njit(nogil=True, error_model="numpy", inline="always")
def _probability_below(z, p, cdf, z_min, step):  # type: ignore[no-untyped-def]
    """Of the distribution function `cdf`, in steps, before normalisation."""
    at = (z - z_min) / step
    if at <= 0.0:
        return 0.0
    j = np.int64(at)
    if j >= cdf.shape[0] - 1:
        return np.float64(cdf[cdf.shape[0] - 1])
    t = at - j
    here, following = np.float64(p[j]), np.float64(p[j + 1])
    return cdf[j] + t * (here + 0.5 * t * (following - here))


@njit(nogil=True, error_model="numpy", inline="always")
def _quantile(target, p, cdf, wide, ends):  # type: ignore[no-untyped-def]
    """Where, in steps, the distribution function `wide` (`cdf` in whole vectors, `ends` the last of each) reaches `target`.

    The root of a quadratic within a cell, in its stable form.
    """
    level = splat(np.float32(target))
    block = np.uint64(0)
    for k in range(len(ends) // WIDTH):
        block += how_many(at_most(load(ends, np.uint64(k * WIDTH)), level))
    block = min(block, np.uint64(len(wide) // WIDTH - 1))
    j = np.int64(block * np.uint64(WIDTH) + how_many(at_most(load(wide, block * np.uint64(WIDTH)), level))) - 1
    j = min(max(j, 0), cdf.shape[0] - 2)
    here = np.float64(p[j])
    rest = target - cdf[j]
    below = here + math.sqrt(max(here * here + 2.0 * (np.float64(p[j + 1]) - here) * rest, 0.0))
    t = 2.0 * rest / below if below > 0.0 else 0.0
    return j + min(max(t, 0.0), 1.0)


@njit(nogil=True, error_model="numpy", cache=True)
def summarise(pdf, row, z_min, step, loss, bound, values, flags):  # type: ignore[no-untyped-def]
    """Kernel of `points`: of the PDFs `pdf[row[i]]` into `values[row[i]]`, `flags[row[i]]`."""
    size = pdf.shape[1]
    n_blocks = -(-size // WIDTH)
    lane = np.uint64(WIDTH)
    p = np.zeros(n_blocks * WIDTH + 2 * WIDTH, np.float32)[WIDTH:]  # a vector of zeros before and behind
    before = np.zeros(n_blocks * WIDTH + WIDTH, np.float32)  # p, one point further
    wide = np.full(n_blocks * WIDTH, np.float32(np.inf), np.float32)
    cdf = wide[:size]
    ends = np.full(-(-n_blocks // WIDTH) * WIDTH, np.float32(np.inf), np.float32)
    turns = np.empty(size + 1, np.int64)
    bounds = np.empty(bound.shape[1], np.float32)
    coarse = np.empty(n_blocks * WIDTH // COARSE, np.float32)
    busy = np.empty(n_blocks, np.int64)  # blocks that hold what is not negligible
    half, negligible = splat(np.float32(0.5)), splat(np.float32(NEGLIGIBLE))
    for i in range(row.shape[0]):
        source = pdf[row[i]]
        found = values[row[i]]
        flags[row[i]] = 0
        if math.isnan(source[0]):
            found[:] = np.nan
            continue
        for j in range(size):
            p[j] = source[j]
            before[j + 1] = source[j]

        # Distribution function and first moment in steps, mode
        carried = np.float32(0.0)
        edge = splat(p[0])
        sums = splat(np.float32(0.0))
        top = edge
        n_busy = 0
        for b in range(n_blocks):
            here = np.uint64(b) * lane
            density = load(p, here)
            running = prefix(density)
            store(wide, here, (running + splat(carried)) - half * (density + edge))
            carried += last(running)
            sums = sums + density * (steps() + splat(np.float32(b * WIDTH)))
            top = highest(top, density)
            busy[n_busy] = b
            n_busy += above(density, negligible) != np.uint64(0)
        wide[size:] = np.float32(np.inf)
        for b in range(n_blocks):
            ends[b] = wide[b * WIDTH + WIDTH - 1]
        first, final = np.float64(p[0]), np.float64(p[size - 1])
        mass = np.float64(cdf[size - 1])
        mean = (np.float64(total(sums)) - 0.5 * final * (size - 1)) / mass
        highest_density = splat(peak(top))
        mode = np.uint64(0)
        while at_most(highest_density, load(p, mode)) == np.uint64(0):
            mode += lane
        mode += first_row(at_most(highest_density, load(p, mode)))

        # Second moment about the mean; where the PDF turns
        sums = splat(np.float32(0.0))
        n_turns = 0
        for b in range(n_blocks):
            here = np.uint64(b) * lane
            density, earlier, later = load(p, here), load(before, here), load(p, here + np.uint64(1))
            offset = steps() + splat(np.float32(b * WIDTH - mean))
            sums = sums + density * (offset * offset)
            turning = above(density, earlier) & at_most(later, density)
            turning |= above(earlier, density) & at_most(density, later)
            while turning != np.uint64(0):
                j = np.int64(here + first_row(turning))
                turns[n_turns] = j
                n_turns += j < size - 1  # it does not turn to the zeros behind it
                turning &= turning - np.uint64(1)
        spread = np.float64(total(sums)) - 0.5 * (first * mean * mean + final * (size - 1 - mean) * (size - 1 - mean))
        found[0] = z_min + step * mode
        found[1] = z_min + step * mean
        found[5] = step * math.sqrt(max(spread / mass, 0.0))
        for k in range(_LEVELS.shape[0]):
            found[2 if k == 0 else 5 + k] = z_min + step * _quantile(_LEVELS[k] * mass, p, cdf, wide, ends)

        best, best_risk = _least_risk(p, busy[:n_busy], loss, bound, bounds, coarse)
        z_best = z_min + step * best
        window = ODDS_WINDOW * (1.0 + z_best)
        inside = _probability_below(z_best + window, p, cdf, z_min, step)
        inside -= _probability_below(z_best - window, p, cdf, z_min, step)
        found[3] = z_best
        found[4] = best_risk
        found[10] = inside / mass

        flag = 0
        if found[7] - found[6] > BROAD_WIDTH * (1.0 + z_best):
            flag |= _BROAD
        if mode == np.uint64(0) or mode == np.uint64(size - 1):
            flag |= _EDGE
        if _heavy_peaks(p, cdf, turns[:n_turns]) > 1:
            flag |= _MULTIMODAL
        flags[row[i]] = flag


@njit(nogil=True, error_model="numpy", inline="always")
def _least_risk(p, busy, loss, bound, bounds, coarse):  # type: ignore[no-untyped-def]
    """Grid point of the least risk (the first of equals), and the risk: bound every cell, look into those that can hold it."""
    cells = bound.shape[1]
    flat_bound, flat_loss = bound.reshape(-1), loss.reshape(-1)
    width = np.uint64(cells)
    for k in range(len(busy)):
        for j in range(busy[k] * WIDTH, busy[k] * WIDTH + WIDTH, COARSE):
            coarse[j // COARSE] = (p[j] + p[j + 1]) + (p[j + 2] + p[j + 3])
    for c in range(0, cells, WIDTH):
        even, odd = splat(np.float32(0.0)), splat(np.float32(0.0))
        for k in range(len(busy)):
            j = busy[k] * (WIDTH // COARSE)
            at = np.uint64(j * cells + c)
            even = even + splat(coarse[j]) * load(flat_bound, at)
            odd = odd + splat(coarse[j + 1]) * load(flat_bound, at + width)
            even = even + splat(coarse[j + 2]) * load(flat_bound, at + width + width)
            odd = odd + splat(coarse[j + 3]) * load(flat_bound, at + width + width + width)
        store(bounds, np.uint64(c), even + odd)
    best, best_risk = 0, np.float32(np.inf)
    while True:
        lowest = load(bounds, np.uint64(0))
        for c in range(WIDTH, cells, WIDTH):
            lowest = -highest(-lowest, -load(bounds, np.uint64(c)))
        least = -peak(-lowest)
        if least > best_risk + np.float32(SLACK):
            return best, best_risk
        cell = 0
        while at_most(load(bounds, np.uint64(cell)), splat(least)) == np.uint64(0):
            cell += WIDTH
        cell += np.int64(first_row(at_most(load(bounds, np.uint64(cell)), splat(least))))
        window = cell * STRIDE // WIDTH
        for c in range(window * WIDTH // STRIDE, (window + 1) * WIDTH // STRIDE):
            bounds[c] = np.float32(np.inf)
        s0 = splat(np.float32(0.0))
        s1, s2, s3 = s0, s0, s0
        base = window * loss.shape[1] * WIDTH
        for k in range(len(busy)):
            for j in range(busy[k] * WIDTH, busy[k] * WIDTH + WIDTH, 4):
                at = np.uint64(base + j * WIDTH)
                s0 = s0 + splat(p[j]) * load(flat_loss, at)
                s1 = s1 + splat(p[j + 1]) * load(flat_loss, at + np.uint64(WIDTH))
                s2 = s2 + splat(p[j + 2]) * load(flat_loss, at + np.uint64(2 * WIDTH))
                s3 = s3 + splat(p[j + 3]) * load(flat_loss, at + np.uint64(3 * WIDTH))
        risks = (s0 + s1) + (s2 + s3)
        least = -peak(-risks)
        guess = window * WIDTH + np.int64(first_row(at_most(risks, splat(least))))
        if least < best_risk or (least == best_risk and guess < best):
            best, best_risk = guess, least


@njit(nogil=True, error_model="numpy", inline="always")
def _heavy_peaks(p, cdf, turns):  # type: ignore[no-untyped-def]
    """Peaks that hold at least a fifth of the probability.

    A valley parts two peaks where the PDF has fallen below half the peak before it and then risen to twice the valley; the cut is
    at the lowest point between them. Between the points where it turns a PDF only rises or only falls: they are enough.
    """
    heavy = 0
    final = cdf.shape[0] - 1
    share = np.float32(PEAK_SHARE) * cdf[final]
    begin = 0  # of the probability of the current peak
    top = p[0]
    lowest = 0
    for k in range(len(turns) + 1):
        j = turns[k] if k < len(turns) else final
        if p[j] < p[lowest]:
            lowest = j
        if p[lowest] < np.float32(VALLEY) * top and p[j] * np.float32(VALLEY) > p[lowest]:
            if cdf[lowest] - cdf[begin] >= share:
                heavy += 1
            begin, top, lowest = lowest, p[j], j
        elif p[j] > top:
            top, lowest = p[j], j
    if cdf[final] - cdf[begin] >= share:
        heavy += 1
    return heavy
