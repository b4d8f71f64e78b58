"""A table that says whose it is: taken for that survey where none is named, and for no other."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from models.sky.surveys import sky_survey
from models.sky.table import schema
from schemas import photometry_table, table_metadata, tables
from schemas.bands import band_set
from schemas.errors import UserError
from streamer.cli.main import _load

SDSS = band_set("sdss")


def table(**about: str) -> pa.Table:
    """Photometry that fits SDSS, LSST but for y, and says what is given."""
    held: dict[str, object] = {"redshift": np.linspace(0.1, 0.5, 40)}
    for band in "ugriz":
        held |= {f"flux_{band}": np.linspace(1e4, 1e5, 40), f"flux_err_{band}": np.full(40, 100.0)}
    said = {table_metadata.PREFIX + key: value for key, value in about.items()}
    return pa.table(held).replace_schema_metadata({"other": "not ours", **said})


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
def test_a_file_says_whose_it_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    made = table(survey="sdss", dust_law="none")
    pq.write_table(made, path) if suffix == ".parquet" else feather.write_feather(made, path)
    assert table_metadata.of_file(path) == {"survey": "sdss", "dust_law": "none"} == tables.read(path).about
    assert table_metadata.bands_for(path, None) == SDSS
    assert table_metadata.bands_for(path, "des").survey == "des"  # which reading it then refuses
    assert len(photometry_table.read(path, SDSS, want_redshift=True)) == 40
    with pytest.raises(
        UserError, match=rf"t{suffix} is a table of survey sdss, by its metadata, and survey lsst is wanted"
    ):
        photometry_table.read(path, band_set("lsst"))


def test_a_table_that_says_nothing_is_what_a_person_says(tmp_path: Path) -> None:
    for name in ("t.parquet", "no such.parquet", "t.csv", "broken.parquet"):
        path = tmp_path / name
        if name == "t.parquet":
            pq.write_table(table(), path)
        elif name != "no such.parquet":
            path.write_text("redshift\n1")
        assert table_metadata.of_file(path) == {}
        assert table_metadata.bands_for(path, None).survey == "lsst"
        with pytest.raises(UserError, match=r"^no survey is called 'ztf': there are des, euclid"):
            table_metadata.bands_for(path, "ztf")
    pq.write_table(table(survey="hsc"), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t.parquet says whose it is, but no survey is called 'hsc': there are"):
        table_metadata.bands_for(tmp_path / "t.parquet", None)


def test_a_table_in_memory_says_it_too() -> None:
    columns = tables.of(tables.of(table(survey="ps1")))
    assert columns.about == {"survey": "ps1"}
    with pytest.raises(UserError, match=r"^The table is a table of survey ps1"):
        photometry_table.find(columns, SDSS, "The table")


def test_a_simulated_sky_bears_survey_dust_and_pixels() -> None:
    about = table_metadata.of_schema(schema(sky_survey("euclid"), 64, 10, 3))
    assert about["survey"] == "euclid"
    assert about["dust_law"] == "SF11"
    assert float(about["pixel"]) == pytest.approx(sky_survey("euclid").pixel)
    assert about["seed"] == "3"


@pytest.mark.parametrize(
    ("about", "words", "says"),
    [
        (
            {"survey": "sdss"},
            [],
            "leaves 32 galaxies to train on: at least",
        ),  # so it was taken for SDSS
        ({}, [], "t.parquet has no photometry in band y of survey lsst"),
        (
            {"survey": "sdss"},
            ["--survey", "ps1"],
            "is a table of survey sdss, by its metadata, and survey ps1 is wanted",
        ),
        ({"survey": "sdss", "dust_law": "F99"}, [], "survey sdss has no dust law 'F99': SF11, none"),
        ({"survey": "sdss", "dust_law": "F99"}, ["--dust-law", "none"], "leaves 32 galaxies"),
    ],
)
def test_train_takes_a_table_for_what_it_says(tmp_path: Path, about: dict, words: list[str], says: str) -> None:
    pq.write_table(table(**about), tmp_path / "t.parquet")
    words = [str(tmp_path / "t.parquet"), "--out", str(tmp_path / "m.slipher"), *words]
    done = CliRunner().invoke(_load("train"), words)
    assert isinstance(done.exception, UserError)
    assert says in str(done.exception)
