"""From leaves to redshift PDFs.

A galaxy's neighbours are the training galaxies that share its leaves, weighted as in a quantile regression forest (Meinshausen
2006, JMLR 7, 983): w_i = 1/T sum_t 1[i in leaf_t] omega_i / sum of omega over leaf_t, with importance weights omega. They are
laid on the grid, smoothed with a Gaussian of width s (1 + z), sharpened to p^alpha, recalibrated with a map of the
probability integral transform made for galaxies like it, and normalised. Neighbours are counted in whole numbers, and every
other sum of a row runs in one fixed order, so a row's PDF is the same to the last bit in whatever batch it stands.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models import grid as grids
from models.forest.crowd import prefetch
from models.forest.forest import Forest
from models.forest.lanes import WIDTH, above, highest, interpolate, last, load, prefix, root, splat, store, total
from schemas.batch import Float32, Float64, Int32, Int64

FLOOR = 1e-12  # lowest density before the power: a galaxy where no leaf ever looked is improbable, never impossible
REACH = 5.0  # widths at which the smoothing kernel is cut
QUARTERS = 4  # alpha is a multiple of 1/4: then a power is products and square roots, the same bits on every machine
SLOPE_FLOOR = 1e-3  # lowest slope of a recalibration map


class LeafDensity(NamedTuple):
    """What every leaf adds to a PDF: (grid point, weight) pairs, those of leaf l at `start[l]:start[l + 1]`.

    Weights are whole numbers, so that the order of their addition changes nothing. Those of a leaf sum to `shares(trees)`, and
    its distribution function is rounded to half a share (8e-6 up to 32,000 trees), but every sample gets a share at least.
    """

    start: Int32  # [L + 1]
    point: npt.NDArray[np.uint16]  # [K], rising within a leaf
    weight: npt.NDArray[np.uint16]  # [K], 1 or more


class Smoothing(NamedTuple):
    """A banded kernel: mass at grid point j spreads over `taps[j]`, from point `first[j]` on. Each row of taps sums to 1."""

    first: Int64  # [G]
    taps: Float32  # [G, W]


class Recalibration(NamedTuple):
    """The recalibration maps: their slopes G'(F), tabulated evenly on F from 0 to 1.

    There is one for each number of bands missing and each bin of reference magnitude: what is right for six bands is too narrow
    for two, and what is right for bright galaxies for faint ones.
    """

    slope: Float32  # [B (M + 1), K]: for 0 to B - 1 bands missing M magnitude bins, and one for no reference magnitude
    edges: Float64  # inner edges of the magnitude bins, [M - 1]

    def of(self, mag_ref: Float32, band_mask: npt.NDArray[np.uint32], n_bands: int) -> Int32:
        """Which map each galaxy takes, int32[n]; -1 for one without any band."""
        n_bins = len(self.edges) + 1
        missing = n_bands - np.bitwise_count(band_mask).astype(np.int32)
        magnitude = np.where(np.isfinite(mag_ref), np.searchsorted(self.edges, mag_ref), n_bins)
        return np.where(missing == n_bands, -1, missing * (n_bins + 1) + magnitude).astype(np.int32)


def stored(slope: Float32, edges: Float64, n_bands: int) -> Recalibration:
    """The maps of a bundle.

    The first bundles have magnitude bins for galaxies with all bands only, and one map for each number missing, 0 included.

    Raises
    ------
    ValueError
        If there are not as many maps as bands and magnitude bins want.
    """
    n_bins = len(edges) + 1
    if len(slope) == n_bins + n_bands:
        missing, magnitude = np.divmod(np.arange(n_bands * (n_bins + 1)), n_bins + 1)
        slope = slope[np.where((missing == 0) & (magnitude < n_bins), magnitude, n_bins + missing)]
    if len(slope) != n_bands * (n_bins + 1):
        raise ValueError("the recalibration maps do not fit the bands")
    return Recalibration(slope, edges)


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

    Raises
    ------
    ValueError
        If there are so many trees (7 million for 301 grid points) that a leaf's shares would not do for every grid point.
    """
    whole = shares(len(forest.root))
    if whole < len(grid):
        raise ValueError(f"{len(forest.root)} trees are too many for a grid of {len(grid)} points")
    position = np.clip((z - grid[0]) / grids.step_of(grid), 0, len(grid) - 1)
    start = np.zeros(len(forest.leaf_start), np.int64)
    point = np.empty(2 * len(forest.leaf_sample), np.uint16)
    value = np.empty(2 * len(forest.leaf_sample), np.uint16)
    used = _merge(
        forest.leaf_start,
        forest.leaf_sample,
        position,
        np.asarray(weight, np.float64),
        whole,
        len(grid),
        start,
        point,
        value,
    )
    return LeafDensity(start.astype(np.int32), point[:used].copy(), value[:used].copy())


def shares(trees: int) -> int:
    """Into how many equal shares the weight of a leaf is cut: 65,520, or so few that the sum over all trees stays below 2^31.

    65,520 can be divided by all numbers up to 10 and a few more: many leaves are not rounded at all.
    """
    return min(65520, (2**31 - 1) // trees)


@njit(nogil=True, error_model="numpy", cache=True)
def _merge(leaf_start, leaf_sample, position, weight, whole, points, start, point, value):  # type: ignore[no-untyped-def]
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
                part = weight[sample] / total
                mass[j] += (1.0 - share) * part
                low, high = min(low, j), max(high, j)
                if share > 0.0:
                    mass[j + 1] += share * part
                    high = max(high, j + 1)
        begin, given, below, largest = used, 0, 0.0, 0
        for j in range(low, high + 1):
            if mass[j] > 0.0:
                below += mass[j]
                mass[j] = 0.0
                parts = max(min(np.int64(below * whole + 0.5), whole) - given, 1)  # no sample is dropped
                given += parts
                point[used], value[used] = j, parts
                if used == begin or parts > value[largest]:
                    largest = used
                used += 1
        if used > begin:
            value[largest] += whole - given  # what rounding left over, or the smallest took
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
    trees = leaves.shape[1]
    out = np.empty((len(leaves), points), np.float32)
    add(leaves, *density, np.float32(1.0 / (shares(trees) * trees)), out)
    return out


@njit(nogil=True, error_model="numpy", cache=True)
def add(leaves, start, point, weight, unit, out):  # type: ignore[no-untyped-def]
    """Kernel of `histograms`."""
    sums = np.empty(out.shape[1], np.int64)
    for i in range(leaves.shape[0]):
        sums[:] = 0
        for t in range(leaves.shape[1]):
            leaf = leaves[i, t]
            for k in range(start[leaf], start[leaf + 1]):
                sums[point[k]] += weight[k]
        for j in range(out.shape[1]):
            out[i, j] = np.float32(sums[j]) * unit


class Finish(NamedTuple):
    """Smoothing, power and recalibration as the kernel wants them.

    The kernel is turned round and cut into blocks of 16 grid points: point j of block b gets `taps[at[b] + k, j]` of the mass at
    point 16 b + j + k - reach[b].
    """

    reach: Int64  # [B]
    at: Int64  # [B + 1], multiples of 4
    taps: Float32  # [K * 16]
    quarters: int
    slope: Float32  # [M, 2 K]: slope and the step to the next
    step: float


def finishing(grid: Float64, smoothing: Smoothing, alpha: float, maps: Recalibration) -> Finish:
    """Tables for `finish`.

    Raises
    ------
    ValueError
        If `alpha` is no positive multiple of 1/4.
    """
    quarters = round(alpha * QUARTERS)
    if quarters <= 0 or abs(quarters - alpha * QUARTERS) > 1e-9:
        raise ValueError(f"alpha must be a positive multiple of 1/4, got {alpha}")
    size = len(grid)
    n_blocks = -(-size // WIDTH)
    whole = np.zeros((size, n_blocks * WIDTH), np.float32)  # what of each point's mass goes where
    column = smoothing.first[:, None] + np.arange(smoothing.taps.shape[1])
    np.put_along_axis(whole, column, smoothing.taps, 1)
    source, target = np.nonzero(whole)
    reach = np.zeros(n_blocks, np.int64)
    np.maximum.at(reach, target // WIDTH, np.abs(source - target))
    at = np.concatenate([[0], np.cumsum(-(-(2 * reach + 1) // 4) * 4)])
    taps = np.zeros((at[-1], WIDTH), np.float32)
    taps[at[target // WIDTH] + source - target + reach[target // WIDTH], target % WIDTH] = whole[source, target]
    rise = np.diff(maps.slope, axis=1, append=maps.slope[:, -1:])
    pairs = np.stack([maps.slope, rise], 2).reshape(len(maps.slope), -1).astype(np.float32)
    return Finish(reach, at, taps.ravel(), quarters, np.ascontiguousarray(pairs), grids.step_of(grid))


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
    out = np.empty_like(histograms)
    how = finishing(grid, smoothing, alpha, maps)
    finish(histograms, 1.0, *how, map_of_row, np.arange(len(out)), out)
    return out


@njit(nogil=True, error_model="numpy", cache=True)
def finish(histograms, unit, reach, at, taps, quarters, slope, step, map_of_row, row, out):  # type: ignore[no-untyped-def]
    """Kernel of `densities`: `histograms[i]`, of which one is worth `unit`, into `out[row[i]]` with map `map_of_row[row[i]]`."""
    size = out.shape[1]
    n_blocks = len(reach)
    lane = np.uint64(WIDTH)
    pad = (np.max(reach) + 4 + WIDTH) // WIDTH * WIDTH
    last_cell = slope.shape[1] // 2 - 2
    flat_slope, flat_out = slope.reshape(-1), out.reshape(-1)
    mass = np.zeros(n_blocks * WIDTH + 2 * pad, np.float32)
    p = np.zeros(n_blocks * WIDTH, np.float32)
    below = np.zeros(n_blocks * WIDTH, np.float32)
    some = np.zeros(n_blocks + 2 * (pad // WIDTH), np.bool_)  # blocks that hold mass
    busy = np.zeros(n_blocks, np.bool_)  # blocks that smoothing brings mass to
    one, nothing, half = splat(np.float32(1.0)), splat(np.float32(0.0)), splat(np.float32(0.5))
    share = np.float32(unit)
    least = splat(np.float32(FLOOR))
    store(p, np.uint64(0), _power(least, quarters, one))
    lowest = p[0]
    for i in range(row.shape[0]):
        chosen = map_of_row[row[i]]
        target = out[row[i]]
        if i + 1 < row.shape[0]:  # rows come in any order: nothing else brings the next one's memory in time
            for j in range(0, size + WIDTH, WIDTH):
                prefetch(flat_out, np.uint64(row[i + 1] * size + min(j, size - 1)))
        if chosen < 0 or chosen >= slope.shape[0]:
            target[:] = np.nan
            continue
        source = histograms[i]
        for j in range(size):
            mass[pad + j] = np.float32(source[j]) * share
        for b in range(n_blocks):
            some[pad // WIDTH + b] = above(load(mass, np.uint64(pad + b * WIDTH)), nothing) != np.uint64(0)

        for b in range(n_blocks):
            first = pad + b * WIDTH - reach[b]
            busy[b] = False
            for k in range(first // WIDTH, (first + WIDTH - 1 + 2 * reach[b]) // WIDTH + 1):
                busy[b] |= some[k]
            here = np.uint64(b) * lane
            if not busy[b]:
                store(p, here, splat(lowest))
                continue
            s0, s1, s2, s3 = nothing, nothing, nothing, nothing
            tap, place = np.uint64(at[b]) * lane, np.uint64(first)
            for _ in range((at[b + 1] - at[b]) // 4):
                s0 = s0 + load(taps, tap) * load(mass, place)
                s1 = s1 + load(taps, tap + lane) * load(mass, place + np.uint64(1))
                s2 = s2 + load(taps, tap + np.uint64(2) * lane) * load(mass, place + np.uint64(2))
                s3 = s3 + load(taps, tap + np.uint64(3) * lane) * load(mass, place + np.uint64(3))
                tap += np.uint64(4) * lane
                place += np.uint64(4)
            store(p, here, _power(highest((s0 + s1) + (s2 + s3), least), quarters, one))
        p[size:] = np.float32(0.0)

        # Trapezoids up to each grid point, in steps
        before = np.float32(0.0)
        edge = splat(p[0])
        for b in range(n_blocks):
            here = np.uint64(b) * lane
            density = load(p, here)
            running = prefix(density)
            store(below, here, (running + splat(before)) - half * (density + edge))
            before += last(running)
        total_mass = before - np.float32(0.5) * (p[0] + p[size - 1])
        if slope.shape[0] > 1:
            # p'(z) = p(z) G'(F(z)), then normalised again
            scale = np.float32(last_cell + 1) / total_mass
            base = chosen * slope.shape[1]
            sums = nothing
            for b in range(n_blocks):
                here = np.uint64(b) * lane
                if busy[b] or WIDTH * lowest > np.float32(1e-7) * total_mass:
                    where = highest(load(below, here) * splat(scale), nothing)
                    gradient = interpolate(flat_slope, np.uint64(base), where, np.uint64(last_cell))
                else:  # nothing happens to F where there is next to nothing
                    point = max(below[b * WIDTH] * scale, np.float32(0.0))
                    cell = min(np.int64(point), last_cell)
                    value = flat_slope[base + 2 * cell]
                    gradient = splat(value + (point - np.float32(cell)) * flat_slope[base + 2 * cell + 1])
                density = load(p, here) * gradient
                store(p, here, density)
                sums = sums + density
            total_mass = total(sums) - np.float32(0.5) * (p[0] + p[size - 1])
        norm = np.float32(1.0 / (np.float64(total_mass) * step))
        for j in range(size):
            target[j] = p[j] * norm


@njit(nogil=True, error_model="numpy", inline="always")
def _power(p, quarters, one):  # type: ignore[no-untyped-def]
    """p^(quarters / 4) = p^whole * p^(1/2) * p^(1/4), as the bits of `quarters` say."""
    result = p if quarters >= 4 else one
    for _ in range(1, quarters >> 2):
        result = result * p
    if quarters & 3:
        square = root(p)
        if quarters & 2:
            result = result * square
        if quarters & 1:
            result = result * root(square)
    return result
