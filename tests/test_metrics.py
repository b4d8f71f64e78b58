"""Metrics against closed forms and plain numerical integrals."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from models import grid as grids
from models import metrics

GRID = grids.linear(2.0, 201)


def gaussian(z: np.ndarray, width: float = 0.05) -> np.ndarray:
    return grids.normalise(np.exp(-0.5 * ((GRID - z[:, None]) / width) ** 2) + 1e-12, GRID).astype(np.float32)


@given(center=st.floats(0.3, 1.7), truth=st.floats(0.0, 2.0), width=st.floats(0.02, 0.3))
@settings(max_examples=50, deadline=None)
def test_scores_are_their_naive_twin(center: float, truth: float, width: float) -> None:
    pdf = gaussian(np.array([center]), width)
    cde, crps, pit = (float(score[0]) for score in metrics.pdf_scores(pdf, GRID, np.array([truth])))
    fine = np.linspace(0, 2, 40001)
    cdf = np.interp(fine, GRID, grids.cumulative(pdf, GRID)[0])
    assert abs(crps - np.trapezoid((cdf - (fine >= truth)) ** 2, fine)) < 2e-4
    assert abs(cde - (np.trapezoid(pdf[0].astype(float) ** 2, GRID) - 2 * np.interp(truth, GRID, pdf[0]))) < 1e-5
    exact = grids.cumulative(np.interp(fine, GRID, pdf[0])[None], fine)[0]
    assert abs(pit - np.interp(truth, fine, exact)) < 1e-5
    assert abs(float(metrics.cde_loss(pdf, GRID, np.array([truth]))[0]) - cde) < 1e-4


def test_crps_of_a_gaussian() -> None:
    """Gneiting & Raftery 2007: sigma (w (2 Phi(w) - 1) + 2 phi(w) - 1 / sqrt(pi)), w = (z - mu) / sigma."""
    truth = np.array([0.95, 1.0, 1.2])
    _, crps, _ = metrics.pdf_scores(gaussian(np.ones(3), 0.1), GRID, truth)
    w = (truth - 1.0) / 0.1
    want = 0.1 * (w * (2 * stats.norm.cdf(w) - 1) + 2 * stats.norm.pdf(w) - 1 / np.sqrt(np.pi))
    np.testing.assert_allclose(crps, want, atol=1e-4)


def test_calibrated_pdfs_look_calibrated() -> None:
    rng = np.random.default_rng(0)
    center = rng.uniform(0.5, 1.5, 5000)
    truth = center + 0.05 * rng.standard_normal(5000)
    right = metrics.pdf_metrics(gaussian(center), GRID, truth)
    narrow = metrics.pdf_metrics(gaussian(center, 0.025), GRID, truth)
    assert right["pit_ks"] < 0.025 < narrow["pit_ks"]
    assert abs(right["coverage_68"] - 0.68) < 0.02
    assert abs(right["coverage_95"] - 0.95) < 0.01
    assert right["cde"] < narrow["cde"]
    assert right["crps"] < narrow["crps"]
    assert narrow["pit_outside"] > 0.02


def test_trainz_wins_pit_and_loses_what_counts() -> None:
    rng = np.random.default_rng(1)
    center = rng.uniform(0.3, 1.7, 4000)
    truth = center + 0.05 * rng.standard_normal(4000)
    n_z = metrics.trainz(truth, GRID)
    gate = metrics.pdf_metrics(np.broadcast_to(n_z, (4000, 201)), GRID, truth)
    model = metrics.pdf_metrics(gaussian(center), GRID, truth)
    assert gate["pit_ks"] < 0.02
    assert model["cde"] < gate["cde"]
    assert model["crps"] < gate["crps"]


def test_point_metrics_by_hand() -> None:
    got = metrics.point_metrics(np.array([0.0, 1.0, 1.28, 1.02, np.nan]), np.array([0.0, 1.0, 1.0, 1.0, 1.0]))
    assert (got["n"], got["missing"]) == (4, 1)
    np.testing.assert_allclose(got["bias"], 0.005)
    np.testing.assert_allclose(got["sigma_mad"], 1.4826 * 0.005)
    assert got["outliers_15"] == 0.0
    assert got["outliers_05"] == 0.25
    np.testing.assert_allclose(got["mse"], (0.28**2 + 0.02**2) / 4)
    assert metrics.point_metrics(np.array([np.nan]), np.array([1.0])) == {"n": 0, "missing": 1}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_ks_is_scipys(values: list[float]) -> None:
    want = stats.kstest(values, "uniform").statistic
    assert abs(metrics.ks_uniform(np.array(values)) - want) < 1e-12


def test_quintiles_hold_every_row_with_a_magnitude() -> None:
    z = np.linspace(0.2, 1.8, 1000)
    magnitude = np.append(np.linspace(18, 25, 990), np.full(10, np.nan)).astype(np.float32)
    rows = metrics.by_quintile(gaussian(z), GRID, z, magnitude)
    assert [row["n"] for row in rows] == [198] * 5


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50))
def test_cvm_is_scipys(values: list[float]) -> None:
    want = stats.cramervonmises(values, "uniform").statistic
    np.testing.assert_allclose(metrics.cvm_uniform(np.array(values)), want, rtol=1e-9)


def test_anderson_darling_is_scipys() -> None:
    values = np.random.default_rng(2).beta(1.2, 0.9, 300)
    inside = values[(values >= 1e-4) & (values <= 0.9999)]
    stretched = (inside - 1e-4) / (1 - 2e-4)
    want = stats.goodness_of_fit(
        stats.uniform, stretched, known_params={"loc": 0, "scale": 1}, statistic="ad", n_mc_samples=1
    ).statistic
    np.testing.assert_allclose(metrics.ad_uniform(np.append(values, [0.0, 1.0])), want, rtol=1e-9)
    assert np.isnan(metrics.ad_uniform(np.array([0.0, 1.0])))
    assert "pit_ad" not in metrics.pdf_metrics(gaussian(np.array([1.0])), GRID, np.array([0.0]))


def test_anderson_darling_and_cvm_of_uniform_have_their_means() -> None:
    draws = np.random.default_rng(3).uniform(size=(400, 200))
    assert abs(np.mean([metrics.ad_uniform(row) for row in draws]) - 1.0) < 0.15
    assert abs(np.mean([metrics.cvm_uniform(row) for row in draws]) - 1 / 6) < 0.03


def test_brier_is_its_naive_twin() -> None:
    rng = np.random.default_rng(4)
    center, truth = rng.uniform(0.3, 1.7, 20), rng.uniform(0, 2.0, 20)
    pdf = gaussian(center, 0.1)
    cdf = grids.cumulative(pdf, GRID)
    for row, brier in enumerate(metrics.scores(pdf, GRID, truth).brier):
        naive = 0.0
        for cell in range(len(GRID) - 1):
            here = GRID[cell] <= truth[row] < GRID[cell + 1]
            naive += (cdf[row, cell + 1] - cdf[row, cell] - here) ** 2
        assert abs(brier - naive) < 1e-9


def test_coverage_by_hand() -> None:
    rng = np.random.default_rng(5)
    center, truth = np.full(500, 1.0), rng.normal(1.0, 0.08, 500)
    got = metrics.pdf_metrics(gaussian(center), GRID, truth)
    for level in metrics.LEVELS:
        low, high = stats.norm.interval(level / 100, 1.0, 0.05)
        assert abs(got[f"coverage_{level}"] - ((truth >= low) & (truth <= high)).mean()) < 0.01


def test_outliers_beyond_three_sigma() -> None:
    error = np.concatenate([np.linspace(-0.1, 0.1, 99), [0.5]])
    z = np.full(100, 1.0)
    got = metrics.point_metrics(z + 2.0 * error, z)
    sigma = np.subtract(*np.percentile(error, [75, 25])) / 1.349
    assert 3 * sigma > 0.06
    assert got["outliers_3sigma"] == (np.abs(error) > 3 * sigma).mean() == 0.01
    narrow = metrics.point_metrics(z + 0.02 * np.linspace(-1, 1, 100), z)
    assert narrow["outliers_3sigma"] == 0.0
