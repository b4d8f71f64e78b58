"""Which decoder a run gets: settings that go together, those that do not, and what of them names the processing."""

import json
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from schemas import packets
from schemas.avro import read_schema
from schemas.errors import UserError
from schemas.night import rollover
from schemas.processing import processing
from schemas.surveys import ztf
from schemas.surveys.native import DECODER_VERSION
from streamer.follow import Follower, is_pattern
from streamer.run import plan
from tests.made_packets import ZTF, container, elasticc_alert, elasticc_schema, framed, messages, neighbour, ztf_alert
from tests.streaming import settings, small_model
from tests.test_dust_map import NSIDE, write

EBV = np.full(12 * NSIDE * NSIDE, 0.1, np.float32)


def planned(tmp_path: Path, **more: Any) -> Any:
    return plan(settings("nowhere:1", "t", tmp_path / "catalog", **more))


def test_native_messages_keep_their_processing_id(tmp_path: Path) -> None:
    made = planned(tmp_path)
    estimator = made.estimator
    same = processing(
        "forest", "lsst", estimator.sha256, DECODER_VERSION, {"rollover": list(rollover("lsst")), "pdf_bits": 12}
    )
    assert made.processing == same
    assert planned(tmp_path, framing="arrow").processing.id == same.id  # how a message is packed changes no row


def test_whatever_changes_rows_is_another_processing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dust = write(tmp_path / "a.fits", {"EBV": EBV, "OTHER": 2 * EBV})
    more = write(tmp_path / "b.fits", {"EBV": 2 * EBV, "OTHER": EBV})
    schema = tmp_path / "elasticc.avsc"
    schema.write_text(json.dumps(elasticc_schema()))
    ways: list[dict[str, Any]] = [
        {},
        {"alerts": "lsst"},
        {"alerts": "elasticc"},
        {"alerts": "elasticc", "dust_map": dust},
        {"alerts": "elasticc", "dust_map": dust, "dust_column": "OTHER"},
        {"alerts": "elasticc", "dust_map": more},
        {"alerts": "elasticc", "framing": "avro", "schema_file": [str(schema)]},
    ]
    ids = [planned(tmp_path, **way).processing.id for way in ways]
    assert len(set(ids)) == len(ways)
    assert ids == [planned(tmp_path, **way).processing.id for way in ways]
    edited = packets.packet("elasticc")._replace(plausible=(5.0, 30.0))
    monkeypatch.setattr(packets, "packet", lambda name: edited)
    assert planned(tmp_path, alerts="elasticc").processing.id not in ids
    said = planned(tmp_path, alerts="elasticc", dust_map=dust).processing
    assert said.settings["alerts"] == "elasticc"
    assert len(said.settings["dust_map"]) == 64
    assert said.decoder == f"elasticc-1+{packets.fingerprint(edited)}"


def test_the_night_is_the_surveys(tmp_path: Path) -> None:
    made = planned(tmp_path, alerts="ztf", model=small_model("ps1"))
    assert made.alerts.night == rollover("ztf") != rollover("ps1")
    assert made.processing.model.startswith("forest-ps1-")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"alerts": "ztf"},
            r"was trained for lsst \(u g r i z y\); the host galaxies in ztf alerts .* ps1 \(g r i z y\)",
        ),
        ({"alerts": "atlas"}, "slipher reads native, elasticc, lsst, ztf"),
        ({"dust_map": "x.fits"}, "native messages carry their E"),
        ({"alerts": "lsst", "dust_map": "x.fits"}, "x.fits cannot be read"),
        ({"framing": "morse"}, "No framing is called 'morse'"),
        ({"framing": "avro"}, "give the schema, --schema FILE"),
        ({"schema_file": ["/nowhere.avsc"]}, "cannot be read"),
        ({"schema_file": ["7=/nowhere.avsc"]}, "cannot be read"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        planned(tmp_path, **given)


def test_schema_files_that_are_none(tmp_path: Path) -> None:
    bad = {
        "text": "no JSON",
        "number": "7",
        "lost": '{"type": "record", "name": "R", "fields": [{"name": "x", "type": "y.Z"}]}',
    }
    for name, text in bad.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=r"is no JSON|cannot be used"):
            read_schema(tmp_path / name)
    good = tmp_path / "good.avsc"
    good.write_text(json.dumps(elasticc_schema()))
    with pytest.raises(UserError, match="it goes with --framing avro"):
        planned(tmp_path, alerts="elasticc", schema_file=[str(good)])
    with pytest.raises(UserError, match="further ones need their id"):
        planned(tmp_path, alerts="elasticc", framing="avro", schema_file=[str(good), str(good)])
    lacking = tmp_path / "lacking.avsc"
    lacking.write_text('{"type": "record", "name": "R", "fields": []}')
    with pytest.raises(UserError, match=r"cannot be used: the writer's schema lacks the field diaSource\.ra"):
        planned(tmp_path, alerts="elasticc", framing="avro", schema_file=[str(lacking)])


def test_a_schema_whose_records_lie_beside_it(tmp_path: Path) -> None:
    """As Rubin's schemas are published."""
    inner = {"type": "record", "name": "inner", "namespace": "made.v1", "fields": [{"name": "x", "type": "double"}]}
    outer = {
        "type": "record",
        "name": "outer",
        "namespace": "made.v1",
        "fields": [{"name": "in", "type": "made.v1.inner"}],
    }
    for schema in (inner, outer):
        (tmp_path / f"made.v1.{schema['name']}.avsc").write_text(json.dumps(schema))
    found = read_schema(tmp_path / "made.v1.outer.avsc")
    assert found["fields"][0]["type"]["fields"][0]["name"] == "x"


def test_schemas_from_files(tmp_path: Path) -> None:
    """Of bare Avro, and of an id in Confluent's header."""
    file = tmp_path / "elasticc.avsc"
    file.write_text(json.dumps(elasticc_schema()))
    schema = fastavro.parse_schema(elasticc_schema())
    payload = framed(schema, elasticc_alert(4, hostgal_mag_i=20.0, hostgal_magerr_i=0.1), 321)
    by_id = planned(tmp_path, alerts="elasticc", schema_file=[f"321={file}"]).alerts.decoder()
    bare = planned(tmp_path, alerts="elasticc", framing="avro", schema_file=[str(file)]).alerts.decoder()
    for decoder, message in ((by_id, payload), (bare, payload[5:])):
        galaxies, refusals = decoder.decode(messages([message]))
        assert not refusals.text
        assert galaxies.object_id.to_pylist() == ["7004"]
        assert np.isfinite(galaxies.flux[0]).tolist() == [False, False, False, True, False, False]


def test_the_map_reaches_the_rows(tmp_path: Path) -> None:
    dust = write(tmp_path / "map.fits", {"EBV": EBV})
    made = planned(tmp_path, alerts="ztf", model=small_model("ps1"), dust_map=dust)
    alert = ztf_alert(0, **neighbour(1, (20.5, 19.5, 19.0, 18.7), 0.1, 2.0))
    galaxies, _ = made.alerts.decoder().decode(messages([container(ZTF, [alert])]))
    assert galaxies.ebv.tolist() == [np.float32(0.1)]
    assert tuple(galaxies.bands) == made.estimator.bands
    assert made.alerts.decoder().version.startswith(ztf.PACKET.version)


def test_what_is_a_pattern(tmp_path: Path) -> None:
    assert is_pattern("^ztf_.*_programid1")
    assert not is_pattern("ztf_20260101_programid1")
    with pytest.raises(UserError, match=r"--topic \^ztf_\(: no regular expression"):
        Follower(settings("nowhere:1", "^ztf_(", tmp_path / "catalog"))
