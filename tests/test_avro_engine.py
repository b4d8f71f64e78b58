"""The Avro engine against an Avro library and against its own slow twin, on schemas and records drawn by hypothesis."""

import json
import math
import sys
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import avro
from schemas.avro import Decoded, LacksField, Ragged, SchemaError, Spans, Status, Want
from tests import avro_twin as twin


def run(schema: Any, wants: list[Want], payloads: list[bytes]) -> tuple[Decoded, list[list[Any]]]:
    """What the engine makes of `payloads`, and its columns as Python values."""
    memory = avro.buffers(payloads)
    decoded = avro.compile_schema(schema, wants).run(memory, 0)
    return decoded, [
        [one(decoded.columns[want.path], want, i, payloads[i]) for i in range(len(payloads))] for want in wants
    ]


def one(column: Any, want: Want, i: int, payload: bytes) -> Any:
    if isinstance(column, Ragged):
        places = range(column.offsets[i], column.offsets[i + 1])
        return [one(column.values, want, k, payload) for k in places]
    if isinstance(column, Spans):
        offset, length = int(column.offset[i]), int(column.length[i])
        piece = payload[offset : offset + length]
        return None if length < 0 else piece.decode() if want.kind == "string" else piece
    value = column[i].item()
    return None if want.kind == "i8" and value == avro.NULL_INTEGER else value


def same(found: Any, expected: Any, want: Want) -> bool:
    if isinstance(expected, list):
        return len(found) == len(expected) and all(same(f, e, want) for f, e in zip(found, expected, strict=True))
    if want.kind in ("f4", "f8"):
        expected = math.nan if expected is None else expected
        return found == expected or (math.isnan(found) and math.isnan(expected))
    if expected is None:
        return found == {"bool": -1, "enum": -1}.get(want.kind)
    return bool(found == expected)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, dict[str, Any], list[Any], list[bytes]]:
    schema = draw(twin.schemas())
    names = twin.named(schema)
    values = draw(st.lists(twin.values(schema, names), min_size=1, max_size=4))
    return schema, names, values, [twin.encode(schema, value, names) for value in values]


@settings(max_examples=400, deadline=None)
@given(cases())
def test_every_leaf_of_any_record(case: Any) -> None:
    schema, names, values, payloads = case
    wants = twin.wants(schema, names)
    decoded, columns = run(schema, wants, payloads)
    assert decoded.status.tolist() == [Status.GOOD] * len(values)
    assert decoded.byte.tolist() == [len(payload) for payload in payloads]
    for want, column in zip(wants, columns, strict=True):
        for found, value in zip(column, values, strict=True):
            expected = twin.at(value, tuple(want.path.split(".")), schema, names)
            assert same(found, expected, want), (want.path, found, expected)
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema).replace("logicalType", "_")))
    for payload, value in zip(payloads, values, strict=True):  # the twin's own encoder writes Avro
        there = fastavro.schemaless_reader(BytesIO(payload), parsed, None)
        assert repr(there) == repr(twin.plain(value, schema, names))


@settings(max_examples=120, deadline=None)
@given(cases(), st.data())
def test_any_projection_is_the_same(case: Any, data: st.DataObject) -> None:
    schema, names, _, payloads = case
    wants = twin.wants(schema, names)
    some = data.draw(st.lists(st.sampled_from(wants), unique_by=lambda w: w.path)) if wants else []
    everything = dict(zip([w.path for w in wants], run(schema, wants, payloads)[1], strict=True))
    for want, column in zip(some, run(schema, some, payloads)[1], strict=True):
        assert repr(column) == repr(everything[want.path])


@settings(max_examples=120, deadline=None)
@given(cases(), st.data())
def test_a_cut_record_is_truncated_and_costs_nobody_else(case: Any, data: st.DataObject) -> None:
    schema, names, _, payloads = case
    victim = data.draw(st.integers(0, len(payloads) - 1))
    if not payloads[victim]:
        return
    cut = data.draw(st.integers(0, len(payloads[victim]) - 1))
    wants = twin.wants(schema, names)
    broken = [p[:cut] if i == victim else p for i, p in enumerate(payloads)]
    decoded, columns = run_good(schema, wants, broken)
    assert decoded.status[victim] in (Status.TRUNCATED, Status.COUNT, Status.BLOCK)
    assert decoded.byte[victim] <= cut
    _, whole = run(schema, wants, payloads)
    for i in set(range(len(payloads))) - {victim}:
        assert decoded.status[i] == Status.GOOD
        assert [repr(column[i]) for column in columns] == [repr(column[i]) for column in whole]


def run_good(schema: Any, wants: list[Want], payloads: list[bytes]) -> tuple[Decoded, list[list[Any]]]:
    """As `run`, with None for records that are not good: their values mean nothing."""
    decoded = avro.compile_schema(schema, wants).run(avro.buffers(payloads), 0)
    good = decoded.status == Status.GOOD
    return decoded, [
        [one(decoded.columns[want.path], want, i, payloads[i]) if good[i] else None for i in range(len(payloads))]
        for want in wants
    ]


def record(kind: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": "x", "type": kind}, {"name": "y", "type": "int"}]}


Y = [Want("y", "i8")]
TREE = {
    "type": "record",
    "name": "Tree",
    "fields": [{"name": "v", "type": "int"}, {"name": "next", "type": ["null", "Tree"]}],
}
LONG_MAX = twin.zigzag(2**63 - 1)


@pytest.mark.parametrize(
    ("kind", "payload", "status", "byte"),
    [
        ("long", b"\xff" * 10 + b"\x00" + b"\x02", Status.VARINT, 0),
        ("long", b"\xff" * 9 + b"\x02" + b"\x02", Status.VARINT, 0),
        ("long", b"\x80" * 12, Status.VARINT, 0),
        ("int", twin.zigzag(2**31) + b"\x02", Status.INT, 0),
        ("int", twin.zigzag(-(2**31) - 1) + b"\x02", Status.INT, 0),
        ("string", b"\x01" + b"\x02", Status.LENGTH, 0),
        ("bytes", LONG_MAX + b"\x02", Status.TRUNCATED, None),
        ("bytes", twin.zigzag(-(2**63)) + b"\x02", Status.LENGTH, 0),
        ({"type": "array", "items": "int"}, LONG_MAX + b"\x02", Status.COUNT, 0),
        ({"type": "array", "items": "int"}, twin.zigzag(-(2**63)) + b"\x02\x02", Status.COUNT, 0),
        ({"type": "array", "items": "int"}, b"\x01\x01\x02", Status.LENGTH, None),
        ({"type": "array", "items": "int"}, b"\x01" + LONG_MAX, Status.TRUNCATED, None),
        ({"type": "array", "items": "double"}, b"\x03\x02\x00\x00\x02", Status.BLOCK, None),
        ({"type": "map", "values": "null"}, twin.zigzag(100) + b"\x02", Status.COUNT, 0),
        (["null", "int"], b"\x04\x02", Status.BRANCH, 0),
        (["null", "int"], b"\x01\x02", Status.BRANCH, 0),
        (["null", "int", "long"], b"\x06\x02", Status.BRANCH, 0),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x02\x02", Status.SYMBOL, 0),
        ("boolean", b"\x02\x02", Status.BOOLEAN, 0),
        ("int", b"\x02\x02\x00", Status.TRAILING, 2),
        ("float", b"\x00\x00\x00", Status.TRUNCATED, 0),
        ({"type": "fixed", "name": "F", "size": 9}, b"\x00" * 8, Status.TRUNCATED, 0),
        ("int", b"", Status.TRUNCATED, 0),
    ],
)
def test_each_trouble_has_its_status_and_place(kind: Any, payload: bytes, status: Status, byte: int | None) -> None:
    good = run(record("null"), Y, [b"\x08"])[0]
    assert good.status.tolist() == [0]
    decoded, _ = run(record(kind), Y, [payload])
    assert Status(int(decoded.status[0])) == status
    if byte is not None:
        assert decoded.byte[0] == byte
    text = avro.compile_schema(record(kind), Y).sentence(
        int(decoded.status[0]), int(decoded.where[0]), int(decoded.byte[0]), len(payload)
    )
    assert text


EMPTY = {"type": "record", "name": "Empty", "fields": [{"name": "n", "type": "null"}]}


@pytest.mark.parametrize("wants", [Y, [*Y, Want("x.lacks", "f4", default=1.5)]])
@pytest.mark.parametrize("sized", [False, True])
def test_items_without_bytes_are_bounded(wants: list[Want], sized: bool) -> None:
    """At most 256, or as many as the message has bytes: else nine bytes could ask for any amount of time and memory."""
    schema = record({"type": "array", "items": EMPTY})

    def message(count: int) -> bytes:
        return (twin.zigzag(-count) + b"\x00" if sized else twin.zigzag(count)) + b"\x00" + b"\x08"

    decoded, columns = run(schema, wants, [message(256), message(257), message(2**62), message(3)])
    assert decoded.status.tolist() == [Status.GOOD, Status.EMPTY, Status.EMPTY, Status.GOOD]
    assert columns[0][0] == columns[0][3] == 4
    assert [len(found) for found in columns[1]] == [256, 0, 0, 3] if len(wants) > 1 else True


def test_recursion_is_followed_and_bounded() -> None:
    chain = lambda n: b"".join(b"\x02\x02" for _ in range(n)) + b"\x02\x00"  # noqa: E731
    decoded, [v] = run(TREE, [Want("v", "i8")], [chain(0), chain(50), chain(100_000)])
    assert decoded.status.tolist() == [Status.GOOD, Status.GOOD, Status.DEPTH]
    assert v[:2] == [1, 1]
    endless = {"type": "record", "name": "A", "fields": [{"name": "a", "type": "A"}]}
    assert run(endless, [], [b"\x00"])[0].status[0] == Status.DEPTH
    many = {"type": "record", "name": "B", "fields": [{"name": "b", "type": {"type": "array", "items": "B"}}]}
    assert run(many, [], [b"\x02" * 1000])[0].status[0] == Status.DEPTH


def test_a_type_used_often_does_not_multiply_the_program() -> None:
    kind: Any = "int"
    for level in range(60):
        fields = [{"name": "a", "type": kind}, {"name": "b", "type": kind if level == 0 else f"L{level - 1}"}]
        kind = {"type": "record", "name": f"L{level}", "fields": fields}
    program = avro.compile_schema(record(kind), Y)
    assert len(program._code) < 1000


@pytest.mark.parametrize(
    ("writer", "kind", "value", "expected"),
    [
        ("int", "f4", 7, 7.0),
        ("int", "f8", -3, -3.0),
        ("int", "i8", 2**31 - 1, 2**31 - 1),
        ("long", "f8", 1 << 40, float(1 << 40)),
        ("float", "f8", 0.5, 0.5),
        ("double", "f4", 0.1, float(np.float32(0.1))),
        ("string", "bytes", "é", "é".encode()),
        ("bytes", "string", b"abc", "abc"),
    ],
)
def test_promotions(writer: str, kind: Any, value: Any, expected: Any) -> None:
    for schema, body in (
        (record(writer), twin.encode(writer, value, {})),
        (record(["null", writer]), b"\x02" + twin.encode(writer, value, {})),
        (record([writer, "null"]), b"\x00" + twin.encode(writer, value, {})),
        (record(["boolean", writer, "null"]), b"\x02" + twin.encode(writer, value, {})),
    ):
        decoded, [[found]] = run(schema, [Want("x", kind)], [body + b"\x02"])
        assert decoded.status[0] == Status.GOOD
        assert found == expected


def test_a_branch_of_another_type_is_refused_alone() -> None:
    schema = record(["null", "double", "string"])
    decoded, [x] = run(schema, [Want("x", "f8")], [b"\x00\x02", b"\x04\x02a\x02", b"\x02" + b"\x00" * 8 + b"\x02"])
    assert decoded.status.tolist() == [Status.GOOD, Status.TYPE, Status.GOOD]
    assert math.isnan(x[0])
    assert x[2] == 0.0


def test_aliases_defaults_and_presence() -> None:
    inner = {"type": "record", "name": "In", "fields": [{"name": "old", "type": "long"}]}
    schema = {"type": "record", "name": "R", "fields": [{"name": "in", "type": ["null", inner]}]}
    wants = [
        Want("in.new", "i8", aliases=("in.older", "in.old")),
        Want("in", "present"),
        Want("gone", "f4", default=1.5),
    ]
    program = avro.compile_schema(schema, wants)
    decoded = program.run(avro.buffers([b"\x02\x0e", b"\x00"]), 0)
    assert decoded.columns["in.new"].tolist() == [7, avro.NULL_INTEGER]  # type: ignore[union-attr]
    assert decoded.columns["in"].tolist() == [1, 0]  # type: ignore[union-attr]
    assert program.absent == {"gone": 1.5}


@pytest.mark.parametrize(
    ("want", "words"),
    [
        (Want("z", "f4"), "lacks the field z"),
        (Want("x.deeper", "f4"), "lacks the field x.deeper"),
        (Want("x", "f4"), "x is string, which gives no f4"),
    ],
)
def test_what_a_writer_lacks_is_named(want: Want, words: str) -> None:
    nested = {"type": "array", "items": {"type": "array", "items": {"type": "record", "name": "I", "fields": [
        {"name": "a", "type": "float"}]}}}  # fmt: skip
    schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "string"}, {"name": "a", "type": nested}]}
    with pytest.raises(LacksField, match=words):
        avro.compile_schema(schema, [want])


@pytest.mark.parametrize(
    "schema",
    [
        "nonsense",
        "{",
        {},
        [],
        [["int"]],
        {"type": "record", "name": "R"},
        {"type": "record", "fields": []},
        {"type": "record", "name": "R", "fields": [{"name": "a"}]},
        {"type": "enum", "name": "E"},
        {"type": "fixed", "name": "F", "size": -1},
        {"type": "array"},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": "Nobody"}]},
        7,
        None,
    ],
)
def test_what_is_no_schema_says_so(schema: Any) -> None:
    with pytest.raises(SchemaError):
        avro.compile_schema(schema, [])


def test_namespaces() -> None:
    inner = {"type": "enum", "name": "b.E", "symbols": ["A", "B"]}
    other = {"type": "fixed", "name": "E", "size": 1}
    schema = {
        "type": "record", "name": "a.R", "fields": [
            {"name": "x", "type": inner}, {"name": "y", "type": other}, {"name": "z", "type": "b.E"},
            {"name": "w", "type": "E"},
        ]}  # fmt: skip
    wants = [Want("z", "enum", symbols=("B", "A")), Want("w", "bytes")]
    decoded, [z, w] = run(schema, wants, [b"\x00!\x02?"])
    assert decoded.status[0] == Status.GOOD
    assert (z, w) == ([0], [b"?"])


def test_many_items_find_room() -> None:
    schema = record({"type": "array", "items": "double"})
    items = np.arange(5000.0)
    body = twin.zigzag(5000) + items.tobytes() + b"\x00" + b"\x02"
    broken = twin.zigzag(5000) + items.tobytes() + b"\x00"  # items that must not stay behind
    decoded, [x] = run(schema, [Want("x", "f8")], [b"\x00\x02", broken, body, body])
    assert decoded.status.tolist() == [Status.GOOD, Status.TRUNCATED, Status.GOOD, Status.GOOD]
    assert x[0] == x[1] == []
    assert x[2] == x[3] == items.tolist()


def test_text_that_is_no_utf8_is_found_row_by_row() -> None:
    payloads = [b"\x04\xc3\xa9\x02", b"\x04\xc3\x28\x02", b"\x00\x02"]
    memory = avro.buffers(payloads)
    decoded = avro.compile_schema(record("string"), [Want("x", "string")]).run(memory, 0)
    spans = decoded.columns["x"]
    assert isinstance(spans, Spans)
    text, bad = avro.strings(spans, memory, decoded.status == 0)
    assert text.to_pylist() == ["é", None, ""]
    assert bad.tolist() == [False, True, False]


def test_without_cpython_messages_are_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    payloads = [b"\x02a\x02", None, b"\x00\x04"]
    fast = avro.buffers(payloads)
    monkeypatch.setattr(sys.modules["schemas.avro.buffers"], "zero_copy", lambda: False)
    slow = avro.buffers(payloads)
    assert fast.length.tolist() == slow.length.tolist() == [3, 0, 2]
    program = avro.compile_schema(record("string"), Y)
    assert program.run(fast, 0).columns["y"].tolist() == program.run(slow, 0).columns["y"].tolist()  # type: ignore[union-attr]
    assert len(avro.buffers([]).length) == 0
