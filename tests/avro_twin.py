"""Avro the slow way: schemas and values drawn by hypothesis, an encoder of every legal form, and paths into values."""

import struct
from typing import Any, NamedTuple

from hypothesis import strategies as st

from schemas.avro import Want

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
DEEP = 7  # types: from there on values are null or empty, where they can be
INTEGERS = {"int": st.integers(-(2**31), 2**31 - 1), "long": st.integers(-(2**63) + 1, 2**63 - 1)}


class Branch(NamedTuple):
    """A value of a union, and which branch it is."""

    number: int
    value: Any


class Blocks(NamedTuple):
    """Items of an array or a map, as the blocks they are written in; `sized` blocks say how many bytes they have."""

    blocks: list[list[Any]]
    sized: list[bool]

    @property
    def items(self) -> list[Any]:
        return [item for block in self.blocks for item in block]


@st.composite
def schemas(draw: st.DrawFn, depth: int = 3) -> dict[str, Any]:
    """A record of anything, `depth` types deep, with named types referred to again, and by themselves."""
    names: list[str] = []
    made: list[str] = []
    open_records: list[str] = []

    def name(prefix: str) -> str:
        names.append(prefix)
        return f"{prefix}{len(names)}"

    def kind(left: int) -> Any:
        simple = [*PRIMITIVES, "enum", "fixed", "timestamp"]
        choice = draw(
            st.sampled_from(simple + (["record", "array", "map", "null-or", "union", "again", "self"] if left else []))
        )
        if choice in PRIMITIVES:
            return choice
        if choice == "timestamp":
            return {"type": "long", "logicalType": "timestamp-micros"}
        if choice == "enum":
            made.append(name("E"))
            return {"type": "enum", "name": made[-1], "symbols": ["A", "B", "C"][: draw(st.integers(1, 3))]}
        if choice == "fixed":
            made.append(name("F"))
            return {"type": "fixed", "name": made[-1], "size": draw(st.integers(0, 9))}
        if choice == "record":
            return record(left - 1)
        if choice == "array":
            return {"type": "array", "items": kind(left - 1)}
        if choice == "map":
            return {"type": "map", "values": kind(left - 1)}
        if choice == "again" and made:
            return draw(st.sampled_from(made))
        if choice == "null-or":
            inner = kind(left - 1)
            if inner == "null" or isinstance(inner, list):
                return inner
            return draw(st.sampled_from([["null", inner], [inner, "null"]]))
        if choice == "self" and open_records:
            inner = draw(st.sampled_from(open_records))
            return draw(st.sampled_from([["null", inner], {"type": "array", "items": inner}]))
        branches = st.sampled_from([*PRIMITIVES, *made])
        return draw(st.lists(branches, min_size=1, max_size=5, unique=True))

    def record(left: int) -> dict[str, Any]:
        full = name("R")
        count = draw(st.integers(0, 5))
        open_records.append(full)
        fields = [{"name": f"f{i}", "type": kind(left)} for i in range(count)]
        made.append(open_records.pop())
        return {"type": "record", "name": full, "fields": fields}

    return record(depth)


def named(schema: Any, found: dict[str, Any] | None = None) -> dict[str, Any]:
    """The named types of `schema`, by name."""
    found = {} if found is None else found
    if isinstance(schema, list):
        for branch in schema:
            named(branch, found)
    elif isinstance(schema, dict):
        if "name" in schema and schema["type"] in ("record", "enum", "fixed"):
            found[schema["name"]] = schema
        for field in schema.get("fields", ()):
            named(field["type"], found)
        for below in ("items", "values"):
            named(schema.get(below), found)
    return found


def values(schema: Any, names: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of `schema`: records as dicts, unions as `Branch`, arrays and maps as `Blocks`."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Any:
        def value(schema: Any, depth: int) -> Any:
            depth += 1
            if isinstance(schema, str) and schema in names:
                return value(names[schema], depth)
            if isinstance(schema, list):
                number = draw(st.integers(0, len(schema) - 1))
                if depth > DEEP and "null" in schema:
                    number = schema.index("null")
                return Branch(number, value(schema[number], depth))
            kind = schema if isinstance(schema, str) else schema["type"]
            if kind == "record":
                return {field["name"]: value(field["type"], depth) for field in schema["fields"]}
            if kind in ("array", "map"):
                inner = schema["items"] if kind == "array" else schema["values"]
                sizes = draw(st.lists(st.integers(1, 3), max_size=0 if depth > DEEP else 2))
                key = st.text(max_size=3)
                items = [
                    [(draw(key), value(inner, depth)) if kind == "map" else value(inner, depth) for _ in range(k)]
                    for k in sizes
                ]
                return Blocks(items, [draw(st.booleans()) for _ in sizes])
            if kind == "enum":
                return draw(st.integers(0, len(schema["symbols"]) - 1))
            if kind == "fixed":
                return draw(st.binary(min_size=schema["size"], max_size=schema["size"]))
            return draw(_primitive(kind))

        return value(schema, 0)

    return drawn()


def _primitive(kind: str) -> st.SearchStrategy[Any]:
    if kind in INTEGERS:
        return INTEGERS[kind]
    return {
        "null": st.none(),
        "boolean": st.booleans(),
        "float": st.floats(width=32),
        "double": st.floats(),
        "bytes": st.binary(max_size=5),
        "string": st.text(max_size=5),
    }[kind]


def zigzag(number: int) -> bytes:
    """A long as Avro writes it."""
    code = (number << 1) ^ (number >> 63)
    out = bytearray()
    while code > 0x7F:
        out.append(code & 0x7F | 0x80)
        code >>= 7
    return bytes([*out, code])


def encode(schema: Any, value: Any, names: dict[str, Any]) -> bytes:
    """`value` in the binary form of `schema`."""
    if isinstance(schema, str) and schema in names:
        return encode(names[schema], value, names)
    if isinstance(schema, list):
        return zigzag(value.number) + encode(schema[value.number], value.value, names)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return b"".join(encode(field["type"], value[field["name"]], names) for field in schema["fields"])
    if kind in ("array", "map"):
        return _blocks(schema, value, names)
    if kind in ("int", "long", "enum"):
        return zigzag(value)
    if kind in ("bytes", "string"):
        data = value.encode() if isinstance(value, str) else value
        return zigzag(len(data)) + data
    if kind == "fixed":
        return bytes(value)
    return {
        "null": lambda: b"",
        "boolean": lambda: bytes([value]),
        "float": lambda: struct.pack("<f", value),
        "double": lambda: struct.pack("<d", value),
    }[kind]()


def _blocks(schema: Any, value: Blocks, names: dict[str, Any]) -> bytes:
    out = b""
    for block, sized in zip(value.blocks, value.sized, strict=True):
        if schema["type"] == "map":
            body = b"".join(encode("string", k, names) + encode(schema["values"], v, names) for k, v in block)
        else:
            body = b"".join(encode(schema["items"], item, names) for item in block)
        out += zigzag(-len(block)) + zigzag(len(body)) if sized else zigzag(len(block))
        out += body
    return out + b"\x00"


def plain(value: Any, schema: Any, names: dict[str, Any]) -> Any:
    """`value` as an Avro library returns it."""
    if isinstance(schema, str) and schema in names:
        return plain(value, names[schema], names)
    if isinstance(schema, list):
        return plain(value.value, schema[value.number], names)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return {field["name"]: plain(value[field["name"]], field["type"], names) for field in schema["fields"]}
    if kind == "array":
        return [plain(item, schema["items"], names) for item in value.items]
    if kind == "map":
        return {k: plain(v, schema["values"], names) for k, v in value.items}
    return schema["symbols"][value] if kind == "enum" else value


WANTED = {
    "boolean": "bool",
    "int": "i8",
    "long": "i8",
    "float": "f4",
    "double": "f8",
    "bytes": "bytes",
    "string": "string",
    "fixed": "bytes",
    "enum": "enum",
}


def wants(schema: Any, names: dict[str, Any], path: str = "") -> list[Want]:
    """Every leaf that can be wanted, through records, nulls and arrays; ambiguous unions are left alone."""
    if path.count(".") == DEEP:
        return []
    if isinstance(schema, str) and schema in names:
        return wants(names[schema], names, path)
    if isinstance(schema, list):
        if len(schema) != 2 or "null" not in schema:
            return []
        return wants(schema[1 - schema.index("null")], names, path)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return [w for f in schema["fields"] for w in wants(f["type"], names, f"{path}.{f['name']}".lstrip("."))]
    if kind == "array":
        return wants(schema["items"], names, path)
    if kind not in WANTED:
        return []
    return [Want(path, WANTED[kind], symbols=symbols(schema))]  # type: ignore[arg-type]


def symbols(schema: Any) -> tuple[str, ...]:
    """Some of an enum's symbols, in another order."""
    return (
        tuple(s for s in reversed(schema["symbols"]) if s != "B")
        if isinstance(schema, dict) and "symbols" in schema
        else ()
    )


def at(value: Any, path: tuple[str, ...], schema: Any, names: dict[str, Any]) -> Any:
    """What stands at `path`: a value, None, or a list of the items of the array that is passed."""
    if isinstance(schema, str) and schema in names:
        return at(value, path, names[schema], names)
    if isinstance(schema, list):
        inner = schema[value.number]
        return None if inner == "null" and not _through_array(schema, path, names) else (
            [] if inner == "null" else at(value.value, path, inner, names)
        )  # fmt: skip
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        field = next(f for f in schema["fields"] if f["name"] == path[0])
        return at(value[path[0]], path[1:], field["type"], names)
    if kind == "array":
        return [at(item, path, schema["items"], names) for item in value.items]
    if kind == "enum":
        symbol, known = schema["symbols"][value], symbols(schema)
        return known.index(symbol) if symbol in known else -1
    return value


def _through_array(schema: Any, path: tuple[str, ...], names: dict[str, Any]) -> bool:
    """Whether an array lies between `schema` and the end of `path`."""
    if isinstance(schema, str) and schema in names:
        return _through_array(names[schema], path, names)
    if isinstance(schema, list):
        return any(_through_array(branch, path, names) for branch in schema if branch != "null")
    if isinstance(schema, dict):
        if schema["type"] == "array":
            return True
        if schema["type"] == "record" and path:
            field = next(f for f in schema["fields"] if f["name"] == path[0])
            return _through_array(field["type"], path[1:], names)
    return False


def unwanted(schema: Any, names: dict[str, Any], paths: list[str], path: str = "", depth: int = 0) -> set[str]:
    """The paths of the arrays and maps that none of `paths` goes into."""
    if isinstance(schema, str) and schema in names:
        return unwanted(names[schema], names, paths, path, depth + 1) if depth < 2 * DEEP else {path}
    if isinstance(schema, list):
        return {found for branch in schema for found in unwanted(branch, names, paths, path, depth)}
    if not isinstance(schema, dict):
        return set()
    if schema["type"] == "record":
        fields = [(f["type"], f"{path}.{f['name']}".lstrip(".")) for f in schema["fields"]]
        return {found for kind, below in fields for found in unwanted(kind, names, paths, below, depth)}
    if schema["type"] == "map":
        return {path} | unwanted(schema["values"], names, [], path, depth)
    if schema["type"] == "array":
        inside = unwanted(schema["items"], names, paths, path, depth)
        return inside if any(f"{wanted}.".startswith(f"{path}.") for wanted in paths) else inside | {path}
    return set()
