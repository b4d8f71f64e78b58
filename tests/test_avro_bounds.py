"""What a message or a schema of ill will may cost: no byte outside its buffer, no more time and memory than it has bytes."""

import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.avro_fuzz import EVERYTHING, PACKET
from schemas import avro
from schemas.avro import Ragged, SchemaError, Spans, Status, Want
from schemas.avro.columns import is_utf8
from tests.avro_twin import zigzag

HOUSE = Path(__file__).parent.parent


@pytest.mark.skipif(sys.platform != "linux", reason="guards its memory with mprotect")
def test_no_byte_outside_the_buffer_is_touched() -> None:
    def guarded(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.avro_guarded", *words]
        return subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, timeout=60)

    done = guarded("1500", "3")
    assert (done.returncode, done.stdout.strip()) == (0, "unharmed"), done.stderr[-2000:]
    assert guarded("stray").returncode < 0  # killed by a signal: the guard works


def record(*kinds: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": f"f{k}", "type": kind} for k, kind in enumerate(kinds)]}


def status(schema: Any, wants: list[Want], message: bytes) -> Status:
    return Status(int(avro.compile_schema(schema, wants).run(avro.buffers([message]), 0).status[0]))


@pytest.mark.parametrize("length", [2**63 - 1, 2**63 - 2, 2**62, 2**32, 2**31, 60])
@pytest.mark.parametrize(
    "kind", ["bytes", "string", {"type": "map", "values": "int"}, {"type": "array", "items": "int"}]
)
@pytest.mark.parametrize("wanted", [True, False])
def test_lengths_that_would_wrap_around(length: int, kind: Any, wanted: bool) -> None:
    path = {"map": "f1"}.get(kind["type"], "f0") if isinstance(kind, dict) else "f0"
    want = [Want(path, "i8" if isinstance(kind, dict) else "bytes", default=None)] if wanted else []
    schema = record(kind, "long")
    assert status(schema, want, zigzag(length) + b"\x02" * 50) in (Status.TRUNCATED, Status.COUNT)
    if isinstance(kind, dict):
        assert status(schema, want, zigzag(-1) + zigzag(length) + b"\x02" * 50) == Status.TRUNCATED
        assert status(schema, want, zigzag(-length) + zigzag(4) + b"\x02" * 50) == Status.BLOCK


@pytest.mark.parametrize("start", [0, 4, 5, 6, 2**62, 2**63 - 1])
def test_a_record_may_begin_behind_its_buffer(start: int) -> None:
    schema = record("null")
    decoded = avro.compile_schema(schema, []).run(avro.buffers([b"\x00" * 5, None]), np.array([start, 0]))
    assert decoded.status[0] == (Status.GOOD if start == 5 else Status.TRUNCATED if start > 5 else Status.TRAILING)
    assert decoded.byte[0] <= 5
    with pytest.raises(ValueError, match="starts"):
        avro.compile_schema(schema, []).run(avro.buffers([b""]), -2)


def test_a_bomb_of_a_schema_is_compiled_or_refused_in_no_time() -> None:
    begin = time.perf_counter()
    nulls: Any = "null"
    for level in range(150):  # 2^150 records of no bytes
        fields = [{"name": "a", "type": nulls}, {"name": "b", "type": f"L{level - 1}" if level else "null"}]
        nulls = {"type": "record", "name": f"L{level}", "fields": fields}
    assert status(nulls, [], b"") == Status.GOOD
    assert status(nulls, [Want(".".join(["a"] * 150), "f4")], b"") == Status.GOOD
    doubles = json.loads(json.dumps(nulls).replace('"null"', '"double"'))
    assert status(doubles, [], b"\x00" * 1000) == Status.TRUNCATED
    options = json.loads(json.dumps(nulls).replace('"null"', '["null"]'))
    assert status(options, [], b"\x00" * 1000) == Status.TRUNCATED
    parts = [
        {"type": "record", "name": f"P{k}", "fields": [{"name": "u", "type": [f"P{i}" for i in range(k + 1)]}]}
        for k in range(200)
    ]
    everywhere = {"type": "record", "name": "E", "fields": [{"name": "u", "type": [*parts]}]}
    with pytest.raises(SchemaError, match=r"ways|operations"):
        avro.compile_schema(everywhere, [Want("u.u.u.u.u", "f4", default=None)])
    deep: Any = "int"
    for _ in range(5000):
        deep = {"type": "array", "items": deep}
    with pytest.raises(SchemaError, match="deep"):
        avro.compile_schema(deep, [])
    with pytest.raises(SchemaError):
        avro.compile_schema("[" * 100_000, [])
    assert time.perf_counter() - begin < 10


def test_a_record_inside_itself_by_a_detour_has_a_least_size() -> None:
    """Its size must not be taken for nothing while it is worked out: then its blocks would be refused."""
    inner = {"type": "record", "name": "B", "fields": [{"name": "a", "type": "A"}, {"name": "n", "type": "null"}]}
    fields = [{"name": "more", "type": {"type": "array", "items": inner}}, {"name": "x", "type": "int"}]
    schema = {"type": "record", "name": "A", "fields": fields}
    leaf = b"\x00\x0e"
    assert status(schema, [Want("x", "i8")], zigzag(-300) + zigzag(600) + leaf * 300 + b"\x00\x02") == Status.GOOD
    decoded = avro.compile_schema(schema, [Want("more.a.x", "i8")]).run(
        avro.buffers([zigzag(300) + leaf * 300 + b"\x00\x02", zigzag(-1) + zigzag(1) + b"\x00" + b"\x00\x02"]), 0
    )
    assert decoded.status.tolist() == [Status.GOOD, Status.BLOCK]
    assert decoded.columns["more.a.x"].values.tolist() == [7] * 300  # type: ignore[union-attr]


def test_memory_is_bounded_by_the_bytes_of_the_messages() -> None:
    schema = record({"type": "array", "items": "int"})
    program = avro.compile_schema(schema, [Want("f0", "i8")])
    lying = zigzag(100_000) + b"\x02" * 100_000  # one byte too few for the end of the array
    honest = zigzag(50_000) + b"\x02" * 50_000 + b"\x00"
    memory = avro.buffers([lying, honest] * 20)
    program.run(memory, 0)
    tracemalloc.start()
    decoded = program.run(memory, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert decoded.status.tolist() == [Status.TRUNCATED, Status.GOOD] * 20
    column = decoded.columns["f0"]
    assert isinstance(column, Ragged)
    assert np.diff(column.offsets).tolist() == [0, 50_000] * 20
    assert peak < 5 * 8 * int(memory.length.sum())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.binary(max_size=20), st.text(max_size=12).map(str.encode)), max_size=6), st.data()
)
def test_text_and_bytes_are_gathered_as_python_does(pieces: list[bytes | None], data: st.DataObject) -> None:
    flips = [data.draw(st.integers(0, 3)) for _ in pieces]  # some UTF-8 with one byte too few
    pieces = [piece[:-1] if piece and flip == 0 else piece for piece, flip in zip(pieces, flips, strict=True)]
    payloads = [b"??" + (piece or b"") + b"?" for piece in pieces]
    good = np.array([data.draw(st.booleans()) for _ in pieces], bool)
    length = np.array([-1 if piece is None else len(piece) for piece in pieces], np.int64)
    spans = Spans(np.full(len(pieces), 2, np.int64), length)
    memory = avro.buffers(payloads)
    text, bad = avro.strings(spans, memory, good)
    blobs = avro.blobs(spans, memory, good)
    text.validate(full=True)
    blobs.validate(full=True)
    assert blobs.to_pylist() == [piece if ok else None for piece, ok in zip(pieces, good, strict=True)]
    for i, piece in enumerate(pieces):
        expected = piece if good[i] else None
        try:
            assert text[i].as_py() == (None if expected is None else expected.decode())
            assert not bad[i]
        except UnicodeDecodeError:
            assert text[i].as_py() is None
            assert bad[i]


EDGES = bytes.fromhex("41 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 ff")  # where a rule changes
edges = st.tuples(st.sampled_from([b"", b"abcdefgh"]), st.lists(st.sampled_from(EDGES), max_size=6).map(bytes)).map(
    b"".join
)


@settings(max_examples=1000, deadline=None)
@given(st.one_of(st.binary(max_size=12), st.text(max_size=6).map(str.encode), edges))
def test_utf8_is_what_python_takes_for_it(data: bytes) -> None:
    memory = avro.buffers([data])
    try:
        data.decode()
        expected = True
    except UnicodeDecodeError:
        expected = False
    assert is_utf8(np.int64(memory.address[0]), len(data)) == expected


def test_a_new_schema_is_compiled_in_milliseconds() -> None:
    wants = [Want("alertId", "i8"), Want("source.ra", "f8"), Want("previous.psfFlux", "f4")]
    avro.compile_schema(PACKET, wants).run(avro.buffers([b""]), 0)
    begin = time.perf_counter()
    for _ in range(10):
        avro.compile_schema(json.dumps(PACKET), wants).run(avro.buffers([b""]), 0)
        avro.compile_schema(json.dumps(EVERYTHING), [Want("end", "bool")]).run(avro.buffers([b""]), 0)
    assert (time.perf_counter() - begin) / 20 < 0.05


def test_words_for_trouble_name_the_field() -> None:
    schema = record(
        "float", ["null", "float"], ["null", {"type": "array", "items": ["null", "double"]}], "boolean", "int"
    )
    program = avro.compile_schema(schema, [Want("f4", "i8")])
    ok = b"\x00" * 4 + b"\x02" + b"\x00" * 4
    for message, byte, words in (
        (ok[:2], 0, "the last byte of 2, at the field f0"),
        (ok[:4] + b"\x07", 4, "no such branch, at the field f1"),
        (ok + b"\x02\x02\x05", 11, "no such branch, at the field f2"),
        (ok + b"\x00\x01", 11, "the last byte of 11, at the field f4"),
        (ok + b"\x00\x09\x02", 10, "neither 0 nor 1, at the field f3"),
        (ok + b"\x00\x00\x02\x00\x00", 12, "the record ends at byte 12 of 14: 2 bytes too many"),
    ):
        decoded = program.run(avro.buffers([message]), 0)
        text = program.sentence(int(decoded.status[0]), int(decoded.where[0]), int(decoded.byte[0]), len(message))
        assert (int(decoded.byte[0]), text.endswith(words)) == (byte, True), text
