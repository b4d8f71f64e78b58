"""`slipher inspect`: every framing, every kind of trouble, and never a traceback."""

import gzip
import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import elasticc_alerts, writing
from schemas.avro.write import containers, sized
from schemas.batch import BandState, Reason, Stamps
from schemas.elasticc_alerts import AVRO_SCHEMA
from schemas.encoder import encode_arrow, encode_avro
from schemas.errors import UserError
from schemas.inspection.inspect import Options, inspect
from schemas.surveys import native
from schemas.wire import confluent
from streamer import cutout_picture
from streamer.inspection import described
from tests.made_galaxies import changed, galaxies, with_value
from tests.registries import StandIn

KNOWN = confluent.KnownSchemas([*native.known_avro_schemas(), AVRO_SCHEMA])
GOOD = changed(galaxies(3), band_state=np.ones((3, 6), np.uint8), flux=np.full((3, 6), 1000, np.float32))
ELASTICC = writing.avro_encode("elasticc", "lsst")(GOOD, 0)
ROW = {
    "alertId": 7,
    "diaSource": {"ra": 10.0, "decl": -5.0, "midPointTai": 61000.0, "diaObjectId": 5},
    "diaObject": {"diaObjectId": 5, "hostgal_mag_i": 22.5, "hostgal_magerr_i": 0.1, "mwebv": 0.05},
}


def seen(payload: bytes | None, **more: Any) -> dict[str, Any]:
    """What the command would say of `payload`; it must be JSON."""
    said = described(inspect(payload, Options(KNOWN, **more)), "message")
    json.dumps(said, allow_nan=False)
    return said


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    """Exit code and output of the command; errors of a person are raised, as ``main`` finds them."""
    from streamer.cli.main import build

    monkeypatch.setattr("sys.argv", ["slipher", "inspect", *words])
    monkeypatch.setenv("COLUMNS", "120")
    code = build()(["inspect", *words], standalone_mode=False)
    return int(code or 0), capsys.readouterr().out


NATIVE_AVRO, *_ = encode_avro(GOOD, "lsst")
[ARROW] = encode_arrow(GOOD, "lsst")
FRAMED: list[tuple[bytes, dict[str, Any], str, str, str, int]] = [
    (NATIVE_AVRO, {}, "confluent-avro", "slipher.Galaxy", "native", 1),
    (encode_avro(galaxies(1, "des"), "des")[0], {}, "confluent-avro", "slipher.Galaxy", "native", 1),
    (ARROW, {}, "arrow", "galaxy", "native", 3),
    (ELASTICC[0], {}, "confluent-avro", "slipher.elasticc.alert", "elasticc", 1),
    *(
        (writing.avro_encode("elasticc", "lsst", "container", codec=codec, records=3)(GOOD, 0)[0], {}, "container",
         "slipher.elasticc.alert", "elasticc", 3)
        for codec in ("null", "deflate", "snappy", "zstandard")
    ),
    (writing.avro_encode("native", "lsst", "avro")(GOOD, 0)[0], {"framing": "avro", "bare": native.avro_schema("lsst")},
     "avro", "slipher.Galaxy", "native", 1),
    (json.dumps(ROW).encode(), {}, "json", "", "elasticc", 1),
    (b"\n".join([json.dumps(ROW).encode()] * 2), {}, "json", "", "elasticc", 2),
]  # fmt: skip


@pytest.mark.parametrize(("payload", "options", "framing", "schema", "alerts", "rows"), FRAMED)
def test_every_framing(
    payload: bytes, options: dict[str, Any], framing: str, schema: str, alerts: str, rows: int
) -> None:
    said = seen(payload, **options)
    assert said["framing"]["name"] == framing
    assert said["framing"]["records"] == rows
    assert said["schema"]["name"] == (schema or None)
    assert (said["survey"]["alerts"], said["verdict"], len(said["rows"])) == (alerts, "galaxy", rows)
    assert said["bytes"] == len(payload)
    assert not said["survey"]["needed"]


def test_the_galaxy_is_the_one_a_worker_gets() -> None:
    given_galaxies = with_value(GOOD, 0, ebv=np.nan)
    states = given_galaxies.band_state.copy()
    states[0, 5] = BandState.NON_DETECTED
    [payload, *_] = encode_avro(changed(given_galaxies, band_state=states), "lsst")
    said = seen(payload)
    [row] = said["rows"]
    assert (row["object_id"], row["alert_id"]) == ("object-0", "alert-0")
    assert (row["ra"], row["dec"], row["mjd"]) == (GOOD.ra[0], GOOD.dec[0], GOOD.mjd[0])
    assert row["bands"]["u"]["mag"] == pytest.approx(31.4 - 7.5)
    assert row["bands"]["u"]["flux_err"] == pytest.approx(float(GOOD.flux_err[0, 0]))
    assert row["bands"]["y"]["state"] == "NON_DETECTED"
    assert row["ebv"] is None
    assert row["flags"] == ["BAND_NON_DETECTED", "NO_EBV"]
    assert said["survey"]["by"] == "name"
    assert said["survey"]["bands_of"] == "lsst"
    assert said["schema"]["id"] == confluent.schema_id(payload)


def test_an_event_time_is_judged_by_kafkas() -> None:
    kafka_ms = int((GOOD.mjd[0] + 0.5 - 40587) * 86_400_000)
    near = described(inspect(NATIVE_AVRO, Options(KNOWN), kafka_ms), "t")["rows"][0]
    late = described(inspect(NATIVE_AVRO, Options(KNOWN), kafka_ms + 90 * 86_400_000), "t")["rows"][0]
    assert "BAD_EVENT_TIME" not in near["flags"]
    assert "BAD_EVENT_TIME" in late["flags"]
    assert near["night"] != late["night"]


def test_the_bands_of_a_native_message_are_its_surveys() -> None:
    for survey in ("lsst", "sdss", "des", "ps1"):
        for payload in (encode_avro(galaxies(1, survey), survey)[0], encode_arrow(galaxies(1, survey), survey)[0]):
            said = seen(payload)
            assert (said["survey"]["bands_of"], said["verdict"]) == (survey, "galaxy")


LACKING = {**AVRO_SCHEMA, "name": "other", "namespace": "x", "fields": AVRO_SCHEMA["fields"][:1]}
CUT = writing.avro_encode("native", "lsst", "container")(GOOD, 0)[0][:-20]


@pytest.mark.parametrize(
    ("payload", "options", "reason", "byte"),
    [
        (None, {}, Reason.EMPTY, -1),
        (b"", {}, Reason.EMPTY, -1),
        (b"hello", {}, Reason.BAD_FRAMING, 0),
        (b"\x00\x00", {}, Reason.BAD_FRAMING, 2),
        (b"\x00\x00\x00\x03\x84rest", {}, Reason.UNKNOWN_SCHEMA, 1),
        (NATIVE_AVRO[:40], {}, Reason.CORRUPT, None),
        (NATIVE_AVRO + b"!", {}, Reason.CORRUPT, len(NATIVE_AVRO)),
        (encode_avro(with_value(GOOD, 0, dec=91.0), "lsst")[0], {}, Reason.BAD_POSITION, -1),
        (ELASTICC[0][:30], {}, Reason.CORRUPT, 28),
        (ELASTICC[0], {"alerts": "ztf"}, Reason.LACKS_FIELD, 1),
        (ARROW[:-9], {}, Reason.CORRUPT, None),
        (b"{}", {}, Reason.LACKS_FIELD, 0),
        (b"{", {}, Reason.CORRUPT, 1),
        (b"[3]", {}, Reason.CORRUPT, 0),
        (CUT, {}, Reason.CORRUPT, None),
        (b"Obj\x01", {}, Reason.CORRUPT, 4),
        (b"Obj\x01\x02\x16avro.schema\x02{\x00" + bytes(16), {}, Reason.UNKNOWN_SCHEMA, -1),
        (b"\x00\x00\x00\x00\x01x", {"framing": "avro", "bare": LACKING, "alerts": "ztf"}, None, None),
    ],
)
def test_why_it_would_be_refused(
    payload: bytes | None, options: dict[str, Any], reason: Reason | None, byte: int | None
) -> None:
    if reason is None:  # a schema that a person gave and that is of no use is the person's mistake
        with pytest.raises(UserError, match="The schema given cannot be used"):
            seen(payload, **options)
        return
    said = seen(payload, **options)
    assert said["verdict"] == "refused"
    [refused] = said["refused"]
    assert refused["reason"] == reason.name
    assert refused["text"]
    assert byte is None or refused["byte"] == byte


@pytest.mark.parametrize("magic", [b"ARROW1\0\0", b"PAR1", b"\x1f\x8b\x08", b"PK\x03\x04", b"SIMPLE  = T", b"<html>"])
def test_what_people_take_for_a_message(magic: bytes) -> None:
    said = seen(magic)
    assert said["framing"]["name"] is None
    assert said["framing"]["looks_like"]


def test_a_survey_that_nobody_reads_names_the_nearest() -> None:
    schema = {"type": "record", "name": "x.alert", "fields": [{"name": "candid", "type": "long"}]}
    payload = containers([b"\x02"], schema)[0]
    said = seen(payload)
    assert said["survey"]["by"] is None
    assert said["survey"]["needed"]
    assert said["refused"][0]["reason"] == "LACKS_FIELD"


SEEDS = [payload for payload, options, *_ in FRAMED if not options] + [CUT]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_a_poison_message_is_an_answer(seed: bytes, data: st.DataObject) -> None:
    """Bytes changed, cut out, put in: whatever it is, it is a galaxy or a refusal, and both can be drawn."""
    from rich.console import Console

    from streamer.cli.inspection_view import view

    poison = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(poison)))
        poison[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    payload = bytes(poison)
    said = seen(payload)
    assert said["rows"] or said["refused"]
    console = Console(width=100, quiet=True)
    for part in view(said, payload, None, 5):
        console.print(part)


# -- the command -------------------------------------------------------------------------------------------------------


def test_a_galaxy_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.avro"
    path.write_bytes(ELASTICC[0])
    code, out = run(capsys, monkeypatch, str(path))
    assert code == 0
    for words in (
        "Confluent Avro",
        f"id {confluent.fingerprint_id(AVRO_SCHEMA)}, slipher.elasticc.alert",
        "elasticc alerts, by the name of its schema; hosts with photometry of lsst (u g r i z y)",
        "36 of 36 found",
        f"ra {np.float32(GOOD.ra[0]):.6f}",
        "23.900 ± ",
        "1 galaxy",
    ):
        assert words in out, words


def test_several_rows_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.arrow"
    path.write_bytes(encode_arrow(with_value(GOOD, 1, ra=-3.0), "lsst")[0])
    code, out = run(capsys, monkeypatch, str(path))
    assert code == 1
    assert "3 records in 1 batch" in out
    assert "object-0" in out
    assert "object-2" in out
    assert "BAD_POSITION: ra -3.0" in out
    assert "2 galaxies, 1 refused" in out
    code, out = run(capsys, monkeypatch, str(path), "--row", "2")
    assert code == 1
    assert "ra " + f"{GOOD.ra[2]:.6f}" in out
    code, out = run(capsys, monkeypatch, str(path), "-n", "1")
    assert "2 more: -n 3" in out
    with pytest.raises(UserError, match="no such row"):
        run(capsys, monkeypatch, str(path), "--row", "3")


def test_a_refusal_shows_the_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.avro"
    path.write_bytes(NATIVE_AVRO + b"\xee")
    code, out = run(capsys, monkeypatch, str(path))
    assert code == 1
    assert f"{len(NATIVE_AVRO):,} of {len(NATIVE_AVRO) + 1:,}" in out
    assert "[ee]" in out
    code, out = run(capsys, monkeypatch, str(path), "--json")
    assert code == 1
    [refused] = json.loads(out)["refused"]
    assert (refused["reason"], refused["byte"], refused["row"]) == ("CORRUPT", len(NATIVE_AVRO), -1)


def test_a_schema_that_a_person_or_a_registry_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPHER_CACHE", str(tmp_path / "cache"))
    path, schema = tmp_path / "m.avro", tmp_path / "s.avsc"
    path.write_bytes(confluent.header(901) + ELASTICC[0][5:])
    schema.write_text(json.dumps(AVRO_SCHEMA))
    code, out = run(capsys, monkeypatch, str(path))
    assert code == 1
    assert "Give the schema: --registry URL, or --schema FILE" in out
    assert run(capsys, monkeypatch, str(path), "--schema", str(schema))[0] == 0
    with StandIn({901: {"schema": json.dumps(AVRO_SCHEMA)}}).running() as registry:
        assert run(capsys, monkeypatch, str(path), "--registry", registry.url)[0] == 0
    path.write_bytes(ELASTICC[0][5:])
    code, _ = run(capsys, monkeypatch, str(path), "--schema", str(schema), "--framing", "avro")
    assert code == 0


def test_a_persons_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIPHER_BROKERS", raising=False)
    monkeypatch.setattr("streamer.broker.resident.running", lambda: None)
    path = tmp_path / "m.avro"
    path.write_bytes(NATIVE_AVRO)
    for words, text in (
        ([str(tmp_path / "nothing.avro")], "There is no file"),
        (["nothing.avro"], "--brokers HOST:PORT"),
        (["topic:0:x"], "TOPIC:PARTITION:OFFSET"),
        (["topic:0:1:2"], "TOPIC:PARTITION:OFFSET"),
        ([str(tmp_path)], "cannot be read"),
        ([str(path), "--framing", "avro"], "give the schema"),
        ([str(path), "--framing", "bson"], "No framing is called"),
        ([str(path), "--alerts", "boom"], "slipher reads native, elasticc, lsst, ztf"),
        ([str(path), "--schema", str(path)], "no JSON"),
    ):
        with pytest.raises(UserError, match=text):
            run(capsys, monkeypatch, *words)


# -- pictures ----------------------------------------------------------------------------------------------------------


def fits_bytes(pixels: np.ndarray[Any, Any]) -> bytes:
    out = BytesIO()
    fits.PrimaryHDU(pixels).writeto(out)
    return out.getvalue()


def test_pixels() -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    pixels[1, 1] = np.nan
    plain = fits_bytes(pixels)
    for data in (plain, gzip.compress(plain)):
        np.testing.assert_array_equal(cutout_picture.stamp_pixels(data), pixels)
    empty = BytesIO()
    fits.PrimaryHDU().writeto(empty)
    for data, text in (
        (b"no fits", "no FITS file"),
        (gzip.compress(plain)[:-20], "cannot be gunzipped"),
        (b"\x1f\x8b\x08broken", "cannot be gunzipped"),
        (gzip.compress(bytes(cutout_picture.MOST_BYTES + 1)), "larger than the bound"),
        (empty.getvalue(), "holds no image"),
    ):
        with pytest.raises(cutout_picture.NoPicture, match=text):
            cutout_picture.stamp_pixels(data)


def test_cutouts_become_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.image import imread

    cutout = gzip.compress(fits_bytes(np.random.default_rng(1).normal(size=(30, 20)).astype(np.float32)))
    assert ELASTICC[0].endswith(b"\x00\x00")  # two nulls
    path, png = tmp_path / "m.avro", tmp_path / "m.png"
    path.write_bytes(ELASTICC[0][:-2] + b"\x02" + sized(cutout) + b"\x02" + sized(b"junk"))
    code, out = run(capsys, monkeypatch, str(path), "--png", str(png))
    assert code == 0
    assert f"template 4 bytes, difference {len(cutout):,} bytes" in out
    assert imread(png).shape[1] > imread(png).shape[0] > 100
    path.write_bytes(ELASTICC[0])
    png.unlink()
    code, out = run(capsys, monkeypatch, str(path), "--png", str(png))
    assert code == 0
    assert "No cutouts to draw" in out
    assert not png.exists()


def test_native_stamps_become_a_picture(tmp_path: Path) -> None:
    one = changed(galaxies(2))
    blob = np.ones((6, 4, 5), "<f4").tobytes()
    stamps = Stamps(
        np.array([4, 4], np.int32),
        np.array([5, 9], np.int32),  # the second lies about its width
        np.full(2, 0.2, np.float32),
        pa.array([blob, blob], pa.large_binary()),
        pa.array([None, None], pa.large_binary()),
    )
    good, bad = (cutout_picture.native_row("g", changed(one, stamps=stamps), i) for i in (0, 1))
    assert [image.pixels.shape for image in good.images if image.pixels is not None] == [(4, 5)] * 6
    assert {image.why for image in bad.images} == {"480 bytes for 6 planes of 4 x 9"}
    cutout_picture.draw([good, bad], tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    [payload, *_] = encode_avro(changed(one, stamps=stamps), "lsst")
    assert seen(payload)["rows"][0]["stamp"] == {"height": 4, "width": 5, "scale": pytest.approx(0.2)}


# -- real packets ------------------------------------------------------------------------------------------------------

REAL = Path(os.environ.get("SLIPHER_TEST_DATA", "")) / "alerts"


@pytest.mark.skipif(not os.environ.get("SLIPHER_TEST_DATA"), reason="needs SLIPHER_TEST_DATA; made messages above")
@pytest.mark.parametrize(
    ("folder", "alerts", "by"), [("ztf_real", "ztf", {"name", "fields"}), ("elasticc_sim", "elasticc", {"name"})]
)
def test_real_packets_are_recognised(folder: str, alerts: str, by: set[str]) -> None:
    paths = sorted((REAL / folder).glob("*.avro"))[::6]
    assert len(paths) > 5
    for path in paths:
        said = seen(path.read_bytes())
        assert (said["survey"]["alerts"], said["verdict"]) == (alerts, "galaxy"), path.name
        assert said["survey"]["by"] in by


@pytest.mark.skipif(not os.environ.get("SLIPHER_TEST_DATA"), reason="needs SLIPHER_TEST_DATA; made messages above")
def test_a_real_rubin_packet_and_its_cutouts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [path] = (REAL / "lsst_real").glob("boom*.avro")
    schema = REAL / "schemas" / "lsst" / "9" / "0" / "lsst.v9_0.alert.avsc"
    code, out = run(capsys, monkeypatch, str(path), "--schema", str(schema), "--json", "--png", str(tmp_path / "c.png"))
    said = json.loads(out)
    assert code == 0
    assert (said["schema"]["id"], said["schema"]["name"], said["schema"]["version"]) == (900, "lsst.v9_0.alert", "9.0")
    assert said["rows"][0]["cutouts"] == {"science": 34560, "template": 69120, "difference": 34560}
    assert "NO_HOST_PHOTOMETRY" in said["rows"][0]["flags"]
    assert (tmp_path / "c.png").stat().st_size > 10_000


@pytest.mark.skipif(not os.environ.get("SLIPHER_TEST_DATA"), reason="needs SLIPHER_TEST_DATA; made messages above")
def test_corrupt_files_are_answers() -> None:
    for path in [*(REAL / "corrupt_or_nonstandard").iterdir(), *(REAL / "other_surveys").glob("*.avro")]:
        said = seen(path.read_bytes())
        assert said["rows"] or said["refused"], path.name


def test_elasticc_numbers() -> None:
    assert seen(ELASTICC[0])["rows"][0]["object_id"] == str(elasticc_alerts.number("object-0"))
