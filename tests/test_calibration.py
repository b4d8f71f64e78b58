"""Calibration finds what was done to PDFs whose truth we know."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models import calibration as ca
from models import grid as grids
from models import metrics
from models.forest.density import densities, identity, smoothing

GRID = grids.linear(2.0, 201)
FULL = np.uint32(0b111)


def held_out(n: int, width: np.ndarray | float, mask: int = FULL, seed: int = 0) -> ca.HeldOut:
    """Histograms of Gaussians of 0.04, truths scattered by `width`."""
    rng = np.random.default_rng(seed)
    center = rng.uniform(0.4, 1.6, n)
    mass = np.exp(-0.5 * ((GRID - center[:, None]) / 0.04) ** 2)
    truth = center + width * rng.standard_normal(n)
    mag = rng.uniform(18, 25, n).astype(np.float32)
    return ca.HeldOut((mass / mass.sum(1, keepdims=True)).astype(np.float32), truth, mag, np.full(n, mask, np.uint32))


def ks(rows: ca.HeldOut, chosen: ca.Calibration, recalibrated: bool = True) -> float:
    which = chosen.maps.of(rows.mag_ref, rows.band_mask, 3) if recalibrated else np.zeros(len(rows.z), np.int32)
    maps = chosen.maps if recalibrated else identity()
    pdf = densities(rows.histograms, GRID, smoothing(GRID, chosen.width), chosen.alpha, maps, which)
    return metrics.pdf_metrics(pdf, GRID, rows.z)["pit_ks"]


def test_sharpening_is_found() -> None:
    broad = ca.choose(held_out(2000, 0.025), GRID)
    right = ca.choose(held_out(2000, 0.04), GRID)
    assert broad[1] >= 2.0
    assert right[1] <= 1.25
    assert right[0] <= 0.005


def test_each_magnitude_bin_and_each_number_of_bands_is_calibrated() -> None:
    rows = held_out(6000, 1.0)
    width = np.where(rows.mag_ref > 23, 0.07, 0.03)
    rows = held_out(6000, width)
    masked = held_out(6000, 0.07, 0b011, seed=1)
    chosen = ca.calibrate(rows, masked, GRID, 3)
    assert chosen.maps.slope.shape == (5 + 3, ca.TABLE)
    fresh = held_out(6000, width, seed=0)._replace()
    for bright in (True, False):
        part = (fresh.mag_ref < 22) == bright
        some = ca.HeldOut(*(column[part] for column in fresh))
        assert ks(some, chosen) < 0.04
        assert ks(some, chosen) < ks(some, chosen, recalibrated=False)
    other = held_out(4000, 0.07, 0b011, seed=5)
    assert ks(other, chosen) < 0.06 < ks(other, chosen, recalibrated=False)


def test_without_masked_galaxies_missing_bands_take_the_map_of_all() -> None:
    chosen = ca.calibrate(held_out(900, 0.05), None, GRID, 3)
    assert len(chosen.maps.edges) == 1
    for k in (3, 4):
        np.testing.assert_array_equal(chosen.maps.slope[2], chosen.maps.slope[k])


@given(st.lists(st.floats(0, 1), max_size=300))
@settings(deadline=None, max_examples=60)
def test_a_map_is_positive_and_keeps_the_probability(pit: list[float]) -> None:
    table = ca.slope_table(np.array(pit))
    assert table.shape == (ca.TABLE,)
    assert np.isfinite(table).all()
    assert table.min() >= 1e-3


def test_a_map_of_uniform_pits_is_flat() -> None:
    table = ca.slope_table(np.linspace(0, 1, 10001))
    np.testing.assert_allclose(table, 1.0, atol=1e-3)


def test_folds_hold_every_row_once() -> None:
    seen = np.zeros(103, int)
    for others, part in ca.folds(103, 4, np.random.default_rng(0)):
        seen[part] += 1
        assert not np.intersect1d(others, part).size
        assert len(others) + len(part) == 103
    assert (seen == 1).all()
