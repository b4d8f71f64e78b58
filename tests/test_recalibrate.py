"""Networks are recalibrated where galaxies held out again say that it helps, and left alone where they do not."""

import numpy as np
import pytest

from models import grid as grids
from models import metrics
from models.calibration import HeldOut
from models.forest.density import densities, smoothing
from models.images.fit import _parts
from models.images.recalibrate import Choice, choose
from schemas.batch import Float32, Float64

GRID = grids.linear(1.0, 201)


def held_out(n: int, seed: int, said: float, true: float = 0.05) -> HeldOut:
    """Gaussian PDFs of width `said` about points that are `true` wrong."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(0.3, 0.7, n)
    pdf = grids.normalise(np.exp(-0.5 * ((GRID - middle[:, None]) / said) ** 2), GRID).astype(np.float32)
    z = middle + rng.normal(0, true, n)
    return HeldOut(pdf, z, rng.uniform(18, 20, n).astype(np.float32), np.full(n, 15, np.uint32))


def chosen(given: HeldOut, taken: HeldOut | None = None) -> Choice:
    return choose(given, taken, GRID, 4, np.random.default_rng(1))


def finished(choice: Choice, given: HeldOut) -> Float32:
    rows = choice.maps.of(given.mag_ref, given.band_mask, 4)
    return densities(given.histograms, GRID, smoothing(GRID, 0.0), choice.alpha, choice.maps, rows)


def pit(pdf: Float32, z: Float64) -> float:
    return metrics.ks_uniform(metrics.pdf_scores(pdf, GRID, z)[2])


@pytest.mark.parametrize("seed", range(4))
def test_calibrated_networks_are_left_alone(seed: int) -> None:
    choice = chosen(held_out(1200, seed, 0.05))
    assert {line["maps"] for line in choice.told} == {"none"}
    assert (choice.maps.slope == 1).all()
    assert choice.alpha == 1.0
    assert choice.intervals[0]["hi68"] == 0.84
    unseen = held_out(2000, 99, 0.05)
    np.testing.assert_allclose(finished(choice, unseen), unseen.histograms, rtol=1e-3, atol=1e-4)


def test_networks_that_promise_too_much_are_mended() -> None:
    choice = chosen(held_out(1200, 1, 0.03))
    assert choice.told[0]["maps"] != "none"
    assert choice.told[0]["gain"] > 3 * choice.told[0]["error"]
    unseen = held_out(3000, 99, 0.03)
    assert pit(finished(choice, unseen), unseen.z) < 0.4 * pit(unseen.histograms, unseen.z)


def test_what_faint_galaxies_need_is_not_done_to_bright_ones() -> None:
    parts = [held_out(1500, 1, 0.05), held_out(1500, 2, 0.02)]
    whole = HeldOut(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    whole.mag_ref[:1500] -= 5
    choice = chosen(whole)
    assert choice.told[0]["maps"] == "by magnitude"
    unseen = held_out(2000, 99, 0.05)
    unseen.mag_ref[:] -= 5
    assert pit(finished(choice, unseen), unseen.z) < 0.05


def test_bands_that_are_missing_have_their_own_maps() -> None:
    lacking = held_out(1200, 2, 0.02)._replace(band_mask=np.full(1200, 7, np.uint32))
    choice = chosen(held_out(1200, 1, 0.05), lacking)
    assert [line["maps"] == "none" for line in choice.told] == [True, False, False, False]
    assert len(choice.maps.slope) == len(choice.intervals) == 4 * (len(choice.maps.edges) + 2)


def test_few_galaxies_make_no_map() -> None:
    assert {line["maps"] for line in chosen(held_out(60, 1, 0.02)).told} == {"none"}


def test_pdfs_that_are_too_broad_are_sharpened() -> None:
    assert chosen(held_out(1200, 1, 0.08)).alpha == 1.25


def test_each_network_holds_out_galaxies_of_its_own() -> None:
    parts = _parts(1000, 0.12, 4, np.random.default_rng(3))
    assert [len(part) for part in parts] == [120] * 4
    assert len(np.unique(np.concatenate(parts))) == 480
    assert [len(np.unique(part)) for part in _parts(100, 0.3, 5, np.random.default_rng(3))] == [30] * 5
