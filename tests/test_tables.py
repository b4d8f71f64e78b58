"""Photometry tables in every format, and a sentence for each that is not one."""

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
    if path.suffix in {".hdf5", ".h5"}:
        with h5py.File(path, "w") as file:
            group = file.create_group("photometry")
            for name, value in content.items():
                group[name] = value
    else:
        table = pa.table({name: pa.array(value) for name, value in content.items()})
        writers = {".csv": pa.csv.write_csv, ".feather": pa.feather.write_feather, ".arrow": pa.feather.write_feather}
        writers.get(path.suffix, pa.parquet.write_table)(table, path)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".pq", ".csv", ".feather", ".arrow", ".hdf5", ".h5"])
def test_every_format_says_the_same(tmp_path: Path, suffix: str) -> None:
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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (columns(mag_i=None), "no photometry in band i .* found object_id, redshift, mag_u"),
        (columns(mag_err_i=None), "column mag_i but no error for it: want err_i or mag_err_i"),
        (columns(redshift=None), "no column of redshifts"),
        (columns(mag_g=["bright"] * N), "column mag_g should hold numbers.*'bright'"),
        (columns(redshift=["0.1"] * N), "column redshift should hold numbers"),
        (columns(mag_g=np.linspace(41, 80, N)), "column mag_g should hold magnitudes.*are these fluxes"),
        (FLUX | {"z": np.ones(N)}, "column flux_u should hold fluxes.*are these magnitudes"),
        (columns(redshift=np.full(N, 3000.0)), "redshifts reach 3000"),
        ({name: value[:0] for name, value in columns().items()}, "empty table"),  # type: ignore[index]
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: dict[str, object], says: str) -> None:
    path = write(tmp_path / "bad.parquet", content)
    with pytest.raises(UserError, match=says) as error:
        photometry_table.read(path, SDSS, want_redshift=True)
    assert "bad.parquet" in str(error.value)


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
