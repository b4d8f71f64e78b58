"""Every record in every framing: an Avro library reads it, and the decoder that is told nothing but the stream gives it back."""

import json
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import writing
from schemas.avro.codecs import CODECS
from schemas.avro.write import containers, sized, zigzag
from schemas.batch import Galaxies
from schemas.elasticc_alerts import AVRO_SCHEMA
from schemas.errors import UserError
from schemas.native_decoder import NativeDecoder
from schemas.packet_decoder import PacketDecoder
from schemas.surveys import elasticc, native
from schemas.wire import confluent
from tests.avro_twin import zigzag as twin_zigzag
from tests.made_galaxies import assert_same, drawn_galaxies, galaxies, messages

NATIVE = NativeDecoder("lsst")


class Given:
    """A source that knows one schema under any id."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema, self.asked = schema, set[int]()

    def get(self, schema_id: int) -> dict[str, Any]:
        self.asked.add(schema_id)
        return self.schema


@given(st.integers(-(2**63), 2**63 - 1))
def test_numbers(number: int) -> None:
    assert zigzag(number) == twin_zigzag(number)


@settings(max_examples=40, deadline=None)
@given(drawn_galaxies(max_size=7), st.sampled_from(CODECS), st.integers(1, 4))
def test_containers_of_native_galaxies(given_galaxies: Galaxies, codec: str, records: int) -> None:
    payloads = writing.avro_encode("native", "lsst", "container", codec=codec, records=records)(given_galaxies, 0)
    assert len(payloads) == -(-len(given_galaxies) // records)
    found, refusals = NATIVE.decode(messages(payloads))
    assert not refusals.text
    assert_same(found, given_galaxies)


@pytest.mark.parametrize("codec", ["null", "deflate"])  # the others need packages that we do not
def test_an_avro_library_reads_containers(codec: str) -> None:
    given_galaxies = galaxies(5)
    payloads = writing.avro_encode("native", "lsst", "container", codec=codec, records=2)(given_galaxies, 0)
    read: list[Any] = [record for payload in payloads for record in fastavro.reader(BytesIO(payload))]
    assert [record["object_id"] for record in read] == given_galaxies.object_id.to_pylist()


def test_containers_begin_alike() -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "bytes"}]}
    one, other = containers([sized(b"a"), sized(b"bcd")], schema)
    assert one[:-20] == other[: len(one) - 20]
    assert list(fastavro.reader(BytesIO(other))) == [{"x": b"bcd"}]
    with pytest.raises(ValueError, match="no codec"):
        containers([], schema, "bzip2")
    with pytest.raises(ValueError, match="0 records"):
        containers([], schema, records=0)


def test_ids_of_a_registry_and_of_nobody() -> None:
    given_galaxies = galaxies(3)
    by_fingerprint = writing.avro_encode("native", "lsst")(given_galaxies, 0)
    by_registry = writing.avro_encode("native", "lsst", schema_id=7)(given_galaxies, 0)
    assert [confluent.schema_id(p) for p in by_registry] == [7] * 3
    assert {confluent.schema_id(p) for p in by_fingerprint} == {confluent.fingerprint_id(native.avro_schema("lsst"))}
    source = Given(native.avro_schema("lsst"))
    found, refusals = NativeDecoder("lsst", source).decode(messages(by_registry))
    assert not refusals.text
    assert source.asked == {7}
    assert_same(found, given_galaxies)


@pytest.mark.parametrize("record", ["native", "elasticc"])
def test_bodies_alone(record: writing.Record) -> None:
    given_galaxies = galaxies(4)
    schema = writing.avro_schema(record, "lsst")
    payloads = writing.avro_encode(record, "lsst", "avro")(given_galaxies, 0)
    decoder = (
        NativeDecoder("lsst", framing="avro", bare=schema)
        if record == "native"
        else PacketDecoder(elasticc.PACKET, framing="avro", bare=schema)
    )
    found, refusals = decoder.decode(messages(payloads))
    assert not refusals.text
    assert len(found) == 4


def test_elasticc_in_containers_counts_its_alerts_on() -> None:
    encode = writing.avro_encode("elasticc", "lsst", "container", records=2)
    payloads = encode(galaxies(4), 0) + encode(galaxies(1), 4)
    found, refusals = PacketDecoder(elasticc.PACKET).decode(messages(payloads))
    assert not refusals.text
    assert found.alert_id.to_pylist() == ["1", "2", "3", "4", "5"]
    assert json.loads(fastavro.reader(BytesIO(payloads[0])).metadata["avro.schema"]) == AVRO_SCHEMA


def test_a_persons_mistakes() -> None:
    with pytest.raises(UserError, match="bands ugrizy"):
        writing.avro_encode("elasticc", "sdss")
    with pytest.raises(UserError, match="framing 'json'"):
        writing.avro_encode("native", "lsst", "json")
    with pytest.raises(UserError, match="compressed by 'lz4'"):
        writing.avro_encode("native", "lsst", "container", codec="lz4")
    with pytest.raises(UserError, match="compressed by 'snappy'"):
        writing.arrow_encode("lsst", codec="snappy")
