"""The redshift grid on which PDFs are given: linear from 0, and normalised by the trapezoid rule."""

import math

import numpy as np

from schemas.batch import Float64

BINS = 60  # of a redshift distribution in a model card
POINTS = 301  # the default number of grid points: a step of 0.01 for a survey that reaches z = 3


def linear(z_max: float, points: int = POINTS) -> Float64:
    """`points` redshifts from 0 to `z_max`, evenly spaced, float64[points].

    Raises
    ------
    ValueError
        If `z_max` is not a positive number or there are fewer than 3 points.
    """
    if not (math.isfinite(z_max) and z_max > 0 and points >= 3):
        raise ValueError(f"a grid of {points} points up to redshift {z_max}")
    return np.linspace(0.0, z_max, points)


def chosen_for(z: Float64, points: int = POINTS) -> Float64:
    """The grid for a training set: its step is the least of two significant digits that reaches the highest redshift."""
    step = float(np.max(z)) / (points - 1)
    if not (math.isfinite(step) and step > 0):
        raise ValueError("the training redshifts have no positive maximum")
    unit = 10.0 ** (math.floor(math.log10(step)) - 1)
    return linear(round(math.ceil(step / unit - 1e-9) * unit * (points - 1), 10), points)


def step_of(grid: Float64) -> float:
    """Spacing of a linear grid.

    Raises
    ------
    ValueError
        If the grid is not evenly spaced and rising.
    """
    step = float(grid[-1] - grid[0]) / (len(grid) - 1)
    if not (step > 0 and np.allclose(np.diff(grid), step, rtol=1e-6, atol=0)):
        raise ValueError("the redshift grid is not evenly spaced")
    return step


def trapezoid(grid: Float64) -> Float64:
    """Quadrature weights of the trapezoid rule on a linear grid, float64[G]: `pdf @ trapezoid(grid)` is the integral."""
    weights = np.full(len(grid), step_of(grid))
    weights[[0, -1]] *= 0.5
    return weights


def normalise(pdf: Float64, grid: Float64) -> Float64:
    """`pdf` [..., G] scaled to integrate to 1 by the trapezoid rule."""
    return pdf / (pdf * trapezoid(grid)).sum(-1, keepdims=True)


def cumulative(pdf: Float64, grid: Float64) -> Float64:
    """Distribution function on the grid of a piecewise linear PDF, float64[n, G]: from 0 to exactly 1."""
    p = np.asarray(pdf, np.float64)
    cdf = np.zeros_like(p)
    np.cumsum(0.5 * step_of(grid) * (p[:, 1:] + p[:, :-1]), axis=1, out=cdf[:, 1:])
    return cdf / cdf[:, -1:]


def distribution(z: Float64, weight: Float64, grid: Float64, bins: int = BINS) -> list[float]:
    """Parts of the `weight` of redshifts `z` in equal bins from 0 to the end of the grid; they sum to 1.

    Six decimals: it stands in model cards, for people to hold a night against.
    """
    counts = np.histogram(z, bins, (0.0, grid[-1]), weights=weight)[0]
    return [round(float(part), 6) for part in counts / max(counts.sum(), np.finfo(float).tiny)]
