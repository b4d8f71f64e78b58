"""The mean of forest and networks: its kernel's naive twin, its bundle, its rows, and how good it is."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import blend, training
from models import bundle as bundles
from models import grid as grids
from models.blend_estimator import BlendEstimator
from models.bundle import Bundle
from models.estimator import load, of
from models.networks.train import NetworkSettings
from schemas.batch import BandState
from schemas.errors import UserError
from schemas.flags import Flag
from tests import made_galaxies
from tests.models_fixtures import LSST, arrays, dc2_training, dc2_validation

QUICK = NetworkSettings(count=2, epochs=45, batch=64)
FEW = NetworkSettings(count=2, width=16, epochs=3)


@cache
def trained() -> Bundle:
    """A small model of a third of the training galaxies."""
    return small()


def small(step: int = 3, **settings: object) -> Bundle:
    table = dc2_training().take(np.arange(0, 10000, step))
    chosen = {"learner": "forest+mlp", "trees": 30, "folds": 2, "networks": QUICK, **settings}
    return training.fit(*arrays(table), LSST, training.ForestSettings(**chosen))


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_kernel_is_its_naive_twin(weight: float) -> None:
    rng = np.random.default_rng(0)
    forest = (10 ** rng.uniform(-9, 2, (40, 61))).astype(np.float32)
    logs = rng.uniform(-14, 0, (40, 61)).astype(np.float32)
    logs[3] = 0.0
    want = np.maximum(forest.astype(np.float64), blend.FLOOR) ** (1 - weight) * np.exp(weight * logs.astype(np.float64))
    got = blend.mix(forest, logs, weight)
    np.testing.assert_allclose(got, want / want.max(1, keepdims=True), rtol=3e-6)


def test_what_cannot_be_mixed() -> None:
    one = np.ones((2, 5), np.float32)
    for weight in (0.3, -0.25, 1.25):
        with pytest.raises(ValueError, match="multiple of 1/4"):
            blend.mix(one, one, weight)
    with pytest.raises(ValueError, match="shapes"):
        blend.mix(one, one[:1], 0.5)


def test_better_than_the_forest_in_it_and_calibrated() -> None:
    got = training.evaluate(trained(), *arrays(dc2_validation()))
    alone = training.evaluate(small(learner="forest"), *arrays(dc2_validation()))
    assert got["missing"] == 0
    assert got["crps"] < 0.97 * alone["crps"]
    assert got["cde"] < alone["cde"] - 0.2
    assert got["sigma_mad"] < alone["sigma_mad"]
    assert got["pit_ks"] < 0.04
    for row in got["quintiles"]:
        assert row["coverage_95"] == pytest.approx(0.95, abs=0.05)
        assert row["coverage_68"] == pytest.approx(0.68, abs=0.06)


def test_a_model_without_bands() -> None:
    table = dc2_validation().take(np.arange(0, 20449, 8))
    state = table.band_state.copy()
    state[:, [0, 5]] = BandState.NOT_OBSERVED
    got = training.evaluate(trained(), *arrays(replace(table, band_state=state)))
    assert got["missing"] == 0
    assert got["crps"] < 0.065
    assert got["pit_ks"] < 0.08


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=8)
def test_a_row_does_not_depend_on_its_batch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    estimator = of(trained())
    some = made_galaxies.galaxies(700)
    whole = estimator.estimate(some)
    rows = rng.choice(700, rng.integers(1, 40), replace=False)
    part = BlendEstimator(trained()).estimate_arrays(
        some.flux[rows], some.flux_err[rows], some.band_state[rows], some.ebv[rows]
    )
    cdf = grids.cumulative(whole.pdf[rows].astype(np.float64), estimator.grid)
    np.testing.assert_allclose(grids.cumulative(part.pdf.astype(np.float64), estimator.grid), cdf, atol=1e-6)
    np.testing.assert_array_equal(part.z_best, whole.z_best[rows])
    np.testing.assert_array_equal(part.flags, whole.flags[rows])


def test_same_seed_same_hash_and_threads_do_not_matter() -> None:
    first = small(12, trees=5, networks=FEW)
    assert small(12, trees=5, networks=FEW, threads=1).card["sha256"] == first.card["sha256"]
    assert small(12, trees=5, networks=FEW, seed=2).card["sha256"] != first.card["sha256"]


def test_the_bundle(tmp_path: object) -> None:
    path = f"{tmp_path}/b.slipher"
    bundles.write(trained(), path)
    estimator = load(path)
    assert (estimator.kind, estimator.card["kind"]) == ("forest+mlp", "forest+mlp")
    assert estimator.card["networks"]["weight"] in blend.WEIGHTS
    assert estimator.card["settings"]["networks"]["epochs"] == 45
    got = estimator.estimate(made_galaxies.galaxies(20))
    assert np.isfinite(got.z_best[(got.flags & Flag.NO_PHOTOMETRY) == 0]).all()
    with pytest.raises(UserError, match=r"the model .* wants u g r i z y"):
        estimator.estimate(made_galaxies.galaxies(5, "sdss"))
    for name in ("out", "first", "center"):
        tensors = {**trained().tensors}
        tensors[f"networks.{name}"] = tensors[f"networks.{name}"][:-1]
        with pytest.raises(UserError, match="whole networks"):
            of(bundles.seal(trained().card, tensors))
    with pytest.raises(UserError, match="whole networks"):
        of(bundles.seal({**trained().card, "networks": None}, trained().tensors))
    without = {name: array for name, array in trained().tensors.items() if name != "boxes.low"}
    with pytest.raises(UserError, match="whole forest"):
        of(bundles.seal(trained().card, without))


def test_no_bands_no_redshift() -> None:
    table = dc2_validation().take(np.arange(3))
    state = table.band_state.copy()
    state[1] = BandState.NOT_OBSERVED
    got = of(trained()).estimate_arrays(table.flux, table.flux_err, state, table.ebv)  # type: ignore[attr-defined]
    assert np.isnan(got.pdf[1]).all()
    assert np.isnan(got.z_best[1])
    assert np.isfinite(got.pdf[[0, 2]]).all()
    assert got.flags[1] & Flag.NO_PHOTOMETRY
    assert not got.flags[1] & Flag.OUT_OF_DISTRIBUTION


def test_noise_and_target_and_unknown_words() -> None:
    table = dc2_training().take(np.arange(0, 10000, 12))
    faint = dc2_training().take(np.flatnonzero(dc2_training().z > 0.8)[::5])
    aim = (faint.flux, faint.flux_err, faint.band_state, faint.ebv)
    quick = {"trees": 5, "folds": 2}
    auto = training.fit(*arrays(table), LSST, training.ForestSettings(augment="auto", **quick), target=aim)
    assert auto.card["target"]["n"] == len(faint)
    assert auto.card["target"]["effective"] < len(table)
    weight = auto.tensors["weight"]
    assert np.average(auto.tensors["z"], weights=weight) > auto.tensors["z"].mean() + 0.1
    noisy = training.fit(*arrays(table), LSST, training.ForestSettings(augment="yes", **quick))
    assert (noisy.card["settings"]["augment"], noisy.card["settings"]["min_leaf"]) == (True, 4)
    assert noisy.tensors["leaf_sample"].size == 5 * 5 * len(table)
    for settings_, says in (({"learner": "svm"}, "learner is called 'svm'"), ({"augment": "maybe"}, "augmentation")):
        with pytest.raises(UserError, match=says):
            training.fit(*arrays(table), LSST, training.ForestSettings(**settings_))
    nothing = tuple(a[:0] for a in aim)
    with pytest.raises(UserError, match="target galaxies"):
        training.fit(*arrays(table), LSST, training.ForestSettings(**quick), target=nothing)
