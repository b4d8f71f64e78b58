"""`import slipher` as a notebook uses it."""

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import slipher
from models import bundle, training
from schemas.catalogue import ROWS
from tests.models_fixtures import LSST, arrays, dc2_training, dc2_validation

N = 60


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    some = dc2_training().take(np.arange(0, 6000, 10))
    path = tmp_path_factory.mktemp("models") / "small.slipher"
    bundle.write(training.fit(*arrays(some), LSST, training.ForestSettings(trees=8, folds=2)), path)
    return path


@pytest.fixture(scope="module")
def model(path: Path) -> slipher.Model:
    return slipher.load(path)


def columns() -> dict[str, np.ndarray]:
    some = dc2_validation().take(np.arange(N))
    made = {f"flux_{band}": some.flux[:, b] for b, band in enumerate(LSST.bands)}
    made |= {f"flux_err_{band}": some.flux_err[:, b] for b, band in enumerate(LSST.bands)}
    made |= {"object_id": np.arange(100, 100 + N), "ra": np.linspace(10, 11, N), "dec": np.linspace(-3, -2, N)}
    for band in LSST.bands:
        made[f"flux_{band}"][3] = np.nan
    return made


def test_model_says_what_it_is(model: slipher.Model) -> None:
    assert model.bands == tuple("ugrizy")
    assert model.survey == "lsst"
    assert model.name == f"forest-lsst-{model.sha256[:8]}"
    assert model.name in repr(model)
    assert len(model.z_grid) == 301
    assert model.card["training"]["n"] == 600


def test_redshifts_are_those_of_the_estimator(model: slipher.Model) -> None:
    got = model.estimate(columns())
    some = dc2_validation().take(np.arange(N))
    state = some.band_state.copy()
    state[3] = 2
    want = model._estimator.estimate_arrays(some.flux, some.flux_err, state, some.ebv)
    np.testing.assert_array_equal(got.pdf, want.pdf)
    np.testing.assert_array_equal(got.z_best, want.z_best)
    np.testing.assert_array_equal(got.odds_0p03, want.odds)
    np.testing.assert_array_equal(np.asarray(got.flags), want.flags)
    assert got.object_id[0] == "100"
    assert got["ra"][0] == 10.0
    assert len(got) == N
    assert "59 known" in repr(got)
    assert {"z_best", "pdf", "flags"} <= set(dir(got))
    for call in (lambda: got.z_worst, lambda: got["z_worst"]):
        with pytest.raises((AttributeError, KeyError), match="there is no column z_worst: there are object_id"):
            call()


def test_a_row_of_holes_is_nan_and_flagged(model: slipher.Model) -> None:
    got = model.estimate(columns())
    assert np.isnan(got.pdf[3]).all()
    assert all(np.isnan(got[name][3]) for name in got.columns if name.startswith("z_"))
    assert got.flags[3] & slipher.Flag.NO_PHOTOMETRY
    assert got.flags.has("NO_PHOTOMETRY").tolist() == [k == 3 for k in range(N)]
    assert got.to_arrow()["z_best"].null_count == got.to_arrow()["pdf"].null_count == 1


def test_flags_have_names(model: slipher.Model) -> None:
    flags = model.estimate(columns(), nan_is_not_observed=True).flags
    assert "NO_PHOTOMETRY" in flags.names[3]
    assert flags.counts()["NO_PHOTOMETRY"] == 1
    assert flags.has(slipher.Flag.NO_PHOTOMETRY, "NO_EBV").all()
    assert flags[3] & slipher.Flag.BAND_NOT_OBSERVED
    assert len(flags[2:5]) == 3
    assert sum(flag == 0 for flag in flags) == 0
    assert "NO_EBV 60" in repr(flags)
    assert slipher.Flags.describe()["NO_PHOTOMETRY"] == "no band could be used: no redshift"
    with pytest.raises(slipher.UserError, match="no flag NO_SUCH"):
        flags.has("NO_SUCH")


def test_any_table_gives_the_same(model: slipher.Model, tmp_path: Path) -> None:
    made = columns()
    want = model.estimate(made)
    structured = np.zeros(N, [(name, value.dtype) for name, value in made.items()])
    for name, value in made.items():
        structured[name] = value
    pa.parquet.write_table(pa.table(made), tmp_path / "t.parquet")
    given: list[object] = [structured, pa.table(made), tmp_path / "t.parquet", str(tmp_path / "t.parquet")]
    for module, name in (("astropy.table", "Table"), ("pandas", "DataFrame"), ("polars", "DataFrame")):
        if importlib.util.find_spec(module.split(".")[0]):
            given.append(getattr(importlib.import_module(module), name)(made))
    for table in given:
        got = model.estimate(table)
        np.testing.assert_array_equal(got.pdf, want.pdf)
        assert got.object_id.tolist() == want.object_id.tolist()


def test_astropy_units(model: slipher.Model) -> None:
    units = pytest.importorskip("astropy.units")
    tables = pytest.importorskip("astropy.table")
    made = columns()
    micro = {k: (v * units.nJy).to(units.uJy) if k.startswith("flux") else v for k, v in made.items()}
    got = model.estimate(tables.QTable(micro))
    np.testing.assert_allclose(got.mag_ref, model.estimate(made).mag_ref, rtol=1e-5)


def test_blocks_make_no_difference(model: slipher.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.estimate(columns())
    monkeypatch.setattr(slipher, "BLOCK", 7)
    np.testing.assert_array_equal(model.estimate(columns()).pdf, whole.pdf)


def test_arrow_has_the_catalogues_columns(model: slipher.Model) -> None:
    got = model.estimate(columns())
    table = got.to_arrow()
    for field in table.schema:
        assert field.type == ROWS.field(field.name).type
        assert field.metadata == ROWS.field(field.name).metadata
    assert b"slipher.z_grid" in table.schema.metadata
    np.testing.assert_allclose(
        table["pdf"][0].as_py(), got.pdf[0], rtol=2e-4, atol=5e-4
    )  # a part in 1e5 of the peak is stored as 0
    assert got.pdf[0, 0] == model.estimate(columns()).pdf[0, 0]  # the rounding was done on a copy
    assert "pdf" not in got.to_arrow(pdf=False).column_names


def test_pandas(model: slipher.Model) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (make tools)")
    frame = model.estimate(columns()).to_pandas(pdf=True)
    assert isinstance(frame, pandas.DataFrame)
    assert frame["z_best"].isna().sum() == 1
    assert len(frame["pdf"][0]) == 301


def test_qp(model: slipher.Model) -> None:
    pytest.importorskip("qp", reason="qp is not installed (make tools)")
    got = model.estimate(columns())
    ensemble = got.to_qp()
    assert ensemble.npdf == N - 1
    assert ensemble.ancil["row"].tolist() == [k for k in range(N) if k != 3]
    np.testing.assert_allclose(np.ravel(ensemble.median()), np.delete(got.z_median, 3), atol=5e-3)


@pytest.mark.parametrize(("method", "module"), [("to_pandas", "pandas"), ("to_qp", "qp")])
def test_what_is_not_installed_is_said(
    model: slipher.Model, monkeypatch: pytest.MonkeyPatch, method: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(slipher.UserError, match=f"needs {module}, which is not installed: pip install"):
        getattr(model.estimate(columns()), method)()


def test_mistakes_are_sentences(model: slipher.Model, tmp_path: Path) -> None:
    with pytest.raises(slipher.UserError, match="There is no model bundle"):
        slipher.load(tmp_path / "none.slipher")
    with pytest.raises(slipher.UserError, match=r"The table has no photometry in band u of survey lsst"):
        model.estimate({"mag_g": np.ones(3)})
    jansky = {name: value * 1e-9 if name.startswith("flux") else value for name, value in columns().items()}
    with pytest.raises(slipher.UserError, match=r"The table: column flux_. should hold fluxes in nJy, but .* mag"):
        model.estimate(jansky)
    with pytest.raises(slipher.UserError, match="The table is a list: want a dict of arrays"):
        model.estimate([1, 2, 3])
    with pytest.raises(slipher.UserError, match="is not a catalogue"):
        slipher.open_catalogue(tmp_path / "nothing")


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import json, sys, slipher; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not {"numba", "sklearn", "matplotlib", "deltalake", "pandas", "astropy", "qp", "confluent_kafka"} & loaded
