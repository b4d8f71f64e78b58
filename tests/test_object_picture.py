"""One object as a person sees it: its stamp in colour, the PDFs of both models and of their blend, the best and why."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.bands import BAND_SETS
from schemas.batch import Float32, Stamps
from schemas.encoder import encode_avro
from schemas.errors import TroubleError, UserError
from streamer import stamps
from streamer.broker.server import Broker
from streamer.catalogue import open_catalogue
from streamer.cli.stamp_drawing import drawn, shaded
from streamer.object_rows import object_rows
from streamer.stamp_colours import MASKED, channels, coloured
from streamer.stamps import Stamp
from streamer.together import Together
from tests.catalogue_builder import NIGHTS, TOPIC_ID, Built
from tests.made_galaxies import galaxies
from tests.streaming import send
from tests.test_cli_catalog import said
from tests.test_together import FOREST, IMAGES, blend, built

__all__ = ["blend", "built"]  # fixtures
UGRIZY = BAND_SETS["lsst"].bands


def galaxy(colours: tuple[float, ...], side: int = 24, noise: float = 1.0, seed: int = 1) -> Float32:
    """Planes of a round galaxy of these fluxes on a noisy sky."""
    at = np.arange(side) - side / 2 + 0.5
    profile = np.exp(-0.5 * (at[:, None] ** 2 + at[None, :] ** 2) / 9)
    sky = np.random.default_rng(seed).normal(0, noise, (len(colours), side, side))
    return (np.array(colours)[:, None, None] * profile + sky).astype(np.float32)


def table_of(path: Path, object_id: str, planes: Float32) -> Path:
    side = planes.shape[-1]
    pq.write_table(
        pa.table(
            {
                "object_id": [object_id, "other"],
                "stamp_height": pa.array([side, 0], pa.int32()),
                "stamp_width": pa.array([side, 0], pa.int32()),
                "stamp_scale": pa.array([0.2, 0], pa.float32()),
                "stamp_pixels": pa.array([planes.astype("<f4").tobytes(), None], pa.binary()),
            }
        ),
        path,
    )
    return path


def test_red_is_red_and_blue_is_blue_however_bright() -> None:
    for bright in (30, 3000):
        red = coloured(Stamp(UGRIZY, galaxy((0, 0.2 * bright, 0.6 * bright, bright, bright, bright)), 0.2, ""))
        blue = coloured(Stamp(UGRIZY, galaxy((bright, bright, 0.7 * bright, 0.5 * bright, 0, 0)), 0.2, ""))
        assert red.bands == blue.bands == ("i", "r", "g")
        r, _, b = red.rgb[12, 12].astype(int)
        assert r > b + 60
        r, _, b = blue.rgb[12, 12].astype(int)
        assert b > r + 60
        assert red.rgb[12, 12].max() > red.rgb[0].mean() + 100


def test_masked_pixels_are_seen_and_a_band_without_any_is_left_out() -> None:
    planes = galaxy((9, 20, 40, 60, 70, 70))
    planes[2, 3:5, 7] = np.nan
    found = coloured(Stamp(UGRIZY, planes, 0.2, ""))
    assert (found.rgb[3:5, 7] == MASKED).all()
    planes[2] = np.nan
    assert coloured(Stamp(UGRIZY, planes, 0.2, "")).bands == ("y", "i", "u")
    grey = coloured(Stamp(("template",), planes[3:4], 0, ""))
    assert grey.told == "template"
    assert (grey.rgb[..., 0] == grey.rgb[..., 2]).all()
    with pytest.raises(UserError, match="No pixel"):
        coloured(Stamp(UGRIZY, np.full_like(planes, np.nan), 0.2, "here"))
    assert np.isfinite(coloured(Stamp(UGRIZY, np.ones((6, 1, 1), np.float32), 0, "")).rgb).all()


@pytest.mark.parametrize(
    ("bands", "which"),
    [("ugriz", (3, 2, 1)), ("gri", (2, 1, 0)), ("vjh", (2, 1, 0)), ("gr", (1, 1, 0)), ("u", (0, 0, 0))],
)
def test_which_bands_are_red_green_and_blue(bands: str, which: tuple[int, int, int]) -> None:
    assert channels(list(bands)) == which


def test_a_terminal_shows_north_up() -> None:
    rgb = np.zeros((4, 3, 3), np.uint8)
    rgb[3] = 255  # the last row is the northernmost
    assert shaded(rgb).plain.splitlines() == ["▒▒▒", "   "]
    lines = drawn(rgb).split("\n")
    assert [len(line) for line in lines] == [3, 3]
    style = lines[0].spans[0].style
    assert not isinstance(style, str)
    assert (style.color.triplet, style.bgcolor.triplet) == ((255, 255, 255), (0, 0, 0))  # type: ignore[union-attr]


def test_show_has_the_blend_the_best_and_the_stamp(built: Built, blend: Path, tmp_path: Path) -> None:
    stamp = table_of(tmp_path / "stamps.parquet", "0100000021", galaxy((9, 20, 40, 60, 70, 70)))
    text = said("catalog", "show", built.path, "0100000021", "--blend", blend, "--stamp", stamp)
    assert text.count("p(z)") == 3
    assert "0.25 forest + 0.75" in text
    assert "best  blend  both models are in their domain" in text
    assert "24 × 24 pixels, 4.8 × 4.8″" in text
    assert "i r g as red, green, blue" in text
    assert "▒" in text
    plain = said("catalog", "show", built.path, "0100000021")
    assert plain.count("p(z)") == 2
    assert "best  images  the image model is in its domain" in plain
    assert "no stamp of 0100000022" in said("catalog", "show", built.path, "0100000022", "--stamp", stamp)


def test_a_broker_that_is_away_costs_the_stamp_alone(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def away(*words: object) -> None:
        asked.append(words)
        raise TroubleError("No broker answers.")

    monkeypatch.setattr("streamer.stamps.of_topic", away)
    plot = ("--plot", tmp_path / "o.png")
    text = said("catalog", "show", built.path, "0100000021", "--brokers", "127.0.0.1:9", *plot)
    assert "no stamp: No broker answers." in text
    assert text.count("p(z)") == 2
    assert plot[1].exists()
    assert len(asked) == 1


def test_rows_of_other_topics_stand_side_by_side(built: Built) -> None:
    found = object_rows(open_catalogue(built.path), "0200000004")
    assert [len(m.rows) for m in found.messages] == [2]
    assert found.messages[0].judged is not None
    assert "NO_STAMP" in found.messages[0].judged.reason
    apart = object_rows(open_catalogue(built.path), "0200000029")  # event times differ
    assert [len(m.rows) for m in apart.messages] == [1, 1]


def test_a_blend_of_one_object_is_that_of_the_night(built: Built, blend: Path) -> None:
    from models import pool

    catalogue = Together(built.path, pool=pool.read(blend))
    night = {r["object_id"]: r for r in catalogue.scan(model="blend", night=NIGHTS[1]).read_all().to_pylist()}
    for object_id in sorted(night)[:2]:
        found = object_rows(catalogue, object_id)
        assert found.records[-1] == night[object_id]
        assert found.known[found.records[-1]["processing_id"]]["z_grid"] == pool.read(blend).grid.tolist()


def test_the_picture(built: Built, blend: Path, tmp_path: Path) -> None:
    stamp = table_of(tmp_path / "stamps.parquet", "0100000021", galaxy((9, 20, 40, 60, 70, 70)))
    out = tmp_path / "object.svg"
    said("catalog", "show", built.path, "0100000021", "--blend", blend, "--stamp", stamp, "--plot", out)
    picture = out.read_text()
    assert "<image" in picture  # the stamp
    for word in (FOREST, IMAGES, "blend-lsst-", "best: blend", "i r g as red, green, blue"):
        assert f"<!-- {word}" in picture, word
    said("catalog", "show", built.path, "0100000007", "--plot", tmp_path / "no-pdf.png")
    assert (tmp_path / "no-pdf.png").read_bytes().startswith(b"\x89PNG")


def test_tables_that_have_no_stamps_are_sentences(tmp_path: Path) -> None:
    path = table_of(tmp_path / "s.parquet", "a", galaxy((1, 1, 1, 1, 1, 1)))
    found = stamps.of_table(path, "a", "lsst")
    assert (found.bands, found.planes.shape, found.scale) == (UGRIZY, (6, 24, 24), pytest.approx(0.2))
    with pytest.raises(UserError, match="no stamp of other"):
        stamps.of_table(path, "other", "lsst")
    with pytest.raises(UserError, match="not 5 planes"):
        stamps.of_table(path, "a", "sdss")
    pq.write_table(pq.read_table(path).replace_schema_metadata({"slipher.survey": "euclid"}), path)
    with pytest.raises(UserError, match="is a table of survey euclid, by its metadata, and a is of lsst"):
        stamps.of_table(path, "a", "lsst")
    with pytest.raises(UserError, match="no table of stamps"):
        stamps.of_table(tmp_path / "nothing", "a", "lsst")
    pq.write_table(pa.table({"object_id": ["a"]}), path)
    with pytest.raises(UserError, match="no column stamp_height"):
        stamps.of_table(path, "a", "lsst")
    path.write_text("no table")
    with pytest.raises(UserError, match="cannot be read"):
        stamps.of_table(path, "a", "lsst")


@pytest.mark.broker
def test_the_stamp_of_a_message_where_kafka_still_has_it(broker: Broker, topic: Callable[..., str]) -> None:
    from streamer.source.connection import identify

    name = topic()
    planes = galaxy((9, 20, 40, 60, 70, 70), 8)
    blobs = pa.array([planes.tobytes(), None], pa.large_binary())
    size = np.array([8, 0], np.int32)
    made = dataclasses.replace(
        galaxies(2), stamps=Stamps(size, size, np.array([0.2, 0], np.float32), blobs, pa.nulls(2, pa.large_binary()))
    )
    send(broker.bootstrap, name, {0: encode_avro(made, "lsst")})
    kafka = {"bootstrap.servers": broker.bootstrap}
    row = {
        "topic": name,
        "topic_id": identify(dict(kafka), name).topic_id,
        "kafka_partition": 0,
        "kafka_offset": 0,
        "kafka_row": 0,
    }
    found = stamps.of_topic(row, kafka)
    assert np.array_equal(found.planes, planes)
    assert (found.bands, found.where) == (UGRIZY, f"{name}[0] offset 0")
    with pytest.raises(UserError, match="no stamp in the message"):
        stamps.of_topic(row | {"kafka_offset": 1}, kafka)
    with pytest.raises(UserError, match="offsets 0 to 1, not 9"):
        stamps.of_topic(row | {"kafka_offset": 9}, kafka)
    with pytest.raises(UserError, match="recreated since"):
        stamps.of_topic(row | {"topic_id": TOPIC_ID}, kafka)
    with pytest.raises(UserError, match="gives no row 3"):
        stamps.of_topic(row | {"kafka_row": 3}, kafka)
