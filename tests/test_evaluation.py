"""An evaluation against naive twins, on estimators whose truth is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models import evaluation, metrics, table_checks
from models import grid as grids
from models.bundle import Bundle, seal
from schemas.batch import BandState, Estimates, Galaxies
from schemas.errors import UserError
from schemas.flags import Flag
from schemas.photometry_table import PhotometryTable

GRID = grids.linear(2.0, 201)
WIDTH = 0.04
BANDS = ("g", "r")


class Gaussians:
    """Knows each redshift to `WIDTH`: the flux in g is the centre of its PDF, that in r gives its magnitude."""

    kind, survey, bands, grid, sha256 = "forest", "made", BANDS, GRID, "0" * 64

    def __init__(self, width: float = WIDTH, blind: bool = False) -> None:
        self.card: dict[str, Any] = {}
        self.width, self.blind = width, blind

    def estimate(self, galaxies: Galaxies) -> Estimates:
        assert galaxies.bands == BANDS
        n = len(galaxies)
        seen = galaxies.band_state == BandState.MEASURED
        centre = np.where(seen.any(1), 1.0 if self.blind else galaxies.flux[:, 0], np.nan)
        width = 0.5 if self.blind else self.width
        pdf = grids.normalise(np.exp(-0.5 * ((GRID - centre[:, None]) / width) ** 2) + 1e-12, GRID).astype(np.float32)
        points = {
            name: centre.astype(np.float32) for name in Estimates._fields if name not in ("pdf", "flags", "band_mask")
        }
        points |= {"z_lo68": points["z_mean"] - np.float32(width), "z_hi68": points["z_mean"] + np.float32(width)}
        points["mag_ref"] = np.where(seen[:, 1], 30.0 - galaxies.flux[:, 1], np.nan).astype(np.float32)
        flags = np.where(seen.any(1), 0, np.uint32(Flag.NO_PHOTOMETRY)).astype(np.uint32)
        return Estimates(
            pdf=pdf, **points, flags=flags, band_mask=(seen @ np.array([1, 2])).astype(np.uint32).reshape(n)
        )


def made(n: int = 4000, seed: int = 0, scatter: float = WIDTH) -> PhotometryTable:
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0.3, 1.7, n)
    flux = np.stack([centre, rng.uniform(5, 10, n)], 1).astype(np.float32)
    state = np.full((n, 2), BandState.MEASURED, np.uint8)
    nothing = np.full(n, np.nan)
    z = centre + scatter * rng.standard_normal(n)
    return PhotometryTable(flux, flux, state, nothing.astype(np.float32), z, ["x"] * n, nothing, nothing)


def bundle(z: np.ndarray | None) -> Bundle:
    card = {"bands": list(BANDS), "reference": "r", "magnitude_range": {"g": [20.0, 25.0], "r": [20.0, 25.0]}}
    return seal(card, {} if z is None else {"z": z})


TRAINED = bundle(made(3000, seed=9).z)


def score(truth: PhotometryTable | None = None, estimator: Any = None, sealed: Bundle = TRAINED) -> evaluation.Scored:
    return evaluation.score(estimator or Gaussians(), sealed, truth or made())


def test_figures_are_those_of_the_whole_table() -> None:
    truth = made()
    scored = score(truth)
    said = Gaussians().estimate(truth.galaxies(BANDS, "made"))
    got = scored.figures()
    want = metrics.point_metrics(said.z_median, truth.z) | metrics.pdf_metrics(said.pdf, GRID, truth.z)
    assert {key: got[key] for key in want} == pytest.approx(want)
    n_z = np.broadcast_to(metrics.trainz(TRAINED.tensors["z"], GRID), (len(truth), len(GRID)))
    gate = metrics.pdf_metrics(n_z, GRID, truth.z)
    assert {key: got["trainz"][key] for key in gate} == pytest.approx(gate)
    np.testing.assert_allclose(scored.stacked, said.pdf.mean(0, dtype=np.float64), rtol=1e-6)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = made(500)
    whole = score(truth)
    monkeypatch.setattr(evaluation, "BLOCK", 37)
    parts = score(truth)
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-12)
    assert whole.gate is not None
    np.testing.assert_allclose(parts.gate, whole.gate, rtol=1e-12)
    np.testing.assert_allclose(parts.stacked, whole.stacked, rtol=1e-6)


def test_lines_hold_every_galaxy_once() -> None:
    truth = made()
    state = truth.band_state.copy()
    state[:200, 1] = BandState.NOT_OBSERVED
    state[200:260, 0] = BandState.NOT_OBSERVED
    state[260:263] = BandState.NOT_OBSERVED
    scored = score(replace(truth, band_state=state))
    for lines in (evaluation.by_magnitude(scored), evaluation.by_z_phot(scored), evaluation.by_mask(scored, BANDS)):
        rows = np.concatenate([rows for _, rows in lines])
        np.testing.assert_array_equal(np.sort(rows), np.delete(np.arange(4000), [260, 261, 262]))
    names = [line["label"] for line, _ in evaluation.by_mask(scored, BANDS)]
    assert names == ["gr", "g", "r"]
    *quintiles, without = [line for line, _ in evaluation.by_magnitude(scored)]
    assert without["label"] == "no magnitude"
    assert [line["low"] for line in quintiles[1:]] == [line["high"] for line in quintiles[:-1]]
    found = evaluation.evaluate(scored, BANDS)
    assert found["overall"]["missing"] == 3
    assert found["flags"] == {"NO_PHOTOMETRY": 3}
    assert "3 of 4,000 galaxies got no redshift" in " ".join(evaluation.remarks(scored, TRAINED))


def test_lines_by_z_phot_are_round() -> None:
    lines = [line for line, _ in evaluation.by_z_phot(score())]
    assert [line["low"] for line in lines] == pytest.approx(np.arange(lines[0]["low"], 1.59, 0.2))
    assert lines[-1]["high"] is None
    assert lines[-1]["label"].endswith("and up")


def test_bootstrap_errors_of_means_and_fractions() -> None:
    scored = score()
    errors = evaluation.bootstrap(scored)
    assert errors["crps"] == pytest.approx(scored.scores.crps.std() / len(scored.z) ** 0.5, rel=0.2)
    outliers = scored.figures()["outliers_05"]
    assert errors["outliers_05"] == pytest.approx((outliers * (1 - outliers) / len(scored.z)) ** 0.5, rel=0.25)
    assert errors == evaluation.bootstrap(scored)
    assert errors != evaluation.bootstrap(scored, seed=2)
    assert evaluation.bootstrap(score(made(20))) == {}


def test_bootstrap_of_a_part_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = score()
    whole = evaluation.bootstrap(scored)
    monkeypatch.setattr(evaluation, "MOST_RESAMPLED", 1000)
    assert evaluation.bootstrap(scored)["cde"] == pytest.approx(whole["cde"], rel=0.25)


def test_the_gate() -> None:
    found = evaluation.evaluate(score(), BANDS)
    assert found["gate"]["beaten"] is True
    assert "on every line" in found["gate"]["sentence"]
    blind = evaluation.evaluate(score(estimator=Gaussians(blind=True)), BANDS)
    assert blind["gate"]["beaten"] is False
    assert "does NOT beat trainZ" in blind["gate"]["sentence"]
    none = evaluation.evaluate(score(sealed=bundle(None)), BANDS)
    assert none["gate"]["beaten"] is None
    assert "trainz" not in none["overall"]
    few = evaluation.evaluate(score(made(10)), BANDS)
    assert "too few" in few["gate"]["sentence"]


def test_the_gate_names_lines_that_lose() -> None:
    truth = made()
    faint = truth.flux[:, 1] < 6.0  # the faintest fifth: the model is sure and wrong
    flux = truth.flux.copy()
    flux[faint, 0] = 2.0 - flux[faint, 0]
    found = evaluation.evaluate(score(replace(truth, flux=flux)), BANDS)
    assert found["gate"]["beaten"] is True
    assert any(line.startswith("magnitude 24.") for line in found["gate"]["lost_at"]), found["gate"]
    assert "but not at magnitude 24." in found["gate"]["sentence"]
    blind = {"label": "only r", **score(estimator=Gaussians(blind=True)).figures()}
    assert evaluation.evaluate(score(), BANDS, with_bands=[blind])["gate"]["lost_at"] == ["with only r"]


def test_nothing_but_holes() -> None:
    truth = made(100)
    scored = score(replace(truth, band_state=np.zeros((100, 2), np.uint8)))
    found = evaluation.evaluate(scored, BANDS)
    assert (found["overall"]["n"], found["overall"]["missing"]) == (0, 100)
    assert found["by_magnitude"] == found["by_z_phot"] == found["by_mask"] == []
    assert found["gate"]["beaten"] is None


def test_only_some_bands() -> None:
    seen = made(50).only(np.array([True, False]))
    assert seen.band_state.tolist() == [[BandState.MEASURED, BandState.NOT_OBSERVED]] * 50


def test_the_training_table_is_noticed() -> None:
    truth = made()
    assert "trained on" in " ".join(evaluation.remarks(score(truth), bundle(truth.z)))
    assert not evaluation.remarks(score(truth), TRAINED)
    rounded = bundle(np.round(truth.z, 2))  # coarse redshifts repeat by chance
    assert not evaluation.remarks(score(replace(truth, z=np.round(truth.z, 2))), rounded)


def test_another_unit_is_noticed() -> None:
    def fluxes(magnitude: float) -> PhotometryTable:
        truth = made(100)
        return replace(truth, flux=np.full((100, 2), 10 ** (-0.4 * (magnitude - 31.4)), np.float32))

    table_checks.check_units(fluxes(22.0), TRAINED.card, "t.csv")
    table_checks.check_units(fluxes(26.0), TRAINED.card, "t.csv")
    with pytest.raises(UserError, match=r"t.csv: in band r .* 29.0 mag, .* trained on 20.0 to 25.0.* in nJy"):
        table_checks.check_units(fluxes(29.0), TRAINED.card, "t.csv")
