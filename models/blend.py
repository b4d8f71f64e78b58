"""A forest and small networks as one `Estimator`: the geometric mean of their PDFs, recalibrated as one.

The forest knows its neighbours and is never far wrong, the networks are smooth where galaxies are few. p = forest^(1-w)
networks^w, raised to a power and recalibrated by maps that were made of such means (`models.calibration`).
"""

import numpy as np
from numba import njit

from models.forest.density import Finish, Recalibration, finish, finishing, identity, smoothing
from schemas.batch import Float32, Float64, Int32, Int64

QUARTERS = 4  # weights are multiples of 1/4: a power of the forest is then square roots
FLOOR = 1e-6  # lowest density of the forest in a mean
WEIGHTS = (0.25, 0.5, 0.75)  # of the networks
POWERS = (1.0, 1.25, 1.5)  # of the mean; more is left to the maps: it would leave too many truths in the tails


def mix(forest: Float32, log_density: Float32, weight: float) -> Float32:
    """Geometric mean of two PDFs on the same grid, peak 1, float32[n, G].

    Parameters
    ----------
    forest
        PDFs of the forest, float32[n, G].
    log_density
        Log of the networks' PDFs but for a constant each, float32[n, G].
    weight
        Of the networks, a multiple of 1/4 from 0 to 1.

    Raises
    ------
    ValueError
        If shapes differ or the weight is no such multiple.
    """
    quarters = round(weight * QUARTERS)
    if abs(quarters - weight * QUARTERS) > 1e-9 or not 0 <= quarters <= QUARTERS:
        raise ValueError(f"the weight of the networks must be a multiple of 1/4 from 0 to 1, got {weight}")
    if forest.shape != log_density.shape or forest.ndim != 2:
        raise ValueError(f"PDFs of shapes {forest.shape} and {log_density.shape}")
    out = np.empty(forest.shape, np.float32)
    mix_rows(forest, log_density, quarters, out)
    return out


@njit(nogil=True, error_model="numpy", cache=True)
def mix_rows(forest, log_density, quarters, out):  # type: ignore[no-untyped-def]
    """Kernel of `mix`."""
    size = forest.shape[1]
    exponent = np.empty(size, np.int32)
    scale = exponent.view(np.float32)
    weight = np.float32(0.25) * np.float32(quarters)
    for i in range(forest.shape[0]):
        p, logs, row = forest[i], log_density[i], out[i]
        for j in range(size):
            # e^x = 2^k e^r with |r| <= ln 2 / 2, and e^r by its series to r^6: a relative error of 2e-7
            x = max(logs[j] * weight, np.float32(-80.0))
            k = np.int32(x * np.float32(1.4426950408889634) - np.float32(0.5))
            r = x - np.float32(k) * np.float32(0.693359375) + np.float32(k) * np.float32(2.12194440e-4)
            e = np.float32(1 / 720) * r + np.float32(1 / 120)
            e = e * r + np.float32(1 / 24)
            e = e * r + np.float32(1 / 6)
            e = e * r + np.float32(0.5)
            e = e * r + np.float32(1.0)
            row[j] = e * r + np.float32(1.0)
            exponent[j] = (k + np.int32(127)) << np.int32(23)
        for j in range(size):
            row[j] *= scale[j]
        # forest^(1 - w) = forest^(1/2) forest^(1/4), as the bits of 4 (1 - w) say
        rest = 4 - quarters
        if rest == 4:
            for j in range(size):
                row[j] *= max(p[j], np.float32(FLOOR))
        if rest & 2:
            for j in range(size):
                row[j] *= np.sqrt(max(p[j], np.float32(FLOOR)))
        if rest & 1:
            for j in range(size):
                row[j] *= np.sqrt(np.sqrt(max(p[j], np.float32(FLOOR))))
        peak = np.float32(1e-30)
        for j in range(size):
            peak = max(peak, row[j])
        for j in range(size):
            row[j] /= peak


class Blend:
    """How histograms of the forest and log densities of the networks become finished PDFs."""

    def __init__(
        self, grid: Float64, width: float, alpha: float, weight: float, power: float, maps: Recalibration
    ) -> None:
        self._weight = weight
        self._forest: Finish = finishing(grid, smoothing(grid, width), alpha, identity())
        self._mean: Finish = finishing(grid, smoothing(grid, 0.0), power, maps)

    def mean(self, histograms: np.ndarray, unit: float, log_density: Float32) -> Float32:
        """Geometric means, not yet raised, recalibrated or normalised, float32[n, G]; one of a histogram is worth `unit`."""
        forest = np.empty_like(log_density)
        rows = np.arange(len(forest))
        finish(histograms, unit, *self._forest, np.zeros(len(rows), np.int32), rows, forest)
        return mix(forest, log_density, self._weight)

    def finish(self, mean: Float32, map_of_row: Int32, row: Int64, out: Float32) -> None:
        """Finished PDFs of such means into the rows `row` of `out`, float32[n, G]; rows of map -1 are NaN."""
        finish(mean, 1.0, *self._mean, map_of_row, row, out)
