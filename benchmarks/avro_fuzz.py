"""Mutated messages: what the Avro engine makes of them, what an Avro library makes of them, and why when they differ.

The library (fastavro) is more lenient than the specification in these ways, each with the status that we give:

=========  =============================================================================================
TRAILING   bytes after the record are ignored
INT        an int is read as a long
VARINT     more than ten bytes, or more than 64 bits, wrap around
BOOLEAN    any byte but 0 is true
BLOCK      the size of a block is ignored
BRANCH     a negative branch counts from the last one
SYMBOL     a negative symbol counts from the last one
COUNT      a count of -2^63 is an empty array
EMPTY      items of no bytes may be as many as one likes (and take the time of it)
DEPTH      recursion goes on as long as the stack lasts
=========  =============================================================================================

It is stricter in two: a string that nobody wants must be UTF-8 too, as must the key of a map (``UNREAD_TEXT``); and it reads
the items of a block that says its size, where nobody wants them, instead of going on behind it (``SKIPPED_BLOCK``).
"""

import io
import random
import struct
import time
from collections import Counter
from typing import Any, NamedTuple

import fastavro
import numpy as np

from benchmarks import avro_values as twin
from benchmarks.avro_strict import Strict, Trouble
from schemas import avro
from schemas.avro import Ragged, Spans, Status, Want

LENIENT = {
    Status.TRAILING, Status.INT, Status.VARINT, Status.BOOLEAN, Status.BLOCK, Status.BRANCH, Status.SYMBOL, Status.COUNT,
    Status.EMPTY, Status.DEPTH,
}  # fmt: skip
BATCH = 2000
STRICT_EVERY = 20  # the naive twin reads one message in so many, and all that the library and we see differently

SOURCE = {
    "type": "record",
    "name": "source",
    "fields": [
        {"name": "sourceId", "type": "long"},
        {"name": "visit", "type": "int"},
        {"name": "ra", "type": "double"},
        {"name": "band", "type": ["null", "string"]},
        {"name": "psfFlux", "type": ["null", "float"]},
        {"name": "psfFluxErr", "type": ["null", "float"]},
        {"name": "isNegative", "type": ["boolean", "null"]},
        {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["STAR", "GALAXY", "GHOST"]}},
    ],
}
PACKET: dict[str, Any] = {
    "type": "record",
    "name": "alert",
    "namespace": "made.up",
    "fields": [
        {"name": "alertId", "type": "long"},
        {"name": "source", "type": SOURCE},
        {"name": "previous", "type": ["null", {"type": "array", "items": "source"}]},
        {"name": "cutout", "type": ["null", "bytes"]},
        {"name": "tags", "type": {"type": "map", "values": "float"}},
    ],
}
EVERYTHING: dict[str, Any] = {
    "type": "record",
    "name": "everything",
    "fields": [
        {"name": "any", "type": ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]},
        {"name": "hash", "type": {"type": "fixed", "name": "hash", "size": 3}},
        {"name": "grid", "type": {"type": "array", "items": {"type": "array", "items": "int"}}},
        {"name": "text", "type": {"type": "array", "items": "string"}},
        {"name": "map", "type": {"type": "map", "values": ["null", {"type": "array", "items": "long"}]}},
        {"name": "next", "type": ["null", "everything"]},
        {"name": "end", "type": "boolean"},
    ],
}


class Subject(NamedTuple):
    """A schema and good messages of it."""

    schema: Any
    names: dict[str, Any]
    wants: list[Want]
    messages: list[bytes]


def subjects(seed: int, messages: int = 40) -> list[Subject]:
    """The schemas that are mutated, each with some random messages."""
    rng = random.Random(seed)
    flat = {"type": "record", "name": "flat", "fields": [*SOURCE["fields"], {"name": "last", "type": "double"}]}
    found = []
    for schema in (flat, PACKET, EVERYTHING):
        names = {**twin.named(schema), **{f"made.up.{k}": v for k, v in twin.named(schema).items()}}
        good = [twin.encode(schema, random_value(schema, names, rng), names) for _ in range(messages)]
        found.append(Subject(schema, names, twin.wants(schema, names), good))
    return found


def random_value(schema: Any, names: dict[str, Any], rng: random.Random, depth: int = 0) -> Any:
    """A value as `avro_twin.encode` takes it."""
    if isinstance(schema, str) and schema in names:
        return random_value(names[schema], names, rng, depth + 1)
    if isinstance(schema, list):
        number = 0 if depth > 5 else rng.randrange(len(schema))
        return twin.Branch(number, random_value(schema[number], names, rng, depth))
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return {field["name"]: random_value(field["type"], names, rng, depth + 1) for field in schema["fields"]}
    if kind in ("array", "map"):
        inner = schema["items"] if kind == "array" else schema["values"]
        blocks = [
            [
                random_value(inner, names, rng, depth)
                if kind == "array"
                else (f"k{k}", random_value(inner, names, rng))
                for k in range(rng.randrange(1, 5))
            ]
            for _ in range(rng.randrange(3))
        ]
        return twin.Blocks(blocks, [rng.random() < 0.3 for _ in blocks])
    return {
        "null": lambda: None,
        "boolean": lambda: rng.random() < 0.5,
        "int": lambda: rng.randrange(-(2**31), 2**31) >> rng.randrange(32),
        "long": lambda: rng.randrange(-(2**63), 2**63) >> rng.randrange(64),
        "float": lambda: struct.unpack("<f", rng.randbytes(4))[0],
        "double": lambda: rng.gauss(0, 1e3),
        "bytes": lambda: rng.randbytes(rng.randrange(30)),
        "string": lambda: "".join(rng.choices("abcé☉𝛼", k=rng.randrange(9))),
        "enum": lambda: rng.randrange(len(schema["symbols"])),
        "fixed": lambda: rng.randbytes(schema["size"]),
    }[kind]()


def mutated(good: list[bytes], rng: random.Random) -> bytes:
    """One of `good`, flipped, cut, spliced, stretched, or with a number put in that is hard to bear."""
    data = bytearray(rng.choice(good))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        way = rng.choice((0, 0, 0, 1, 2, 3, 4, 5))
        if way == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif way == 1:
            del data[at:]
        elif way == 2:
            other = rng.choice(good)
            data[at:] = other[rng.randrange(len(other) + 1) :]
        elif way == 3:
            data[at:at] = rng.randbytes(rng.randrange(1, 12))
        elif way == 4:
            del data[at : at + rng.randrange(1, 9)]
        else:
            size = rng.randrange(1, 65)
            number = rng.choice((-(1 << size - 1), (1 << size - 1) - 1, -1, -2, rng.randrange(200)))
            hard = rng.choice((twin.zigzag(number), b"\xff" * rng.randrange(1, 14) + b"\x01", b"\x80" * 9 + b"\x02"))
            data[at : at + rng.choice((0, 1, len(hard)))] = hard
    return bytes(data)


def fuzz(count: int | None = None, seconds: float | None = None, seed: int = 0) -> Counter[str]:
    """Read mutated messages with the engine and with the library until `count` or `seconds` are over.

    Returns
    -------
    counts
        How many messages ended in which way: "messages", "both accept", "both refuse", and the name of each kind of difference.

    Raises
    ------
    AssertionError
        Values differ, or a difference is of no known kind, or the engine is not of one mind with its naive twin.
    """
    rng = random.Random(seed)
    end = time.monotonic() + seconds if seconds is not None else None
    counts: Counter[str] = Counter()
    some = subjects(seed)
    programs = [avro.compile_schema(subject.schema, subject.wants) for subject in some]
    while (count is None or counts["messages"] < count) and (end is None or time.monotonic() < end):
        k = rng.randrange(len(some))
        size = BATCH if count is None else min(BATCH, count - counts["messages"])
        messages = [mutated(some[k].messages, rng) for _ in range(size)]
        counts["messages"] += size
        compare(some[k], programs[k], messages, counts)
    return counts


def compare(subject: Subject, program: avro.Program, messages: list[bytes], counts: Counter[str]) -> None:
    """Read `messages` in every way, and count how that ends."""
    memory = avro.buffers(messages)
    decoded = program.run(memory, 0)
    parsed = fastavro.parse_schema(subject.schema)
    columns = [(want, decoded.columns[want.path]) for want in subject.wants]
    bad_text = np.zeros(len(messages), bool)
    for want, column in columns:
        bad_text |= no_utf8(column, want, memory)
    for i, message in enumerate(messages):
        status = Status(int(decoded.status[i]))
        where = f"{message.hex()} of {subject.schema['name']}"
        stream = io.BytesIO(message)
        try:
            record: Any = fastavro.schemaless_reader(stream, parsed, None)
            accepted = True
        except Exception:
            accepted = False
        ours = status == Status.GOOD and not bad_text[i]
        if accepted != ours or i % STRICT_EVERY == 0:
            _agree_with_twin(subject, message, status, int(decoded.byte[i]), where)
        if accepted and ours:
            wrong = _differing(columns, record, i, message)
            if wrong:  # not so if a block lies of its size, and nobody wants what is in it: we go by the size
                _only_we_refuse(subject, message, f"{wrong} of {where}")
            counts["SKIPPED_BLOCK" if wrong else "both accept"] += 1
        elif not accepted and not ours:
            counts["both refuse"] += 1
        elif accepted:
            counts[_only_we_refuse(subject, message, where)] += 1
        else:
            counts[_only_we_accept(subject, message, where)] += 1


def _differing(columns: list[tuple[Want, Any]], record: Any, i: int, message: bytes) -> str:
    for want, column in columns:
        found, expected = value_at(column, want, i, message), at(record, want.path.split("."))
        if not same(found, expected):
            return f"{want.path} is {found!r}, not {expected!r}"
    return ""


def _only_we_refuse(subject: Subject, message: bytes, where: str) -> str:
    reading = Strict(subject.names, message, None)  # a size that lies is found where it stands, not where it leads to
    try:
        reading.record(subject.schema)
    except Trouble as trouble:
        status = Status.BLOCK if reading.in_size else trouble.status
        assert status in LENIENT, f"only we refuse, {status!r}: {where}"
        return status.name
    raise AssertionError(f"a difference without a reason: {where}")


def _only_we_accept(subject: Subject, message: bytes, where: str) -> str:
    reading = Strict(subject.names, message, None)
    try:
        reading.record(subject.schema)
    except Trouble:
        return "SKIPPED_BLOCK"  # the twin that skips what we skip did not mind: it was asked before
    assert reading.strange_text, f"only we accept: {where}"
    return "UNREAD_TEXT"


def _agree_with_twin(subject: Subject, message: bytes, status: Status, byte: int, where: str) -> None:
    unread = twin.unwanted(subject.schema, subject.names, [want.path for want in subject.wants])
    reading = Strict(subject.names, message, unread)
    try:
        reading.record(subject.schema)
        expected, there = Status.GOOD, len(message)
    except Trouble as trouble:
        expected, there = trouble.status, trouble.byte
    assert status == expected, f"{status!r}, the twin {expected!r}: {where}"
    merged = status == Status.TRUNCATED and byte <= there  # of fields that are skipped together the first is named
    assert byte == there or merged, f"{status!r} at {byte}, the twin at {there}: {where}"


def no_utf8(column: Any, want: Want, memory: avro.Buffers) -> Any:
    """Which messages have a wanted string that is no UTF-8, bool[n]."""
    n = len(memory.length)
    owner = np.arange(n)
    while isinstance(column, Ragged):
        owner = owner[column.owners()]
        column = column.values
    bad = np.zeros(n, bool)
    if want.kind == "string":
        wrong = avro.strings(column, memory.take(owner), np.ones(len(owner), bool))[1]
        bad[owner[wrong]] = True
    return bad


def value_at(column: Any, want: Want, i: int, message: bytes) -> Any:
    """What a column has for record (or item) `i`, as the library would give it."""
    if isinstance(column, Ragged):
        return [value_at(column.values, want, k, message) for k in range(column.offsets[i], column.offsets[i + 1])]
    if isinstance(column, Spans):
        offset, length = int(column.offset[i]), int(column.length[i])
        piece = message[offset : offset + length]
        return None if length < 0 else piece.decode() if want.kind == "string" else piece
    value = column[i].item()
    if want.kind in ("bool", "enum") and value == -1:
        return None
    if want.kind == "enum":
        return want.symbols[value]
    if want.kind == "bool":
        return bool(value)
    return None if want.kind == "i8" and value == avro.NULL_INTEGER else value


def at(value: Any, path: list[str]) -> Any:
    """What the library's record has at `path`, through arrays."""
    if isinstance(value, list):
        return [at(item, path) for item in value]
    return value if value is None or not path else at(value[path[0]], path[1:])


def same(found: Any, expected: Any) -> bool:
    """Whether two values are equal; a null float is NaN, an array under a null is empty."""
    if isinstance(found, list):
        there = expected or []
        return len(found) == len(there) and all(map(same, found, there))
    if isinstance(found, float):
        return found == expected or (found != found and (expected is None or expected != expected))
    return bool(found == expected) or (found is None and expected == avro.NULL_INTEGER)
