"""The science gate, and what a bundle remembers of its training."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import sample, training
from models.bundle import Bundle
from models.forest.estimator import ForestEstimator
from models.networks.train import DECAYS, NetworkSettings
from schemas import photometry_table
from schemas.bands import band_set
from schemas.batch import BandState
from schemas.errors import UserError
from schemas.flags import Flag
from tests.models_fixtures import LSST, arrays, dc2_bundle, dc2_estimator, dc2_training, dc2_validation  # noqa: F401

SMALL = training.ForestSettings(trees=8, folds=2)


def small(n: int = 600, order: np.ndarray | None = None, **settings: object) -> Bundle:
    table = dc2_training().take(np.arange(0, 10 * n, 10) if order is None else np.arange(0, 10 * n, 10)[order])
    return training.fit(*arrays(table), LSST, training.ForestSettings(**{"trees": 8, "folds": 2, **settings}))


def test_science_gate(dc2_bundle: Bundle) -> None:  # noqa: F811
    """What `slipher train` does by default, on DC2's validation galaxies: at least what a good published method reaches."""
    got = training.evaluate(dc2_bundle, *arrays(dc2_validation()))
    assert got["n"] == 20449
    assert got["cde"] <= -8.6
    assert got["crps"] <= 0.0363
    assert got["sigma_iqr"] <= 0.019
    assert got["outliers_15"] <= 0.024
    assert abs(got["bias"]) <= 0.003
    assert got["pit_ks"] <= 0.015
    assert max(row["pit_ks"] for row in got["quintiles"]) <= 0.035
    assert abs(got["coverage_68"] - 0.68) <= 0.02
    assert got["cde"] < got["trainz"]["cde"] - 5
    assert got["crps"] < got["trainz"]["crps"] / 5


@pytest.mark.parametrize(("lost", "crps"), [("u", 0.044), ("y", 0.051), ("uy", 0.059)])
def test_one_model_for_any_mask(dc2_bundle: Bundle, lost: str, crps: float) -> None:  # noqa: F811
    table = dc2_validation().take(np.arange(0, 20449, 4))
    state = table.band_state.copy()
    state[:, [LSST.bands.index(band) for band in lost]] = BandState.NOT_OBSERVED
    got = training.evaluate(dc2_bundle, *arrays(replace(table, band_state=state)))
    assert got["missing"] == 0
    assert got["crps"] <= crps
    assert got["pit_ks"] <= 0.06


def test_same_data_and_seed_same_hash() -> None:
    first = small()
    assert small(threads=1).card["sha256"] == first.card["sha256"]
    order = np.random.default_rng(0).permutation(600)
    assert small(order=order).card["sha256"] == first.card["sha256"]
    assert small(seed=2).card["sha256"] != first.card["sha256"]


def test_card(dc2_bundle: Bundle) -> None:  # noqa: F811
    card = dc2_bundle.card
    assert card["grid"] == {"z_max": 3.0, "points": 301}
    assert card["bands"] == list("ugrizy")
    assert card["training"]["n"] == 10225
    assert 0b111111 in card["masks"]
    assert 0b011110 in card["masks"]
    assert set(card["libraries"]) == {"numpy", "numba", "scikit-learn", "scipy", "safetensors"}
    assert "threads" not in card["settings"]
    sealed = training.with_metrics(dc2_bundle, {"cde": -8.0})
    assert sealed.card["held_out"] == {"cde": -8.0}
    assert sealed.card["sha256"] != card["sha256"]


def test_flags_of_strange_galaxies(dc2_estimator: ForestEstimator) -> None:  # noqa: F811
    table = dc2_validation().take(np.flatnonzero((dc2_validation().band_state == 1).all(1))[:8])
    flux, flux_err, state, ebv = (
        table.flux.copy(),
        table.flux_err.copy(),
        table.band_state.copy(),
        np.zeros(8, np.float32),
    )
    state[1] = BandState.NOT_OBSERVED
    state[2, [0, 2, 4]] = BandState.NOT_OBSERVED  # a comb of bands nobody trained on
    flux[3] *= 1e4
    flux_err[4, 2] = -1
    ebv[5] = np.nan
    state[6, 0] = BandState.NON_DETECTED
    flux[7, 0] = -5.0  # negative, and data
    got = dc2_estimator.estimate_arrays(flux, flux_err, state, ebv)
    shape = Flag.BROAD_PDF | Flag.MULTIMODAL_PDF | Flag.Z_AT_GRID_EDGE
    assert got.flags[3] & Flag.OUT_OF_DISTRIBUTION
    assert not got.flags[0] & Flag.OUT_OF_DISTRIBUTION
    flags = [Flag(int(f)) & ~(shape | Flag.OUT_OF_DISTRIBUTION) for f in got.flags]
    assert flags[0] == Flag(0)
    assert flags[1] == Flag.NO_PHOTOMETRY | Flag.BAND_NOT_OBSERVED
    assert np.isnan(got.pdf[1]).all()
    assert np.isnan([getattr(got, name)[1] for name in got._fields if name.startswith("z_")]).all()
    assert flags[2] & Flag.MASK_UNSEEN
    assert flags[3] & Flag.FEATURE_RANGE
    assert flags[4] == Flag.BAD_FLUX | Flag.BAND_NOT_OBSERVED
    assert flags[5] == Flag.NO_EBV
    assert flags[6] == Flag.BAND_NON_DETECTED
    assert not flags[7] & (Flag.BAD_FLUX | Flag.BAND_NOT_OBSERVED)
    assert got.band_mask.tolist() == [63, 0, 0b101010, 63, 0b111011, 63, 0b111110, 63]
    rest = np.delete(np.arange(8), 1)
    assert np.isfinite(got.pdf[rest]).all()
    assert np.isfinite(got.z_best[rest]).all()


def test_dust_is_taken_out(dc2_estimator: ForestEstimator) -> None:  # noqa: F811
    table = dc2_validation().take(np.arange(50))
    none = np.zeros(50, np.float32)
    dust = np.array(dc2_estimator.card["dust"]) * 0.1
    dimmed = (table.flux * 10 ** (-0.4 * dust)).astype(np.float32)
    clean = dc2_estimator.estimate_arrays(table.flux, table.flux_err, table.band_state, none)
    seen = dc2_estimator.estimate_arrays(dimmed, table.flux_err, table.band_state, none + np.float32(0.1))
    np.testing.assert_allclose(seen.mag_ref, clean.mag_ref, atol=1e-4)
    assert np.median(np.abs(seen.z_median - clean.z_median)) < 1e-3


def test_without_masks_and_with_a_random_forest() -> None:
    bundle = small(masks=False, kind="random-forest", augment="no")
    assert bundle.card["settings"]["min_leaf"] == 2
    assert set(bundle.card["masks"]) <= {0b111111, 0b111110, 0b111101}
    assert bundle.tensors["leaf_sample"].size == 8 * 600


def test_likely_masks_are_drawn_more_often() -> None:
    masks = sample.known_masks(6)
    share = dict(zip(masks.tolist(), sample.mask_shares(masks), strict=True))
    assert sum(share.values()) == pytest.approx(1.0)
    assert share[0b111110] == share[0b011111] == pytest.approx(2 * share[0b011110])  # no u, no y; griz
    assert share[0b111011] == pytest.approx(share[0b111110] / 10)  # no r
    assert len(sample.mask_shares(sample.known_masks(1))) == 0


def test_what_nobody_settled_is_chosen_out_of_fold() -> None:
    few = NetworkSettings(count=2, width=16, epochs=2)
    chosen = small(learner="forest+mlp", networks=few).card["settings"]
    assert chosen["augment"] in (True, False)
    assert chosen["min_leaf"] == training.ForestSettings().leaf(chosen["augment"])
    assert chosen["networks"]["decay"] in DECAYS
    assert (chosen["trees"], chosen["networks"]["count"]) == (8, 2)
    given = replace(few, decay=0.02)
    assert small(learner="forest+mlp", networks=given, augment="no").card["settings"]["networks"]["decay"] == 0.02


def test_what_cannot_be_trained_is_said() -> None:
    table = dc2_training().take(np.arange(200))
    flux, flux_err, state, ebv, z = arrays(table)
    for settings, says in (
        (training.ForestSettings(dust_law="CCM"), "no dust law 'CCM'"),
        (training.ForestSettings(trees=0), "at least 1 tree"),
    ):
        with pytest.raises(UserError, match=says):
            training.fit(flux, flux_err, state, ebv, z, LSST, settings)
    for bad, says in ((np.full(200, np.nan), "Training redshifts"), (z - 9, "Training redshifts")):
        with pytest.raises(UserError, match=says):
            training.fit(flux, flux_err, state, ebv, bad, LSST, SMALL)
    with pytest.raises(UserError, match="too few"):
        training.fit(flux[:9], flux_err[:9], state[:9], ebv[:9], z[:9], LSST, SMALL)
    with pytest.raises(UserError, match="Nothing to train on"):
        training.fit(flux, flux_err, state * 0, ebv, z, LSST, SMALL)
    with pytest.raises(UserError, match="6 bands"):
        training.fit(flux, flux_err, state, ebv, z, band_set("sdss"), SMALL)


@pytest.mark.skipif("SLIPHER_TEST_DATA" not in os.environ, reason="SLIPHER_TEST_DATA is not set")
def test_real_galaxies_of_sdss() -> None:
    sdss = band_set("sdss")
    table = photometry_table.read(
        Path(os.environ["SLIPHER_TEST_DATA"]) / "sdss_mgs_10k.parquet", sdss, want_redshift=True
    )
    first, second = table.take(np.arange(5000)), table.take(np.arange(5000, 10000))
    bundle = training.fit(*arrays(first), sdss, training.ForestSettings(masks=False))
    got = training.evaluate(bundle, *arrays(second))
    assert got["sigma_mad"] <= 0.0135
    assert got["cde"] <= -18
