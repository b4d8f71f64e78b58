"""Light profiles as sums of Gaussians: so the blur of the air is an addition of variances, exact and cheap (Hogg & Lang 2013)."""

from functools import cache
from typing import NamedTuple

import numpy as np

from schemas.batch import Float64

SMALLEST_SHARE = 1e-3  # of the light; Gaussians with less are left out


class Mixture(NamedTuple):
    """Round Gaussians about one centre: parts of the light, sum 1, and variances in squares of the profile's own radius."""

    share: Float64
    variance: Float64


@cache
def sersic(index: float) -> Mixture:
    """A Sersic profile cut off smoothly between 4 and 8 half-light radii; its half-light radius is 1."""
    b = 2 * index - 1 / 3 + 0.009876 / index
    r = np.geomspace(0.01, 8, 500)
    light = np.exp(-b * r ** (1 / index)) * np.clip((8 - r) / 4, 0, 1) ** 2
    found = _fitted(r, light, np.geomspace(4e-4, 12, 9) if index > 2 else np.geomspace(0.03, 2.2, 5))
    at = np.linspace(0.05, 5, 5000)
    inside = ((1 - np.exp(-0.5 * at[:, None] ** 2 / found.variance)) * found.share).sum(1)
    return Mixture(found.share, found.variance / np.interp(0.5, inside, at) ** 2)


@cache
def moffat(beta: float = 3.0) -> Mixture:
    """A Moffat profile, which the air makes; its full width at half maximum is 1."""
    r = np.linspace(0.005, 5, 500)
    core = 0.5 / np.sqrt(2 ** (1 / beta) - 1)
    return _fitted(r, (1 + (r / core) ** 2) ** -beta, np.array([0.12, 0.35, 1.5]))


def _fitted(r: Float64, light: Float64, variance: Float64) -> Mixture:
    """Non-negative least squares, weighted by the light in a ring."""
    from scipy.optimize import nnls

    gaussians = np.exp(-0.5 * r[:, None] ** 2 / variance) / (2 * np.pi * variance)
    weight = r * np.sqrt(np.gradient(r))
    share = nnls(gaussians * weight[:, None], light * weight)[0]
    kept = share > SMALLEST_SHARE * share.sum()
    return Mixture(share[kept] / share[kept].sum(), variance[kept])
