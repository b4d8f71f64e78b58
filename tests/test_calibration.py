"""Calibration finds what was done to PDFs whose truth we know."""

from itertools import pairwise

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
    assert chosen.maps.slope.shape == (3 * (5 + 1), ca.TABLE)
    fresh = held_out(6000, width, seed=0)._replace()
    for bright in (True, False):
        part = (fresh.mag_ref < 22) == bright
        some = ca.HeldOut(*(column[part] for column in fresh))
        assert ks(some, chosen) < 0.04
        assert ks(some, chosen) < ks(some, chosen, recalibrated=False)
    other = held_out(4000, 0.07, 0b011, seed=5)
    assert ks(other, chosen) < 0.06 < ks(other, chosen, recalibrated=False)


def test_without_masked_galaxies_missing_bands_take_the_maps_of_all_bands() -> None:
    chosen = ca.calibrate(held_out(900, 0.05), None, GRID, 3)
    assert len(chosen.maps.edges) == 1
    for maps in (chosen.maps.slope[3:6], chosen.maps.slope[6:]):
        np.testing.assert_array_equal(maps, chosen.maps.slope[:3])


def test_galaxies_that_lack_a_band_are_calibrated_by_magnitude_too() -> None:
    """Also those without the reference band, whose magnitude nobody knows."""
    rows = held_out(6000, 0.04)
    bright = held_out(6000, 1.0, seed=1).mag_ref < 22
    masked = held_out(6000, np.where(bright, 0.03, 0.08), 0b011, seed=1)
    blind = np.arange(6000) % 3 == 0
    masked = masked._replace(mag_ref=np.where(blind, np.nan, masked.mag_ref).astype(np.float32))
    chosen = ca.calibrate(rows, masked, GRID, 3)
    for part in (bright & ~blind, ~bright & ~blind, blind):
        some = ca.HeldOut(*(column[part] for column in masked))
        assert ks(some, chosen) < 0.03
        assert [bounds["n"] for bounds in chosen.intervals[6:12]] == [
            *(int(((masked.mag_ref >= low) & (masked.mag_ref < high)).sum()) for low, high in edges_of(chosen)),
            2000,
        ]


def edges_of(chosen: ca.Calibration) -> list[tuple[float, float]]:
    edges = [-np.inf, *chosen.maps.edges, np.inf]
    return list(pairwise(edges))


@given(st.lists(st.integers(0, 900), min_size=2, max_size=7))
@settings(deadline=None, max_examples=60)
def test_cells_are_merged_until_they_hold_enough(count: list[int]) -> None:
    several = ca.merged(np.array(count), 400)
    *bins, last = range(len(count))
    for cell, some in enumerate(several):
        assert cell in some
        total = sum(count[k] for k in some)
        if cell == last:
            assert list(some) == ([last] if count[last] >= 400 else [*bins, last])
        else:
            assert total >= 400 or list(some) == bins  # all there are
            assert list(some) == list(range(some[0], some[-1] + 1))
            assert all(list(several[k]) == list(some) for k in some)
            if len(some) > 1 and total - count[some[-1]] >= 400:  # the last one joined as what was left is too few
                assert some[-1] == bins[-1]


@given(st.lists(st.floats(0, 1), max_size=300))
@settings(deadline=None, max_examples=60)
def test_a_map_is_positive_and_keeps_the_probability(pit: list[float]) -> None:
    table = ca.slope_table(np.array(pit))
    assert table.shape == (ca.TABLE,)
    assert np.isfinite(table).all()
    assert table.min() >= 1e-3


def test_a_map_of_uniform_pits_is_flat() -> None:
    table = ca.slope_table(np.linspace(0, 1, 10001))
    np.testing.assert_allclose(table, 1.0, atol=1e-2)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(0, 2**32 - 1), st.sampled_from(ca.LEVELS))
@settings(deadline=None, max_examples=60)
def test_conformal_quantile_is_its_naive_twin(copies: list[int], seed: int, level: float) -> None:
    """A weight of k is k rows, but that the new galaxy counts as one row of mean weight."""
    pit = np.random.default_rng(seed).random(len(copies))
    weight = np.array(copies, float)
    total = weight.sum() + weight.mean()
    if level < 0.5:
        fit = [p for p in pit if weight[pit <= p].sum() / total <= level + 1e-12]
        want = max(fit, default=0.0)
    else:
        fit = [p for p in pit if weight[pit <= p].sum() / total >= level - 1e-12]
        want = min(fit, default=1.0)
    assert ca.conformal_quantile(pit, level, weight) == want
    even = np.sort(pit)
    k = int(np.floor(level * (len(pit) + 1) + 1e-9)) if level < 0.5 else int(np.ceil(level * (len(pit) + 1) - 1e-9))
    plain = (0.0 if k < 1 else even[k - 1]) if level < 0.5 else (1.0 if k > len(pit) else even[k - 1])
    assert ca.conformal_quantile(pit, level) == plain


def test_intervals_of_the_recalibrated_pdf_are_the_conformal_ones() -> None:
    rows = held_out(4000, 0.06)
    chosen = ca.calibrate(rows, None, GRID, 3)
    which = chosen.maps.of(rows.mag_ref, rows.band_mask, 3)
    raw = densities(rows.histograms, GRID, smoothing(GRID, chosen.width), chosen.alpha, identity(), which * 0)
    pdf = densities(rows.histograms, GRID, smoothing(GRID, chosen.width), chosen.alpha, chosen.maps, which)
    for name, level in (("lo95", 0.025), ("lo68", 0.16), ("hi68", 0.84), ("hi95", 0.975)):
        for i in range(0, 4000, 400):
            at = chosen.intervals[which[i]][name]
            bound = np.interp(at, grids.cumulative(raw[i : i + 1].astype(float), GRID)[0], GRID)
            after = np.interp(bound, GRID, grids.cumulative(pdf[i : i + 1].astype(float), GRID)[0])
            assert abs(after - level) < 0.006
    inside = np.abs(metrics.pdf_scores(pdf, GRID, rows.z)[2] - 0.5)
    for k in range(5):
        assert abs((inside[which == k] <= 0.475).mean() - 0.95) < 0.012
        assert abs((inside[which == k] <= 0.34).mean() - 0.68) < 0.012


def test_weights_move_the_maps() -> None:
    rows = held_out(4000, np.where(np.arange(4000) % 2, 0.02, 0.06))
    wide = ca.calibrate(rows, None, GRID, 3, weight=np.where(np.arange(4000) % 2, 1e-9, 1.0), choice=(0.003, 1.0))
    alike = ca.HeldOut(*(column[::2] for column in rows))
    right = ca.calibrate(alike, None, GRID, 3, choice=(0.003, 1.0))
    assert ks(alike, wide) < 0.03
    assert ks(alike, wide) < ks(alike, ca.calibrate(rows, None, GRID, 3, choice=(0.003, 1.0))) - 0.02
    assert ks(alike, right) < 0.03


def test_folds_hold_every_row_once() -> None:
    seen = np.zeros(103, int)
    for others, part in ca.folds(103, 4, np.random.default_rng(0)):
        seen[part] += 1
        assert not np.intersect1d(others, part).size
        assert len(others) + len(part) == 103
    assert (seen == 1).all()
