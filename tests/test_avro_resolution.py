"""Schema evolution: a writer's schema and a reader's, resolved by an Avro library and by what is wanted of the engine."""

import io
import math
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.avro_fuzz import same, value_at
from schemas import avro
from schemas.avro import LacksField, Ragged, Status, Want
from tests import avro_twin as twin

# A reader's type, by the kind that is wanted for it; the writer may have any of the types after it.
PROMOTED = {
    "f8": ("double", ("int", "long", "float", "double")),
    "i8": ("long", ("int", "long")),
    "string": ("string", ("string", "bytes")),
    "bytes": ("bytes", ("bytes", "string")),
    "bool": ("boolean", ("boolean",)),
}
DEFAULTS: dict[str, list[Any]] = {
    "f8": [None, 0.0, -999.0], "i8": [None, 0, -(2**40)], "string": [None, "", "☉"], "bytes": [None], "bool": [None, True],
}  # fmt: skip


@st.composite
def evolutions(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], list[Want], list[bytes]]:
    """A writer's record, a reader's, what is wanted of it, and messages."""
    fields: list[dict[str, Any]] = []
    wanted: list[dict[str, Any]] = []
    wants: list[Want] = []
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(sorted(PROMOTED)))
        reads, writes = PROMOTED[kind]
        written, name, old = draw(st.sampled_from(writes)), f"f{number}", f"old{number}"
        if draw(st.booleans()):
            written = draw(st.sampled_from([["null", written], [written, "null"]]))
        fate = draw(st.sampled_from(["same", "renamed", "removed", "added"]))
        default = draw(st.sampled_from(DEFAULTS[kind]))
        reader: dict[str, Any] = {"name": name, "type": ["null", reads] if default is None else [reads, "null"]}
        want = Want(name, kind)  # type: ignore[arg-type]
        if fate != "added":
            fields.append({"name": old if fate == "renamed" else name, "type": written})
        if fate == "removed":
            continue
        if fate == "renamed":
            reader["aliases"], want = [old], want._replace(aliases=(old,))
        if fate == "added":
            reader["default"], want = default, want._replace(default=default)
        wanted.append(reader)
        wants.append(want)
    writer_fields, reader_fields = draw(st.permutations(fields)), draw(st.permutations(wanted))
    writer = {"type": "record", "name": "R", "fields": list(writer_fields)}
    values = draw(st.lists(twin.values(writer, {}), min_size=1, max_size=3))
    messages = [twin.encode(writer, value, {}) for value in values]
    return writer, {"type": "record", "name": "R", "fields": list(reader_fields)}, wants, messages


@settings(max_examples=400, deadline=None)
@given(evolutions(), st.sampled_from(["bare", "nested", "nullable", "array"]))
def test_resolved_as_the_library_does(evolution: Any, where: str) -> None:
    """Fields added, removed, reordered, renamed, promoted, defaulted, nullable or not: also inside of others."""
    writer, reader, wants, messages = evolution
    if where != "bare":
        writer, reader = wrapped(writer, where), wrapped(reader, where)
        wants = [w._replace(path=f"in.{w.path}", aliases=tuple(f"in.{a}" for a in w.aliases)) for w in wants]
        around = {"nested": b"", "nullable": b"\x02", "array": twin.zigzag(1)}[where]
        messages = [around + message + (b"\x00" if where == "array" else b"") for message in messages]
        messages.append({"nested": messages[0], "nullable": b"\x00", "array": b"\x00"}[where])
    decoded = avro.compile_schema(writer, wants).run(avro.buffers(messages), 0)
    there_writer, there_reader = fastavro.parse_schema(writer), fastavro.parse_schema(reader)
    for i, message in enumerate(messages):
        try:
            record: Any = fastavro.schemaless_reader(io.BytesIO(message), there_writer, there_reader)
        except UnicodeDecodeError:  # bytes read as a string
            continue
        assert decoded.status[i] == Status.GOOD
        for want in wants:
            column = decoded.columns[want.path]
            if record.get("in", 0) is None and want.default is not avro.REQUIRED:
                continue  # of a record that is not there, the library knows no defaults
            default = getattr(column, "default", b"")
            found = value_at(column, want, i, message) if not _is_default(column, i) else default.decode()
            expected = at_path(record, want.path.split("."))
            if want.kind == "string" and isinstance(expected, list):
                continue  # text in an array is looked at below
            assert same(found, expected), (want, found, expected)


def _is_default(column: Any, i: int) -> bool:
    return isinstance(column, avro.Spans) and column.offset[i] < 0 <= column.length[i]


def at_path(value: Any, path: list[str]) -> Any:
    if isinstance(value, list):
        return [at_path(item, path) for item in value]
    return value if value is None or not path else at_path(value[path[0]], path[1:])


def wrapped(record: dict[str, Any], where: str) -> dict[str, Any]:
    inner = {**record, "name": "In"}
    kind = {"nested": inner, "nullable": ["null", inner], "array": {"type": "array", "items": inner}}[where]
    return {"type": "record", "name": "Out", "fields": [{"name": "in", "type": kind}]}


ITEM = {"type": "record", "name": "Item", "fields": [{"name": "a", "type": "float"}, {"name": "s", "type": "string"}]}
OUTER = {
    "type": "record",
    "name": "Outer",
    "fields": [
        {"name": "lists", "type": ["null", {"type": "array", "items": {"type": "array", "items": ["null", ITEM]}}]},
        {"name": "groups", "type": {"type": "array", "items": {
            "type": "record", "name": "Group", "fields": [{"name": "items", "type": {"type": "array", "items": "Item"}}]}}},
    ],
}  # fmt: skip


def message(lists: Any, groups: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(OUTER), {"lists": lists, "groups": groups})
    return stream.getvalue()


def nested(column: Any, want: Want, n: int) -> list[Any]:
    return [value_at(column, want, i, b"") for i in range(n)]


def test_arrays_in_arrays() -> None:
    one, two = {"a": 1.0, "s": "one"}, {"a": 2.0, "s": "twö"}
    messages = [
        message([[one, None], [], [two]], [{"items": [two, one]}, {"items": []}]),
        message(None, []),
        b"\x02\x02\x02\x02",  # truncated in the innermost array
        message([[], [two] * 40], [{"items": [one] * 30}] * 20),
    ]
    memory = avro.buffers(messages)
    wants = [Want("lists.a", "f8"), Want("groups.items.a", "f4"), Want("groups.items.s", "string")]
    wants += [Want("lists.gone", "i8", default=5), Want("groups.items", "present")]
    decoded = avro.compile_schema(OUTER, wants).run(memory, 0)
    assert decoded.status.tolist() == [Status.GOOD, Status.GOOD, Status.TRUNCATED, Status.GOOD]
    nan = math.nan
    expected = [[[1.0, nan], [], [2.0]], [], [], [[], [2.0] * 40]]
    assert same(nested(decoded.columns["lists.a"], wants[0], 4), expected)
    assert nested(decoded.columns["groups.items.a"], wants[1], 4) == [[[2.0, 1.0], []], [], [], [[1.0] * 30] * 20]
    gone = [[[5, None], [], [5]], [], [], [[], [5] * 40]]
    assert nested(decoded.columns["lists.gone"], wants[3], 4) == gone
    assert nested(decoded.columns["groups.items"], wants[4], 4) == [[1, 1], [], [], [1] * 20]
    outer = decoded.columns["groups.items.s"]
    assert isinstance(outer, Ragged)
    assert isinstance(outer.values, Ragged)
    owner = outer.owners()[outer.values.owners()]
    text, bad = avro.strings(outer.values.values, memory.take(owner), np.ones(len(owner), bool))  # type: ignore[arg-type]
    assert not bad.any()
    assert text.to_pylist() == ["twö", "one", *["one"] * 600]


def test_a_default_stands_in_each_way() -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}
    wants = [
        Want("f4", "f4", default=1.5), Want("f8", "f8", default=None), Want("i8", "i8", default=None),
        Want("bool", "bool", default=False), Want("null", "bool", default=None), Want("present", "present", default=1),
        Want("text", "string", default="☉"), Want("none", "string", default=None), Want("bytes", "bytes", default=b"\x00\x01"),
        Want("enum", "enum", default="B", symbols=("A", "B")), Want("list", "f4", default=[]),
        Want("texts", "string", default=[]),
    ]  # fmt: skip
    memory = avro.buffers([b"\x02", b"\x04"])
    columns: dict[str, Any] = avro.compile_schema(schema, wants).run(memory, 0).columns
    assert columns["f4"].tolist() == [1.5, 1.5]
    assert columns["f4"].dtype == np.float32
    assert np.isnan(columns["f8"]).all()
    assert columns["i8"].tolist() == [avro.NULL_INTEGER] * 2
    assert (columns["bool"].tolist(), columns["null"].tolist()) == ([0, 0], [-1, -1])
    assert (columns["present"].tolist(), columns["enum"].tolist()) == ([1, 1], [1, 1])
    good = np.ones(2, bool)
    assert avro.strings(columns["text"], memory, good)[0].to_pylist() == ["☉", "☉"]
    assert avro.strings(columns["none"], memory, good)[0].to_pylist() == [None, None]
    assert avro.blobs(columns["bytes"], memory, good).to_pylist() == [b"\x00\x01"] * 2
    assert columns["list"].offsets.tolist() == columns["texts"].offsets.tolist() == [0, 0, 0]


def test_two_wants_may_share_a_field_but_not_disagree() -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}
    program = avro.compile_schema(
        schema, [Want("x", "f8"), Want("y", "f8", aliases=("x",)), Want("z", "present", aliases=("x",))]
    )
    columns: dict[str, Any] = program.run(avro.buffers([b"\x0e"]), 0).columns
    assert [columns[path].tolist() for path in "xyz"] == [[7.0], [7.0], [1]]
    with pytest.raises(ValueError, match="different things"):
        avro.compile_schema(schema, [Want("x", "f8"), Want("y", "i8", aliases=("x",))])
    with pytest.raises(ValueError, match="twice"):
        avro.compile_schema(schema, [Want("x", "f8"), Want("x", "i8")])


def test_unions_of_records_and_arrays() -> None:
    """Each branch gives what it has; what it has not is the default, or null; what does not fit is refused alone."""
    first = {"type": "record", "name": "A", "fields": [{"name": "x", "type": "int"}, {"name": "y", "type": "double"}]}
    second = {"type": "record", "name": "B", "fields": [{"name": "y", "type": ["null", "float"]}]}
    schema = {"type": "record", "name": "R", "fields": [
        {"name": "u", "type": ["null", first, second, {"type": "array", "items": "A"}, "string"]}, {"name": "end", "type": "int"},
    ]}  # fmt: skip
    body = b"\x0e" + np.float64(0.5).tobytes()
    messages = [
        b"\x00\x02", b"\x02" + body + b"\x04", b"\x04\x02" + np.float32(2).tobytes() + b"\x06", b"\x04\x00\x08",
        b"\x06\x02" + body + b"\x00\x0a", b"\x08\x02?\x0c", b"\x0a\x0e",
    ]  # fmt: skip
    wants = [Want("u.x", "i8", default=-1), Want("u.y", "f8"), Want("end", "i8"), Want("u", "present")]
    decoded = avro.compile_schema(schema, wants).run(avro.buffers(messages), 0)
    G = Status.GOOD
    assert decoded.status.tolist() == [G, G, G, G, Status.TYPE, G, Status.BRANCH]
    null = avro.NULL_INTEGER
    columns: dict[str, Any] = decoded.columns
    assert columns["u.x"].tolist() == [null, 7, -1, -1, null, -1, null]
    assert columns["end"].tolist() == [1, 2, 3, 4, null, 6, null]
    assert columns["u"].tolist() == [0, 1, 1, 1, 0, 1, 0]
    assert same(columns["u.y"].tolist(), [math.nan, 0.5, 2.0, math.nan, math.nan, math.nan, math.nan])


def test_a_union_of_two_hundred_branches() -> None:
    kinds = [{"type": "record", "name": f"N{k}", "fields": [{"name": "v", "type": "int"}]} for k in range(200)]
    schema = {"type": "record", "name": "R", "fields": [{"name": "u", "type": kinds}]}
    messages = [twin.zigzag(k) + twin.zigzag(k * 1000) for k in (*range(200), 200)]
    decoded = avro.compile_schema(schema, [Want("u.v", "i8")]).run(avro.buffers(messages), 0)
    assert decoded.columns["u.v"].tolist() == [*range(0, 200_000, 1000), avro.NULL_INTEGER]  # type: ignore[union-attr]
    assert decoded.status.tolist() == [0] * 200 + [Status.BRANCH]


@pytest.mark.parametrize("kind", ["f4", "f8", "i8", "bool", "string", "bytes", "enum"])
def test_a_field_of_another_type_is_not_read(kind: Any) -> None:
    types = {
        "number": "double", "text": "string", "flag": "boolean", "map": {"type": "map", "values": "double"},
        "kind": {"type": "enum", "name": "E", "symbols": ["A"]}, "in": {"type": "record", "name": "I", "fields": []},
    }  # fmt: skip
    schema = {"type": "record", "name": "R", "fields": [{"name": name, "type": t} for name, t in types.items()]}
    fits = {"f4": "number", "f8": "number", "bool": "flag", "string": "text", "bytes": "text", "enum": "kind"}
    for name in types:
        if fits.get(kind) == name:
            avro.compile_schema(schema, [Want(name, kind)])
        else:
            with pytest.raises(LacksField, match=rf"the writer's field {name} is .*, which gives no {kind}"):
                avro.compile_schema(schema, [Want(name, kind, default=None)])
