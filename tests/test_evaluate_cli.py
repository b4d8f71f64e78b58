"""`slipher evaluate` from the outside: figures, report, and a sentence for each mistake."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from models import bundle, training
from schemas.bands import band_set
from schemas.errors import UserError
from streamer.cli.main import _load
from tests.models_fixtures import LSST, arrays, dc2_training, dc2_validation


def evaluate(*words: object) -> Result:
    """Run the command; what `main` turns into a sentence is raised."""
    result = CliRunner().invoke(_load("evaluate"), [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    some = dc2_training().take(np.arange(0, 10000, 10))
    path = tmp_path_factory.mktemp("models") / "small.slipher"
    bundle.write(training.fit(*arrays(some), LSST, training.ForestSettings(trees=10, folds=2)), path)
    return path


def columns(n: int = 800, **changes: object) -> dict[str, np.ndarray]:
    some = dc2_validation().take(np.arange(0, 20 * n, 20))
    made = {f"flux_{band}": some.flux[:, b] for b, band in enumerate(LSST.bands)}
    made |= {f"flux_err_{band}": some.flux_err[:, b] for b, band in enumerate(LSST.bands)}
    return {k: np.asarray(v) for k, v in ({**made, "redshift": some.z} | changes).items() if v is not None}


def write(path: Path, content: dict[str, np.ndarray]) -> Path:
    pq.write_table(pa.table(content), path)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("tables") / "truth.parquet", columns())


def test_json_is_the_figures_of_the_model(model: Path, table: Path) -> None:
    done = evaluate(model, table, "--json", "--mask", "gri", "--mask", "u,g,r,i,z")
    got = json.loads(done.stdout)
    some = dc2_validation().take(np.arange(0, 16000, 20))
    want = training.evaluate(bundle.read(model), *arrays(some))
    for key in ("n", "bias", "sigma_iqr", "outliers_15", "cde", "crps", "pit_ks", "coverage_68"):
        assert got["overall"][key] == pytest.approx(want[key]), key
        assert got["overall"]["trainz"][key] == pytest.approx(want["trainz"][key]), key
    assert got["overall"]["errors"]["crps"] > 0
    assert got["gate"]["beaten"] is True
    assert got["model"]["bands"] == list("ugrizy")
    assert got["table"] == {"name": "truth.parquet", "rows": 800, "with_redshift": 800}
    assert [line["bands"] for line in got["with_bands"]] == ["gri", "u,g,r,i,z"]
    assert got["with_bands"][0]["crps"] > got["with_bands"][1]["crps"] > got["overall"]["crps"]
    assert sum(line["n"] for line in got["by_magnitude"]) == sum(line["n"] for line in got["by_mask"]) == 800
    assert got["by_mask"][0]["label"] == "ugrizy"


def test_tables_for_people(model: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    wide = evaluate(model, table).output
    for word in (
        "CDE loss",
        "trainZ",
        "Anderson-Darling",
        "by i magnitude",
        "by bands",
        "800 galaxies of 800",
        "beats trainZ",
    ):
        assert word in wide, word
    monkeypatch.setenv("COLUMNS", "80")
    narrow = evaluate(model, table).output
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow


def test_another_estimate(model: Path, table: Path) -> None:
    mode = json.loads(evaluate(model, table, "--json", "--point", "z_mode").stdout)
    median = json.loads(evaluate(model, table, "--json").stdout)
    assert mode["overall"]["sigma_mad"] != median["overall"]["sigma_mad"]
    assert mode["overall"]["crps"] == median["overall"]["crps"]


def test_missing_is_too_faint_or_not_observed(model: Path, tmp_path: Path) -> None:
    content = columns()
    content["flux_u"] = np.full(800, np.nan, np.float32)
    path = write(tmp_path / "no_u.parquet", content)
    faint, unseen = (
        json.loads(evaluate(model, path, "--json", *words).stdout) for words in ((), ("--nan-is-not-observed",))
    )
    assert faint["by_mask"][0]["bands"] == unseen["by_mask"][0]["bands"] == "grizy"
    assert faint["flags"]["BAND_NON_DETECTED"] == unseen["flags"]["BAND_NOT_OBSERVED"] == 800


class Page(HTMLParser):
    """Counts elements, and fails where they are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_whole_and_fetches_nothing(model: Path, table: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "report.html"
    done = evaluate(model, table, "--report", out, "--mask", "gri")
    assert str(out) in done.output.replace("\n", "")
    text = out.read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert sum(tag == "svg" for tag, _ in page.seen) == 5
    assert not {tag for tag, _ in page.seen} & {"script", "link", "iframe", "img"}
    for _, attributes in page.seen:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    card = bundle.read(model).card
    for word in ("beats trainZ", card["sha256"], "only gri", "truth.parquet", "Photometric against true redshift"):
        assert word in text, word
    assert str(tmp_path) not in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"#(23272e|5c6470|b4bac4)", text.split("</style>")[1])  # ink comes from the page
    assert list(tmp_path.iterdir()) == [out]


def test_a_report_of_next_to_nothing(model: Path, tmp_path: Path) -> None:
    """One galaxy, and a hundred without a single band: pages with dashes, not faults."""
    pytest.importorskip("matplotlib")
    holes = columns(100, **{f"flux_{band}": np.full(100, np.nan) for band in "ugrizy"})
    for name, content in (("one", {k: v[:1] for k, v in columns(100).items()}), ("holes", holes)):
        out = tmp_path / f"{name}.html"
        done = evaluate(model, write(tmp_path / f"{name}.parquet", content), "--report", out)
        assert "too few to compare" in done.output.replace("\n", " ")
        assert out.stat().st_size > 10_000
    said = json.loads(evaluate(model, tmp_path / "holes.parquet", "--json").stdout)
    assert (said["overall"]["n"], said["overall"]["missing"]) == (0, 100)
    assert said["flags"]["NO_PHOTOMETRY"] == 100


def test_a_model_that_does_not_beat_its_gate_is_named(model: Path, tmp_path: Path) -> None:
    content = columns()
    content["redshift"] = np.random.default_rng(0).permutation(content["redshift"])
    done = evaluate(model, write(tmp_path / "shuffled.parquet", content))
    assert "does NOT beat trainZ" in done.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("changes", "words", "says"),
    [
        ({"flux_i": None}, [], "bad.parquet has no photometry in band i of survey lsst .*u g r i z y.*want flux_i"),
        ({"flux_err_i": None}, [], "bad.parquet has column flux_i but no error"),
        ({"redshift": None}, [], "bad.parquet has no column of redshifts"),
        ({"redshift": np.full(800, np.nan)}, [], "bad.parquet has no galaxy with a redshift"),
        ({"flux_g": np.array(["bright"] * 800)}, [], "bad.parquet: column flux_g should hold numbers.*'bright'"),
        ({"survey": np.array(["sdss"] * 800)}, [], "survey lsst with bands u g r i z y is wanted"),
        ({}, ["--mask", "griK"], "--mask griK: the model .* has no band K, it has u g r i z y"),
        ({}, ["--point", "z_guess"], "no estimate z_guess: there are z_median"),
        ({}, ["--report", "no/such/place.html"], "There is no directory no/such"),
        ({}, ["--report", "report.pdf"], "call it report.html"),
        ({}, ["--device", "cuda"], "--device cuda is for models of kind images, and .*small.slipher is of kind forest"),
    ],
)
def test_mistakes_are_sentences(model: Path, tmp_path: Path, changes: dict, words: list[str], says: str) -> None:
    path = write(tmp_path / "bad.parquet", columns(**changes))
    with pytest.raises(UserError, match=says):
        evaluate(model, path, *words)


def test_fluxes_in_another_unit(model: Path, tmp_path: Path) -> None:
    for unit, says in (
        (1e-9, r"t.parquet: column flux_. should hold fluxes in nJy, but its median would be a galaxy of 4\d"),
        (1e-2, r"t.parquet: in band i .* 2\d.* mag, and the model was trained on .*in nJy"),
    ):
        other = {name: (value * (unit if name.startswith("flux") else 1)) for name, value in columns().items()}
        with pytest.raises(UserError, match=says):
            evaluate(model, write(tmp_path / "t.parquet", other))


def test_a_model_for_another_survey(tmp_path: Path) -> None:
    some = dc2_training().take(np.arange(0, 3000, 10))
    flux, flux_err, state, ebv, z = arrays(some)
    other = training.fit(
        flux[:, :5], flux_err[:, :5], state[:, :5], ebv, z, band_set("sdss"), training.ForestSettings(trees=3, folds=2)
    )
    bundle.write(other, tmp_path / "sdss.slipher")
    shouting = {f"mag_{band}_lsst": np.full(30, 20.0) for band in "ugrizy"} | {"redshift": np.ones(30)}
    with pytest.raises(UserError, match=r"band u of survey sdss \(u g r i z\).*of survey lsst, not sdss"):
        evaluate(tmp_path / "sdss.slipher", write(tmp_path / "t.parquet", shouting))
