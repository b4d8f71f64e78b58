"""Containers in messages: any codec, any number of blocks and records, and a bad one costs nobody else a row."""

import io
from collections.abc import Callable
from typing import Any

import fastavro
import numpy as np
import pytest

from schemas import avro
from schemas.avro import Container, Containers, Status, Want
from schemas.batch import Reason
from tests.avro_container import SYNC, block, compressed, header
from tests.avro_twin import zigzag

CODECS = ["null", "deflate", "snappy", "zstandard"]
SCHEMA = {
    "type": "record",
    "name": "alert",
    "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}, {"name": "x", "type": "double"}],
}
WANTS = [Want("id", "i8"), Want("name", "string")]


def record(number: int) -> bytes:
    name = f"object {number}".encode()
    return zigzag(number) + zigzag(len(name)) + name + np.float64(number).tobytes()


def containers(max_bytes: int = 1 << 20, max_rows: int = 1000) -> Containers:
    return Containers(WANTS, max_bytes, max_rows)


def rows(payloads: list[bytes], some: Containers | None = None) -> list[tuple[int, int, int, str]]:
    """(message, row, id, name) of every good record."""
    found, refused = (some or containers()).read(payloads)
    assert not refused
    out = []
    for records in found:
        decoded = records.program.run(records.buffers, records.start, records.exact)
        good = decoded.status == Status.GOOD
        text, _ = avro.strings(decoded.columns["name"], records.buffers, good)  # type: ignore[arg-type]
        ids = decoded.columns["id"]
        for i in np.flatnonzero(good).tolist():
            out.append((int(records.message[i]), int(records.row[i]), int(ids[i]), text[i].as_py()))  # type: ignore[index]
    return sorted(out)


def refusal(payload: bytes, some: Containers | None = None) -> Container:
    found, refused = (some or containers()).read([payload])
    assert not found
    [(message, why)] = refused
    assert message == 0
    return why


def expected(message: int, numbers: list[int]) -> list[tuple[int, int, int, str]]:
    return [(message, row, number, f"object {number}") for row, number in enumerate(numbers)]


@pytest.mark.parametrize("codec", CODECS)
def test_records_of_several_blocks_and_messages(codec: str) -> None:
    start = header(SCHEMA, codec)
    payloads = [
        start + block([record(1)], codec),
        start + block([record(2), record(-3)], codec) + block([record(4), record(5), record(1 << 40)], codec),
        start + block([], codec) + block([record(7)], codec),
    ]
    assert rows(payloads) == expected(0, [1]) + expected(1, [2, -3, 4, 5, 1 << 40]) + expected(2, [7])


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_what_the_library_writes_and_reads_is_the_same(codec: str) -> None:
    records = [{"id": i, "name": f"object {i}", "x": 0.5 * i} for i in range(500)]
    stream = io.BytesIO()
    fastavro.writer(stream, fastavro.parse_schema(SCHEMA), records, codec=codec, sync_interval=1000)
    assert rows([stream.getvalue()]) == expected(0, list(range(500)))
    ours = header(SCHEMA, codec) + block([record(1), record(2)], codec) + block([record(3)], codec)
    assert [r["id"] for r in fastavro.reader(io.BytesIO(ours))] == [1, 2, 3]  # type: ignore[index, call-overload]


def test_a_block_of_codec_null_is_read_where_it_lies() -> None:
    payload = header(SCHEMA) + block([record(1), record(2)])
    [records], _ = containers().read([payload])
    first = avro.buffers([payload])
    assert records.buffers.address.tolist() == [first.address[0]] * 2
    decoded = records.program.run(records.buffers, records.start, records.exact)
    name = decoded.columns["name"]
    assert payload[name.offset[1] : name.offset[1] + name.length[1]] == b"object 2"  # type: ignore[union-attr]
    assert decoded.byte.tolist() == [len(payload) - 16 - len(record(2)), len(payload) - 16]


def test_a_header_is_parsed_once_and_a_schema_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    real = avro.container.compile_schema

    def counted(schema: Any, wants: Any) -> Any:
        calls.append(schema)
        return real(schema, wants)

    monkeypatch.setattr("schemas.avro.container.compile_schema", counted)
    some = containers()
    for sync in (SYNC, b"x" * 16):  # the marker is no part of what is known by heart
        for codec in ("null", None, "deflate"):
            written = codec or "null"
            payload = header(SCHEMA, codec, sync, made=b"today") + block([record(1)], written, sync)
            assert rows([payload, payload], some) == expected(0, [1]) + expected(1, [1])
    assert len(calls) == 1
    for day in range(200):  # neither are all headers kept for ever
        rows([header(SCHEMA, made=str(day).encode()) + block([record(1)])], some)
    assert len(calls) == 1
    bad = header({"type": "nonsense"}) + block([record(1)])
    assert [refusal(bad, some).reason for _ in range(3)] == [Reason.UNKNOWN_SCHEMA] * 3
    assert len(calls) == 2


GOOD = header(SCHEMA) + block([record(1), record(2)])
SIZE = len(header(SCHEMA))


@pytest.mark.parametrize(
    ("payload", "reason", "words", "byte"),
    [
        (b"", Reason.BAD_FRAMING, "starts with", 0),
        (b"Obj\x02" + GOOD[4:], Reason.BAD_FRAMING, "4f 62 6a 02", 0),
        (b"Obj\x01", Reason.CORRUPT, "truncated", 4),
        (GOOD[: SIZE - 20], Reason.CORRUPT, "", None),
        (GOOD[: SIZE - 5], Reason.CORRUPT, "truncated in its header", SIZE - 5),
        (GOOD[:SIZE], Reason.EMPTY, "without records", -1),
        (GOOD[: SIZE + 1], Reason.CORRUPT, "truncated", SIZE + 1),
        (GOOD[:-1], Reason.CORRUPT, "more than the container has", SIZE),
        (GOOD[:-1] + b"?", Reason.CORRUPT, "sync marker", len(GOOD) - 16),
        (GOOD + b"\x02", Reason.CORRUPT, "truncated", len(GOOD) + 1),
        (header(SCHEMA) + b"\xff" * 11, Reason.CORRUPT, "64 bits", None),
        (header(SCHEMA) + zigzag(-1) + zigzag(0) + SYNC, Reason.CORRUPT, "-1 records", SIZE),
        (header(SCHEMA) + zigzag(1) + zigzag(-1) + SYNC, Reason.CORRUPT, "-1 bytes", SIZE),
        (header(SCHEMA) + block([record(1)], count=5), Reason.CORRUPT, "5 records in", SIZE),
        (header(SCHEMA) + block([record(1)], count=0), Reason.CORRUPT, "0 records in", SIZE),
        (header(SCHEMA) + block([record(1)], count=2**62), Reason.TOO_LARGE, "more than 1000 records", SIZE),
        (header(SCHEMA, "bzip2") + block([record(1)]), Reason.BAD_FRAMING, "bzip2", -1),
        (header({"type": "record"}) + block([record(1)]), Reason.UNKNOWN_SCHEMA, "cannot be used", -1),
        (header("long") + block([record(1)]), Reason.LACKS_FIELD, "lacks the field id", -1),
        (
            b"Obj\x01" + zigzag(1) + zigzag(2) + b"no" + zigzag(0) + b"\x00" + SYNC,
            Reason.UNKNOWN_SCHEMA,
            "no schema",
            -1,
        ),
        (b"Obj\x01" + zigzag(2**40) + b"\x00" * 30, Reason.CORRUPT, "entries", None),
        (b"Obj\x01" + zigzag(1) + zigzag(2**62) + b"\x00" * 30, Reason.CORRUPT, "entry", None),
    ],
)
def test_what_is_broken_says_why_and_where(payload: bytes, reason: Reason, words: str, byte: int | None) -> None:
    why = refusal(payload)
    assert (why.reason, words in why.text) == (reason, True), why.text
    if byte is not None:
        assert why.byte == byte
    assert rows_beside(payload) == expected(1, [1, 2])


def rows_beside(payload: bytes) -> list[tuple[int, int, int, str]]:
    """The rows of a good message between two bad ones."""
    some = containers()
    found, refused = some.read([payload, GOOD, payload])
    assert [message for message, _ in refused] == [0, 2]
    [records] = found
    assert records.message.tolist() == [1, 1]
    return [(1, row, number, name) for _, row, number, name in rows([GOOD], some)]


@pytest.mark.parametrize("codec", CODECS[1:])
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: b"\xff" * len(data),
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: b"",
    ],
)
def test_a_block_that_does_not_decompress_is_refused(codec: str, change: Callable[[bytes], bytes]) -> None:
    data = change(compressed(b"".join(record(i) for i in range(20)), codec))
    payload = header(SCHEMA, codec) + zigzag(20) + zigzag(len(data)) + data + SYNC
    try:
        found = rows([payload])
    except AssertionError:
        why = refusal(payload)
        assert why.reason in (Reason.CORRUPT, Reason.TOO_LARGE)
        assert why.byte == len(header(SCHEMA, codec))
    else:  # the last bit of a deflated block is padding
        assert codec == "deflate"
        assert found == expected(0, list(range(20)))


@pytest.mark.parametrize("codec", CODECS[1:])
def test_what_grows_too_large_is_refused(codec: str) -> None:
    zeros = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "bytes"}],
    }
    big = block([zigzag(1) + zigzag(1 << 22) + bytes(1 << 22)], codec)
    assert len(big) < 1 << 18
    why = refusal(header(zeros, codec) + big)
    assert (why.reason, why.byte) == (Reason.TOO_LARGE, len(header(zeros, codec)))
    if codec != "snappy":  # whose ratio is bounded: here the bound is a multiple of the message's own bytes
        assert refusal(header(zeros, codec) + big, containers(1 << 30)).reason == Reason.TOO_LARGE


def test_a_record_that_cannot_be_read_takes_those_behind_it_in_its_block() -> None:
    broken = zigzag(2) + zigzag(-5) + b"?" * 20
    payload = header(SCHEMA) + block([record(1), broken, record(3)]) + block([record(4)])
    [records], refused = containers().read([payload])
    assert not refused
    decoded = records.program.run(records.buffers, records.start, records.exact)
    assert decoded.status.tolist() == [Status.GOOD, Status.LENGTH, Status.AFTER, Status.GOOD]
    assert records.row.tolist() == [0, 1, 2, 3]
    assert decoded.byte[1] == SIZE + 2 + len(record(1)) + 1
    assert decoded.columns["id"].tolist() == [1, avro.NULL_INTEGER, avro.NULL_INTEGER, 4]  # type: ignore[union-attr]


def test_bytes_behind_the_last_record_of_a_block_are_trouble() -> None:
    payload = header(SCHEMA) + block([record(1), record(2) + b"?"])
    [records], _ = containers().read([payload])
    decoded = records.program.run(records.buffers, records.start, records.exact)
    assert decoded.status.tolist() == [Status.GOOD, Status.TRAILING]
    assert decoded.byte[1] == len(payload) - 17
