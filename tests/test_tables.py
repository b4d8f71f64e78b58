"""Photometry tables in every format, and a sentence for each that is not one."""

import importlib
import importlib.util
import sys
from decimal import Decimal
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from schemas import dc2, photometry_table, tables
from schemas.bands import band_set
from schemas.batch import BandState
from schemas.errors import UserError

SDSS = band_set("sdss")
N = 30


def columns(**changes: object) -> dict[str, object]:
    rng = np.random.default_rng(0)
    made: dict[str, object] = {"object_id": [f"o{k}" for k in range(N)], "redshift": rng.uniform(0, 0.4, N)}
    for band in "ugriz":
        made |= {f"mag_{band}": rng.uniform(17, 21, N), f"mag_err_{band}": rng.uniform(0.01, 0.1, N)}
    return {name: value for name, value in (made | changes).items() if value is not None}


def write(path: Path, content: dict[str, object]) -> Path:
    if path.suffix in {".fits", ".fit"}:
        from astropy.table import Table

        Table({k: v.astype(str) if np.asarray(v).dtype == object else v for k, v in content.items()}).write(path)
    elif path.suffix in {".hdf5", ".h5"}:
        with h5py.File(path, "w") as file:
            group = file.create_group("photometry")
            for name, value in content.items():
                group[name] = value
    else:
        table = pa.table({name: pa.array(value) for name, value in content.items()})
        writers = {".csv": pa.csv.write_csv, ".feather": pa.feather.write_feather, ".arrow": pa.feather.write_feather}
        writers.get(path.suffix, pa.parquet.write_table)(table, path)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".pq", ".csv", ".feather", ".arrow", ".hdf5", ".h5", ".fits", ".fit"])
def test_every_format_says_the_same(tmp_path: Path, suffix: str) -> None:
    if suffix.startswith(".fit"):
        pytest.importorskip("astropy")
    content = columns()
    table = photometry_table.read(write(tmp_path / f"t{suffix}", content), SDSS, want_redshift=True)
    flux = 10 ** (-0.4 * (np.asarray(content["mag_r"]) - 31.4))
    np.testing.assert_allclose(table.flux[:, 2], flux, rtol=1e-6)
    np.testing.assert_allclose(table.flux_err[:, 2], flux * content["mag_err_r"] * np.log(10) / 2.5, rtol=1e-6)
    np.testing.assert_allclose(table.z, content["redshift"])
    assert table.object_id == content["object_id"]
    assert (table.band_state == BandState.MEASURED).all()
    assert np.isnan(table.ebv).all()
    assert np.isnan(table.ra).all()


def test_sentinels_are_states(tmp_path: Path) -> None:
    u = np.full(N, 20.0)
    u[:4] = [99.0, -99.0, np.nan, 999.0]
    path = write(tmp_path / "t.parquet", columns(mag_u=u))
    table = photometry_table.read(path, SDSS)
    assert table.band_state[:5, 0].tolist() == [BandState.NON_DETECTED] * 4 + [BandState.MEASURED]
    assert np.isnan(table.flux[:4, 0]).all()
    unseen = photometry_table.read(path, SDSS, missing=BandState.NOT_OBSERVED)
    assert unseen.band_state[:5, 0].tolist() == [BandState.NOT_OBSERVED] * 4 + [BandState.MEASURED]


def test_names_of_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    made: dict[str, object] = {
        "z": rng.uniform(0, 1, N),
        "ebv": rng.uniform(0, 0.1, N),
        "ra": rng.uniform(0, 9, N),
        "dec": rng.uniform(0, 9, N),
    }
    made |= {f"flux_{b}": rng.normal(10, 900, N) for b in "ugr"} | {f"flux_err_{b}": np.ones(N) for b in "ugr"}
    made |= {"mag_i": np.full(N, 20.0), "err_i": np.full(N, 0.1)}
    made |= {"mag_z_sdss": np.full(N, 20.0), "mag_err_z_sdss": np.full(N, 0.1)}
    table = photometry_table.read(write(tmp_path / "t.parquet", made), SDSS, want_redshift=True)
    np.testing.assert_allclose(table.flux[:, 1], made["flux_g"], rtol=1e-6)
    np.testing.assert_allclose(table.flux[:, 3:], 10 ** (0.4 * 11.4), rtol=1e-5)
    np.testing.assert_allclose(table.ebv, made["ebv"], rtol=1e-6)
    np.testing.assert_allclose(table.dec, made["dec"])
    assert table.object_id == [str(k) for k in range(N)]


FLUX = {f"flux_{b}": np.linspace(18, 22, N) for b in "ugriz"} | {f"flux_err_{b}": np.ones(N) for b in "ugriz"}


def _scaled(unit: float) -> dict[str, object]:
    flux = np.full(N, 750.0) * unit
    return {f"flux_{b}": flux for b in "ugriz"} | {f"flux_err_{b}": flux / 10 for b in "ugriz"} | {"z": np.ones(N)}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (columns(mag_i=None), "no photometry in band i .* found object_id, redshift, mag_u"),
        (columns(mag_err_i=None), "column mag_i but no error for it: want err_i or mag_err_i"),
        (columns(redshift=None), "no column of redshifts"),
        (columns(mag_g=["bright"] * N), "column mag_g should hold numbers.*'bright'"),
        (columns(mag_g=["20.1"] * (N - 1) + ["n/a!"]), f"column mag_g should hold numbers.*'n/a!' in row {N - 1}"),
        (columns(mag_err_g=["0.1"] * N), "column mag_err_g should hold numbers.*'0.1' in row 0"),
        (columns(mag_g=[True] * N), "column mag_g should hold numbers.*True"),
        (columns(redshift=["0.1"] * N), "column redshift should hold numbers"),
        (columns(redshift=np.full(N, -9.0)), "no galaxy with a redshift: none of the 30 values of column redshift"),
        (columns(ebv=["much"] * N), "column ebv should hold numbers.*'much'"),
        (columns(ebv=np.full(N, 90.0)), r"column ebv should hold E\(B-V\) in magnitudes, but its median is 90"),
        (
            columns(mag_err_i=np.full(N, -1.0)),
            "column mag_err_i should hold errors in magnitudes, above 0, and none of its 30",
        ),
        (columns(mag_err_i=np.full(N, 120.0)), "column mag_err_i should hold errors in magnitudes.*median is 120"),
        (
            columns(mag_g=np.geomspace(95, 9000, N)),
            "column mag_g should hold magnitudes.*30 different values.*are these fluxes",
        ),
        (columns(mag_g=np.linspace(41, 80, N)), "column mag_g should hold magnitudes.*are these fluxes"),
        (columns(mag_g=np.geomspace(1, 89, N)), "column mag_g should hold magnitudes.*above .*are these fluxes"),
        (columns(mag_u=None, mag_u_lsst=np.ones(N)), "These columns are of survey lsst, not sdss"),
        (columns(survey=["lsst"] * N), "column survey says lsst, and survey sdss with bands u g r i z is wanted"),
        (FLUX | {"z": np.ones(N)}, "column flux_u should hold fluxes.*are these magnitudes"),
        (
            {k: v[:5] for k, v in (FLUX | {"z": np.ones(N)}).items()},
            "columns flux_u, .*flux_z should .*are these magnitudes",
        ),
        (
            _scaled(1e-9),
            "column flux_u should hold fluxes in nJy, but its median would be a galaxy of 46.7 mag.*another unit",
        ),
        (_scaled(1e14), "column flux_u should hold fluxes in nJy, but its median would be a galaxy of -10.8 mag"),
        (
            _scaled(1.0) | {"flux_err_r": np.zeros(N)},
            "column flux_err_r should hold errors in the unit of the fluxes, above 0",
        ),
        (columns(redshift=np.full(N, 3000.0)), "redshifts reach 3000"),
        ({name: value[:0] for name, value in columns().items()}, "empty table"),  # type: ignore[index]
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: dict[str, object], says: str) -> None:
    path = write(tmp_path / "bad.parquet", content)
    with pytest.raises(UserError, match=says) as error:
        photometry_table.read(path, SDSS, want_redshift=True)
    assert "bad.parquet" in str(error.value)


def test_few_bands_or_few_rows_in_doubt_are_taken_as_they_stand() -> None:
    """A check that refused these would refuse honest galaxies."""
    faint = _scaled(1.0) | {
        "flux_u": np.full(N, 1e-3),
        "flux_g": np.full(N, 1e-3),
    }  # drop-outs of a simulation without noise
    assert (photometry_table.find(tables.of(faint), SDSS, "t").band_state == BandState.MEASURED).all()
    one = {name: np.asarray(value)[:1] for name, value in (FLUX | {"z": np.ones(N)}).items()}
    assert len(photometry_table.find(tables.of(one), SDSS, "t")) == 1
    no_error = {name: np.asarray(value)[:1] for name, value in _scaled(1.0).items()} | {"flux_err_r": np.zeros(1)}
    assert len(photometry_table.find(tables.of(no_error), SDSS, "t")) == 1


def test_what_is_no_flux_is_not_called_faint() -> None:
    """An infinite flux was measured, badly; only a missing one may be too faint."""
    flux = np.full(N, 750.0)
    flux[:3] = [np.inf, -np.inf, np.nan]
    table = photometry_table.find(tables.of(_scaled(1.0) | {"flux_r": flux}), SDSS, "t")
    assert table.band_state[:4, 2].tolist() == [BandState.MEASURED] * 2 + [BandState.NON_DETECTED, BandState.MEASURED]


def test_dust_that_is_not_known_and_numbers_of_other_kinds() -> None:
    ebv = np.full(N, 0.1)
    ebv[:3] = [-99.0, -0.01, np.nan]
    mag_g = [Decimal("20.5"), None, 20, *([20.5] * (N - 3))]
    table = photometry_table.find(tables.of(columns(ebv=ebv, mag_g=np.array(mag_g, object))), SDSS, "t")
    assert np.isnan(table.ebv).tolist() == [True, False, True] + [False] * (N - 3)
    assert table.flux[0, 1] == table.flux[3, 1]
    assert table.band_state[1, 1] == BandState.NON_DETECTED


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no table"):
        tables.read(tmp_path / "missing.csv")
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(UserError, match="no format known here"):
        tables.read(tmp_path / "a.doc")
    for suffix in ("parquet", "hdf5", "feather", "csv"):
        (tmp_path / f"a.{suffix}").write_bytes(b"\x00\xff nothing of the kind \x00" if suffix != "csv" else b"")
        with pytest.raises(UserError, match=f"cannot be read as {suffix}"):
            tables.read(tmp_path / f"a.{suffix}")
    with h5py.File(tmp_path / "ragged.h5", "w") as file:
        file["a"], file["b"] = np.ones(3), np.ones(4)
    with pytest.raises(UserError, match="column a has 3 rows, column b has 4"):
        tables.read(tmp_path / "ragged.h5")
    with h5py.File(tmp_path / "none.h5", "w"):
        pass
    with pytest.raises(UserError, match="no columns"):
        tables.read(tmp_path / "none.h5")


def test_rows_without_a_redshift_are_left_out(tmp_path: Path) -> None:
    z = np.full(N, 0.2)
    z[:3] = [np.nan, -9.99, -1]
    table = photometry_table.read(write(tmp_path / "t.csv", columns(redshift=z)), SDSS, want_redshift=True)
    assert table.with_redshift().object_id == [f"o{k}" for k in range(3, N)]
    nothing = photometry_table.read(write(tmp_path / "n.csv", columns(redshift=np.full(N, -1.0))), SDSS)
    with pytest.raises(UserError, match="no galaxy with a redshift"):
        nothing.with_redshift()


def test_dc2_is_where_its_package_is(monkeypatch: pytest.MonkeyPatch) -> None:
    table = photometry_table.read(dc2.training(), band_set("lsst"), want_redshift=True)
    assert len(table) == 10225
    assert (table.band_state == BandState.NON_DETECTED).any(0).tolist() == [True, True] + [False] * 4
    monkeypatch.setattr(dc2, "PACKAGE", "no-such-package")
    with pytest.raises(UserError, match="not installed"):
        dc2.validation()


def test_fits_as_surveys_write_it(tmp_path: Path) -> None:
    """Big-endian, upper case, a vector column, TNULL, units, an image before the table, gzip."""
    fits = pytest.importorskip("astropy.io.fits")
    rng = np.random.default_rng(3)
    flux = rng.uniform(1, 90, (N, 5)).astype(">f4")
    made = [fits.Column("OBJECT_ID", "K", array=np.arange(N)), fits.Column("VECTOR", "5E", array=flux)]
    for b, band in enumerate("UGRIZ"):
        made += [fits.Column(f"FLUX_{band}", "E", unit="nanomaggy", array=flux[:, b])]
        made += [fits.Column(f"FLUX_ERR_{band}", "E", unit="nanomaggy", array=flux[:, b] / 10)]
    z = np.arange(N)
    made += [fits.Column("REDSHIFT", "J", null=7, array=z)]
    path = tmp_path / "survey.fits.gz"
    fits.HDUList([fits.PrimaryHDU(np.zeros((3, 3))), fits.BinTableHDU.from_columns(made)]).writeto(path)
    columns = tables.read(path)
    assert "VECTOR" not in columns
    assert all(column.dtype.isnative for column in columns.values())
    with pytest.raises(UserError, match="redshifts reach 29"):
        photometry_table.read(path, SDSS)
    columns["REDSHIFT"] = columns["REDSHIFT"] / 100
    table = photometry_table.find(columns, SDSS, "survey")
    np.testing.assert_allclose(table.flux, flux * 3630.78, rtol=1e-5)
    assert np.flatnonzero(np.isnan(table.z)).tolist() == [7]
    assert table.object_id[:2] == ["0", "1"]


def test_fits_without_a_table_or_without_astropy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    path = tmp_path / "image.fits"
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(path)
    with pytest.raises(UserError, match="holds no table"):
        tables.read(path)
    path.write_bytes(b"not FITS")
    with pytest.raises(UserError, match="cannot be read as fits"):
        tables.read(path)
    monkeypatch.setitem(sys.modules, "astropy.io", None)
    with pytest.raises(UserError, match=r"astropy is not installed: pip install 'slipher\[fits\]'"):
        tables.read(path)


@pytest.mark.parametrize(("unit", "factor"), [("uJy", 1e3), ("Jy", 1e9), ("nJy", 1), ("nmgy", 3630.78)])
def test_units_are_converted(unit: str, factor: float) -> None:
    flux = np.random.default_rng(1).normal(500, 200, N)
    made = {f"flux_{band}": flux for band in "ugriz"} | {f"flux_err_{band}": np.ones(N) for band in "ugriz"}
    table = photometry_table.find(tables.Columns(made, dict.fromkeys(made, unit)), SDSS, "t")
    np.testing.assert_allclose(table.flux[:, 3], flux * factor, rtol=1e-6)
    np.testing.assert_allclose(table.flux_err[:, 3], factor, rtol=1e-6)


def test_a_unit_that_is_none_of_ours_is_said() -> None:
    made = {f"flux_{band}": np.ones(N) * 500 for band in "ugriz"} | {f"flux_err_{b}": np.ones(N) for b in "ugriz"}
    for unit in ("count", "MJy"):
        with pytest.raises(UserError, match=f"t: column flux_u should hold fluxes in nJy.* its unit is {unit}"):
            photometry_table.find(tables.Columns(made, {"flux_u": unit}), SDSS, "t")
    magnitudes = tables.Columns(columns(), {"mag_u": "nJy"})
    with pytest.raises(UserError, match="column mag_u should hold magnitudes"):
        photometry_table.find(tables.of(magnitudes), SDSS, "t")


def test_tables_in_memory_say_the_same() -> None:
    content = {name: np.asarray(value) for name, value in columns().items()}
    structured = np.zeros(N, [(name, value.dtype) for name, value in content.items()])
    for name, value in content.items():
        structured[name] = value
    want = photometry_table.find(tables.of(content), SDSS, "t")
    arrow = pa.table({name: pa.array(value.tolist()) for name, value in content.items()})
    given: list[object] = [structured, arrow, arrow.to_batches()[0], structured.view(np.recarray)]
    for module, name in (("astropy.table", "Table"), ("pandas", "DataFrame"), ("polars", "DataFrame")):
        if importlib.util.find_spec(module.split(".")[0]):
            given.append(getattr(importlib.import_module(module), name)(content))
    for table in given:
        got = photometry_table.find(tables.of(table), SDSS, "t")
        np.testing.assert_array_equal(got.flux, want.flux)
        assert got.object_id == want.object_id


def test_masked_and_null_values_are_nan() -> None:
    astropy_table = pytest.importorskip("astropy.table")
    masked = astropy_table.Table({"a": np.ma.masked_equal([1, 2, 3], 2), "b": ["x", "y", "z"]}, masked=True)
    got = tables.of(masked)
    np.testing.assert_array_equal(got["a"], [1.0, np.nan, 3.0])
    assert got["b"].tolist() == ["x", "y", "z"]
    np.testing.assert_array_equal(tables.of(pa.table({"a": [1, None, 3]}))["a"], [1.0, np.nan, 3.0])


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([1, 2], "is a list: want a dict"),
        ({"a": []}, "empty table"),
        ({}, "no columns"),
        ({"a": [1], "b": [1, 2]}, "column a has 1 rows"),
        ({"a": [1], "flux_i": 20.5}, "column flux_i is 20.5: want an array"),
    ],
)
def test_what_is_no_table_is_said(table: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        tables.of(table)


def test_hdf5_of_records(tmp_path: Path) -> None:
    """As astropy and PyTables write it: one data set of records, and one beside it about its columns."""
    content = {name: np.asarray(value) for name, value in columns(object_id=None).items()}
    records = np.zeros(N, [(name, value.dtype) for name, value in content.items()] + [("VECTOR", "f4", 3)])
    for name, value in content.items():
        records[name] = value
    with h5py.File(tmp_path / "t.h5", "w") as file:
        group = file.create_group("anything")
        group["table"], group["table.__table_column_meta__"] = records, np.array([b"x", b"y"])
    assert sorted(tables.read(tmp_path / "t.h5")) == sorted(content)
    assert len(photometry_table.read(tmp_path / "t.h5", SDSS)) == N
