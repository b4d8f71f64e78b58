"""Weights by density ratio find the density ratio."""

import numpy as np
import pytest

from models import covariate
from models.photometry import Photometry


def galaxies(magnitude: np.ndarray, seed: int = 0) -> Photometry:
    rng = np.random.default_rng(seed)
    features = np.stack([magnitude, rng.normal(0, 1, len(magnitude))], 1).astype(np.float32)
    n = len(magnitude)
    return Photometry(features, features[:, 0].copy(), np.full(n, 0b11, np.uint32), np.zeros(n, np.uint32))


def test_known_ratio_is_found() -> None:
    rng = np.random.default_rng(1)
    bright, faint = rng.normal(20, 1, 4000), rng.normal(21, 1, 8000)
    weight = covariate.density_ratio(galaxies(bright), galaxies(faint, 2))
    true = np.exp((bright - 20.5) * 1.0)  # the ratio of the two Gaussians
    inner = (bright > 18.5) & (bright < 22)
    assert np.corrcoef(np.log(weight[inner] + 0.02), np.log(true[inner]))[0, 1] > 0.8
    assert np.average(bright, weights=weight) == pytest.approx(21, abs=0.2)
    assert weight.mean() == pytest.approx(1)
    assert covariate.effective(weight) < 4000 == covariate.effective(np.ones(4000))


def test_naive_twin() -> None:
    here, there = galaxies(np.random.default_rng(3).normal(20, 1, 60)), galaxies(np.linspace(18, 22, 40), 4)
    low, middle, high = np.percentile(here.features.astype(np.float64), [25, 50, 75], axis=0)
    a, b = ((x.features - middle) / (high - low) for x in (here, there))
    want = []
    for x in a:
        radius = np.sort(np.linalg.norm(a - x, axis=1))[5]
        want.append((np.linalg.norm(b - x, axis=1) <= radius).sum() / 5 * 60 / 40)
    want = np.minimum(want, covariate.HIGHEST * np.mean(want))
    np.testing.assert_allclose(covariate.density_ratio(here, there, 5), want / np.mean(want))


def test_missing_features_and_no_overlap() -> None:
    here, there = galaxies(np.linspace(18, 22, 200)), galaxies(np.linspace(18, 22, 50), 1)
    here.features[::3, 1] = np.nan
    there.band_mask[:10] = 0
    assert np.isfinite(covariate.density_ratio(here, there)).all()
    for bad, says in ((galaxies(np.full(5, 90.0)), "near any"), (galaxies(np.empty(0)), "too few")):
        with pytest.raises(ValueError, match=says):
            covariate.density_ratio(here, bad)
