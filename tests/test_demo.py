"""The demo: a night of a few thousand alerts, as a person would run it, twice."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas import dc2, photometry_table
from schemas.bands import band_set
from schemas.batch import BandState
from schemas.errors import UserError
from streamer.demo.sky import NOISE, observe, poison_in, with_poison
from streamer.demo.stage import prepare

LSST = band_set("lsst")


def demo(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamer", "demo", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=220, check=False)


@pytest.mark.broker
@pytest.mark.timeout(450)
def test_a_small_night(tmp_path: Path) -> None:
    """It ends well, says so, leaves pictures, leaves nothing running, and goes again with the model it has."""
    folder = tmp_path / "night"
    first = demo("--alerts", "12000", "--folder", str(folder))
    assert first.returncode == 0, first.stdout + first.stderr
    assert "12,001 offsets: 12,000 rows, 1 entries in the exceptions ledger." in first.stdout
    assert "Every offset is accounted for exactly once." in first.stdout
    assert len(list((folder / "plots").glob("*.png"))) == 6
    model = next(folder.glob("*.slipher"))
    trained = model.stat().st_mtime_ns
    second = demo("--alerts", "3000", "--workers", "1", "--folder", str(folder))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "trained before" in second.stdout
    assert "3,000 offsets: 3,000 rows" in second.stdout
    assert model.stat().st_mtime_ns == trained
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in running


def test_it_does_not_touch_what_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not the demo's"):
        prepare(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_the_night_is_of_galaxies_no_model_was_trained_on() -> None:
    """Names, redshifts and fluxes come from the validation file alone, whose galaxies are not those of the training file."""
    unseen = photometry_table.read(dc2.validation(), LSST, want_redshift=True)
    known = photometry_table.read(dc2.training(), LSST, want_redshift=True)
    assert not set(unseen.object_id) & set(known.object_id)
    night = observe(unseen, LSST, "SF11", 5_000, 61_000.9, np.random.default_rng(3))
    assert len(set(night.table.object_id)) == 5_000
    origin = dict(zip(unseen.object_id, range(len(unseen)), strict=True))
    at = np.array([origin[name.rsplit("-", 1)[0]] for name in night.table.object_id])
    np.testing.assert_array_equal(night.truth["z"].to_numpy(), unseen.z[at])
    # dust off again, what is left is fresh noise of half the error bar
    clear = night.table.flux * 10 ** (0.4 * np.array(LSST.law("SF11")) * night.table.ebv[:, None])
    measured = night.table.band_state == BandState.MEASURED
    pull = ((clear - unseen.flux[at]) / unseen.flux_err[at])[measured]
    assert abs(pull.mean()) < 0.02
    assert abs(pull.std() - NOISE) < 0.02
    assert (np.diff(night.mjd) >= 0).all()
    assert len({int(np.floor(t - 0.5)) for t in night.mjd}) == 1


def test_poison_is_added_and_nothing_taken() -> None:
    good = [f"message {k}".encode() for k in range(35_000)]
    spoiled = list(with_poison(iter(good)))
    assert len(spoiled) == len(good) + poison_in(len(good))
    bad = [m for m in spoiled if not re.fullmatch(rb"message \d+", m)]
    assert len(bad) == poison_in(len(good)) == 3
    assert [m for m in spoiled if m not in bad] == good
