"""`slipher simulate`: the table is the sky of its seed, whole or not there, and what other commands read."""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from models.sky import table as sky_table
from models.sky.simulate import chunks, simulate
from models.sky.surveys import sky_survey
from schemas import photometry_table, stamp_columns
from schemas.errors import UserError
from streamer.cli.main import _load, status

SDSS = sky_survey("sdss")


def slipher(*words: object) -> Result:
    result = CliRunner().invoke(_load("simulate"), [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_table_is_the_sky_of_its_seed(tmp_path: Path) -> None:
    out = tmp_path / "sky.parquet"
    said = slipher(out, "-n", 300, "--seed", 3, "--threads", 2).output
    assert "300 galaxies in u g r i z, stamps of 32 x 32 pixels" in said
    sky = simulate(SDSS, 300, seed=3, threads=1)
    found = photometry_table.read(out, SDSS.bands, want_redshift=True, stamps=True)
    assert found.stamps is not None
    planes = stamp_columns.planes(found.stamps, 5, 32)
    np.testing.assert_array_equal(planes.pixels, sky.stamps)
    np.testing.assert_array_equal(planes.variance, sky.variance)
    np.testing.assert_array_equal(found.flux, sky.measured.flux)
    np.testing.assert_array_equal(found.z, sky.truth.z)
    assert (found.stamps.scale == np.float32(SDSS.pixel)).all()
    assert len(set(found.object_id)) == len(set(found.ra)) == 300
    table = pq.read_table(out)
    np.testing.assert_array_equal(table["true_bar_length"].to_numpy(), sky.truth.bar_length)
    np.testing.assert_array_equal(table["aperture1_flux_r"].to_numpy(), sky.measured.aperture[:, 1, 2])
    assert table.schema.field("flux_r").metadata[b"unit"] == b"nJy"
    assert table.schema.metadata[b"slipher.seed"] == b"3"
    assert list(tmp_path.iterdir()) == [out]


def test_another_size_and_format(tmp_path: Path) -> None:
    out = tmp_path / "sky.arrow"
    slipher(out, "-n", 5, "--size", 16, "--survey", "euclid")
    found = photometry_table.read(out, sky_survey("euclid").bands, stamps=True)
    assert found.stamps is not None
    assert stamp_columns.whole(found.stamps, 4).all()
    assert (found.stamps.height == 16).all()


def test_ctrl_c_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sky.parquet"
    out.write_text("the old one")

    real = sky_table.batches

    def interrupted() -> object:
        yield from real(SDSS, 256, 1, 16)
        raise KeyboardInterrupt

    monkeypatch.setattr("models.sky.table.batches", lambda *words: interrupted(), raising=True)
    monkeypatch.setattr(sys, "argv", ["slipher", "simulate", str(out), "-n", "2000", "--size", "16"])
    assert status() == 130
    assert capsys.readouterr().err.endswith("slipher: Interrupted.\n")
    assert out.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [out]


def test_a_sky_that_nobody_wants_any_more_is_not_made() -> None:
    """Of a million galaxies two pieces are taken; the others are never begun."""
    some = chunks(SDSS, 1_000_000, seed=3, size=16, threads=1)
    first, second = next(some), next(some)
    some.close()
    np.testing.assert_array_equal(np.concatenate([first.ebv, second.ebv]), simulate(SDSS, 512, 3, 16).ebv)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sky.csv"], "call it sky.parquet, not sky.csv"),
        (["/no/such/place/sky.parquet"], "There is no directory /no/such/place"),
        (["sky.parquet", "--survey", "ztf"], "No survey called 'ztf' can be simulated: there are euclid, lsst, sdss"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says):
        slipher(*words)
    assert not list(tmp_path.iterdir())
