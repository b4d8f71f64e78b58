"""How good redshift estimates are: points against the truth, and PDFs against the truth.

PIT statistics alone prove nothing: giving every galaxy the n(z) of the training set ("trainZ") wins them. So `trainz` is the
gate: a model must beat it in CDE loss and CRPS (Schmidt et al. 2020, MNRAS 499, 1587).
"""

from typing import Any, NamedTuple

import numpy as np

from models import grid as grids
from schemas.batch import Float32, Float64

MAD_TO_SIGMA = 1.4826  # of a normal distribution
IQR_TO_SIGMA = 1.349
PIT_EDGE = 1e-4  # a PIT closer than this to 0 or 1 is outside its PDF
BLOCK = 4096  # rows worked on at once: bounds the memory
LEVELS = (50, 68, 90, 95)  # central intervals whose coverage is counted, %


class Scores(NamedTuple):
    """What each of n PDFs scores against its truth, float64[n] each; the lower the better but for `pit`."""

    cde: Float64  # integral of p^2 minus 2 p(z)
    crps: Float64  # integral of (F - step at z)^2
    pit: Float64  # F(z): uniform on [0, 1] where PDFs are calibrated
    brier: Float64  # sum over the cells of the grid of (probability - 1 if the truth is there)^2


def point_metrics(z_phot: Float32 | Float64, z: Float64) -> dict[str, float]:
    """Statistics of e = (z_phot - z) / (1 + z); rows where `z_phot` is NaN are left out and counted.

    Returns
    -------
    dict
        n, missing, bias (median e), sigma_mad, sigma_iqr, outliers_15, outliers_05 and outliers_3sigma (fractions with \\|e\\|
        above 0.15, above 0.05 and above max(0.06, 3 sigma_iqr)), mse (mean of (z_phot - z)^2).
    """
    known = np.isfinite(z_phot)
    truth = np.asarray(z, np.float64)[known]
    error = (np.asarray(z_phot, np.float64)[known] - truth) / (1.0 + truth)
    if not len(error):
        return {"n": 0, "missing": float((~known).sum())}
    median = float(np.median(error))
    low, high = np.percentile(error, [25, 75])
    sigma_iqr = float((high - low) / IQR_TO_SIGMA)
    return {
        "n": len(error),
        "missing": int((~known).sum()),
        "bias": median,
        "sigma_mad": float(MAD_TO_SIGMA * np.median(np.abs(error - median))),
        "sigma_iqr": sigma_iqr,
        "outliers_15": float((np.abs(error) > 0.15).mean()),
        "outliers_05": float((np.abs(error) > 0.05).mean()),
        "outliers_3sigma": float((np.abs(error) > max(0.06, 3.0 * sigma_iqr)).mean()),
        "mse": float(((error * (1.0 + truth)) ** 2).mean()),
    }


def pdf_metrics(pdf: Float32, grid: Float64, z: Float64) -> dict[str, float]:
    """Statistics of PDFs against the truth; rows of NaN are left out.

    Returns
    -------
    dict
        As `summary` says.
    """
    known = np.isfinite(pdf[:, 0])
    return summary(scores(pdf[known], grid, np.asarray(z, np.float64)[known]))


def summary(rows: Scores) -> dict[str, float]:
    """Statistics of scores; rows whose PIT is NaN (no PDF) are left out. Of no row at all: an empty dict.

    Returns
    -------
    dict
        cde, crps and brier (means); pit_ks, pit_cvm and pit_ad (distances of the PIT from uniform: Kolmogorov-Smirnov,
        Cramer-von Mises, Anderson-Darling; the last is absent where every PIT is outside), pit_outside (fraction outside
        [1e-4, 0.9999]); coverage_50, _68, _90 and _95 (of the central intervals).
    """
    known = np.isfinite(rows.pit)
    pit = rows.pit[known]
    if not len(pit):
        return {}
    anderson_darling = ad_uniform(pit)
    return {
        "cde": float(rows.cde[known].mean()),
        "crps": float(rows.crps[known].mean()),
        "brier": float(rows.brier[known].mean()),
        "pit_ks": ks_uniform(pit),
        "pit_cvm": cvm_uniform(pit),
        **({"pit_ad": anderson_darling} if np.isfinite(anderson_darling) else {}),
        "pit_outside": float(((pit < PIT_EDGE) | (pit > 1.0 - PIT_EDGE)).mean()),
        **{f"coverage_{level}": float((np.abs(pit - 0.5) <= level / 200.0).mean()) for level in LEVELS},
    }


def pdf_scores(pdf: Float32, grid: Float64, z: Float64) -> tuple[Float64, Float64, Float64]:
    """CDE loss, CRPS and PIT of each row, float64[n] each: the first three of `scores`."""
    return scores(pdf, grid, z)[:3]


def scores(pdf: Float32, grid: Float64, z: Float64) -> Scores:
    """CDE loss, CRPS, PIT and Brier score of each row.

    CDE loss (Izbicki & Lee 2017): integral of p^2 (trapezoid rule) minus 2 p(z). CRPS: integral of (F - step at z)^2 with F
    linear between grid points. PIT: F(z) of the piecewise linear PDF. Brier: over the cells between grid points. A truth
    outside the grid is moved to its end.
    """
    out = Scores(*(np.empty(len(z)) for _ in range(4)))
    weights = grids.trapezoid(grid)
    step = grids.step_of(grid)
    for first in range(0, len(z), BLOCK):
        rows = slice(first, first + BLOCK)
        p = np.asarray(pdf[rows], np.float64)
        cdf = grids.cumulative(p, grid)
        at = np.clip((z[rows] - grid[0]) / step, 0.0, len(grid) - 1.0)
        cell = np.minimum(at.astype(np.int64), len(grid) - 2)
        part = at - cell
        row = np.arange(len(p))
        left, right = p[row, cell], p[row, cell + 1]
        mass = p @ weights
        pit = cdf[row, cell] + step * part * (left + 0.5 * part * (right - left)) / mass
        share = np.diff(cdf, axis=1)
        out.cde[rows] = (p * p) @ weights - 2.0 * (left + part * (right - left))
        out.crps[rows] = _crps(cdf, pit, cell, part, step)
        out.pit[rows] = pit
        out.brier[rows] = np.einsum("ij,ij->i", share, share) - 2.0 * share[row, cell] + 1.0
    return out


def cde_loss(pdf: Float32, grid: Float64, z: Float64) -> Float64:
    """CDE loss of each row alone, float64[n]: the first of `pdf_scores`, without the cost of the others."""
    at = np.clip((z - grid[0]) / grids.step_of(grid), 0.0, len(grid) - 1.0)
    cell = np.minimum(at.astype(np.int64), len(grid) - 2)
    row = np.arange(len(pdf))
    left, right = pdf[row, cell].astype(np.float64), pdf[row, cell + 1].astype(np.float64)
    square: Float64 = np.einsum("ij,ij,j->i", pdf, pdf, grids.trapezoid(grid))
    return square - 2.0 * (left + (at - cell) * (right - left))


def _crps(cdf: Float64, at_truth: Float64, cell: np.ndarray, part: Float64, step: float) -> Float64:
    """Integral of (F - H(z))^2 for F linear between the grid points and the truth: (a^2 + ab + b^2) / 3 per piece."""

    def piece(a: Float64, b: Float64) -> Float64:
        return (a * a + a * b + b * b) / 3.0

    row = np.arange(len(cdf))
    below = np.zeros_like(cdf)
    np.cumsum(piece(cdf[:, :-1], cdf[:, 1:]), axis=1, out=below[:, 1:])
    above = np.zeros_like(cdf)
    np.cumsum(piece(1.0 - cdf[:, :-1], 1.0 - cdf[:, 1:]), axis=1, out=above[:, 1:])
    here = part * piece(cdf[row, cell], at_truth) + (1.0 - part) * piece(1.0 - at_truth, 1.0 - cdf[row, cell + 1])
    crps: Float64 = step * (below[row, cell] + (above[:, -1] - above[row, cell + 1]) + here)
    return crps


def ks_uniform(values: Float64) -> float:
    """Kolmogorov-Smirnov distance of `values` from the uniform distribution on [0, 1]."""
    ordered = np.sort(values)
    number = np.arange(len(ordered))
    return float(max((ordered - number / len(ordered)).max(), ((number + 1) / len(ordered) - ordered).max()))


def cvm_uniform(values: Float64) -> float:
    """Cramer-von Mises statistic n omega^2 of `values` against uniform on [0, 1]; 1/6 is its mean where they are uniform."""
    n = len(values)
    middle = (np.arange(n) + 0.5) / n
    return float(1.0 / (12 * n) + ((np.sort(values) - middle) ** 2).sum())


def ad_uniform(values: Float64) -> float:
    """Anderson-Darling statistic A^2 of `values` against uniform; 1 is its mean where they are uniform.

    It weighs the ends, and one value at 0 or 1 makes it infinite. So values outside [1e-4, 0.9999] are left out (`pit_outside`
    counts them) and the others stretched over [0, 1]. NaN where none is left.
    """
    inside = np.sort(values[(values >= PIT_EDGE) & (values <= 1.0 - PIT_EDGE)])
    n = len(inside)
    if not n:
        return float("nan")
    u = np.clip((inside - PIT_EDGE) / (1.0 - 2.0 * PIT_EDGE), 1e-12, 1.0 - 1e-12)
    odd = 2.0 * np.arange(n) + 1.0
    return float(-n - (odd * (np.log(u) + np.log1p(-u[::-1]))).mean())


def trainz(z_train: Float64, grid: Float64, width: float = 0.01) -> Float32:
    """The n(z) of a training set as one PDF, float32[1, G]: a histogram smoothed with a Gaussian of `width` (1 + z)."""
    step = grids.step_of(grid)
    counts = np.histogram(z_train, np.append(grid - 0.5 * step, grid[-1] + 0.5 * step))[0].astype(np.float64)
    kernel = np.exp(-0.5 * ((grid[None, :] - grid[:, None]) / (width * (1.0 + grid[:, None]))) ** 2)
    n_z = counts @ (kernel / kernel.sum(1, keepdims=True))
    return grids.normalise(np.maximum(n_z, 1e-12), grid)[None, :].astype(np.float32)


def by_quintile(pdf: Float32, grid: Float64, z: Float64, magnitude: Float32) -> list[dict[str, Any]]:
    """`pdf_metrics` in five bins of equal count in the reference magnitude, bright to faint."""
    known = np.isfinite(magnitude) & np.isfinite(pdf[:, 0])
    edges = np.quantile(magnitude[known], [0.2, 0.4, 0.6, 0.8]) if known.any() else np.zeros(4)
    bins = np.where(known, np.searchsorted(edges, magnitude), -1)
    return [
        {"n": int((bins == k).sum()), **pdf_metrics(pdf[bins == k], grid, z[bins == k])}
        for k in range(5)
        if (bins == k).any()
    ]
