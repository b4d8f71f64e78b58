"""Both models together: which rows belong together, the best of them, and rows of the blend, against doing it by hand."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from models import bundle as bundles
from models import estimator as estimators
from models import pool
from models.grid import normalise, trapezoid
from schemas.batch import BandState
from schemas.catalogue import ROWS
from schemas.errors import UserError
from schemas.flags import Flag
from streamer import best, blending
from streamer.best import Judged, Seen, judged
from streamer.cli.blend import view
from streamer.comparison import compare
from streamer.together import Together
from tests.catalogue_builder import GRID, MODELS_HERE, NIGHTS, TOPIC_ID, Built, append, build, model_name, night_rows
from tests.small_sky import sky
from tests.streaming import small_model
from tests.test_cli_catalog import run, said
from tests.test_comparison import set_column

FOREST, IMAGES = (model_name(*m) for m in MODELS_HERE)
IN, NONE = Seen(0, True), Seen(Flag.NO_STAMP, False)
OUT = Seen(Flag.FEATURE_RANGE, True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Two nights by both models and one by the forest alone; images of the last night were read from another topic."""
    place = tmp_path_factory.mktemp("together")
    built = build(place / "catalogue", rows_a_night=90, nights=NIGHTS[:2], compact=("image",))
    rng = np.random.default_rng(1)
    ids = [f"02{i:08d}" for i in range(30)]
    z = rng.gamma(3.0, 0.25, 30).clip(0.02, 2.8)
    forest = night_rows(rng, z, ids, NIGHTS[2], *MODELS_HERE[0], first_offset=180)
    images = night_rows(rng, z, ids, NIGHTS[2], *MODELS_HERE[1], first_offset=0).slice(3)
    images = set_column(images, "topic_id", ["other" + TOPIC_ID[5:]] * len(images))
    images = set_column(images, "mjd", [61100.2] * 26 + [61100.3])
    flags = images["flags"].to_numpy().copy()
    flags[1] |= Flag.NO_STAMP
    images = set_column(images, "flags", flags)
    append(built.path / "rows", forest)
    append(built.path / "rows", images.take(pa.array(rng.permutation(len(images)))))
    return built._replace(rows=pa.concat_tables([built.rows, forest, images]))


@pytest.fixture(scope="module")
def blend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("blend") / "b.slipher"
    card = {
        "kind": pool.KIND,
        "survey": "lsst",
        "grid": {"z_max": 3.0, "points": 301},
        "weight": 0.75,
        "forest": {"sha256": MODELS_HERE[0][1] * 4},
        "images": {"sha256": MODELS_HERE[1][1] * 4},
        "held_out": {"n": 100},
    }
    bundles.write(bundles.seal(card, {}), out)
    return out


@pytest.mark.parametrize(
    ("forest", "images", "blended", "choice", "reason"),
    [
        (IN, IN, False, "images", "the image model is in its domain"),
        (IN, IN, True, "blend", "both models are in their domain"),
        (OUT, IN, True, "images", "the image model is in its domain; no blend: the forest has FEATURE_RANGE"),
        (None, IN, True, "images", "the image model is in its domain; no blend: there is no row of the forest"),
        (None, IN, False, "images", "the image model is in its domain"),
        (IN, NONE, True, "forest", "the image model gave no PDF (NO_STAMP)"),
        (IN, OUT, False, "forest", "the image model has FEATURE_RANGE"),
        (IN, Seen(Flag.SATURATED_STAMP | Flag.NO_EBV, True), False, "forest", "the image model has SATURATED_STAMP"),
        (OUT, None, False, "forest", "there is no row of the image model; the forest itself has FEATURE_RANGE"),
        (Seen(0, False), NONE, False, "none", "the image model gave no PDF (NO_STAMP); the forest gave no PDF"),
        (None, OUT, False, "none", "the image model has FEATURE_RANGE; there is no row of the forest"),
    ],
)
def test_the_best_and_why(forest: Seen | None, images: Seen | None, blended: bool, choice: str, reason: str) -> None:
    assert judged(forest, images, blended) == Judged(choice, reason)


def test_every_message_is_there_once_in_the_best(built: Built) -> None:
    rows = Together(built.path).scan(model="best").read_all()
    assert sorted(rows["object_id"].to_pylist()) == sorted(
        [*built.truth["object_id"].to_pylist(), *(f"02{i:08d}" for i in range(30)), "0200000029"]
    )  # the last object's times differ: two messages
    of = {(r["model"], r["topic_id"], r["kafka_offset"]): r for r in built.rows.to_pylist()}
    for row in rows.to_pylist():
        stored = of[row["model"], row["topic_id"], row["kafka_offset"]]
        choice, reason = row.pop("best"), row.pop("best_reason")
        assert choice in ("images", "forest", "none")
        assert reason
        outside, has = (Flag(stored["flags"]) & best.OUTSIDE, stored["z_median"] is not None)
        assert (choice == "images") == (row["model"] == IMAGES and not outside and has)
        for name, value in row.items():
            if name not in ("pdf", "pdf_u8"):
                assert value == stored[name], name
        if stored["pdf"] is None:
            assert row["pdf"] is None
        else:
            assert row["pdf"] == pytest.approx(stored["pdf"], abs=0.03 * max(stored["pdf"]))


def test_rows_of_other_topics_belong_together_by_object_and_time(built: Built) -> None:
    forest, images = Together(built.path).slim(NIGHTS[2])
    at_forest, at_images = best.paired(forest, images)
    a, b = forest.take(pa.array(at_forest)), images.take(pa.array(at_images))
    assert a["object_id"].to_pylist() == b["object_id"].to_pylist()
    assert sorted(a["object_id"].to_pylist()) == [f"02{i:08d}" for i in range(3, 29)]  # the last one's times differ
    rows = Together(built.path).scan(["object_id", "best", "best_reason"], NIGHTS[2], "best").read_all().to_pylist()
    reasons = {r["object_id"]: r["best_reason"] for r in rows if r["best"] == "forest"}
    assert "no row of the image model" in reasons["0200000000"]
    assert "NO_STAMP" in reasons["0200000004"]


def test_the_same_object_and_time_again_is_paired_in_order() -> None:
    rng = np.random.default_rng(2)
    rows = [
        night_rows(rng, np.ones(6), ["x", "y"] * 3, NIGHTS[0], *m, first_offset=o)
        for m, o in zip(MODELS_HERE, (0, 50), strict=True)
    ]
    rows[1] = set_column(rows[1], "topic_id", ["other"] * 6).take(pa.array([5, 3, 1, 0, 4, 2]))
    left, right = best.paired(*rows)
    assert len(left) == 6
    offsets = [rows[k]["kafka_offset"].to_numpy()[at] for k, at in ((0, left), (1, right))]
    assert (offsets[1] - offsets[0] == 50).all()


def test_blended_rows_are_the_mean_of_both(built: Built, blend: Path) -> None:
    catalogue = Together(built.path, pool=pool.read(blend))
    made = catalogue.scan(model="blend", night=NIGHTS[0]).read_all().to_pylist()
    of = {(r["model"], r["kafka_offset"]): r for r in built.rows.to_pylist() if r["night"] == NIGHTS[0]}
    both = [(of[FOREST, o], of[IMAGES, o]) for o in range(90)]
    assert len(made) == sum(all(r["pdf"] and not r["flags"] & best.OUTSIDE for r in pair) for pair in both)
    for row in made:
        forest, images = of[FOREST, row["kafka_offset"]], of[IMAGES, row["kafka_offset"]]
        mean = normalise(0.25 * np.array(forest["pdf"]) + 0.75 * np.array(images["pdf"]), GRID)
        assert row["pdf"] == pytest.approx(mean, abs=0.01 * mean.max())  # the image model's are a byte a point
        assert row["pdf"] @ trapezoid(GRID) == pytest.approx(1, abs=1e-3)
        cdf = np.concatenate([[0], np.cumsum((mean[1:] + mean[:-1]) / 2 * np.diff(GRID))])
        for name, level in (("z_lo95", 0.025), ("z_lo68", 0.16), ("z_median", 0.5), ("z_hi68", 0.84)):
            assert np.interp(row[name], GRID, cdf) == pytest.approx(level, abs=0.01), name
        assert row["model"] == pool.read(blend).name
        assert row["object_id"] == images["object_id"]
        assert row["flags"] & Flag.BAND_NON_DETECTED == (forest["flags"] | images["flags"]) & Flag.BAND_NON_DETECTED


def test_many_pdfs_lie_in_a_file_meanwhile(built: Built, blend: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = Together(built.path, pool=pool.read(blend))
    before = catalogue.scan(model="best", batch_rows=7).read_all()
    monkeypatch.setattr("streamer.together.IN_MEMORY", 0)
    assert catalogue.scan(model="best").read_all().sort_by("object_id") == before.sort_by("object_id")


def test_compare_takes_the_best_and_the_blend(built: Built, blend: Path) -> None:
    catalogue = Together(built.path, pool=pool.read(blend))
    alone = compare(catalogue, FOREST, IMAGES, NIGHTS[0]).figures()
    mixed = compare(catalogue, FOREST, "blend", NIGHTS[0]).figures()
    assert mixed["pdf"]["ks_median"] < alone["pdf"]["ks_median"]
    assert compare(catalogue, "blend", "best", NIGHTS[0]).figures()["pdf"]["ks_99"] == 0
    text = said("compare", built.path, FOREST, "best", "--night", NIGHTS[0])
    assert "B = best" in text
    assert "--blend FILE" in str(run("compare", built.path, FOREST, "blend").exception)


def test_export_of_the_best_with_reasons(built: Built, blend: Path, tmp_path: Path) -> None:
    said("catalog", "export", built.path, tmp_path / "best.parquet", "--best", "--blend", blend)
    table = pq.read_table(tmp_path / "best.parquet")
    assert set(table["best"].to_pylist()) == {"blend", "images", "forest", "none"}
    assert set(json.loads(table.schema.metadata[b"slipher.z_grids"])) >= set(table["model"].to_pylist())
    assert table.schema.field("z_median").metadata == ROWS.field("z_median").metadata
    said("catalog", "export", built.path, tmp_path / "best.csv", "--best", "--columns", "object_id,best,z_best")
    assert pyarrow.csv.read_csv(tmp_path / "best.csv").column_names == ["object_id", "best", "z_best"]
    said("catalog", "export", built.path, tmp_path / "X.pq", "--blend", blend)
    assert len(pq.read_table(tmp_path / "Xdata.pq")) == len(pq.read_table(tmp_path / "Xancil.pq"))
    refused = run("catalog", "export", built.path, tmp_path / "no.csv", "--best", "--model", FOREST)
    assert "--best and --blend read two" in str(refused.exception)


def test_models_that_are_not_there_are_sentences(built: Built, blend: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no rows of the model nobody"):
        Together(built.path, forest="nobody")
    with pytest.raises(UserError, match="is not the forest of the blend"):
        Together(built.path, forest=IMAGES, pool=pool.read(blend))
    with pytest.raises(UserError, match="twice"):
        Together(built.path, forest=IMAGES, images=IMAGES)
    with pytest.raises(UserError, match="no column colour"):
        Together(built.path).scan(["colour"], model="best")


def test_slipher_blend_chooses_and_refuses(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, out = tmp_path / "truth.parquet", tmp_path / "b.slipher"
    pq.write_table(built.truth, truth)
    text = said("blend", truth, "--catalog", built.path, "-o", out)
    assert "The blend helps" in text
    found = pool.read(out)
    assert (found.forest, found.images) == (MODELS_HERE[0][1] * 4, MODELS_HERE[1][1] * 4)
    held = found.card["held_out"]
    blended = Together(built.path, pool=found).scan(["night"], model="blend").read_all()["night"].to_pylist()
    assert held["n"] == sum(night in NIGHTS[:2] for night in blended)
    assert held["left_out"]["without a known redshift"] > 0
    card = said("model", "show", out)
    assert found.name in card
    assert "The blend helps" in card
    figures = json.loads(run("blend", truth, "--catalog", built.path, "-o", out, "--json").stdout)
    assert figures["sha256"] == found.card["sha256"]
    monkeypatch.setattr("models.pool_choice.SURE", 1e6)
    vain = run("blend", truth, "--catalog", built.path, "-o", tmp_path / "vain")
    assert vain.exit_code == 1, vain.output
    assert "does not help" in vain.output
    assert not (tmp_path / "vain").exists()


def test_bundles_over_a_table_and_a_model_that_is_blended_with_itself(tmp_path: Path) -> None:
    """A model and itself: no gain, whatever the weight; and a table that it was trained on is told from one that it was not."""
    path = small_model()
    known, z = sky(800)  # what it was trained on
    fresh, z_fresh = sky(500, seed=4)
    tables = []
    for name, galaxies, redshift in (("trained", known, z), ("fresh", fresh, z_fresh)):
        columns: dict[str, object] = {"redshift": redshift, "ebv": galaxies.ebv, "object_id": galaxies.object_id}
        for b, band in enumerate(galaxies.bands):
            columns |= {f"flux_{band}": galaxies.flux[:, b], f"flux_err_{band}": galaxies.flux_err[:, b]}
        tables.append(tmp_path / f"{name}.parquet")
        pq.write_table(pa.table(columns), tables[-1])
    held = blending.of_bundles(path, path, tables[1], BandState.NOT_OBSERVED)
    assert 200 < len(held.z) == 500 - held.left_out["out of a model's domain"]
    assert held.warnings == []
    assert held.roles["forest"]["sha256"] == bundles.read(path).card["sha256"]
    assert "was trained on" in blending.of_bundles(path, path, tables[0]).warnings[0]
    networks = tmp_path / "networks.slipher"
    bundles.write(bundles.seal({"kind": "images", "survey": "lsst"}, {}), networks)
    with pytest.raises(UserError, match=r"networks.slipher holds image networks: give them as --images"):
        blending.of_bundles(networks, path, tables[1])
    out = tmp_path / "no"
    words = ("--forest", path, "--images", path, "--nan-is-not-observed")
    vain = run("blend", tables[1], *words, "-o", out)
    assert vain.exit_code == 1, vain.output
    assert "does not help" in vain.output
    assert not out.exists()
    assert run("blend", tables[1], *words, "-o", out, "--anyway").exit_code == 0
    card = pool.read(out).card
    assert card["survey"] == "lsst"
    worse = {**card, "held_out": {**card["held_out"], "helps": False, "gain": -1e-3, "gain_error": 2e-4}}
    assert "its CRPS is higher by 0.001 ± 0.0002. " in " ".join(map(str, view(worse)))
    with pytest.raises(UserError, match="no is a blend of two models, and no model by itself: run both"):
        estimators.load(out)
    assert "Name both bundles" in str(run("blend", tables[1], "--forest", path, "-o", out).exception)
