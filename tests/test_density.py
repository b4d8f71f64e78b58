"""Leaf-sample PDFs against a Python loop; and that a row's PDF does not depend on the rows beside it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models import grid as grids
from models.forest import density as de
from models.forest.estimator import ForestEstimator
from models.forest.forest import Forest
from models.forest.inference import PART
from models.forest.packets import FEW
from schemas.batch import Estimates
from tests.models_fixtures import dc2_bundle, dc2_estimator, dc2_validation  # noqa: F401

GRID = grids.linear(2.0, 41)


def leafy(starts: list[int], samples: np.ndarray, trees: int) -> Forest:
    """A forest of which only the leaves matter."""
    blank = np.zeros(1, np.int32)
    root = np.zeros(trees, np.int32)
    return Forest(blank, blank, blank, blank, root, np.array(starts, np.int32), samples.astype(np.int32))


@given(
    z=hnp.arrays(np.float64, 12, elements=st.floats(-0.5, 2.5)),
    weight=hnp.arrays(np.float64, 12, elements=st.sampled_from([0.0, 0.5, 1.0, 7.0])),
    samples=hnp.arrays(np.int64, 30, elements=st.integers(0, 11)),
    cuts=st.lists(st.integers(0, 30), min_size=5, max_size=5),
    rows=hnp.arrays(np.int32, (4, 3), elements=st.integers(0, 5)),
)
@settings(max_examples=100, deadline=None)
def test_histograms_are_their_naive_twin(
    z: np.ndarray, weight: np.ndarray, samples: np.ndarray, cuts: list[int], rows: np.ndarray
) -> None:
    starts = [0, *sorted(cuts), 30]
    got = de.histograms(rows, de.leaf_density(leafy(starts, samples, 3), z, weight, GRID), len(GRID))
    want = np.zeros((4, len(GRID)))
    for i, row in enumerate(rows):
        for leaf in row:
            inside = samples[starts[leaf] : starts[leaf + 1]]
            total = weight[inside].sum()
            for sample in inside if total > 0 else []:
                at = np.clip((z[sample] - GRID[0]) / 0.05, 0, len(GRID) - 1)
                j = int(at)
                want[i, j] += (1 - (at - j)) * weight[sample] / total / 3
                if at > j:
                    want[i, j + 1] += (at - j) * weight[sample] / total / 3
    np.testing.assert_allclose(got, want, atol=4e-5)  # a share is 1.5e-5


@given(
    mass=hnp.arrays(np.float32, (3, 41), elements=st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.5, 1.0])),
    width=st.sampled_from([0.0, 0.0117, 0.0517, 0.4]),
    alpha=st.sampled_from([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 3.0]),
    slopes=hnp.arrays(np.float32, (2, 17), elements=st.floats(0.015625, 4, width=32)),
)
@settings(max_examples=150, deadline=None)
def test_densities_are_their_naive_twin(mass: np.ndarray, width: float, alpha: float, slopes: np.ndarray) -> None:
    mass[:, 7] += np.float32(0.2)
    maps = de.Recalibration(slopes, np.empty(0))
    chosen = np.array([0, 1, -1], np.int32)
    got = de.densities(mass, GRID, de.smoothing(GRID, width), alpha, maps, chosen)
    sigma = np.maximum(width * (1 + GRID), 1e-9)[:, None]
    distance = np.abs(GRID[None, :] - GRID[:, None])
    kernel = np.where(distance <= 5 * sigma + 1e-12, np.exp(-0.5 * (distance / sigma) ** 2), 0)
    p = np.maximum(mass.astype(float) @ (kernel / kernel.sum(1, keepdims=True)), 1e-12) ** alpha
    cdf = grids.cumulative(p, GRID)
    for i in range(2):
        p[i] *= np.interp(cdf[i], np.linspace(0, 1, 17), slopes[i])
    want = grids.normalise(p, GRID)
    np.testing.assert_allclose(got[:2], want[:2], rtol=2e-3, atol=2e-5)
    np.testing.assert_allclose(got[:2] @ grids.trapezoid(GRID), 1, rtol=1e-5)
    assert np.isnan(got[2]).all()


def test_two_peaks_stay_two() -> None:
    samples = np.array([0, 1, 1, 1])
    density = de.leaf_density(leafy([0, 4], samples, 1), np.array([0.5, 1.5]), np.array([3.0, 1.0]), GRID)
    np.testing.assert_array_equal(density.point, [10, 30])
    np.testing.assert_array_equal(density.weight, [32760, 32760])


def test_power_must_be_in_quarters() -> None:
    mass = np.ones((1, 41), np.float32)
    for alpha in (0.0, -1.0, 1.1):
        with pytest.raises(ValueError, match="1/4"):
            de.densities(mass, GRID, de.smoothing(GRID, 0.01), alpha, de.identity(), np.zeros(1, np.int32))


def test_which_map() -> None:
    maps = de.Recalibration(np.ones((9, 2), np.float32), np.array([22.0]))
    mag = np.array([21.0, 23.0, np.nan, 23.0, 21.0, np.nan], np.float32)
    mask = np.array([0b111, 0b111, 0b101, 0b011, 0b010, 0], np.uint32)
    assert maps.of(mag, mask, 3).tolist() == [0, 1, 5, 4, 6, -1]


def test_maps_of_the_first_bundles_are_understood() -> None:
    """Two magnitude bins for all three bands; then one map for 0, 1 and 2 missing."""
    slope = np.arange(5, dtype=np.float32)[:, None].repeat(2, 1)
    maps = de.stored(slope, np.array([22.0]), 3)
    assert maps.slope[:, 0].tolist() == [0, 1, 2, 3, 3, 3, 4, 4, 4]
    assert de.stored(maps.slope, maps.edges, 3).slope is maps.slope
    with pytest.raises(ValueError, match="maps do not fit"):
        de.stored(slope[:4], maps.edges, 3)


def same(a: Estimates, b: Estimates, rows: np.ndarray | slice = slice(None)) -> None:
    for name, left, right in zip(Estimates._fields, a, b, strict=True):
        assert np.ascontiguousarray(left[rows]).tobytes() == right.tobytes(), name


def test_a_row_does_not_depend_on_its_batch(dc2_estimator: ForestEstimator) -> None:  # noqa: F811
    """To the last bit: whatever the batch, the order, the number of threads."""
    table = dc2_validation()
    n = 3 * PART + 501
    inputs = [a[:n].copy() for a in (table.flux, table.flux_err, table.band_state, table.ebv)]
    inputs[2][::7, 0] = 0  # some without u
    inputs[2][::11, 3] = 2  # some without the reference band
    inputs[2][::13] = 0  # some without anything
    whole = dc2_estimator.estimate_arrays(*inputs)
    order = np.random.default_rng(0).permutation(n)
    same(whole, dc2_estimator.estimate_arrays(*(a[order] for a in inputs)), order)
    for rows in (slice(0, 1), slice(5, 12), slice(FEW - 3, FEW + 9), slice(0, FEW), np.arange(3, n, 17)):
        same(whole, dc2_estimator.estimate_arrays(*(a[rows] for a in inputs)), rows)
    parts = np.array_split(np.arange(n), 9)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda rows: dc2_estimator.estimate_arrays(*(a[rows] for a in inputs)), parts))
    same(whole, Estimates(*(np.concatenate(columns) for columns in zip(*answers, strict=True))))


def test_no_galaxies_are_no_estimates(dc2_estimator: ForestEstimator) -> None:  # noqa: F811
    empty = np.empty((0, 6), np.float32)
    assert dc2_estimator.estimate_arrays(empty, empty, empty.astype(np.uint8), empty[:, 0]).pdf.shape == (0, 301)
