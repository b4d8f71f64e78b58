"""Weights that make a training set look like the galaxies a model is for: the density ratio, by nearest neighbours.

Spectroscopic samples are brighter and redder than the galaxies whose redshifts are wanted. A training galaxy counts as the number
of target galaxies within the distance of its k-th neighbour in training, over k (Lima et al. 2008, MNRAS 390, 118; Kremer et al.
2015, arXiv:1511.05424). Where the targets have no training galaxy at all no weight helps: those are out of distribution.
"""

import numpy as np

from models.photometry import Photometry
from schemas.batch import Float32, Float64

NEIGHBOURS = 10
HIGHEST = 20.0  # no galaxy counts more than this many times the mean: a few rows must not be the model


def density_ratio(training: Photometry, target: Photometry, neighbours: int = NEIGHBOURS) -> Float64:
    """Importance weights of the training galaxies, mean 1, float64[n].

    Parameters
    ----------
    training, target
        Photometry in the same system.
    neighbours
        The k of the nearest neighbours: more is smoother.

    Raises
    ------
    ValueError
        If there are no more training galaxies than neighbours, no target galaxies with photometry, or no overlap at all.
    """
    known = target.band_mask != 0
    n, m = len(training.mag_ref), int(known.sum())
    if n <= neighbours or not m:
        raise ValueError(f"{n} training and {m} target galaxies with photometry: too few for {neighbours} neighbours")
    here, there = _space(training.features, training), _space(target.features[known], training)
    from scipy.spatial import cKDTree  # only where weights are asked for

    radius = cKDTree(here).query(here, neighbours + 1)[0][:, -1]  # the nearest neighbour of a galaxy is itself
    inside = cKDTree(there).query_ball_point(here, radius, return_length=True)
    ratio = inside / neighbours * (n / m)
    if not ratio.any():
        raise ValueError("no target galaxy lies near any training galaxy")
    ratio = np.minimum(ratio, HIGHEST * ratio.mean())
    weight: Float64 = ratio / ratio.mean()
    return weight


def effective(weight: Float64) -> float:
    """How many galaxies of equal weight these are worth: (sum w)^2 / sum w^2 (Kish 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def _space(features: Float32, training: Photometry) -> Float64:
    """Features in interquartile ranges from the medians of training; a missing one lies in the middle."""
    out = np.zeros(features.shape)
    for k in range(features.shape[1]):
        column = training.features[:, k]
        known = column[np.isfinite(column)].astype(np.float64)
        if not len(known):
            continue
        low, middle, high = np.percentile(known, [25, 50, 75])
        out[:, k] = (features[:, k] - middle) / (high - low if high > low else 1.0)
    return np.nan_to_num(out, nan=0.0)
