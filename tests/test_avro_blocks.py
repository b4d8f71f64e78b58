"""Containers at rest: blocks and their records, whole, torn and damaged; what can be read is read, and counted."""

import io
from typing import Any

import fastavro
import pytest

from schemas.avro.blocks import Block, Records, blocks, read_head
from schemas.avro.container import Container
from schemas.batch import Reason
from tests.avro_container import SYNC, block, header
from tests.avro_twin import zigzag

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "alert",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "text", "type": ["null", "string"]},
        {"name": "list", "type": {"type": "array", "items": "double"}},
    ],
}
RECORDS = [{"id": 10**k, "text": None if k % 3 else "x" * k, "list": [float(k)] * (k % 4)} for k in range(12)]
CODECS = ("null", "deflate", "snappy", "zstandard")


def body(record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, SCHEMA, record)
    return out.getvalue()


BODIES = [body(record) for record in RECORDS]


def file(codec: str = "null") -> bytes:
    """Three blocks, of 5, 4 and 3 records."""
    return header(SCHEMA, codec) + block(BODIES[:5], codec) + block(BODIES[5:9], codec) + block(BODIES[9:], codec)


def read(data: bytes) -> list[dict[str, Any] | str]:
    """Each record of `data`, or why it cannot be had."""
    head = read_head(data)
    records = Records(head)
    found: list[dict[str, Any] | str] = []
    for each in blocks(data, head, head.end, len(data)):
        payloads, text, _ = records.split(data, each)
        for payload in payloads:  # another library reads what we took apart
            found += fastavro.reader(io.BytesIO(payload))  # type: ignore[arg-type]
        assert (len(payloads) == each.records) == (not text)
        found += [text] * (each.records - len(payloads))
    return found


def sizes(data: bytes) -> list[Block]:
    head = read_head(data)
    return list(blocks(data, head, head.end, len(data)))


@pytest.mark.parametrize("codec", CODECS)
def test_every_record_is_a_container_of_its_own(codec: str) -> None:
    assert read(file(codec)) == RECORDS


@pytest.mark.parametrize("codec", CODECS)
def test_a_stretch_that_begins_at_any_block_has_the_rest(codec: str) -> None:
    data = file(codec)
    head = read_head(data)
    every = sizes(data)
    for k, each in enumerate(every):
        assert list(blocks(data, head, each.begin, len(data))) == every[k:]
        assert list(blocks(data, head, head.end, each.after)) == every[: k + 1]


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_torn_at_every_byte(codec: str) -> None:
    """What was whole before is read; a block that the end cuts still counts its records."""
    data = file(codec)
    begins = [each.begin for each in sizes(data)]
    for size in range(begins[0] + 1, len(data)):
        torn = data[:size]
        found = read(torn)
        whole = 5 * (size >= begins[1]) + 4 * (size >= begins[2])
        assert found[:whole] == RECORDS[:whole]
        good = [each for each in found if isinstance(each, dict)]
        assert good == RECORDS[: len(good)]
        if size in begins:
            assert len(found) == whole
        else:
            assert len(found) > whole
            only_the_marker = codec == "null" and size >= sizes(data)[len(sizes(torn)) - 1].end
            assert isinstance(found[-1], dict) if only_the_marker else "byte" in found[-1]
    last = data[: len(data) - len(SYNC) - 1]  # without compression the first records of the torn block are whole
    assert len([each for each in read(last) if isinstance(each, dict)]) == (11 if codec == "null" else 9)


@pytest.mark.parametrize("codec", CODECS)
def test_a_block_that_is_damaged_costs_itself_alone(codec: str) -> None:
    data = file(codec)
    _, second, third = sizes(data)
    wrong = [
        data[: second.begin] + b"\xff" * 12 + data[second.begin + 12 :],  # its numbers
        data[: second.first] + data[second.first + 2 :],  # two bytes are missing
        data[: second.end] + b"\x00" * len(SYNC) + data[third.begin :],  # its sync marker
        data[: second.begin] + zigzag(4) + zigzag(1 << 40) + data[second.first :],  # its length
    ]
    for each in wrong[:2] + wrong[3:]:
        found = read(each)
        assert found[:5] == RECORDS[:5]
        assert found[-3:] == RECORDS[9:]
        assert all("cannot be told apart" in str(text) for text in found[5:-3])
        assert len(found) == 9
    found = read(wrong[2])  # nobody knows where the second ends: it takes the third along
    assert found[:5] == RECORDS[:5]
    assert len(found) == 6


def test_a_record_that_breaks_its_schema_takes_the_rest_of_its_block() -> None:
    bad = b"\x02\x07" + BODIES[1][2:]  # a branch of the union that is none
    data = header(SCHEMA) + block([BODIES[0], bad, BODIES[2]]) + block(BODIES[3:])
    found = read(data)
    assert found[0] == RECORDS[0]
    assert [type(each) for each in found[1:3]] == [str, str]
    assert found[3:] == RECORDS[3:]
    long = header(SCHEMA) + block([*BODIES[:2], b"\x00\x00"], count=2)
    found = read(long)
    assert found[0] == RECORDS[0]
    assert "2 bytes too many" in str(found[1])


def test_compressed_garbage_costs_its_block() -> None:
    data = header(SCHEMA, "deflate") + zigzag(3) + zigzag(4) + b"\xff\xfe\xfd\xfc" + SYNC + block(BODIES, "deflate")
    found = read(data)
    assert len(found) == 3 + len(RECORDS)
    assert all("a block is no deflate" in str(text) for text in found[:3])
    assert found[3:] == RECORDS


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (header(SCHEMA, "bzip2"), "compressed by 'bzip2'"),
        (header({"type": "recrod"}), "schema cannot be used"),
    ],
)
def test_a_file_whose_blocks_nobody_can_read_still_counts(head: bytes, says: str) -> None:
    found = read(head + block(BODIES[:5]) + block(BODIES[5:]))
    assert len(found) == len(RECORDS)
    assert all(says in str(text) for text in found)


def test_headers_that_are_none() -> None:
    for data, reason in (
        (b"", Reason.BAD_FRAMING),
        (b"Obj\x02", Reason.BAD_FRAMING),
        (file()[:30], Reason.CORRUPT),
        (header(SCHEMA)[:-5], Reason.CORRUPT),
        (b"Obj\x01\x00" + SYNC, Reason.UNKNOWN_SCHEMA),
    ):
        with pytest.raises(Container) as caught:
            read_head(data)
        assert caught.value.reason == reason
