"""Point estimates against slow, plain computations on the same PDF."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from models import grid as grids
from models.points import points, risk_tables
from schemas.flags import Flag

GRID = grids.linear(3.0, 301)
RISK = risk_tables(GRID)


def mixture(peaks: list[tuple[float, float, float]], grid: np.ndarray = GRID) -> np.ndarray:
    """A PDF of Gaussians (height, z, width), float32[1, G]."""
    p = sum(h * np.exp(-0.5 * ((grid - z) / w) ** 2) for h, z, w in peaks) + 1e-12
    return grids.normalise(np.asarray(p), grid)[None].astype(np.float32)


PEAKS = st.lists(st.tuples(st.floats(0.05, 1), st.floats(-0.1, 3.1), st.floats(0.004, 0.5)), min_size=1, max_size=4)


@given(peaks=PEAKS, noise=st.integers(0, 1000), size=st.sampled_from([301, 301, 299, 57, 5]))
@settings(max_examples=200, deadline=None)
def test_points_are_their_naive_twin(peaks: list[tuple[float, float, float]], noise: int, size: int) -> None:
    grid = grids.linear(3.0, size)
    pdf = mixture(peaks, grid)
    if noise:
        pdf = grids.normalise(pdf * np.random.default_rng(noise).random(size), grid).astype(np.float32)
    got = points(pdf, grid, risk_tables(grid))
    value = {name: float(got.column(name)[0]) for name in ("z_mode", "z_mean", "z_median", "z_best", "z_best_risk")}
    p = pdf[0].astype(np.float64)
    weights = p * grids.trapezoid(grid)
    miss = (grid - grid[:, None]) / (1 + grid[:, None]) / 0.15  # of each redshift, from each guess
    risks = ((1 - 1 / (1 + miss**2)) * weights).sum(1).tolist()
    best = int(np.argmin(np.abs(grid - value["z_best"])))
    assert risks[best] <= min(risks) + 1e-6
    np.testing.assert_allclose(value["z_best_risk"], min(risks), atol=2e-6)
    assert value["z_mode"] == np.float32(grid[p.argmax()])
    mean = (weights * grid).sum() / weights.sum()
    np.testing.assert_allclose(value["z_mean"], mean, atol=1e-5)
    sigma = np.sqrt((weights * (grid - mean) ** 2).sum() / weights.sum())
    np.testing.assert_allclose(got.column("z_sigma")[0], sigma, atol=2e-5)
    fine = np.linspace(0, 3, (size - 1) * 50 + 1)
    cdf = grids.cumulative(np.interp(fine, grid, p)[None], fine)[0]
    for name, level in {"z_median": 0.5, "z_lo68": 0.16, "z_hi68": 0.84, "z_lo95": 0.025, "z_hi95": 0.975}.items():
        z = float(got.column(name)[0])
        np.testing.assert_allclose(np.interp(z, fine, cdf), level, atol=2e-4)
    window = 0.03 * (1 + grid[best])
    odds = np.interp(grid[best] + window, fine, cdf) - np.interp(grid[best] - window, fine, cdf)
    np.testing.assert_allclose(got.column("odds")[0], odds, atol=2e-4)


def test_quantiles_are_exact_for_a_piecewise_linear_pdf() -> None:
    pdf = mixture([(1.0, 0.8, 0.03), (0.5, 1.4, 0.1)])
    z = float(points(pdf, GRID, RISK).column("z_hi68")[0])
    knots = GRID[(GRID > 0.7) & (z > GRID)]
    below, _ = quad(lambda x: np.interp(x, GRID, pdf[0]), 0.0, z, points=list(knots), limit=400)
    assert abs(below - 0.84) < 1e-5


@pytest.mark.parametrize(
    ("peaks", "flags"),
    [
        ([(1.0, 0.8, 0.03)], Flag(0)),
        ([(1.0, 0.8, 0.03), (1.0, 1.0, 0.03)], Flag.MULTIMODAL_PDF),
        ([(1.0, 0.8, 0.03), (0.1, 1.0, 0.03)], Flag(0)),  # the second peak holds 9 %
        ([(1.0, 0.80, 0.03), (1.0, 0.85, 0.03)], Flag(0)),  # no valley between them
        ([(1.0, 1.0, 0.4)], Flag.BROAD_PDF),
        ([(1.0, 0.0, 0.05)], Flag.Z_AT_GRID_EDGE),
        ([(1.0, 3.0, 0.05)], Flag.Z_AT_GRID_EDGE),
        ([(1.0, 0.3, 0.03), (1.0, 2.5, 0.03)], Flag.BROAD_PDF | Flag.MULTIMODAL_PDF),
    ],
)
def test_flags(peaks: list[tuple[float, float, float]], flags: Flag) -> None:
    assert Flag(int(points(mixture(peaks), GRID, RISK).flags[0])) == flags


def test_a_row_of_nan_stays_nan() -> None:
    got = points(np.full((2, 301), np.nan, np.float32), GRID, RISK)
    assert np.isnan(got.values).all()
    assert not got.flags.any()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="grid"):
        points(np.ones((1, 300), np.float32), GRID, RISK)
    with pytest.raises(ValueError, match="float64"):
        points(np.ones((1, 301)), GRID, RISK)
    with pytest.raises(ValueError, match="evenly"):
        grids.step_of(np.array([0.0, 1.0, 3.0]))
    for z_max, size in ((0.0, 301), (np.nan, 301), (1.0, 2)):
        with pytest.raises(ValueError, match="grid"):
            grids.linear(z_max, size)


@pytest.mark.parametrize(("highest", "z_max"), [(2.987, 3.0), (3.0, 3.0), (0.4, 0.42), (0.0123, 0.0123), (6.1, 6.3)])
def test_grid_reaches_the_highest_redshift(highest: float, z_max: float) -> None:
    grid = grids.chosen_for(np.array([0.001, highest]))
    assert grid[-1] == z_max
    assert len(grid) == 301
