"""The native message's layout is a promise: fields, types, order, ids, the same in Avro and in Arrow."""

import pyarrow as pa
import pytest
from fastavro import parse_schema

from schemas.bands import BAND_SETS, band_set
from schemas.batch import BandState, Reason
from schemas.surveys import native
from schemas.wire import confluent
from schemas.wire.framing import Refused


def test_the_layout_of_rubin_galaxies_never_changes() -> None:
    schema = native.avro_schema("lsst")
    names = [field["name"] for field in schema["fields"]]
    bands = [f"{what}_{band}" for band in "ugrizy" for what in ("flux", "flux_err", "state")]
    head = ["survey", "object_id", "alert_id", "ra", "dec", "mjd"]
    tail = ["ebv", "stamp_height", "stamp_width", "stamp_scale", "stamp_pixels", "stamp_variance"]
    assert names == head + bands + tail
    assert (schema["namespace"], schema["name"]) == ("slipher", "Galaxy")
    assert confluent.fingerprint_id(schema) == 1454112225


@pytest.mark.parametrize("survey", sorted(BAND_SETS))
def test_both_forms_have_the_same_columns(survey: str) -> None:
    avro, arrow = native.avro_schema(survey), native.arrow_schema(survey)
    parse_schema(avro)
    assert [field["name"] for field in avro["fields"]] == arrow.names
    assert all(field["doc"] for field in avro["fields"])
    assert arrow.metadata[b"slipher.survey"] == survey.encode()
    assert arrow.metadata[b"slipher.message"] == b"galaxy"
    assert arrow.metadata[b"slipher.version"] == b"1"
    assert arrow.field(f"state_{band_set(survey).bands[0]}").type == pa.uint8()


def test_a_band_state_is_defined_once_and_its_symbols_are_its_values() -> None:
    states = [f["type"] for f in native.avro_schema("lsst")["fields"] if f["name"].startswith("state_")]
    assert states[0]["symbols"] == ["NOT_OBSERVED", "MEASURED", "NON_DETECTED"]
    assert [BandState[s].value for s in states[0]["symbols"]] == [0, 1, 2]
    assert states[1:] == ["slipher.BandState"] * 5


def test_fingerprint_ids_are_those_of_the_avro_specification() -> None:
    """The specification's reference: the Rabin fingerprint of "int" is 0x7275d51a3f395c8f."""
    assert confluent.fingerprint_id("int") == 0x3F395C8F  # type: ignore[arg-type]


def test_surveys_of_the_same_bands_share_a_schema_and_others_do_not() -> None:
    ids = {survey: confluent.fingerprint_id(native.avro_schema(survey)) for survey in BAND_SETS}
    by_bands = {band_set(survey).bands: number for survey, number in ids.items()}
    assert all(ids[survey] == by_bands[band_set(survey).bands] for survey in BAND_SETS)
    assert len(set(by_bands.values())) == len(by_bands)


def test_docs_and_defaults_do_not_enter_the_id() -> None:
    schema = native.avro_schema("lsst")
    for field in schema["fields"]:
        field.pop("doc")
        field.pop("default", None)
    assert confluent.fingerprint_id(schema) == confluent.fingerprint_id(native.avro_schema("lsst"))


@pytest.mark.parametrize("number", [0, 1101, 2**31 - 1])
def test_a_header_says_the_id_it_was_given(number: int) -> None:
    header = confluent.header(number)
    assert len(header) == confluent.HEADER_BYTES
    assert header[0] == 0
    assert int.from_bytes(header[1:], "big") == number
    assert confluent.schema_id(header + b"body") == number


@pytest.mark.parametrize("payload", [b"", b"\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01x"])
def test_what_is_no_header_is_refused(payload: bytes) -> None:
    with pytest.raises(Refused) as refused:
        confluent.schema_id(payload)
    assert refused.value.reason == Reason.BAD_FRAMING
