"""`slipher train` and `slipher model show`, from the outside."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from models import bundle, training
from models.networks.train import NetworkSettings
from schemas.errors import UserError
from streamer.cli.main import _load
from tests.models_fixtures import LSST, dc2_training

FEW = NetworkSettings(count=2, width=16, epochs=3)


def slipher(command: str, *words: object) -> Result:
    """Run a command; what `main` turns into a sentence is raised."""
    result = CliRunner().invoke(_load(command), [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six hundred DC2 galaxies in Parquet."""
    some = dc2_training().take(range(0, 6000, 10))
    columns = {f"flux_{band}": some.flux[:, b] for b, band in enumerate(LSST.bands)}
    columns |= {f"flux_err_{band}": some.flux_err[:, b] for b, band in enumerate(LSST.bands)}
    path = tmp_path_factory.mktemp("tables") / "small.parquet"
    pa.parquet.write_table(pa.table({**columns, "redshift": some.z}), path)
    return path


def test_train_then_show(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.slipher"
    done = slipher("train", table, "--out", out, "--trees", 10, "--seed", 3)
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())  # a long path of the bundle breaks the line elsewhere
    for word in ("CDE loss", "trainZ", "480 galaxies", "10 trees"):
        assert word in said
    card = bundle.read(out).card
    assert card["held_out"]["n"] == 120
    assert card["held_out"]["cde"] < card["held_out"]["trainz"]["cde"]
    shown = slipher("model", "show", out)
    for word in ("forest-lsst-" + card["sha256"][:8], "10 extra-trees", "480 galaxies", "CRPS", "reference i"):
        assert word in shown.output
    assert json.loads(slipher("model", "show", out, "--json").output) == card


def test_a_second_table_and_no_table_to_test_on(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.slipher"
    slipher("train", table, "--out", out, "--trees", 3, "--test", table, "--no-masks", "--min-leaf", 5)
    card = bundle.read(out).card
    assert (card["held_out"]["n"], card["training"]["n"]) == (600, 600)
    assert (card["settings"]["masks"], card["settings"]["min_leaf"]) == (False, 5)
    slipher("train", table, "--out", out, "--trees", 3, "--test-fraction", 0)
    assert bundle.read(out).card["held_out"] is None
    assert slipher("model", "show", out).exit_code == 0


def test_networks_noise_and_a_target(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "ForestSettings", partial(training.ForestSettings, networks=FEW, folds=2))
    out = tmp_path / "b.slipher"
    words = ["--learner", "forest+mlp", "--target", table, "--augment", "yes", "--trees", 5]
    assert slipher("train", table, "--out", out, *words).exit_code == 0
    card = bundle.read(out).card
    assert card["kind"] == "forest+mlp"
    assert card["settings"]["augment"]
    assert card["target"]["n"] == 600
    shown = slipher("model", "show", out).output
    for word in ("forest+mlp-lsst-", "2 of 12 inputs", "600 galaxies; the training galaxies are worth", "noisy copies"):
        assert word in shown
    for words, says in (
        (["--learner", "svm"], "No learner is called 'svm'"),
        (["--augment", "perhaps"], "No augmentation is called 'perhaps'"),
        (["--target", "none.parquet"], "There is no table none.parquet"),
    ):
        with pytest.raises(UserError, match=says):
            slipher("train", table, "--out", out, *words)


def test_interrupted_training_leaves_the_old_bundle(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "kept.slipher"
    out.write_text("the old one")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "evaluate", interrupted)
    result = CliRunner().invoke(_load("train"), [str(table), "--out", str(out), "--trees", "2"])
    assert result.exit_code != 0
    assert out.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--survey", "hubble"], "no survey is called 'hubble'"),
        (["--survey", "lsst", "--dust-law", "CCM"], "no dust law"),
        (["--out", "/no/such/place/b"], "There is no directory"),
        (["--test", "missing.csv"], "There is no table missing.csv"),
    ],
)
def test_mistakes_are_sentences(table: Path, tmp_path: Path, words: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        slipher("train", table, "--out", tmp_path / "b", *words)
    assert not list(tmp_path.iterdir())


Columns = dict[str, np.ndarray]


def _nothing(columns: Columns, *names: str) -> Columns:
    return columns | {name: np.full(len(columns[name]), np.nan) for name in names}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda t: {name: v for name, v in t.items() if name != "flux_i"},
            "has no photometry in band i of survey lsst",
        ),
        (lambda t: _nothing(t, *(name for name in t if name != "redshift")), "has no photometry to learn from"),
        (lambda t: _nothing(t, "redshift"), "has no galaxy with a redshift: .* column redshift"),
        (lambda t: t | {"flux_g": t["flux_g"].astype(str)}, ": column flux_g should hold numbers"),
        (
            lambda t: {name: v * 1e-9 if "flux" in name else v for name, v in t.items()},
            ": column flux_.* is it another unit",
        ),
        (lambda t: {name: v[:50] for name, v in t.items()}, "leaves 40 galaxies to train on: at least 100"),
        (lambda t: {name: v[:0] for name, v in t.items()}, "is an empty table"),
        (lambda t: t | {"survey": np.array(["sdss"] * 600)}, ": column survey says sdss, and survey lsst"),
    ],
)
def test_a_table_that_teaches_nothing_is_named(
    table: Path, tmp_path: Path, change: Callable[[Columns], Columns], says: str
) -> None:
    read = pa.parquet.read_table(table)
    bad = tmp_path / "bad.parquet"
    pa.parquet.write_table(pa.table(change({name: read[name].to_numpy() for name in read.column_names})), bad)
    with pytest.raises(UserError, match=f"bad.parquet ?{says}"):
        slipher("train", bad, "--out", tmp_path / "b")
    if "40 galaxies" not in says:  # a small table is one to measure on
        with pytest.raises(UserError, match=f"bad.parquet ?{says}"):
            slipher("train", table, "--out", tmp_path / "b", "--test", bad)
    assert list(tmp_path.iterdir()) == [bad]
