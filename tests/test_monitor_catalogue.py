"""What the monitor reads of a catalogue: bounded, once, and right."""

import asyncio
import datetime as dt
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from models.grid import distribution
from schemas.catalogue import MODELS
from streamer.catalogue import open_catalogue
from streamer.monitor import desk as desks
from streamer.monitor import words
from streamer.monitor.desk import Desk
from streamer.monitor.night import NEWEST, Night
from streamer.monitor.refusals import Refusals
from streamer.night_data import pit_values
from tests.catalogue_builder import EPOCH, GRID, NIGHTS, Built, append, build

FOREST, IMAGE = "forest-lsst-01234567", "image-lsst-fedcba98"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(
        tmp_path_factory.mktemp("monitor") / "catalogue", rows_a_night=300, nights=NIGHTS[:2], compact=("image",)
    )


def test_tonight_is_the_newest_night_of_each_model(built: Built) -> None:
    night = Night(open_catalogue(built.path), built.truth, budget=60)
    said = night.refresh()
    assert said is not None
    words.dumps(said)
    assert said["night"] == NIGHTS[1]
    forest, image = said["models"]
    assert (forest["model"], image["model"]) == (FOREST, IMAGE)
    rows = built.rows.filter((pc.field("night") == NIGHTS[1]) & (pc.field("model") == FOREST))
    assert (forest["rows"], forest["points"], forest["pdfs"]) == (
        300,
        300,
        rows["pdf"].is_valid().to_pylist().count(True),
    )
    for part in (forest, image):  # the image's PDFs are compact
        assert np.trapezoid(part["stacked"], GRID) == pytest.approx(1, abs=2e-3)
        assert np.sum(part["medians"]) * GRID[-1] / 60 == pytest.approx(1, abs=2e-3)
    pdf = np.array(rows["pdf"].drop_null().combine_chunks().flatten()).reshape(-1, len(GRID))
    np.testing.assert_allclose(forest["stacked"], pdf.mean(axis=0) / np.trapezoid(pdf.mean(axis=0), GRID), atol=2e-3)
    z = dict(zip(*(built.truth[name].to_pylist() for name in ("object_id", "z")), strict=True))
    there = rows.filter(rows["pdf"].is_valid())
    naive = pit_values(pdf, GRID, np.array([z[i] for i in there["object_id"].to_pylist()]))
    assert forest["pit"]["n"] == len(naive)
    np.testing.assert_allclose(
        forest["pit"]["density"], np.histogram(naive, 20, (0, 1))[0] * 20 / len(naive), rtol=1e-3
    )
    multimodal = next(flag for flag in forest["flags"] if flag["flag"] == "MULTIMODAL_PDF")
    assert multimodal["part"] == pytest.approx(0.1, abs=0.01)


def test_without_known_redshifts_there_is_no_calibration(built: Built) -> None:
    said = Night(open_catalogue(built.path), budget=60).refresh()
    assert said is not None
    assert [part["pit"] for part in said["models"]] == [None, None]
    assert sum(said["models"][0]["widths"]) > 200


def test_a_refresh_reads_within_its_budget_and_nothing_twice(built: Built) -> None:
    ticks = iter(range(1000))
    night = Night(open_catalogue(built.path), budget=1.0, clock=lambda: float(next(ticks)))
    read: list[str] = []
    honest = night._read
    night._read = lambda path, *rest: (read.append(path), honest(path, *rest))[1]  # type: ignore[method-assign, func-returns-value]
    points = []
    for _ in range(6):
        said = night.refresh()
        assert said is not None
        points.append(sum(part["points"] for part in said["models"]))
    assert points[0] < points[-1] == 600
    assert len(read) == len(set(read)) == 4


def test_the_newest_rows_carry_their_pdfs(built: Built) -> None:
    night = Night(open_catalogue(built.path), budget=60)
    night.refresh()
    rows = night.newest()
    assert len(rows) == NEWEST
    times = [row["ingest_time"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert {row["model"] for row in rows} == {IMAGE}  # they are a second later
    with_pdf = next(row for row in rows if row["pdf"])
    assert len(with_pdf["pdf"]) == 301
    assert with_pdf["bands"] == list("ugrizy")[: len(with_pdf["bands"])]
    words.dumps(rows)


def test_an_empty_catalogue_has_no_night(tmp_path: Path) -> None:
    build(tmp_path, nights=())
    night = Night(open_catalogue(tmp_path))
    assert night.refresh() is None
    assert night.newest() == []


def test_the_training_sets_redshifts_stand_beside_tonights(tmp_path: Path) -> None:
    build(tmp_path, rows_a_night=20, nights=NIGHTS[:1])
    z = np.random.default_rng(1).gamma(3, 0.25, 5000).clip(0, 2.9)
    table = DeltaTable(str(tmp_path / "models")).to_pyarrow_table()
    cards = [json.dumps({"training": {"n": 5000, "n_z": distribution(z, np.ones(5000), GRID)}})] * len(table)
    table = table.set_column(table.column_names.index("card"), MODELS.field("card"), pa.array(cards))
    write_deltalake(str(tmp_path / "models"), table.cast(MODELS), mode="overwrite")
    said = Night(open_catalogue(tmp_path), budget=60).refresh()
    assert said is not None
    training = np.array(said["models"][0]["training"])
    np.testing.assert_allclose(training, np.histogram(z, 60, (0, 3.0), density=True)[0], atol=1e-3)


def test_refusals_of_the_last_day_by_reason(built: Built) -> None:
    then = EPOCH.timestamp() + 3600
    said = Refusals(built.path, clock=lambda: then).refresh()
    assert said["whole"]
    counts = {reason: n for reason, n, _ in said["counts"]}
    assert counts == {"RETENTION_GAP": 50, "EMPTY": 1, "CORRUPT": 1, "UNKNOWN_SCHEMA": 1, "BAD_POSITION": 1}
    assert all(text for _, _, text in said["counts"])
    assert Refusals(built.path, clock=lambda: then + 2 * 86_400).refresh()["counts"] == []


def test_the_ledger_is_read_on_where_it_was_left(tmp_path: Path) -> None:
    from tests.catalogue_builder import exceptions

    build(tmp_path, nights=())
    follow = Refusals(tmp_path, clock=lambda: EPOCH.timestamp() + 3600)
    assert {r: n for r, n, _ in follow.refresh()["counts"]}["CORRUPT"] == 1
    known = set(follow._known)
    append(tmp_path / "exceptions", exceptions())
    assert {r: n for r, n, _ in follow.refresh()["counts"]}["CORRUPT"] == 2
    assert known < set(follow._known)
    slow = Refusals(tmp_path, budget=-1, clock=lambda: EPOCH.timestamp() + 3600)
    assert [slow.refresh()["whole"], slow.refresh()["whole"]] == [False, True]


def test_the_desk_reads_what_changed_and_says_so(tmp_path: Path) -> None:
    made = build(tmp_path, rows_a_night=40, nights=NIGHTS[:1])
    desk = Desk(tmp_path, clock=lambda: EPOCH.timestamp() + 3600)

    async def play() -> None:
        assert desk.expired is None
        assert await desk.refresh()
        assert (desk.tonight["version"], desk.tonight["night"], desk.expired) == (1, NIGHTS[0], 50)
        while await desk.refresh():  # all files, however slow the disk
            pass
        append(tmp_path / "rows", made.rows.slice(0, 7))
        assert await desk.refresh()
        assert sum(part["rows"] for part in desk.tonight["models"]) == 87
        words.dumps(desk.tonight)

    asyncio.run(play())
    desk.close()


def test_an_object_is_found_with_its_provenance_and_strange_ones_are_not(built: Built) -> None:
    desk = Desk(built.path)
    wanted = built.rows["object_id"][5].as_py()

    async def play() -> None:
        said = await desk.find(wanted)
        words.dumps(said)
        assert [row["model"] for row in said["rows"]] == [IMAGE, FOREST]
        assert (said["whole"], said["more"], said["held"]) == (True, 0, 1200)
        row = said["rows"][1]
        assert (row["topic"], row["kafka_offset"], row["bundle"]) == ("galaxies", 5, "0123456789abcdef" * 4)
        assert row["kafka_timestamp"] == (EPOCH + dt.timedelta(seconds=0.05)).timestamp()
        for strange in ("", "nobody", "<script>alert(1)</script>", "' OR 1=1 --", "\x00", "é" * 200):
            assert (await desk.find(strange))["rows"] == []

    asyncio.run(play())
    desk.close()


def test_a_search_goes_through_a_bounded_number_of_rows(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "SEARCHED", 150)  # the two newest files that may hold it have as many rows each
    desk = Desk(built.path)
    said = asyncio.run(desk.find(built.rows["object_id"][5].as_py()))
    assert not said["whole"]
    assert len(said["rows"]) == 1
    desk.close()


def test_a_catalogue_follows_its_tables(tmp_path: Path) -> None:
    made = build(tmp_path, rows_a_night=20, nights=NIGHTS[:1])
    catalogue = open_catalogue(tmp_path)
    before = catalogue.scan(["object_id"]).read_all()
    assert not catalogue.refresh()
    append(tmp_path / "rows", made.rows.slice(0, 3))
    assert len(catalogue.scan(["object_id"]).read_all()) == len(before)
    assert catalogue.refresh()
    assert len(catalogue.scan(["object_id"]).read_all()) == len(before) + 3
